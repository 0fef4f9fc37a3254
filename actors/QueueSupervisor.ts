/**
 * The supervision tree of one pool. The order is the law: a child may rely on those before it, so a
 * crash restarts it and those after it, and a stop runs from the last to the first.
 */
import * as Effect from "effect/Effect"
import * as Committer from "./Committer.ts"
import * as Drainer from "./Drainer.ts"
import * as Fetcher from "./Fetcher.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import * as Supervisor from "./kit/Supervisor.ts"
import * as Lease from "./Lease.ts"
import { Pool, type PoolOptions } from "./Pool.ts"
import * as Workers from "./Workers.ts"

/** The supervisor of a pool, as a child of the one of all queues. */
export const childSpec = (
  options: PoolOptions,
  onPool: (pool: Pool) => void,
): ChildSpec.ChildSpec => ({
  id: options.name,
  type: "supervisor",
  start: Effect.gen(function* () {
    const pool = new Pool(options)
    onPool(pool)
    // Runs after the children are stopped, since it is added before them.
    yield* Effect.addFinalizer(() => Effect.sync(() => pool.abandon()))
    const supervisor = yield* Supervisor.start({
      id: options.name,
      strategy: "restForOne",
      intensity: 10,
      period: "1 minute",
      backoff: { initial: "100 millis", max: "5 seconds" },
      children: [
        { id: "workers", start: Workers.start(pool) },
        { id: "lease", start: Lease.start(pool) },
        { id: "committer", start: Committer.start(pool) },
        { id: "fetcher", start: Fetcher.start(pool) },
        {
          id: "drainer",
          start: Drainer.start(pool),
          shutdown: options.graceMillis + 3 * Drainer.lastStepMillis,
        },
      ],
    })
    // Runs before the children are stopped, since it was added after them.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        pool.stopping = true
      })
    )
    return supervisor.awaitExit
  }),
})
