/** Middleware as async functions. */
import * as Effect from "effect/Effect"
import type { EnqueueError } from "../../src/client/Client.ts"
import * as EffectMiddleware from "../../src/client/Middleware.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { Veto } from "../../src/core/Signal.ts"
import { fromAsync } from "./run.ts"

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

/**
 * Makes a middleware of async functions, for `connect` and for definitions. Throws `InvalidOptions` for
 * an illegal name or hook: a mistake in the program itself, found when it starts.
 */
export const middleware = (name: string, hooks: Hooks): EffectMiddleware.Middleware => {
  const { attempt, enqueue, transition, ...others } = hooks
  return EffectMiddleware.make(name, {
    ...others,
    ...(typeof enqueue !== "function" ? { enqueue } : {
      enqueue: (request, next) =>
        fromAsync<JobId, EnqueueError>(
          (run) => enqueue(request, (request) => run(next(request))),
          Effect.die,
        ),
    }),
    ...(typeof attempt !== "function" ? { attempt } : {
      attempt: (told, next) =>
        fromAsync<unknown, unknown>((run) => attempt(told, () => run(next)), Effect.die),
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
