/**
 * Jobs that follow others: one that takes its parent's result, one that waits for several, one that
 * cleans up after a failure, and what becomes of those whose wish can't come true.
 *
 *     bun examples/continuations.ts    deno run -A examples/continuations.ts    node examples/continuations.ts
 */
import { Client, Job, Nats, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const once = Retry.fixed({ attempts: 1, delay: 0 })

const Count = Job.make("count", {
  payload: Schema.String,
  success: Schema.Number,
  error: Schema.String,
  retry: once,
})

const Add = Job.make("add", { payload: Schema.Array(Schema.Number), success: Schema.Number })

const Print = Job.make("print", { payload: Schema.Number, success: Schema.String })

const CleanUp = Job.make("clean-up", { payload: Schema.String, success: Schema.String })

const handlers = Layer.mergeAll(
  Count.toLayer((text) =>
    text === "" ? Effect.fail("there is nothing to count") : Effect.succeed(text.length)
  ),
  Add.toLayer((numbers) => Effect.succeed(numbers.reduce((a, b) => a + b, 0))),
  Print.toLayer((number) => Effect.succeed(`<${number}>`)),
  CleanUp.toLayer((what) =>
    Effect.map(Job.current, ({ parents }) => `${what} after ${parents[0]?.outcome?.state}`)
  ),
)

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  // Three that may run at once, the sum of what they give, and the sum in print.
  const parts = yield* Count.enqueueMany(["one", "three", "seventeen"])
  const sum = yield* Add.enqueueAfter(parts, Job.parentResults)
  const printed = yield* Print.enqueueAfter(sum, Job.parentResult)
  console.log("sum:", yield* Print.await(printed))

  const bad = yield* Count.enqueue("")
  const cleanUp = yield* CleanUp.enqueueAfter(bad, "tidy", { on: ["failed", "cancelled"] })
  const never = yield* Print.enqueueAfter(bad, Job.parentResult)
  console.log("clean up:", yield* CleanUp.await(cleanUp))
  const cancelled = yield* Effect.flip(Print.await(never))
  console.log("never:", cancelled._tag, cancelled.message.includes(bad))

  // Parents may have ended long ago.
  const late = yield* Print.enqueueAfter(sum, Job.parentResult, { delay: "100 millis" })
  console.log("late:", yield* Print.await(late))

  const missing = yield* Effect.flip(Print.enqueueAfter("nobody", 1))
  console.log("missing:", missing._tag)

  const client = yield* Client.Client
  const { parents } = yield* client.get(sum)
  console.log("parents:", parents.map(({ state }) => state).join(" "))
})

await Effect.runPromise(Effect.provide(program, Live))
