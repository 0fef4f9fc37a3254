/**
 * How many restarts a supervisor allows in how long, and how long it waits before one. Pure: the
 * supervisor brings the time.
 */
import type * as Duration from "effect/Duration"
import { InvalidOptions } from "../../src/core/errors.ts"
import { show } from "../../src/core/Names.ts"
import { millisOf } from "../../src/core/Time.ts"

/** A delay before each restart that grows with the restarts in the period. */
export interface Backoff {
  /** Delay before the first restart in the period. */
  readonly initial: Duration.Input
  /** What each further restart multiplies it by; at least 1, default 2. */
  readonly factor?: number
  /** The longest delay. */
  readonly max: Duration.Input
}

/** The budget of restarts as an application gives it. */
export interface Options {
  /** Restarts allowed within the period, for all children together; default 1, 0 allows none. */
  readonly intensity?: number
  /** Length of the sliding window; default 5 seconds. */
  readonly period?: Duration.Input
  /** Default: restarts happen at once. */
  readonly backoff?: Backoff
}

/** The budget of restarts with its defaults filled in; times in milliseconds. */
export interface Intensity {
  /** Restarts allowed within the period. */
  readonly limit: number
  /** Length of the window. */
  readonly period: number
  /** Delay before the first restart; 0 for none. */
  readonly initial: number
  /** Growth of the delay. */
  readonly factor: number
  /** The longest delay. */
  readonly max: number
}

/** Checks the options and fills in the defaults. */
export const resolve = (options: Options): Intensity | InvalidOptions => {
  const { intensity: limit = 1, backoff } = options
  const refuse = (field: string, value: unknown, reason: string): InvalidOptions =>
    new InvalidOptions({ field, value: show(value), reason })
  if (!Number.isInteger(limit) || limit < 0) {
    return refuse("intensity", limit, "it is a whole number of restarts, 0 or more")
  }
  const period = millisOf("period", options.period ?? "5 seconds")
  if (typeof period !== "number") return period
  if (period === 0) return refuse("period", options.period, "it is longer than nothing")
  if (backoff === undefined) return { limit, period, initial: 0, factor: 1, max: 0 }
  const { factor = 2 } = backoff
  if (!(Number.isFinite(factor) && factor >= 1)) {
    return refuse("backoff.factor", factor, "it is 1 or more")
  }
  const initial = millisOf("backoff.initial", backoff.initial)
  if (typeof initial !== "number") return initial
  const max = millisOf("backoff.max", backoff.max)
  if (typeof max !== "number") return max
  return { limit, period, initial, factor, max }
}

/**
 * Adds a restart at `now` and drops those that have left the window; the boundary still counts, as
 * in OTP. The budget is exceeded when more than `limit` remain.
 */
export const add = (
  intensity: Intensity,
  restarts: ReadonlyArray<number>,
  now: number,
): ReadonlyArray<number> => [...restarts.filter((at) => at >= now - intensity.period), now]

/** Milliseconds to wait before the restart that is the `count`th in the window. */
export const delay = (intensity: Intensity, count: number): number =>
  Math.min(intensity.max, intensity.initial * intensity.factor ** (count - 1))
