/** Middleware as async functions. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as EffectMiddleware from "../../src/client/Middleware.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { Veto } from "../../src/core/Signal.ts"

/** What a middleware does; leave out what it doesn't. */
export interface Hooks {
  /**
   * Around an enqueue. `next` goes on to the next middleware and at last checks and stores the job; it
   * gives the id. What it is given may differ from the request in everything but the name.
   */
  readonly enqueue?: (
    request: EffectMiddleware.EnqueueRequest,
    next: (request: EffectMiddleware.EnqueueRequest) => Promise<JobId>,
  ) => JobId | PromiseLike<JobId>
  /**
   * Around an attempt, within its time limit. `next` is the rest of the middleware and at last the
   * handler; it can run once. What it gives and throws is the end of the attempt, unless it is changed.
   */
  readonly attempt?: (
    attempt: EffectMiddleware.Attempt,
    next: () => Promise<unknown>,
  ) => unknown
  /**
   * Told of transitions that this process made, one after the other. Nobody waits for it and it can't
   * change anything; what it throws is logged once.
   */
  readonly transition?: (transition: EffectMiddleware.Transition) => unknown
}

/** An async function around an effect, which runs with the fiber's services and ends with it. */
const around = <A, E, X, B>(
  hook: (next: (input: X) => Promise<A>) => unknown,
  rest: (input: X) => Effect.Effect<A, E>,
): Effect.Effect<B, E> =>
  Effect.flatMap(
    Effect.context<never>(),
    (services) =>
      Effect.callback<B, E>((resume, signal) => {
        const causes = new Map<unknown, Cause.Cause<E>>()
        const next = async (input: X) => {
          const exit = await Effect.runPromiseExitWith(services)(rest(input), { signal })
          if (Exit.isSuccess(exit)) return exit.value
          const error = Cause.squash(exit.cause)
          causes.set(error, exit.cause)
          throw error
        }
        const run = async () => await hook(next)
        run().then(
          (value) => resume(Effect.succeed(value as B)),
          (error: unknown) => {
            // What came out of the inside and was let pass is what it was there.
            const cause = causes.get(error)
            resume(cause === undefined ? Effect.die(error) : Effect.failCause(cause))
          },
        )
      }),
  )

/**
 * Makes a middleware of async functions, for `connect` and for definitions. Throws `InvalidOptions` for
 * an illegal name or hook: a mistake in the program itself, found when it starts.
 */
export const middleware = (name: string, hooks: Hooks): EffectMiddleware.Middleware => {
  const { attempt, enqueue, transition, ...others } = hooks
  return EffectMiddleware.make(name, {
    ...others,
    ...(typeof enqueue !== "function" ? { enqueue } : {
      enqueue: (request, next) => around((next) => enqueue(request, next), next),
    }),
    ...(typeof attempt !== "function" ? { attempt } : {
      attempt: (told, next) => around((next) => attempt(told, () => next(undefined)), () => next),
    }),
    ...(typeof transition !== "function" ? { transition } : {
      transition: (told) =>
        Effect.tryPromise({ try: async () => await transition(told), catch: (error) => error }),
    }),
  } as EffectMiddleware.Hooks)
}

/**
 * Refuses what the middleware is around. In `enqueue`: the call rejects with `EnqueueVetoed` and
 * nothing is written. In `attempt`: the job ends, cancelled for this reason.
 */
export const veto = (reason: string): never => {
  throw new Veto(reason)
}
