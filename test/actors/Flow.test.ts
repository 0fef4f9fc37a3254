import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, Client, Flow, Job, Operation, Retry } from "../../mod.ts"
import { worldOf } from "../client/world.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { serve, subjectsIn, type TestServer } from "./harness.ts"

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

const Odd = Job.make("odd", {
  payload: Schema.Number,
  success: Schema.Number,
  error: Refused,
  retry: Retry.none,
})
const Crash = Job.make("crash", {
  payload: Schema.Number,
  success: Schema.Number,
  retry: Retry.none,
})
/** Fails for 1000. */
const Fragile = Job.make("fragile", {
  payload: Schema.Number,
  success: Schema.Number,
  error: Refused,
  retry: Retry.none,
})
const Note = Job.make("note", { payload: Schema.Number, success: Schema.Number })
const Same = Job.make("same", { payload: Numbers, success: Numbers })
const Stuck = Job.make("stuck", { payload: Schema.Number, success: Schema.Number })
/** A list for the compiler, none on the wire. */
const NoList = Job.make("no-list", {
  success: Schema.String.pipe(Schema.decodeTo(Numbers, {
    decode: SchemaGetter.transform((text: string) => text.split(",").map(Number)),
    encode: SchemaGetter.transform((list: ReadonlyArray<number>) => list.join(",")),
  })),
})

/** Fails for 1 while `broken`. */
const Broken = Job.make("broken", {
  payload: Schema.Number,
  success: Schema.Number,
  retry: Retry.none,
})

let broken = false
const runs: Array<string> = []
let isStuck = (): void => {}
const stuck = new Promise<void>((done) => isStuck = done)

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
  Odd.toLayer((n) => {
    runs.push(`odd ${n}`)
    return n % 2 === 0 ? Effect.fail(new Refused({ value: n })) : Effect.succeed(n)
  }),
  Crash.toLayer(() => Effect.die(new Error("no luck"))),
  Fragile.toLayer((n) =>
    n === 1_000 ? Effect.fail(new Refused({ value: n })) : Effect.succeed(n + 1)
  ),
  Note.toLayer((n) => {
    runs.push(`note ${n}`)
    return Effect.succeed(n)
  }),
  Broken.toLayer((n) => broken && n === 1 ? Effect.die(new Error("broken")) : Effect.succeed(n)),
  Same.toLayer((list) => Effect.succeed(list)),
  Stuck.toLayer(() => {
    isStuck()
    return Effect.never
  }),
  NoList.toLayer(() => Effect.succeed([1, 2])),
)

/** The server of a test. */
const World: Context.Service<TestServer, TestServer> = Context.Service<TestServer>("test/World")

const within = "20 seconds"
const execute = <A, E>(flow: Flow.Flow<A, E>) => Flow.execute(flow, { within })

describe("a flow", () => {
  const nats = testServer()
  const flowTest = (
    name: string,
    body: () => Effect.Effect<unknown, unknown, Client.Client | TestServer>,
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), handlers)
        return yield* server.provide(Effect.provideService(body(), World, server))
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
          const elements = yield* Batch.get(handle.each[0] ?? "")
          assert.deepEqual([elements.total, elements.members.succeeded], [count + 1, count + 1])
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

  effect("stays in one partition, whichever that is", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      yield* Effect.provide(Client.Client, worldOf(nats, { namespace, partitions: 3 }))
      const { provide } = yield* serve(nats.layer(namespace), handlers)
      const flow = Flow.all([
        Flow.job(Count, 5).pipe(Flow.forEach(Double), Flow.andThen(Sum)),
        Flow.job(Text, 1),
      ]).pipe(Flow.andThen(Pair))
      const handles = yield* provide(Effect.forEach([1, 2, 3], () => Flow.enqueue(flow)))
      assert.deepEqual(handles.map(({ batch }) => batch.at(-1)).sort(), ["0", "1", "2"])
      for (const handle of handles) {
        assert.equal(handle.batch.at(-1), handle.result.at(-1))
        assert.equal(yield* provide(Flow.await(flow, handle, { within })), "20 <1>")
      }
    }))

  flowTest(
    "fails as the step that failed does, whatever has followed that",
    () =>
      Effect.gen(function* () {
        const list = Flow.job(Double, -1).pipe(
          Flow.share((n) => Flow.all([n, n.pipe(Flow.andThen(Double))])),
          Flow.andThen(Sum),
          Flow.andThen(Text),
        )
        const error = yield* Effect.flip(execute(list))
        assert.ok(error instanceof Refused && error.value === -1, String(error))
        const crash = yield* Effect.flip(execute(Flow.job(Crash, 1).pipe(Flow.andThen(Double))))
        assert.ok(crash._tag === "JobFailed" && crash.record.name === "crash", String(crash))
      }),
  )

  flowTest(
    "fails as one of its elements does once all of them have ended",
    () =>
      Effect.gen(function* () {
        const flow = Flow.job(Count, 20).pipe(Flow.forEach(Odd), Flow.andThen(Sum))
        const handle = yield* Flow.enqueue(flow)
        const error = yield* Effect.flip(Flow.await(flow, handle, { within }))
        assert.ok(error instanceof Refused && error.value % 2 === 0, String(error))
        assert.equal(runs.filter((run) => run.startsWith("odd ")).length, 20)
        assert.equal((yield* Batch.await(handle.batch, { within })).state, "completed")
      }),
  )

  flowTest(
    "goes on when the job that failed is requeued and what followed it revived",
    () =>
      Effect.gen(function* () {
        const { get, operate } = yield* Client.Client
        const mend = Effect.fnUntraced(function* (flow: Flow.Flow<number>) {
          broken = true
          const handle = yield* Flow.enqueue(flow)
          const failed = yield* Effect.flip(Flow.await(flow, handle, { within }))
          assert.ok(failed._tag === "JobFailed", String(failed))
          assert.equal((yield* Batch.await(handle.batch, { within })).state, "completed")
          broken = false
          const answer = yield* operate(failed.id, Operation.requeue({ revive: true }))
          assert.equal(answer._tag, "changed")
          yield* eventually(get(handle.result), ({ state }) => state !== "cancelled")
          return yield* Flow.await(flow, handle, { within })
        })
        const element = Flow.job(Count, 3).pipe(Flow.forEach(Broken), Flow.andThen(Sum))
        assert.equal(yield* mend(element), 3)
        const before = Flow.job(Broken, 1).pipe(
          Flow.andThen(Count),
          Flow.forEach(Note),
          Flow.andThen(Sum),
        )
        assert.equal(yield* mend(before), 0)
      }),
  )

  flowTest(
    "gives what stands in for a part that has failed, and only then",
    () =>
      Effect.gen(function* () {
        const doubleOr = (n: number) =>
          Flow.job(Double, n).pipe(
            Flow.andThen(Double),
            Flow.orElse(Flow.job(Count, 3).pipe(Flow.andThen(Sum))),
            Flow.andThen(Text),
          )
        assert.equal(yield* execute(doubleOr(1)), "<4>")
        assert.equal(yield* execute(doubleOr(-1)), "<3>")
        const failing = Flow.job(Double, -1).pipe(Flow.orElse(Flow.job(Double, -2)))
        const error = yield* Effect.flip(execute(failing))
        assert.ok(error instanceof Refused && error.value === -2, String(error))
      }),
  )

  flowTest(
    "keeps a stand-in that goes on from a shared part waiting for the failure",
    () =>
      Effect.gen(function* () {
        const part = (n: number) =>
          Flow.job(Double, n).pipe(
            Flow.share((double) =>
              double.pipe(
                Flow.andThen(Fragile),
                Flow.orElse(double.pipe(Flow.andThen(Note))),
              )
            ),
          )
        assert.equal(yield* execute(part(1)), 3)
        assert.equal(runs.includes("note 2"), false)
        assert.equal(yield* execute(part(500)), 1_000)
        assert.equal(runs.includes("note 1000"), true)
      }),
  )

  flowTest(
    "tells where schemas of two steps differ that have the same types",
    () =>
      Effect.gen(function* () {
        const flow = Flow.job(Text, 12).pipe(Flow.andThen(Short))
        const error = yield* Effect.flip(execute(flow))
        assert.ok(error._tag === "JobFailed" && error.record.name === "short", String(error))
        assert.match(error.reason, /payload does not match its schema/)
        const list = yield* Effect.flip(
          execute(Flow.job(NoList).pipe(Flow.forEach(Double), Flow.andThen(Sum))),
        )
        assert.ok(list._tag === "JobFailed", String(list))
        assert.match(list.reason, /has given no list/)
      }),
  )

  flowTest(
    "tells when a list has too many elements, or results take too much together",
    () =>
      Effect.gen(function* () {
        const many = yield* Effect.flip(execute(Flow.job(Count, 10_001).pipe(Flow.forEach(Double))))
        assert.ok(many._tag === "JobFailed", String(many))
        assert.match(many.reason, /has given 10001 elements, the limit is 10000/)
        const large = Flow.job(Same, Array.from({ length: 5 }, () => 100_000))
        const list = yield* Effect.flip(execute(large.pipe(Flow.forEach(Large))))
        assert.ok(list._tag === "JobFailed", String(list))
        assert.match(list.reason, /the results of 5 jobs take \d+ bytes together, the limit is \d+/)
        const pair = yield* Effect.flip(
          execute(Flow.all([Flow.job(Large, 300_000), Flow.job(Large, 300_000)])),
        )
        assert.ok(pair._tag === "JobFailed", String(pair))
        assert.match(pair.reason, /too large to pass on/)
      }),
  )

  flowTest("is cancelled with its batch, elements included", () =>
    Effect.gen(function* () {
      const flow = Flow.job(Count, 50).pipe(Flow.forEach(Stuck), Flow.andThen(Sum))
      const handle = yield* Flow.enqueue(flow)
      yield* Effect.promise(() => stuck)
      const { operate } = yield* Client.Client
      assert.equal((yield* operate(handle.batch, Operation.cancel()))._tag, "changed")
      const error = yield* Effect.flip(Flow.await(flow, handle, { within }))
      assert.equal(error._tag, "JobCancelled", String(error))
      const { nats } = yield* World
      yield* eventually(
        subjectsIn(nats),
        (found) => !found.some((subject) => /\.(ready|await|retry|later)\./.test(subject)),
      )
    }))

  flowTest("names the job that was cancelled, and why", () =>
    Effect.gen(function* () {
      const { get, operate } = yield* Client.Client
      const flow = Flow.job(Text, 1, { delay: "1 hour" }).pipe(
        Flow.andThen(Short),
        Flow.andThen(Text),
      )
      const handle = yield* Flow.enqueue(flow)
      const parentOf = (id: string) => Effect.map(get(id), ({ parents }) => parents[0]?.id ?? "")
      const first = yield* parentOf(yield* parentOf(handle.result))
      yield* operate(first, Operation.cancel({ reason: "not today" }))
      const error = yield* Effect.flip(Flow.await(flow, handle, { within }))
      assert.ok(error._tag === "JobCancelled", String(error))
      assert.deepEqual([error.id, error.reason], [first, "not today"])
    }))

  flowTest("refuses bad input before anything is there", () =>
    Effect.gen(function* () {
      const untyped = (value: unknown) => value as never
      const payload = yield* Effect.flip(
        Flow.enqueue(Flow.all([Flow.job(Text, 1), Flow.job(Text, untyped("one"))])),
      )
      assert.equal(payload._tag, "InvalidPayload")
      const options = yield* Effect.flip(
        Flow.enqueue(Flow.job(Count, 1).pipe(Flow.forEach(Text, untyped({ tiemout: 5 })))),
      )
      assert.ok(options._tag === "InvalidOptions", String(options))
      assert.match(options.message, /tiemout/)
      let escaped = Flow.job(Text, 1)
      Flow.job(Text, 2).pipe(Flow.share((text) => escaped = text))
      const shared = yield* Effect.flip(Flow.enqueue(escaped))
      assert.match(shared.message, /Flow.share/)
      const { nats } = yield* World
      assert.deepEqual(yield* subjectsIn(nats), [])
    }))

  flowTest(
    "lets a step wait for its delay and run with its options",
    () =>
      Effect.gen(function* () {
        const flow = Flow.job(Count, 2).pipe(
          Flow.forEach(Double, { delay: "300 millis", priority: "high" }),
          Flow.andThen(Sum, { delay: "300 millis" }),
        )
        const before = performance.now()
        assert.equal(yield* execute(flow), 2)
        assert.ok(performance.now() - before >= 600)
      }),
  )
})
