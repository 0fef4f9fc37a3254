/**
 * Middleware: code around every enqueue and every attempt, and observers of what becomes of jobs. For
 * what concerns all jobs alike: tenants, locales, audit, limits, metrics.
 *
 * Global middleware is outside, in the order of its list, then comes that of the definition. A
 * middleware that fails breaks nothing but the call it was around.
 *
 * @example
 * ```ts
 * import { Client, Job, Middleware, Nats } from "@portfire/portfire"
 * import * as Context from "effect/Context"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * const Tenant: Context.Reference<string> = Context.Reference("app/Tenant", {
 *   defaultValue: () => "none",
 * })
 *
 * const Tenants = Middleware.make("tenants", {
 *   enqueue: (request, next) =>
 *     Effect.flatMap(Tenant, (tenant) =>
 *       next({ ...request, context: { ...request.context, tenant } })),
 *   attempt: (attempt, next) =>
 *     Effect.provideService(next, Tenant, attempt.context["tenant"] ?? "none"),
 * })
 *
 * const live = Client.layer.pipe(
 *   Layer.provide(Middleware.layer([Tenants])),
 *   Layer.provide(Nats.layer({ servers: "nats.example.org" })),
 * )
 * ```
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { JobState } from "../core/JobState.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import type { Priority } from "../core/Priority.ts"
import { Veto } from "../core/Signal.ts"
import type { JobOptions } from "./Definition.ts"
import type { EnqueueError, Timing } from "./Writer.ts"

export { EnqueueVetoed, MiddlewareFailed } from "./MiddlewareErrors.ts"

/** A job that somebody wants to enqueue. */
export interface EnqueueRequest {
  /** Name of its definition. */
  readonly name: string
  /** What it is to be given, not yet checked. */
  readonly payload: unknown
  /** What the caller asked for, not yet checked: queue, priority, delay and so on. */
  readonly options: JobOptions & Timing
  /** What travels with the job; handlers read it as `CurrentJob.context`. */
  readonly context: Readonly<Record<string, string>>
}

/** An attempt that is about to begin. */
export interface Attempt {
  /** The job. */
  readonly id: JobId
  /** Name of its definition. */
  readonly name: string
  /** Number of this attempt; counts from 1. */
  readonly attempt: number
  /** Queue it waited in. */
  readonly queue: string
  /** Its priority. */
  readonly priority: Priority
  /** When the job was created. */
  readonly created: Date
  /** What travelled with it. */
  readonly context: Readonly<Record<string, string>>
  /** What it was given, decoded. */
  readonly payload: unknown
}

/** What became of a job; told once it is on JetStream. */
export interface Transition {
  /** The job. */
  readonly id: JobId
  /** Name of its definition. */
  readonly name: string
  /** State before, where the teller knows it. */
  readonly from?: JobState | undefined
  /** State now; `deleted` when the job and its record are gone. */
  readonly to: JobState | "deleted"
  /** Queue it waits or waited in, where the teller knows it. */
  readonly queue?: string | undefined
  /** Number of the attempt that has begun or ended. */
  readonly attempt?: number | undefined
  /** When it is to run, for a job that waits for a time. */
  readonly due?: Date | undefined
  /** Why, where there is something to say. */
  readonly reason?: string | undefined
}

/** What a middleware does; leave out what it doesn't. */
export interface Hooks {
  /**
   * Around an enqueue, in the caller's fiber. `next` goes on to the next middleware and at last
   * checks and stores the job; it gives the id. What it is given may differ from the request in
   * everything but the name. A second call of it stores no second job, but gives the first one's id.
   */
  readonly enqueue?: (
    request: EnqueueRequest,
    next: (request: EnqueueRequest) => Effect.Effect<JobId, EnqueueError>,
  ) => Effect.Effect<JobId, EnqueueError>
  /**
   * Around an attempt, within its time limit. `next` is the rest of the middleware and at last the
   * handler; it can run once. The effect's own end is that of the attempt: its value must fit the
   * definition's success schema, its error the error schema.
   */
  readonly attempt?: (
    attempt: Attempt,
    next: Effect.Effect<unknown, unknown>,
  ) => Effect.Effect<unknown, unknown>
  /**
   * Told of transitions that this process made, one after the other. Nobody waits for it and it can't
   * change anything; what it throws is logged once.
   */
  readonly transition?: (transition: Transition) => Effect.Effect<unknown, unknown>
}

/** A middleware. */
export interface Middleware extends Hooks {
  /** Its name, in errors and logs. */
  readonly name: string
}

const hookNames: ReadonlyArray<string> = ["enqueue", "attempt", "transition"]

/**
 * Makes a middleware. Throws `InvalidOptions` for an illegal name or hook: a mistake in the program
 * itself, found when it starts.
 */
export const make = (name: string, hooks: Hooks): Middleware => {
  const wrong = checkName("name", name) ?? checkKeys("hooks", hooks, hookNames)
  if (wrong !== undefined) throw wrong
  for (const [hook, value] of Object.entries(hooks)) {
    if (value !== undefined && typeof value !== "function") {
      const reason = "a hook is a function"
      throw new InvalidOptions({ field: `hooks.${hook}`, value: show(value), reason })
    }
  }
  return { ...hooks, name }
}

/** The middleware around all jobs, outermost first; what {@link layer} adds to. */
export const Global: Context.Reference<ReadonlyArray<Middleware>> = Context.Reference<
  ReadonlyArray<Middleware>
>("portfire/client/Middleware", { defaultValue: () => [] })

/** A middleware, or an effect that makes one. */
export type Source<E = never, R = never> = Middleware | Effect.Effect<Middleware, E, R>

/** Errors of the effects among sources. */
export type SourceError<S> = S extends Effect.Effect<Middleware, infer E, infer _> ? E : never

/** Services that the effects among sources need. */
export type SourceServices<S> = S extends Effect.Effect<Middleware, infer _, infer R> ? R : never

/**
 * Middleware around all jobs of the client or server it is provided to, outermost first. An effect in
 * the list makes a middleware from services, in a scope that ends with the layer. A layer of this kind
 * that is provided to another one stands outside of it.
 */
export const layer = <const S extends ReadonlyArray<Source<unknown, unknown>>>(
  middleware: S,
): Layer.Layer<
  never,
  SourceError<S[number]>,
  Exclude<SourceServices<S[number]>, Scope.Scope>
> =>
  Layer.effect(
    Global,
    Effect.gen(function* () {
      const all = [...yield* Global]
      for (const source of middleware) {
        all.push(
          Effect.isEffect(source)
            ? yield* source as Effect.Effect<
              Middleware,
              SourceError<S[number]>,
              SourceServices<S[number]>
            >
            : source,
        )
      }
      return all
    }),
  )

/**
 * Refuses what the middleware is around. In `enqueue`: the call fails with {@link EnqueueVetoed} and
 * nothing is written. In `attempt`: the job ends, cancelled for this reason.
 */
export const veto = (reason: string): Effect.Effect<never> => Effect.die(new Veto(reason))
