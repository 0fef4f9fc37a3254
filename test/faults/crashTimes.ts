/** Times that are short enough for a test. */
import * as Layer from "effect/Layer"
import { StreamSettings } from "../../mod.ts"
import { AlarmMillis } from "../../src/nats/Wire.ts"

/** Time without a sign of life after which a job is given to another server, in ms. */
export const ackWaitMillis = 1_000

/** An ack wait, and alarms after as long. */
export const shortTimes: Layer.Layer<never> = Layer.mergeAll(
  // It is processes that are killed here, never NATS.
  Layer.succeed(StreamSettings, { ackWaitMillis, storage: "memory" }),
  Layer.succeed(AlarmMillis, ackWaitMillis),
)
