/** What is said of a recurring entry, checked and made into its plan before anything is written. */
import type * as Duration from "effect/Duration"
import type * as Entry from "../core/Entry.ts"
import { InvalidOptions } from "../core/errors.ts"
import { maxCaughtUp } from "../core/EntryTick.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import * as Recurrence from "../core/Recurrence.ts"
import { type Instant, instantOf, millisOf } from "../core/Time.ts"
import { jobOptionKeys, type JobOptions } from "./Definition.ts"

/**
 * When an entry is due: a cron expression of five or six fields or a nickname like `@daily`; a fixed
 * interval, counted from 1970 so that every ten minutes means :00, :10 and so on, plus `offset`; or up
 * to 1,000 instants.
 */
export type Schedule =
  | string
  | { readonly every: Duration.Input; readonly offset?: Duration.Input | undefined }
  | { readonly at: ReadonlyArray<Instant> }

/** What becomes of missed times; see `Misfire` of the same names for their details. */
export type MisfireOption =
  | "once"
  | "all"
  | "skip"
  | { readonly policy: "once"; readonly tolerance?: Duration.Input | undefined }
  | { readonly policy: "all"; readonly cap?: number | undefined }
  | { readonly policy: "skip"; readonly tolerance?: Duration.Input | undefined }

/** When an entry is due, and by which rules. */
export interface TimeOptions {
  /** When it is due. */
  readonly schedule: Schedule
  /** IANA name of the zone in which a cron expression is meant; default `UTC`. */
  readonly timeZone?: string | undefined
  /** No nominal time before this instant. */
  readonly from?: Instant | undefined
  /** No nominal time after this instant. */
  readonly until?: Instant | undefined
}

/** What is said of an entry, beside its job. */
export interface EntryOptions extends TimeOptions, JobOptions {
  /**
   * What becomes of times that nobody could see to: `once` (default) makes one run of all of them,
   * for the last one, `all` one of each, at most 100, `skip` none of those that are more than a
   * minute late. What is at most five seconds late isn't missed with `once` and never with `skip`.
   */
  readonly misfire?: MisfireOption | undefined
  /**
   * What becomes of a time at which an earlier run hasn't ended: `allow` (default) lets both run,
   * `skip` makes no run, `queueOne` makes one that waits for it.
   */
  readonly overlap?: Entry.Overlap | undefined
  /** Each run starts up to this much later than its nominal time; default not at all. */
  readonly jitter?: Duration.Input | undefined
  /** How many runs there will be; default no limit. */
  readonly limit?: number | undefined
  /** For people, up to 1,000 characters. */
  readonly description?: string | undefined
}

/** Names of the options that say when an entry is due. */
export const timeKeys: ReadonlyArray<string> = ["schedule", "timeZone", "from", "until"]

/** Names of all options, those of the job included. */
export const entryKeys: ReadonlyArray<string> = [
  ...timeKeys,
  ...jobOptionKeys,
  "job",
  "payload",
  "misfire",
  "overlap",
  "jitter",
  "limit",
  "description",
]

const refuse = (field: string, value: unknown, reason: string) =>
  new InvalidOptions({ field, value: show(value), reason })

const maxIdLength = 200
const maxDescription = 1_000

/** Checks the id of an entry. */
export const checkEntryId = (id: unknown): InvalidOptions | undefined =>
  // deno-lint-ignore no-control-regex
  typeof id === "string" && /^[^\u0000-\u001f\u007f]+$/.test(id) && id.length <= maxIdLength &&
    id.trim() === id && id.isWellFormed()
    ? undefined
    : refuse("id", id, `an entry's id is a text of 1 to ${maxIdLength} characters on one line`)

const recurrenceOf = (
  { schedule, timeZone }: TimeOptions,
): Recurrence.Recurrence | InvalidOptions => {
  const made = ((): Recurrence.Recurrence | InvalidOptions => {
    if (typeof schedule === "string") {
      return {
        _tag: "Cron",
        pattern: schedule.trim(),
        zone: timeZone === undefined ? "UTC" : timeZone,
      }
    }
    const isObject = typeof schedule === "object" && schedule !== null
    if (isObject && timeZone !== undefined) {
      return refuse("timeZone", timeZone, "only a cron expression is meant in a time zone")
    }
    if (isObject && "every" in schedule) {
      const unknown = checkKeys("schedule", schedule, ["every", "offset"])
      if (unknown !== undefined) return unknown
      const millis = millisOf("schedule.every", schedule.every, maxDelayMillis)
      if (typeof millis !== "number") return millis
      const offset = schedule.offset === undefined ? 0 : millisOf(
        "schedule.offset",
        schedule.offset,
        maxDelayMillis,
      )
      return typeof offset === "number" ? { _tag: "Every", millis, anchor: offset } : offset
    }
    if (isObject && "at" in schedule) {
      const unknown = checkKeys("schedule", schedule, ["at"])
      if (unknown !== undefined) return unknown
      if (!Array.isArray(schedule.at)) {
        return refuse("schedule.at", schedule.at, "a list of instants is expected")
      }
      const instants = new Set<number>()
      for (const [index, instant] of schedule.at.entries()) {
        const millis = instantOf(`schedule.at[${index}]`, instant)
        if (typeof millis !== "number") return millis
        instants.add(Math.ceil(millis))
      }
      return { _tag: "At", instants: [...instants].sort((a, b) => a - b) }
    }
    return refuse(
      "schedule",
      schedule,
      'it is a cron expression like "0 9 * * 1-5", { every: "10 minutes" } or { at: [instants] }',
    )
  })()
  return made instanceof InvalidOptions ? made : Recurrence.check(made) ?? made
}

interface Bounds {
  readonly from?: number | undefined
  readonly until?: number | undefined
}

const boundsOf = (
  options: TimeOptions,
): Bounds | InvalidOptions => {
  const from = options.from === undefined ? undefined : instantOf("from", options.from)
  if (from instanceof InvalidOptions) return from
  const until = options.until === undefined ? undefined : instantOf("until", options.until)
  if (until instanceof InvalidOptions) return until
  return from !== undefined && until !== undefined && until < from
    ? refuse("until", new Date(until).toISOString(), "it lies before `from`")
    : { from, until }
}

const defaultTolerance = { once: "5 seconds", skip: "1 minute" } as const
const defaultCap = 100

const misfireOf = (option: MisfireOption = "once"): Entry.Misfire | InvalidOptions => {
  const said: unknown = typeof option === "string" ? { policy: option } : option
  const reason = "it is once, all or skip, or one of them with its details: " +
    '{ policy: "all", cap: 100 } or { policy: "skip", tolerance: "1 minute" }'
  if (typeof said !== "object" || said === null) return refuse("misfire", option, reason)
  const { cap = defaultCap, policy, tolerance } = said as {
    readonly policy?: unknown
    readonly cap?: unknown
    readonly tolerance?: Duration.Input
  }
  if (policy === "all") {
    const unknown = checkKeys("misfire", said, ["policy", "cap"])
    if (unknown !== undefined) return unknown
    return Number.isInteger(cap) && Number(cap) >= 1 && Number(cap) <= maxCaughtUp
      ? { policy, cap: Number(cap) }
      : refuse("misfire.cap", cap, `it is a whole number from 1 to ${maxCaughtUp}`)
  }
  if (policy !== "once" && policy !== "skip") return refuse("misfire", policy, reason)
  const unknown = checkKeys("misfire", said, ["policy", "tolerance"])
  if (unknown !== undefined) return unknown
  const millis = millisOf(
    "misfire.tolerance",
    tolerance ?? defaultTolerance[policy],
    maxDelayMillis,
  )
  return typeof millis === "number" ? { policy, tolerance: Math.ceil(millis) } : millis
}

/** Checks how many runs there are to be. */
export const checkLimit = (limit: unknown): InvalidOptions | undefined =>
  limit === undefined || (Number.isSafeInteger(limit) && Number(limit) >= 1)
    ? undefined
    : refuse("limit", limit, "it is a whole number of runs, 1 or more")

/** The times of an entry, checked. */
export interface Times extends Bounds {
  readonly recurrence: Recurrence.Recurrence
}

/** Checks when an entry is due. */
export const timesOf = (options: TimeOptions): Times | InvalidOptions => {
  const recurrence = recurrenceOf(options)
  if (recurrence instanceof InvalidOptions) return recurrence
  const bounds = boundsOf(options)
  return bounds instanceof InvalidOptions ? bounds : { recurrence, ...bounds }
}

/** The plan of an entry, of which only its job is missing. */
export const planOf = (
  id: string,
  options: EntryOptions,
  set: string | undefined,
): Omit<Entry.Plan, "job"> | InvalidOptions => {
  const unknown = checkEntryId(id) ?? checkKeys("options", options, entryKeys) ??
    (set === undefined ? undefined : checkName("set", set))
  if (unknown !== undefined) return unknown
  const times = timesOf(options)
  if (times instanceof InvalidOptions) return times
  const misfire = misfireOf(options.misfire)
  if (misfire instanceof InvalidOptions) return misfire
  const { description, limit, overlap = "allow" } = options
  if (overlap !== "allow" && overlap !== "skip" && overlap !== "queueOne") {
    return refuse("overlap", overlap, "it is allow, skip or queueOne")
  }
  const jitter = options.jitter === undefined ? 0 : millisOf(
    "jitter",
    options.jitter,
    maxDelayMillis,
  )
  if (typeof jitter !== "number") return jitter
  // Of a cron expression the shortest distance isn't known, nor is it always meant.
  if (times.recurrence._tag === "Every" && jitter > times.recurrence.millis) {
    const reason = "it is longer than the interval, so runs would overtake each other"
    return refuse("jitter", options.jitter, reason)
  }
  const badLimit = checkLimit(limit)
  if (badLimit !== undefined) return badLimit
  if (
    description !== undefined &&
    !(typeof description === "string" && description.length <= maxDescription)
  ) {
    return refuse(
      "description",
      description,
      `it is a text of at most ${maxDescription} characters`,
    )
  }
  return { id, ...times, misfire, overlap, jitter: Math.ceil(jitter), limit, set, description }
}
