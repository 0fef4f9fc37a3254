import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import { type Ack, conditionLines } from "../../src/nats/Publisher.ts"
import * as Conditional from "../../src/nats/Conditional.ts"
import * as Peek from "../../src/nats/Peek.ts"
import { maxMatches, newestAtLeader, Reader } from "../../src/nats/Reader.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"

const nextId = JobId.makeGenerator()
const encoder = new TextEncoder()

const publish = (
  { publisher }: Wire.Wire,
  subject: string,
  text: string,
  headers?: string,
): Effect.Effect<Ack> =>
  Effect.callback((resume) =>
    publisher.publish(
      { subject, payload: encoder.encode(text), expected: undefined, filter: subject, headers },
      (ack) => resume(Effect.succeed(ack)),
    )
  )

/** The stream of the only partition, and the parts that all subjects of a job share. */
const place = ({ subjects }: Wire.Wire) => ({
  stream: Subjects.jobsStream(subjects.namespace, 0),
  job: Subjects.addressOf(nextId(0)),
})

const textOf = (data: Uint8Array) => new TextDecoder().decode(data)

describe("a reader", () => {
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

  test("misses nothing of what is there while other messages are deleted", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const { subjects } = wire
      const lasting = subjects.live("ready", "q", 3, job)
      const passing = Array.from(
        { length: 20 },
        () => subjects.live("later", "q", 3, place(wire).job),
      )
      const filters = [lasting, ...passing]
      // Newer than the others each time, so that it is the last in an answer.
      const change = Effect.gen(function* () {
        const stored = yield* Effect.forEach(passing, (subject) => publish(wire, subject, "x"), {
          concurrency: 20,
        })
        yield* publish(wire, lasting, "here")
        const sequences = stored.flatMap((ack) => ack._tag === "Stored" ? [ack.sequence] : [])
        const remove = (sequence: number) => Conditional.remove(wire, 0, sequence)
        yield* Effect.forEach(sequences, remove, { concurrency: 20, discard: true })
      })
      yield* change
      const changer = yield* Effect.forkChild(Effect.forever(change))
      const look = Effect.gen(function* () {
        const found = yield* wire.reader.newest(stream, filters)
        assert(found.some(({ subject }) => subject === lasting))
        assert((yield* Peek.count(wire, stream, filters)) > 0)
      })
      yield* Effect.forEach(Array.from({ length: 2_000 }), () => look, {
        concurrency: 8,
        discard: true,
      })
      yield* Fiber.interrupt(changer)
    }))

  test("gives the newest message of every subject that matches", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const ready = wire.subjects.live("ready", "q", 3, job)
      const retry = wire.subjects.live("retry", "q", 3, job)
      for (const text of ["old", "new"]) yield* publish(wire, ready, text)
      yield* publish(wire, retry, "retry")
      yield* publish(wire, wire.subjects.live("ready", "q", 3, place(wire).job), "other")
      const found = yield* wire.reader.newest(stream, [wire.subjects.job(job)])
      assert.deepEqual(
        found.map(({ data, sequence, subject }) => [subject, sequence, textOf(data)]).sort(),
        [[ready, 2, "new"], [retry, 3, "retry"]].sort(),
      )
      const { time } = found[0] as { readonly time: number }
      assert.ok(Math.abs(time - Date.now()) < 60_000, "the time of storing, in milliseconds")
    }))

  test("tells when a delayed message fires", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const due = Date.now() + 3_600_000
      const ready = wire.subjects.live("ready", "q", 3, job)
      const later = wire.subjects.live("later", "q", 3, job)
      yield* publish(wire, later, "", Subjects.scheduleLines(due, ready))
      const [found] = yield* wire.reader.newest(stream, [later])
      assert.equal(found?.due, due)
      const atLeader = yield* newestAtLeader(wire.nats.connection, stream, later)
      assert.deepEqual([atLeader?.due, atLeader?.sequence, atLeader?.time], [
        ...[found?.due, found?.sequence, found?.time],
      ])
    }))

  test("finds nothing where there is nothing", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const filter = wire.subjects.job(job)
      assert.deepEqual(yield* wire.reader.newest(stream, [filter]), [])
      assert.equal(yield* newestAtLeader(wire.nats.connection, stream, filter), undefined)
    }))

  test("gives the messages of a subject in their order, from a sequence on, up to a limit", (wire) =>
    Effect.gen(function* () {
      const stream = Subjects.logsStream(wire.subjects.namespace)
      const [own, other] = [wire.subjects.log("own"), wire.subjects.log("other")]
      for (const text of ["1", "2", "3", "4"]) {
        yield* publish(wire, own, text)
        yield* publish(wire, other, "other")
      }
      const range = (from: number, limit: number) =>
        Effect.map(
          wire.reader.range(stream, own, from, limit),
          (found) => found.map(({ data, sequence }) => [sequence, textOf(data)]),
        )
      assert.deepEqual(yield* range(0, 10), [[1, "1"], [3, "2"], [5, "3"], [7, "4"]])
      assert.deepEqual(yield* range(2, 2), [[3, "2"], [5, "3"]])
      assert.deepEqual(yield* range(8, 10), [])
      assert.deepEqual(yield* range(100, 10), [])
    }))

  test("answers many questions at once, each with its own", (wire) =>
    Effect.gen(function* () {
      const { stream } = place(wire)
      const subjects = Array.from(
        { length: 300 },
        () => wire.subjects.live("ready", "q", 3, place(wire).job),
      )
      yield* Effect.forEach(subjects, (subject) => publish(wire, subject, subject), {
        concurrency: "unbounded",
      })
      const found = yield* Effect.forEach(
        subjects,
        (subject) => wire.reader.newest(stream, [subject]),
        { concurrency: "unbounded" },
      )
      assert.deepEqual(found.map((messages) => messages.map(({ data }) => textOf(data))), [
        ...subjects.map((subject) => [subject]),
      ])
    }))

  test("reads up to 1,024 matches, and says when there are more", (wire) =>
    Effect.gen(function* () {
      const { stream } = place(wire)
      const all = `pf.${wire.subjects.namespace}.0.ready.>`
      const store = (count: number) =>
        Effect.forEach(
          Array.from(
            { length: count },
            () => wire.subjects.live("ready", "q", 3, place(wire).job),
          ),
          (subject) => publish(wire, subject, "x"),
          { concurrency: "unbounded", discard: true },
        )
      yield* store(maxMatches)
      assert.equal((yield* wire.reader.newest(stream, [all])).length, maxMatches)
      yield* store(1)
      const error = yield* Effect.flip(wire.reader.newest(stream, [all]))
      assert.ok(error._tag === "Rejected" && error.status === 413, error.message)
    }))

  test("says that a stream that isn't there is unavailable", (wire) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(wire.reader.newest("NO_SUCH_STREAM", ["a"], 200))
      assert.equal(error._tag, "Unavailable")
    }))

  test("keeps bytes of every kind as they are, read either way", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const subject = wire.subjects.live("ready", "q", 3, job)
      const payload = new Uint8Array(70_000).map((_, index) => index % 256)
      yield* Effect.callback<Ack>((resume) =>
        wire.publisher.publish(
          { subject, payload, expected: 0, filter: wire.subjects.job(job) },
          (ack) => resume(Effect.succeed(ack)),
        )
      )
      const [found] = yield* wire.reader.newest(stream, [subject])
      assert.deepEqual(new Uint8Array(found?.data ?? []), payload)
      const atLeader = yield* newestAtLeader(wire.nats.connection, stream, subject)
      assert.deepEqual(atLeader?.data, payload)
    }))

  test("that is closed ends what it was asked", (wire) =>
    Effect.gen(function* () {
      const { stream } = place(wire)
      const reader = new Reader(wire.nats.connection)
      const reading = yield* Effect.forkChild(Effect.flip(reader.newest(stream, ["pf.x"])), {
        startImmediately: true,
      })
      reader.close()
      assert.equal((yield* Fiber.join(reading))._tag, "Unavailable")
    }))

  test("forgets a question that is interrupted", (wire) =>
    Effect.gen(function* () {
      const { job, stream } = place(wire)
      const subject = wire.subjects.live("ready", "q", 3, job)
      yield* publish(wire, subject, "x")
      const reading = yield* Effect.forkChild(wire.reader.newest(stream, [subject]), {
        startImmediately: true,
      })
      yield* Fiber.interrupt(reading)
      assert.equal((yield* wire.reader.newest(stream, [subject])).length, 1)
    }))
})

describe("a reader whose server is killed", () => {
  const server = testServer()

  effect(
    "says so in the time it is given, and reads again when the server is back",
    () =>
      Effect.gen(function* () {
        const wire = yield* Wire.Wire
        const { job, stream } = place(wire)
        const subject = wire.subjects.live("ready", "q", 3, job)
        yield* publish(wire, subject, "x", conditionLines(0, wire.subjects.job(job)))
        yield* server.killServer
        const error = yield* Effect.flip(wire.reader.newest(stream, [subject], 200))
        assert.equal(error._tag, "Unavailable")
        yield* server.restartServer
        const found = yield* Effect.retry(wire.reader.newest(stream, [subject], 500), { times: 20 })
        assert.equal(found.length, 1)
      }).pipe(Effect.provide(Wire.layer.pipe(Layer.provide(server.layer())))),
  )
})
