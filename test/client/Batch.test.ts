import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, Client, Job, type NatsError, Operation } from "../../mod.ts"
import * as Engine from "../../src/client/Engine.ts"
import * as Retention from "../../src/nats/Retention.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { eventually, testServer } from "../harness.ts"
import { contents } from "../nats/stream.ts"
import { stored, type World, worldTest } from "./world.ts"

const Work = Job.make("work", { payload: Schema.Number })
const Later = Job.make("later", { payload: Schema.String, queue: "other" })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

const listed = (state: Client.ListOptions["state"], more: Partial<Client.ListOptions> = {}) =>
  Client.Client.use((client) =>
    Effect.map(client.list({ state, ...more }), ({ jobs }) => jobs.map(({ id }) => id))
  )

const counted = Client.Client.use((client) => Effect.map(client.counts(), ({ total }) => total))

/** The engine's own view of batches, with the short alarm of a test. */
const engineOf = <A, E>(use: (engine: Engine.Engine) => Effect.Effect<A, E>) =>
  Effect.flatMap(Engine.Engine, use).pipe(Effect.provide(Engine.layer))

const addressOf = (id: string) =>
  Effect.map(Wire.Wire, ({ partitions }) => Subjects.addressOf(id, partitions))

/** What a server does when the alarm of a batch fires whose author has been silent for too long. */
const giveUp = (id: string): Effect.Effect<void, NatsError.NatsError, World> =>
  Effect.flatMap(addressOf(id), (batch) =>
    engineOf(({ batches }) =>
      Effect.andThen(
        batches.update(batch, (state) => ({ ...state, heldUntil: 1 })),
        batches.tick(batch),
      )
    ))

const nothing = Effect.map(stored, ({ subjects }) => assert.deepEqual(subjects, []))

describe("a batch that is being built", () => {
  const server = testServer()
  const test = worldTest(server)

  test("shows nothing of itself before it is complete, then everything", () =>
    Effect.gen(function* () {
      const outside = yield* Work.enqueue(0)
      const before = yield* counted
      let inner = ""
      const id = yield* Batch.create(
        { description: "all at once" },
        (batch) =>
          Effect.gen(function* () {
            const ids = yield* batch.addMany(Work, numbers(5_000))
            const [first = ""] = ids
            const child = yield* batch.addAfter(first, Later, "child", { on: "any" })
            const follower = yield* batch.addAfter(outside, Later, "follower")
            const due = yield* batch.add(Later, "due", { delay: "1 hour" })
            inner = yield* batch.addBatch({}, (nested) => nested.add(Work, 1))
            for (const state of ["awaiting", "enqueued", "scheduled"] as const) {
              const seen = yield* listed(state)
              assert.deepEqual(seen, state === "enqueued" ? [outside] : [])
              assert.deepEqual(yield* listed(state, { queue: "_engine" }), [])
              assert.deepEqual(yield* listed(state, { group: batch.id }), [])
            }
            assert.deepEqual(yield* counted, before)
            const client = yield* Client.Client
            for (const hidden of [first, child, follower, due, inner, batch.id]) {
              assert.equal((yield* Effect.flip(client.get(hidden)))._tag, "JobNotFound")
              const answer = yield* client.operate(hidden, Operation.cancel())
              assert.equal(answer._tag, "notFound")
            }
            assert.equal((yield* Effect.flip(Batch.get(batch.id)))._tag, "JobNotFound")
            assert.equal((yield* Effect.flip(Batch.get(inner)))._tag, "JobNotFound")
            const followed = yield* Effect.flip(Work.enqueueAfter(first, 1))
            assert.equal(followed._tag, "JobNotFound")
          }),
      )
      const record = yield* Batch.get(id)
      assert.equal(record.state, "started")
      assert.equal(record.description, "all at once")
      assert.equal(record.total, 5_004)
      assert.deepEqual(record.members, {
        ...{ awaiting: 3, scheduled: 1, enqueued: 5_000, retrying: 0 },
        ...{ succeeded: 0, failed: 0, cancelled: 0 },
      })
      assert.equal((yield* Batch.get(inner)).batch, id)
      assert.deepEqual(
        [(yield* listed("awaiting")).length, (yield* listed("scheduled")).length],
        [2, 1],
      )
      const after = yield* counted
      assert.deepEqual([after.enqueued, after.awaiting, after.scheduled], [5_002, 2, 1])
    }))

  test("leaves nothing behind when its building fails", () =>
    Effect.gen(function* () {
      const parent = yield* Work.enqueue(0)
      const { subjects } = yield* stored
      const error = yield* Effect.flip(Batch.create({}, (batch) =>
        Effect.gen(function* () {
          const [first = ""] = yield* batch.addMany(Work, numbers(1_500))
          yield* batch.addAfter([first, parent], Later, "child")
          yield* batch.addBatch({}, (inner) =>
            Effect.gen(function* () {
              const one = yield* inner.add(Work, 1)
              yield* inner.addAfter(one, Work, 2)
              yield* inner.addBatch({}, (innermost) => innermost.add(Work, 3))
            }))
          return yield* Effect.fail("no more")
        })))
      assert.equal(error, "no more")
      assert.deepEqual((yield* stored).subjects, subjects)
    }))

  test("leaves nothing behind when it is interrupted, or a payload is bad", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const building = yield* Effect.forkChild(Batch.create({}, (batch) =>
        Effect.gen(function* () {
          yield* batch.addMany(Work, numbers(10))
          yield* Deferred.succeed(started, undefined)
          yield* Effect.never
        })))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(building)
      yield* nothing
      const bad = yield* Effect.flip(
        Batch.create({}, (batch) => batch.addMany(Work, [1, 2, "three" as never])),
      )
      assert.equal(bad._tag, "InvalidPayload")
      assert.match(bad.message, /payload\[2\]/)
      yield* nothing
      const missing = yield* Effect.flip(
        Batch.create({}, (batch) => batch.addAfter("01M000000000000000000000A0", Work, 1)),
      )
      assert.equal(missing._tag, "JobNotFound")
      yield* nothing
    }))

  test("leaves nothing behind of a nested one that failed and was done without", () =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          yield* batch.add(Work, 1)
          const inner = batch.addBatch({}, (inner) =>
            Effect.andThen(inner.addMany(Work, numbers(5)), Effect.fail("no")))
          yield* Effect.ignore(inner)
        }))
      assert.equal((yield* Batch.get(id)).total, 1)
      assert.equal((yield* stored).messages, 2)
    }))

  test("is closed when servers have given its builder up, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Batch.create({}, (batch) =>
        Effect.gen(function* () {
          yield* batch.addMany(Work, numbers(10))
          yield* giveUp(batch.id)
          // It wakes up, and hasn't noticed yet.
          yield* batch.addMany(Work, numbers(10))
        })))
      assert.equal(error._tag, "BatchClosed")
      assert.match(error.message, /no sign of life/)
      yield* nothing
    }))

  test(
    "is closed as soon as its builder notices that it was given up",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Batch.create({}, (batch) =>
          Effect.gen(function* () {
            yield* giveUp(batch.id)
            yield* Effect.forever(Effect.andThen(Effect.sleep("20 millis"), batch.add(Work, 1)))
          })))
        assert.equal(error._tag, "BatchClosed")
        yield* nothing
      }),
    { alarmMillis: 300 },
  )

  test("tells what is wrong with its options before anything is written", () =>
    Effect.gen(function* () {
      const none = () => Effect.void
      const refused = yield* Effect.forEach([
        Batch.create({ description: "x".repeat(501) }, none),
        Batch.create({ description: 5 as never }, none),
        Batch.create({ retention: { age: "never" as never } }, none),
        Batch.create({ descriptoin: "x" } as never, none),
      ], (create) => Effect.flip(create))
      assert.deepEqual(refused.map(({ _tag }) => _tag), numbers(4).map(() => "InvalidOptions"))
      yield* nothing
    }))

  test("puts its members beside itself, whatever the partition", () =>
    Effect.gen(function* () {
      const { nats } = yield* Wire.Wire
      const ids = yield* Effect.forEach(
        numbers(3),
        () => Batch.create({}, (batch) => batch.addMany(Work, numbers(10))),
      )
      const parts = yield* Effect.forEach(numbers(3), (p) => contents(nats, p))
      assert.deepEqual(parts.map(({ messages }) => messages), [11, 11, 11])
      for (const id of ids) assert.equal((yield* Batch.get(id)).members.enqueued, 10)
    }), { partitions: 3 })

  test("tells the janitor of its retention, and its members have it too", () =>
    Effect.gen(function* () {
      const retention = { age: "1 hour", count: 5 } as const
      const id = yield* Batch.create({ retention }, (batch) => batch.add(Work, 1))
      const client = yield* Client.Client
      yield* client.operate(id, Operation.cancel())
      const wire = yield* Wire.Wire
      const [[name, setting] = []] = [...(yield* Retention.published(wire))]
      assert.deepEqual(setting, { name: "batches", ageMillis: 3_600_000, count: 5 })
      const classes = (yield* stored).subjects.map((subject) => subject.split(".")[5])
      assert.deepEqual(classes.filter((one) => one === name).length, 2)
    }))

  test("ends at once without members", () =>
    Effect.gen(function* () {
      const empty = yield* Batch.create({}, () => Effect.void)
      assert.equal((yield* Batch.get(empty)).state, "succeeded")
      const outer = yield* Batch.create({}, (batch) => batch.addBatch({}, () => Effect.void))
      const record = yield* Batch.await(outer, { within: "5 seconds" })
      assert.deepEqual([record.state, record.total], ["succeeded", 1])
    }))

  test("is awaited no longer than asked for", () =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) => batch.add(Work, 1))
      const late = yield* Effect.flip(Batch.await(id, { within: "50 millis" }))
      assert.equal(late._tag, "AwaitTimedOut")
      const gone = yield* Effect.flip(Batch.await("01M000000000000000000000A0"))
      assert.equal(gone._tag, "JobNotFound")
      const job = yield* Work.enqueue(1)
      assert.equal((yield* Effect.flip(Batch.get(job)))._tag, "JobNotFound")
      assert.equal((yield* Effect.flip(Batch.attach(job, () => Effect.void)))._tag, "JobNotFound")
    }))
})

describe("adding to a batch", () => {
  const server = testServer()
  const test = worldTest(server)

  test("shows nothing before it is complete, and takes turns", () =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) => batch.add(Work, 1))
      yield* Effect.forEach(numbers(10), (n) =>
        Batch.attach(id, (batch) =>
          Effect.gen(function* () {
            yield* batch.addMany(Work, numbers(2))
            const { members, total } = yield* Batch.get(id)
            assert.equal(members.awaiting, 0)
            assert.equal(members.enqueued, total)
            if (n % 2 === 0) yield* Effect.fail("no")
          })).pipe(Effect.ignore), { concurrency: "unbounded" })
      const { members, total } = yield* Batch.get(id)
      assert.deepEqual([total, members.enqueued, members.awaiting], [11, 11, 0])
    }))

  test("is closed when servers have given it up, or the batch was cancelled meanwhile", () =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) => batch.add(Work, 1))
      const error = yield* Effect.flip(Batch.attach(id, (batch) =>
        Effect.gen(function* () {
          yield* batch.addMany(Work, numbers(10))
          yield* giveUp(id)
          yield* batch.addMany(Work, numbers(10))
        })))
      assert.equal(error._tag, "BatchClosed")
      assert.equal((yield* stored).messages, 2)
      const client = yield* Client.Client
      const cancelled = yield* Effect.flip(Batch.attach(id, (batch) =>
        Effect.gen(function* () {
          yield* batch.addMany(Work, numbers(10))
          yield* client.operate(id, Operation.cancel())
        })))
      assert.match(cancelled.message, /it was cancelled/)
      const record = yield* Batch.get(id)
      assert.deepEqual([record.total, record.members.cancelled], [1, 1])
      const closed = yield* Effect.flip(Batch.attach(id, (batch) => batch.add(Work, 1)))
      assert.equal(closed._tag, "BatchClosed")
      yield* eventually(
        Effect.map(stored, ({ subjects }) => subjects.filter((one) => !one.includes("._engine."))),
        (subjects) => subjects.length === 1,
      )
    }))

  test("opens a nested batch and the one around it", () =>
    Effect.gen(function* () {
      let inner = ""
      const outer = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          inner = yield* batch.addBatch({}, () => Effect.void)
        }))
      yield* Batch.await(outer)
      yield* Batch.attach(inner, (batch) => batch.add(Work, 1))
      const states = [(yield* Batch.get(inner)).state, (yield* Batch.get(outer)).state]
      assert.deepEqual(states, ["started", "started"])
    }))

  test("is refused where the batch around was cancelled", () =>
    Effect.gen(function* () {
      let inner = ""
      const outer = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          inner = yield* batch.addBatch({}, () => Effect.void)
          yield* batch.add(Work, 1)
        }))
      yield* Batch.await(inner)
      yield* Client.Client.use((client) => client.operate(outer, Operation.cancel()))
      const closed = yield* Effect.flip(Batch.attach(inner, (batch) => batch.add(Work, 1)))
      assert.equal(closed._tag, "BatchClosed")
    }))
})
