/** Async functions as handlers, and what they are told. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as LogLevel from "effect/LogLevel"
import type * as ClientService from "../../src/client/Client.ts"
import { CurrentJob, factsOf } from "../../src/client/CurrentJob.ts"
import type * as EffectJob from "../../src/client/Job.ts"
import type { Codec } from "../../src/core/Codec.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import { maxDelayMillis } from "../../src/core/Limits.ts"
import type { ProgressInput } from "../../src/core/Journal.ts"
import { Discard, Snooze } from "../../src/core/Signal.ts"
import { millisOf } from "../../src/core/Time.ts"
import { type Client, makeClient } from "./Client.ts"
import type { Definition } from "./Definition.ts"
import { fromAsync, type Run, settle } from "./run.ts"

/** How a line is logged. */
export interface LineOptions {
  /** How serious it is; default `Info`. */
  readonly level?: LogLevel.Severity | undefined
  /** What belongs to it. */
  readonly annotations?: Readonly<Record<string, unknown>> | undefined
}

/** What a handler is told of the job and the attempt that it runs for, and what it can say. */
export interface HandlerContext extends Omit<CurrentJob, "report"> {
  /**
   * Aborted when the attempt is interrupted: it has taken too long, the job was cancelled, or the
   * server stops and the grace period is over. What the handler does then has no effect on the job.
   */
  readonly signal: AbortSignal
  /** A client in the same namespace. */
  readonly client: Client
  /**
   * What the jobs that this one follows have given, of those that succeeded, in the order in which they
   * were named; all have to be of the definition. Rejects with `UnreadableRecord` for one of another.
   */
  parentResults<A>(
    job: Definition<unknown, unknown, unknown, A>,
  ): Promise<ReadonlyArray<A>>
  /**
   * Says how far the job is: a fraction from 0 to 1, or how many parts are done of how many. It
   * neither waits nor throws; at most four a second are sent, the last one always.
   */
  progress(value: ProgressInput): void
  /** Logs a line, which is kept with the job where its definition has `logs`. */
  log(text: string, options?: LineOptions): void
  /**
   * Ends the attempt and the job: it is never tried again and is recorded as failed for this reason.
   * It throws, so nothing after it runs; let what it throws pass.
   */
  discard(reason: string): never
  /**
   * Ends the attempt without counting it: the job runs again after the delay. It throws, so nothing
   * after it runs; let what it throws pass. `InvalidOptions` for a delay that can't be.
   */
  snooze(delay: Duration.Input): never
}

/** A handler of the jobs of a definition: a layer, so that Effect code can run it too. */
export type Handler<Name extends string = string> = Layer.Layer<EffectJob.Handler<Name>>

const logOf = (context: Context.Context<never>): HandlerContext["log"] => (text, options = {}) =>
  Effect.runSyncWith(context)(
    Effect.annotateLogs(
      Effect.logWithLevel(options.level ?? "Info")(text),
      options.annotations ?? {},
    ),
  )

/** What a handler is told that has no client. */
export const partsOf = (
  services: Context.Context<CurrentJob>,
  signal: AbortSignal,
): Omit<HandlerContext, "client"> => {
  const job = Context.get(services, CurrentJob)
  return {
    ...factsOf(job),
    signal,
    parentResults: (parents) =>
      settle(
        (options) => Effect.runPromiseExitWith(services)(parents.effect.parentResults, options),
        undefined,
      ) as Promise<ReadonlyArray<never>>,
    progress: (value) => job.report(value),
    log: logOf(services),
    discard: (reason) => {
      throw new Discard(reason)
    },
    snooze: (delay) => {
      const millis = millisOf("delay", delay, maxDelayMillis)
      throw millis instanceof InvalidOptions ? millis : new Snooze(millis)
    },
  }
}

const contextOf = (
  services: Context.Context<ClientService.Client | CurrentJob>,
  signal: AbortSignal,
): HandlerContext => {
  const run: Run = (effect, options) =>
    settle((run) => Effect.runPromiseExitWith(services)(effect, run), options?.signal)
  let client: Client | undefined
  return {
    ...partsOf(services, signal),
    get client() {
      return client ??= makeClient(run)
    },
  }
}

/** What a handler threw: a word of its own, an error its definition knows, or a crash. */
export const failureOf = (
  { encode }: Codec<unknown>,
  error: unknown,
): Effect.Effect<never, unknown> =>
  error instanceof Discard || error instanceof Snooze
    ? Effect.die(error)
    : Effect.matchEffect(encode(error), {
      onFailure: () => Effect.die(error),
      onSuccess: () => Effect.fail(error),
    })

/** Binds an async function to a definition. */
export const handlerOf = <Name extends string, P, A, E>(
  job: EffectJob.Job<Name, P, A, E>,
  handler: (payload: P, context: HandlerContext) => A | PromiseLike<A>,
): Handler<Name> => {
  const failed = (error: unknown) =>
    failureOf(job.definition.error, error) as Effect.Effect<never, E>
  return job.toLayer((payload: P) =>
    Effect.flatMap(
      Effect.context<ClientService.Client | CurrentJob>(),
      (services) =>
        fromAsync<A, E>((_, signal) => handler(payload, contextOf(services, signal)), failed),
    )
  ) as Handler<Name>
}
