/**
 * What stands around the handlers of a server: the span of an attempt, and middleware. Both are put
 * there once, when the server starts; where there is neither, a handler runs as it is.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import { CurrentJob } from "../src/client/CurrentJob.ts"
import type { Definition } from "../src/client/Definition.ts"
import type { RegisteredHandler } from "../src/client/Handler.ts"
import type { Interception } from "../src/client/Interception.ts"
import * as Middleware from "../src/client/Middleware.ts"
import type { Kind } from "../src/client/Transition.ts"
import type { JobState } from "../src/core/JobState.ts"
import { Discard, Snooze, Veto } from "../src/core/Signal.ts"
import * as TraceContext from "../src/core/TraceContext.ts"
import { engineQueue } from "../src/nats/Subjects.ts"
import type { Event } from "./Event.ts"
import type { ReadyHandler } from "./Pool.ts"

type Run = RegisteredHandler["run"]

/** Around an attempt by one middleware: what it breaks itself is told from what it lets pass. */
const layerOf = (
  { attempt: around, name: middleware }: Middleware.Middleware,
  attempt: Middleware.Attempt,
  { error: codec }: Definition,
  next: Effect.Effect<unknown, unknown>,
): Effect.Effect<unknown, unknown> => {
  if (around === undefined) return next
  const failed = (cause: unknown) =>
    Effect.die(new Middleware.MiddlewareFailed({ middleware, hook: "attempt", cause }))
  return Effect.suspend(() => {
    let called = false
    let inner: Exit.Exit<unknown, unknown> | undefined
    const once = Effect.suspend(() => {
      if (called) return failed("it called next twice; trying again is up to the retry policy")
      called = true
      return Effect.onExit(next, (exit) => Effect.sync(() => inner = exit))
    })
    return Effect.catchCause(Effect.suspend(() => around(attempt, once)), (cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
      const error = Cause.squash(cause)
      const passes = error instanceof Veto || error instanceof Discard ||
        error instanceof Snooze || error instanceof Middleware.MiddlewareFailed ||
        inner !== undefined && Exit.isFailure(inner) && Cause.squash(inner.cause) === error
      if (passes) return Effect.failCause(cause)
      return Cause.hasFails(cause)
        ? Effect.matchEffect(codec.encode(error), {
          onSuccess: () => Effect.fail(error),
          onFailure: () => failed(error),
        })
        : failed(error)
    })
  })
}

const attemptOf = (job: CurrentJob, payload: unknown): Middleware.Attempt => ({
  id: job.id,
  name: job.name,
  attempt: job.attempt,
  queue: job.queue,
  priority: job.priority,
  created: job.created,
  context: job.context,
  payload,
})

const withMiddleware = (run: Run, definition: Definition, interception: Interception): Run => {
  const around = interception.around(definition).filter(({ attempt }) => attempt !== undefined)
  return around.length === 0 ? run : (payload) =>
    Effect.flatMap(CurrentJob, (job) => {
      const attempt = attemptOf(job, payload)
      return around.reduceRight(
        (next, middleware) => layerOf(middleware, attempt, definition, next),
        Effect.suspend(() => run(payload)),
      )
    }) as Effect.Effect<unknown, unknown>
}

/**
 * Spans nobody sees are not made: where there is no tracer but Effect's own, which keeps nothing, an
 * attempt has a span only to carry on the trace that its job came with.
 */
const withSpan = (run: Run, { name }: Definition, traced: boolean): Run => (payload) =>
  Effect.withFiber((fiber) => {
    const job = Context.getUnsafe(fiber.context, CurrentJob)
    const traceparent = job.context[TraceContext.key]
    const parent = traceparent === undefined ? undefined : TraceContext.parse(traceparent)
    if (parent === undefined && !traced) return run(payload)
    return Effect.useSpan(
      `job ${name}`,
      {
        kind: "consumer",
        ...(parent === undefined ? { root: true } : { parent: Tracer.externalSpan(parent) }),
        attributes: {
          "job.id": job.id,
          "job.name": name,
          "job.queue": job.queue,
          "job.attempt": job.attempt,
        },
      },
      (span) => Effect.provideService(run(payload), Tracer.ParentSpan, span),
    )
  })

/** A handler with all that stands around it; `services` are those of the server. */
export const observed = (
  { context, definition, run }: ReadyHandler,
  interception: Interception,
  services: Context.Context<never>,
): ReadyHandler => {
  const tracer = Context.getOrUndefined(context, Tracer.Tracer) ??
    Context.getOrUndefined(services, Tracer.Tracer)
  const traced = tracer !== undefined && tracer !== Tracer.nativeTracer
  // The span in which the program was put together is no parent of what runs later.
  const own = Context.omit(Tracer.ParentSpan)(context) as Context.Context<never>
  return {
    definition,
    run: withSpan(withMiddleware(run, definition, interception), definition, traced),
    context: tracer === undefined ? own : Context.add(own, Tracer.Tracer, tracer),
  }
}

const states: Readonly<Record<Kind, JobState>> = {
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
  retrying: "retrying",
  snoozed: "scheduled",
  unknown: "scheduled",
  returned: "enqueued",
  isolated: "enqueued",
}

/** Tells middleware of the transitions among a server's events. */
export const tellTransitions = (
  interception: Interception,
  handlers: ReadonlyMap<string, ReadyHandler>,
) =>
(event: Event): void => {
  if (event._tag !== "AttemptStarted" && event._tag !== "JobMoved") return
  const { id, name, queue } = event
  // What the engine does for itself is no application's job.
  if (queue === engineQueue) return
  const definition = handlers.get(name)?.definition
  if (!interception.isWatched(definition)) return
  if (event._tag === "AttemptStarted") {
    const { attempt } = event
    interception.notify(
      { id, name, from: "enqueued", to: "processing", queue, attempt },
      definition,
    )
    return
  }
  const { attempt, due, reason, to } = event
  interception.notify({
    id,
    name,
    from: attempt === undefined ? undefined : "processing",
    to: states[to],
    queue,
    attempt: attempt?.number,
    due: due === undefined ? undefined : new Date(due),
    reason,
  }, definition)
}
