/**
 * What is due of a recurring entry, and when it is due next. Pure: the same entry, state and clock
 * give the same, whoever asks. Throws `InvalidOptions` for a schedule that this runtime can't follow.
 */
import * as Entry from "./Entry.ts"
import { hash32 } from "./JobId.ts"
import * as Recurrence from "./Recurrence.ts"

/** Runs of one entry that are caught up with at once, where each missed one is to run. */
export const maxCaughtUp = 1_000

/** Time in ms after which an entry in trouble is tried again. */
export const troubleMillis = 15_000

/** What is due. */
export interface Due {
  /** Nominal times that get a run each, in their order, unless an earlier run forbids it. */
  readonly times: ReadonlyArray<number>
  /** Whether some were missed and don't get one. */
  readonly missed: boolean
  /** Up to where all has been seen to, then. */
  readonly cursor: number
}

/** The instant after which the next nominal time lies. */
const startOf = ({ from }: Entry.Plan, { cursor }: Entry.State): number =>
  from === undefined ? cursor : Math.max(cursor, from - 1)

/** How many more runs the entry may have. */
const leftOf = ({ limit }: Entry.Plan, { runs }: Entry.State): number =>
  limit === undefined ? Number.POSITIVE_INFINITY : Math.max(0, limit - runs)

/** Whether the clock makes no run of it, whatever time it is. */
const isStill = (state: Entry.State): boolean =>
  state.paused !== undefined || state.removed !== undefined || Entry.isDisabled(state)

/** The next nominal time; `undefined` when there is none, or none while it stands as it does. */
export const nextTime = (plan: Entry.Plan, state: Entry.State): number | undefined => {
  if (isStill(state) || leftOf(plan, state) === 0) return undefined
  const next = Recurrence.next(plan.recurrence, startOf(plan, state))
  return next === undefined || next > (plan.until ?? Number.POSITIVE_INFINITY) ? undefined : next
}

/** The nominal times after `first` that runs are made for, by the rule for missed ones. */
const timesOf = (
  { misfire, recurrence }: Entry.Plan,
  oldest: number,
  end: number,
  now: number,
): { readonly times: ReadonlyArray<number>; readonly missed: boolean } => {
  const latest = (after: number, most: number) => Recurrence.latest(recurrence, after, end, most)
  switch (misfire.policy) {
    case "once":
      return now - oldest > misfire.tolerance
        ? { times: latest(oldest - 1, 1), missed: latest(oldest, 1).length > 0 }
        : { times: latest(oldest - 1, maxCaughtUp), missed: false }
    case "all": {
      const times = latest(oldest - 1, misfire.cap)
      return { times, missed: times[0] !== oldest }
    }
    case "skip": {
      const tooLate = now - misfire.tolerance
      const times = latest(Math.max(oldest, tooLate) - 1, maxCaughtUp)
      return { times, missed: times[0] !== oldest }
    }
  }
}

/** What is due at an instant, in ms since 1970. */
export const due = (plan: Entry.Plan, state: Entry.State, now: number): Due => {
  const oldest = nextTime(plan, state)
  const cursor = Math.max(state.cursor, now)
  if (oldest === undefined || oldest > now) return { times: [], missed: false, cursor }
  const end = Math.min(now, plan.until ?? now)
  const { missed, times } = timesOf(plan, oldest, end, now)
  return { times: times.slice(0, leftOf(plan, state)), missed, cursor }
}

/**
 * When the run for a nominal time is to start: put off by a share of the jitter that differs from run
 * to run and from entry to entry.
 */
export const startOfRun = ({ id, jitter }: Entry.Plan, at: number): number =>
  jitter === 0 ? at : at + Math.floor(hash32(`${id}\n${at}`) / 0x1_0000_0000 * jitter)

/** When a server has to look at the entry again, in ms since 1970; `undefined` for never. */
export const nextLook = (
  plan: Entry.Plan,
  state: Entry.State,
  now: number,
): number | undefined => {
  if (state.removed !== undefined) return now + troubleMillis
  if (state.asked.length > 0) return now
  if (state.trouble !== undefined && !isStill(state)) return now + troubleMillis
  return nextTime(plan, state)
}
