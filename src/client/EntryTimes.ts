/** Nominal times that are yet to come. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Entry from "../core/Entry.ts"
import { InvalidOptions } from "../core/errors.ts"
import { checkKeys, show } from "../core/Names.ts"
import * as Recurrence from "../core/Recurrence.ts"
import { type Instant, instantOf } from "../core/Time.ts"
import { checkLimit, timeKeys, type TimeOptions, type Times, timesOf } from "./RecurringOptions.ts"

/** What is to be previewed. */
export interface PreviewedTimes extends TimeOptions {
  /** How many runs there will be; default no limit. */
  readonly limit?: number | undefined
}

/** How far to look. */
export interface PreviewOptions {
  /** How many times, 1 to 1,000; default 10. */
  readonly count?: number | undefined
  /** The instant after which they lie; default now. */
  readonly after?: Instant | undefined
}

const maxCount = 1_000
const defaultCount = 10

const checkCount = (count: unknown): InvalidOptions | undefined =>
  Number.isInteger(count) && Number(count) >= 1 && Number(count) <= maxCount
    ? undefined
    : new InvalidOptions({
      field: "count",
      value: show(count),
      reason: `it is a whole number of times from 1 to ${maxCount}`,
    })

/**
 * The first times after an instant in ms since 1970, at most `count`. Throws `InvalidOptions` for a
 * schedule that this runtime can't follow.
 */
export const timesAfter = (
  { from, recurrence, until = Number.POSITIVE_INFINITY }: Times,
  after: number,
  count: number,
): ReadonlyArray<number> => {
  const times: Array<number> = []
  let last = from === undefined ? after : Math.max(after, from - 1)
  while (times.length < count) {
    const next = Recurrence.next(recurrence, last)
    if (next === undefined || next > until) break
    times.push(next)
    last = next
  }
  return times
}

const datesOf = (
  times: Times,
  after: number,
  count: number,
): Effect.Effect<ReadonlyArray<Date>, InvalidOptions> =>
  Effect.try({
    try: () => timesAfter(times, after, count).map((time) => new Date(time)),
    catch: (error) => error as InvalidOptions,
  })

/**
 * The next nominal times of a schedule, `count` of them or as many as there are; needs no client. Fails
 * with `InvalidOptions` for what no entry could have.
 *
 * @example
 * ```ts
 * import { Recurring } from "@portfire/portfire"
 *
 * const program = Recurring.preview({ schedule: "0 9 * * MON-FRI", timeZone: "Europe/Berlin" }, {
 *   count: 3,
 *   after: "2030-01-31T09:00:00Z",
 * })
 * ```
 */
export const preview: (
  options: PreviewedTimes,
  how?: PreviewOptions,
) => Effect.Effect<ReadonlyArray<Date>, InvalidOptions> = Effect.fnUntraced(
  function* (options, how = {}) {
    const unknown = checkKeys("options", options, [...timeKeys, "limit"]) ??
      checkKeys("preview", how, ["count", "after"])
    if (unknown !== undefined) return yield* unknown
    const { count = defaultCount } = how
    const refused = checkLimit(options.limit) ?? checkCount(count)
    if (refused !== undefined) return yield* refused
    const times = timesOf(options)
    if (times instanceof InvalidOptions) return yield* times
    const after = how.after === undefined
      ? yield* Clock.currentTimeMillis
      : instantOf("after", how.after)
    if (after instanceof InvalidOptions) return yield* after
    return yield* datesOf(times, after, Math.min(count, options.limit ?? count))
  },
)

/** The next times of an entry at an instant, in ms since 1970; of one that is still as if it weren't. */
export const upcoming = (
  plan: Entry.Plan,
  { cursor, runs }: Entry.State,
  now: number,
  count: number = defaultCount,
): Effect.Effect<ReadonlyArray<Date>, InvalidOptions> =>
  Effect.suspend(() => {
    const refused = checkCount(count)
    if (refused !== undefined) return Effect.fail(refused)
    const left = plan.limit === undefined ? count : Math.max(0, plan.limit - runs)
    return datesOf(
      plan,
      Math.max(cursor, now),
      Math.min(count, left),
    )
  })
