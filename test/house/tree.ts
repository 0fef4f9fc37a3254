/** The repository as the tests of the house see it. */
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"

/** Folder of the repository. */
export const root: string = fileURLToPath(new URL("../../", import.meta.url))

/** The runtime that runs this test. */
export const runtime: "bun" | "deno" | "node" = "Bun" in globalThis
  ? "bun"
  : "Deno" in globalThis
  ? "deno"
  : "node"

/** What `package.json` and `deno.json` say. */
export interface Manifest {
  readonly name: string
  readonly version: string
  readonly license: string
  // deno-lint-ignore no-explicit-any
  readonly [field: string]: any
}

/** Reads a manifest of the repository. */
export const manifest = (name: "package.json" | "deno.json"): Manifest =>
  JSON.parse(readFileSync(join(root, name), "utf8"))

const made = new Set(["node_modules", "dist", ".git"])

const walk = (folder: string): ReadonlyArray<string> =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`
    if (made.has(entry.name)) return []
    return entry.isDirectory() ? walk(path) : [path]
  })

/** Paths of the files that belong to the project: what git tracks, or all where there is no git. */
export const files = (): ReadonlyArray<string> => {
  const { status, stdout } = spawnSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" })
  const all = status === 0 ? stdout.split("\0").filter((path) => path !== "") : walk("")
  return all.filter((path) => existsSync(join(root, path)))
}

/** The text of a file of the repository. */
export const text = (path: string): string => readFileSync(join(root, path), "utf8")

/** Runs Deno in the repository; answers its exit code and everything it said. */
export const deno = async (
  ...args: ReadonlyArray<string>
): Promise<{ readonly status: number | null; readonly said: string }> => {
  const tools = await import("../../scripts/setup.mjs")
  const { status, stdout, stderr, error } = spawnSync(tools.deno, args, {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
    maxBuffer: 1 << 26,
  })
  if (error) throw error
  return { status, said: stdout + stderr }
}
