/**
 * Work for the processor in threads of its own, beside a server that goes on: also when the work never
 * ends, or takes its thread down.
 *
 *     bun examples/isolation.ts    deno run -A examples/isolation.ts    node examples/isolation.ts
 */
import { Isolated, Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Factor } from "./isolation-jobs.ts"

const Greet = Job.make("greet", { payload: Schema.String, success: Schema.String })

const Live = Server.layer({ queues: { heavy: 2, default: 20 } }).pipe(
  Layer.provide([
    Isolated.layer(Factor, new URL("./isolation-worker.ts", import.meta.url), { workers: 2 }),
    Greet.toLayer((name) => Effect.succeed(`hello, ${name}`)),
  ]),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  console.log("2021 =", (yield* Factor.execute(2021)).join(" × "))

  const endless = yield* Factor.enqueue(-1)
  const fatal = yield* Factor.enqueue(0)
  console.log(yield* Greet.execute("meanwhile"))

  for (const id of [fatal, endless]) {
    const error = yield* Effect.flip(Factor.await(id))
    console.log(error.message.replace(/^.* failed: /, "failed: "))
  }
  console.log("9991 =", (yield* Factor.execute(9991)).join(" × "))
})

await Effect.runPromise(Effect.provide(program, Live))
