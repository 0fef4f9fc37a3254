/**
 * When a failed attempt is followed by another one.
 *
 * A policy is data: it decides by the number of failures alone, so every server computes the same
 * whatever it remembers. An attempt that a server's death cut off is not a failure and doesn't count.
 *
 * @example
 * ```ts
 * import { Retry } from "@portfire/portfire"
 *
 * const policy = Retry.exponential({ attempts: 5, base: "1 second" })
 * const byError = Retry.fixed<{ readonly code: number }>({
 *   attempts: 3,
 *   delay: "10 seconds",
 *   decide: (error) => error.code >= 500,
 * })
 * ```
 *
 * @module
 */
import type * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import { InvalidOptions } from "./errors.ts"
import { maxDelayMillis } from "./Limits.ts"
import { checkKeys, show } from "./Names.ts"
import { millisOf } from "./Time.ts"

/** How long to wait before each further attempt, as it also stands in a job's message. */
export type Backoff =
  | { readonly kind: "none" }
  | {
    readonly kind: "fixed"
    readonly attempts: number
    readonly delay: number
    readonly jitter: number
  }
  | { readonly kind: "delays"; readonly delays: ReadonlyArray<number>; readonly jitter: number }
  | {
    readonly kind: "exponential"
    readonly attempts: number
    readonly base: number
    readonly factor: number
    readonly max: number
    readonly jitter: number
  }

/**
 * What to do about one error: `true` retries as the policy says, `false` never retries, a duration
 * retries after it (while attempts are left).
 */
export type Decision = boolean | Duration.Input

/** A retry policy for jobs that fail with `E`. */
export interface Policy<in E = unknown> {
  /** The delays. */
  readonly backoff: Backoff
  /** Asked for each typed error of a handler; `attempt` is the number of the attempt that failed. */
  readonly decide?: ((error: E, attempt: number) => Decision) | undefined
  /** A mistake in the options, reported where the policy is used. */
  readonly invalid?: InvalidOptions | undefined
}

/** Options that all policies share. */
export interface CommonOptions<E> {
  /** Part of each delay that chance adds: 0.1 stretches it by up to 10 %. From 0 to 1; default 0.1. */
  readonly jitter?: number | undefined
  /** See {@link Policy}. */
  readonly decide?: ((error: E, attempt: number) => Decision) | undefined
}

const maxAttempts = 1_000

type Fail = (error: InvalidOptions) => void

/** Makes a policy; `none` stands in for the back-off of options that are not even an object. */
const build = <E, O extends CommonOptions<E>>(
  options: O,
  known: ReadonlyArray<string>,
  make: (fail: Fail, options: O) => Backoff,
): Policy<E> => {
  let invalid = checkKeys("retry", options, known)
  if (typeof options !== "object" || options === null) return { ...none, invalid }
  const fail: Fail = (error) => {
    invalid ??= error
  }
  const backoff = make(fail, options)
  const { decide } = options
  if (decide !== undefined && typeof decide !== "function") {
    const reason = "it is a function of the error and the attempt's number"
    fail(new InvalidOptions({ field: "retry.decide", value: show(decide), reason }))
  }
  return {
    backoff,
    ...(decide === undefined ? {} : { decide }),
    ...(invalid === undefined ? {} : { invalid }),
  }
}

const inRange = (
  fail: Fail,
  field: string,
  value: number,
  low: number,
  high: number,
  integer = false,
): number => {
  if (!(value >= low && value <= high) || (integer && !Number.isInteger(value))) {
    fail(
      new InvalidOptions({
        field: `retry.${field}`,
        value: show(value),
        reason: `it is ${integer ? "a whole number" : "a number"} from ${low} to ${high}`,
      }),
    )
  }
  return value
}

const duration = (fail: Fail, field: string, input: Duration.Input): number => {
  const millis = millisOf(`retry.${field}`, input, maxDelayMillis)
  if (typeof millis === "number") return millis
  fail(millis)
  return 0
}

/** Never again: the first failure is final. */
export const none: Policy = { backoff: { kind: "none" } }

/** Options of {@link exponential}. */
export interface ExponentialOptions<E> extends CommonOptions<E> {
  /** Attempts in all, the first included; default 10. */
  readonly attempts?: number | undefined
  /** Delay after the first failure; default 6 seconds. */
  readonly base?: Duration.Input | undefined
  /** Each delay is the one before times this; default 2.5. */
  readonly factor?: number | undefined
  /** No delay is longer; default one day. */
  readonly max?: Duration.Input | undefined
}

/**
 * Delays that grow by a factor. Without options: 10 attempts over about four and a half hours
 * (6 s, 15 s, 38 s, 94 s, 4 min, 10 min, 24 min, 61 min, 2.5 h, each stretched by up to 10 %).
 */
export const exponential = <E = unknown>(options: ExponentialOptions<E> = {}): Policy<E> =>
  build(
    options,
    ["attempts", "base", "factor", "max", "jitter", "decide"],
    (fail, { attempts = 10, base = 6_000, factor = 2.5, jitter = 0.1, max = 86_400_000 }) => ({
      kind: "exponential",
      attempts: inRange(fail, "attempts", attempts, 1, maxAttempts, true),
      base: duration(fail, "base", base),
      factor: inRange(fail, "factor", factor, 1, 100),
      max: duration(fail, "max", max),
      jitter: inRange(fail, "jitter", jitter, 0, 1),
    }),
  )

/** Options of {@link fixed}. */
export interface FixedOptions<E> extends CommonOptions<E> {
  /** Attempts in all, the first included. */
  readonly attempts: number
  /** Delay before each further attempt. */
  readonly delay: Duration.Input
}

/** The same delay each time. */
export const fixed = <E = unknown>(options: FixedOptions<E>): Policy<E> =>
  build(
    options,
    ["attempts", "delay", "jitter", "decide"],
    (fail, { attempts, delay, jitter = 0.1 }) => ({
      kind: "fixed",
      attempts: inRange(fail, "attempts", attempts, 1, maxAttempts, true),
      delay: duration(fail, "delay", delay),
      jitter: inRange(fail, "jitter", jitter, 0, 1),
    }),
  )

/** A delay for each further attempt; one attempt more than there are delays. */
export const delays = <E = unknown>(
  list: ReadonlyArray<Duration.Input>,
  options: CommonOptions<E> = {},
): Policy<E> =>
  build(options, ["jitter", "decide"], (fail, { jitter = 0 }) => {
    const inputs = Array.isArray(list) ? list as ReadonlyArray<Duration.Input> : []
    inRange(fail, "delays.length", inputs.length, 1, maxAttempts - 1, true)
    return {
      kind: "delays",
      delays: inputs.map((input, index) => duration(fail, `delays[${index}]`, input)),
      jitter: inRange(fail, "jitter", jitter, 0, 1),
    }
  })

/** What jobs get that say nothing about retries. */
export const standard: Policy = exponential()

/** The first mistake in a policy, also in one that didn't come from the functions above. */
export const check = (policy: unknown): InvalidOptions | undefined => {
  if (Predicate.hasProperty(policy, "invalid") && policy.invalid instanceof InvalidOptions) {
    return policy.invalid
  }
  return Predicate.hasProperty(policy, "backoff") && isBackoff(policy.backoff)
    ? undefined
    : new InvalidOptions({
      field: "retry",
      value: show(policy),
      reason: "use Retry.exponential, Retry.fixed, Retry.delays or Retry.none",
    })
}

const isUpTo = (max: number) => (value: unknown): value is number =>
  typeof value === "number" && value >= 0 && value <= max

const isAttempts = (value: unknown): boolean =>
  Number.isInteger(value) && isUpTo(maxAttempts)(value) && value > 0
const isDelay = isUpTo(maxDelayMillis)
const isJitter = isUpTo(1)

/** Whether a value, for example one read from the wire, is a back-off. */
export const isBackoff = (value: unknown): value is Backoff => {
  if (!Predicate.hasProperty(value, "kind")) return false
  const backoff = value as { readonly [key: string]: unknown }
  switch (backoff["kind"]) {
    case "none":
      return true
    case "fixed":
      return isAttempts(backoff["attempts"]) && isDelay(backoff["delay"]) &&
        isJitter(backoff["jitter"])
    case "delays":
      return Array.isArray(backoff["delays"]) && backoff["delays"].length < maxAttempts &&
        backoff["delays"].every(isDelay) && isJitter(backoff["jitter"])
    case "exponential":
      return isAttempts(backoff["attempts"]) && isDelay(backoff["base"]) &&
        isUpTo(100)(backoff["factor"]) && isDelay(backoff["max"]) && isJitter(backoff["jitter"])
    default:
      return false
  }
}

/** Attempts that a back-off allows, the first included. */
export const attemptsOf = (backoff: Backoff): number =>
  backoff.kind === "none"
    ? 1
    : backoff.kind === "delays"
    ? backoff.delays.length + 1
    : backoff.attempts

const plainDelay = (backoff: Backoff, failures: number): number => {
  switch (backoff.kind) {
    case "none":
      return 0
    case "fixed":
      return backoff.delay
    case "delays":
      return backoff.delays[failures - 1] ?? 0
    case "exponential":
      // The power may be infinite, and infinity times nothing is no number.
      return backoff.base === 0
        ? 0
        : Math.min(backoff.max, backoff.base * backoff.factor ** (failures - 1))
  }
}

/**
 * Milliseconds to wait after the given number of failures, or `undefined` when the attempts are used
 * up. `random` is from 0 (inclusive) to 1.
 */
export const delayAfter = (
  backoff: Backoff,
  failures: number,
  random: number,
): number | undefined => {
  if (failures >= attemptsOf(backoff)) return undefined
  const stretch = backoff.kind === "none" ? 0 : backoff.jitter * random
  return Math.round(plainDelay(backoff, failures) * (1 + stretch))
}
