/** Processes of the torture: each has a name, is started again and again, and ends with the run. */
import { type ChildProcess, spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import process from "node:process"

/** How a process is run. */
export interface Command {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>> | undefined
}

/** How it ended, or `undefined` while it runs. */
export type End = number | NodeJS.Signals | undefined

/** A process. */
export interface Running {
  readonly pid: number
  readonly end: () => End
  readonly exited: Promise<number | NodeJS.Signals>
  /** Resolves with the first line of output; rejects when it ends before. */
  readonly ready: Promise<void>
  readonly signal: (signal: NodeJS.Signals) => void
  /** What it said last. */
  readonly said: () => string
}

/** Starts a process. */
export const start = ({ args, command, env }: Command): Running => {
  const child: ChildProcess = spawn(command, [...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  })
  let said = ""
  let end: End
  const dying = () => child.kill("SIGKILL")
  process.once("exit", dying)
  const exited = new Promise<number | NodeJS.Signals>((resolve) =>
    child.once("close", (code, signal) => {
      process.removeListener("exit", dying)
      end = signal ?? code ?? -1
      resolve(end)
    })
  )
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout?.once("data", () => resolve())
    exited.then((end) => reject(new Error(`ended (${end}) before it was ready: ${said}`)))
  })
  ready.catch(() => {})
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => said = (said + text).slice(-4_000))
  }
  return {
    pid: child.pid ?? -1,
    end: () => end,
    exited,
    ready,
    signal: (signal) => {
      if (end === undefined && child.pid !== undefined) process.kill(child.pid, signal)
    },
    said: () => said,
  }
}

/** Megabytes and open files of a process, where the system tells. */
export const sizeOf = (pid: number): { readonly megabytes: number; readonly files: number } => {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8")
    const megabytes = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1_024
    return { megabytes: Math.round(megabytes), files: readdirSync(`/proc/${pid}/fd`).length }
  } catch {
    return { megabytes: 0, files: 0 }
  }
}
