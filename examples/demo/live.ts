/** What the ledgers say so far: every run of a handler, and which jobs have come to their end. */
import type { Entry } from "./ledger.ts"

/** One run of a handler. Times are milliseconds since 1970. */
export interface Run {
  readonly job: string
  /** Id of the server. */
  readonly server: string
  readonly attempt: number
  /** How often NATS had delivered the message. */
  readonly delivery: number
  /** When the engine says that the attempt began. */
  readonly started: number
  /** When the handler wrote that it begins. */
  readonly began: number
  /** When it wrote that it ends. */
  ended?: number
}

const finals: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"])

/** The ledgers of all processes, put together. */
export class Live {
  readonly runs: Array<Run> = []
  /** For each job that has ended: when that was on JetStream; more than once would be a fault. */
  readonly settled: Map<string, Array<number>> = new Map()
  /** Jobs that have ended, by the ledgers or by their records. */
  readonly done: Set<string> = new Set()
  /** Jobs that wait for another attempt. */
  readonly retrying: Set<string> = new Set()
  /** Jobs of which some attempt has begun. */
  readonly seen: Set<string> = new Set()
  /** Ids of the servers that are ready, by process. */
  readonly servers: Map<string, string> = new Map()
  readonly #running = new Map<string, Map<string, Run>>()

  /** Takes what is new in the ledger of a process. */
  add(process: string, entries: ReadonlyArray<Entry>): void {
    const running = this.#runningIn(process)
    for (const entry of entries) {
      switch (entry.type) {
        case "ready":
          this.servers.set(process, entry.server)
          break
        case "began": {
          const { at, attempt, delivery, job, server, started } = entry
          const run: Run = { job, server, attempt, delivery, started, began: at }
          this.runs.push(run)
          running.set(job, run)
          this.seen.add(job)
          this.retrying.delete(job)
          break
        }
        case "ended": {
          const run = running.get(entry.job)
          if (run !== undefined) run.ended = entry.at
          running.delete(entry.job)
          break
        }
        case "moved":
          if (finals.has(entry.to)) this.#settle(entry.job, entry.at)
          else if (entry.to === "retrying") this.retrying.add(entry.job)
      }
    }
  }

  /** Runs that have begun in a process and not ended. */
  running(process: string): ReadonlyArray<Run> {
    return [...this.#runningIn(process).values()]
  }

  #runningIn(process: string): Map<string, Run> {
    const running = this.#running.get(process) ?? new Map<string, Run>()
    this.#running.set(process, running)
    return running
  }

  #settle(job: string, at: number): void {
    this.done.add(job)
    const times = this.settled.get(job)
    if (times === undefined) this.settled.set(job, [at])
    else times.push(at)
  }
}
