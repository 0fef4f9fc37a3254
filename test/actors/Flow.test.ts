import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, type Client, Flow, Job, Retry } from "../../mod.ts"
import { effect, testServer } from "../harness.ts"
import { serve } from "./harness.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { value: Schema.Number }) {}

const Numbers = Schema.Array(Schema.Number)

/** Counts up to a number. */
const Count = Job.make("count", { payload: Schema.Number, success: Numbers })
const Double = Job.make("double", {
  payload: Schema.Number,
  success: Schema.Number,
  error: Refused,
  retry: Retry.none,
})
const Sum = Job.make("sum", { payload: Numbers, success: Schema.Number })
const Text = Job.make("text", { payload: Schema.Number, success: Schema.String })
const Pair = Job.make("pair", {
  payload: Schema.Tuple([Schema.Number, Schema.String]),
  success: Schema.String,
})
const Large = Job.make("large", { payload: Schema.Number, success: Schema.String })
const Nested = Job.make("nested", {
  payload: Schema.Struct({
    a: Schema.Tuple([Schema.Number, Schema.Tuple([Schema.String, Schema.Number])]),
    b: Schema.Number,
    none: Schema.Tuple([]),
  }),
  success: Schema.String,
})
/** Takes what `Text` gives, it seems to the compiler. */
const Short = Job.make("short", {
  payload: Schema.String.pipe(Schema.check(Schema.isMaxLength(2))),
  success: Schema.Number,
})

const runs: Array<string> = []

const handlers = Layer.mergeAll(
  Count.toLayer((n) => Effect.succeed(Array.from({ length: n }, (_, i) => i))),
  Double.toLayer((n) => {
    runs.push(`double ${n}`)
    return n < 0 ? Effect.fail(new Refused({ value: n })) : Effect.succeed(n * 2)
  }),
  Sum.toLayer((list) => Effect.succeed(list.reduce((a, b) => a + b, 0))),
  Text.toLayer((n) => Effect.succeed(`<${n}>`)),
  Pair.toLayer(([n, text]) => Effect.succeed(`${n} ${text}`)),
  Large.toLayer((n) => Effect.succeed("x".repeat(n))),
  Nested.toLayer((value) => Effect.succeed(JSON.stringify(value))),
  Short.toLayer((text) => Effect.succeed(text.length)),
)

const within = "20 seconds"
const execute = <A, E>(flow: Flow.Flow<A, E>) => Flow.execute(flow, { within })

describe("a flow", () => {
  const nats = testServer()
  const flowTest = (
    name: string,
    body: () => Effect.Effect<unknown, unknown, Client.Client>,
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const { provide } = yield* serve(nats.layer(), handlers)
        return yield* provide(body())
      }))

  flowTest("gives each step what the one before it gave", () =>
    Effect.gen(function* () {
      const flow = Flow.job(Count, 4).pipe(Flow.andThen(Sum), Flow.andThen(Text))
      assert.equal(yield* execute(flow), "<6>")
      assert.equal(yield* execute(Flow.job(Double, 4)), 8)
    }))

  flowTest("gathers results of parts side by side", () =>
    Effect.gen(function* () {
      const both = Flow.all([Flow.job(Double, 4), Flow.job(Text, 5)])
      assert.deepEqual(yield* execute(both), [8, "<5>"])
      assert.equal(yield* execute(Flow.andThen(both, Pair)), "8 <5>")
      assert.deepEqual(yield* execute(Flow.all([])), [])
      const nested = Flow.all({
        b: Flow.job(Double, 1),
        a: Flow.all([Flow.job(Double, 2), Flow.all([Flow.job(Text, 3), Flow.job(Double, 4)])]),
        none: Flow.all([]),
      })
      assert.deepEqual(yield* execute(nested), { a: [4, ["<3>", 8]], b: 2, none: [] })
      const text = yield* execute(nested.pipe(Flow.andThen(Nested)))
      assert.deepEqual(JSON.parse(text), { a: [4, ["<3>", 8]], b: 2, none: [] })
    }))

  flowTest("runs a shared part once", () =>
    Effect.gen(function* () {
      const diamond = Flow.job(Double, 71).pipe(
        Flow.share((n) => Flow.all([n.pipe(Flow.andThen(Double)), n.pipe(Flow.andThen(Text))])),
        Flow.andThen(Pair),
      )
      assert.equal(yield* execute(diamond), "284 <142>")
      assert.equal(runs.filter((run) => run === "double 71").length, 1)
      const twice = Flow.job(Double, 3).pipe(Flow.share((n) => Flow.all([n, n])))
      assert.deepEqual(yield* execute(twice), [6, 6])
    }))

  for (const count of [0, 1, 100, 2_000]) {
    flowTest(
      `runs a job for each of ${count} elements and gives a list in their order`,
      () =>
        Effect.gen(function* () {
          const each = Flow.job(Count, count).pipe(Flow.forEach(Double))
          const handle = yield* Flow.enqueue(each, { description: "doubles" })
          const list = yield* Flow.await(each, handle, { within })
          assert.deepEqual(list, Array.from({ length: count }, (_, i) => i * 2))
          const { description, state, total } = yield* Batch.await(handle.batch, { within })
          assert.deepEqual({ description, state, total }, {
            description: "doubles",
            state: "succeeded",
            total: 3,
          })
          // After the fact, and by whoever has the handle.
          assert.deepEqual(yield* Flow.await(each, { ...handle }), list)
        }),
    )
  }

  flowTest("goes on from a list that was made of a list", () =>
    Effect.gen(function* () {
      const flow = Flow.job(Count, 5).pipe(
        Flow.forEach(Double),
        Flow.forEach(Double),
        Flow.andThen(Sum),
      )
      assert.equal(yield* execute(flow), 40)
    }))
})
