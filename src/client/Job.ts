/**
 * Job definitions: the name, the schemas and the defaults of one kind of work.
 *
 * A definition is data. Whoever has it can enqueue; who also has a handler for it, made with
 * `toLayer`, can run it. Delivery is at least once: a handler may run again after its server died, so
 * it should be idempotent; the outcome that counts is written once.
 *
 * @example
 * ```ts
 * import { Job, Retry } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * const SendWelcome = Job.make("mail/welcome", {
 *   payload: Schema.Struct({ to: Schema.String }),
 *   success: Schema.Struct({ messageId: Schema.String }),
 *   queue: "mail",
 *   retry: Retry.exponential({ attempts: 5 }),
 *   timeout: "30 seconds",
 * })
 *
 * const SendWelcomeLive = SendWelcome.toLayer(({ to }) =>
 *   Effect.succeed({ messageId: `welcome-${to}` })
 * )
 *
 * const program = SendWelcome.enqueue({ to: "ada@example.org" })
 * ```
 *
 * @module
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { AnySchema, Codec } from "../core/Codec.ts"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { ProgressInput } from "../core/Journal.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import type * as Retry from "../core/Retry.ts"
import { Discard, Snooze } from "../core/Signal.ts"
import { millisOf } from "../core/Time.ts"
import {
  type AwaitOptions,
  Client,
  type EnqueueError,
  type OutcomeError,
  type ReadError,
  type Submitted,
  type When,
} from "./Client.ts"
import { CurrentJob } from "./CurrentJob.ts"
import * as Definition from "./Definition.ts"
import type { EnqueueManyOptions, PartlyEnqueued, Payloads } from "./EnqueueMany.ts"
import { makeKey, type RegisteredHandler } from "./Handler.ts"
import { checkMiddleware } from "./Interception.ts"
import type { Following } from "./Continuations.ts"
import { type JobNotFound, type JobRecord, UnreadableRecord } from "./JobRecord.ts"
import type { parentResult, parentResults } from "./Prepare.ts"
import type { LogOptions } from "./LogOptions.ts"
import type { UniqueJobs } from "./Identity.ts"
import type { Middleware } from "./Middleware.ts"
import type { Migrations } from "./Versions.ts"
import type { Timing } from "./Writer.ts"

export { CurrentJob } from "./CurrentJob.ts"
export type { Following } from "./Continuations.ts"
export { parentResult, parentResults } from "./Prepare.ts"
export type {
  IdentityOptions,
  OnConflict,
  UniqueJob,
  UniqueJobs,
  UniqueRules,
  Until,
} from "./Identity.ts"
export type { Migration, Migrations } from "./Versions.ts"

/** Identifies the handler of a job name among a server's services. */
export interface Handler<out Name extends string> {
  /** Never there at run time. */
  readonly handlerOf: Name
}

/** A job definition. */
export interface Job<in out Name extends string, in out P, in out A, in out E> {
  /** Name, the same on every server and client. */
  readonly name: Name
  /** What the engine knows of it. */
  readonly definition: Definition.Definition
  /**
   * Stores a job and gives its id. When it succeeds, the job is on JetStream. Fails with
   * `InvalidPayload`, `PayloadTooLarge` or `InvalidOptions` before anything is written.
   *
   * With a chosen `id` or a `unique` key the id may be that of a job that was there before.
   */
  readonly enqueue: (
    payload: P,
    options?: Definition.EnqueueOptions,
  ) => Effect.Effect<JobId, EnqueueError, Client>
  /**
   * Stores a job, now or after a delay or at an instant, and tells beside its id whether it is new:
   * `created` is false when a job with the chosen `id`, or with the `unique` key, was there before.
   */
  readonly submit: (
    payload: P,
    options?: Definition.EnqueueOptions & Timing,
  ) => Effect.Effect<Submitted, EnqueueError, Client>
  /**
   * Stores a job that becomes ready after a delay or at an instant, by the NATS server's clock and
   * up to a quarter of a second late. A time that has passed means now.
   */
  readonly schedule: (
    payload: P,
    options: Definition.EnqueueOptions & When,
  ) => Effect.Effect<JobId, EnqueueError, Client>
  /**
   * Stores many jobs and gives their ids, in bounded memory apart from these. Payloads are checked
   * in pages of up to 1,000 before a page is stored; after a failure `PartlyEnqueued` lists what is.
   */
  readonly enqueueMany: (
    payloads: Payloads<P>,
    options?: EnqueueManyOptions,
  ) => Effect.Effect<ReadonlyArray<JobId>, EnqueueError | PartlyEnqueued, Client>
  /**
   * Stores a job, waits for its end and gives its result. Fails with the handler's typed error when
   * the job has failed with it; else with `JobFailed`, `JobCancelled`, or, when it has not ended
   * `within` that time of being stored, `AwaitTimedOut`. Interrupting it leaves the job alone.
   */
  readonly execute: (
    payload: P,
    options?: Definition.EnqueueOptions & AwaitOptions,
  ) => Effect.Effect<A, E | EnqueueError | OutcomeError, Client>
  /**
   * Waits for the end of a job of this definition, which may have ended before, and gives what
   * {@link Job.execute} does; `JobNotFound` when there is none, or not any more.
   */
  readonly await: (
    id: JobId,
    options?: AwaitOptions,
  ) => Effect.Effect<A, E | OutcomeError, Client>
  /**
   * Stores a job that follows others, and gives its id: it waits until its parents have ended as it
   * wants (`on`, default `succeeded`; `need` all of them, or any), which may have happened before.
   * One whose wish can't come true any more is cancelled. {@link parentResult} in place of a payload
   * gives it what its parent has given. Fails with `JobNotFound` for a parent that isn't there.
   */
  readonly enqueueAfter: (
    parents: JobId | ReadonlyArray<JobId>,
    payload: P | typeof parentResult | typeof parentResults,
    options?: Definition.JobOptions & Following,
  ) => Effect.Effect<JobId, EnqueueError | JobNotFound, Client>
  /**
   * In the handler of a job that follows jobs of this definition: what they have given, of those that
   * succeeded, in the order in which they were named. Dies with `UnreadableRecord` when one of them
   * is of another definition.
   */
  readonly parentResults: Effect.Effect<ReadonlyArray<A>, never, CurrentJob>
  /** Reads one job of this definition, in any state, with all its attempts. */
  readonly get: (id: JobId) => Effect.Effect<JobRecord<P, A, E>, ReadError, Client>
  /**
   * Binds a handler. Its services become requirements of the layer; `Job.current`, the client and a
   * scope that ends with the attempt are there without.
   *
   * Throws `InvalidOptions` for a definition with `isolation`, which `Isolated.layer` binds.
   */
  readonly toLayer: <R = never>(
    handler: (payload: P) => Effect.Effect<A, E, R>,
  ) => Layer.Layer<Handler<Name>, never, Exclude<R, CurrentJob | Client | Scope.Scope>>
}

/** Options of a definition. */
export interface Options<P extends AnySchema, A extends AnySchema, E extends AnySchema>
  extends Omit<Definition.JobOptions, "retry"> {
  /** Schema of what the job is given; default nothing. */
  readonly payload?: P | undefined
  /** Schema of the handler's result; default nothing. */
  readonly success?: A | undefined
  /** Schema of the handler's typed errors; default none. */
  readonly error?: E | undefined
  /** What happens after a failed attempt; default 10 attempts over about four and a half hours. */
  readonly retry?: Retry.Policy<E["Type"]> | undefined
  /** How long records of its ended jobs are kept; default that of the servers. */
  readonly retention?: Definition.Retention | undefined
  /** Middleware around its jobs, outermost first, inside of the global one; default none. */
  readonly middleware?: ReadonlyArray<Middleware> | undefined
  /**
   * Whether what handlers log with `Effect.log` is also kept with the job, for `Client.logs` and
   * `Client.follow`; default no.
   */
  readonly logs?: boolean | LogOptions | undefined
  /** Version of the payload's schema, a whole number from 1; default 1. */
  readonly version?: number | undefined
  /**
   * How a payload of an older version, in plain form, becomes one of the next: a function, or one that
   * gives an Effect, for each version it starts from. Below the lowest one no payload can be read.
   */
  readonly migrations?: Migrations | undefined
  /**
   * Runs its handler outside of the server's event loop, in a thread or in a process of its own: it
   * is bound with `Isolated.layer` then. Default no.
   */
  readonly isolation?: Definition.Isolation | undefined
  /** Makes its jobs unique: while one of them holds a key, no other with this key is stored. */
  readonly unique?: UniqueJobs<P["Type"]> | undefined
}

const optionKeys: ReadonlyArray<string> = [
  ...Definition.jobOptionKeys,
  "payload",
  "success",
  "error",
  "retention",
  "middleware",
  "logs",
  "version",
  "migrations",
  "isolation",
  "unique",
]

/** In the event loop such a handler could hold up all others, which its definition rules out. */
const refuseIsolated = ({ isolation, name }: Definition.Definition): void => {
  if (isolation === undefined) return
  throw new InvalidOptions({
    field: "isolation",
    value: show(isolation),
    reason: `the handler of the job ${name} runs in a ${isolation} of its own, so it can't be ` +
      "bound here: call Isolated.serve with it in a module, and bind that with Isolated.layer " +
      "(with promises: serveIsolated, and isolated of the job)",
  })
}

/**
 * Makes a definition.
 *
 * Throws `InvalidOptions`, which names the field, for an illegal name, queue or option: a mistake in
 * the program itself, found when it starts.
 */
export const make = <
  const Name extends string,
  P extends AnySchema = Schema.Void,
  A extends AnySchema = Schema.Void,
  E extends AnySchema = Schema.Never,
>(
  name: Name,
  options: Options<P, A, E> = {},
): Job<Name, P["Type"], A["Type"], E["Type"]> => {
  const unknown = checkKeys("options", options, optionKeys) ??
    checkMiddleware(options.middleware)
  if (unknown !== undefined) throw unknown
  const {
    error = Schema.Never,
    payload = Schema.Void,
    retry,
    success = Schema.Void,
    ...rest
  } = options
  const definition = Definition.define(name, { payload, success, error }, {
    ...rest,
    retry: retry as Retry.Policy<never> | undefined,
  })
  const decoders = definition as {
    readonly payload: Codec<P["Type"]>
    readonly success: Codec<A["Type"]>
    readonly error: Codec<E["Type"]>
  }
  return {
    name,
    definition,
    enqueue: (payload, options) =>
      Effect.flatMap(Client, (client) => client.enqueue(definition, payload, options)),
    submit: (payload, options) =>
      Effect.flatMap(Client, (client) => client.submit(definition, payload, options)),
    schedule: (payload, options) =>
      Effect.flatMap(Client, (client) => client.schedule(definition, payload, options)),
    enqueueMany: (payloads, options) =>
      Effect.flatMap(Client, (client) => client.enqueueMany(definition, payloads, options)),
    execute: (payload, options) =>
      Effect.flatMap(Client, (client) => client.execute(definition, decoders, payload, options)),
    await: (id, options) =>
      Effect.flatMap(Client, (client) => client.awaitWith(id, decoders, options)),
    enqueueAfter: (parents, payload, options) =>
      Effect.flatMap(
        Client,
        (client) => client.enqueueAfter(definition, parents, payload, options),
      ),
    parentResults: Effect.flatMap(CurrentJob, ({ parents }) =>
      Effect.orDie(Effect.forEach(
        parents.flatMap(({ id, outcome }) =>
          outcome?.result === undefined ? [] : [{ id, bytes: outcome.result }]
        ),
        ({ bytes, id }) =>
          Effect.mapError(
            decoders.success.decode(bytes),
            ({ path, reason }) => new UnreadableRecord({ id, field: `result${path}`, reason }),
          ),
      ))),
    get: (id) => Effect.flatMap(Client, (client) => client.getWith(id, decoders)),
    toLayer: <R>(handler: (payload: P["Type"]) => Effect.Effect<A["Type"], E["Type"], R>) => {
      refuseIsolated(definition)
      return Layer.effect(
        makeKey<Handler<Name>>(name),
        Effect.map(
          Effect.context<Exclude<R, CurrentJob | Client | Scope.Scope>>(),
          (context): RegisteredHandler => ({
            definition,
            context,
            run: handler as RegisteredHandler["run"],
          }),
        ),
      )
    },
  }
}

/** The job that the current handler runs for. */
export const current: Effect.Effect<CurrentJob, never, CurrentJob> = CurrentJob

/**
 * Says how far the current job is, for `Client.progress` and `Client.follow`: a fraction from 0 to 1,
 * or how many parts are done of how many.
 *
 * It never waits and never fails. At most four a second are sent per attempt; the last one always
 * is, also when the attempt ends right after it. Values out of range count as the nearest one in
 * range, and what is no number as unknown.
 *
 * @example
 * ```ts
 * import { Job } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 *
 * const copy = (files: ReadonlyArray<string>) =>
 *   Effect.forEach(files, (note, done) => Job.progress({ done, total: files.length, note }))
 * ```
 */
export const progress = (value: ProgressInput): Effect.Effect<void, never, CurrentJob> =>
  Effect.map(CurrentJob, (job) => job.report(value))

/**
 * Ends the attempt and the job: it is never tried again and is recorded as failed for this reason,
 * whatever its retry policy says.
 */
export const discard = (reason: string): Effect.Effect<never> => Effect.die(new Discard(reason))

/**
 * Ends the attempt without counting it: the job runs again after the delay. Dies with
 * `InvalidOptions` when the delay is negative, not finite or longer than a hundred years.
 */
export const snooze = (delay: Duration.Input): Effect.Effect<never> =>
  Effect.suspend(() => {
    const millis = millisOf("delay", delay, maxDelayMillis)
    return Effect.die(millis instanceof InvalidOptions ? millis : new Snooze(millis))
  })
