import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job } from "../../mod.ts"
import * as Api from "../../src/nats/Api.ts"
import { all as priorities } from "../../src/core/Priority.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { ended, gate, heldIn, is, produce, serve, type TestServer } from "./harness.ts"

const Quick = Job.make("quick")
const QuickLive = Quick.toLayer(() => Effect.void)

/** A job that runs until its test opens the gate. */
const block = () => {
  const { open, wait } = gate()
  const Block = Job.make("block")
  return { Block, BlockLive: Block.toLayer(() => wait), open }
}

/** Starts of a job name, as ranks, and how many of them came before a more urgent one. */
const tooEarly = (ranks: ReadonlyArray<number>): number =>
  ranks.filter((rank, at) => ranks.slice(at + 1).some((later) => later < rank)).length

const starts = (server: TestServer, name: string) =>
  server.events.filter(is("AttemptStarted")).filter((event) => event.name === name)

describe("A fetcher", () => {
  const nats = testServer()

  effect(
    "starts jobs by priority, but for the few it holds already",
    () =>
      Effect.gen(function* () {
        const { Block, BlockLive, open } = block()
        const handlers = Layer.merge(QuickLive, BlockLive)
        const server = yield* serve(nats.layer(), handlers, { queues: { default: 1 } })
        yield* server.provide(Block.enqueue())
        yield* server.until(is("AttemptStarted"))
        const rankOf = new Map<string, number>()
        for (let i = 0; i < 15; i++) {
          for (const [rank, priority] of [...priorities.entries()].reverse()) {
            rankOf.set(yield* server.provide(Quick.enqueue(undefined, { priority })), rank)
          }
        }
        open()
        yield* server.until(ended(), { count: 61 })
        const ranks = starts(server, "quick").map(({ id }) => rankOf.get(id) ?? -1)
        assert.equal(ranks.length, 60)
        assert.ok(tooEarly(ranks) <= 8, ranks.join(""))
      }),
  )

  effect("starts jobs of a list of queues in the order of the list", () =>
    Effect.gen(function* () {
      const { Block, BlockLive, open } = block()
      const handlers = Layer.merge(QuickLive, BlockLive)
      const queues = ["first", "second", "third"]
      const server = yield* serve(nats.layer(), handlers, { queues, concurrency: 1 })
      yield* server.provide(Block.enqueue(undefined, { queue: "third" }))
      yield* server.until(is("AttemptStarted"))
      for (let i = 0; i < 10; i++) {
        for (const queue of ["third", "second", "first"]) {
          // A priority counts inside of its queue only.
          const priority = queue === "third" ? "critical" : "low"
          yield* server.provide(Quick.enqueue(undefined, { queue, priority }))
        }
      }
      open()
      yield* server.until(ended(), { count: 31 })
      const ranks = starts(server, "quick").map(({ queue }) => queues.indexOf(queue))
      assert.ok(tooEarly(ranks) <= 6, ranks.join(""))
    }))

  effect(
    "runs as many jobs at once as each queue allows, and not one more",
    () =>
      Effect.gen(function* () {
        const running = new Map<string, number>()
        const most = new Map<string, number>()
        const Count = Job.make("count")
        const CountLive = Count.toLayer(() =>
          Effect.gen(function* () {
            const { queue } = yield* Job.current
            const now = (running.get(queue) ?? 0) + 1
            running.set(queue, now)
            most.set(queue, Math.max(now, most.get(queue) ?? 0))
            yield* Effect.sleep("5 millis")
            running.set(queue, (running.get(queue) ?? 0) - 1)
          })
        )
        const server = yield* serve(nats.layer(), CountLive, { queues: { narrow: 2, wide: 7 } })
        for (const queue of ["narrow", "wide"]) {
          yield* server.provide(Count.enqueueMany(new Array<void>(60).fill(undefined), { queue }))
        }
        yield* server.until(ended(), { count: 120 })
        assert.deepEqual([...most].sort(), [["narrow", 2], ["wide", 7]])
      }),
  )

  effect("lets an idle lane start at once beside a busy one", () =>
    Effect.gen(function* () {
      const { Block, BlockLive, open } = block()
      const handlers = Layer.merge(QuickLive, BlockLive)
      const queues = ["busy", "idle"]
      const server = yield* serve(nats.layer(), handlers, { queues, concurrency: 3 })
      yield* server.provide(Block.enqueueMany([undefined, undefined], { queue: "busy" }))
      yield* server.until(is("AttemptStarted"), { count: 2 })
      for (const priority of [...priorities].reverse()) {
        const begun = performance.now()
        const id = yield* server.provide(Quick.enqueue(undefined, { queue: "idle", priority }))
        yield* server.until(is("AttemptStarted", id))
        assert.ok(performance.now() - begun < 1_000)
      }
      open()
    }))

  effect(
    "gives back what waits behind a running job, for a server that is free",
    () =>
      Effect.gen(function* () {
        const { Block, BlockLive, open } = block()
        const handlers = Layer.merge(QuickLive, BlockLive)
        const layer = nats.layer(freshNamespace())
        const busy = yield* serve(layer, handlers, { queues: { default: 1 } })
        yield* busy.provide(Block.enqueue())
        yield* busy.until(is("AttemptStarted"))
        const ids = yield* Effect.forEach(
          [...priorities, ...priorities],
          (priority) => busy.provide(Quick.enqueue(undefined, { priority })),
        )
        const held = yield* heldIn(busy.nats, "default")
        assert.ok(held <= 1 + priorities.length + 1, `${held} held`)
        const begun = performance.now()
        yield* eventually(heldIn(busy.nats, "default"), (held) => held === 1)
        assert.ok(performance.now() - begun < 4_000)
        const free = yield* serve(layer, handlers, { queues: { default: 1 } })
        yield* free.until(ended(), { count: ids.length })
        for (const id of ids) assert.equal((yield* free.client.get(id)).attemptCount, 1)
        assert.equal(busy.server.running(), 1)
        open()
        yield* busy.until(ended())
      }),
  )

  effect(
    "gives back an unknown name with a growing delay, until a server knows it",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const other = yield* serve(layer, Layer.empty)
        const delays: Array<number> = []
        const id = yield* other.provide(Quick.enqueue(undefined, { priority: "high" }))
        for (const count of [1, 2]) {
          const moves = yield* other.until(is("JobMoved", id), { count })
          assert.equal(moves.at(-1)?.to, "unknown")
          delays.push((moves.at(-1)?.due ?? 0) - Date.now())
        }
        const [first = 0, second = 0] = delays
        assert.ok(first > 500 && first <= 1_100 && second > 1_500 && second <= 2_100, `${delays}`)
        assert.equal((yield* other.client.get(id)).state, "scheduled")
        yield* other.stop
        const server = yield* serve(layer, QuickLive)
        const record = yield* server.record(id)
        assert.deepEqual([record.state, record.attemptCount, record.priority], [
          "succeeded",
          1,
          "high",
        ])
        assert.equal(record.attempts.length, 1)
        assert.equal(other.events.some(is("AttemptStarted")), false)
      }),
  )

  effect(
    "gets over the loss of its consumers, and runs nothing twice for it",
    () =>
      Effect.gen(function* () {
        const { Block, BlockLive, open } = block()
        const handlers = Layer.merge(QuickLive, BlockLive)
        const server = yield* serve(nats.layer(), handlers)
        const blocked = yield* server.provide(Block.enqueue())
        yield* server.until(is("AttemptStarted"))
        const { connection, namespace } = server.nats
        const stream = `PF_${namespace}_JOBS_0`
        for (let lane = 0; lane <= 4; lane++) {
          const name = `ready_default_${lane}`
          yield* Api.call(connection, `CONSUMER.DELETE.${stream}.${name}`, undefined, "deleting")
        }
        for (const priority of priorities) {
          yield* server.record(yield* server.provide(Quick.enqueue(undefined, { priority })))
        }
        open()
        assert.equal((yield* server.record(blocked)).state, "succeeded")
        assert.equal(starts(server, "block").length, 1)
        yield* eventually(heldIn(server.nats, "default"), (held) => held === 0)
      }),
  )

  effect(
    "waits for a stream that somebody deleted, without a storm of requests",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const server = yield* serve(layer, QuickLive)
        const { connection, namespace } = server.nats
        yield* Api.call(connection, `STREAM.DELETE.PF_${namespace}_JOBS_0`, undefined, "deleting")
        const before = connection.stats().outMsgs
        yield* Effect.sleep("2 seconds")
        const sent = connection.stats().outMsgs - before
        assert.ok(sent < 100, `${sent} messages sent in two seconds`)
        assert.equal(
          server.events.some(
            is("Supervision", undefined, ({ report }) => report._tag === "ChildTerminated"),
          ),
          false,
        )
        const { provide } = yield* produce(layer)
        const id = yield* provide(Quick.enqueue())
        assert.equal((yield* server.record(id)).state, "succeeded")
      }),
  )

  effect("takes what is no job out of the way and goes on at once", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), QuickLive)
      const { connection, namespace } = server.nats
      for (
        const tail of ["_.too.many.tokens", '_.qu"ote', "_.back\\\\slash", "_.*", "*.x", "_.ü"]
      ) {
        connection.publish(`pf.${namespace}.0.ready.default.3.${tail}`, "junk")
      }
      const begun = performance.now()
      yield* server.record(yield* server.provide(Quick.enqueue()))
      assert.ok(performance.now() - begun < 2_000)
      yield* eventually(heldIn(server.nats, "default"), (held) => held === 0)
    }))
})
