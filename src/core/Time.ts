/** Delays and instants as callers give them, checked and turned into milliseconds. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { InvalidOptions } from "./errors.ts"
import { maxInstantMillis } from "./Limits.ts"
import { show } from "./Names.ts"

/** An instant: a `Date`, an ISO 8601 text with an offset, or milliseconds since 1970. */
export type Instant = Date | string | number

const units: ReadonlyArray<string> = [
  "weeks",
  "days",
  "hours",
  "minutes",
  "seconds",
  "milliseconds",
  "microseconds",
  "nanoseconds",
]

/** Whether a pair or an object says a duration; Effect takes what it doesn't know for zero. */
const isSaid = (input: object): boolean => {
  if (Duration.isDuration(input)) return true
  if (Array.isArray(input)) return input.every(Number.isFinite)
  const parts = units.map((unit) => (input as Readonly<Record<string, unknown>>)[unit])
    .filter((part) => part !== undefined)
  return parts.length > 0 && parts.every(Number.isFinite) &&
    Object.keys(input).every((key) => units.includes(key))
}

const refuse = (field: string, value: unknown, reason: string): InvalidOptions =>
  new InvalidOptions({ field, value: show(value), reason })

/**
 * Milliseconds of a duration; negative, NaN, infinite and malformed ones are refused, and those
 * longer than `max`.
 */
export const millisOf = (
  field: string,
  input: Duration.Input,
  max: number = Number.MAX_VALUE,
): number | InvalidOptions => {
  if (typeof input === "number" && !(Number.isFinite(input) && input >= 0)) {
    return refuse(field, input, "a duration in milliseconds is finite and not negative")
  }
  const millis = typeof input === "object" && input !== null && !isSaid(input)
    ? Number.NaN
    : Option.match(Duration.fromInput(input), {
      onNone: () => Number.NaN,
      onSome: Duration.toMillis,
    })
  if (!(Number.isFinite(millis) && millis >= 0)) {
    return refuse(
      field,
      input,
      'a duration is not negative and finite, like 500, "2 seconds" or "1 hour"',
    )
  }
  return millis <= max ? millis : refuse(field, input, "it is longer than a hundred years")
}

const isoWithOffset = /^(\d{4})-(\d{2})-(\d{2})T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})$/

/** Milliseconds of an ISO text; `Date.parse` alone takes February 31st for March 3rd. */
const parseIso = (text: string): number => {
  const [, year, month, day] = isoWithOffset.exec(text) ?? []
  const date = new Date(`${year}-${month}-01T00:00:00Z`)
  date.setUTCDate(Number(day))
  return date.getUTCDate() === Number(day) ? Date.parse(text) : Number.NaN
}

/** The furthest from 1970 that a `Date` can be, in milliseconds. */
const lastDate = 8.64e15

/** Milliseconds since 1970 of an instant; what isn't one, or lies too far ahead, is refused. */
export const instantOf = (field: string, input: Instant): number | InvalidOptions => {
  if (typeof input === "string" && !isoWithOffset.test(input)) {
    return refuse(
      field,
      input,
      'an instant as text is ISO 8601 with an offset, like "2030-01-31T09:00:00Z"',
    )
  }
  const millis = typeof input === "number"
    ? input
    : input instanceof Date
    ? input.getTime()
    : typeof input === "string"
    ? parseIso(input)
    : Number.NaN
  if (!(Math.abs(millis) <= lastDate)) return refuse(field, input, "it is not an instant")
  return millis < maxInstantMillis
    ? millis
    : refuse(field, input, "the NATS server keeps no schedule after 2262-01-01")
}

/** An instant as the server's schedules want it: RFC 3339 in UTC with milliseconds. */
export const rfc3339 = (millis: number): string => new Date(Math.ceil(millis)).toISOString()
