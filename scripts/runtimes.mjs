// The three runtimes the tests run on, each as the path of its executable.

import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { delimiter, join } from "node:path"
import process from "node:process"
import { bun, deno, root } from "./setup.mjs"

export { bun, deno }

// The first Node that runs TypeScript sources without a flag.
const oldest = [22, 18]
const brought = "24.21.0"

/** A Node that runs TypeScript: the machine's own if it is new enough, else one brought by Bun. */
export function node() {
  return machineNode() ?? install()
}

function machineNode() {
  const inPath = (process.env["PATH"] ?? "").split(delimiter)
    .filter((folder) => folder !== "" && !folder.includes("node_modules"))
    .map((folder) => join(folder, process.platform === "win32" ? "node.exe" : "node"))
  return inPath.find((path) => existsSync(path) && isNewEnough(path))
}

// Where there is no Node, Deno and Bun put themselves in PATH under its name.
const question = 'const { versions: v } = process; console.log(v.deno || v.bun ? "" : "v" + v.node)'

function isNewEnough(path) {
  const { stdout } = spawnSync(path, ["-e", question], { encoding: "utf8" })
  const version = /^v(\d+)\.(\d+)/.exec(stdout ?? "")
  if (version === null) return false
  const [major, minor] = [Number(version[1]), Number(version[2])]
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1])
}

function install() {
  const folder = join(root, "node_modules", ".cache", `node-${brought}`)
  const system = process.platform === "win32" ? "win" : process.platform
  const name = `node-${system}-${process.arch}`
  const path = join(folder, "node_modules", name, "bin", system === "win" ? "node.exe" : "node")
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true })
    // Without a manifest of its own Bun would install into the repository.
    writeFileSync(join(folder, "package.json"), "{}")
    spawnSync(bun, ["add", `${name}@${brought}`], { cwd: folder, stdio: ["ignore", 2, 2] })
  }
  if (existsSync(path) && isNewEnough(path)) return path
  throw new Error(`the tests need Node ${oldest.join(".")} or newer in PATH`)
}
