/** Delays and instants as callers give them, checked and turned into milliseconds. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { InvalidOptions } from "./errors.ts"
import { maxInstantMillis } from "./Limits.ts"
import { show } from "./Names.ts"

/** An instant: a `Date`, an ISO 8601 text with an offset, or milliseconds since 1970. */
export type Instant = Date | string | number

const refuse = (field: string, value: unknown, reason: string): InvalidOptions =>
  new InvalidOptions({ field, value: show(value), reason })

/** Milliseconds of a duration; negative, NaN, infinite and malformed ones are refused. */
export const millisOf = (field: string, input: Duration.Input): number | InvalidOptions => {
  if (typeof input === "number" && !(Number.isFinite(input) && input >= 0)) {
    return refuse(field, input, "a duration in milliseconds is finite and not negative")
  }
  const millis = Option.match(Duration.fromInput(input), {
    onNone: () => Number.NaN,
    onSome: Duration.toMillis,
  })
  return Number.isFinite(millis) && millis >= 0 ? millis : refuse(
    field,
    input,
    'a duration is not negative and finite, like 500, "2 seconds" or "1 hour"',
  )
}

const isoWithOffset = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})$/

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
    ? Date.parse(input)
    : Number.NaN
  if (!Number.isFinite(millis)) return refuse(field, input, "it is not an instant")
  return millis < maxInstantMillis
    ? millis
    : refuse(field, input, "the NATS server keeps no schedule after 2262-01-01")
}

/** An instant as the server's schedules want it: RFC 3339 in UTC with milliseconds. */
export const rfc3339 = (millis: number): string => new Date(Math.ceil(millis)).toISOString()
