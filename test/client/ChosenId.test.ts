import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Job from "../../src/client/Job.ts"
import { makeGenerator } from "../../src/core/JobId.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { testServer } from "../harness.ts"
import { idsIn } from "../nats/stream.ts"
import { messageOf, stored, worldTest } from "./world.ts"

const Charge = Job.make("charge", { payload: Schema.Struct({ cents: Schema.Number }) })

const bad = (value: unknown) => value as never

/** Ids of all jobs in all partitions. */
const allIds = Effect.flatMap(Wire.Wire, ({ nats, partitions }) =>
  Effect.map(
    Effect.forEach(Array.from({ length: partitions }, (_, p) => p), (p) => idsIn(nats, p)),
    (ids) => ids.flat(),
  ))

describe("a chosen id", () => {
  const test = worldTest(testServer())

  test("is that of the job, and a repetition stores nothing", () =>
    Effect.gen(function* () {
      assert.equal(yield* Charge.enqueue({ cents: 1 }, { id: "order-17" }), "order-17")
      assert.equal(yield* Charge.enqueue({ cents: 2 }, { id: "order-17" }), "order-17")
      assert.equal(
        yield* Charge.schedule({ cents: 3 }, { id: "order-17", delay: "1 hour" }),
        "order-17",
      )
      assert.equal((yield* stored).lastSequence, 1)
      assert.deepEqual((yield* Charge.get("order-17")).payload, { cents: 1 })
    }))

  test(
    "is given to one of many callers at once, in whatever partition it lies",
    () =>
      Effect.gen(function* () {
        const ids = Array.from({ length: 30 }, (_, n) => `order-${n}`)
        const answers = yield* Effect.forEach(
          ids.flatMap((id) => [id, id, id]),
          (id) => Charge.submit({ cents: 1 }, { id }),
          { concurrency: "unbounded" },
        )
        for (const id of ids) {
          const mine = answers.filter((answer) => answer.id === id)
          assert.deepEqual(mine.map(({ created }) => created).sort(), [false, false, true], id)
          assert.equal((yield* Charge.get(id)).id, id)
        }
        assert.deepEqual([...yield* allIds].sort(), [...ids].sort())
        const { nats } = yield* Wire.Wire
        const spread = yield* Effect.forEach([0, 1, 2], (p) => idsIn(nats, p))
        for (const some of spread) assert.ok(some.length > 0)
      }),
    { partitions: 3 },
  )

  test("that is taken is an error where the caller asks for it", () =>
    Effect.gen(function* () {
      yield* Charge.schedule({ cents: 1 }, { id: "order-1", delay: "1 hour" })
      const error = yield* Effect.flip(
        Charge.enqueue({ cents: 2 }, { id: "order-1", onConflict: "fail" }),
      )
      assert.ok(error._tag === "JobExists", error._tag)
      assert.deepEqual([error.id, error.state], ["order-1", "scheduled"])
    }))

  test("of a waiting job can get it another payload and time", () =>
    Effect.gen(function* () {
      const options = { id: "order-1", onConflict: "replace" } as const
      assert.equal((yield* Charge.submit({ cents: 1 }, options)).created, true)
      for (
        const [cents, more, state] of [
          [2, { delay: "1 hour" }, "later"],
          [3, { delay: "2 hours" }, "later"],
          [4, { queue: "urgent" }, "ready"],
          [5, { priority: "high" }, "ready"],
        ] as const
      ) {
        assert.equal((yield* Charge.submit({ cents }, { ...options, ...more })).created, false)
        const { parsed } = yield* messageOf("order-1")
        assert.equal(parsed?.state, state)
        assert.deepEqual((yield* Charge.get("order-1")).payload, { cents })
        assert.equal((yield* stored).messages, 1, `${cents} left something behind`)
      }
      const { parsed } = yield* messageOf("order-1")
      assert.deepEqual([parsed?.queue, parsed?.lane], ["default", "2"])
    }))

  test("is free again when the job is gone", () =>
    Effect.gen(function* () {
      const { nats } = yield* Wire.Wire
      yield* Charge.enqueue({ cents: 1 }, { id: "order-1" })
      const stream = Subjects.jobsStream(nats.namespace, 0)
      yield* Api.call(nats.connection, `STREAM.PURGE.${stream}`, undefined, "purging")
      assert.equal((yield* Charge.submit({ cents: 2 }, { id: "order-1" })).created, true)
    }))

  test("is refused where it can't be one, before anything is stored", () =>
    Effect.gen(function* () {
      const engineId = makeGenerator()(0)
      for (const id of ["", "_x", "a.b", "a b", "*", "ü", "x".repeat(65), engineId, 7, null]) {
        const error = yield* Effect.flip(Charge.enqueue({ cents: 1 }, { id: bad(id) }))
        assert.deepEqual([error._tag, "field" in error && error.field], ["InvalidOptions", "id"])
      }
      for (
        const [options, field] of [
          [{ id: "a", onConflict: "retry" }, "onConflict"],
          [{ onConflict: "fail" }, "onConflict"],
          [{ id: "a", unique: { key: "k" } }, "id"],
        ] as const
      ) {
        const error = yield* Effect.flip(Charge.enqueue({ cents: 1 }, bad(options)))
        assert.deepEqual([error._tag, "field" in error && error.field], ["InvalidOptions", field])
      }
      const many = yield* Effect.flip(Charge.enqueueMany([{ cents: 1 }], bad({ id: "a" })))
      assert.match(many.message, /enqueueMany/)
      assert.equal((yield* stored).lastSequence, 0)
    }))
})
