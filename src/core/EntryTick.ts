/**
 * What is due of a recurring entry, and when it is due next. Pure: the same entry, state and clock
 * give the same, whoever asks. Throws `InvalidOptions` for a schedule that this runtime can't follow.
 */
import * as Entry from "./Entry.ts"
import { hash32 } from "./JobId.ts"
import * as Recurrence from "./Recurrence.ts"

/** Runs of one entry that are caught up with at once, where each missed one is to run. */
export const maxCaughtUp = 1_000

/**
 * Time in ms after which an entry in trouble is tried again, and for which one that was removed stays
 * as a marker: half of what a job may stand still for.
 */
export const pauseMillis = (alarmMillis: number): number => Math.ceil(alarmMillis / 2)

/** What is late by at most as much, in ms, isn't missed: an alarm never comes on the dot. */
const neverTooLate = 5_000

/** What is due. */
export interface Due {
  /** Nominal times that get a run each, in their order, unless an earlier run forbids it. */
  readonly times: ReadonlyArray<number>
  /** The last one that was missed and doesn't get one. */
  readonly missed: number | undefined
  /** How many runs there may still be. */
  readonly left: number
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
): Pick<Due, "times" | "missed"> => {
  const last = (from: number, most: number): Pick<Due, "times" | "missed"> => {
    const times = Recurrence.latest(recurrence, from - 1, end, Math.min(most, maxCaughtUp))
    const [first = end + 1] = times
    if (first === oldest) return { times, missed: undefined }
    return { times, missed: Recurrence.latest(recurrence, oldest - 1, first - 1, 1)[0] }
  }
  switch (misfire.policy) {
    case "once":
      return last(oldest, now - oldest > misfire.tolerance ? 1 : maxCaughtUp)
    case "all":
      return last(oldest, misfire.cap)
    case "skip":
      return last(
        Math.max(oldest, now - Math.max(neverTooLate, misfire.tolerance)),
        maxCaughtUp,
      )
  }
}

/** What is due at an instant, in ms since 1970. */
export const due = (plan: Entry.Plan, state: Entry.State, now: number): Due => {
  const oldest = nextTime(plan, state)
  const left = leftOf(plan, state)
  if (oldest === undefined || oldest > now) {
    return { times: [], missed: undefined, left, cursor: state.cursor }
  }
  const end = Math.min(now, plan.until ?? now)
  return { ...timesOf(plan, oldest, end, now), left, cursor: now }
}

/**
 * When the run for a nominal time is to start: put off by a share of the jitter that differs from run
 * to run and from entry to entry.
 */
export const startOfRun = ({ id, jitter }: Entry.Plan, at: number): number =>
  jitter === 0 ? at : at + Math.floor(hash32(`${id}\n${at}`) / 0x1_0000_0000 * jitter)

/**
 * When a server has to look at the entry again, in ms since 1970; `undefined` for never. `pause` is
 * {@link pauseMillis}.
 */
export const nextLook = (
  plan: Entry.Plan,
  state: Entry.State,
  now: number,
  pause: number,
): number | undefined => {
  if (state.removed !== undefined) return now + pause
  if (Entry.isDisabled(state)) return undefined
  // Before what was asked for, which may be what it is in trouble with.
  if (state.trouble !== undefined) return now + pause
  return state.asked.length > 0 ? now : nextTime(plan, state)
}
