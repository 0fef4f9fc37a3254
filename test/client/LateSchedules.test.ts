/**
 * NATS removes whatever lies under the subject of a schedule that fires, even what has replaced it a
 * moment before. So one that is about to fire isn't replaced: what changes the job waits for it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, Operation } from "../../mod.ts"
import { produce } from "../actors/harness.ts"
import { effect, testServer } from "../harness.ts"

const Wait = Job.make("wait", { payload: Schema.Number, queue: "nobody" })

describe("A job whose schedule is about to fire", () => {
  const server = testServer()

  effect("is rescheduled once it has fired", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(server.layer())
      const id = yield* provide(Wait.schedule(1, { delay: "700 millis" }))
      const answer = yield* client.operate(id, Operation.reschedule({ delay: "1 hour" }))
      assert.deepEqual(answer, { _tag: "changed", id, from: "enqueued", to: "scheduled" })
      assert.equal((yield* client.get(id)).state, "scheduled")
    }))

  effect("is rescheduled at once while that is a while ahead", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(server.layer())
      const id = yield* provide(Wait.schedule(1, { delay: "10 seconds" }))
      const answer = yield* client.operate(id, Operation.reschedule({ delay: "1 hour" }))
      assert.equal(answer._tag === "changed" ? answer.from : answer._tag, "scheduled")
    }))

  effect("is left to fire where many are rescheduled", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(server.layer())
      const id = yield* provide(Wait.schedule(1, { delay: "700 millis" }))
      const other = yield* provide(Wait.schedule(2, { delay: "10 seconds" }))
      const filter = { queue: "nobody" }
      const operation = Operation.reschedule({ delay: "1 hour" })
      const { changed, matched } = yield* client.operateWhere(filter, operation)
      assert.deepEqual([matched, changed], [2, 1])
      assert.equal((yield* client.get(id)).state, "enqueued")
      const { due = new Date(0), state } = yield* client.get(other)
      assert.ok(state === "scheduled" && due.getTime() > Date.now() + 3_000_000)
    }))

  effect("is replaced by a newer one of its key once it has fired", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(server.layer())
      const submit = (payload: number, delay: "700 millis" | "1 hour") =>
        provide(Wait.submit(payload, { unique: { key: "key", onConflict: "replace" }, delay }))
      const { id } = yield* submit(1, "700 millis")
      const start = performance.now()
      assert.deepEqual(yield* submit(2, "1 hour"), { id, created: false })
      assert.ok(performance.now() - start > 500)
      const { payload, state } = yield* client.get(id)
      assert.deepEqual([payload, state], [2, "scheduled"])
    }))
})
