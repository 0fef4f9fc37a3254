import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Nats from "../../src/nats/Nats.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { contents } from "./stream.ts"

describe("the wire of a namespace", () => {
  const server = testServer()

  const layer = (settings?: Wire.StreamOptions, namespace?: string) =>
    Wire.layer.pipe(
      Layer.provide(
        settings === undefined ? Layer.empty : Layer.succeed(Wire.StreamSettings, settings),
      ),
      Layer.provideMerge(server.layer(namespace)),
    )

  effect(
    "makes its streams, one partition unless it is told otherwise",
    () =>
      Effect.gen(function* () {
        const wire = yield* Wire.Wire
        assert.equal(wire.partitions, 1)
        assert.equal(wire.replicated, false)
        assert.equal((yield* contents(yield* Nats.Nats)).messages, 0)
      }).pipe(Effect.provide(layer())),
  )

  effect(
    "keeps the partitions it was made with, whoever comes later",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const partitions = Effect.map(Wire.Wire, ({ partitions }) => partitions)
        assert.equal(yield* Effect.provide(partitions, layer({ partitions: 3 }, namespace)), 3)
        assert.equal(yield* Effect.provide(partitions, layer(undefined, namespace)), 3)
        const other = Effect.provide(partitions, layer({ partitions: 2 }, namespace))
        assert.equal((yield* Effect.flip(other))._tag, "TopologyConflict")
      }),
  )

  effect("refuses an impossible number of partitions by its name", () =>
    Effect.gen(function* () {
      for (const partitions of [0, -1, 1.5, 33, Number.NaN, Number.POSITIVE_INFINITY]) {
        const error = yield* Effect.flip(Effect.provide(Wire.Wire, layer({ partitions })))
        assert.ok(error._tag === "InvalidOptions" && error.field === "partitions")
      }
    }))

  effect("asks once per queue and partition, until it forgets", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const { connection } = wire.nats
      let requests = 0
      const subscription = connection.subscribe("$JS.API.CONSUMER.>", {
        callback: () => void requests++,
      })
      yield* Effect.promise(() => connection.flush())
      const asked = (queue: string, partition: number) =>
        Effect.gen(function* () {
          const before = requests
          yield* wire.ensureQueue(queue, partition)
          yield* Effect.promise(() => connection.flush())
          return requests > before
        })
      assert.equal(wire.knowsQueue("mail", 0), false)
      assert.equal(yield* asked("mail", 0), true)
      assert.equal(wire.knowsQueue("mail", 0), true)
      assert.equal(yield* asked("mail", 0), false)
      assert.equal(wire.knowsQueue("mail", 1), false)
      assert.equal(yield* asked("mail", 1), true)
      wire.forgetQueue("mail", 0)
      assert.equal(yield* asked("mail", 0), true)
      assert.equal(wire.knowsQueue("mail", 1), true)
      subscription.unsubscribe()
    }).pipe(Effect.provide(layer({ partitions: 2 }))))

  effect("asks once for many who need a queue at the same time", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const { connection } = wire.nats
      let requests = 0
      const subscription = connection.subscribe("$JS.API.CONSUMER.INFO.>", {
        callback: () => void requests++,
      })
      yield* Effect.promise(() => connection.flush())
      const ask = wire.ensureQueue("mail", 0)
      const impatient = yield* Effect.forkChild(ask, { startImmediately: true })
      const others = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 500 }), () => ask, { concurrency: "unbounded" }),
        { startImmediately: true },
      )
      yield* Fiber.interrupt(impatient)
      assert.equal((yield* Fiber.join(others)).length, 500)
      yield* Effect.promise(() => connection.flush())
      assert.equal(requests, 5, "one for each of its consumers")
      subscription.unsubscribe()
    }).pipe(Effect.provide(layer())))

  effect("gives the consumers of a queue, most urgent first", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const consumers = yield* wire.ensureQueue("mail", 0)
      assert.deepEqual(
        consumers.map(({ ackWaitMillis, maxAckPending, name, priority, stream }) => [
          ...[priority, name, stream, ackWaitMillis, maxAckPending],
        ]),
        [0, 1, 2, 3, 4].map((priority) => [
          ...[priority, `ready_mail_${priority}`, Subjects.jobsStream(wire.subjects.namespace, 0)],
          ...[5_000, 77],
        ]),
      )
    }).pipe(Effect.provide(layer({ ackWaitMillis: 5_000, maxAckPending: 77 }))))

  effect("knows the server's time", () =>
    Effect.gen(function* () {
      const { clock } = yield* Wire.Wire
      assert.ok(Math.abs(clock.now() - Date.now()) < 1_000)
    }).pipe(Effect.provide(layer())))
})
