import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Errors, Job, type Server } from "../../mod.ts"
import { effect, testServer } from "../harness.ts"
import { ended, gate, is, serve } from "./harness.ts"

describe("A server", () => {
  const nats = testServer()

  effect("refuses options that can't be, and names the field", () =>
    Effect.gen(function* () {
      const bad: ReadonlyArray<readonly [string, unknown]> = [
        ["queues", { queues: undefined }],
        ["queues", { queues: 5 }],
        ["queues", { queues: {} }],
        ["queues", { queues: [] }],
        ["queues", { queues: ["a", "a"] }],
        ["queues", { queues: ["no spaces"] }],
        ["queues", { queues: ["_engine"] }],
        ["queues.no.dots", { queues: { "no.dots": 1 } }],
        ["queues.a", { queues: { a: 0 } }],
        ["queues.a", { queues: { a: 1.5 } }],
        ["queues.a", { queues: { a: Number.NaN } }],
        ["queues.a", { queues: { a: "5" } }],
        ["concurrency", { queues: ["a"], concurrency: -1 }],
        ["concurrency", { queues: { a: 1 }, concurrency: 5 }],
        ["gracePeriod", { queues: { a: 1 }, gracePeriod: -1 }],
        ["gracePeriod", { queues: { a: 1 }, gracePeriod: Number.NaN }],
        ["gracePeriod", { queues: { a: 1 }, gracePeriod: "soon" }],
        ["name", { queues: { a: 1 }, name: "a b" }],
        ["retention.count", { queues: { a: 1 }, retention: { count: -1 } }],
        ["retention.days", { queues: { a: 1 }, retention: { days: 1 } }],
        ["options.grace", { queues: { a: 1 }, grace: 1 }],
      ]
      const layer = nats.layer()
      for (const [field, options] of bad) {
        const starting = serve(layer, Layer.empty, options as Server.ServerOptions)
        const error = yield* Effect.flip(Effect.scoped(starting))
        assert.ok(error instanceof Errors.InvalidOptions, JSON.stringify(options))
        assert.equal(error.field, field)
        assert.match(error.message, /is not accepted: /)
      }
    }))

  effect("refuses two handlers for one name", () =>
    Effect.gen(function* () {
      const once = Job.make("twin").toLayer(() => Effect.void)
      const again = Job.make("twin").toLayer(() => Effect.void)
      const error = yield* Effect.flip(serve(nats.layer(), Layer.merge(once, again)))
      assert.ok(error instanceof Errors.DuplicateJob)
      assert.equal(error.job, "twin")
    }))

  effect("tells who it is and what runs, and of its end", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const Work = Job.make("work")
      const running = yield* serve(nats.layer(), Work.toLayer(() => wait), { name: "first" })
      const { server } = running
      assert.match(server.id, /^first-\d+-[0-9a-f]{6}$/)
      const exit = yield* Effect.forkChild(server.awaitExit)
      yield* running.provide(Work.enqueueMany([undefined, undefined]))
      yield* running.until(is("AttemptStarted"), { count: 2 })
      assert.equal(server.running(), 2)
      open()
      yield* running.until(ended(), { count: 2 })
      assert.equal(server.running(), 0)
      yield* running.stop
      yield* Fiber.join(exit)
    }))

  effect(
    "gives its handlers the services they ask for, and the client",
    () =>
      Effect.gen(function* () {
        const Second = Job.make("second")
        const First = Job.make("first")
        const handlers = Layer.merge(
          First.toLayer(() => Effect.asVoid(Effect.orDie(Second.enqueue()))),
          Second.toLayer(() => Effect.void),
        )
        const server = yield* serve(nats.layer(), handlers)
        yield* server.provide(First.enqueue())
        const outcomes = yield* server.until(ended(), { count: 2 })
        assert.deepEqual(outcomes.map(({ name }) => name).sort(), ["first", "second"])
      }),
  )

  effect("starts jobs soon after they are enqueued", () =>
    Effect.gen(function* () {
      const Quick = Job.make("quick")
      const server = yield* serve(nats.layer(), Quick.toLayer(() => Effect.void))
      const took: Array<number> = []
      for (let i = 0; i < 50; i++) {
        const begun = performance.now()
        const id = yield* server.provide(Quick.enqueue())
        yield* server.until(is("AttemptStarted", id))
        took.push(performance.now() - begun)
      }
      const median = took.sort((a, b) => a - b)[25] ?? Infinity
      assert.ok(median < 100, `median ${median} ms`)
    }))
})
