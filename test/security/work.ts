/** What processes of each role do, all of it, for tests of the permissions that they need. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { Batch, Client, Flow, Job, Operation, Recurring, Retry } from "../../mod.ts"
import { eventually } from "../harness.ts"

export class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

const Double = Job.make("double", { payload: Schema.Number, success: Schema.Number, logs: true })
const List = Job.make("list", {
  payload: Schema.Number,
  success: Schema.Array(Schema.Number),
})
const Add = Job.make("add", { payload: Schema.Array(Schema.Number), success: Schema.Number })
const Once = Job.make("once", {
  payload: Schema.String,
  unique: { key: (text: string) => text },
  retry: Retry.none,
})
const Break = Job.make("break", { error: Boom, retry: Retry.fixed({ attempts: 2, delay: 10 }) })
const Idle = Job.make("idle", { queue: "idle", payload: Schema.Number })
const Slow = Job.make("slow")

/** What a server of the tests runs. */
export const handlers = Layer.mergeAll(
  Double.toLayer((n) =>
    Effect.gen(function* () {
      yield* Effect.log(`doubling ${n}`)
      yield* Job.progress(0.5)
      return n * 2
    })
  ),
  List.toLayer((n) => Effect.succeed(Array.from({ length: n }, (_, i) => i))),
  Add.toLayer((list) => Effect.succeed(list.reduce((a, b) => a + b, 0))),
  Once.toLayer(() => Effect.void),
  Break.toLayer(() => Effect.fail(new Boom())),
  Slow.toLayer(() => Effect.never),
)

/** All that an enqueuer may do: it never reads. */
export const enqueue = Effect.gen(function* () {
  yield* Double.enqueue(1)
  yield* Double.schedule(2, { delay: 50 })
  yield* Double.enqueueMany([3, 4, 5])
  yield* Double.enqueueMany([6, 7], { atomic: true })
  yield* Idle.enqueue(8, { queue: "nobodys" })
})

/** All that a producer does. */
export const produce = Effect.gen(function* () {
  yield* enqueue
  assert.equal(yield* Double.execute(21, { within: "10 seconds" }), 42)
  const first = yield* Double.enqueue(1, { id: "chosen-by-the-producer" })
  assert.equal((yield* Double.submit(1, { id: "chosen-by-the-producer" })).created, false)
  assert.equal(yield* Double.await(first, { within: "10 seconds" }), 2)
  assert.equal((yield* Client.Client.use((client) => client.get(first))).state, "succeeded")

  const later = yield* Once.submit("a", { delay: "1 hour" })
  assert.equal((yield* Once.submit("a")).id, later.id)
  yield* Once.submit("a", { delay: 50, unique: { onConflict: "replace" } })
  yield* Once.await(later.id, { within: "10 seconds" })
  yield* Once.enqueue("b", { unique: { until: "1 second" } })

  const held = yield* Double.schedule(3, { delay: 300 })
  const child = yield* Double.enqueueAfter(held, Job.parentResult)
  assert.equal(yield* Double.await(child, { within: "10 seconds" }), 12)
  const grandchild = yield* Double.enqueueAfter(child, 1)
  assert.equal(yield* Double.await(grandchild, { within: "10 seconds" }), 2)

  const batch = yield* Batch.create({ description: "two" }, (b) => b.addMany(Double, [1, 2]))
  assert.equal((yield* Batch.await(batch, { within: "10 seconds" })).state, "succeeded")
  yield* Batch.attach(batch, (b) => b.add(Double, 3))
  assert.equal((yield* Batch.await(batch, { within: "10 seconds" })).state, "succeeded")
  yield* Effect.flip(
    Batch.create(
      { description: "given up" },
      (b) => Effect.andThen(b.add(Double, 1), Effect.fail("changed my mind")),
    ),
  )

  const flow = Flow.job(List, 3).pipe(Flow.forEach(Double), Flow.andThen(Add))
  assert.equal(yield* Flow.execute(flow, { within: "10 seconds" }), 6)

  // Batches that end under the eyes of who builds them, and jobs that follow what has failed.
  yield* Batch.create({ description: "none" }, () => Effect.void)
  const broken = yield* Batch.create({ description: "broken" }, (b) => b.add(Break, undefined))
  assert.equal((yield* Batch.await(broken, { within: "10 seconds" })).state, "completed")
  yield* Batch.attach(broken, (b) => b.add(Double, 1))
  const tooLate = yield* Double.enqueueAfter(broken, 1)
  assert.equal(
    (yield* Effect.flip(Double.await(tooLate, { within: "10 seconds" })))._tag,
    "JobCancelled",
  )
  const waiting = yield* Idle.enqueue(1, { id: "chosen-replaced" })
  const other = { unique: { key: "k", onConflict: "replace" as const } }
  yield* Idle.enqueue(1, other)
  yield* Idle.enqueue(2, other)
  assert.equal((yield* Client.Client.use((client) => client.get(waiting))).state, "enqueued")

  const failing = yield* Effect.flip(Break.execute(undefined, { within: "10 seconds" }))
  assert.equal(failing._tag, "Boom")

  const followed = yield* Double.schedule(5, { delay: 200 })
  const lines = yield* Stream.runCollect(
    Client.Client.use((client) => Effect.succeed(client.follow(followed))).pipe(Stream.unwrap),
  )
  assert.ok(lines.length > 0)
  const { logs, progress } = yield* Client.Client
  yield* logs(followed)
  yield* progress(followed)
})

/** All that a viewer does. */
export const view = Effect.gen(function* () {
  const client = yield* Client.Client
  const { total } = yield* client.counts()
  assert.ok(total.succeeded > 0 && total.failed > 0)
  assert.ok((yield* client.queues()).length > 0)
  const [server] = yield* client.servers
  assert.ok(server !== undefined && (server.running ?? []).length > 0)
  const { jobs: [record] } = yield* client.list({ state: "succeeded", limit: 5 })
  assert.ok(record !== undefined)
  yield* client.awaitRecord(record.id)
  yield* client.logs(record.id)
  yield* Stream.runDrain(client.follow(record.id))
  yield* Recurring.list()
})

/** All that an operator does. */
export const operate = Effect.gen(function* () {
  yield* view
  const client = yield* Client.Client

  const { jobs: [waiting] } = yield* client.list({ state: "enqueued", limit: 1, queue: "idle" })
  assert.ok(waiting !== undefined)
  const done = (answer: { readonly _tag: string }) => assert.equal(answer._tag, "changed")
  done(yield* client.operate(waiting.id, Operation.move({ queue: "other" })))
  done(yield* client.operate(waiting.id, Operation.reschedule({ delay: "1 hour" })))
  done(yield* client.operate(waiting.id, Operation.runNow()))
  done(yield* client.operate(waiting.id, Operation.cancel()))
  done(yield* client.operate(waiting.id, Operation.requeue()))
  done(yield* client.operate(waiting.id, Operation.cancel()))
  done(yield* client.operate(waiting.id, Operation.remove()))
  yield* client.operateWhere({ queue: "idle" }, Operation.cancel())
  const { jobs: [failed] } = yield* client.list({ state: "failed", limit: 1 })
  assert.ok(failed !== undefined)
  done(yield* client.operate(failed.id, Operation.requeue()))

  const { jobs: [running] } = yield* client.list({ state: "processing", limit: 1 })
  assert.ok(running !== undefined)
  done(yield* client.operate(running.id, Operation.cancel()))

  yield* Recurring.upsert("hourly", { job: Double, payload: 7, schedule: { every: "1 hour" } })
  const run = yield* Recurring.trigger("hourly")
  yield* eventually(client.get(run), ({ state }) => state === "succeeded")
  yield* Recurring.pause("hourly")
  yield* Recurring.resume("hourly")
  yield* Recurring.list()
  yield* Recurring.history("hourly")
  yield* Recurring.remove("hourly")
})

/** What an operator needs to find there. */
export const prepare = Effect.gen(function* () {
  yield* Idle.enqueueMany([1, 2, 3, 4])
  yield* Slow.enqueue()
})
