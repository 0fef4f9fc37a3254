/** Effects as promises that reject with the errors themselves, and async functions as effects. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Client } from "../../src/client/Client.ts"

/** What every call takes. */
export interface CallOptions {
  /**
   * Ends the call: its promise rejects with the signal's reason. Jobs are not cancelled by it, and one
   * that was on its way to NATS may be stored.
   */
  readonly signal?: AbortSignal | undefined
}

/** The signal of a call, and the options without it: the engine knows none. */
export const split = <O extends CallOptions>(
  options: O | undefined,
): readonly [Omit<O, "signal"> | undefined, CallOptions] => {
  if (options === undefined) return [undefined, {}]
  if (typeof options !== "object" || options === null || !("signal" in options)) {
    return [options, {}]
  }
  const { signal, ...rest } = options
  return [rest, { signal }]
}

/** The client was closed before the call, or while it waited. */
export class ClientClosed extends Data.Error<Record<never, never>> {
  /** Tells errors apart. */
  readonly _tag = "ClientClosed"
  /** Name in stack traces. */
  override readonly name = "ClientClosed"
  /** One sentence a person can act on. */
  override get message(): string {
    return "the client is closed; jobs that were stored are not concerned"
  }
}

/** Runs what needs a client. */
export type Run = <A>(
  effect: Effect.Effect<A, unknown, Client>,
  options?: CallOptions,
) => Promise<A>

/** The value of what `run` runs; a rejection with its error, the signal's reason or `ClientClosed`. */
export const settle = async <A>(
  run: (options: Effect.RunOptions) => Promise<Exit.Exit<A, unknown>>,
  signal: AbortSignal | undefined,
): Promise<A> => {
  signal?.throwIfAborted()
  const exit = await run(signal === undefined ? {} : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (!Cause.hasInterruptsOnly(exit.cause)) throw Cause.squash(exit.cause)
  signal?.throwIfAborted()
  throw new ClientClosed()
}

/**
 * An async function as an effect, by which it is aborted. What the function runs has the services of
 * the effect's fiber and is interrupted with it; a failure out of there that the function lets pass is
 * the effect's own, and `failed` says what anything else means that it throws. The effect ends when
 * all has that the function ran, also what it didn't wait for; later nothing can be run.
 */
export const fromAsync = <A, E, R = never>(
  body: (
    run: <B>(effect: Effect.Effect<B, E, R>) => Promise<B>,
    signal: AbortSignal,
  ) => unknown,
  failed: (error: unknown) => Effect.Effect<never, E>,
): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.context<R>(),
    (services) =>
      Effect.callback<A, E>((resume, signal) => {
        const causes = new Map<unknown, Cause.Cause<E>>()
        const pending = new Set<Promise<unknown>>()
        let over = false
        const start = async <B>(effect: Effect.Effect<B, E, R>): Promise<B> => {
          signal.throwIfAborted()
          if (over) throw new Error("it comes too late: what it would be part of has ended")
          const exit = await Effect.runPromiseExitWith(services)(effect, { signal })
          if (Exit.isSuccess(exit)) return exit.value
          const error = Cause.squash(exit.cause)
          causes.set(error, exit.cause)
          throw error
        }
        const run = <B>(effect: Effect.Effect<B, E, R>): Promise<B> => {
          const started = start(effect)
          // Another promise, so that a rejection which nobody looks at is still seen as such.
          const result = started.then((value) => value)
          const settled = () => pending.delete(result)
          pending.add(result)
          started.then(settled, settled)
          return result
        }
        const whole = async () => {
          try {
            const value = await body(run, signal)
            while (pending.size > 0) await Promise.all(pending)
            return value
          } finally {
            over = true
          }
        }
        whole().then(
          (value) => resume(Effect.succeed(value as A)),
          (error: unknown) => {
            const cause = causes.get(error)
            resume(cause === undefined ? failed(error) : Effect.failCause(cause))
          },
        )
      }),
  )
