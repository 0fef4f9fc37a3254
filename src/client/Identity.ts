/**
 * What definitions and calls say about the identity of jobs: ids that the caller chooses, and keys that
 * one job at a time holds.
 */
import type * as Duration from "effect/Duration"
import type { Claim } from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import { millisOf } from "../core/Time.ts"

/**
 * What an enqueue does when the job exists: `ignore` answers with its id, `replace` gives a job that
 * waits the new payload, options and time, `fail` fails with `JobExists`.
 */
export type OnConflict = "ignore" | "replace" | "fail"

/** How long a job holds its key: until it has ended, until it begins to run, or for a time. */
export type Until = "finished" | "started" | Duration.Input

/** What a definition and a call may both say about unique jobs. */
export interface UniqueRules {
  /**
   * How long the key is held; default `finished`. A time counts from the enqueue whatever becomes of
   * the job, in whole seconds, rounded up.
   */
  readonly until?: Until | undefined
  /** What an enqueue does while the key is held; default `ignore`. */
  readonly onConflict?: OnConflict | undefined
}

/** Makes every job of a definition unique. */
export interface UniqueJobs<P> extends UniqueRules {
  /** The key of a payload: 1 to 1,000 characters. */
  readonly key: (payload: P) => string
}

/** Makes one job unique, or changes what its definition says. */
export interface UniqueJob extends UniqueRules {
  /** The key, 1 to 1,000 characters; default what the definition makes of the payload. */
  readonly key?: string | undefined
}

/** What one call says about the identity of its job. */
export interface IdentityOptions {
  /** Id of the job; default one that the engine makes. */
  readonly id?: string | undefined
  /** What happens when a job has the chosen `id`; default `ignore`. */
  readonly onConflict?: OnConflict | undefined
  /** Stores the job only if no other holds this key. */
  readonly unique?: UniqueJob | undefined
}

/** Names of the options in {@link IdentityOptions}. */
export const identityKeys: ReadonlyArray<string> = ["id", "onConflict", "unique"]

/** Rules with their values checked. */
export interface Rules {
  readonly until: Claim["until"]
  /** How long the claim lasts, in whole seconds, where it expires. */
  readonly seconds: number | undefined
  readonly onConflict: OnConflict
}

/** The rules of a definition. */
export interface DefinitionRules extends Rules {
  readonly key: (payload: never) => string
}

/** What has to be known of a definition. */
export interface Unique {
  readonly name: string
  readonly unique: DefinitionRules | undefined
}

/** Checks what a caller says about conflicts. */
export const onConflictOf = (field: string, value: unknown): OnConflict | InvalidOptions =>
  value === undefined
    ? "ignore"
    : value === "ignore" || value === "replace" || value === "fail"
    ? value
    : new InvalidOptions({
      field,
      value: show(value),
      reason: "it is ignore, replace or fail",
    })

/** Rules of which nothing was said. */
export const common: Rules = { until: "finished", seconds: undefined, onConflict: "ignore" }

/** Checks rules; what isn't said is as in `otherwise`. */
export const rulesOf = (options: UniqueRules, otherwise: Rules): Rules | InvalidOptions => {
  const onConflict = options.onConflict === undefined
    ? otherwise.onConflict
    : onConflictOf("unique.onConflict", options.onConflict)
  if (onConflict instanceof InvalidOptions) return onConflict
  const { until } = options
  if (until === undefined) return { ...otherwise, onConflict }
  if (until === "finished" || until === "started") return { until, seconds: undefined, onConflict }
  const millis = millisOf("unique.until", until, maxDelayMillis)
  if (typeof millis !== "number") return millis
  return millis > 0
    ? { until: "expired", seconds: Math.ceil(millis / 1_000), onConflict }
    : new InvalidOptions({
      field: "unique.until",
      value: show(until),
      reason: "a key is held until finished, until started, or for more than no time",
    })
}

/** Checks what a definition says. */
export const define = (options: UniqueJobs<never>): DefinitionRules | InvalidOptions => {
  const unknown = checkKeys("unique", options, ["key", "until", "onConflict"])
  if (unknown !== undefined) return unknown
  const { key } = options
  if (typeof key !== "function") {
    const reason = "in a definition the key is a function of the payload"
    return new InvalidOptions({ field: "unique.key", value: show(key), reason })
  }
  const rules = rulesOf(options, common)
  return rules instanceof InvalidOptions ? rules : { ...rules, key }
}

const longestKey = 1_000

/** The key of a job: the one that was given, else what the definition makes of the payload. */
export const keyOf = (
  { unique }: Pick<Unique, "unique">,
  given: unknown,
  payload: unknown,
): string | InvalidOptions => {
  let key: unknown = given
  try {
    if (given === undefined && unique !== undefined) key = unique.key(payload as never)
  } catch (error) {
    const reason = `the key of this payload can't be made: ${
      error instanceof Error ? error.message : String(error)
    }`
    return new InvalidOptions({ field: "unique.key", value: show(payload), reason })
  }
  return typeof key === "string" && key.length > 0 && key.length <= longestKey
    ? key
    : new InvalidOptions({
      field: "unique.key",
      value: show(key),
      reason: `a key is a text of 1 to ${longestKey} characters`,
    })
}

/**
 * Refuses unique jobs and chosen ids where a job's place is decided by something else. `where` says
 * for people what that is, such as `enqueueMany`.
 */
export const refuse = (
  definition: Unique,
  options: object | undefined,
  where: string,
): InvalidOptions | undefined => {
  const { id, unique = definition.unique } = (options ?? {}) as IdentityOptions
  if (unique !== undefined) {
    const reason = `unique jobs can't be part of ${where}; enqueue each by itself`
    return new InvalidOptions({ field: "unique", value: `job ${definition.name}`, reason })
  }
  if (id !== undefined) {
    const reason = `a chosen id can't be part of ${where}; enqueue the job by itself`
    return new InvalidOptions({ field: "id", value: show(id), reason })
  }
  return undefined
}
