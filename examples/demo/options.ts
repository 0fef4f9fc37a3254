/** What the demonstration was asked for on the command line. Loads nothing, so that help is at once. */
import { dirname, relative, resolve } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"

/** The repository that this file is part of. */
export const repository: string = resolve(dirname(fileURLToPath(import.meta.url)), "../..")

/** What to do. */
export type Command =
  | { readonly kind: "run"; readonly folder: string; readonly keep: boolean }
  | { readonly kind: "help" }
  | { readonly kind: "refused"; readonly reason: string }

/** Folders that are not looked into: nobody's own work. */
export const leftOut: ReadonlyArray<string> = ["node_modules", ".git", "dist", ".portfire"]

/** How this runtime is called to run a file, as a command with its first arguments. */
export const runtime = (): ReadonlyArray<string> =>
  "Deno" in globalThis ? [process.execPath, "run", "-A", "--quiet"] : [process.execPath]

/** The same for people: a path below the working directory is shortened. */
export const shownCommand = (file: string): string => {
  const short = (path: string) => {
    const below = relative(process.cwd(), path)
    return below.startsWith("..") ? path : below
  }
  const [command = "", ...rest] = runtime()
  return [short(command), ...rest, short(resolve(repository, file))].join(" ")
}

/** Shown for `--help`. */
export const help = `Portfire at work: one durable job for every file of a folder.

Usage: npm start -- [folder] [--keep]

  folder    whose files are read; default is this repository. Folders named
            ${leftOut.join(", ")} are left out, links are not followed.
  --keep    leave NATS and a server running after the table, to play with; Ctrl-C ends them
  --help    this page

Each job reads its file, computes its SHA-256 and its size after gzip. Two server processes share the
queue, and one of them is killed with SIGKILL while it runs jobs. Some jobs are delayed, some fail at
first, one fails for good. At the end every job is accounted for.

Exit code: 0 if every job is accounted for and all digests match, 1 if not, 2 for a wrong argument,
3 for a folder without files, 130 after Ctrl-C.`

const flags = ["--keep", "--help"]

/** Reads the arguments. */
export const parse = (args: ReadonlyArray<string>): Command => {
  const end = args.indexOf("--")
  const options = (end < 0 ? args : args.slice(0, end)).filter((arg) => /^-./.test(arg))
  const folders = args.filter((arg, at) => at !== end && (end >= 0 && at > end || !/^-./.test(arg)))
  if (options.includes("--help") || options.includes("-h")) return { kind: "help" }
  const strange = options.find((flag) => !flags.includes(flag))
  if (strange !== undefined) {
    return { kind: "refused", reason: `there is no option ${strange}, only ${flags.join(" and ")}` }
  }
  if (folders.length > 1) {
    return { kind: "refused", reason: `one folder at a time; these are ${folders.join(", ")}` }
  }
  const [folder = repository] = folders
  return folder === ""
    ? { kind: "refused", reason: "the folder's name is empty" }
    : { kind: "run", folder: resolve(folder), keep: options.includes("--keep") }
}
