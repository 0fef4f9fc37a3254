/**
 * A process that does an operation of the table of crash points, or the work of a server, and is killed
 * as soon as a write of the name AFTER has left it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Client, Nats, Server } from "../../../mod.ts"
import { shortTimes } from "../crashTimes.ts"
import { dying } from "../dying.ts"
import { handlers } from "./crashJobs.ts"
import { type Ids, killed } from "./crashOperations.ts"

const env = (name: string): string => process.env[name] ?? ""

const nats = dying(
  Nats.layer({
    servers: env("SERVERS"),
    namespace: env("NAMESPACE"),
    authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  }),
  { after: (name) => name === env("AFTER"), kill: () => process.kill(process.pid, "SIGKILL") },
).layer

const operation = killed[env("OPERATION")]

if (operation === undefined) {
  const hooks = { started: () => {}, isBroken: () => false, gate: Effect.void }
  const server = Server.layer({ queues: { default: 20, narrow: 1, other: 5 } }).pipe(
    Layer.provide(handlers(hooks)),
    Layer.provide(nats),
    Layer.provide(shortTimes),
  )
  await Effect.runPromise(Layer.launch(server))
} else {
  const client = Client.layer.pipe(Layer.provide(nats), Layer.provide(shortTimes))
  const act = operation.act(JSON.parse(env("IDS")) as Ids, env("KEY"))
  await Effect.runPromise(Effect.exit(Effect.provide(act, client)))
}
