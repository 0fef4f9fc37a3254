/** The worker's side of an isolated job: runs its handler as the server asks for it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { CurrentLogAnnotations, MinimumLogLevel } from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import process from "node:process"
import { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { Definition } from "../../src/client/Definition.ts"
import { describe } from "../../src/core/Attempt.ts"
import * as TraceContext from "../../src/core/TraceContext.ts"
import * as Attempt from "../Attempt.ts"
import { textOf } from "../JobLogger.ts"
import { Outlet } from "./Outlet.ts"
import * as Port from "./Port.ts"
import { compact, type End, type Order } from "./Protocol.ts"
import type { Transport } from "./Transport.ts"

/** Reads what a handler logs, for the server to log it. */
const loggerOf = (outlet: Outlet): Logger.Logger<unknown, void> =>
  Logger.make(({ cause, fiber, logLevel: level, message }) => {
    if (level === "All" || level === "None") return
    const annotations = Object.fromEntries(
      Object.entries(fiber.getRef(CurrentLogAnnotations)).map((
        [name, value],
      ) => [name, textOf(value, Cause.empty)]),
    )
    outlet.line({ level, text: textOf(message, cause), annotations })
  })

/** What of an end gets to the server. */
const endOf = (
  { failure, message, result, snooze, stack, ...ended }: Attempt.Ended,
  { packError }: Transport,
): Effect.Effect<End> => {
  const end: End = {
    ...{ ending: ended.ending, message, stack, snooze },
    result: result === undefined ? undefined : compact(result),
  }
  if (failure === undefined) return Effect.succeed(end)
  return Effect.match(packError(failure.value), {
    onSuccess: (error): End => ({ ...end, error: compact(error) }),
    onFailure: () => end,
  })
}

/** See `Isolated.serve`. */
export const serve = (
  definition: Definition,
  transport: Transport,
  handler: (payload: unknown) => Effect.Effect<unknown, unknown, CurrentJob | Scope.Scope>,
  services: Layer.Layer<never, unknown>,
): void => {
  const port = Port.find(definition.name)
  if (port === undefined) return
  const runtime = ManagedRuntime.make(services)
  const running = new Map<number, Fiber.Fiber<End, unknown>>()

  const attempt = Effect.fnUntraced(function* (
    { job, level, maxPayload, payload, trace, version }: Order,
    outlet: Outlet,
  ) {
    const own = yield* Effect.context<never>()
    const scope = Scope.makeUnsafe()
    const span = trace === undefined ? undefined : TraceContext.parse(trace)
    const loggers = own.mapUnsafe.has(Logger.CurrentLoggers.key)
      ? Context.get(own, Logger.CurrentLoggers)
      : []
    const given = own.pipe(
      Context.add(CurrentJob, { ...job, report: (value) => outlet.progress(value) }),
      Context.add(Scope.Scope, scope),
      Context.add(Logger.CurrentLoggers, new Set([...loggers, loggerOf(outlet)])),
      Context.add(MinimumLogLevel, level),
      (context) =>
        span === undefined
          ? context
          : Context.add(context, Tracer.ParentSpan, Tracer.externalSpan(span)),
    )
    const decoded = Effect.mapError(
      definition.payload.decode(payload, version),
      ({ path, reason }) => new Error(`payload${path} does not match its schema: ${reason}`),
    )
    const body = Effect.flatMap(
      Effect.orDie(decoded),
      (value) => handler(value),
    )
    const ended = yield* Attempt.endOf(
      body as Effect.Effect<unknown, unknown>,
      definition,
      maxPayload,
    ).pipe(
      Effect.onExit((exit) => Scope.closeUnsafe(scope, exit) ?? Effect.void),
      Effect.provideContext(given as Context.Context<never>),
    )
    return yield* endOf(ended, transport)
  })

  const begin = (run: number, order: Order) => {
    const outlet = new Outlet(port, run)
    const fiber = runtime.runFork(attempt(order, outlet))
    running.set(run, fiber)
    fiber.addObserver((exit) => {
      running.delete(run)
      outlet.end()
      const end: End = Exit.isSuccess(exit)
        ? exit.value
        : { ending: "crashed", ...describe(Cause.squash(exit.cause)) }
      port.send({ _tag: "Ended", run, end })
    })
  }

  port.listen((message) => {
    if (message._tag === "Run") begin(message.run, message.order)
    else if (message._tag === "Interrupt") running.get(message.run)?.interruptUnsafe()
    else runtime.dispose().finally(() => process.exit(0))
  })
  runtime.context().then(
    () => port.send({ _tag: "Ready" }),
    (error: unknown) => port.send({ _tag: "NotReady", message: describe(error).message }),
  )
}
