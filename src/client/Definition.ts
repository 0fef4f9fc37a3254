/** What the engine knows of a job definition, and what a caller may override for one job. */
import type * as Duration from "effect/Duration"
import * as Codec from "../core/Codec.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import { hash32 } from "../core/JobId.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkJobName, checkKeys, checkName, show } from "../core/Names.ts"
import * as Priority from "../core/Priority.ts"
import * as Retry from "../core/Retry.ts"
import { millisOf } from "../core/Time.ts"

/** How long records of ended jobs are kept. Failed ones stay until they are deleted. */
export interface Retention {
  /** Age; default 24 hours. */
  readonly age?: Duration.Input | undefined
  /** Most records; default 100,000. */
  readonly count?: number | undefined
}

/** A retention with its values checked. */
export interface ResolvedRetention {
  readonly ageMillis: number
  readonly count: number
}

/** What records get that say nothing else. */
export const commonRetention: ResolvedRetention = { ageMillis: 24 * 3_600_000, count: 100_000 }

/** The part of a job definition that can be overridden per call. */
export interface JobOptions {
  /** Queue that the job waits in; default `default`. */
  readonly queue?: string | undefined
  /** Priority inside the queue; default `normal`. */
  readonly priority?: Priority.Priority | undefined
  /** What happens after a failed attempt; default {@link Retry.standard}. */
  readonly retry?: Retry.Policy | undefined
  /** Time limit of an attempt, after which it is interrupted and counts as failed; default none. */
  readonly timeout?: Duration.Input | undefined
}

/** A definition as the engine uses it. */
export interface Definition {
  readonly name: string
  readonly payload: Codec.Codec<unknown>
  readonly success: Codec.Codec<unknown>
  readonly error: Codec.Codec<unknown>
  readonly queue: string
  readonly lane: number
  readonly retry: Retry.Policy<never>
  readonly timeout: number | undefined
  readonly retention: ResolvedRetention | undefined
  /** Retention class of the records, part of their subjects. */
  readonly retentionClass: string | undefined
  /** The constant beginning of a message without overrides. */
  readonly template: Uint8Array
}

/** Where a job goes and how its message begins. */
export interface Route {
  readonly queue: string
  readonly lane: number
  readonly template: Uint8Array
}

/** Names of the options that {@link route} understands. */
export const jobOptionKeys: ReadonlyArray<string> = ["queue", "priority", "retry", "timeout"]

const priorityOf = (value: unknown): number | InvalidOptions => {
  const lane = Priority.all.indexOf(value as Priority.Priority) + 1
  return lane > 0 ? lane : new InvalidOptions({
    field: "priority",
    value: show(value),
    reason: `it is one of ${Priority.all.join(", ")}`,
  })
}

const timeoutOf = (value: Duration.Input): number | InvalidOptions => {
  const millis = millisOf("timeout", value, maxDelayMillis)
  return millis === 0
    ? new InvalidOptions({
      field: "timeout",
      value: show(value),
      reason: "an attempt needs more than no time; leave the option out for no limit",
    })
    : millis
}

/** Checks a retention. */
export const resolveRetention = (retention: Retention): ResolvedRetention | InvalidOptions => {
  const unknown = checkKeys("retention", retention, ["age", "count"])
  if (unknown !== undefined) return unknown
  const { count = commonRetention.count } = retention
  const age = retention.age === undefined
    ? commonRetention.ageMillis
    : millisOf("retention.age", retention.age, maxDelayMillis)
  if (typeof age !== "number") return age
  return Number.isInteger(count) && count >= 0 ? { ageMillis: age, count } : new InvalidOptions({
    field: "retention.count",
    value: show(count),
    reason: "it is a whole number of records, 0 or more",
  })
}

/** Class of a definition's own retention: `_` and eight hex digits of its name. */
const retentionClassOf = (name: string): string => `_${hash32(name).toString(16).padStart(8, "0")}`

/** Builds a definition; throws `InvalidOptions` for what can't be accepted. */
export const define = (
  name: string,
  schemas: {
    readonly payload: Codec.AnySchema
    readonly success: Codec.AnySchema
    readonly error: Codec.AnySchema
  },
  options: Omit<JobOptions, "retry"> & {
    readonly retry?: Retry.Policy<never> | undefined
    readonly retention?: Retention | undefined
  },
): Definition => {
  const orThrow = <A>(value: A | InvalidOptions): A => {
    if (value instanceof InvalidOptions) throw value
    return value
  }
  const queue = options.queue ?? "default"
  const retry = options.retry ?? Retry.standard
  orThrow(checkJobName("name", name))
  orThrow(checkName("queue", queue))
  orThrow(Retry.check(retry))
  const lane = orThrow(priorityOf(options.priority ?? "normal"))
  const timeout = options.timeout === undefined ? undefined : orThrow(timeoutOf(options.timeout))
  const retention = options.retention === undefined
    ? undefined
    : orThrow(resolveRetention(options.retention))
  const retentionClass = retention === undefined ? undefined : retentionClassOf(name)
  return {
    name,
    payload: Codec.make(schemas.payload),
    success: Codec.make(schemas.success),
    error: Codec.make(schemas.error),
    queue,
    lane,
    retry,
    timeout,
    retention,
    retentionClass,
    template: Envelope.template(name, queue, lane, { retention: retentionClass }),
  }
}

/** Where a job goes under a caller's overrides. */
export const route = (
  definition: Definition,
  overrides: JobOptions | undefined,
): Route | InvalidOptions => {
  if (overrides === undefined) return definition
  const { priority, queue = definition.queue, retry, timeout } = overrides
  const badQueue = checkName("queue", queue)
  if (badQueue !== undefined) return badQueue
  const lane = priority === undefined ? definition.lane : priorityOf(priority)
  if (typeof lane !== "number") return lane
  const millis = timeout === undefined ? undefined : timeoutOf(timeout)
  if (millis instanceof InvalidOptions) return millis
  if (retry !== undefined) {
    const badRetry = Retry.check(retry) ??
      (retry.decide === undefined ? undefined : new InvalidOptions({
        field: "retry.decide",
        value: "a function",
        reason: "a function can't travel with a job; it belongs to the retry of the definition",
      }))
    if (badRetry !== undefined) return badRetry
  }
  return {
    queue,
    lane,
    template: Envelope.template(definition.name, queue, lane, {
      retry: retry?.backoff,
      timeout: millis,
      retention: definition.retentionClass,
    }),
  }
}
