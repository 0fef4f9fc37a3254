import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import type * as Nats from "../../src/nats/Nats.ts"
import { type Ack, type Options, type Publication, Publisher } from "../../src/nats/Publisher.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { contents } from "./stream.ts"

type Connection = Nats.Nats["connection"]

const nextId = JobId.makeGenerator()
const small = new Uint8Array(20)

/** A publication of a job that is new. */
const fresh = (
  { subjects }: Wire.Wire,
  options: { readonly payload?: Uint8Array; readonly patience?: number } = {},
): Publication => {
  const job = Subjects.addressOf(nextId(0))
  return {
    subject: subjects.live("ready", "q", 3, job),
    payload: small,
    expected: undefined,
    filter: subjects.job(job),
    ...options,
  }
}

/** A publication that no stream takes: the server answers that nobody is there. */
const nowhere = (patience?: number): Publication => ({
  subject: "nowhere.at.all",
  payload: small,
  expected: undefined,
  filter: "nowhere.>",
  patience,
})

const publish = (publisher: Publisher, publication: Publication): Effect.Effect<Ack> =>
  Effect.callback((resume) => publisher.publish(publication, (ack) => resume(Effect.succeed(ack))))

const publisherOn = (connection: Connection, options?: Options) =>
  Effect.acquireRelease(
    Effect.sync(() => new Publisher(connection, options)),
    (publisher) => Effect.sync(() => publisher.close()),
  )

/** The connection with a tap on what is published through it. */
const tapped = (connection: Connection, tap: (subject: string) => void): Connection =>
  Object.assign(Object.create(connection) as Connection, {
    publish: (...args: Parameters<Connection["publish"]>) => {
      tap(args[0])
      connection.publish(...args)
    },
  })

describe("a publisher", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown, Scope.Scope>,
  ) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(Layer.provide(server.layer())),
      ))

  test("stores messages in the order they were published", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection, { window: 100 })
      const acks = yield* Effect.forEach(
        Array.from({ length: 5_000 }, () => fresh(wire)),
        (publication) => publish(publisher, publication),
        { concurrency: "unbounded" },
      )
      const sequences = acks.map((ack) => ack._tag === "Stored" ? ack.sequence : 0)
      assert.deepEqual(sequences, Array.from({ length: 5_000 }, (_, index) => index + 1))
      assert.equal((yield* contents(wire.nats)).messages, 5_000)
      assert.equal(publisher.pending, 0)
    }))

  test("never has more messages under way than its window, nor more bytes", (wire) =>
    Effect.gen(function* () {
      for (const options of [{ window: 7 }, { windowBytes: 7_000 }]) {
        let underWay = 0
        let most = 0
        const tap = tapped(wire.nats.connection, () => most = Math.max(most, ++underWay))
        const publisher = yield* publisherOn(tap, options)
        const payload = new Uint8Array(1_000 - fresh(wire).subject.length)
        yield* Effect.forEach(
          Array.from({ length: 500 }, () => fresh(wire, { payload })),
          (publication) => Effect.map(publish(publisher, publication), () => underWay--),
          { concurrency: "unbounded" },
        )
        // A settled message is replaced before its callback runs.
        assert.ok(most >= 7 && most <= 8, String(most))
      }
    }))

  test("sends a message that is larger than its whole window", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection, { windowBytes: 10 })
      const acks = yield* Effect.forEach(
        Array.from({ length: 5 }, () => fresh(wire, { payload: new Uint8Array(900_000) })),
        (publication) => publish(publisher, publication),
        { concurrency: "unbounded" },
      )
      assert.deepEqual(acks.map(({ _tag }) => _tag), Array.from({ length: 5 }, () => "Stored"))
    }))

  test("refuses a message that is larger than the server takes, and goes on", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection)
      const calls: Array<Ack> = []
      const tooLarge = fresh(wire, { payload: new Uint8Array(2_000_000) })
      publisher.publish(tooLarge, (ack) => void calls.push(ack))
      assert.equal(calls.length, 0, "never called before publish returns")
      assert.equal((yield* publish(publisher, fresh(wire)))._tag, "Stored")
      assert.deepEqual(calls.map(({ _tag }) => _tag), ["Refused"])
      assert.equal(publisher.pending, 0)
      assert.equal((yield* contents(wire.nats)).messages, 1)
    }))

  test("refuses what the server refuses, with its code", (wire) =>
    Effect.gen(function* () {
      const publication = { ...fresh(wire), headers: "Nats-Schedule: soon\r\n" }
      const ack = yield* publish(wire.publisher, publication)
      assert.ok(ack._tag === "Refused" && ack.code === 10189, JSON.stringify(ack))
    }))

  test("tells a condition that doesn't hold from one that does", (wire) =>
    Effect.gen(function* () {
      const publication = fresh(wire)
      const first = yield* publish(wire.publisher, { ...publication, expected: 0 })
      assert.ok(first._tag === "Stored")
      const conflict = { _tag: "Conflict", repeated: false }
      for (const expected of [0, first.sequence + 1]) {
        assert.deepEqual(yield* publish(wire.publisher, { ...publication, expected }), conflict)
      }
      const next = { ...publication, expected: first.sequence }
      assert.equal((yield* publish(wire.publisher, next))._tag, "Stored")
    }))

  test("repeats what was under way when the connection was lost, and stores nothing twice", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection, { window: 50 })
      const acks: Array<Ack> = []
      const publications = Array.from({ length: 100 }, () => fresh(wire))
      const done = Effect.forEach(
        publications,
        (publication) => Effect.map(publish(publisher, publication), (ack) => acks.push(ack)),
        { concurrency: "unbounded" },
      )
      // As if every answer had been lost: the first fifty are sent again before any arrives.
      yield* Effect.andThen(
        Effect.sync(() => setTimeout(() => publisher.reconnected(), 0)),
        done,
      )
      assert.equal(acks.length, 100)
      for (const ack of acks) {
        assert.ok(ack._tag === "Stored" || (ack._tag === "Conflict" && ack.repeated))
      }
      const { lastSequence, messages, subjects } = yield* contents(wire.nats)
      assert.deepEqual([messages, lastSequence], [100, 100])
      assert.deepEqual(subjects, publications.map(({ subject }) => subject).sort())
    }))

  test("gives up on a stream that isn't there when patience ends, and the line moves up", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection, { window: 1 })
      const acks = yield* Effect.forEach(
        [nowhere(100), nowhere(150), fresh(wire)],
        (publication) => publish(publisher, publication),
        { concurrency: "unbounded" },
      )
      assert.deepEqual(acks.map(({ _tag }) => _tag), ["Unknown", "Unknown", "Stored"])
      assert.equal(publisher.pending, 0)
    }))

  test("waits for a stream that isn't there yet", (wire) =>
    Effect.gen(function* () {
      const { connection } = wire.nats
      const stream = "WAITS_FOR_IT"
      const publisher = yield* publisherOn(connection)
      const subject = `${stream}.a`
      const stored = publish(publisher, { ...nowhere(), subject, filter: subject })
      const create = Effect.promise(() =>
        connection.request(
          `$JS.API.STREAM.CREATE.${stream}`,
          JSON.stringify({ name: stream, subjects: [`${stream}.*`], storage: "memory" }),
        )
      )
      const [ack] = yield* Effect.all([stored, Effect.delay(create, 50)], { concurrency: 2 })
      assert.deepEqual(ack, { _tag: "Stored", sequence: 1 })
    }))

  test("lets a callback publish again", (wire) =>
    Effect.gen(function* () {
      const publisher = yield* publisherOn(wire.nats.connection, { window: 2 })
      yield* Effect.callback<void>((resume) => {
        const chain = (left: number) =>
          publisher.publish(fresh(wire), () => {
            if (left > 0) chain(left - 1)
            else resume(Effect.void)
          })
        chain(300)
      })
      assert.equal((yield* contents(wire.nats)).messages, 301)
    }))

  test("when closed, ends what is outstanding, put off and in line, each once", (wire) =>
    Effect.gen(function* () {
      const publisher = new Publisher(wire.nats.connection, { window: 4 })
      const calls = new Map<number, Array<Ack["_tag"]>>()
      const publications = [nowhere(), nowhere(), ...Array.from({ length: 8 }, () => fresh(wire))]
      const record = (index: number) => (ack: Ack) => {
        calls.set(index, [...calls.get(index) ?? [], ack._tag])
      }
      // The first two come back undecided and wait to be sent again.
      publications.slice(0, 2).forEach((one, index) => publisher.publish(one, record(index)))
      yield* publish(wire.publisher, fresh(wire))
      publications.slice(2).forEach((one, index) => publisher.publish(one, record(index + 2)))
      assert.equal(publisher.pending, 10)
      publisher.close()
      publisher.publish(fresh(wire), record(10))
      assert.equal(calls.has(10), false, "never called before publish returns")
      yield* publish(wire.publisher, fresh(wire))
      yield* Effect.sleep(50)
      assert.deepEqual(
        [...calls.entries()].sort(([a], [b]) => a - b),
        Array.from({ length: 11 }, (_, index) => [index, ["Unknown"]]),
      )
      assert.equal(publisher.pending, 0)
    }))
})

describe("a publisher whose server is killed", () => {
  const server = testServer()

  effect(
    "settles every message once, and what it says is stored is stored once",
    () =>
      Effect.gen(function* () {
        const wire = yield* Wire.Wire
        const total = 30_000
        const calls = new Uint8Array(total)
        const acks: Array<Ack> = []
        const publications = Array.from({ length: total }, () => fresh(wire))
        let kill = () => {}
        const killed = Effect.gen(function* () {
          yield* Effect.callback<void>((resume) => {
            kill = () => resume(Effect.void)
          })
          yield* server.killServer
          assert.ok(wire.publisher.pending > 0, "it was killed too late")
          yield* server.restartServer
        })
        const all = Effect.callback<void>((resume) => {
          let left = total
          for (const [index, publication] of publications.entries()) {
            wire.publisher.publish(publication, (ack) => {
              calls[index] = (calls[index] as number) + 1
              acks[index] = ack
              if (total - --left === 5_000) kill()
              if (left === 0) resume(Effect.void)
            })
          }
        })
        yield* Effect.all([killed, all], { concurrency: 2 })
        assert.ok(calls.every((count) => count === 1))
        for (const ack of acks) {
          assert.ok(ack._tag === "Stored" || (ack._tag === "Conflict" && ack.repeated), ack._tag)
        }
        const { lastSequence, messages, subjects } = yield* contents(wire.nats)
        assert.deepEqual(subjects, publications.map(({ subject }) => subject).sort())
        assert.deepEqual([messages, lastSequence], [total, total], "stored twice")
        assert.equal(wire.publisher.pending, 0)
      }).pipe(
        Effect.provide(Wire.layer.pipe(Layer.provide(server.layer()))),
      ),
  )

  effect(
    "says that it doesn't know when patience ends, in the window and in line",
    () =>
      Effect.gen(function* () {
        const wire = yield* Wire.Wire
        const options = { window: 2, answerWithin: 200 }
        const publisher = yield* publisherOn(wire.nats.connection, options)
        assert.equal((yield* publish(publisher, fresh(wire)))._tag, "Stored")
        yield* server.killServer
        const begun = performance.now()
        const acks = yield* Effect.forEach(
          Array.from({ length: 6 }, () => fresh(wire, { patience: 200 })),
          (publication) => publish(publisher, publication),
          { concurrency: "unbounded" },
        )
        assert.deepEqual(acks.map(({ _tag }) => _tag), Array.from({ length: 6 }, () => "Unknown"))
        assert.ok(performance.now() - begun < 3_000)
        assert.equal(publisher.pending, 0)
        yield* server.restartServer
        assert.equal((yield* publish(publisher, fresh(wire)))._tag, "Stored")
      }).pipe(
        Effect.provide(Wire.layer.pipe(Layer.provide(server.layer()))),
      ),
  )
})
