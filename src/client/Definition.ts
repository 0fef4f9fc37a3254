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
import * as Identity from "./Identity.ts"
import * as LogOptions from "./LogOptions.ts"
import * as Versions from "./Versions.ts"

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
  /**
   * Time limit for the whole job, with its delays and retries, from its creation or last requeue:
   * then it has failed, and an attempt under way is interrupted. Default none.
   */
  readonly deadline?: Duration.Input | undefined
  /**
   * Longest time from when the job is ready to the beginning of its first attempt: later it is
   * cancelled instead. Default none.
   */
  readonly ttl?: Duration.Input | undefined
}

/** What can be said of one job. */
export interface EnqueueOptions extends JobOptions, Identity.IdentityOptions {}

/** Where a handler runs outside of the server's event loop. */
export type Isolation = "thread" | "process"

const isolationOf = (value: unknown): Isolation | undefined | InvalidOptions =>
  value === undefined || value === "thread" || value === "process" ? value : new InvalidOptions({
    field: "isolation",
    value: show(value),
    reason: "it is thread or process; leave the option out to run in the server's event loop",
  })

/** A definition as the engine uses it. */
export interface Definition {
  readonly name: string
  /** Reads older versions of payloads too. */
  readonly payload: Versions.PayloadCodec<unknown>
  readonly success: Codec.Codec<unknown>
  readonly error: Codec.Codec<unknown>
  readonly queue: string
  readonly lane: number
  readonly retry: Retry.Policy<never>
  readonly timeout: number | undefined
  readonly deadline: number | undefined
  readonly ttl: number | undefined
  /** Version of the payload that it writes, and the highest that it reads. */
  readonly version: number
  readonly retention: ResolvedRetention | undefined
  /** Which lines of its handlers are kept; `undefined` for none. */
  readonly logs: LogOptions.LogLimits | undefined
  /** Retention class of the records, part of their subjects. */
  readonly retentionClass: string | undefined
  /** Middleware around its jobs, outermost first; opaque here, since it knows of job options. */
  readonly middleware: ReadonlyArray<unknown>
  /** Where its handler runs, if not in the server's event loop. */
  readonly isolation: Isolation | undefined
  /** How its jobs are unique, if they are. */
  readonly unique: Identity.DefinitionRules | undefined
  /** The constant beginning of a message without overrides. */
  readonly template: Uint8Array
}

/** Where a job goes and how its message begins. */
export interface Route {
  readonly queue: string
  readonly lane: number
  readonly template: Uint8Array
  /** Time limit for the whole job, in ms. */
  readonly deadline: number | undefined
  /** Longest wait for its first attempt, in ms. */
  readonly ttl: number | undefined
}

/** Names of the options that {@link route} understands. */
export const jobOptionKeys: ReadonlyArray<string> = [
  "queue",
  "priority",
  "retry",
  "timeout",
  "deadline",
  "ttl",
]

/** Names of all options of one job. */
export const enqueueOptionKeys: ReadonlyArray<string> = [
  ...jobOptionKeys,
  ...Identity.identityKeys,
]

const priorityOf = (value: unknown): number | InvalidOptions => {
  const lane = Priority.all.indexOf(value as Priority.Priority) + 1
  return lane > 0 ? lane : new InvalidOptions({
    field: "priority",
    value: show(value),
    reason: `it is one of ${Priority.all.join(", ")}`,
  })
}

const limitOf = (
  field: "timeout" | "deadline" | "ttl",
  value: Duration.Input | undefined,
): number | undefined | InvalidOptions => {
  if (value === undefined) return undefined
  const millis = millisOf(field, value, maxDelayMillis)
  return millis === 0
    ? new InvalidOptions({
      field,
      value: show(value),
      reason: "a job needs more than no time; leave the option out for no limit",
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
    readonly middleware?: ReadonlyArray<unknown> | undefined
    readonly logs?: boolean | LogOptions.LogOptions | undefined
    readonly version?: number | undefined
    readonly migrations?: Versions.Migrations | undefined
    readonly unique?: Identity.UniqueJobs<never> | undefined
    readonly isolation?: Isolation | undefined
    /** A command of the engine, whose name and queue nobody else may use. */
    readonly engine?: true | undefined
  },
): Definition => {
  const orThrow = <A>(value: A | InvalidOptions): A => {
    if (value instanceof InvalidOptions) throw value
    return value
  }
  const queue = options.queue ?? "default"
  const retry = options.retry ?? Retry.standard
  if (options.engine !== true) {
    orThrow(checkJobName("name", name))
    orThrow(checkName("queue", queue))
  }
  orThrow(Retry.check(retry))
  const lane = orThrow(priorityOf(options.priority ?? "normal"))
  const timeout = orThrow(limitOf("timeout", options.timeout))
  const deadline = orThrow(limitOf("deadline", options.deadline))
  const ttl = orThrow(limitOf("ttl", options.ttl))
  const versions = orThrow(Versions.check(options.version, options.migrations))
  const version = versions.current
  const retention = options.retention === undefined
    ? undefined
    : orThrow(resolveRetention(options.retention))
  const retentionClass = retention === undefined ? undefined : retentionClassOf(name)
  const logs = orThrow(LogOptions.resolve(options.logs))
  return {
    name,
    payload: Versions.codec(Codec.make(schemas.payload), versions),
    success: Codec.make(schemas.success),
    error: Codec.make(schemas.error),
    queue,
    lane,
    retry,
    timeout,
    deadline,
    ttl,
    version,
    retention,
    logs,
    retentionClass,
    isolation: orThrow(isolationOf(options.isolation)),
    unique: options.unique === undefined ? undefined : orThrow(Identity.define(options.unique)),
    middleware: options.middleware ?? [],
    template: Envelope.template(name, queue, lane, {
      retention: retentionClass,
      deadline,
      ttl,
      version: wireVersion(version),
    }),
  }
}

/** The first version isn't written: most jobs have no other. */
const wireVersion = (version: number): number | undefined => version === 1 ? undefined : version

/**
 * Where a job goes under a caller's overrides, with the context that travels with it. `more` is what
 * only the engine decides: what the job is given, and whose retention its record has.
 */
export const route = (
  definition: Definition,
  options: JobOptions | undefined,
  context?: Envelope.Options["context"],
  more?: Pick<Envelope.Options, "input" | "retention">,
): Route | InvalidOptions => {
  if (options === undefined && context === undefined && more === undefined) return definition
  const overrides = options ?? {}
  const { priority, queue = definition.queue, retry } = overrides
  const badQueue = checkName("queue", queue)
  if (badQueue !== undefined) return badQueue
  const lane = priority === undefined ? definition.lane : priorityOf(priority)
  if (typeof lane !== "number") return lane
  const timeout = limitOf("timeout", overrides.timeout)
  if (timeout instanceof InvalidOptions) return timeout
  const deadline = limitOf("deadline", overrides.deadline ?? definition.deadline)
  if (deadline instanceof InvalidOptions) return deadline
  const ttl = limitOf("ttl", overrides.ttl ?? definition.ttl)
  if (ttl instanceof InvalidOptions) return ttl
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
    deadline,
    ttl,
    template: Envelope.template(definition.name, queue, lane, {
      retry: retry?.backoff,
      timeout,
      retention: more?.retention ?? definition.retentionClass,
      input: more?.input,
      context,
      deadline,
      ttl,
      version: wireVersion(definition.version),
    }),
  }
}
