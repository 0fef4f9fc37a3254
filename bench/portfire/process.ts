/** Processing through the engine: a server as everybody runs it, with records. */
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client, Nats, Server } from "../../mod.ts"
import { handWritten } from "../baselines/process.ts"
import { countMessages, queue, untilDrained } from "../support/jobs.ts"
import type { Workload } from "../support/workload.ts"
import { connectionTo, payloads, Welcome, WelcomeLive } from "./engine.ts"

/** Attempts at once. */
const slots = 1_000

/** The start of the server is measured with it; its connection, as that of the loops, is there. */
export const processWithRecords: Workload = {
  name: "processing with records",
  reference: handWritten.name,
  count: (jobs) => jobs,
  setup: async (world, count) => {
    const { connection, namespace } = world
    const client = ManagedRuntime.make(Layer.provideMerge(Client.layer, connectionTo(world)))
    await client.runPromise(Welcome.enqueueMany(payloads(count)))
    const nats = await client.runPromise(Nats.Nats)
    let done = 0
    let allDone = () => {}
    const server = ManagedRuntime.make(
      Server.layer({
        queues: { [queue]: slots },
        onEvent: (event) => {
          if (event._tag === "JobMoved" && ++done === count) allDone()
        },
      }).pipe(Layer.provide(WelcomeLive), Layer.provide(Layer.succeed(Nats.Nats, nats))),
    )
    return {
      go: async () => {
        const finished = new Promise<void>((resolve) => allDone = resolve)
        await server.context()
        await finished
        await untilDrained(connection, namespace)
      },
      verify: async () => {
        const records = await countMessages(connection, namespace, "succeeded")
        const left = await countMessages(connection, namespace, "ready")
        if (records !== count || left !== 0) {
          throw new Error(`${records} records of ${count} jobs, ${left} jobs left`)
        }
      },
      close: async () => {
        await server.dispose()
        await client.dispose()
      },
    }
  },
}
