import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Job from "../../src/client/Job.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { type TestServer, testServer } from "../harness.ts"
import { idsIn } from "../nats/stream.ts"
import { stored, worldTest } from "./world.ts"

const Count = Job.make("count", { payload: Schema.Struct({ n: Schema.Number }) })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

/** Starts the server again and waits until the client has found it. */
const restart = (server: TestServer) =>
  Effect.gen(function* () {
    const { nats } = yield* Wire.Wire
    const back = yield* Effect.forkChild(
      Effect.callback<void>((resume) => {
        const stop = nats.onReconnect(() => {
          stop()
          resume(Effect.void)
        })
      }),
      { startImmediately: true },
    )
    yield* server.restartServer
    yield* Fiber.join(back)
  })

const ids = Effect.flatMap(Wire.Wire, ({ nats }) => idsIn(nats))

describe("with NATS killed", () => {
  const server = testServer()
  const test = worldTest(server)

  test("an enqueue waits until it is back", () =>
    Effect.gen(function* () {
      const first = yield* Count.enqueue({ n: 1 })
      yield* server.killServer
      const enqueueing = yield* Effect.forkChild(
        Effect.all([
          Count.enqueue({ n: 2 }),
          Count.schedule({ n: 3 }, { delay: "1 hour" }),
        ], { concurrency: "unbounded" }),
        { startImmediately: true },
      )
      yield* server.restartServer
      const later = yield* Fiber.join(enqueueing)
      assert.deepEqual(yield* ids, [first, ...later].sort())
      assert.equal((yield* stored).lastSequence, 3)
      assert.deepEqual(
        (yield* Count.get(first)).payload,
        { n: 1 },
        "what was stored is still there",
      )
    }))

  test("an enqueue to a queue that nobody has used waits too", () =>
    Effect.gen(function* () {
      yield* server.killServer
      const enqueueing = yield* Effect.forkChild(Count.enqueue({ n: 1 }, { queue: "fresh" }), {
        startImmediately: true,
      })
      yield* server.restartServer
      const id = yield* Fiber.join(enqueueing)
      assert.deepEqual(yield* ids, [id])
    }))

  test("an enqueue fails as unavailable when its patience ends", () =>
    Effect.gen(function* () {
      yield* Count.enqueue({ n: 1 })
      yield* server.killServer
      const single = yield* Effect.flip(Count.enqueue({ n: 2 }))
      assert.ok(single._tag === "Unavailable" && single.retryable, single.message)
      const many = yield* Effect.flip(Count.enqueueMany(numbers(5_000)))
      assert.equal(many._tag, "Unavailable")
      const atomic = yield* Effect.flip(Count.enqueueMany(numbers(10), { atomic: true }))
      assert.equal(atomic._tag, "Unavailable")
      yield* restart(server)
      const id = yield* Count.enqueue({ n: 3 })
      assert.ok((yield* ids).includes(id))
    }), { patience: 300 })
})

describe("with NATS killed in the middle", () => {
  const server = testServer()
  const test = worldTest(server)

  test("every enqueue succeeds, and each job is stored once", () =>
    Effect.gen(function* () {
      const { publisher } = yield* Wire.Wire
      yield* Count.enqueue({ n: 0 })
      let done = 0
      const enqueueing = yield* Effect.forkChild(
        Effect.forEach(
          numbers(20_000),
          (payload) => Effect.tap(Count.enqueue(payload), () => Effect.sync(() => done++)),
          { concurrency: "unbounded" },
        ),
      )
      while (done < 1_000) yield* Effect.sleep(1)
      yield* server.killServer
      assert.ok(publisher.pending > 0, "it was killed too late")
      yield* server.restartServer
      const made = yield* Fiber.join(enqueueing)
      const found = yield* ids
      assert.equal(new Set(made).size, 20_000)
      for (const id of made) if (!found.includes(id)) assert.fail(`${id} is lost`)
      assert.deepEqual([found.length, (yield* stored).lastSequence], [20_001, 20_001])
    }), { timeout: 60_000 })

  test("enqueueMany goes on, in order and complete", () =>
    Effect.gen(function* () {
      let kill = () => {}
      const killing = yield* Effect.forkChild(
        Effect.andThen(
          Effect.callback<void>((resume) => {
            kill = () => resume(Effect.void)
          }),
          server.restartServer,
        ),
        { startImmediately: true },
      )
      function* payloads() {
        for (const payload of numbers(20_000)) {
          if (payload.n === 5_000) kill()
          yield payload
        }
      }
      const made = yield* Count.enqueueMany(payloads())
      yield* Fiber.join(killing)
      assert.deepEqual(yield* ids, made)
      assert.equal((yield* stored).lastSequence, 20_000)
      assert.deepEqual((yield* Count.get(made[19_999] as string)).payload, { n: 19_999 })
    }), { timeout: 60_000 })

  test("an enqueueMany out of patience lists only what is stored", () =>
    Effect.gen(function* () {
      yield* Count.enqueue({ n: 0 }, { queue: "other" })
      function* payloads() {
        for (let n = 0;; n++) yield { n }
      }
      const enqueueing = yield* Effect.forkChild(Effect.flip(Count.enqueueMany(payloads())), {
        startImmediately: true,
      })
      yield* Effect.flatMap(Wire.Wire, ({ publisher }) =>
        Effect.gen(function* () {
          while (publisher.pending === 0) yield* Effect.sleep(1)
          yield* Effect.sleep(100)
        }))
      yield* server.killServer
      const error = yield* Fiber.join(enqueueing)
      assert.ok(error._tag === "PartlyEnqueued", error.message)
      assert.equal(error.error._tag, "Unavailable")
      yield* restart(server)
      const found = new Set(yield* ids)
      for (const id of error.stored) assert.ok(found.has(id), `${id} is lost`)
      // One more was stored before, and two pages may be, although no answer came.
      assert.ok(found.size - 1 - error.stored.length <= 2_000)
    }), { patience: 500, timeout: 60_000 })
})
