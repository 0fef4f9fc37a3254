/**
 * Empties the pool when it is stopped. It does nothing while the pool works; being the last child, it
 * is the first to be stopped, while all others still live, and its finalizer is the graceful stop:
 *
 * 1. nothing new is asked for, and what is on its way or waits for a slot is given back;
 * 2. what runs gets the grace period;
 * 3. what still runs is interrupted and given back;
 * 4. outcomes are committed until nothing is held.
 *
 * So after a clean stop no job waits for its lease to run out (G8).
 */
import * as Effect from "effect/Effect"
import { engineQueue } from "../src/nats/Subjects.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool } from "./Pool.ts"

/** Time that handlers have for their finalizers, and then outcomes for being committed, each. */
export const lastStepMillis = 5_000

const until = (pool: Pool, done: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const check = () => {
      if (!done()) return
      pool.onLess = () => {}
      resume(Effect.void)
    }
    pool.onLess = check
    check()
    return Effect.sync(() => {
      pool.onLess = () => {}
    })
  })

const drain = Effect.fnUntraced(function* (pool: Pool) {
  pool.draining = true
  const { emit, name: queue } = pool.options
  // The engine's own queue is nobody's business.
  if (queue !== engineQueue) emit({ _tag: "DrainStarted", queue, running: pool.running })
  yield* Effect.timeoutOption(Effect.promise(() => pool.puller.drain()), lastStepMillis)
  pool.giveBackWaiting()
  yield* Effect.timeoutOption(until(pool, () => pool.running === 0), pool.options.graceMillis)
  yield* pool.interruptAll
  yield* Effect.timeoutOption(until(pool, () => pool.running === 0), lastStepMillis)
  yield* Effect.timeoutOption(until(pool, () => pool.held.size === 0), lastStepMillis)
})

/** The drainer of a pool, as the last child of its supervisor. */
export const start = (pool: Pool): ChildSpec.Start =>
  Effect.as(
    Effect.acquireRelease(
      Effect.sync(() => {
        pool.draining = false
      }),
      // A restart of the group stops this child too; then there is nothing to drain.
      () => pool.stopping ? drain(pool) : Effect.void,
    ),
    Effect.never,
  )
