/**
 * A lock between processes that share a folder, with nothing but files. It outlives no holder: one
 * that died holds it no longer.
 *
 * Each holder makes the file of the next generation (`lock.1`, `lock.2`, …) by a hard link, which
 * exactly one process can; releasing empties the file. The newest generation is never removed, so
 * the number only grows, and there is no stale file to take away, the step in which two processes
 * that both saw a dead holder would undo each other's lock.
 */
import { randomBytes } from "node:crypto"
import { linkSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { keepFresh, ownerOf, readIfThere, self } from "./ProcessIdentity.ts"

/** Gives the lock back. */
export type Release = () => void

/** How many old generations stay, so that a slow reader of the folder can't miss all newer ones. */
const kept = 8

const generations = (folder: string): ReadonlyArray<number> =>
  readdirSync(folder).map((name) => Number(/^lock\.(\d+)$/.exec(name)?.[1] ?? 0))

const newest = (folder: string): number => Math.max(0, ...generations(folder))

const isHeld = (path: string): boolean => {
  const contents = readIfThere(path)
  // A file that just vanished was an old generation: somebody is far ahead of us.
  return contents === undefined || (contents !== "" && ownerOf(path) !== undefined)
}

const sweep = (folder: string, oldest: number): void => {
  for (const name of readdirSync(folder)) {
    const generation = Number(/^lock\.(\d+)/.exec(name)?.[1] ?? oldest)
    if (generation < oldest) rmSync(join(folder, name), { force: true })
  }
}

/** Takes the lock if it is free now. Throws when the folder isn't there. */
export const tryAcquire = (folder: string): Release | undefined => {
  const last = newest(folder)
  if (last > 0 && isHeld(join(folder, `lock.${last}`))) return undefined
  const path = join(folder, `lock.${last + 1}`)
  const draft = `${path}.${randomBytes(6).toString("hex")}`
  writeFileSync(draft, JSON.stringify(self()), { mode: 0o600 })
  try {
    linkSync(draft, path)
  } catch (cause) {
    if ((cause as { readonly code?: string }).code === "EEXIST") return undefined
    throw cause
  } finally {
    rmSync(draft, { force: true })
  }
  // Others may have had this generation, gone on and swept it while we looked at the one before.
  if (newest(folder) !== last + 1) {
    rmSync(path, { force: true })
    return undefined
  }
  const stop = keepFresh(path)
  sweep(folder, last + 1 - kept)
  return () => {
    stop()
    try {
      writeFileSync(path, "")
    } catch {
      // The folder is gone, and the lock with it.
    }
  }
}

/** Waits for the lock. Rejects when the signal aborts or after `timeoutMillis`. */
export const acquire = async (
  folder: string,
  signal: AbortSignal,
  timeoutMillis: number,
): Promise<Release> => {
  const end = Date.now() + timeoutMillis
  while (true) {
    signal.throwIfAborted()
    const release = tryAcquire(folder)
    if (release !== undefined) return release
    if (Date.now() > end) {
      const owner = ownerOf(join(folder, `lock.${newest(folder)}`))
      throw new Error(`process ${owner?.pid ?? "?"} holds the lock in ${folder} for too long`)
    }
    await new Promise((done) => setTimeout(done, 10 + Math.random() * 20))
  }
}

/** Waits for the lock without giving other code of this process a turn; nothing if it isn't free in time. */
export const acquireNow = (folder: string, timeoutMillis: number): Release | undefined => {
  const clock = new Int32Array(new SharedArrayBuffer(4))
  const end = Date.now() + timeoutMillis
  while (true) {
    const release = tryAcquire(folder)
    if (release !== undefined || Date.now() > end) return release
    Atomics.wait(clock, 0, 0, 20)
  }
}
