/** The files of a folder, as they are when the demonstration begins and when it looks again. */
import { createHash } from "node:crypto"
import { createReadStream, type Dirent } from "node:fs"
import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import { leftOut } from "./options.ts"

/** A file as it was seen. */
export interface SeenFile {
  readonly path: string
  readonly bytes: number
  /** When it was changed last, in ms since 1970. */
  readonly changed: number
}

/** What a walk through a folder found. */
export interface Found {
  readonly files: ReadonlyArray<SeenFile>
  /** Folders that were passed by, by name. */
  readonly passedBy: ReadonlySet<string>
  /** Folders that can't be read. */
  readonly closed: ReadonlyArray<string>
}

const look = async (path: string): Promise<SeenFile | undefined> => {
  try {
    const seen = await stat(path)
    return seen.isFile() ? { path, bytes: seen.size, changed: seen.mtimeMs } : undefined
  } catch {
    return undefined
  }
}

/** Regular files below a folder, sorted by path; links are not followed. */
export const find = async (folder: string, signal: AbortSignal): Promise<Found> => {
  const files: Array<SeenFile> = []
  const passedBy = new Set<string>()
  const closed: Array<string> = []
  const visit = async (folder: string): Promise<void> => {
    signal.throwIfAborted()
    let entries: Array<Dirent>
    try {
      entries = await readdir(folder, { withFileTypes: true })
    } catch {
      closed.push(folder)
      return
    }
    const folders: Array<string> = []
    const paths: Array<string> = []
    for (const entry of entries) {
      if (entry.isFile()) paths.push(join(folder, entry.name))
      else if (entry.isDirectory()) {
        if (leftOut.includes(entry.name)) passedBy.add(entry.name)
        else folders.push(join(folder, entry.name))
      }
    }
    const seen = await Promise.all(paths.map(look))
    for (const [at, path] of paths.entries()) {
      // One that can't even be looked at gets its job all the same, which will say so.
      files.push(seen[at] ?? { path, bytes: -1, changed: -1 })
    }
    for (const below of folders) await visit(below)
  }
  await visit(folder)
  files.sort((a, b) => a.path < b.path ? -1 : 1)
  return { files, passedBy, closed }
}

/**
 * A second look at a file, by the demonstration itself: its digest, or that it is not the file any
 * more that was seen first, so that nothing can be said about a digest from in between.
 */
export type SecondLook =
  | { readonly kind: "same"; readonly sha256: string }
  | { readonly kind: "changed"; readonly sha256?: string | undefined }
  | { readonly kind: "unreadable" }

/** Looks at a file again. */
export const lookAgain = async (seen: SeenFile, signal: AbortSignal): Promise<SecondLook> => {
  const hash = createHash("sha256")
  try {
    await pipeline(createReadStream(seen.path), hash, { signal })
  } catch {
    signal.throwIfAborted()
    return { kind: (await look(seen.path)) === undefined ? "changed" : "unreadable" }
  }
  const sha256 = hash.digest("hex")
  const now = await look(seen.path)
  return now !== undefined && now.bytes === seen.bytes && now.changed === seen.changed
    ? { kind: "same", sha256 }
    : { kind: "changed", sha256 }
}
