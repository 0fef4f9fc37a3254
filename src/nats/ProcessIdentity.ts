/**
 * Which process is meant, so that a reused process id, another container on the same volume or a
 * machine that was restarted is not mistaken for it. Processes leave a file with their identity and
 * touch it every two seconds; whoever reads it can tell whether they still run.
 */
import {
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs"
import { hostname } from "node:os"
import process from "node:process"
import { setInterval } from "node:timers"

/** A process, unique also over reused ids and restarts of the machine. */
export interface ProcessIdentity {
  /** Process id, as its own machine or container counts. */
  readonly pid: number
  /** When it began, in the kernel's ticks; empty where the system doesn't say. */
  readonly started: string
  /** The machine since its last start, and the container. */
  readonly machine: string
}

const beatMillis = 2_000
/** A file that was not touched for so long belongs to nobody, where only the file can be asked. */
const freshMillis = 10_000

/** The contents of a file, or nothing. */
export const readIfThere = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

/** True when a process has this id and may be sent signals, or belongs to another user. */
export const exists = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return (cause as { readonly code?: string }).code === "EPERM"
  }
}

/** Start time of a process that lives: empty where the system doesn't say, nothing if it is dead. */
const startOf = (pid: number): string | undefined => {
  const stat = process.platform === "linux" ? readIfThere(`/proc/${pid}/stat`) : undefined
  if (stat === undefined) return exists(pid) ? "" : undefined
  // The command's name stands in brackets and may hold blanks and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  const isDead = fields[0] === "Z" || fields[0] === "X"
  return isDead ? undefined : fields[19] ?? ""
}

/**
 * True while a process without a command line is still giving up its files and sockets (Linux). Its
 * memory, and the command line with it, goes first; its other threads may outlive the first one.
 */
export const isEnding = (pid: number): boolean => {
  const stat = readIfThere(`/proc/${pid}/stat`)
  if (stat === undefined) return false
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  const isKernelThread = parent === "2"
  if (isKernelThread) return false
  if (state !== "Z" && state !== "X") return true
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1
  } catch {
    return false
  }
}

const machineName = (): string => {
  const boot = readIfThere("/proc/sys/kernel/random/boot_id")?.trim()
  if (boot === undefined) return hostname()
  try {
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`
  } catch {
    return `${boot} ${hostname()}`
  }
}

let own: ProcessIdentity | undefined

/** This process. */
export const self = (): ProcessIdentity =>
  own ??= { pid: process.pid, started: startOf(process.pid) ?? "", machine: machineName() }

const parse = (text: string): ProcessIdentity | undefined => {
  try {
    const { pid, started, machine } = JSON.parse(text) as Partial<ProcessIdentity>
    return typeof pid === "number" && typeof started === "string" && typeof machine === "string"
      ? { pid, started, machine }
      : undefined
  } catch {
    return undefined
  }
}

/** A process that left a file. */
export interface Owner extends ProcessIdentity {
  /** The file. */
  readonly path: string
  /** When it was last touched. */
  readonly beat: number
}

/** The process that left this file, if it runs. */
export const ownerOf = (path: string): Owner | undefined => {
  const identity = parse(readIfThere(path) ?? "")
  const beat = statSync(path, { throwIfNoEntry: false })?.mtimeMs
  if (identity === undefined || beat === undefined) return undefined
  const owner = { ...identity, path, beat }
  if (isLocal(owner)) {
    const started = startOf(owner.pid)
    if (started === undefined) return undefined
    if (started !== "" && owner.started !== "") return started === owner.started ? owner : undefined
  }
  return Math.abs(Date.now() - beat) < freshMillis ? owner : undefined
}

/** True when it runs here; false for another machine's or container's, which can't be asked. */
export const isLocal = (owner: ProcessIdentity): boolean => owner.machine === self().machine

/** Leaves this process' identity in a file and keeps it fresh until the returned function is called. */
export const sign = (path: string): () => void => {
  const write = () => writeFileSync(path, JSON.stringify(self()), { mode: 0o600 })
  write()
  return keepFresh(path, write)
}

/** Touches the file every two seconds; calls `lost` when that can't be done. */
export const keepFresh = (path: string, lost: () => void = () => {}): () => void => {
  const timer = setInterval(() => {
    try {
      const now = new Date()
      utimesSync(path, now, now)
    } catch {
      try {
        lost()
      } catch {
        // The folder is gone or can't be written; the next beat tries again.
      }
    }
  }, beatMillis)
  timer.unref()
  return () => clearInterval(timer)
}
