/** Answers questions that arrive on core subjects: which server runs this job? */
import * as Effect from "effect/Effect"
import { answer } from "../src/nats/Control.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool } from "./Pool.ts"

/** The controller of a server, as a child of its supervisor. */
export const start = (
  wire: Wire,
  server: string,
  pools: ReadonlyMap<string, Pool>,
): ChildSpec.Start => {
  // `[server, attempt, started]` for a job that runs here; an empty list counts as a no.
  const find = (id: unknown) => {
    for (const pool of pools.values()) {
      for (const delivery of pool.held) {
        if (delivery.phase === "running" && delivery.subject.id === id) {
          return [server, delivery.attempt, delivery.started]
        }
      }
    }
    return []
  }
  return Effect.as(
    Effect.acquireRelease(
      Effect.sync(() => answer(wire.nats.connection, wire.subjects.control("find"), find)),
      (stop) => Effect.sync(stop),
    ),
    Effect.never,
  )
}
