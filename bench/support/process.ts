/** Processes from the outside: what they use, and starting programs to be measured. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import process from "node:process"
import { fileURLToPath } from "node:url"

const ticksPerSecond = (() => {
  try {
    return Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))
  } catch {
    return 100
  }
})()

/** The fields of a process' state, from the third on. */
const statOf = (pid: number): ReadonlyArray<string> => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  // The second field is the name in parentheses, which may hold spaces.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
}

/** A process that another one has started; `undefined` for none. */
export const childOf = (parent: number): number | undefined => {
  if (!existsSync("/proc")) return undefined
  return readdirSync("/proc").map(Number).find((pid) => {
    try {
      return pid > 0 && Number(statOf(pid)[1]) === parent
    } catch {
      // It has ended in the meantime.
      return false
    }
  })
}

/** Processor time that a process has used, in seconds; `NaN` on systems without /proc. */
export const cpuSeconds = (pid: number): number => {
  try {
    const fields = statOf(pid)
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
  } catch {
    return Number.NaN
  }
}

/** Memory that a process holds (RSS), in MiB; `NaN` on systems without /proc. */
export const residentMiB = (pid: number): number => {
  try {
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return Number(kib) / 1024
  } catch {
    return Number.NaN
  }
}

/** A program under measurement. */
export interface Program {
  readonly pid: number
  /** Resolves when it has written a line `ready`; rejects when it ends before. */
  readonly ready: Promise<void>
  /** SIGTERM, and SIGKILL if it isn't gone five seconds later. */
  readonly stop: () => Promise<void>
}

/** Starts a program with the runtime that runs the benchmark. */
export const startProgram = (
  file: URL,
  environment: Readonly<Record<string, string>>,
): Program => {
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : []
  const child: ChildProcess = spawn(process.execPath, [...flags, fileURLToPath(file)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  })
  const kill = () => {
    child.kill("SIGKILL")
  }
  process.once("exit", kill)
  const gone = new Promise<void>((done) => child.once("close", () => done()))
  let said = ""
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (/^ready$/m.test(said)) resolve()
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => said += text)
    child.once("close", (code) => reject(new Error(`${file} ended (${code})\n${said}`)))
  })
  ready.catch(() => {})
  const stop = async () => {
    child.kill("SIGTERM")
    const timer = setTimeout(kill, 5_000)
    await gone
    clearTimeout(timer)
    process.removeListener("exit", kill)
  }
  return { pid: child.pid ?? -1, ready, stop }
}
