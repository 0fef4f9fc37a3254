/** A process that enqueues as many jobs as a request on NATS says, and answers with their number. */
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { connect, type Msg } from "nats"
import process from "node:process"
import { Client } from "../../mod.ts"
import { connectionTo, payloads, Welcome } from "../portfire/engine.ts"

const url = process.env.BENCH_SERVERS ?? ""
const namespace = process.env.BENCH_NAMESPACE ?? ""
const client = ManagedRuntime.make(
  Layer.provide(Client.layer, connectionTo({ url, namespace })),
)
await client.context()
const connection = await connect({ servers: url })
const enqueue = async (request: Msg) => {
  const ids = await client.runPromise(Welcome.enqueueMany(payloads(Number(request.string()))))
  request.respond(String(ids.length))
}
connection.subscribe(`bench.${namespace}.enqueue`, {
  callback: (_, request) => {
    enqueue(request).catch((error) => request.respond(String(error)))
  },
})
await connection.flush()
process.once("SIGTERM", () => process.exit(0))
console.log("ready")
