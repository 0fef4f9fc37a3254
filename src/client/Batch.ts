/**
 * Batches: jobs that become real together and whose end is one event.
 *
 * A batch is built in one step, whatever its size: nobody sees a member before all are stored, and when
 * the building fails or its process dies, none ever was. It ends when its last member has: as
 * `succeeded` when all members have, as `completed` when some failed or were cancelled. Jobs and
 * batches may follow it like any job, by its id.
 *
 * @example
 * ```ts
 * import { Batch, Job } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * const Resize = Job.make("image/resize", { payload: Schema.String })
 * const Publish = Job.make("album/publish", { payload: Schema.String })
 *
 * const program = Effect.gen(function* () {
 *   const album = yield* Batch.create({ description: "album 7" }, (batch) =>
 *     batch.addMany(Resize, ["a.jpg", "b.jpg", "c.jpg"])
 *   )
 *   yield* Publish.enqueueAfter(album, "album 7")
 *   return yield* Batch.await(album, { within: "1 minute" })
 * })
 * ```
 *
 * @module
 */
import * as Effect from "effect/Effect"
import type { JobId } from "../core/JobId.ts"
import type { BatchRecord, BatchState, MemberCounts } from "./BatchRecord.ts"
import type * as BatchBuilder from "./BatchBuilder.ts"
import { type AwaitError, type AwaitOptions, Client, type ReadError } from "./Client.ts"
import type { Payloads } from "./EnqueueMany.ts"
import type { Job } from "./Job.ts"
import type { parentResult, parentResults } from "./Prepare.ts"

export { BatchClosed } from "./BatchBuilder.ts"
export type { BatchError, BatchOptions, MemberAfterOptions, MemberOptions } from "./BatchBuilder.ts"
export type { BatchRecord, BatchState, MemberCounts }

/** Adds members to a batch that is being built; each gives the member's id. */
export interface Builder {
  /** Id of the batch, which is real once the building has ended well. */
  readonly id: JobId
  /** Adds a job, which is sent to its queue with the batch, or at its time. */
  readonly add: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    payload: P,
    options?: BatchBuilder.MemberOptions,
  ) => Effect.Effect<JobId, BatchBuilder.BatchError>
  /** Adds any number of jobs in bounded memory, apart from their ids. */
  readonly addMany: <Name extends string, P, A, E>(
    job: Job<Name, P, A, E>,
    payloads: Payloads<P>,
    options?: BatchBuilder.MemberOptions,
  ) => Effect.Effect<ReadonlyArray<JobId>, BatchBuilder.BatchError>
  /** Adds a job that follows others, be they members of this batch or not. */
  readonly addAfter: <Name extends string, P, A, E>(
    parents: JobId | ReadonlyArray<JobId>,
    job: Job<Name, P, A, E>,
    payload: P | typeof parentResult | typeof parentResults,
    options?: BatchBuilder.MemberAfterOptions,
  ) => Effect.Effect<JobId, BatchBuilder.BatchError>
  /** Adds a batch: one member, that ends when its own members have. */
  readonly addBatch: <E, R>(
    options: BatchBuilder.BatchOptions,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ) => Effect.Effect<JobId, E | BatchBuilder.BatchError, R>
}

const typed = (inner: BatchBuilder.Builder): Builder => ({
  id: inner.id,
  add: (job, payload, options) => inner.add(job.definition, payload, options),
  addMany: (job, payloads, options) => inner.addMany(job.definition, payloads, options),
  addAfter: (parents, job, payload, options) =>
    inner.addAfter(parents, job.definition, payload, options),
  addBatch: (options, build) => inner.addBatch(options, (builder) => build(typed(builder))),
})

/**
 * Builds a batch and gives its id. When `build` fails, or the process dies before the end, nothing of
 * it has ever been seen. A batch without members ends at once.
 */
export const create = <E, R>(
  options: BatchBuilder.BatchOptions,
  build: (batch: Builder) => Effect.Effect<unknown, E, R>,
): Effect.Effect<JobId, E | BatchBuilder.BatchError, R | Client> =>
  Effect.flatMap(
    Client,
    ({ batches }) => batches.create(options, (builder) => build(typed(builder))),
  )

/**
 * Adds members to a batch, in one step as well. A batch that has ended opens again; what has followed
 * its end is not taken back. Fails with `BatchClosed` for one that was cancelled.
 */
export const attach = <E, R>(
  id: JobId,
  build: (batch: Builder) => Effect.Effect<unknown, E, R>,
): Effect.Effect<void, E | BatchBuilder.BatchError, R | Client> =>
  Effect.flatMap(Client, ({ batches }) => batches.attach(id, (builder) => build(typed(builder))))

/** Reads where a batch stands and how many of its members are in each state. */
export const get = (id: JobId): Effect.Effect<BatchRecord, ReadError, Client> =>
  Effect.flatMap(Client, ({ batches }) => batches.get(id))

/** Waits until a batch has ended, however it does, and reads it. */
const awaitEnd = (
  id: JobId,
  options?: AwaitOptions,
): Effect.Effect<BatchRecord, AwaitError, Client> =>
  Effect.flatMap(
    Client,
    ({ awaitRecord, batches }) => Effect.andThen(awaitRecord(id, options), batches.get(id)),
  )

export { awaitEnd as await }
