/** How far the clocks of a time zone are from UTC, and when that changes. */
import * as BoundedCache from "./BoundedCache.ts"

/**
 * A stretch of time over which the clocks of a zone keep one offset. All numbers are milliseconds,
 * those of instants since 1970. The wall clock shows `instant + offset`, read as if it were UTC.
 */
export interface Span {
  /** The first instant. */
  readonly start: number
  /** The first instant that is no longer in it. */
  readonly end: number
  /** What the clocks are ahead of UTC. */
  readonly offset: number
  /** The offset until `start`; equal to `offset` where the span begins without a change. */
  readonly before: number
}

/** A time zone of this runtime. */
export interface TimeZone {
  /** The span that holds an instant. Its ends are changes of the offset or days away. */
  readonly spanAt: (instant: number) => Span
}

/**
 * More than clocks ever move at once: zones that cross the date line move by a day. No end of a
 * span that isn't a change is as near as this to the instant asked for.
 */
export const maxShiftMillis: number = 2 * 86_400_000

const secondMillis = 1_000
const blockMillis = 100 * 86_400_000
/** No zone has changed its offset twice within less than 3.9 days. */
const sampleMillis = 2.5 * 86_400_000
const marginMillis = 2 * sampleMillis

/** Offsets are read in hours, minutes and seconds, since those before 1972 have seconds. */
const offsetText = /GMT(?:([+-])(\d{2}):(\d{2})(?::(\d{2}))?)?$/

const offsetOf = (format: Intl.DateTimeFormat, instant: number): number => {
  const [, sign, hours, minutes, seconds] = offsetText.exec(format.format(instant)) ?? []
  const total = Number(hours ?? 0) * 3_600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0)
  return (sign === "-" ? -total : total) * secondMillis
}

/** The instant between two at which the offset is no longer what it was; the change is between. */
const changeBetween = (format: Intl.DateTimeFormat, from: number, to: number): number => {
  const offset = offsetOf(format, from)
  let same = from
  let changed = to
  while (changed - same > secondMillis) {
    const middle = same + Math.floor((changed - same) / (2 * secondMillis)) * secondMillis
    if (offsetOf(format, middle) === offset) same = middle
    else changed = middle
  }
  return changed
}

const spansBetween = (
  format: Intl.DateTimeFormat,
  from: number,
  to: number,
): ReadonlyArray<Span> => {
  const spans: Array<Span> = []
  let start = from
  let offset = offsetOf(format, from)
  let before = offset
  for (let at = from; at < to; at += sampleMillis) {
    const changed = offsetOf(format, at + sampleMillis)
    if (changed === offset) continue
    const end = changeBetween(format, at, at + sampleMillis)
    spans.push({ start, end, offset, before })
    start = end
    before = offset
    offset = changed
  }
  spans.push({ start, end: to, offset, before })
  return spans
}

const open = (name: string): TimeZone | undefined => {
  let format: Intl.DateTimeFormat
  try {
    format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" })
  } catch {
    return undefined
  }
  const blocks = BoundedCache.make(
    100,
    (block: number) =>
      spansBetween(
        format,
        block * blockMillis - marginMillis,
        (block + 1) * blockMillis + marginMillis,
      ),
  )
  return {
    spanAt: (instant) => {
      const spans = blocks.get(Math.floor(instant / blockMillis)) as ReadonlyArray<Span>
      return spans.find((span) => instant < span.end) as Span
    },
  }
}

/** Offsets such as `+02:00` begin with a sign; not every runtime takes them for a zone. */
const zoneName = /^[A-Za-z][A-Za-z0-9_+/-]*$/

const known = BoundedCache.make(500, open)

/** The time zone of a name of the IANA database, `undefined` where this runtime knows none. */
export const find = (name: string): TimeZone | undefined =>
  zoneName.test(name) ? known.get(name) : undefined
