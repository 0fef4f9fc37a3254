/** Runs middleware: the chain around an enqueue, and the telling of transitions. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Tracer from "effect/Tracer"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { maxContextBytes } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import { Veto } from "../core/Signal.ts"
import * as TraceContext from "../core/TraceContext.ts"
import { type Definition, jobOptionKeys } from "./Definition.ts"
import * as Middleware from "./Middleware.ts"
import type { EnqueueError } from "./Writer.ts"

/** What travels with a job. */
export type JobContext = Readonly<Record<string, string>>

/** Goes on with an enqueue. */
export type Next = (request: Middleware.EnqueueRequest) => Effect.Effect<JobId, EnqueueError>

/** The middleware of a process: its server and its clients share one. */
export interface Interception {
  /** Whether there is middleware around the enqueues of a definition. */
  readonly isAround: (definition: Definition) => boolean
  /**
   * Runs the chain around an enqueue; `last` checks the request and stores the job. Where it only
   * puts the job aside, to be stored if all goes well, `stores` is false.
   */
  readonly enqueue: (
    definition: Definition,
    request: Middleware.EnqueueRequest,
    field: string,
    last: Next,
    stores: boolean,
  ) => Effect.Effect<JobId, EnqueueError>
  /** All middleware around the jobs of a definition, outermost first. */
  readonly around: (definition: Definition) => ReadonlyArray<Middleware.Middleware>
  /** Tells a transition; costs nothing when nobody listens. */
  readonly notify: (transition: Middleware.Transition, definition?: Definition) => void
  /** Whether somebody listens to the transitions of a definition, or of jobs of any. */
  readonly isWatched: (definition?: Definition) => boolean
}

/** Around an enqueue by one middleware. */
const layerOf = (
  { enqueue, name: middleware }: Middleware.Middleware,
  job: string,
  field: string,
  next: Next,
  stores: boolean,
): Next => {
  if (enqueue === undefined) return next
  return (request) => {
    let id: JobId | undefined
    const one = Semaphore.makeUnsafe(1)
    const once: Next = (changed) =>
      one.withPermits(1)(Effect.suspend(() =>
        id !== undefined ? Effect.succeed(id) : Effect.map(
          // The name says which handler gets the payload that this definition's schema has checked.
          next({ ...changed, name: job }),
          (made) => id = made,
        )
      ))
    const failed = (cause: unknown) =>
      new Middleware.MiddlewareFailed({
        middleware,
        hook: "enqueue",
        cause,
        id: stores ? id : undefined,
      })
    return Effect.matchCauseEffect(Effect.suspend(() => enqueue(request, once)), {
      onSuccess: () =>
        id === undefined
          ? Effect.fail(failed("it ended without calling next, and without a veto"))
          : Effect.succeed(id),
      onFailure: (cause): Effect.Effect<never, EnqueueError> => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
        const error = Cause.squash(cause)
        if (stores && id !== undefined) {
          return Effect.fail(
            failed(error instanceof Veto ? `too late for a veto: ${error.reason}` : error),
          )
        }
        if (error instanceof Veto) {
          const { reason } = error
          return Effect.fail(new Middleware.EnqueueVetoed({ job, field, middleware, reason }))
        }
        return Cause.hasFails(cause) ? Effect.failCause(cause) : Effect.fail(failed(error))
      },
    })
  }
}

const own = (definition: Definition | undefined): ReadonlyArray<Middleware.Middleware> =>
  (definition?.middleware ?? none) as ReadonlyArray<Middleware.Middleware>

const none: ReadonlyArray<never> = []

/** The interception as a service. */
export const Interception: Context.Service<Interception, Interception> = Context.Service<
  Interception
>("portfire/client/Interception")

const make: Effect.Effect<Interception, never, Scope.Scope> = Effect.gen(function* () {
  const global = yield* Middleware.Global
  const everywhere = global.some(({ enqueue }) => enqueue !== undefined)
  const around = (definition: Definition) => [...global, ...own(definition)]
  const watchers = global.filter(({ transition }) => transition !== undefined)
  const tell = yield* makeFeed
  return {
    around,
    isAround: (definition) =>
      everywhere || own(definition).some(({ enqueue }) => enqueue !== undefined),
    enqueue: (definition, request, field, last, stores) =>
      around(definition).reduceRight(
        (next, middleware) => layerOf(middleware, definition.name, field, next, stores),
        last,
      )(request),
    isWatched: (definition) =>
      watchers.length > 0 || own(definition).some(({ transition }) => transition !== undefined),
    notify: (transition, definition) => {
      for (const watcher of watchers) tell(watcher, transition)
      for (const watcher of own(definition)) {
        if (watcher.transition !== undefined) tell(watcher, transition)
      }
    },
  }
})

/** Provides the interception with the global middleware among the services. */
export const layer: Layer.Layer<Interception> = Layer.effect(
  Interception,
  Effect.suspend(() => make),
)

/** Checks the middleware of a definition. */
export const checkMiddleware = (list: unknown): InvalidOptions | undefined => {
  if (list === undefined) return undefined
  const field = "middleware"
  if (!Array.isArray(list)) {
    return new InvalidOptions({ field, value: show(list), reason: "a list is expected" })
  }
  for (const [index, item] of list.entries()) {
    if (typeof item !== "object" || item === null || typeof item.name !== "string") {
      const reason = "it is no middleware; Middleware.make makes one"
      return new InvalidOptions({ field: `${field}[${index}]`, value: show(item), reason })
    }
  }
  return undefined
}

/** Transitions that wait for an observer; what comes beyond is dropped. */
const maxBacklog = 10_000

/** How long observers may take with what is left when the client or server closes. */
const lastMoments = "1 second"

interface Told {
  readonly watcher: Middleware.Middleware
  readonly transition: Middleware.Transition
}

/**
 * Tells observers in one fiber that lives as long as there is something to tell, begun at once: an
 * observer that waits for nothing has seen the transition when the teller goes on.
 */
const makeFeed: Effect.Effect<
  (watcher: Middleware.Middleware, transition: Middleware.Transition) => void,
  never,
  Scope.Scope
> = Effect.gen(function* () {
  const context = yield* Effect.context<never>()
  const complained = new Set<string>()
  let backlog: Array<Told> = []
  let telling = false
  let idle: (() => void) | undefined

  const complain = (key: string, text: string, ...cause: ReadonlyArray<unknown>) => {
    if (complained.has(key)) return Effect.void
    complained.add(key)
    return Effect.logWarning(text, ...cause)
  }

  const observe = ({ transition, watcher }: Told) =>
    Effect.catchCause(
      Effect.suspend(() => watcher.transition?.(transition) ?? Effect.void),
      (cause) =>
        complain(
          watcher.name,
          `the middleware ${watcher.name} failed on a transition; this is logged once`,
          cause,
        ),
    )

  const tellAll = Effect.gen(function* () {
    while (backlog.length > 0) {
      const taken = backlog
      backlog = []
      for (const told of taken) yield* observe(told)
    }
    telling = false
    idle?.()
  })

  yield* Effect.addFinalizer(() =>
    Effect.timeoutOption(
      Effect.callback<void>((resume) => {
        idle = () => resume(Effect.void)
        if (!telling) idle()
      }),
      lastMoments,
    )
  )

  return (watcher, transition) => {
    if (backlog.length >= maxBacklog) {
      const text = "middleware that observes transitions is too slow: some were not told"
      Effect.runForkWith(context)(complain("", text))
      return
    }
    backlog.push({ watcher, transition })
    if (telling) return
    telling = true
    Effect.runForkWith(context)(tellAll)
  }
})

/** The span itself or, where it is left out of tracing, the nearest of its parents that isn't. */
const propagated = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined =>
  span === undefined || !Context.get(span.annotations, Tracer.DisablePropagation)
    ? span
    : span._tag === "Span"
    ? propagated(Option.getOrUndefined(span.parent))
    : undefined

/** The context that a job gets: what it was given, and the current span of the fiber that enqueues. */
export const withTrace = (
  context: JobContext | undefined,
  { cache }: Fiber.Fiber<unknown, unknown>,
): JobContext | undefined => {
  if (
    cache.span === undefined || !cache.tracerEnabled || context?.[TraceContext.key] !== undefined
  ) return context
  const span = propagated(cache.span)
  const text = span === undefined ? undefined : TraceContext.print(span)
  return text === undefined ? context : { ...context, [TraceContext.key]: text }
}

const optionKeys: ReadonlyArray<string> = [...jobOptionKeys, "delay", "at"]

/** What the chain around an enqueue begins with; options of the call itself are not its business. */
export const requestOf = (
  { name }: Definition,
  payload: unknown,
  options: Readonly<Record<string, unknown>>,
): Middleware.EnqueueRequest => ({
  name,
  payload,
  options: Object.fromEntries(
    Object.entries(options).filter(([key, value]) =>
      value !== undefined && optionKeys.includes(key)
    ),
  ),
  context: {},
})

/** The context of a job as middleware has left it, with the current span; checks the options' names. */
export const checkedContext = (
  { context, options }: Middleware.EnqueueRequest,
  fiber: Fiber.Fiber<unknown, unknown>,
): JobContext | undefined | InvalidOptions => {
  const unknown = checkKeys("options", options, optionKeys)
  if (unknown !== undefined) return unknown
  const checked = checkContext(context)
  return checked instanceof InvalidOptions ? checked : withTrace(checked, fiber)
}

/** The transition of a job that has just been stored. */
export const created = (
  id: JobId,
  { name }: Definition,
  queue: string,
  due: number | undefined,
): Middleware.Transition =>
  due === undefined
    ? { id, name, to: "enqueued", queue }
    : { id, name, to: "scheduled", queue, due: new Date(due) }

const keys = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/
const utf8 = new TextEncoder()

/** Checks a context that middleware has made; an empty one is none. */
const checkContext = (context: unknown): JobContext | undefined | InvalidOptions => {
  const refuse = (field: string, value: unknown, reason: string) =>
    new InvalidOptions({ field, value: show(value), reason })
  if (typeof context !== "object" || context === null || Array.isArray(context)) {
    return refuse("context", context, "an object of texts is expected")
  }
  let size = 0
  const entries = Object.entries(context)
  for (const [key, value] of entries) {
    if (!keys.test(key)) {
      const reason = 'a key has 1 to 64 letters, digits, "_", "." and "-", ' +
        "and begins with a letter or digit"
      return refuse("context", key, reason)
    }
    if (typeof value !== "string") return refuse(`context.${key}`, value, "a text is expected")
    size += key.length + utf8.encode(value).length
  }
  if (size > maxContextBytes) {
    const reason = `it takes ${size} bytes, the limit is ${maxContextBytes}`
    return refuse("context", context, reason)
  }
  return entries.length === 0 ? undefined : Object.fromEntries(entries)
}
