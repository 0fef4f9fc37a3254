/**
 * Handlers that run outside of the server's event loop: in a thread or in a process of their own. For
 * work that keeps the processor busy, that may never end, or that may take its process down.
 *
 * A module serves the job, and the server is told where the module lies:
 *
 * @example
 * ```ts
 * import { Isolated, Job } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * // jobs.ts
 * const Resize = Job.make("resize", {
 *   payload: Schema.Struct({ file: Schema.String }),
 *   isolation: "thread",
 *   timeout: "1 minute",
 * })
 *
 * // resize.worker.ts
 * Isolated.serve(Resize, ({ file }) => Effect.log(`resizing ${file}`))
 *
 * // server.ts, in place of Resize.toLayer
 * const ResizeLive = Isolated.layer(Resize, new URL("./resize.worker.ts", import.meta.url))
 * ```
 *
 * @module
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { CurrentLogAnnotations } from "effect/References"
import type * as Scope from "effect/Scope"
import { availableParallelism } from "node:os"
import { CurrentJob } from "../src/client/CurrentJob.ts"
import { makeKey, type RegisteredHandler } from "../src/client/Handler.ts"
import type { Handler, Job } from "../src/client/Job.ts"
import { describe } from "../src/core/Attempt.ts"
import { InvalidOptions } from "../src/core/errors.ts"
import { maxDelayMillis } from "../src/core/Limits.ts"
import { checkKeys, show } from "../src/core/Names.ts"
import { Discard, Snooze } from "../src/core/Signal.ts"
import { millisOf } from "../src/core/Time.ts"
import * as Crew from "./isolated/Crew.ts"
import * as Port from "./isolated/Port.ts"
import type { End, Level, ToWorker } from "./isolated/Protocol.ts"
import { textOf } from "./JobLogger.ts"

/** How the workers of an isolated job are kept. */
export interface IsolatedOptions {
  /**
   * Most workers, each with one run at a time; default the number of processors. A queue with more
   * slots than that lets attempts wait for a worker, with their time limits running.
   */
  readonly workers?: number | undefined
  /** How long a worker may take to be ready; default 30 seconds. */
  readonly startWithin?: Duration.Input | undefined
  /** How long an interrupted run may take before its worker is killed; default 1 second. */
  readonly grace?: Duration.Input | undefined
  /** How long a worker is kept that has nothing to do; one always is. Default 1 minute. */
  readonly idle?: Duration.Input | undefined
  /**
   * Most megabytes of a worker's heap: what takes more fails its attempt. Threads and processes on
   * Node, and nothing elsewhere, where the machine has to limit it; default no limit.
   */
  readonly memory?: number | undefined
}

/** The module of an isolated job could not be started. */
export class IsolatedFailed extends Data.Error<{
  /** Name of the job. */
  readonly job: string
  /** Where its module lies. */
  readonly module: string
  /** Why. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "IsolatedFailed"
  /** Name in stack traces. */
  override readonly name = "IsolatedFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.job}: its worker ${this.module} could not be started: ${this.reason}`
  }
}

const optionKeys: ReadonlyArray<string> = ["workers", "startWithin", "grace", "idle", "memory"]

const countOf = (
  field: string,
  value: number | undefined,
  max: number,
): number | undefined | InvalidOptions =>
  value === undefined || (Number.isInteger(value) && value >= 1 && value <= max)
    ? value
    : new InvalidOptions({
      field,
      value: show(value),
      reason: `it is a whole number from 1 to ${max}`,
    })

const moduleOf = (module: URL | string): URL | InvalidOptions => {
  const refuse = (reason: string) =>
    new InvalidOptions({ field: "module", value: show(String(module)), reason })
  const how = 'it is the URL of a local file: new URL("./worker.ts", import.meta.url)'
  if (!(module instanceof URL) && typeof module !== "string") return refuse(how)
  const url = URL.canParse(String(module)) ? new URL(module) : undefined
  return url?.protocol === "file:" ? url : refuse(how)
}

const resolve = (
  { definition: { isolation: kind = "thread" }, name: job }: {
    readonly definition: { readonly isolation?: "thread" | "process" | undefined }
    readonly name: string
  },
  module: URL | string,
  options: IsolatedOptions,
): Crew.CrewOptions | InvalidOptions => {
  const unknown = checkKeys("options", options, optionKeys)
  if (unknown !== undefined) return unknown
  const url = moduleOf(module)
  if (url instanceof InvalidOptions) return url
  const workers = countOf("workers", options.workers ?? availableParallelism(), 1_000)
  if (workers instanceof InvalidOptions) return workers
  const memory = countOf("memory", options.memory, 1_000_000)
  if (memory instanceof InvalidOptions) return memory
  const startMillis = millisOf("startWithin", options.startWithin ?? "30 seconds", maxDelayMillis)
  if (typeof startMillis !== "number") return startMillis
  const graceMillis = millisOf("grace", options.grace ?? "1 second", maxDelayMillis)
  if (typeof graceMillis !== "number") return graceMillis
  const idleMillis = millisOf("idle", options.idle ?? "1 minute", maxDelayMillis)
  if (typeof idleMillis !== "number") return idleMillis
  return {
    ...{ kind, job, module: url, memory, startMillis, graceMillis, idleMillis },
    workers: workers ?? 1,
  }
}

/** A defect of a handler that ran elsewhere, with the stack it had there. */
const defectOf = (message: string, stack: string | undefined): Error => {
  const error = new Error(message)
  if (stack !== undefined) error.stack = stack
  return error
}

/**
 * Binds a job to a module that serves it, in place of `toLayer`: each attempt runs in a thread or in a
 * process of its own, as the definition's `isolation` says (without it in a thread). One worker is
 * started at once, so that a module that can't be loaded is found out: `IsolatedFailed`.
 *
 * A run that exceeds its time limit, or whose job is cancelled, is interrupted and, where it doesn't
 * end within the grace period, killed with its worker. A worker that ends in the midst of a run has
 * failed that attempt and nothing else. The lease of the job beats meanwhile.
 */
export const layer = <Name extends string, P, A, E>(
  job: Job<Name, P, A, E>,
  module: URL | string,
  options: IsolatedOptions = {},
): Layer.Layer<Handler<Name>, IsolatedFailed | InvalidOptions> =>
  Layer.effect(
    makeKey<Handler<Name>>(job.name),
    Effect.gen(function* () {
      const { definition, name } = job
      const resolved = resolve(job, module, options)
      if (resolved instanceof InvalidOptions) return yield* resolved
      const crew = yield* Crew.make(resolved)
      const reason = yield* crew.warmUp
      if (reason !== undefined) {
        return yield* new IsolatedFailed({ job: name, module: resolved.module.href, reason })
      }
      const run = Effect.fnUntraced(function* (payload: unknown) {
        const current = yield* CurrentJob
        const bytes = yield* Effect.orDie(definition.payload.encode(payload))
        const end: End = yield* crew.run(bytes, current)
        switch (end._tag) {
          case "Succeeded":
            return yield* Effect.orDie(definition.success.decode(end.result))
          case "Failed":
            return yield* Effect.flatMap(
              Effect.orDie(definition.error.decode(end.error)),
              Effect.fail,
            )
          case "Crashed":
            return yield* Effect.die(defectOf(end.message, end.stack))
          case "Discarded":
            return yield* Effect.die(new Discard(end.reason))
          case "Snoozed":
            return yield* Effect.die(new Snooze(end.millis))
        }
      })
      const registered: RegisteredHandler = {
        definition,
        context: yield* Effect.context<never>(),
        // Each attempt is given the current job.
        run: run as RegisteredHandler["run"],
      }
      return registered
    }),
  )

const endOf = (cause: Cause.Cause<unknown>, job: Job<string, never, unknown, unknown>) => {
  const error = Cause.squash(cause)
  const crashed = (): End => ({ _tag: "Crashed", ...describe(error) })
  if (error instanceof Discard) {
    return Effect.succeed<End>({ _tag: "Discarded", reason: error.reason })
  }
  if (error instanceof Snooze) return Effect.succeed<End>({ _tag: "Snoozed", millis: error.millis })
  return Cause.hasFails(cause)
    ? Effect.match(job.definition.error.encode(error), {
      onSuccess: (bytes): End => ({ _tag: "Failed", error: bytes }),
      onFailure: crashed,
    })
    : Effect.succeed(crashed())
}

const levels: ReadonlySet<string> = new Set<Level>([
  "Fatal",
  "Error",
  "Warn",
  "Info",
  "Debug",
  "Trace",
])

/** Services of a handler's own: a layer for all of them, where it needs any. */
type Services<R> = [R] extends [never] ? [layer?: Layer.Layer<never, unknown>]
  : [layer: Layer.Layer<R, unknown>]

/**
 * In a module for {@link layer}: the handler of a job. In any program but the worker that a server
 * started from this module it does nothing. The handler's services come from the layer, which is built
 * once per worker; `Job.current`, `Job.progress` and `Effect.log` reach the server.
 */
export const serve = <Name extends string, P, A, E, R = never>(
  job: Job<Name, P, A, E>,
  handler: (payload: P) => Effect.Effect<A, E, R>,
  ...[services]: Services<Exclude<R, CurrentJob | Scope.Scope>>
): void => {
  const port = Port.find(job.name)
  if (port === undefined) return
  const runtime = ManagedRuntime.make(
    (services ?? Layer.empty) as Layer.Layer<Exclude<R, CurrentJob | Scope.Scope>, unknown>,
  )
  const running = new Map<number, Fiber.Fiber<unknown, unknown>>()

  const begin = ({ job: facts, payload, run }: ToWorker & { readonly _tag: "Run" }) => {
    const current: CurrentJob = {
      ...facts,
      report: (value) => port.send({ _tag: "Progress", run, value }),
    }
    const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
      if (!levels.has(logLevel)) return
      const annotations = Object.fromEntries(
        Object.entries(fiber.getRef(CurrentLogAnnotations)).map(([key, value]) => [
          key,
          typeof value === "string" ? value : textOf(value, Cause.empty),
        ]),
      )
      const text = textOf(message, cause)
      port.send({ _tag: "Line", run, level: logLevel as Level, text, annotations })
    })
    const body = Effect.matchCauseEffect(
      Effect.flatMap(
        Effect.orDie(job.definition.payload.decode(payload)),
        (value) =>
          Effect.flatMap(
            handler(value as P),
            (result) => Effect.orDie(job.definition.success.encode(result)),
          ),
      ),
      {
        onSuccess: (result) => Effect.succeed<End>({ _tag: "Succeeded", result }),
        onFailure: (cause) => endOf(cause, job as unknown as Job<string, never, unknown, unknown>),
      },
    )
    const provided = Effect.scoped(body).pipe(
      Effect.provideService(CurrentJob, current),
      Effect.provideService(Logger.CurrentLoggers, new Set([logger])),
    )
    const fiber = runtime.runFork(
      provided as Effect.Effect<End, never, Exclude<R, CurrentJob | Scope.Scope>>,
    )
    running.set(run, fiber)
    fiber.addObserver((exit) => {
      running.delete(run)
      const end: End = exit._tag === "Success"
        ? exit.value
        : { _tag: "Crashed", ...describe(Cause.squash(exit.cause)) }
      port.send({ _tag: "Ended", run, end })
    })
  }

  port.listen((message) => {
    if (message._tag === "Run") begin(message)
    else running.get(message.run)?.interruptUnsafe()
  })
  runtime.context().then(
    () => port.send({ _tag: "Ready" }),
    (error: unknown) => port.send({ _tag: "NotReady", message: describe(error).message }),
  )
}
