/** What the programs of the torture are told by their environment. */
import * as Layer from "effect/Layer"
import process from "node:process"
import { Nats, StreamSettings } from "../../../../mod.ts"
import { AlarmMillis } from "../../../../src/nats/Wire.ts"

/** A variable; empty where it isn't set. */
export const env = (name: string): string => process.env[name] ?? ""

/** The settings of the namespace, which are the same in all processes. */
export const settings: Layer.Layer<never> = Layer.merge(
  Layer.succeed(StreamSettings, {
    ackWaitMillis: Number(env("ACK_WAIT")),
    partitions: Number(env("PARTITIONS")),
    replicas: Number(env("REPLICAS")),
  }),
  Layer.succeed(AlarmMillis, Number(env("ALARM"))),
)

/** The connection, by way of the proxy. */
export const nats: Layer.Layer<Nats.Nats, Nats.ConnectError> = Nats.layer({
  servers: env("SERVERS").split(","),
  namespace: env("NAMESPACE"),
  authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  waitOnFirstConnect: true,
})
