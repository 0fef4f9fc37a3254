import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job } from "../../mod.ts"
import * as Operation from "../../src/client/Operation.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as JobView from "../../src/nats/JobView.ts"
import * as Links from "../../src/nats/Links.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { testServer } from "../harness.ts"
import { contents } from "../nats/stream.ts"
import { messageOf, stored, worldTest } from "./world.ts"

const Parent = Job.make("parent", { payload: Schema.Number, success: Schema.Number })
const Child = Job.make("child", { payload: Schema.Number })

const later = Parent.schedule(1, { delay: "1 hour" })

describe("a continuation", () => {
  const server = testServer()
  const test = worldTest(server)

  test("awaits its parents, which it names in its record, linked from each", () =>
    Effect.gen(function* () {
      const parents = [yield* later, yield* Parent.enqueue(2), yield* later]
      const id = yield* Child.enqueueAfter(parents, 5, { need: "any", queue: "mail" })
      const record = yield* Child.get(id)
      assert.deepEqual([record.state, record.payload, record.queue], ["awaiting", 5, "mail"])
      assert.deepEqual(record.parents, parents.map((id) => ({ id, state: undefined })))
      const { envelope, subject } = yield* messageOf(id)
      assert.match(subject, /\.await\.mail\.7\._\./)
      assert.equal(envelope.progress.waits?.staged, false)
      const wire = yield* Wire.Wire
      for (const parent of parents) {
        const [link, ...more] = yield* Links.from(wire, Subjects.addressOf(parent))
        assert.deepEqual([link?.child.id, more.length], [id, 0])
      }
    }))

  test("of parents that have ended is ready, scheduled or cancelled at once", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const parent = yield* later
      yield* client.operate(parent, Operation.cancel())
      const after = (on: "any" | "succeeded", delay: number) =>
        Effect.flatMap(Child.enqueueAfter(parent, 5, { on, delay }), Child.get)
      const now = yield* after("any", 0)
      const delayed = yield* after("any", 60_000)
      const never = yield* after("succeeded", 0)
      assert.deepEqual([now.state, delayed.state, never.state], [
        "enqueued",
        "scheduled",
        "cancelled",
      ])
      const wait = (delayed.due?.getTime() ?? 0) - Date.now()
      assert(Math.abs(wait - 60_000) < 10_000, `${wait}`)
      assert.match(never.reason ?? "", new RegExp(`job ${parent}.* ended as cancelled`))
      assert.deepEqual(now.parents, [{ id: parent, state: "cancelled" }])
    }))

  test("of a parent that isn't there is refused, and nothing is stored", () =>
    Effect.gen(function* () {
      const there = yield* later
      const expired = yield* later
      const client = yield* Client.Client
      yield* client.operate(expired, Operation.cancel())
      yield* client.operate(expired, Operation.remove())
      yield* client.enqueueAfter(Child.definition, there, 1)
      const before = yield* stored
      const elsewhere = JobId.makeGenerator()(17)
      for (const missing of ["no-such-job", expired, JobId.makeGenerator()(0), elsewhere]) {
        for (const parents of [missing, [there, missing], [missing, there]]) {
          const error = yield* Effect.flip(Child.enqueueAfter(parents, 5))
          assert(error._tag === "JobNotFound")
          assert.equal(error.id, missing)
        }
      }
      assert.deepEqual(yield* stored, before)
    }))

  test("with an option that makes no sense is refused by its name, and nothing is stored", () =>
    Effect.gen(function* () {
      const parent = yield* later
      const before = yield* stored
      const bad: ReadonlyArray<
        readonly [field: string, parents: unknown, options: object, payload?: unknown]
      > = [
        ["parents", [], {}],
        ["parents", 5, {}],
        ["parents", undefined, {}],
        ["parents", "a.b", {}],
        ["parents", [parent, 5], {}],
        ["parents", Array.from({ length: 1_001 }, (_, i) => `p${i}`), {}],
        ["on", parent, { on: "ended" }],
        ["on", parent, { on: [] }],
        ["on", parent, { on: ["failed", "any"] }],
        ["need", parent, { need: "some" }],
        ["delay", parent, { delay: -1 }],
        ["options.at", parent, { at: 5 }],
        ["options.id", parent, { id: "chosen" }],
        ["queue", parent, { queue: "a.b" }],
        ["payload", parent, { on: "failed" }, Job.parentResult],
        ["payload", [parent, "x"], {}, Job.parentResult],
        ["payload", [parent, "x"], { need: "any" }, Job.parentResults],
      ]
      for (const [field, parents, options, payload = 5] of bad) {
        const refused = Child.enqueueAfter(parents as string, payload as number, options)
        const error = yield* Effect.flip(refused)
        assert(error._tag === "InvalidOptions", `${field}: ${error}`)
        assert.equal(error.field, field, JSON.stringify(options))
      }
      const Unique = Job.make("unique", { payload: Schema.Number, unique: { key: String } })
      const error = yield* Effect.flip(Unique.enqueueAfter(parent, 5))
      assert(error._tag === "InvalidOptions" && error.field === "unique")
      const mismatch = yield* Effect.flip(Child.enqueueAfter(parent, "x" as never))
      assert.equal(mismatch._tag, "InvalidPayload")
      assert.deepEqual(yield* stored, before)
    }))

  test("waits where it is moved to", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const parent = yield* later
      const id = yield* Child.enqueueAfter(parent, 5)
      const moved = yield* client.operate(id, Operation.move({ queue: "mail", priority: "high" }))
      assert.deepEqual([moved._tag, "to" in moved && moved.to], ["changed", "awaiting"])
      for (const operation of [Operation.runNow(), Operation.reschedule({ delay: 5 })]) {
        const answer = yield* client.operate(id, operation)
        assert.deepEqual(answer, { _tag: "conflict", id, state: "awaiting" })
      }
      yield* client.operate(parent, Operation.cancel())
      const other = yield* later
      const second = yield* Child.enqueueAfter(other, 5, { on: "any" })
      yield* client.operate(second, Operation.move({ queue: "mail", priority: "high" }))
      yield* client.operate(other, Operation.cancel())
      const record = yield* Child.get(second)
      assert.deepEqual([record.state, record.queue, record.priority], ["enqueued", "mail", "high"])
      assert.equal((yield* Child.get(id)).state, "cancelled")
    }))

  test(
    "lies beside the first of its parents, wherever the others are",
    () =>
      Effect.gen(function* () {
        const { nats } = yield* Wire.Wire
        const ids = yield* Effect.forEach(Array.from({ length: 16 }), () => later)
        const partitions = new Set(ids.map(JobId.partitionOf))
        assert(partitions.size > 1)
        for (const first of ids) {
          const parents = [first, ...ids.filter((id) => id !== first)]
          const id = yield* Child.enqueueAfter(parents, 5, { on: "cancelled" })
          assert.equal(JobId.partitionOf(id), JobId.partitionOf(first))
          assert.equal((yield* Child.get(id)).state, "awaiting")
        }
        const client = yield* Client.Client
        yield* Effect.forEach(ids, (id) => client.operate(id, Operation.cancel()), {
          concurrency: 16,
        })
        const all = yield* Effect.forEach([0, 1, 2, 3], (partition) => contents(nats, partition))
        const subjects = all.flatMap(({ subjects }) => subjects)
        const having = (token: string) =>
          subjects.filter((subject) => subject.includes(token)).length
        assert.deepEqual([having(".ready.default."), having(".link.")], [ids.length, 0])
      }),
    { partitions: 4 },
  )

  test("finds no link at replicas that never show the record it was asked with", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const parent = yield* later
      yield* Child.enqueueAfter(parent, 5)
      const other = yield* later
      const view = yield* JobView.find(wire, parent)
      assert(view !== undefined)
      const { sequence, subject } = view.current.stored
      const replicated = { ...wire, replicated: true }
      const asked = [{ id: parent, subject, sequence }, { id: other, subject, sequence }]
      const found = yield* Links.parentsAmong(replicated, 0, asked)
      assert.deepEqual([...found], [parent])
      // What is gone by the time of the look can't vouch for an answer: anything is possible then.
      const gone = asked.map((one) => ({ ...one, sequence: sequence + 1_000 }))
      const all = yield* Links.parentsAmong(replicated, 0, gone)
      assert.deepEqual(new Set(all), new Set([parent, other]))
    }))
})
