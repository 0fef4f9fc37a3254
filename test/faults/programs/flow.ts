/**
 * A server in a process of its own that runs workflows. CRASH_AT, as `<event>:<job name>`, kills it in
 * the midst of telling of such an event.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Nats, runMain, Server, StreamSettings } from "../../../mod.ts"
import { Element, List } from "./flowJobs.ts"

const env = (name: string): string => process.env[name] ?? ""

const live = Server.layer({
  queues: { default: 5 },
  onEvent: (event) => {
    if ("name" in event && `${event._tag}:${event.name}` === env("CRASH_AT")) {
      process.kill(process.pid, "SIGKILL")
    }
  },
}).pipe(
  Layer.provide(
    List.toLayer((count) => Effect.succeed(Array.from({ length: count }, (_, i) => i))),
  ),
  Layer.provide(Element.toLayer((n) => Effect.succeed(n + 1))),
  Layer.provide(Nats.layer({
    servers: env("SERVERS"),
    namespace: env("NAMESPACE"),
    authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  })),
  Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis: Number(env("ACK_WAIT")) })),
)

runMain(Layer.tap(live, () => Effect.sync(() => console.log("ready"))))
