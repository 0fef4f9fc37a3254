/**
 * Recurring entries: jobs that run by the clock, at the times of a cron expression, at fixed intervals
 * or at given instants. They are kept on JetStream, and so are their alarms: no server is their
 * leader, none polls, and any server does what is due.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import type { JobId } from "../core/JobId.ts"
import { Client } from "./Client.ts"
import type { EntryError, Upserted } from "./Entries.ts"
import type { Job } from "./Job.ts"
import type { EntryOptions } from "./RecurringOptions.ts"
import type { RecurringRecord } from "./RecurringRecord.ts"
import type { EnqueueError } from "./Writer.ts"

export type { EntryError, Upserted } from "./Entries.ts"
export type { EntryOptions, MisfireOption, Schedule, TimeOptions } from "./RecurringOptions.ts"
export {
  RecurringNotFound,
  type RecurringRecord,
  type RecurringRun,
  type RecurringState,
} from "./RecurringRecord.ts"

/** The payload of each run; a job that takes nothing is given nothing. */
type Given<P> = [P] extends [void] ? { readonly payload?: P } : { readonly payload: P }

/** What an entry is: its job, what that is given, and when it runs. */
export type Options<Name extends string, P, A, E> = EntryOptions & Given<P> & {
  /** The job that each run is. */
  readonly job: Job<Name, P, A, E>
}

/** Makes an entry, or declares it anew. */
export const upsert = <Name extends string, P, A, E>(
  id: string,
  options: Options<Name, P, A, E>,
): Effect.Effect<Upserted, EnqueueError, Client> =>
  Effect.flatMap(
    Client,
    ({ recurring }) =>
      recurring.upsert(id, { payload: undefined, ...options, job: options.job.definition }),
  )

/** Removes an entry, and tells whether it was there. */
export const remove = (id: string): Effect.Effect<boolean, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.remove(id))

/** Makes no runs from here on. */
export const pause = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.pause(id))

/** Makes runs again, of times from here on. */
export const resume = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.resume(id))

/** Makes one run at once, and gives the id of its job. */
export const trigger = (id: string): Effect.Effect<JobId, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.trigger(id))

/** Reads an entry. */
export const get = (id: string): Effect.Effect<RecurringRecord, EntryError, Client> =>
  Effect.flatMap(Client, ({ recurring }) => recurring.get(id))
