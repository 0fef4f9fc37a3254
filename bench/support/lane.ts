/** What the latency benchmark measures. */
import type { World } from "./workload.ts"

/** A lane that is open for jobs. */
export interface OpenLane {
  /** Enqueues one job that carries the number. */
  readonly send: (sample: number) => void | Promise<void>
  readonly close: () => Promise<void>
}

/** One way from an enqueue to the start of a handler. */
export interface Lane {
  readonly name: string
  /** Begins to serve; `started` is to be called first thing in the handler. */
  readonly open: (world: World, started: (sample: number) => void) => Promise<OpenLane>
}
