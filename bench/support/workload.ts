/** What a throughput benchmark measures. */
import type { NatsConnection } from "nats"

/** Where a run takes place: a namespace of its own on the shared server. */
export interface World {
  /** `127.0.0.1:port`. */
  readonly url: string
  readonly namespace: string
  /** For what happens outside the measured time, and for loops that don't use the engine. */
  readonly connection: NatsConnection
}

/** A run that is ready to start. */
export interface Run {
  /** The measured part. Resolves when all jobs are done and the server has said so. */
  readonly go: () => Promise<void>
  /** Fails when the run didn't do what it is measured for. */
  readonly verify: () => Promise<void>
  /** Gives back what it holds. */
  readonly close: () => Promise<void>
}

/** One way of doing something to many jobs. */
export interface Workload {
  readonly name: string
  /** The workload that it is compared with; its time in the same round is the ratio's base. */
  readonly reference?: string
  /** How many jobs it does when `jobs` are asked for. */
  readonly count: (jobs: number) => number
  /** Everything that isn't measured: streams, jobs that wait, connections. */
  readonly setup: (world: World, count: number) => Promise<Run>
}
