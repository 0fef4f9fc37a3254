import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Lists from "../../src/nats/Lists.ts"
import type * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { newId, put, store } from "./jobs.ts"

const accepts = () => true

/** All pages of a list, and how many there were. */
const allPages = Effect.fnUntraced(function* (wire: Wire.Wire, query: Lists.Query) {
  const ids: Array<string> = []
  const times: Array<number> = []
  let pages = 0
  let from: ReadonlyArray<number> | undefined
  do {
    const { messages, next }: Lists.Listed = yield* Lists.list(wire, { ...query, from })
    assert.ok(messages.length <= query.limit)
    ids.push(...messages.map(({ subject }) => subject.id))
    times.push(...messages.map(({ stored }) => stored.time))
    from = next
    pages++
    assert.ok(pages < 1_000, "the pages end")
  } while (from !== undefined)
  return { ids, pages, times }
})

describe("lists of jobs", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown>,
    partitions = 1,
  ) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(
          Layer.provide(Layer.succeed(Wire.StreamSettings, { partitions })),
          Layer.provide(server.layer()),
        ),
      ))

  test("are scanned in both directions, past what is no job and whatever the density", (wire) =>
    Effect.gen(function* () {
      const { subjects } = wire
      const expected: Array<number> = []
      const link = `pf.${subjects.namespace}.0.link.${newId()}.`
      // Alone, far apart, then many in a row: windows have to widen and to narrow.
      for (const [others, records] of [[0, 1], [300, 1], [40, 150], [3, 3], [200, 0]] as const) {
        for (let i = 0; i < others; i++) yield* put(wire, link + newId(), new Uint8Array(0))
        for (let i = 0; i < records; i++) {
          expected.push((yield* store(wire, "failed", { payload: new Uint8Array(50) })).sequence)
        }
      }
      yield* store(wire, "failed", { queue: "other" })
      yield* put(
        wire,
        subjects.live("failed", "q", 3, { partition: 0, group: "_", id: "x?" }),
        new Uint8Array(1),
      )
      const filter = { state: "failed", queue: "q" } as const
      for (const bytes of [undefined, 700]) {
        for (const limit of [1, 7, 1_000]) {
          const found: Array<number> = []
          let from: number | undefined = 1
          while (from !== undefined) {
            const page: Lists.Scanned = yield* Lists.scan(wire, 0, filter, { from, limit, bytes })
            assert.ok(page.messages.length <= limit)
            found.push(...page.messages.map(({ stored }) => stored.sequence))
            from = page.next
          }
          assert.deepEqual(found, expected, `forwards by ${limit}`)
          const back: Array<number> = []
          let below: number | undefined = 10_000
          let window: number | undefined
          while (below !== undefined) {
            const page: Lists.ScannedBack = yield* Lists.scanBack(wire, 0, filter, {
              ...{ below, limit, bytes, window },
            })
            assert.ok(page.messages.length <= 2 * limit)
            back.push(...page.messages.map(({ stored }) => stored.sequence))
            below = page.next
            window = page.window
          }
          assert.deepEqual(back, expected.toReversed(), `backwards by ${limit}`)
        }
      }
    }))

  test("show waiting jobs oldest first and ended ones newest first, page by page", (wire) =>
    Effect.gen(function* () {
      const ready: Array<string> = []
      const failed: Array<string> = []
      for (let i = 0; i < 25; i++) {
        ready.push((yield* store(wire, "ready", { lane: 1 + i % 4 })).id)
        failed.push((yield* store(wire, "failed")).id)
      }
      for (const limit of [1, 10, 25, 26]) {
        const waiting = yield* allPages(wire, { state: "ready", accepts, limit })
        assert.deepEqual(waiting.ids, ready)
        const ended = yield* allPages(wire, { state: "failed", accepts, limit })
        assert.deepEqual(ended.ids, failed.toReversed())
      }
      const none = yield* allPages(wire, { state: "retry", accepts, limit: 9 })
      assert.deepEqual([none.ids, none.pages], [[], 1])
    }))

  test("leave out what a job's end or a requeue has left behind", (wire) =>
    Effect.gen(function* () {
      const stale = yield* store(wire, "ready")
      yield* store(wire, "succeeded", { id: stale.id })
      const retried = yield* store(wire, "ready")
      yield* store(wire, "retry", { id: retried.id, due: Date.now() + 3_600_000 })
      const record = yield* store(wire, "failed")
      const requeued = yield* store(wire, "ready", { id: record.id, after: record.sequence })
      const list = (state: Lists.Query["state"]) =>
        Effect.map(allPages(wire, { state, accepts, limit: 10 }), ({ ids }) => ids)
      assert.deepEqual(yield* list("ready"), [requeued.id])
      assert.deepEqual(yield* list("succeeded"), [stale.id])
      assert.deepEqual(yield* list("retry"), [retried.id])
      assert.deepEqual(yield* list("failed"), [])
    }))

  test("go on behind what can't be read and what isn't wanted", (wire) =>
    Effect.gen(function* () {
      const wanted: Array<string> = []
      for (let i = 0; i < 300; i++) {
        const { subject } = yield* store(wire, "ready", { name: "other" })
        if (i % 3 === 0) yield* put(wire, subject, Uint8Array.of(0xc1))
        if (i % 100 === 50) wanted.push((yield* store(wire, "ready")).id)
      }
      const found = yield* allPages(wire, {
        state: "ready",
        accepts: ({ envelope }) => envelope.name === "work",
        limit: 2,
      })
      assert.deepEqual(found.ids, wanted)
    }))

  test(
    "merge partitions by time, each with its own place in the cursor",
    (wire) =>
      Effect.gen(function* () {
        const ready: Array<string> = []
        const failed: Array<string> = []
        for (let i = 0; i < 40; i++) {
          // The last partition stays empty, and the first has most.
          const partition = i % 5 === 0 ? 1 : 0
          ready.push((yield* store(wire, "ready", { partition })).id)
          failed.push((yield* store(wire, "failed", { partition })).id)
        }
        const inPartition = (ids: ReadonlyArray<string>, partition: number) =>
          ids.filter((id) => id.endsWith(String(partition)))
        for (const limit of [3, 50]) {
          const waiting = yield* allPages(wire, { state: "ready", accepts, limit })
          const ended = yield* allPages(wire, { state: "failed", accepts, limit })
          assert.deepEqual(waiting.times, waiting.times.toSorted((a, b) => a - b))
          assert.deepEqual(ended.times, ended.times.toSorted((a, b) => b - a))
          assert.deepEqual([waiting.ids.length, ended.ids.length], [40, 40])
          for (const partition of [0, 1]) {
            const here = (ids: ReadonlyArray<string>) => inPartition(ids, partition)
            assert.deepEqual(here(waiting.ids), here(ready))
            assert.deepEqual(here(ended.ids), here(failed.toReversed()))
          }
        }
      }),
    3,
  )

  test("find the jobs of a queue and of a batch by their subjects", (wire) =>
    Effect.gen(function* () {
      const one = yield* store(wire, "ready", { group: "batch" })
      const two = yield* store(wire, "ready", { queue: "other" })
      const list = (filter: Subjects.JobFilter) =>
        Effect.map(
          allPages(wire, { accepts, limit: 10, ...filter, state: "ready" }),
          ({ ids }) => ids,
        )
      assert.deepEqual(yield* list({ group: "batch" }), [one.id])
      assert.deepEqual(yield* list({ group: "_" }), [two.id])
      assert.deepEqual(yield* list({ queue: "other" }), [two.id])
      assert.deepEqual(yield* list({ queue: "other", group: "batch" }), [])
    }))
})
