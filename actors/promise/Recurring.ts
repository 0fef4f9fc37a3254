/**
 * Recurring entries: jobs that run by the clock, at the times of a cron expression, at fixed intervals
 * or at given instants. `portfire.recurring` makes, changes and reads them; here is what needs no
 * client.
 *
 * @example
 * ```ts
 * import { connect, job, Recurring } from "@portfire/portfire/promise"
 *
 * const Cleanup = job("cleanup")
 *
 * const portfire = await connect()
 * await portfire.recurring.sync([
 *   Recurring.define("cleanup", { job: Cleanup, schedule: "@hourly", overlap: "skip" }),
 * ])
 * const [tonight] = Recurring.preview({ schedule: "0 3 * * *", timeZone: "Europe/Berlin" })
 * ```
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as ClientService from "../../src/client/Client.ts"
import type * as Entries from "../../src/client/Entries.ts"
import * as EffectRecurring from "../../src/client/Recurring.ts"
import type { JobId } from "../../src/core/JobId.ts"
import type { Definition } from "./Definition.ts"
import { type CallOptions, type Run, split } from "./run.ts"

export type {
  Declaration,
  EntryOptions,
  ListOptions,
  MisfireOption,
  Page,
  PastRun,
  PreviewedTimes,
  PreviewOptions,
  RecurringRecord,
  RecurringRun,
  RecurringState,
  Schedule,
  Synced,
  SyncOptions,
  TimeOptions,
  Upserted,
} from "../../src/client/Recurring.ts"
export { RecurringNotFound } from "../../src/client/Recurring.ts"

/** The payload of each run; it may be left out where it may be undefined. */
type Given<I> = undefined extends I ? { readonly payload?: I } : { readonly payload: I }

/**
 * What an entry is: its job, what each run is given, when it runs, and the options that each run is
 * enqueued with, such as `queue` and `priority`. Only `job`, `schedule`, and the payload of a job that
 * takes one have to be said.
 */
export type Options<I> = EffectRecurring.EntryOptions & Given<NoInfer<I>> & {
  /** The job that each run is. It can't be a unique one. */
  readonly job: Definition<I>
}

type EffectOptions = EffectRecurring.Options<string, unknown, unknown, unknown>

/** Entries use nothing of a job but its definition. */
const effectOptionsOf = <I>(options: Options<I>): EffectOptions =>
  options as unknown as EffectOptions

/** An entry as a value: nothing is checked or stored before it is given to `recurring.sync`. */
export const define = <I>(id: string, options: Options<I>): EffectRecurring.Declaration =>
  EffectRecurring.define(id, effectOptionsOf(options))

/**
 * The next nominal times of a schedule, `count` of them (default 10) or as many as there are. Throws
 * `InvalidOptions` for what no entry could have.
 */
export const preview = (
  options: EffectRecurring.PreviewedTimes,
  how?: EffectRecurring.PreviewOptions,
): ReadonlyArray<Date> => Effect.runSync(EffectRecurring.preview(options, how))

/** Makes, changes and reads recurring entries. */
export interface RecurringEntries {
  /**
   * Makes an entry, or declares it anew; tells what it is now and what was done. What is declared as
   * it was is left as it is. Another payload or option holds from the next run on; another schedule,
   * zone or `from` counts from now on. Its history, a pause and the count of its runs stay.
   *
   * Rejects with `InvalidOptions` or `InvalidPayload`, which name the field, before anything is
   * written.
   */
  upsert<I>(id: string, options: Options<I> & CallOptions): Promise<EffectRecurring.Upserted>
  /**
   * Makes the entries of a program what it declares, as a named set; gives the ids of those that were
   * created, changed, left unchanged and removed. With `removeOthers` entries of this set that aren't
   * declared any more are removed, and never those of others. A paused entry stays paused. All are
   * checked before anything is written.
   */
  sync(
    declarations: ReadonlyArray<EffectRecurring.Declaration>,
    options?: EffectRecurring.SyncOptions & CallOptions,
  ): Promise<EffectRecurring.Synced>
  /** Removes an entry, and tells whether it was there. Jobs that it has made stay. */
  remove(id: string, options?: CallOptions): Promise<boolean>
  /**
   * Makes no runs by the clock until it is resumed; `trigger` still does. Rejects with
   * `RecurringNotFound`, like all that follow, for an entry that isn't there.
   */
  pause(id: string, options?: CallOptions): Promise<EffectRecurring.RecurringRecord>
  /** Makes runs again, of an entry that was paused or is disabled: of times from here on. */
  resume(id: string, options?: CallOptions): Promise<EffectRecurring.RecurringRecord>
  /**
   * Makes one run at once, whatever state the entry is in, and gives the id of its job. It changes
   * neither the next time nor the count that `limit` bounds, and waits for no earlier run.
   */
  trigger(id: string, options?: CallOptions): Promise<JobId>
  /** Reads an entry. */
  get(id: string, options?: CallOptions): Promise<EffectRecurring.RecurringRecord>
  /** One page of the entries, sorted by their ids; `cursor` leads to the next one. */
  list(options?: EffectRecurring.ListOptions & CallOptions): Promise<EffectRecurring.Page>
  /** The last runs, up to 20, newest first, each with its job as it is now. */
  history(id: string, options?: CallOptions): Promise<ReadonlyArray<EffectRecurring.PastRun>>
  /**
   * The next nominal times, `count` of them (1 to 1,000; default 10) or as many as there are. Of an
   * entry that is paused or disabled they are those that it would have if it were resumed now.
   */
  next(id: string, count?: number, options?: CallOptions): Promise<ReadonlyArray<Date>>
}

/** Makes it of whatever runs its effects. */
export const makeRecurring = (run: Run): RecurringEntries => {
  const call = <A>(
    effect: (recurring: Entries.Entries) => Effect.Effect<A, unknown>,
    options: CallOptions | undefined,
  ): Promise<A> => run(ClientService.Client.use(({ recurring }) => effect(recurring)), options)

  return {
    upsert: (id, options) => {
      const [rest, own] = split(options)
      return run(EffectRecurring.upsert(id, effectOptionsOf(rest as typeof options)), own)
    },
    sync: (declarations, options) => {
      const [rest, own] = split(options)
      return call((recurring) => recurring.sync(declarations, rest), own)
    },
    remove: (id, options) => call((recurring) => recurring.remove(id), options),
    pause: (id, options) => call((recurring) => recurring.pause(id), options),
    resume: (id, options) => call((recurring) => recurring.resume(id), options),
    trigger: (id, options) => call((recurring) => recurring.trigger(id), options),
    get: (id, options) => call((recurring) => recurring.get(id), options),
    list: (options) => {
      const [rest, own] = split(options)
      return call((recurring) => recurring.list(rest), own)
    },
    history: (id, options) => call((recurring) => recurring.history(id), options),
    next: (id, count, options) => call((recurring) => recurring.next(id, count), options),
  }
}
