/** A recurring entry as it can be read at any time: what it is, and where it stands. */
import * as Data from "effect/Data"
import * as Entry from "../core/Entry.ts"
import * as EntryTick from "../core/EntryTick.ts"
import type { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import * as Priority from "../core/Priority.ts"
import type { Recurrence } from "../core/Recurrence.ts"
import { plainOf } from "./JobRecord.ts"

/**
 * `active`: it runs when its time comes. `paused`: somebody paused it. `finished`: there is no next
 * time. `failing`: it could not be seen to and is tried again. `disabled`: it failed too often; a new
 * declaration, or resuming it, lets it begin again.
 */
export type RecurringState = "active" | "paused" | "finished" | "failing" | "disabled"

/** One run of an entry. */
export interface RecurringRun {
  /** Id of the job. */
  readonly id: JobId
  /** Its nominal time; of a run by hand when it was asked for. */
  readonly at: Date
  /** Whether somebody asked for it, who isn't the clock. */
  readonly byHand: boolean
}

/** What is known of an entry. */
export interface RecurringRecord {
  /** Id of the entry, as its author chose it. */
  readonly id: string
  /** See {@link RecurringState}. */
  readonly state: RecurringState
  /** Counts its changes. */
  readonly revision: number
  /** The next nominal time; absent while none is to come. */
  readonly next?: Date | undefined
  /** Name of the job's definition. */
  readonly job: string
  /** What each run is given, in plain form. */
  readonly payload: unknown
  /** Queue of its runs. */
  readonly queue: string
  /** Priority of its runs. */
  readonly priority: Priority.Priority
  /** When it is due: a cron expression, an interval in milliseconds, or instants. */
  readonly schedule:
    | string
    | { readonly every: number; readonly offset: number }
    | { readonly at: ReadonlyArray<Date> }
  /** Zone of the cron expression. */
  readonly timeZone?: string | undefined
  /** What becomes of missed times; tolerances in milliseconds. */
  readonly misfire: Entry.Misfire
  /** What becomes of times at which an earlier run hasn't ended. */
  readonly overlap: Entry.Overlap
  /** How much later than its nominal time a run starts at most, in milliseconds. */
  readonly jitter: number
  /** No nominal time before it. */
  readonly from?: Date | undefined
  /** No nominal time after it. */
  readonly until?: Date | undefined
  /** How many runs the clock makes at most. */
  readonly limit?: number | undefined
  /** The declared set that it belongs to. */
  readonly set?: string | undefined
  /** What people are told about it. */
  readonly description?: string | undefined
  /** How many runs the clock has made. */
  readonly runs: number
  /** The last run. */
  readonly last?: RecurringRun | undefined
  /** Nominal times at which no run was made: how many, when last, and why. */
  readonly skipped?:
    | { readonly count: number; readonly at: Date; readonly reason: Entry.Skipped["reason"] }
    | undefined
  /** Why it fails, when it did last, and how often in a row. */
  readonly error?:
    | { readonly message: string; readonly at: Date; readonly tries: number }
    | undefined
  /** Since when it is paused. */
  readonly paused?: Date | undefined
  /** When it was made, or last declared otherwise. */
  readonly changed: Date
}

/** There is no recurring entry with this id. */
export class RecurringNotFound extends Data.Error<{
  /** The id that was asked for. */
  readonly id: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "RecurringNotFound"
  /** Name in stack traces. */
  override readonly name = "RecurringNotFound"
  /** One sentence a person can act on. */
  override get message(): string {
    return `there is no recurring entry ${JSON.stringify(this.id)}; Recurring.list shows all`
  }
}

const dateOf = (millis: number | undefined): Date | undefined =>
  millis === undefined ? undefined : new Date(millis)

const scheduleOf = (recurrence: Recurrence): RecurringRecord["schedule"] => {
  switch (recurrence._tag) {
    case "Cron":
      return recurrence.pattern
    case "Every":
      return { every: recurrence.millis, offset: recurrence.anchor }
    case "At":
      return { at: recurrence.instants.map((instant) => new Date(instant)) }
  }
}

const runOf = ({ at, byHand, id }: Entry.Run): RecurringRun => ({ id, at: new Date(at), byHand })

/** The last runs, the newest one first; those that are asked for are among them. */
export const runsOf = ({ asked, history }: Entry.State): ReadonlyArray<RecurringRun> =>
  [...history, ...asked].reverse().map(runOf)

/** The next nominal time, or why this runtime can't tell it. */
const nextOf = (plan: Entry.Plan, state: Entry.State): number | undefined | InvalidOptions => {
  try {
    return EntryTick.nextTime(plan, state)
  } catch (error) {
    return error as InvalidOptions
  }
}

const stateWith = (
  state: Entry.State,
  next: () => ReturnType<typeof nextOf>,
): RecurringState => {
  if (Entry.isDisabled(state)) return "disabled"
  if (state.paused !== undefined) return "paused"
  if (state.trouble !== undefined) return "failing"
  const time = next()
  return typeof time === "object" ? "failing" : time === undefined ? "finished" : "active"
}

/** The state alone, without the work that the rest takes. */
export const stateOf = (plan: Entry.Plan, state: Entry.State): RecurringState =>
  stateWith(state, () => nextOf(plan, state))

/** Builds the record. */
export const fromParts = (plan: Entry.Plan, state: Entry.State): RecurringRecord => {
  const { job, recurrence } = plan
  const { paused, skipped, trouble } = state
  const next = nextOf(plan, state)
  return {
    id: plan.id,
    state: stateWith(state, () => next),
    revision: state.revision,
    next: typeof next === "number" ? new Date(next) : undefined,
    job: job.name,
    payload: plainOf(job.payload),
    queue: job.queue,
    priority: Priority.fromLane(job.lane),
    schedule: scheduleOf(recurrence),
    timeZone: recurrence._tag === "Cron" ? recurrence.zone : undefined,
    misfire: plan.misfire,
    overlap: plan.overlap,
    jitter: plan.jitter,
    from: dateOf(plan.from),
    until: dateOf(plan.until),
    limit: plan.limit,
    set: plan.set,
    description: plan.description,
    runs: state.runs,
    last: runsOf(state)[0],
    skipped: skipped && { ...skipped, at: new Date(skipped.at) },
    error: trouble === undefined
      ? typeof next === "object"
        ? { message: next.message, at: new Date(state.changed), tries: 0 }
        : undefined
      : { ...trouble, at: new Date(trouble.at) },
    paused: dateOf(paused),
    changed: new Date(state.changed),
  }
}
