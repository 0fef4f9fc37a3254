/** A thread or a process that runs the handler of one job, as the server that started it sees it. */
import { type ChildProcess, fork } from "node:child_process"
import { existsSync } from "node:fs"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { Worker } from "node:worker_threads"
import {
  type Death,
  field,
  type FromWorker,
  type Kind,
  type Role,
  type ToWorker,
  variable,
} from "./Protocol.ts"

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
  /** Told once how it ended: `died: …` or `ended with …`. */
  onEnd: (death: Death) => void
}

/** What is started. */
export interface VesselOptions {
  readonly kind: Kind
  /** The module that serves the job. */
  readonly module: URL
  /** Name of the job. */
  readonly job: string
  /** Most megabytes of a process's heap, where the runtime can limit that. */
  readonly memory: number | undefined
}

/** How long what a process said last may take after its end, in ms. */
const echoMillis = 200

abstract class Base implements Vessel {
  isAlive = true
  onMessage: Vessel["onMessage"] = () => {}
  onEnd: Vessel["onEnd"] = () => {}
  #death: Death | undefined
  abstract send(message: ToWorker): void
  abstract kill(): void

  protected hear(message: FromWorker): void {
    if (message._tag === "Dying") this.#death = message.death
    else if (this.isAlive) this.onMessage(message)
  }

  protected end(how: string): void {
    if (!this.isAlive) return
    this.isAlive = false
    const { message, stack } = this.#death ?? {}
    this.onEnd({ message: message === undefined ? how : `died: ${message}`, stack })
  }
}

class Thread extends Base {
  readonly #worker: Worker
  constructor({ job, module }: VesselOptions) {
    super()
    const role: Role = { job, server: process.pid }
    this.#worker = new Worker(module, { workerData: { [field]: role }, name: job })
    this.#worker.on("message", (message: FromWorker) => this.hear(message))
    this.#worker.on("error", (error: unknown) => {
      this.end(`died: ${error instanceof Error ? error.message : String(error)}`)
      this.kill()
    })
    this.#worker.on("exit", (code) => this.end(`ended with code ${code}`))
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

/** Options of the runtime that are about this process alone; those after `=` belong to them. */
const personal = /^--?(inspect|watch|hot|test|eval|print|check|interactive)/
const withValue: ReadonlySet<string> = new Set(["-e", "-p", "-pe", "--eval", "--print"])

/** The options that a child shares with its server, and its own. */
export const argumentsOf = (
  ours: ReadonlyArray<string>,
  memory: number | undefined,
): Array<string> => {
  const shared = ours.filter((option, index) =>
    !personal.test(option) && !withValue.has(option) && !withValue.has(ours[index - 1] ?? "")
  )
  const limit = memory === undefined || "Bun" in globalThis
    ? []
    : [`--max-old-space-size=${memory}`]
  return [...shared, ...limit]
}

class Process extends Base {
  readonly #child: ChildProcess
  constructor({ job, memory, module }: VesselOptions) {
    super()
    const role: Role = { job, server: process.pid }
    const file = fileURLToPath(module)
    this.#child = fork(file, [], {
      serialization: "advanced",
      // What the server reads is not for its children.
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, [variable]: JSON.stringify(role) },
      execArgv: argumentsOf(process.execArgv, memory),
    })
    this.#child.on("message", (message) => this.hear(message as FromWorker))
    this.#child.on("error", (error) => this.end(`could not be started: ${error.message}`))
    this.#child.on("exit", (code, signal) => {
      const missing = code === 1 && !existsSync(file) ? ": there is no such file" : ""
      const end = () =>
        this.end(`ended with ${signal === null ? `code ${code}` : signal}${missing}`)
      if (!this.#child.connected) return end()
      // What it said last may not have been read.
      this.#child.once("disconnect", end)
      setTimeout(end, echoMillis)
    })
    this.#child.unref()
    // Bun's channel holds nothing open, and has no such method.
    this.#child.channel?.unref?.()
  }
  send(message: ToWorker): void {
    if (!this.#child.connected) return
    this.#child.send(message, (error) => {
      if (error !== null) this.kill()
    })
  }
  kill(): void {
    this.#child.kill("SIGKILL")
  }
}

/** Starts one; throws where the runtime refuses. What can't go on ends at once, with a reason. */
export const start = (options: VesselOptions): Vessel =>
  options.kind === "thread" ? new Thread(options) : new Process(options)
