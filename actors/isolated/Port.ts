/** How an isolated worker speaks with the server that started it. */
import process from "node:process"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import { describe } from "../../src/core/Attempt.ts"
import { field, type FromWorker, type Role, type ToWorker, variable } from "./Protocol.ts"

/** See the module. */
export interface Port {
  readonly send: (message: FromWorker) => void
  readonly listen: (onMessage: (message: ToWorker) => void) => void
  /** Says something and ends this worker. */
  readonly die: (message: FromWorker) => void
}

const readRole = (): Role | undefined => {
  if (!isMainThread) {
    return (workerData as Readonly<Record<string, Role>> | null | undefined)?.[field]
  }
  const text = process.env[variable]
  // What this process starts is not isolated for the same server.
  delete process.env[variable]
  try {
    return text === undefined || process.send === undefined ? undefined : JSON.parse(text) as Role
  } catch {
    return undefined
  }
}

const role = readRole()

/** The job that this program is an isolated worker of, if it is one. */
export const jobHere: string | undefined = role?.job

/**
 * Ends this process once its server is gone, which a handler that never lets go of the processor
 * would not notice by itself.
 */
const watcher = `
setInterval(() => {
  if (process.ppid !== require("node:worker_threads").workerData) process.kill(process.pid, "SIGKILL")
}, 500)
`

/** How long what is said last may take, in ms. */
const lastWordsMillis = 500

const ofProcess = (server: number): Port => {
  new Worker(watcher, { eval: true, workerData: server, execArgv: [] }).unref()
  process.on("disconnect", () => process.exit(0))
  // A terminal, and what stops a whole group of processes, means the server: that one decides.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {})
  return {
    send: (message) => {
      if (process.connected) process.send?.(message)
    },
    listen: (onMessage) => void process.on("message", (message) => onMessage(message as ToWorker)),
    die: (message) => {
      process.send?.(message, () => process.exit(1))
      setTimeout(() => process.exit(1), lastWordsMillis)
    },
  }
}

const ofThread = (port: NonNullable<typeof parentPort>): Port => ({
  send: (message) => port.postMessage(message),
  listen: (onMessage) => void port.on("message", onMessage),
  die: (message) => {
    port.postMessage(message)
    process.exit(1)
  },
})

/** What nobody catches ends the worker, and its run with it. */
const dieLoudly = (port: Port) => {
  const die = (error: unknown) => {
    console.error(error)
    port.die({ _tag: "Dying", death: describe(error) })
  }
  process.on("uncaughtException", die)
  process.on("unhandledRejection", die)
}

/** The way to the server that wants this job's handler here; `undefined` in any other program. */
export const find = (job: string): Port | undefined => {
  if (role?.job !== job) return undefined
  const port = parentPort === null ? ofProcess(role.server) : ofThread(parentPort)
  dieLoudly(port)
  return port
}
