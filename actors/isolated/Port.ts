/** How an isolated worker speaks with the server that started it. */
import process from "node:process"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import { field, type FromWorker, type ToWorker, variable } from "./Protocol.ts"

/** See the module. */
export interface Port {
  readonly send: (message: FromWorker) => void
  readonly listen: (onMessage: (message: ToWorker) => void) => void
}

/**
 * Ends this process once its server is gone, which a handler that never lets go of the processor
 * would not notice by itself.
 */
const watcher = `
const parent = process.ppid
setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, "SIGKILL") }, 500)
`

const ofProcess = (): Port => {
  // What this process starts is not isolated for the same server.
  delete process.env[variable]
  new Worker(watcher, { eval: true }).unref()
  process.on("disconnect", () => process.exit(0))
  return {
    send: (message) => void process.send?.(message),
    listen: (onMessage) => void process.on("message", (message) => onMessage(message as ToWorker)),
  }
}

/** The way to the server that wants this job's handler here; `undefined` in any other program. */
export const find = (job: string): Port | undefined => {
  if (!isMainThread) {
    const data = workerData as Readonly<Record<string, unknown>> | null | undefined
    if (parentPort === null || data?.[field] !== job) return undefined
    const port = parentPort
    return {
      send: (message) => port.postMessage(message),
      listen: (onMessage) => void port.on("message", onMessage),
    }
  }
  return process.env[variable] === job && process.send !== undefined ? ofProcess() : undefined
}
