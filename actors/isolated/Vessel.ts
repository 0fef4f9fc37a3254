/** A thread or a process that runs the handler of one job, as the server that started it sees it. */
import { type ChildProcess, fork } from "node:child_process"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { Worker } from "node:worker_threads"
import { field, type FromWorker, type Kind, type ToWorker, variable } from "./Protocol.ts"

/** See the module. */
export interface Vessel {
  /** Whether it hasn't ended. */
  readonly isAlive: boolean
  /** Says something to it; lost when it has ended. */
  readonly send: (message: ToWorker) => void
  /** Ends it at once, whatever it does. */
  readonly kill: () => void
  /** Told what it says. */
  onMessage: (message: FromWorker) => void
  /** Told once why it ended. */
  onEnd: (reason: string) => void
}

/** What is started. */
export interface VesselOptions {
  readonly kind: Kind
  /** The module that serves the job. */
  readonly module: URL
  /** Name of the job. */
  readonly job: string
  /** Most megabytes of its heap, where the runtime can limit that. */
  readonly memory: number | undefined
}

abstract class Base implements Vessel {
  isAlive = true
  onMessage: Vessel["onMessage"] = () => {}
  onEnd: Vessel["onEnd"] = () => {}
  abstract send(message: ToWorker): void
  abstract kill(): void

  protected end(reason: string): void {
    if (!this.isAlive) return
    this.isAlive = false
    this.onEnd(reason)
  }
}

class Thread extends Base {
  readonly #worker: Worker
  constructor({ job, memory, module }: VesselOptions) {
    super()
    this.#worker = new Worker(module, {
      workerData: { [field]: job },
      ...(memory === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: memory } }),
    })
    this.#worker.on("message", (message: FromWorker) => this.onMessage(message))
    this.#worker.on("error", (error: unknown) => {
      const message = error instanceof Error ? error.message : String(error)
      this.end(`the thread that ran it died: ${message}`)
      this.kill()
    })
    this.#worker.on("exit", (code) => this.end(`the thread that ran it ended with code ${code}`))
    // What is idle must not keep a program from ending.
    this.#worker.unref()
  }
  send(message: ToWorker): void {
    this.#worker.postMessage(message)
  }
  kill(): void {
    void this.#worker.terminate()
  }
}

/** Options of the runtime by which a process limits its own heap. */
const memoryFlags = (memory: number | undefined): ReadonlyArray<string> =>
  memory === undefined || "Bun" in globalThis || "Deno" in globalThis
    ? []
    : [`--max-old-space-size=${memory}`]

class Process extends Base {
  readonly #child: ChildProcess
  constructor({ job, memory, module }: VesselOptions) {
    super()
    const flags = memoryFlags(memory)
    this.#child = fork(fileURLToPath(module), [], {
      serialization: "advanced",
      env: { ...process.env, [variable]: job },
      ...(flags.length === 0 ? {} : { execArgv: [...process.execArgv, ...flags] }),
    })
    this.#child.on("message", (message) => this.onMessage(message as FromWorker))
    this.#child.on(
      "error",
      (error) => this.end(`its process could not be started: ${error.message}`),
    )
    this.#child.on("exit", (code, signal) =>
      this.end(
        `the process that ran it ended with ${signal === null ? `code ${code}` : signal}`,
      ))
    this.#child.unref()
    // Bun's channel holds nothing open, and has no such method.
    this.#child.channel?.unref?.()
  }
  send(message: ToWorker): void {
    this.#child.send(message, (error) => {
      if (error !== null) this.kill()
    })
  }
  kill(): void {
    this.#child.kill("SIGKILL")
  }
}

/** Starts one. What can't be started ends at once, with a reason. */
export const start = (options: VesselOptions): Vessel =>
  options.kind === "thread" ? new Thread(options) : new Process(options)
