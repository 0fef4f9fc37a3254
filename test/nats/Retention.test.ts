import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Envelope from "../../src/core/Envelope.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Retention from "../../src/nats/Retention.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import { layer as wireLayer, StreamSettings, Wire } from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"

const hour = 3_600_000
const ended = { name: "common", ageMillis: 0, count: 100_000 }
const kept = (count: number) => ({ name: "common", ageMillis: hour, count })

let made = 0

const store = (wire: Wire, subject: string, data: Uint8Array = new Uint8Array(1)) =>
  Effect.map(
    Effect.promise(() => wire.nats.connection.request(subject, data)),
    (answer) => answer.json<{ readonly seq: number }>().seq,
  )

/** Stores a record and gives its sequence. */
const record = (
  wire: Wire,
  state: "succeeded" | "cancelled" | "failed",
  options: { readonly retention?: string; readonly partition?: number } = {},
) => {
  const envelope = Envelope.make({
    name: "test",
    queue: `q${made % 3}`,
    lane: 3,
    options: { retention: options.retention },
    created: 0,
    payload: new Uint8Array(1),
    progress: Envelope.untouched,
  })
  const job = { partition: options.partition ?? 0, group: "_", id: `job${made++}` }
  return store(wire, wire.subjects.final(state, envelope, job))
}

/** Stores a job that waits, and gives its sequence. */
const job = (wire: Wire, state: "ready" | "later") =>
  store(wire, wire.subjects.live(state, "q", 3, { partition: 0, group: "_", id: `job${made++}` }))

/** The sequences of all messages that a partition holds. */
const sequences = (wire: Wire, partition = 0) =>
  Effect.map(
    wire.reader.newest(jobsStream(wire.subjects.namespace, partition), [">"]),
    (found) => found.map(({ sequence }) => sequence).sort((a, b) => a - b),
  )

interface Info {
  readonly ts: string
  readonly state: { readonly last_ts: string; readonly last_seq: number }
}

const info = (wire: Wire, partition = 0) =>
  Api.call<Info>(
    wire.nats.connection,
    `STREAM.INFO.${jobsStream(wire.subjects.namespace, partition)}`,
    undefined,
    "reading",
  )

/** Waits until the newest message is that old. */
const aged = (wire: Wire, millis: number, partition = 0) =>
  eventually(
    info(wire, partition),
    ({ state, ts }) => Date.parse(ts) - Date.parse(state.last_ts) >= millis,
  )

/** Purges as soon as the newest message is older than no time at all. */
const purge = Effect.fnUntraced(function* (
  wire: Wire,
  settings: { readonly [retentionClass: string]: Retention.Setting },
  { ackWaitMillis = 0, partition = 0 } = {},
) {
  yield* aged(wire, 2, partition)
  return yield* Retention.purge(wire, partition, new Map(Object.entries(settings)), ackWaitMillis)
})

/** The JetStream requests with this verb that are made meanwhile. */
const requestsOf = Effect.fnUntraced(function* <A, E>(
  { nats: { connection } }: Wire,
  verb: string,
  self: Effect.Effect<A, E>,
) {
  const seen: Array<unknown> = []
  const subscription = connection.subscribe(`$JS.API.${verb}.>`, {
    callback: (_, message) => void seen.push(message.json()),
  })
  yield* Effect.promise(() => connection.flush())
  yield* self
  yield* Effect.promise(() => connection.flush())
  subscription.unsubscribe()
  return seen
})

describe("Retention", () => {
  const server = testServer()

  const test = (
    name: string,
    body: (wire: Wire) => Effect.Effect<unknown, unknown>,
    options: { readonly partitions?: number } = {},
  ) =>
    effect(name, () =>
      Effect.flatMap(Wire, body).pipe(
        Effect.provide(wireLayer),
        Effect.provide(Layer.mergeAll(server.layer(), Layer.succeed(StreamSettings, options))),
      ))

  test("removes succeeded and cancelled records of some age, and keeps younger ones", (wire) =>
    Effect.gen(function* () {
      yield* record(wire, "succeeded")
      yield* record(wire, "cancelled")
      yield* record(wire, "succeeded")
      yield* aged(wire, 1_200)
      const young = [yield* record(wire, "succeeded"), yield* record(wire, "cancelled")]
      assert.equal(yield* purge(wire, { _: { ...ended, ageMillis: 1_000 } }), 3)
      assert.deepEqual(yield* sequences(wire), young)
    }))

  test("keeps all records when they are young and few", (wire) =>
    Effect.gen(function* () {
      const all = [yield* record(wire, "succeeded"), yield* record(wire, "cancelled")]
      assert.equal(yield* purge(wire, { _: kept(2) }), 0)
      assert.equal(yield* purge(wire, { _: { ...kept(2), ageMillis: 1e15 } }), 0)
      assert.deepEqual(yield* sequences(wire), all)
    }))

  test("keeps exactly the newest records when there are too many", (wire) =>
    Effect.gen(function* () {
      const counted: Array<number> = []
      const others: Array<number> = []
      // Records of one class, thick and thin among what doesn't count.
      for (let i = 0; i < 400; i++) {
        const thick = Math.floor(i / 50) % 2 === 0
        if (i % (thick ? 2 : 13) === 0) {
          counted.push(yield* record(wire, i % 3 === 0 ? "cancelled" : "succeeded"))
        } else {
          others.push(
            i % 3 === 0
              ? yield* job(wire, "later")
              : yield* record(wire, "succeeded", { retention: "_0a" }),
          )
        }
      }
      const total = counted.length
      assert.ok(total > 100)
      for (const count of [total, total - 1, total - 2, 90, 41, 40, 7, 1, 0]) {
        yield* purge(wire, { _: kept(count) })
        const expected = counted.slice(total - count).concat(others).sort((a, b) => a - b)
        assert.deepEqual(yield* sequences(wire), expected, `${count} records`)
      }
    }))

  test("counts in few requests", (wire) =>
    Effect.gen(function* () {
      for (let i = 0; i < 600; i++) {
        yield* (i * i) % 7 < 3 ? record(wire, "succeeded") : job(wire, "later")
      }
      const requests = yield* requestsOf(wire, "DIRECT.GET", purge(wire, { _: kept(100) }))
      // Two ends and a few guesses for each of two states; halving alone would take nine.
      assert.ok(requests.length <= 2 * (2 + 5), `${requests.length} requests`)
      // The whole stream now holds fewer messages than may stay.
      assert.deepEqual(yield* requestsOf(wire, "DIRECT.GET", purge(wire, { _: kept(1_000) })), [])
    }))

  test("applies age and count, whichever removes more", (wire) =>
    Effect.gen(function* () {
      for (let i = 0; i < 5; i++) yield* record(wire, "succeeded")
      yield* aged(wire, 1_200)
      for (let i = 0; i < 5; i++) yield* record(wire, "succeeded")
      const settings = { ...ended, ageMillis: 1_000 }
      assert.equal(yield* purge(wire, { _: { ...settings, count: 7 } }), 5)
      assert.equal(yield* purge(wire, { _: { ...settings, count: 3 } }), 2)
    }))

  test("treats each retention class by itself, and leaves those without a setting alone", (wire) =>
    Effect.gen(function* () {
      const ones: Array<number> = []
      const twos: Array<number> = []
      const unknown: Array<number> = []
      for (let i = 0; i < 6; i++) {
        yield* record(wire, "succeeded")
        ones.push(yield* record(wire, "succeeded", { retention: "_01" }))
        twos.push(yield* record(wire, "cancelled", { retention: "_02" }))
        unknown.push(yield* record(wire, "succeeded", { retention: "_03" }))
      }
      const purged = yield* purge(wire, { _: ended, _01: kept(2), _02: kept(4) })
      assert.equal(purged, 6 + 4 + 2)
      const expected = [...ones.slice(4), ...twos.slice(2), ...unknown].sort((a, b) => a - b)
      assert.deepEqual(yield* sequences(wire), expected)
    }))

  test("never touches failed records, nor jobs that haven't ended", (wire) =>
    Effect.gen(function* () {
      const stay = [yield* record(wire, "failed"), yield* job(wire, "later")]
      yield* record(wire, "succeeded")
      stay.push(yield* record(wire, "failed"), yield* job(wire, "later"), yield* job(wire, "ready"))
      assert.equal(yield* purge(wire, { _: { ...ended, count: 0 } }), 1)
      assert.deepEqual(yield* sequences(wire), stay)
    }))

  test("keeps records that are newer than the oldest ready job", (wire) =>
    Effect.gen(function* () {
      yield* record(wire, "succeeded")
      const ready = yield* job(wire, "ready")
      const newer = yield* record(wire, "succeeded")
      assert.equal(yield* purge(wire, { _: ended }), 1)
      assert.equal(yield* purge(wire, { _: kept(0) }), 0)
      assert.deepEqual(yield* sequences(wire), [ready, newer])
      yield* Api.call(
        wire.nats.connection,
        `STREAM.MSG.DELETE.${jobsStream(wire.subjects.namespace, 0)}`,
        { seq: ready, no_erase: true },
        "deleting",
      )
      assert.equal(yield* purge(wire, { _: ended }), 1)
    }))

  test("keeps records for four ack waits", (wire) =>
    Effect.gen(function* () {
      yield* record(wire, "succeeded")
      assert.equal(yield* purge(wire, { _: kept(0) }, { ackWaitMillis: 10_000 }), 0)
      const purged = purge(wire, { _: kept(0) }, { ackWaitMillis: 200 })
      const { state: { last_ts } } = yield* info(wire)
      yield* eventually(purged, (count) => count === 1)
      const age = Date.parse((yield* info(wire)).ts) - Date.parse(last_ts)
      assert.ok(age >= 800, `it went after ${age} ms`)
    }))

  test("purges many records in steps, by filter and sequence alone", (wire) =>
    Effect.gen(function* () {
      const { nats: { connection }, subjects } = wire
      const first = yield* record(wire, "succeeded")
      const busy = subjects.live("later", "q", 3, { partition: 0, group: "_", id: "busy" })
      for (let i = 0; i < 50_000; i++) connection.publish(busy, new Uint8Array(1))
      yield* Effect.promise(() => connection.flush())
      yield* eventually(info(wire), ({ state }) => state.last_seq === first + 50_000)
      const last = yield* record(wire, "succeeded")
      const filter = subjects.finals(0, "succeeded", "_")
      const requests = yield* requestsOf(wire, "STREAM.PURGE", purge(wire, { _: ended }))
      assert.deepEqual(requests, [{ filter, seq: first + 50_000 }, { filter, seq: last + 1 }])
      assert.deepEqual(yield* sequences(wire), [last - 1])
    }))

  test("divides a count over the partitions", (wire) =>
    Effect.gen(function* () {
      for (let i = 0; i < 5; i++) {
        yield* record(wire, "succeeded", { partition: 0 })
        yield* record(wire, "succeeded", { partition: 1 })
      }
      assert.equal(yield* purge(wire, { _: kept(5) }, { partition: 0 }), 2)
      assert.equal(yield* purge(wire, { _: kept(5) }, { partition: 1 }), 3)
      assert.deepEqual(yield* sequences(wire, 0), [3, 4, 5])
      assert.deepEqual(yield* sequences(wire, 1), [4, 5])
    }), { partitions: 2 })

  test("purges nothing from an empty partition", (wire) =>
    Effect.gen(function* () {
      assert.equal(yield* Retention.purge(wire, 0, new Map([["_", ended]]), 0), 0)
    }))

  effect("tells every server the newest settings", () => {
    const namespace = freshNamespace()
    const connect = Effect.map(
      Layer.build(Layer.provide(Layer.fresh(wireLayer), server.layer(namespace))),
      (context) => Context.get(context, Wire),
    )
    return Effect.gen(function* () {
      const mine = yield* connect
      const yours = yield* connect
      const mail = { name: "mail/send", ageMillis: hour, count: 7 }
      assert.deepEqual(yield* Retention.published(yours), new Map())
      yield* Retention.publish(mine, "_", ended)
      yield* Retention.publish(mine, "_0a", { ...mail, count: 3 })
      yield* Retention.publish(yours, "_0a", mail)
      assert.deepEqual(yield* Retention.published(mine), new Map([["_", ended], ["_0a", mail]]))
    })
  })

  test("leaves settings out that can't be read", (wire) =>
    Effect.gen(function* () {
      yield* Retention.publish(wire, "_", ended)
      const bad = [
        new Uint8Array([0xc1]),
        MessagePack.encode(null),
        MessagePack.encode({ age: "1 hour", count: 1 }),
        MessagePack.encode({ age: 1, count: -1 }),
      ]
      for (const [i, data] of bad.entries()) {
        yield* store(wire, wire.subjects.state("retention", `_0${i}`), data)
      }
      assert.deepEqual(yield* Retention.published(wire), new Map([["_", ended]]))
    }))

  test("gives the claim to one who asks, and again when it has expired", (wire) =>
    Effect.gen(function* () {
      const claims = Effect.all(Array.from({ length: 5 }, () => Retention.claim(wire, 1)), {
        concurrency: "unbounded",
      })
      assert.deepEqual((yield* claims).filter((won) => won), [true])
      yield* eventually(Retention.claim(wire, 1), (won) => won)
    }))

  test("fails when the server refuses what is stored", (wire) =>
    Effect.gen(function* () {
      // A time to live below one second is none.
      const error = yield* Effect.flip(Retention.claim(wire, 0))
      assert.deepEqual([error._tag, error.code], ["Rejected", 10165])
    }))
})
