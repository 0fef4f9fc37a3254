import assert from "node:assert/strict"
import { describe } from "node:test"
import {
  type BatchBuilder,
  BatchClosed,
  Flow,
  InvalidPayload,
  job,
  JobCancelled,
  JobFailed,
  JobNotFound,
  Operation,
  parentResult,
  Retry,
} from "../../actors/promise/mod.ts"
import { testServer } from "../harness.ts"
import { gate, mail, numeric, promised, rejection, texts, withClient } from "./world.ts"

const once = { retry: Retry.none } as const
const Square = job("square", { payload: numeric, success: numeric, ...once })
const Sum = job("sum", { payload: mail, success: numeric, ...once })
const Nothing = job("nothing", once)

const handlers = [
  Square.handler((n) => `${n * n}`),
  Sum.handler(async (_, { parentResults }) => {
    const results = await parentResults(Square)
    return `${results.reduce((sum, result) => sum + result, 0)}`
  }),
  Nothing.handler(() => {}),
]

describe("operations with promises", () => {
  const server = testServer()

  promised(
    "change one job, several, and all that match",
    () =>
      withClient(server, async (portfire) => {
        const ids = await portfire.enqueueMany(Square, ["1", "2", "3", "4"])
        const [first = "", second = ""] = ids
        const cancel = Operation.cancel({ reason: "not needed" })
        assert.deepEqual(await portfire.operate(first, cancel), {
          _tag: "changed",
          id: first,
          from: "enqueued",
          to: "cancelled",
        })
        assert.ok(await rejection(portfire.await(Square, first)) instanceof JobCancelled)
        const stale = await portfire.operate(first, cancel, { ifState: "enqueued" })
        assert.equal(stale._tag, "conflict")
        const both = await portfire.operateAll(
          [second, "nobody"],
          Operation.move({ queue: "slow" }),
        )
        assert.deepEqual(both.map(({ _tag }) => _tag), ["changed", "notFound"])
        const filter = { name: "square", queue: "default", state: "enqueued" } as const
        const { changed, dryRun } = await portfire.operateWhere(filter, cancel, { dryRun: true })
        assert.deepEqual([changed, dryRun], [0, true])
        assert.equal((await portfire.operateWhere(filter, cancel)).changed, 2)
        assert.equal((await portfire.counts()).total.cancelled, 3)
      }),
  )

  promised(
    "abort the signal of a handler whose job is cancelled",
    () =>
      withClient(server, async (portfire) => {
        const Long = job("long", once)
        const started = gate()
        const aborted = gate()
        await portfire.serve({
          queues: { default: 5 },
          handlers: [Long.handler(async (_, { signal }) => {
            signal.addEventListener("abort", () => aborted.resolve())
            started.resolve()
            await aborted.promise
          })],
        })
        const id = await portfire.enqueue(Long)
        await started.promise
        await portfire.operate(id, Operation.cancel())
        await aborted.promise
        assert.ok(await rejection(portfire.await(Long, id)) instanceof JobCancelled)
      }),
  )
})

describe("jobs that follow others, with promises", () => {
  const server = testServer()

  promised("get results of their parents", () =>
    withClient(server, async (portfire) => {
      await portfire.serve({ queues: { default: 5 }, handlers })
      const parents = await portfire.enqueueMany(Square, ["2", "3"])
      const sum = await portfire.enqueueAfter(Sum, parents, { to: "all" })
      assert.equal(await portfire.await(Sum, sum), 13)
      const last = await portfire.enqueueAfter(Square, sum, parentResult)
      assert.equal(await portfire.await(Square, last), 169)
      const orphan = await rejection(portfire.enqueueAfter(Nothing, "nobody"))
      assert.ok(orphan instanceof JobNotFound)
    }))
})

describe("batches with promises", () => {
  const server = testServer()

  promised(
    "are built by async functions, end as one and open again",
    () =>
      withClient(server, async (portfire) => {
        await portfire.serve({ queues: { default: 5 }, handlers })
        const batch = await portfire.batches.create({ description: "squares" }, async (batch) => {
          const parents = await batch.addMany(Square, ["2", "3"])
          await batch.addAfter(parents, Sum, { to: "all" })
          await batch.addBatch({}, (inner) => inner.add(Nothing))
        })
        const record = await portfire.batches.await(batch, { within: "20 seconds" })
        assert.deepEqual([record.state, record.total, record.description], [
          "succeeded",
          4,
          "squares",
        ])
        await portfire.batches.attach(batch, (batch) => batch.add(Square, "4"))
        assert.equal((await portfire.batches.await(batch)).total, 5)
      }),
  )

  promised(
    "wait for members that what builds them doesn't wait for, and take none later",
    () =>
      withClient(server, async (portfire) => {
        let kept: BatchBuilder | undefined
        const batch = await portfire.batches.create({}, (batch) => {
          kept = batch
          for (const text of ["1", "2", "3"]) void batch.add(Square, text)
        })
        assert.equal((await portfire.batches.get(batch)).total, 3)
        assert.match(
          String(await rejection(kept?.add(Square, "4") ?? Promise.resolve())),
          /too late/,
        )
        const floating = await rejection(portfire.batches.create({}, (batch) => {
          void batch.add(Square, "two")
        }))
        assert.ok(floating instanceof InvalidPayload)
      }),
  )

  promised(
    "are never seen when what builds them throws",
    () =>
      withClient(server, async (portfire) => {
        let id = ""
        const own = await rejection(portfire.batches.create({}, async (batch) => {
          id = batch.id
          await batch.add(Nothing)
          throw new Error("changed my mind")
        }))
        assert.equal((own as Error).message, "changed my mind")
        assert.ok(await rejection(portfire.batches.get(id)) instanceof JobNotFound)
        const invalid = await rejection(
          portfire.batches.create({}, (batch) => batch.add(Square, "two")),
        )
        assert.ok(invalid instanceof InvalidPayload)
        const controller = new AbortController()
        const { signal } = controller
        const aborted = await rejection(portfire.batches.create({ signal }, async (batch) => {
          await batch.add(Nothing)
          controller.abort(new Error("enough"))
          await batch.add(Nothing)
        }))
        assert.equal((aborted as Error).message, "enough")
        assert.equal((await portfire.counts()).total.enqueued, 0)
        const closed = await portfire.batches.create({}, (batch) => batch.add(Nothing))
        await portfire.operate(closed, Operation.cancel())
        const late = await rejection(portfire.batches.attach(closed, (batch) => batch.add(Nothing)))
        assert.ok(late instanceof BatchClosed, String(late))
      }),
  )
})

describe("workflows with promises", () => {
  const server = testServer()

  promised(
    "pass what handlers return from step to step, and give what schemas make of it",
    () =>
      withClient(server, async (portfire) => {
        const Count = job("count", { payload: numeric, success: texts, ...once })
        const Add = job("add", { payload: texts, success: numeric, ...once })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [
            ...handlers,
            Count.handler((n) => Array.from({ length: n }, (_, index) => `${index + 1}`)),
            Add.handler((list) => `${list.reduce((sum, text) => sum + Number(text), 0)}`),
          ],
        })
        const sum = Flow.job(Count, "3").forEach(Square).andThen(Add)
        assert.equal(await portfire.flows.execute(sum, { within: "20 seconds" }), 14)
        const both = Flow.all({ sum, two: Flow.job(Square, "2"), nothing: Flow.job(Nothing) })
        const handle = await portfire.flows.enqueue(both, { description: "both" })
        const { nothing, ...numbers } = await portfire.flows.await(both, handle)
        assert.deepEqual(numbers, { sum: 14, two: 4 })
        assert.equal(nothing, undefined)
        assert.equal((await portfire.batches.get(handle.batch)).description, "both")
        const diamond = Flow.job(Square, "3").share((nine) =>
          Flow.all([nine.andThen(Square), nine]).andThen(Add)
        )
        assert.equal(await portfire.flows.execute(diamond), 90)
        const broken = Flow.job(Add, ["x"])
        assert.ok(await rejection(portfire.flows.execute(broken)) instanceof JobFailed)
        assert.equal(await portfire.flows.execute(broken.orElse(Flow.job(Square, "1"))), 1)
        const invalid = await rejection(portfire.flows.enqueue(Flow.job(Square, "two")))
        assert.ok(invalid instanceof InvalidPayload)
      }),
  )
})
