/**
 * Keeps the leases of everything the pool holds: a message that is not renewed within the ack wait
 * goes to somebody else. Each is renewed once a third of that has passed, from arrival to release.
 */
import * as Effect from "effect/Effect"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool } from "./Pool.ts"

/** The lease keeper of a pool, as a child of its supervisor. */
export const start = (pool: Pool): ChildSpec.Start =>
  Effect.sync(() => {
    const renew = Effect.sync(() => {
      const now = performance.now()
      const before = now - pool.ackWaitMillis / 3
      for (const delivery of pool.held) {
        if (delivery.renewed > before) continue
        pool.renew(delivery)
      }
    })
    return Effect.forever(
      Effect.andThen(Effect.suspend(() => Effect.sleep(pool.ackWaitMillis / 12)), renew),
    )
  })
