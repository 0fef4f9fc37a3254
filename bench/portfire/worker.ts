/** The engine for the benchmarks of whole processes: servers, and a process that only enqueues. */
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client } from "../../mod.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import { api, makeJobStream } from "../support/jobs.ts"
import type { WorkerProgram } from "../support/program.ts"
import { connectionTo, payloads, Welcome } from "./engine.ts"

/** A server on a NATS server that runs elsewhere. */
export const server: WorkerProgram = {
  name: "server",
  file: new URL("../programs/server.ts", import.meta.url),
  prepare: async ({ connection, namespace }) => {
    await makeJobStream(connection, namespace)
  },
  feed: async (world, count) => {
    const client = ManagedRuntime.make(Layer.provide(Client.layer, connectionTo(world)))
    await client.runPromise(Welcome.enqueueMany(payloads(count)))
    await client.dispose()
  },
}

/** A server with a NATS server of its own. */
export const embedded: WorkerProgram = {
  name: "server with embedded NATS",
  file: new URL("../programs/embedded.ts", import.meta.url),
  prepare: () => Promise.resolve(),
}

/** A process that stores many jobs whenever it is asked to; they are removed at once. */
export const enqueuer: WorkerProgram = {
  name: "enqueueMany",
  file: new URL("../programs/enqueuer.ts", import.meta.url),
  prepare: async ({ connection, namespace }) => {
    await makeJobStream(connection, namespace)
  },
  feed: async ({ connection, namespace }, count) => {
    const stored = await connection.request(`bench.${namespace}.enqueue`, String(count), {
      timeout: 60_000,
    })
    if (stored.string() !== String(count)) throw new Error(`${stored.string()} of ${count} stored`)
    await api(connection, `STREAM.PURGE.${jobsStream(namespace, 0)}`)
  },
}
