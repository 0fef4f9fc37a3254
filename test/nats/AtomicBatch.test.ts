import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import * as AtomicBatch from "../../src/nats/AtomicBatch.ts"
import { conditionLines } from "../../src/nats/Publisher.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { contents } from "./stream.ts"

const nextId = JobId.makeGenerator()

const messages = ({ subjects }: Wire.Wire, count: number): Array<AtomicBatch.BatchMessage> =>
  Array.from({ length: count }, () => {
    const job = Subjects.addressOf(nextId(0))
    const subject = subjects.live("ready", "q", 3, job)
    return { subject, payload: new Uint8Array(20), messageId: job.id }
  })

const subjectsOf = (batch: ReadonlyArray<AtomicBatch.BatchMessage>) =>
  batch.map(({ subject }) => subject).sort()

describe("an atomic batch", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown>,
  ) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(Layer.provide(server.layer())),
      ))

  const store = (wire: Wire.Wire, batch: ReadonlyArray<AtomicBatch.BatchMessage>) =>
    AtomicBatch.publish(wire.nats.connection, batch, 5_000)

  test("is stored whole, from one message to a thousand", (wire) =>
    Effect.gen(function* () {
      const all: Array<AtomicBatch.BatchMessage> = []
      for (const count of [0, 1, 2, 999, 1_000]) {
        const batch = messages(wire, count)
        all.push(...batch)
        yield* store(wire, batch)
        assert.deepEqual((yield* contents(wire.nats)).subjects, subjectsOf(all))
      }
    }))

  test("is not stored at all when one of its messages is refused", (wire) =>
    Effect.gen(function* () {
      const before = messages(wire, 1)
      yield* store(wire, before)
      const bad = ["Nats-Schedule: soon\r\n", conditionLines(7, "pf.x.>")]
      for (const headers of bad) {
        for (const position of [0, 5, 9]) {
          const batch = messages(wire, 10).map((message, index) =>
            index === position ? { ...message, headers } : message
          )
          const error = yield* Effect.flip(store(wire, batch))
          assert.equal(error._tag, "Rejected")
          assert.equal(error.retryable, false)
        }
      }
      const { lastSequence, subjects } = yield* contents(wire.nats)
      assert.deepEqual(subjects, subjectsOf(before))
      assert.equal(lastSequence, 1)
    }))

  test("is refused when it is larger than the server takes", (wire) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(store(wire, messages(wire, 1_001)))
      assert.equal(error._tag, "Rejected")
      assert.equal((yield* contents(wire.nats)).lastSequence, 0)
    }))

  test("that is repeated counts as stored and is stored once", (wire) =>
    Effect.gen(function* () {
      const batch = messages(wire, 10)
      for (let i = 0; i < 3; i++) yield* store(wire, batch)
      const { lastSequence, subjects } = yield* contents(wire.nats)
      assert.deepEqual([subjects, lastSequence], [subjectsOf(batch), 10])
    }))

  test("carries schedules and conditions of its messages", (wire) =>
    Effect.gen(function* () {
      const batch = messages(wire, 3).map((message, index) => ({
        ...message,
        subject: message.subject.replace(".ready.", ".later."),
        headers: Subjects.scheduleLines(Date.now() + 3_600_000 + index, message.subject),
      }))
      yield* store(wire, batch)
      assert.deepEqual((yield* contents(wire.nats)).subjects, subjectsOf(batch))
    }))
})

describe("an atomic batch whose server is killed", () => {
  const server = testServer()
  const layer = () => Wire.layer.pipe(Layer.provide(server.layer()))

  effect("is repeated until it is stored, once", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      yield* server.killServer
      const batch = messages(wire, 100)
      const fiber = yield* Effect.forkChild(
        AtomicBatch.publish(wire.nats.connection, batch, 20_000),
        { startImmediately: true },
      )
      yield* server.restartServer
      yield* Fiber.join(fiber)
      const { lastSequence, subjects } = yield* contents(wire.nats)
      assert.deepEqual([subjects, lastSequence], [subjectsOf(batch), 100])
    }).pipe(Effect.provide(layer())))

  effect("fails as unavailable when patience ends", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      yield* server.killServer
      const error = yield* Effect.flip(
        AtomicBatch.publish(wire.nats.connection, messages(wire, 10), 100),
      )
      assert.equal(error._tag, "Unavailable")
      assert.equal(error.retryable, true)
      yield* server.restartServer
    }).pipe(Effect.provide(layer())))
})
