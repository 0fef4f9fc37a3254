/** Batches built by async functions. */
import * as Effect from "effect/Effect"
import type * as Builder from "../../src/client/BatchBuilder.ts"
import * as EffectBatch from "../../src/client/Batch.ts"
import type { BatchRecord } from "../../src/client/BatchRecord.ts"
import * as ClientService from "../../src/client/Client.ts"
import type { Payloads } from "../../src/client/EnqueueMany.ts"
import type { JobId } from "../../src/core/JobId.ts"
import type { Definition, Inherited, PayloadAnd } from "./Definition.ts"
import { type CallOptions, fromAsync, type Run, split } from "./run.ts"

/** Adds members to a batch that is being built; each method gives the ids of what it adds. */
export interface BatchBuilder {
  /** Id of the batch, which is real once the building has ended well. */
  readonly id: JobId
  /** Adds a job, which is sent to its queue with the batch, or at its time. */
  add<I>(
    job: Definition<I>,
    ...rest: PayloadAnd<I, Builder.MemberOptions>
  ): Promise<JobId>
  /** Adds any number of jobs in bounded memory, apart from their ids. */
  addMany<I>(
    job: Definition<I>,
    payloads: Payloads<NoInfer<I>>,
    options?: Builder.MemberOptions,
  ): Promise<ReadonlyArray<JobId>>
  /** Adds a job that follows others, be they members of this batch or not. */
  addAfter<I>(
    parents: JobId | ReadonlyArray<JobId>,
    job: Definition<I>,
    ...rest: PayloadAnd<I | Inherited, Builder.MemberAfterOptions>
  ): Promise<JobId>
  /** Adds a batch: one member, that ends when its own members have. */
  addBatch(
    options: Builder.BatchOptions,
    build: (batch: BatchBuilder) => unknown,
  ): Promise<JobId>
}

/** Batches: jobs that become real together and whose end is one event. */
export interface Batches {
  /**
   * Builds a batch and gives its id. When `build` throws, or the process dies before the end, nothing
   * of it has ever been seen. A batch without members ends at once.
   */
  create(
    options: Builder.BatchOptions & CallOptions,
    build: (batch: BatchBuilder) => unknown,
  ): Promise<JobId>
  /**
   * Adds members to a batch, in one step as well. A batch that has ended opens again; what has followed
   * its end is not taken back. Rejects with `BatchClosed` for one that was cancelled.
   */
  attach(id: JobId, build: (batch: BatchBuilder) => unknown, options?: CallOptions): Promise<void>
  /** Reads where a batch stands and how many of its members are in each state. */
  get(id: JobId, options?: CallOptions): Promise<BatchRecord>
  /** Waits until a batch has ended, however it does, and reads it. */
  await(id: JobId, options?: ClientService.AwaitOptions & CallOptions): Promise<BatchRecord>
}

type RunInside = <B>(effect: Effect.Effect<B, unknown>) => Promise<B>

const builderOf = (inner: Builder.Builder, run: RunInside): BatchBuilder => ({
  id: inner.id,
  add: (job, ...[payload, options]) => run(inner.add(job.definition, payload, options)),
  addMany: (job, payloads, options) => run(inner.addMany(job.definition, payloads, options)),
  addAfter: (parents, job, ...[payload, options]) =>
    run(inner.addAfter(parents, job.definition, payload, options)),
  addBatch: (options, build) => run(inner.addBatch(options, building(build))),
})

const building =
  (build: (batch: BatchBuilder) => unknown) =>
  (inner: Builder.Builder): Effect.Effect<unknown, unknown> =>
    fromAsync<unknown, unknown>((run) => build(builderOf(inner, run)), Effect.fail)

/** Makes the batches of whatever runs their effects. */
export const makeBatches = (run: Run): Batches => {
  const { Client } = ClientService
  return {
    create: (options, build) => {
      const [rest = {}, own] = split(options)
      return run(Client.use(({ batches }) => batches.create(rest, building(build))), own)
    },
    attach: (id, build, options) =>
      run(Client.use(({ batches }) => batches.attach(id, building(build))), options),
    get: (id, options) => run(EffectBatch.get(id), options),
    await: (id, options) => {
      const [rest, own] = split(options)
      return run(EffectBatch.await(id, rest), own)
    },
  }
}
