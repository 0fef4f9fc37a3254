/**
 * Reading the engine as a whole: lists of jobs, their numbers, queues and servers. All of it shows how
 * things stood a moment ago, and none of it changes a job.
 */
import * as Effect from "effect/Effect"
import type { InvalidOptions } from "../core/errors.ts"
import { checkKeys } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import type { Wire } from "../nats/Wire.ts"
import * as List from "./InspectList.ts"
import * as Queues from "./InspectQueues.ts"
import * as Servers from "./InspectServers.ts"

export type { JobPage, ListOptions } from "./InspectList.ts"
export type { JobCounts, OldestJob, QueueSummary, StateCounts } from "./InspectQueues.ts"
export type { RunningJob, ServerInfo, ServerPool } from "./InspectServers.ts"

/** Which queue is meant. */
export interface QueueOptions {
  /** Its name; all queues but the engine's own when absent. */
  readonly queue?: string | undefined
}

/** Reads the engine as a whole. */
export interface Inspect {
  /**
   * One page of the jobs in a state: waiting ones oldest first, ended ones newest first, without
   * schemas. No job is twice on a page; one that moves while pages are read may be on none or on two.
   *
   * A page may have fewer jobs than `limit`, even none, and still a `cursor`: only its absence is the
   * end. Jobs and queues whose names begin with `_` are the engine's own, and listed when they are
   * asked for by name. Fails with `InvalidOptions` for a bad option or cursor.
   *
   * @example
   * ```ts
   * import { Client } from "@portfire/portfire"
   * import * as Effect from "effect/Effect"
   *
   * const failed = Client.Client.use((client) => client.list({ state: "failed", limit: 20 }))
   * const program = Effect.map(failed, ({ jobs }) => jobs.map(({ id, reason }) => ({ id, reason })))
   * ```
   */
  readonly list: (
    options: List.ListOptions,
  ) => Effect.Effect<List.JobPage, InvalidOptions | NatsError>
  /**
   * How many jobs there are in each state and queue, at a cost that doesn't grow with their number.
   * `processing` is what servers say they run; one that doesn't answer within 250 ms leaves its jobs
   * counted as enqueued. A job that moves meanwhile may count twice or not at all.
   */
  readonly counts: (
    options?: QueueOptions,
  ) => Effect.Effect<Queues.JobCounts, InvalidOptions | NatsError>
  /** How each queue stands, or one of them: what waits there, since when, and who serves it. */
  readonly queues: (
    options?: QueueOptions,
  ) => Effect.Effect<ReadonlyArray<Queues.QueueSummary>, InvalidOptions | NatsError>
  /**
   * The servers that are there, longest there first, with what each runs right now. One that was
   * killed is listed for up to 35 seconds; one that doesn't answer within 250 ms is listed without
   * what it runs.
   */
  readonly servers: Effect.Effect<ReadonlyArray<Servers.ServerInfo>, NatsError>
}

const checked = <A>(
  options: QueueOptions | undefined,
  read: (queue: string | undefined) => Effect.Effect<A, NatsError>,
): Effect.Effect<A, InvalidOptions | NatsError> =>
  Effect.suspend((): Effect.Effect<A, InvalidOptions | NatsError> => {
    const refused = options === undefined
      ? undefined
      : checkKeys("options", options, ["queue"]) ?? List.checkToken("queue", options.queue)
    return refused === undefined ? read(options?.queue) : Effect.fail(refused)
  })

/** Reads a namespace. */
export const make = (wire: Wire): Inspect => ({
  list: (options) => List.list(wire, options),
  counts: (options) => checked(options, (queue) => Queues.counts(wire, queue)),
  queues: (options) => checked(options, (queue) => Queues.queues(wire, queue)),
  servers: Servers.servers(wire),
})
