/**
 * Recurring entries: jobs that run by the clock, at the times of a cron expression, at fixed intervals
 * or at given instants. They are kept on JetStream, and so are their alarms: no server is their
 * leader, none polls, and any server does what is due.
 *
 * Guarantee: each nominal time leads to one job, or to none where the entry says so; whoever dies when.
 * The job itself runs at least once, like any.
 *
 * @example
 * ```ts
 * import { Job, Recurring } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * const Report = Job.make("report", { payload: Schema.Struct({ team: Schema.String }) })
 *
 * const program = Effect.gen(function* () {
 *   const { entry } = yield* Recurring.upsert("weekly-report", {
 *     job: Report,
 *     payload: { team: "sales" },
 *     schedule: "0 9 * * MON",
 *     timeZone: "Europe/Berlin",
 *   })
 *   console.log("runs next at", entry.next)
 *   yield* Recurring.trigger("weekly-report")
 * })
 * ```
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { NatsError } from "../nats/errors.ts"
import { Client } from "./Client.ts"
import type { PastRun } from "./Entries.ts"
import type { Declared, Upserted } from "./EntryDeclare.ts"
import type { EntryError } from "./EntryFind.ts"
import type { RecurringListOptions, RecurringPage } from "./EntryList.ts"
import type { Declaration, Synced, SyncOptions } from "./EntrySync.ts"
import type { Job } from "./Job.ts"
import type { EntryOptions } from "./RecurringOptions.ts"
import type { RecurringRecord } from "./RecurringRecord.ts"
import type { EnqueueError } from "./Writer.ts"

export type { PastRun } from "./Entries.ts"
export type { Upserted } from "./EntryDeclare.ts"
export type { EntryError } from "./EntryFind.ts"
export type { RecurringListOptions as ListOptions, RecurringPage as Page } from "./EntryList.ts"
export type { Declaration, Synced, SyncOptions } from "./EntrySync.ts"
export { preview, type PreviewedTimes, type PreviewOptions } from "./EntryTimes.ts"
export type { EntryOptions, MisfireOption, Schedule, TimeOptions } from "./RecurringOptions.ts"
export {
  RecurringNotFound,
  type RecurringRecord,
  type RecurringRun,
  type RecurringState,
} from "./RecurringRecord.ts"

/** The payload of each run; a job that takes nothing is given nothing. */
type Given<P> = [P] extends [void] ? { readonly payload?: P } : { readonly payload: P }

/**
 * What an entry is: its job, what each run is given, when it runs, and the options that each run is
 * enqueued with, such as `queue` and `priority`. Only `job`, `schedule`, and the payload of a job that
 * takes one have to be said.
 */
export type Options<Name extends string, P, A, E> = EntryOptions & Given<P> & {
  /** The job that each run is. It can't be a unique one. */
  readonly job: Job<Name, P, A, E>
}

/** The options as the engine takes them; what is no job is left for it to refuse. */
const declaredOf = <Name extends string, P, A, E>(
  options: Options<Name, P, A, E>,
): Declared => {
  const job: Partial<Job<Name, P, A, E>> | undefined = options?.job
  return { payload: undefined, ...options, job: job?.definition ?? job as never }
}

/**
 * Makes an entry, or declares it anew; tells what it is now and what was done.
 *
 * What is declared as it was is left as it is, and nothing is written. Another payload or option holds
 * from the next run on. Another schedule, zone or `from` counts from now on: nothing is caught up with.
 * In any case its history, a pause, and the count of its runs stay. An entry that is disabled begins
 * again.
 *
 * Fails with `InvalidOptions` or `InvalidPayload`, which name the field, before anything is written:
 * for a zone that this runtime doesn't know, a cron expression that no date fits, times that have all
 * passed, a unique job, an unknown option.
 *
 * @example
 * ```ts
 * import { Job, Recurring } from "@portfire/portfire"
 *
 * const Cleanup = Job.make("cleanup")
 *
 * const program = Recurring.upsert("cleanup", {
 *   job: Cleanup,
 *   schedule: { every: "10 minutes" },
 *   overlap: "skip",
 *   queue: "maintenance",
 * })
 * ```
 */
export const upsert = <Name extends string, P, A, E>(
  id: string,
  options: Options<Name, P, A, E>,
): Effect.Effect<Upserted, EnqueueError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.upsert(id, declaredOf(options)))

/**
 * An entry as a value: nothing is checked or stored before it is given to {@link sync} or
 * {@link layer}.
 */
export const define = <Name extends string, P, A, E>(
  id: string,
  options: Options<Name, P, A, E>,
): Declaration => ({ id, declared: declaredOf(options) })

/**
 * Makes the entries of a program what it declares: those that are new are made, those that are
 * declared otherwise are changed, and nothing is written for the others. Gives the ids of each.
 *
 * The declarations make up a set, `default` unless it is named. With `removeOthers` entries of this
 * set that aren't declared any more are removed; those of other sets, and those that were made by
 * {@link upsert}, never are. An entry that somebody paused stays paused.
 *
 * All declarations are checked before anything is written; the error names the one that is refused.
 * After another failure some may be stored: to sync again is safe. Unlike with `upsert` an entry whose
 * times have all passed isn't refused: it is `finished`.
 *
 * @example
 * ```ts
 * import { Job, Recurring } from "@portfire/portfire"
 *
 * const Cleanup = Job.make("cleanup")
 * const Digest = Job.make("digest")
 *
 * const program = Recurring.sync([
 *   Recurring.define("cleanup", { job: Cleanup, schedule: "@hourly" }),
 *   Recurring.define("digest", { job: Digest, schedule: "0 7 * * *", timeZone: "Asia/Tokyo" }),
 * ], { removeOthers: true })
 * ```
 */
export const sync = (
  declarations: ReadonlyArray<Declaration>,
  options?: SyncOptions,
): Effect.Effect<Synced, EnqueueError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.sync(declarations, options))

/**
 * {@link sync} as a layer, for use beside that of a server: it syncs when it is built, and building
 * fails as the sync does.
 *
 * @example
 * ```ts
 * import { Job, Nats, Recurring, runMain, Server } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * const Cleanup = Job.make("cleanup")
 * const CleanupLive = Cleanup.toLayer(() => Effect.log("cleaning up"))
 *
 * const live = Recurring.layer([
 *   Recurring.define("cleanup", { job: Cleanup, schedule: "@hourly" }),
 * ]).pipe(
 *   Layer.provideMerge(Server.layer({ queues: { default: 20 } })),
 *   Layer.provide(CleanupLive),
 *   Layer.provide(Nats.layer({ servers: "nats.example.org" })),
 * )
 *
 * runMain(live)
 * ```
 */
export const layer = (
  declarations: ReadonlyArray<Declaration>,
  options?: SyncOptions,
): Layer.Layer<never, EnqueueError, Client> => Layer.effectDiscard(sync(declarations, options))

/**
 * Removes an entry, and tells whether it was there. Jobs that it has made stay; runs by hand that
 * aren't stored yet are dropped.
 */
export const remove = (id: string): Effect.Effect<boolean, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.remove(id))

/**
 * Makes no runs by the clock from here on, until it is resumed; {@link trigger} still does. Jobs that
 * it has made stay. Fails with `RecurringNotFound` for an entry that isn't there.
 */
export const pause = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.pause(id))

/**
 * Makes runs again, of an entry that was paused or that is disabled: of times from here on, none of
 * those that have passed meanwhile. Fails with `RecurringNotFound` for an entry that isn't there.
 */
export const resume = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.resume(id))

/**
 * Makes one run at once, whatever state the entry is in, and gives the id of its job. It changes
 * neither the next time nor the count that `limit` bounds, and waits for no earlier run. Once it
 * succeeds the run is durable, and one job will come of it.
 *
 * Fails with `RecurringNotFound` for an entry that isn't there, and with `InvalidOptions` while 100
 * such runs wait to be stored.
 */
export const trigger = (id: string): Effect.Effect<JobId, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.trigger(id))

/** Reads an entry. Fails with `RecurringNotFound` for one that isn't there. */
export const get = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.get(id))

/**
 * One page of the entries, sorted by their ids; `cursor` leads to the next one. None that is there
 * throughout is left out or shown twice, also while entries run. Every page goes through all entries
 * of the namespace and keeps no more than its own in memory.
 *
 * @example
 * ```ts
 * import { Recurring } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 *
 * const program = Effect.gen(function* () {
 *   const { cursor, entries } = yield* Recurring.list({ state: "failing", limit: 20 })
 *   for (const { error, id } of entries) console.log(id, error?.message)
 *   return cursor === undefined ? undefined : yield* Recurring.list({ state: "failing", cursor })
 * })
 * ```
 */
export const list = (
  options?: RecurringListOptions,
): Effect.Effect<RecurringPage, InvalidOptions | NatsError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.list(options))

/**
 * The last runs of an entry, up to 20, newest first, each with its job as it is now. Fails with
 * `RecurringNotFound` for an entry that isn't there.
 */
export const history = (id: string): Effect.Effect<ReadonlyArray<PastRun>, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.history(id))

/**
 * The next nominal times of an entry, `count` of them (1 to 1,000; default 10) or as many as there
 * are: they respect `from`, `until` and what is left of `limit`. Of an entry that is paused or
 * disabled they are those that it would have if it were resumed now.
 *
 * Fails with `RecurringNotFound` for an entry that isn't there, with `InvalidOptions` for a schedule
 * that this runtime can't follow.
 */
export const next = (
  id: string,
  count?: number,
): Effect.Effect<ReadonlyArray<Date>, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.next(id, count))
