// Brings node_modules into the state bun.lock describes, and does nothing when it is in it already.
// Runs on Node 20 or newer, on Bun and on Deno, before anything is installed.

import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

const modules = join(root, "node_modules")
const windows = process.platform === "win32"

/** The Bun and Deno that the lock file brings. */
export const bun = join(modules, "bun", "bin", "bun.exe")
export const deno = join(modules, "deno", windows ? "deno.exe" : "deno")

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))

/** Whether every package of the lock file that belongs on this machine is there in its version. */
export function isComplete() {
  if (!tool(bun) || !tool(deno)) return false
  const lock = JSON.parse(
    readFileSync(join(root, "bun.lock"), "utf8").replace(/,(\s*[}\]])/g, "$1"),
  )
  return sameRanges(lock.workspaces[""]) &&
    Object.entries(lock.packages).every(([key, [id, , facts]]) =>
      !belongsHere(facts) || installedVersion(key) === id.slice(id.lastIndexOf("@") + 1)
    )
}

// The packages of Bun and Deno hold a small placeholder until their install script has run.
function tool(path) {
  return existsSync(path) && statSync(path).size > 1_000_000
}

// A dependency added to package.json by hand is not in the lock file yet.
function sameRanges(locked) {
  return ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"].every(
    (group) => {
      const [wanted, known] = [manifest[group] ?? {}, locked[group] ?? {}]
      return Object.keys(wanted).length === Object.keys(known).length &&
        Object.keys(wanted).every((name) => wanted[name] === known[name])
    },
  )
}

function belongsHere({ os, cpu, libc }) {
  const allows = (field, value) => field === undefined || [field].flat().includes(value)
  return libc === undefined && allows(os, process.platform) && allows(cpu, process.arch)
}

// A key of the lock file is a path: `a/b` is the package b inside the package a, `@a/b` is one package.
function installedVersion(key) {
  const path = key.match(/(@[^/]+\/)?[^/]+/g).join("/node_modules/")
  try {
    return JSON.parse(readFileSync(join(modules, path, "package.json"), "utf8")).version
  } catch {
    return undefined
  }
}

/** Installs what the lock file asks for with whatever this machine has: Bun, Deno or npm. */
export function setup() {
  if (isComplete()) return
  console.error("Installing what bun.lock asks for …")
  for (const [command, ...prefix] of installers()) {
    const { error, status } = spawnSync(command, [...prefix, "install", "--frozen-lockfile"], {
      cwd: root,
      stdio: ["ignore", 2, 2],
      shell: windows,
    })
    if (!error && status === 0 && isComplete()) return
  }
  console.error(
    "The installation failed. Is the package registry reachable? To install by hand:\n" +
      `    npx -y bun@${manifest.devDependencies.bun} install --frozen-lockfile`,
  )
  process.exit(1)
}

// In the order of cost; one that is missing or fails gives way to the next.
function* installers() {
  const wanted = manifest.devDependencies.bun
  if (process.versions.bun !== undefined) {
    yield process.versions.bun === wanted
      ? [process.execPath]
      : [process.execPath, "x", `bun@${wanted}`]
  }
  if (tool(bun)) yield [bun]
  if (process.versions.deno !== undefined) {
    yield [process.execPath, "x", "-y", "-A", "--allow-scripts=npm:bun", `npm:bun@${wanted}`]
  }
  yield ["npx", "-y", `bun@${wanted}`]
}
