/**
 * Results of jobs: enqueue and wait in one step, with the handler's typed result or error, or wait for
 * a job that is there already.
 *
 *     bun examples/execute.ts    deno run -A examples/execute.ts    node examples/execute.ts
 */
import { Job, Nats, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

const Order = Job.make("order", {
  payload: Schema.Struct({ item: Schema.String, count: Schema.Number }),
  success: Schema.Struct({ cents: Schema.Number }),
  error: OutOfStock,
  retry: Retry.none,
})

const OrderLive = Order.toLayer(({ count, item }) => {
  if (item === "unicorn") return new OutOfStock({ item })
  if (item === "safe") return Effect.delay(Effect.succeed({ cents: 9_900 }), "300 millis")
  return count > 0 ? Effect.succeed({ cents: 250 * count }) : Effect.die(new Error("no count"))
})

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(OrderLive),
  Layer.provide(Nats.layerEmbedded()),
)

const order = (item: string, count: number) =>
  Order.execute({ item, count }, { within: "10 seconds" }).pipe(
    Effect.map(({ cents }) => `costs ${cents / 100}`),
    Effect.catchTags({
      OutOfStock: ({ item }) => Effect.succeed(`there is no ${item}`),
      JobFailed: ({ reason }) => Effect.succeed(`failed: ${reason}`),
    }),
  )

const program = Effect.gen(function* () {
  console.log("three apples:", yield* order("apple", 3))
  console.log("a unicorn:", yield* order("unicorn", 1))
  console.log("no apple:", yield* order("apple", 0))

  // Who has run out of patience can come back: the job goes on.
  const late = yield* Effect.flip(Order.execute({ item: "safe", count: 1 }, { within: 100 }))
  if (late._tag !== "AwaitTimedOut") return yield* late
  console.log("a safe: not within", late.within, "ms")
  const { cents } = yield* Order.await(late.id)
  console.log("a safe: costs", cents / 100)
})

await Effect.runPromise(Effect.provide(program, Live))
