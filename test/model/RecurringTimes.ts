/** What is declared of an entry, and its nominal times, found by trying every second. */

/** When an entry is due. */
export type When =
  | { readonly kind: "every"; readonly millis: number; readonly offset: number }
  /** Seconds of the minute, and minutes of the hour, in a zone; no minutes for all. */
  | {
    readonly kind: "cron"
    readonly seconds: ReadonlyArray<number>
    readonly minutes?: ReadonlyArray<number> | undefined
    readonly zone: string
  }
  | { readonly kind: "at"; readonly instants: ReadonlyArray<number> }

/** What is declared. */
export interface Spec {
  /** Tells this declaration from all others. */
  readonly n: number
  readonly when: When
  readonly from?: number | undefined
  readonly until?: number | undefined
  readonly limit?: number | undefined
  readonly misfire:
    | { readonly policy: "once"; readonly tolerance: number }
    | { readonly policy: "all"; readonly cap: number }
    | { readonly policy: "skip"; readonly tolerance: number }
  readonly overlap: "allow" | "skip" | "queueOne"
  readonly jitter: number
  readonly queue: string
  readonly steps: ReadonlyArray<string>
  /** How long its first attempt takes. */
  readonly millis: number
}

const formats = new Map<string, Intl.DateTimeFormat>()
const minuteCache = new Map<string, number>()

/** The minute of the hour in a zone. */
export const minuteOf = (zone: string, at: number): number => {
  const key = `${zone} ${Math.floor(at / 60_000)}`
  const known = minuteCache.get(key)
  if (known !== undefined) return known
  const format = formats.get(zone) ??
    new Intl.DateTimeFormat("en-US", { timeZone: zone, minute: "numeric" })
  formats.set(zone, format)
  const minute = Number(format.format(at))
  minuteCache.set(key, minute)
  return minute
}

/** Whether an instant is a nominal time, whatever was declared beside the schedule. */
const isTime = (when: When, at: number): boolean => {
  switch (when.kind) {
    case "every":
      return at >= when.offset && (at - when.offset) % when.millis === 0
    case "cron":
      return at % 1_000 === 0 && when.seconds.includes(at / 1_000 % 60) &&
        (when.minutes === undefined || when.minutes.includes(minuteOf(when.zone, at)))
    case "at":
      return when.instants.includes(at)
  }
}

const isWithin = ({ from, until }: Spec, at: number): boolean =>
  (from === undefined || at >= from) && (until === undefined || at <= until)

/** Whether an instant is a nominal time of what is declared. */
export const isNominal = (spec: Spec, at: number): boolean =>
  isTime(spec.when, at) && isWithin(spec, at)

/** The nominal times after `after` and not after `end`. */
export const timesBetween = (spec: Spec, after: number, end: number): ReadonlyArray<number> => {
  const { when } = spec
  const found: Array<number> = []
  const look = (at: number) => {
    if (at > after && at <= end && isNominal(spec, at)) found.push(at)
  }
  if (when.kind === "at") when.instants.forEach(look)
  else if (when.kind === "every") {
    const { millis, offset } = when
    let at = offset + Math.floor((after - offset) / millis) * millis
    for (; at <= end; at += millis) look(at)
  } else for (let at = Math.floor(after / 1_000) * 1_000; at <= end; at += 1_000) look(at)
  return found
}

/** How far ahead the next nominal time is looked for: two hours, in which each minute comes round. */
const farthest = 7_200_000

/** The first nominal time after an instant. */
export const nextAfter = (spec: Spec, after: number): number | undefined => {
  const start = Math.max(after, (spec.from ?? 0) - 1)
  const last = Math.min(spec.until ?? Number.POSITIVE_INFINITY, start + farthest)
  for (let from = start; from < last; from += 60_000) {
    const [first] = timesBetween(spec, from, Math.min(last, from + 60_000))
    if (first !== undefined) return first
  }
  return undefined
}

/** Whether two declarations have the same nominal times, but for their ends. */
export const sameWhen = (one: Spec, other: Spec): boolean =>
  one.from === other.from && JSON.stringify(one.when) === JSON.stringify(other.when)
