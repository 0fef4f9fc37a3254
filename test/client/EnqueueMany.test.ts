import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import type * as Client from "../../src/client/Client.ts"
import * as Job from "../../src/client/Job.ts"
import { Bytes } from "../../src/core/Codec.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as Retry from "../../src/core/Retry.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { eventually, testServer } from "../harness.ts"
import { idsIn } from "../nats/stream.ts"
import { messageOf, stored, worldTest } from "./world.ts"

const Count = Job.make("count", { payload: Schema.Struct({ n: Schema.Number }) })
const Blob = Job.make("blob", { payload: Bytes })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

function* generated(count: number) {
  for (let n = 0; n < count; n++) yield { n }
}

async function* awaited(count: number) {
  for (let n = 0; n < count; n++) yield { n }
}

const bad = (value: unknown) => value as never

/** The ids in the stream are exactly these, which are in the order of their making. */
const exactly = Effect.fnUntraced(function* (ids: ReadonlyArray<string>) {
  const { nats } = yield* Wire.Wire
  assert.deepEqual(yield* idsIn(nats), ids)
  assert.equal((yield* stored).lastSequence, ids.length)
})

/** Some of the jobs hold the payload of their place in the list. */
const inOrder = Effect.fnUntraced(function* (ids: ReadonlyArray<string>) {
  for (const n of [0, 1, 999, 1_000, 1_001, 2_499, ids.length - 1]) {
    if (n < 0 || n >= ids.length) continue
    assert.deepEqual((yield* Count.get(ids[n] as string)).payload, { n })
  }
})

describe("enqueueing many jobs", () => {
  const test = worldTest(testServer())

  const sources = {
    "an array": numbers,
    "a generator": generated,
    "an async generator": awaited,
    "a set": (count: number) => new Set(numbers(count)),
  }
  for (const [what, source] of Object.entries(sources)) {
    test(`takes ${what} of any length and gives the ids in order`, () =>
      Effect.gen(function* () {
        const all: Array<string> = []
        for (const count of [0, 1, 999, 1_000, 1_001, 2_500]) {
          const ids = yield* Count.enqueueMany(source(count))
          assert.equal(ids.length, count)
          yield* inOrder(ids)
          all.push(...ids)
        }
        yield* exactly(all)
      }))
  }

  test("stores 100,000 with never more than a few pages in memory", () =>
    Effect.gen(function* () {
      const { publisher } = yield* Wire.Wire
      let most = 0
      function* payloads() {
        for (const payload of generated(100_000)) {
          most = Math.max(most, publisher.pending)
          yield payload
        }
      }
      const ids = yield* Count.enqueueMany(payloads())
      assert.equal(ids.length, 100_000)
      assert.equal(new Set(ids).size, 100_000)
      yield* inOrder(ids)
      yield* exactly(ids)
      assert.ok(most > 0 && most <= 2_000, `${most} were waiting to be stored`)
    }), { timeout: 60_000 })

  test("makes smaller pages of large payloads", () =>
    Effect.gen(function* () {
      const { publisher } = yield* Wire.Wire
      let most = 0
      function* payloads() {
        for (let i = 0; i < 120; i++) {
          most = Math.max(most, publisher.pending)
          yield new Uint8Array(400_000)
        }
      }
      assert.equal((yield* Blob.enqueueMany(payloads())).length, 120)
      assert.ok(most <= 42, `${most} of 400 kB were waiting to be stored`)
    }))

  test("keeps the ids in order over partitions too", () =>
    Effect.gen(function* () {
      const { nats } = yield* Wire.Wire
      const ids = yield* Count.enqueueMany(generated(3_000))
      assert.deepEqual(ids, [...ids].sort())
      const found = yield* Effect.forEach([0, 1, 2], (partition) => idsIn(nats, partition))
      assert.deepEqual(found.map(({ length }) => length), [1_000, 1_000, 1_000])
      assert.deepEqual(found.flat().sort(), ids)
      yield* inOrder(ids)
    }), { partitions: 3 })

  test("sends all of them where the caller says", () =>
    Effect.gen(function* () {
      const [id = ""] = yield* Count.enqueueMany(numbers(3), {
        queue: "urgent",
        priority: "high",
        retry: Retry.none,
        timeout: "1 second",
      })
      const { envelope, parsed } = yield* messageOf(id)
      assert.deepEqual([parsed?.queue, parsed?.lane, parsed?.state], ["urgent", "2", "ready"])
      assert.deepEqual(envelope.options.retry, { kind: "none" })
      assert.equal(envelope.options.timeout, 1_000)
    }))

  test("delays all of them", () =>
    Effect.gen(function* () {
      const at = new Date(Date.now() + 3_600_000)
      for (const atomic of [false, true]) {
        const ids = yield* Count.enqueueMany(numbers(3), { at, atomic })
        for (const id of ids) {
          const { due, state } = yield* Count.get(id)
          assert.deepEqual([state, due], ["scheduled", at])
        }
      }
    }))
})

describe("enqueueing many jobs of which one is bad", () => {
  const test = worldTest(testServer())

  const withBad = (at: number, count = 5_000) =>
    numbers(count).map((payload, n) => n === at ? bad({ n: "x" }) : payload)

  test("in the first page stores none", () =>
    Effect.gen(function* () {
      for (const at of [0, 1, 999]) {
        const error = yield* Effect.flip(Count.enqueueMany(withBad(at)))
        assert.ok(error._tag === "InvalidPayload", error.message)
        assert.equal(error.field, `payload[${at}].n`)
      }
      assert.equal((yield* stored).lastSequence, 0)
    }))

  test("in the third page stores the first two, and the error lists exactly these", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Count.enqueueMany(withBad(2_500)))
      assert.ok(error._tag === "PartlyEnqueued", error.message)
      assert.ok(error.error._tag === "InvalidPayload")
      assert.equal(error.error.field, "payload[2500].n")
      assert.equal(error.stored.length, 2_000)
      assert.match(
        error.message,
        /^2000 jobs are stored, the rest is not: job count: payload\[2500/,
      )
      yield* exactly(error.stored)
      yield* inOrder(error.stored)
    }))

  test("that is too large stores the pages before it", () =>
    Effect.gen(function* () {
      function* payloads() {
        for (let n = 0; n < 1_500; n++) yield new Uint8Array(n === 1_200 ? 1_000_000 : 10)
      }
      const error = yield* Effect.flip(Blob.enqueueMany(payloads()))
      assert.ok(error._tag === "PartlyEnqueued" && error.error._tag === "PayloadTooLarge")
      assert.equal(error.error.field, "payload[1200]")
      assert.equal(error.stored.length, 1_000)
      yield* exactly(error.stored)
    }))

  test("tells a generator that nobody reads on", () =>
    Effect.gen(function* () {
      let closed = 0
      function* sync() {
        try {
          yield* withBad(5, 10)
        } finally {
          closed++
        }
      }
      async function* async() {
        try {
          yield* withBad(5, 10)
        } finally {
          closed++
        }
      }
      yield* Effect.flip(Count.enqueueMany(sync()))
      assert.equal(closed, 1)
      yield* Effect.flip(Count.enqueueMany(async()))
      yield* eventually(Effect.sync(() => closed), (count) => count === 2)
    }))

  test("of a source that throws names the place, and lists what is stored", () =>
    Effect.gen(function* () {
      function* sync() {
        yield* generated(1_500)
        throw new Error("the file ended")
      }
      async function* async() {
        yield* generated(1_500)
        await Promise.reject(new Error("the file ended"))
      }
      const all: Array<string> = []
      for (const payloads of [sync(), async()]) {
        const error = yield* Effect.flip(Count.enqueueMany(payloads))
        assert.ok(error._tag === "PartlyEnqueued" && error.error._tag === "InvalidPayload")
        assert.equal(error.error.field, "payload[1500]")
        assert.match(error.error.reason, /the file ended/)
        assert.equal(error.stored.length, 1_000)
        all.push(...error.stored)
        yield* exactly(all)
      }
    }))

  test("can be interrupted while its source is silent", () =>
    Effect.gen(function* () {
      let returned = 0
      const silent: AsyncIterable<{ readonly n: number }> = {
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise(() => {}),
          return: () => {
            returned++
            return new Promise(() => {})
          },
        }),
      }
      const fiber = yield* Effect.forkChild(Count.enqueueMany(silent), { startImmediately: true })
      yield* Effect.sleep(50)
      yield* Fiber.interrupt(fiber)
      assert.equal(returned, 1)
      assert.equal((yield* stored).lastSequence, 0)
    }))
})

describe("enqueueing many jobs atomically", () => {
  const test = worldTest(testServer())

  test("stores up to a thousand, all together", () =>
    Effect.gen(function* () {
      const all: Array<string> = []
      for (const source of [numbers(0), numbers(1), generated(2), awaited(1_000), numbers(1_000)]) {
        const ids = yield* Count.enqueueMany(source, { atomic: true })
        yield* inOrder(ids)
        all.push(...ids)
      }
      assert.equal(all.length, 2_003)
      yield* exactly(all)
    }))

  test("stores them in one partition, the next ones in another", () =>
    Effect.gen(function* () {
      const { partitions } = yield* Wire.Wire
      const used = new Set<number>()
      for (let n = 0; n < partitions; n++) {
        const ids = yield* Count.enqueueMany(numbers(10), { atomic: true })
        const found = new Set(ids.map((id) => JobId.partitionIn(id, partitions)))
        assert.equal(found.size, 1)
        for (const partition of found) used.add(partition)
      }
      assert.equal(used.size, partitions)
    }), { partitions: 3 })

  test("refuses one more before anything is stored, and reads no further", () =>
    Effect.gen(function* () {
      function* endless() {
        for (let n = 0;; n++) yield { n }
      }
      for (const payloads of [numbers(1_001), endless()]) {
        const error = yield* Effect.flip(Count.enqueueMany(payloads, { atomic: true }))
        assert.ok(error._tag === "InvalidOptions" && error.field === "atomic", error.message)
        assert.match(error.message, /1000/)
      }
      assert.equal((yield* stored).lastSequence, 0)
    }))

  test("stores none when one is bad", () =>
    Effect.gen(function* () {
      for (const at of [0, 500, 999]) {
        const payloads = numbers(1_000).map((payload, n) => n === at ? bad({}) : payload)
        const error = yield* Effect.flip(Count.enqueueMany(payloads, { atomic: true }))
        assert.ok(error._tag === "InvalidPayload" && error.field === `payload[${at}].n`)
      }
      assert.equal((yield* stored).lastSequence, 0)
    }))

  test("stores large ones together too", () =>
    Effect.gen(function* () {
      const payloads = Array.from({ length: 50 }, () => new Uint8Array(400_000))
      yield* exactly(yield* Blob.enqueueMany(payloads, { atomic: true }))
    }))
})

describe("enqueueing many jobs with a mistake", () => {
  const test = worldTest(testServer())

  const cases: ReadonlyArray<
    readonly [field: string, Effect.Effect<unknown, unknown, Client.Client>]
  > = [
    ["payloads", Count.enqueueMany(bad(5))],
    ["payloads", Count.enqueueMany(bad(null))],
    ["payloads", Count.enqueueMany(bad(undefined))],
    ["payloads", Count.enqueueMany(bad({ n: 5 }))],
    ["payloads", Count.enqueueMany(bad("text"))],
    ["payloads", Count.enqueueMany(bad(Promise.resolve([])))],
    ["atomic", Count.enqueueMany(numbers(2), { atomic: bad("yes") })],
    ["atomic", Count.enqueueMany(numbers(2), { atomic: bad(1) })],
    ["queue", Count.enqueueMany(numbers(2), { queue: "a b" })],
    ["priority", Count.enqueueMany(numbers(2), { priority: bad("urgent") })],
    ["timeout", Count.enqueueMany(numbers(2), { timeout: -1 })],
    ["retry", Count.enqueueMany(numbers(2), { retry: bad({}) })],
    ["delay", Count.enqueueMany(numbers(2), { delay: Number.NaN })],
    ["delay", Count.enqueueMany(numbers(2), { delay: "-5 seconds" })],
    ["at", Count.enqueueMany(numbers(2), { at: "soon" })],
    ["at", Count.enqueueMany(numbers(2), { at: 5, delay: 5 })],
    ["options.atomc", Count.enqueueMany(numbers(2), bad({ atomc: true }))],
    ["options", Count.enqueueMany(numbers(2), bad(null))],
  ]
  test("refuses it by its field and stores nothing", () =>
    Effect.gen(function* () {
      for (const [index, [field, input]] of cases.entries()) {
        const error = yield* Effect.flip(input)
        const found = error as { readonly _tag: string; readonly field: string }
        assert.deepEqual([found._tag, found.field], ["InvalidOptions", field], `case ${index}`)
      }
      assert.equal((yield* stored).lastSequence, 0)
    }))
})
