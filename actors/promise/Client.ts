/** The client, with promises. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientService from "../../src/client/Client.ts"
import type * as Definitions from "../../src/client/Definition.ts"
import type { EnqueueManyOptions, Payloads } from "../../src/client/EnqueueMany.ts"
import type { Following } from "../../src/client/Continuations.ts"
import type { Submitted } from "../../src/client/Existing.ts"
import type * as Inspect from "../../src/client/Inspect.ts"
import type * as JobRecord from "../../src/client/JobRecord.ts"
import type * as Journal from "../../src/client/Journal.ts"
import type { Answer, Expected, Operation } from "../../src/client/Operation.ts"
import type { Timing } from "../../src/client/Writer.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { type Batches, makeBatches } from "./Batches.ts"
import type { Definition, Inherited, PayloadAnd } from "./Definition.ts"
import { type Flows, makeFlows } from "./Flow.ts"
import { makeRecurring, type RecurringEntries } from "./Recurring.ts"
import { type CallOptions, type Run, split } from "./run.ts"

/** Options of an enqueue. */
export type EnqueueOptions = Definitions.EnqueueOptions & CallOptions

/** When a job is to run, and the options of an enqueue. */
export type ScheduleOptions = EnqueueOptions & ClientService.When

/** The options of an enqueue; with a delay or an instant it is a schedule. */
export type SubmitOptions = EnqueueOptions & Timing

/** How a job follows others. */
export type AfterOptions = Definitions.JobOptions & Following & CallOptions

/** Options of a wait. */
export type AwaitOptions = ClientService.AwaitOptions & CallOptions

/**
 * Stores jobs and reads them. Its methods have the names, options and guarantees of the Effect API;
 * their promises reject with the same errors, to be told apart by class or by `_tag`.
 */
export interface Client {
  /**
   * Stores a job and gives its id. When it resolves, the job is on JetStream. Rejects with
   * `InvalidPayload`, `PayloadTooLarge` or `InvalidOptions` before anything is written.
   *
   * With a chosen `id` or a `unique` key the id may be that of a job that was there before.
   */
  enqueue<I>(job: Definition<I>, ...rest: PayloadAnd<I, EnqueueOptions>): Promise<JobId>
  /**
   * Stores a job, now or after a delay or at an instant, and tells beside its id whether it is new:
   * `created` is false when a job with the chosen `id`, or with the `unique` key, was there before.
   */
  submit<I>(job: Definition<I>, ...rest: PayloadAnd<I, SubmitOptions>): Promise<Submitted>
  /**
   * Stores a job that becomes ready after a delay or at an instant, by the NATS server's clock and
   * up to a quarter of a second late. A time that has passed means now.
   */
  schedule<I>(
    job: Definition<I>,
    payload: NoInfer<I>,
    options: ScheduleOptions,
  ): Promise<JobId>
  /**
   * Stores many jobs, from an array, an iterable or an async iterable, and gives their ids, in bounded
   * memory apart from these. After a failure `PartlyEnqueued` lists what is stored.
   */
  enqueueMany<I>(
    job: Definition<I>,
    payloads: Payloads<NoInfer<I>>,
    options?: EnqueueManyOptions & CallOptions,
  ): Promise<ReadonlyArray<JobId>>
  /**
   * Stores a job, waits for its end and gives its result. Rejects with `JobFailed`, which has the
   * record with all attempts, with `JobCancelled`, or, when it has not ended `within` that time of
   * being stored, with `AwaitTimedOut`; for a definition made by Effect also with its typed errors.
   */
  execute<I, A>(
    job: Definition<I, unknown, unknown, A>,
    ...rest: PayloadAnd<I, Definitions.EnqueueOptions & AwaitOptions>
  ): Promise<A>
  /**
   * Waits for the end of a job of a definition, which may have ended before, and gives what
   * {@link Client.execute} does; `JobNotFound` when there is none, or not any more.
   */
  await<A>(
    job: Definition<unknown, unknown, unknown, A>,
    id: JobId,
    options?: AwaitOptions,
  ): Promise<A>
  /** Waits until any job has ended, however it does, and gives its record without schemas. */
  awaitRecord(id: JobId, options?: AwaitOptions): Promise<JobRecord.JobRecord>
  /**
   * Stores a job that follows others, and gives its id: it waits until its parents have ended as it
   * wants (`on`, default `succeeded`; `need` all of them, or any), which may have happened before.
   * One whose wish can't come true any more is cancelled. `parentResult` in place of a payload gives it
   * what its parent has given. Rejects with `JobNotFound` for a parent that isn't there.
   */
  enqueueAfter<I>(
    job: Definition<I>,
    parents: JobId | ReadonlyArray<JobId>,
    ...rest: PayloadAnd<I | Inherited, AfterOptions>
  ): Promise<JobId>
  /** Batches: jobs that become real together and whose end is one event. */
  readonly batches: Batches
  /** Workflows: jobs composed by `Flow`. */
  readonly flows: Flows
  /** Recurring entries: jobs that run by the clock. */
  readonly recurring: RecurringEntries
  /**
   * Does an operation on one job, such as `Operation.cancel()`, and tells what became of it: it is
   * done for the job as it was seen, or not at all.
   */
  operate(id: JobId, operation: Operation, options?: Expected & CallOptions): Promise<Answer>
  /** Does an operation on up to 10,000 jobs, each by itself; the answers are in the order of the ids. */
  operateAll(
    ids: ReadonlyArray<JobId>,
    operation: Operation,
    options?: Expected & CallOptions,
  ): Promise<ReadonlyArray<Answer>>
  /**
   * Does an operation on all jobs that match a filter and were there when it was asked for, also when
   * who asked dies meanwhile. Gives how many matched and how many were changed; `dryRun` only counts.
   */
  operateWhere(
    filter: ClientService.JobFilter,
    operation: Operation,
    options?: ClientService.WhereOptions & CallOptions,
  ): Promise<ClientService.Changes>
  /** Reads a job in any state with the schemas of its definition. */
  get<P, A, E>(
    job: Definition<unknown, P, unknown, A, E>,
    id: JobId,
    options?: CallOptions,
  ): Promise<JobRecord.JobRecord<P, A, E>>
  /** Reads any job in any state, as plain data. */
  get(id: JobId, options?: CallOptions): Promise<JobRecord.JobRecord>
  /** One page of the jobs in a state: waiting ones oldest first, ended ones newest first. */
  list(options: Inspect.ListOptions & CallOptions): Promise<Inspect.JobPage>
  /** How many jobs there are in each state and queue, at a cost that doesn't grow with their number. */
  counts(options?: Inspect.QueueOptions & CallOptions): Promise<Inspect.JobCounts>
  /** How each queue stands, or one of them: what waits there, since when, and who serves it. */
  queues(
    options?: Inspect.QueueOptions & CallOptions,
  ): Promise<ReadonlyArray<Inspect.QueueSummary>>
  /** The servers that are there, longest there first, with what each runs right now. */
  servers(options?: CallOptions): Promise<ReadonlyArray<Inspect.ServerInfo>>
  /** What handlers of a job logged, oldest first; empty where its definition keeps no lines. */
  logs(id: JobId, options?: Journal.LogsOptions & CallOptions): Promise<Journal.Lines>
  /** The newest progress of a job; `undefined` when it has said none. */
  progress(id: JobId, options?: CallOptions): Promise<Journal.Progress | undefined>
  /**
   * What a job has written and what it writes, live, until it has ended: its lines in their order,
   * and each progress that the reader is fast enough for.
   */
  follow(id: JobId, options?: CallOptions): AsyncIterable<Journal.Line | Journal.Progress>
}

/** Reads a stream as it is asked for; stops it when it isn't any more. */
async function* iterate<A>(
  run: Run,
  stream: (client: ClientService.Client) => Stream.Stream<A, unknown>,
  options: CallOptions | undefined,
): AsyncGenerator<A, void, undefined> {
  const scope = Scope.makeUnsafe()
  try {
    const pull = await run(
      ClientService.Client.use((client) =>
        Effect.provideService(Stream.toPull(stream(client)), Scope.Scope, scope)
      ),
      options,
    )
    while (true) {
      const items = await run(Pull.catchDone(pull, () => Effect.succeed(undefined)), options)
      if (items === undefined) return
      yield* items
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** The schemas of a definition, with the types that they have. */
const decodersOf = <P, A, E>(
  { definition }: Definition<unknown, P, unknown, A, E>,
): JobRecord.Decoders<P, A, E> => definition as never

/** Makes the client of whatever runs its effects. */
export const makeClient = (run: Run): Client => {
  type Service = ClientService.Client
  /** Calls the client with options of which the signal is ours. */
  const call = <A, O extends CallOptions>(
    options: O | undefined,
    effect: (client: Service, options: Omit<O, "signal"> | undefined) => Effect.Effect<A, unknown>,
  ): Promise<A> => {
    const [rest, own] = split(options)
    return run(ClientService.Client.use((client) => effect(client, rest)), own)
  }
  const read = (
    ...[first, second, third]:
      | readonly [id: JobId, options?: CallOptions]
      | readonly [job: Definition, id: JobId, options?: CallOptions]
  ): Promise<JobRecord.JobRecord> =>
    typeof first === "string"
      ? call(second as CallOptions | undefined, (client) => client.get(first))
      : call(third, (client) => client.getWith(second as JobId, decodersOf(first)))

  return {
    enqueue: (job, ...[payload, options]) =>
      call(options, (client, rest) => client.enqueue(job.definition, payload, rest)),
    submit: (job, ...[payload, options]) =>
      call(options, (client, rest) => client.submit(job.definition, payload, rest)),
    schedule: (job, payload, options) =>
      call(
        options,
        (client, rest) => client.schedule(job.definition, payload, rest as ScheduleOptions),
      ),
    enqueueMany: (job, payloads, options) =>
      call(options, (client, rest) => client.enqueueMany(job.definition, payloads, rest)),
    execute: (job, ...[payload, options]) =>
      call(
        options,
        (client, rest) => client.execute(job.definition, decodersOf(job), payload, rest),
      ),
    await: (job, id, options) =>
      call(options, (client, rest) => client.awaitWith(id, decodersOf(job), rest)),
    awaitRecord: (id, options) => call(options, (client, rest) => client.awaitRecord(id, rest)),
    enqueueAfter: (job, parents, ...[payload, options]) =>
      call(options, (client, rest) => client.enqueueAfter(job.definition, parents, payload, rest)),
    batches: makeBatches(run),
    flows: makeFlows(run),
    recurring: makeRecurring(run),
    operate: (id, operation, options) =>
      call(options, (client, rest) => client.operate(id, operation, rest)),
    operateAll: (ids, operation, options) =>
      call(options, (client, rest) => client.operateAll(ids, operation, rest)),
    operateWhere: (filter, operation, options) =>
      call(options, (client, rest) => client.operateWhere(filter, operation, rest)),
    get: read as Client["get"],
    list: (options) => call(options, (client, rest) => client.list(rest as Inspect.ListOptions)),
    counts: (options) => call(options, (client, rest) => client.counts(rest)),
    queues: (options) => call(options, (client, rest) => client.queues(rest)),
    servers: (options) => call(options, (client) => client.servers),
    logs: (id, options) => call(options, (client, rest) => client.logs(id, rest)),
    progress: (id, options) => call(options, (client) => client.progress(id)),
    follow: (id, options) => iterate(run, (client) => client.follow(id), options),
  }
}
