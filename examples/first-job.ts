/**
 * A first job: defined, enqueued, run and read back, with a NATS server that starts and stops with it.
 *
 *     bun examples/first-job.ts    deno run -A examples/first-job.ts    node examples/first-job.ts
 */
import { Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

const Greet = Job.make("greet", {
  payload: Schema.Struct({ name: Schema.String }),
  success: Schema.String,
})

const GreetLive = Greet.toLayer(({ name }) => Effect.succeed(`Hello, ${name}!`))

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(GreetLive),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const id = yield* Greet.enqueue({ name: "Ada" })
  const record = yield* Effect.repeat(Greet.get(id), {
    until: ({ state }) => state === "succeeded",
    schedule: Schedule.spaced("20 millis"),
  })
  console.log(record.result)
})

await Effect.runPromise(Effect.provide(program, Live))
