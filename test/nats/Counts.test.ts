import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { isDeepStrictEqual } from "node:util"
import * as Api from "../../src/nats/Api.ts"
import * as Counts from "../../src/nats/Counts.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { put, store } from "./jobs.ts"
import { contents } from "./stream.ts"

const none = { later: 0, retry: 0, await: 0, succeeded: 0, failed: 0, cancelled: 0 }
const inAnHour = (): number => Date.now() + 3_600_000

const streamOf = ({ subjects }: Wire.Wire) => Subjects.jobsStream(subjects.namespace, 0)

const api = (wire: Wire.Wire, verb: string, body?: unknown) =>
  Api.call<{ readonly [key: string]: unknown }>(wire.nats.connection, verb, body, verb)

/** What a queue has: every counted state, and its ready jobs. */
const countsOf = (wire: Wire.Wire, queue = "q") =>
  Effect.map(Counts.count(wire), (all) => {
    const { lanes, states } = all.find((one) => one.queue === queue) ?? assert.fail()
    return { ...states, ready: lanes.reduce((sum, { held, pending }) => sum + held + pending, 0) }
  })

/** Waits until a queue's counts are these: NATS counts a moment after it has confirmed a write. */
const settle = Effect.fnUntraced(function* (
  wire: Wire.Wire,
  expected: Partial<typeof none & { ready: number }>,
  what = "",
  queue = "q",
) {
  const all = { ...none, ready: 0, ...expected }
  const read = Effect.map(countsOf(wire, queue), (found) => ({ what, found }))
  yield* eventually(read, ({ found }) => isDeepStrictEqual(found, all), { timeout: 5_000 })
})

describe("counts", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown>,
    partitions = 1,
  ) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(
          Effect.tap(Wire.Wire, (wire) => wire.ensureQueue("q", 0)),
          body,
        ),
        Wire.layer.pipe(
          Layer.provide(Layer.succeed(Wire.StreamSettings, { partitions })),
          Layer.provide(server.layer()),
        ),
      ))

  test("follow every way in which a message comes, moves and goes", (wire) =>
    Effect.gen(function* () {
      const stream = streamOf(wire)
      const check = (expected: Parameters<typeof settle>[1], what: string) =>
        settle(wire, expected, what)
      yield* check({}, "an empty queue")
      for (let i = 0; i < 4; i++) yield* store(wire, "succeeded")
      const failed = yield* store(wire, "failed")
      yield* store(wire, "failed")
      yield* store(wire, "ready")
      yield* check({ succeeded: 4, failed: 2, ready: 1 }, "published")
      yield* store(wire, "failed", { id: failed.id })
      yield* check({ succeeded: 4, failed: 2, ready: 1 }, "replaced on its subject")
      const later = yield* store(wire, "later", { due: inAnHour() })
      yield* store(wire, "later", { due: inAnHour() })
      yield* store(wire, "later", { due: Date.now() })
      yield* store(wire, "await", { due: inAnHour() })
      yield* store(wire, "retry", { due: inAnHour() })
      const rest = { await: 1, retry: 1 }
      yield* check({ ...rest, succeeded: 4, failed: 2, later: 2, ready: 2 }, "a schedule fired")
      yield* store(wire, "later", { id: later.id, due: inAnHour() })
      yield* check({ ...rest, succeeded: 4, failed: 2, later: 2, ready: 2 }, "scheduled anew")
      const job = { partition: 0, group: "_", id: later.id }
      yield* put(
        wire,
        wire.subjects.live("ready", "q", 3, job),
        new Uint8Array(1),
        `Nats-Schedule-Next: purge\r\nNats-Scheduler: ${later.subject}\r\n`,
      )
      yield* check({ ...rest, succeeded: 4, failed: 2, later: 1, ready: 3 }, "superseded")
      const last = yield* store(wire, "cancelled")
      yield* check(
        { ...rest, succeeded: 4, failed: 2, later: 1, ready: 3, cancelled: 1 },
        "one more",
      )
      yield* api(wire, `STREAM.MSG.DELETE.${stream}`, { seq: last.sequence, no_erase: true })
      yield* check({ ...rest, succeeded: 4, failed: 2, later: 1, ready: 3 }, "deleted")
      const filter = wire.subjects.finals(0, "succeeded", Subjects.commonRetention)
      yield* api(wire, `STREAM.PURGE.${stream}`, { filter, seq: 3 })
      yield* check({ ...rest, succeeded: 2, failed: 2, later: 1, ready: 3 }, "purged")
      yield* put(wire, failed.subject, new Uint8Array(1), "Nats-TTL: 1s\r\n")
      yield* check({ ...rest, succeeded: 2, failed: 1, later: 1, ready: 3 }, "expired")
      const { messages } = yield* contents(wire.nats)
      assert.equal(messages, 9)
    }))

  test("are taken by consumers that hand out nothing, keep nothing and end by themselves", (wire) =>
    Effect.gen(function* () {
      const stream = streamOf(wire)
      for (let i = 0; i < 3; i++) yield* store(wire, "failed")
      yield* store(wire, "later", { due: Date.now() + 1_000 })
      yield* countsOf(wire)
      const name = "count_failed_q"
      const info = yield* api(wire, `CONSUMER.INFO.${stream}.${name}`)
      const { inactive_threshold } = info.config as { readonly inactive_threshold: number }
      assert.equal(inactive_threshold, Counts.livesForMillis * 1_000_000)
      const { connection } = wire.nats
      for (const counter of [name, "count_later_q"]) {
        const pulled = yield* Effect.promise(() =>
          connection.request(
            `$JS.API.CONSUMER.MSG.NEXT.${stream}.${counter}`,
            JSON.stringify({ batch: 1, expires: 100_000_000 }),
            { timeout: 5_000 },
          )
        )
        assert.equal(pulled.headers?.code, 408, "a pull gets nothing")
      }
      // A queue that comes later gets its consumers, although a work queue refuses overlaps.
      yield* countsOf(wire)
      yield* wire.ensureQueue("later_q", 0)
      yield* store(wire, "failed", { queue: "later_q" })
      yield* settle(wire, { failed: 1 }, "the later queue", "later_q")
      yield* settle(wire, { failed: 3, ready: 1 })
      for (const state of Counts.countedStates) {
        yield* api(wire, `CONSUMER.DELETE.${stream}.count_${state}_q`)
      }
      const { messages } = yield* contents(wire.nats)
      assert.equal(messages, 5)
      yield* settle(wire, { failed: 3, ready: 1 }, "counted anew")
    }))

  test("add up the partitions, and find one queue by its name", (wire) =>
    Effect.gen(function* () {
      yield* wire.ensureQueue("q", 1)
      yield* wire.ensureQueue("other", 1)
      for (const partition of [0, 1, 1]) yield* store(wire, "failed", { partition })
      for (const partition of [0, 1]) yield* store(wire, "ready", { partition })
      yield* store(wire, "failed", { partition: 1, queue: "other" })
      yield* settle(wire, { failed: 3, ready: 2 })
      const all = yield* Counts.count(wire)
      assert.deepEqual(all.map(({ queue }) => queue), ["other", "q"])
      assert.deepEqual(yield* Counts.count(wire, "other"), [all[0]])
      assert.deepEqual(yield* Counts.count(wire, "nowhere"), [])
    }), 2)

  test("list more consumers than one answer of the server holds", (wire) =>
    Effect.gen(function* () {
      const names = Array.from({ length: 60 }, (_, index) => `q${index}`)
      yield* Effect.forEach(names, (name) => wire.ensureQueue(name, 0), { concurrency: 16 })
      yield* store(wire, "failed", { queue: "q59" })
      for (let round = 0; round < 2; round++) {
        yield* settle(wire, { failed: 1 }, "the last queue", "q59")
        const all = yield* Counts.count(wire)
        assert.equal(all.length, 61)
        assert.ok(all.every(({ lanes }) => lanes.length === 5))
        assert.equal(all.reduce((sum, { states }) => sum + states.failed, 0), 1)
      }
    }))
})

describe("counts on a server that is killed", () => {
  const server = testServer()

  effect("are right again when it is back", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      yield* wire.ensureQueue("q", 0)
      for (let i = 0; i < 20; i++) yield* store(wire, "failed")
      yield* store(wire, "later", { due: inAnHour() })
      yield* settle(wire, { failed: 20, later: 1 })
      yield* server.restartServer
      yield* store(wire, "failed")
      yield* Effect.eventually(settle(wire, { failed: 21, later: 1 }, "restarted"))
      yield* store(wire, "failed")
      yield* settle(wire, { failed: 22, later: 1 }, "one more")
    }).pipe(Effect.provide(Wire.layer.pipe(Layer.provide(server.layer())))))
})
