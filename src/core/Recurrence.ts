/** When a recurring entry is due. */
import { InvalidOptions } from "./errors.ts"
import { maxDelayMillis, maxInstantMillis } from "./Limits.ts"
import { show } from "./Names.ts"
import * as RecurrenceCron from "./RecurrenceCron.ts"
import * as TimeZone from "./TimeZone.ts"

/** When an entry is due, as it is stored. Instants are milliseconds since 1970. */
export type Recurrence =
  /** At the times that a cron pattern of 5 or 6 fields, or a nickname, names in a time zone. */
  | { readonly _tag: "Cron"; readonly pattern: string; readonly zone: string }
  /** At `anchor`, and every `millis` milliseconds after it. */
  | { readonly _tag: "Every"; readonly millis: number; readonly anchor: number }
  /** At each of these instants, which ascend. */
  | { readonly _tag: "At"; readonly instants: ReadonlyArray<number> }

/** Shortest interval of an entry, in milliseconds: cron has whole seconds too. */
const minIntervalMillis = 1_000

/** Most instants of one entry: they are stored with it. */
const maxInstants = 1_000

/** Nothing is due before it: as far before 1970 as the last instant is after it. */
const earliest = -maxInstantMillis

const refuse = (value: unknown, reason: string, field = "schedule"): InvalidOptions =>
  new InvalidOptions({ field, value: show(value), reason })

const isInstant = (value: unknown): boolean =>
  Number.isInteger(value) && Math.abs(value as number) < maxInstantMillis

const howInstant = "an instant is whole milliseconds since 1970, before 2262"

interface ZonedCron {
  readonly cron: RecurrenceCron.CronPattern
  readonly zone: TimeZone.TimeZone
}

const readCron = (recurrence: Recurrence & { _tag: "Cron" }): ZonedCron | InvalidOptions => {
  const cron = RecurrenceCron.parse(recurrence.pattern)
  if (cron instanceof InvalidOptions) return cron
  const zone = typeof recurrence.zone === "string" ? TimeZone.find(recurrence.zone) : undefined
  return zone === undefined
    ? refuse(
      recurrence.zone,
      'this runtime knows no such time zone; use a name such as "Europe/Berlin" or "UTC"',
      "timeZone",
    )
    : { cron, zone }
}

const checkEvery = ({ anchor, millis }: Recurrence & { _tag: "Every" }) =>
  !(Number.isInteger(millis) && millis >= minIntervalMillis && millis <= maxDelayMillis)
    ? refuse(millis, "an interval is whole milliseconds, from a second to a hundred years")
    : isInstant(anchor)
    ? undefined
    : refuse(anchor, `an interval begins at an instant: ${howInstant}`)

const checkAt = ({ instants }: Recurrence & { _tag: "At" }) => {
  if (!Array.isArray(instants)) return refuse(instants, "a list of instants is expected")
  if (instants.length < 1 || instants.length > maxInstants) {
    return refuse(`${instants.length} instants`, `a list has 1 to ${maxInstants} instants`)
  }
  for (const [index, instant] of instants.entries()) {
    if (!isInstant(instant)) return refuse(instant, howInstant)
    if (index > 0 && instant <= instants[index - 1]) {
      return refuse(instant, "instants ascend, and none stands twice: sort them")
    }
  }
  return undefined
}

/**
 * Refuses what can't be when an entry is due. The error names the field: `schedule`, or `timeZone`
 * for a zone this runtime doesn't know.
 */
export const check = (recurrence: Recurrence): InvalidOptions | undefined => {
  switch (recurrence?._tag) {
    case "Cron": {
      const read = readCron(recurrence)
      return read instanceof InvalidOptions ? read : undefined
    }
    case "Every":
      return checkEvery(recurrence)
    case "At":
      return checkAt(recurrence)
    default:
      return refuse(recurrence, "a schedule is a cron pattern, an interval or a list of instants")
  }
}

const orThrow = <A>(value: A | InvalidOptions): A => {
  if (value instanceof InvalidOptions) throw value
  return value
}

/**
 * The first time of the wall clock that counts for a span. Those a spring gap leaves out count for
 * the span after it; those an overlap repeats count once for fixed times.
 */
const firstWall = (span: TimeZone.Span, fixed: boolean): number =>
  span.start + (fixed ? span.before : Math.min(span.before, span.offset))

/** The first instant from `from` on. */
const cronFrom = ({ cron, zone }: ZonedCron, from: number): number | undefined => {
  let first = from
  while (first < maxInstantMillis) {
    const span = zone.spanAt(first)
    const counted = firstWall(span, cron.fixed)
    const wall = cron.atOrAfter(
      first === span.start ? counted : Math.max(first + span.offset, counted),
    )
    if (wall === undefined) return undefined
    const instant = Math.max(wall - span.offset, span.start)
    if (instant < span.end) return instant
    // A change of the clocks after this span can bring back only what is near its end
    first = span.end - first < TimeZone.maxShiftMillis
      ? span.end
      : Math.max(span.end, instant - TimeZone.maxShiftMillis)
  }
  return undefined
}

/** The last instant until `until`, if it is after `after`. */
const cronUntil = (
  { cron, zone }: ZonedCron,
  until: number,
  after: number,
): number | undefined => {
  let last = until
  while (last > after) {
    const span = zone.spanAt(last)
    const wall = cron.atOrBefore(last + span.offset)
    if (wall === undefined) return undefined
    const instant = wall - span.offset
    if (wall >= firstWall(span, cron.fixed)) {
      const due = Math.max(instant, span.start)
      return due > after ? due : undefined
    }
    last = last - span.start < TimeZone.maxShiftMillis
      ? span.start - 1
      : Math.min(span.start - 1, instant + TimeZone.maxShiftMillis)
  }
  return undefined
}

/** The number of the last tick until `until`, counted from the anchor. */
const lastTick = ({ anchor, millis }: Recurrence & { _tag: "Every" }, until: number): number =>
  Math.floor((until - anchor) / millis)

const unboundedNext = (recurrence: Recurrence, after: number): number | undefined => {
  switch (recurrence._tag) {
    case "Cron":
      return cronFrom(orThrow(readCron(recurrence)), after + 1)
    case "Every":
      return recurrence.anchor +
        Math.max(0, lastTick(recurrence, after) + 1) * recurrence.millis
    case "At":
      return recurrence.instants.find((instant) => instant > after)
  }
}

const orThrowChecked = (recurrence: Recurrence): void => {
  const refused = check(recurrence)
  if (refused !== undefined) throw refused
}

/**
 * The first instant after `after`, in milliseconds since 1970; `undefined` when there is none before
 * 2262. Throws `InvalidOptions` for what {@link check} refuses.
 */
export const next = (recurrence: Recurrence, after: number): number | undefined => {
  orThrowChecked(recurrence)
  if (!(after < maxInstantMillis)) return undefined
  const found = unboundedNext(recurrence, Math.max(Math.floor(after), earliest))
  return found !== undefined && found < maxInstantMillis ? found : undefined
}

const latestCron = (
  cron: ZonedCron,
  after: number,
  until: number,
  max: number,
): ReadonlyArray<number> => {
  const found: Array<number> = []
  let last: number | undefined = until
  while (found.length < max) {
    last = cronUntil(cron, last, after)
    if (last === undefined) break
    found.push(last)
    last -= 1
  }
  return found.reverse()
}

const latestEvery = (
  every: Recurrence & { _tag: "Every" },
  after: number,
  until: number,
  max: number,
): ReadonlyArray<number> => {
  const end = lastTick(every, until) + 1
  const start = Math.max(0, lastTick(every, after) + 1, end - max)
  return Array.from(
    { length: Math.max(0, end - start) },
    (_, index) => every.anchor + (start + index) * every.millis,
  )
}

/**
 * The last `max` instants that are after `after` and not after `until`, ascending. It works back
 * from `until`, so it costs what is found, however many there are. Throws like {@link next}.
 */
export const latest = (
  recurrence: Recurrence,
  after: number,
  until: number,
  max: number,
): ReadonlyArray<number> => {
  orThrowChecked(recurrence)
  const from = Math.max(Math.floor(after), earliest)
  const to = Math.min(Math.floor(until), maxInstantMillis - 1)
  if (!(from < to && max >= 1)) return []
  switch (recurrence._tag) {
    case "Cron":
      return latestCron(orThrow(readCron(recurrence)), from, to, max)
    case "Every":
      return latestEvery(recurrence, from, to, max)
    case "At":
      return recurrence.instants.filter((instant) => instant > from && instant <= to).slice(-max)
  }
}
