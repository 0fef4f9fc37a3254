/** Enqueuing through the engine: one by one with a number in flight, and many at once. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client } from "../../mod.ts"
import { barePublish } from "../baselines/publish.ts"
import { countMessages, payload } from "../support/jobs.ts"
import type { Workload } from "../support/workload.ts"
import { connectionTo, payloads, Welcome } from "./engine.ts"

const workload = (
  name: string,
  enqueue: (count: number) => Effect.Effect<unknown, unknown, Client.Client>,
): Workload => ({
  name,
  reference: barePublish.name,
  count: (jobs) => jobs,
  setup: async (world, count) => {
    const runtime = ManagedRuntime.make(Layer.provide(Client.layer, connectionTo(world)))
    // The first job of a queue makes its consumers, once in the life of a queue.
    await runtime.runPromise(Welcome.enqueue(payload))
    return {
      go: async () => {
        await runtime.runPromise(enqueue(count))
      },
      verify: async () => {
        const found = await countMessages(world.connection, world.namespace, "ready")
        if (found !== count + 1) throw new Error(`${found} of ${count + 1} jobs are stored`)
      },
      close: () => runtime.dispose(),
    }
  },
})

const oneByOne = (inFlight: number): Workload =>
  workload(
    `enqueue, ${inFlight.toLocaleString("en-US")} in flight`,
    (count) =>
      Effect.forEach(payloads(count), (each) => Welcome.enqueue(each), {
        concurrency: inFlight,
        discard: true,
      }),
  )

/** A program that awaits each of its enqueues, with so many parts that do. */
export const enqueueOneByOne: ReadonlyArray<Workload> = [oneByOne(64), oneByOne(1_000)]

/** The way to store many. */
export const enqueueMany: Workload = workload(
  "enqueueMany",
  (count) => Welcome.enqueueMany(payloads(count)),
)
