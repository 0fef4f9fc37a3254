/** From `enqueue` to the handler: a client and a server with connections of their own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import { Client, Job, Server } from "../../mod.ts"
import { payload, queue } from "../support/jobs.ts"
import type { Lane } from "../support/lane.ts"
import { connectionTo } from "./engine.ts"

const Sample = Job.make("sample", {
  payload: Schema.Struct({ sample: Schema.Number, text: Schema.String }),
})

/** A server with twenty slots that has nothing else to do. */
export const engineLane: Lane = {
  name: "enqueue to handler",
  open: async (world, started) => {
    const SampleLive = Sample.toLayer(({ sample }) => Effect.sync(() => started(sample)))
    const server = ManagedRuntime.make(
      Server.layer({ queues: { [queue]: 20 } }).pipe(
        Layer.provide(SampleLive),
        Layer.provide(connectionTo(world)),
      ),
    )
    const client = ManagedRuntime.make(Layer.provide(Client.layer, connectionTo(world)))
    await server.context()
    await client.context()
    return {
      send: async (sample) => {
        await client.runPromise(Sample.enqueue({ sample, text: payload.text }))
      },
      close: async () => {
        await client.dispose()
        await server.dispose()
      },
    }
  },
}
