/**
 * How long code that doesn't give way has kept the event loop from everything else. While it does, no
 * lease is renewed and nobody is answered.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const tickMillis = 250
/** How long a blockage is told of. */
const memoryMillis = 15_000

/** The longest blockage of the last 15 seconds, in milliseconds, the current one included. */
export type Lag = () => number

/** Measures for as long as the scope lives. */
export const measure: Effect.Effect<Lag, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      let last = performance.now()
      let worst = 0
      let worstAt = last
      const late = (now: number) => Math.max(0, now - last - tickMillis)
      const look = () => {
        const now = performance.now()
        if (late(now) >= worst || now - worstAt > memoryMillis) {
          worst = late(now)
          worstAt = now
        }
        return now
      }
      const timer = setInterval(() => {
        last = look()
      }, tickMillis)
      const lag = () => {
        look()
        return worst
      }
      return { timer, lag }
    }),
    ({ timer }) => Effect.sync(() => clearInterval(timer)),
  ),
  ({ lag }) => lag,
)
