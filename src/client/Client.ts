/**
 * What an application asks of the engine: store jobs and read them. Definitions (`Job.make`) call it;
 * code that only has an id calls it directly.
 *
 * Guarantee: an enqueue that succeeded is on JetStream. Bad input fails before anything is written.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkKeys, checkName } from "../core/Names.ts"
import { type Instant, millisOf } from "../core/Time.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import type { Nats } from "../nats/Nats.ts"
import * as Records from "../nats/Records.ts"
import * as Wire from "../nats/Wire.ts"
import * as Awaiting from "./Awaiting.ts"
import * as BatchBuilder from "./BatchBuilder.ts"
import * as BatchRecord from "./BatchRecord.ts"
import type { Following } from "./Continuations.ts"
import {
  type Definition,
  enqueueOptionKeys,
  type EnqueueOptions,
  type JobOptions,
} from "./Definition.ts"
import { Engine, layer as engineLayer } from "./Engine.ts"
import * as Entries from "./Entries.ts"
import * as EnqueueAfter from "./EnqueueAfter.ts"
import * as EnqueueMany from "./EnqueueMany.ts"
import type { Submitted } from "./Existing.ts"
import * as FlowCompiler from "./FlowCompiler.ts"
import type * as FlowPlan from "./FlowPlan.ts"
import * as Inspect from "./Inspect.ts"
import * as Interception from "./Interception.ts"
import type { JobFilter } from "./JobFilter.ts"
import * as JobOutcome from "./JobOutcome.ts"
import * as JobRecord from "./JobRecord.ts"
import type * as Journal from "./Journal.ts"
import * as JournalReader from "./JournalReader.ts"
import * as Operate from "./Operate.ts"
import * as OperateMany from "./OperateMany.ts"
import { type Answer, type Expected, expectedKeys, type Operation } from "./Operation.ts"
import * as Prepare from "./Prepare.ts"
import { findRunning } from "./Running.ts"
import * as Store from "./Store.ts"
import { unlock } from "./Unlock.ts"
import * as Writer from "./Writer.ts"

export type * from "./Inspect.ts"
export type { JobFilter } from "./JobFilter.ts"
export type { Changes, WhereOptions } from "./OperateMany.ts"
export type { EnqueueError } from "./Writer.ts"
export { JobExists, type Submitted } from "./Existing.ts"
export { type EnqueueManyOptions, PartlyEnqueued, type Payloads } from "./EnqueueMany.ts"

/** When a job is to run: after a delay, or at an instant. One of the two. */
export type When =
  | { readonly delay: Duration.Input; readonly at?: undefined }
  | { readonly at: Instant; readonly delay?: undefined }

/** Why a job couldn't be read. */
export type ReadError =
  | JobRecord.JobNotFound
  | JobRecord.UnreadableRecord
  | InvalidOptions
  | NatsError

/** How long to wait for the end of a job. */
export interface AwaitOptions {
  /** From when the job is stored, or is asked for; default as long as it takes. */
  readonly within?: Duration.Input | undefined
}

/** Why the end of a job isn't known: it can't be read, or has not come in time. */
export type AwaitError = ReadError | JobOutcome.AwaitTimedOut

/** Why there is no result: as {@link AwaitError}, or the job has failed or was cancelled. */
export type OutcomeError = AwaitError | JobOutcome.JobFailed | JobOutcome.JobCancelled

/** The schemas by which a job's result and typed error are read. */
export type OutcomeDecoders<A, E> = Pick<JobRecord.Decoders<unknown, A, E>, "success" | "error">

/** Stores and reads jobs, and waits for their ends. */
export interface Client extends Inspect.Inspect {
  /** Stores a job that is ready to run, and gives its id. */
  readonly enqueue: (
    definition: Definition,
    payload: unknown,
    options?: EnqueueOptions,
  ) => Effect.Effect<JobId, Writer.EnqueueError>
  /** Stores a job, for now or for later, and tells whether it is new. */
  readonly submit: (
    definition: Definition,
    payload: unknown,
    options?: EnqueueOptions & Writer.Timing,
  ) => Effect.Effect<Submitted, Writer.EnqueueError>
  /** Stores a job that becomes ready later. */
  readonly schedule: (
    definition: Definition,
    payload: unknown,
    options: EnqueueOptions & When,
  ) => Effect.Effect<JobId, Writer.EnqueueError>
  /** Stores any number of jobs of one definition in bounded memory. */
  readonly enqueueMany: (
    definition: Definition,
    payloads: EnqueueMany.Payloads<unknown>,
    options?: EnqueueMany.EnqueueManyOptions,
  ) => Effect.Effect<ReadonlyArray<JobId>, Writer.EnqueueError | EnqueueMany.PartlyEnqueued>
  /** Stores a job that follows others: it waits until they have ended as it wants. */
  readonly enqueueAfter: (
    definition: Definition,
    parents: JobId | ReadonlyArray<JobId>,
    payload: unknown,
    options?: JobOptions & Following,
  ) => Effect.Effect<JobId, Writer.EnqueueError | JobRecord.JobNotFound>
  /** Does an operation on one job. */
  readonly operate: (
    id: JobId,
    operation: Operation,
    expected?: Expected,
  ) => Effect.Effect<Answer, Operate.OperateError>
  /**
   * Does an operation on up to 10,000 jobs, each by itself, and gives the answers in the order of the
   * ids. Fails with `InvalidOptions` before anything is changed; after another failure some may be.
   */
  readonly operateAll: (
    ids: ReadonlyArray<JobId>,
    operation: Operation,
    expected?: Expected,
  ) => Effect.Effect<ReadonlyArray<Answer>, Operate.OperateError>
  /**
   * Does an operation on all jobs that match a filter and were there when it was asked for. It is a
   * durable command: it is done even when who asked, or the server that does it, dies. Where no server
   * answers, it is done here.
   *
   * Gives how many jobs it met that match, and how many of them it changed; `dryRun` only counts. When
   * a server died in the midst, up to 400 jobs may be missing in the numbers. Once the command is
   * stored, interrupting the caller doesn't stop it. Fails with `InvalidOptions` before anything is
   * written.
   */
  readonly operateWhere: (
    filter: JobFilter,
    operation: Operation,
    options?: OperateMany.WhereOptions,
  ) => Effect.Effect<OperateMany.Changes, Operate.OperateError>
  /** Batches; `Batch` has them typed. */
  readonly batches: Batches
  /** Workflows; `Flow` has them typed. */
  readonly flows: Flows
  /** Recurring entries; `Recurring` has them typed. */
  readonly recurring: Entries.Entries
  /** Reads a job in any state, without schemas. */
  readonly get: (id: JobId) => Effect.Effect<JobRecord.JobRecord, ReadError>
  /** Reads a job in any state with the schemas of a definition. */
  readonly getWith: <P, A, E>(
    id: JobId,
    decoders: JobRecord.Decoders<P, A, E>,
  ) => Effect.Effect<JobRecord.JobRecord<P, A, E>, ReadError>
  /**
   * Reads what handlers of a job logged, oldest first: empty where its definition keeps no lines, or
   * no job has this id.
   */
  readonly logs: (
    id: JobId,
    options?: Journal.LogsOptions,
  ) => Effect.Effect<Journal.Lines, InvalidOptions | NatsError>
  /** The newest progress of a job; `undefined` when it has said none. */
  readonly progress: (
    id: JobId,
  ) => Effect.Effect<Journal.Progress | undefined, InvalidOptions | NatsError>
  /**
   * What a job has written and what it writes, live: its lines in their order, and each progress that
   * the reader is fast enough for, the last one always. It ends when the job has ended, goes on after
   * an outage of NATS, and fails with `JobNotFound` for a job that isn't there.
   */
  readonly follow: (id: JobId) => Stream.Stream<Journal.Line | Journal.Progress, ReadError>
  /** Waits until a job has ended, however it does, and gives its record without schemas. */
  readonly awaitRecord: (
    id: JobId,
    options?: AwaitOptions,
  ) => Effect.Effect<JobRecord.JobRecord, AwaitError>
  /** Waits until a job has ended and gives its result, or fails as it did. */
  readonly awaitWith: <A, E>(
    id: JobId,
    decoders: OutcomeDecoders<A, E>,
    options?: AwaitOptions,
  ) => Effect.Effect<A, E | OutcomeError>
  /** Stores a job, waits until it has ended and gives its result, or fails as it did. */
  readonly execute: <A, E>(
    definition: Definition,
    decoders: OutcomeDecoders<A, E>,
    payload: unknown,
    options?: EnqueueOptions & AwaitOptions,
  ) => Effect.Effect<A, E | Writer.EnqueueError | OutcomeError>
}

/** What the client can do with batches. */
export interface Batches extends BatchBuilder.Batching {
  /** Reads a batch. */
  readonly get: (
    id: JobId,
  ) => Effect.Effect<BatchRecord.BatchRecord, JobRecord.JobNotFound | InvalidOptions | NatsError>
}

/** What the client can do with workflows. */
export interface Flows {
  /** Stores the jobs of a workflow, as one batch. */
  readonly enqueue: (
    plan: FlowPlan.Plan,
    options: BatchBuilder.BatchOptions,
  ) => Effect.Effect<FlowCompiler.Handle, BatchBuilder.BatchError>
  /** Waits for the end of a workflow and gives its result, or fails as the job that is to blame. */
  readonly await: (
    plan: FlowPlan.Plan,
    handle: FlowCompiler.Handle,
    options?: AwaitOptions,
  ) => Effect.Effect<unknown, unknown>
}

/** The client as a service. */
export const Client: Context.Service<Client, Client> = Context.Service<Client>(
  "portfire/client/Client",
)

const scheduleKeys: ReadonlyArray<string> = [...enqueueOptionKeys, "delay", "at"]
const executeKeys: ReadonlyArray<string> = [...enqueueOptionKeys, "within"]

/** Milliseconds of a time to wait; `undefined` for as long as it takes. */
const withinOf = (
  options: AwaitOptions | undefined,
  keys: ReadonlyArray<string>,
): Effect.Effect<number | undefined, InvalidOptions> => {
  if (options === undefined) return Effect.succeed(undefined)
  const within = checkKeys("options", options, keys) ??
    (options.within === undefined ? undefined : millisOf("within", options.within, maxDelayMillis))
  return within instanceof InvalidOptions ? Effect.fail(within) : Effect.succeed(within)
}

const make = Effect.gen(function* () {
  const wire = yield* Wire.Wire
  const { encryption, subjects } = wire
  const unlocked = (message: Records.JobMessage) => unlock(encryption, message)
  const writer = Writer.make(wire, yield* Writer.Patience)
  const awaiting = yield* Awaiting.make(wire)
  const interception = yield* Interception.Interception
  const store = Store.make(wire, writer, interception)
  const engine = yield* Engine
  const prepare = Prepare.make(wire, writer, interception)

  const operating: Operate.Context = {
    wire,
    engine,
    patience: writer.patience,
    ensureQueue: writer.ensureQueue,
    notify: (view, answer) => interception.notify(Operate.transitionOf(view, answer)),
  }

  const operate: Client["operate"] = Effect.fnUntraced(function* (id, operation, expected) {
    const illegal = checkName("id", id) ??
      (expected === undefined ? undefined : checkKeys("expected", expected, expectedKeys))
    if (illegal !== undefined) return yield* illegal
    return yield* Operate.operate(operating, id, JobView.find(wire, id), operation, expected)
  })

  const enqueue: Client["enqueue"] = (definition, payload, options) =>
    Effect.suspend(() => {
      const unknown = options === undefined
        ? undefined
        : checkKeys("options", options, enqueueOptionKeys)
      return unknown === undefined
        ? store(definition, payload, options, undefined)
        : Effect.fail(unknown)
    })

  const schedule: Client["schedule"] = (definition, payload, options) =>
    Effect.suspend(() => {
      const refused = checkKeys("options", options, scheduleKeys)
      if (refused !== undefined) return Effect.fail(refused)
      if (options.delay === undefined && options.at === undefined) {
        const reason = "schedule needs a delay or an instant (at)"
        return Effect.fail(new InvalidOptions({ field: "delay", value: "undefined", reason }))
      }
      return store(definition, payload, options, options)
    })

  const submit: Client["submit"] = (definition, payload, options = {}) =>
    Effect.suspend(() => {
      const refused = checkKeys("options", options, scheduleKeys)
      if (refused !== undefined) return Effect.fail(refused)
      let submitted: Submitted | undefined
      const tell = (told: Submitted) => void (submitted = told)
      return Effect.map(
        store(definition, payload, options, options, { tell }),
        // A middleware that answers by itself has stored nothing.
        (id) => submitted ?? { id, created: false },
      )
    })

  const getWith: Client["getWith"] = Effect.fnUntraced(function* (id, decoders) {
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    const found = yield* JobView.messagesOf(wire, id)
    if (found.length === 0) return yield* new JobRecord.JobNotFound({ id })
    const message = Records.current(Records.parse(subjects, found))
    if (message === undefined) {
      const reason = "its bytes are no job of a version that this engine reads"
      return yield* new JobRecord.UnreadableRecord({ id, field: "message", reason })
    }
    if (Records.isHidden(message)) return yield* new JobRecord.JobNotFound({ id })
    const record = yield* JobRecord.fromMessage(yield* unlocked(message), decoders)
    if (record.state !== "enqueued") return record
    const running = yield* findRunning(wire, id)
    return running === undefined ? record : { ...record, state: "processing" as const, running }
  })

  const get: Client["get"] = (id) => getWith(id, JobRecord.plainDecoders)

  const ended = Effect.fnUntraced(function* (id: JobId, options: AwaitOptions | undefined) {
    const within = yield* withinOf(options, ["within"])
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    return yield* awaiting.ended(id, within)
  })

  // Without a limit it waits for as long as it takes.
  const journal = JournalReader.make(
    wire,
    (id) => Effect.catchTag(awaiting.ended(id, undefined), "AwaitTimedOut", Effect.die),
  )

  const execute: Client["execute"] = (definition, decoders, payload, options) =>
    Effect.flatMap(withinOf(options, executeKeys), (within) => {
      const { within: _, ...rest } = options ?? {}
      const jobOptions = options === undefined ? undefined : rest
      return Effect.flatMap(
        awaiting.storedAndEnded(
          (before) => store(definition, payload, jobOptions, undefined, { before }),
          within,
        ),
        (message) =>
          Effect.flatMap(unlocked(message), (it) => JobOutcome.fromMessage(it, decoders)),
      )
    })

  const batching = BatchBuilder.make(wire, engine, writer, prepare)
  const flows = FlowCompiler.make(wire, batching, prepare)

  return Client.of({
    ...Inspect.make(wire),
    enqueue,
    submit,
    schedule,
    enqueueMany: EnqueueMany.make(wire, writer, interception),
    enqueueAfter: EnqueueAfter.make(wire, writer, interception, prepare),
    operate,
    ...OperateMany.make(operating, awaiting),
    flows: {
      enqueue: flows.enqueue,
      await: (plan, { result }, options) =>
        Effect.flatMap(ended(result, options), (message) => flows.outcome(plan, message)),
    },
    batches: {
      ...batching,
      get: (id) => BatchRecord.get(wire, id),
    },
    recurring: Entries.make(wire, writer, prepare, engine.entryStep, get),
    get,
    getWith,
    logs: journal.logs,
    progress: journal.progress,
    follow: journal.follow,
    awaitRecord: (id, options) =>
      Effect.flatMap(
        ended(id, options),
        (message) =>
          Effect.flatMap(
            unlocked(message),
            (it) => JobRecord.fromMessage(it, JobRecord.plainDecoders),
          ),
      ),
    awaitWith: (id, decoders, options) =>
      Effect.flatMap(
        ended(id, options),
        (message) =>
          Effect.flatMap(unlocked(message), (it) => JobOutcome.fromMessage(it, decoders)),
      ),
    execute,
  })
})

/** Provides the client on a namespace that is there already. */
export const layerOnWire: Layer.Layer<Client, never, Wire.Wire> = Layer.provide(
  Layer.effect(Client, make),
  Layer.merge(Interception.layer, engineLayer),
)

/** Provides the client; all a process needs that only enqueues and reads. */
export const layer: Layer.Layer<Client, Wire.WireError, Nats> = Layer.provide(
  layerOnWire,
  Wire.layer,
)
