/** A server with isolated handlers; the environment says where NATS is. Prints what starts. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Isolated, Nats, runMain, Server } from "../../../mod.ts"
import { InProcess, InThread } from "./isolatedJobs.ts"

const worker = new URL("./isolatedWorker.ts", import.meta.url)
const { NAMESPACE, NATS_PASSWORD, NATS_USER, SERVERS } = process.env as Record<string, string>
const handlers = Layer.mergeAll(
  Isolated.layer(InThread, worker, { workers: 1 }),
  Isolated.layer(InProcess, worker, { workers: 1 }),
)

const live = Server.layer({
  queues: { default: 4 },
  gracePeriod: "100 millis",
  onEvent: (event) => {
    if (event._tag === "AttemptStarted") console.log("started", event.name)
  },
}).pipe(
  Layer.tap(() => Effect.sync(() => console.log("ready"))),
  Layer.provide(handlers),
  Layer.provide(Nats.layer({
    servers: SERVERS ?? "",
    namespace: NAMESPACE ?? "",
    authentication: { user: NATS_USER ?? "", password: NATS_PASSWORD ?? "" },
  })),
)

runMain(live)
