/**
 * A server in a process of its own that runs what recurring entries make. Each run goes to a ledger that
 * all processes of a test append to: `<nominal time> <id> <pid> <now>`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { appendFileSync } from "node:fs"
import process from "node:process"
import { Job, Nats, runMain, Server, StreamSettings } from "../../../mod.ts"
import { Tick } from "./recurringJobs.ts"

const env = (name: string): string => process.env[name] ?? ""

const TickLive = Tick.toLayer(({ millis }) =>
  Effect.gen(function* () {
    const { id, recurring } = yield* Job.current
    const line = `${recurring?.at.getTime()} ${id} ${process.pid} ${Date.now()}\n`
    appendFileSync(env("LEDGER"), line)
    yield* Effect.sleep(millis)
  })
)

const live = Server.layer({ queues: { default: 10 } }).pipe(
  Layer.provide(TickLive),
  Layer.provide(Nats.layer({
    servers: env("SERVERS"),
    namespace: env("NAMESPACE"),
    authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  })),
  Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis: Number(env("ACK_WAIT")) })),
)

runMain(Layer.tap(live, () => Effect.sync(() => console.log("ready"))))
