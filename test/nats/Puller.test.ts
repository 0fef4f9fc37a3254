import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import * as Api from "../../src/nats/Api.ts"
import type { Ack } from "../../src/nats/Publisher.ts"
import { type Delivered, parseReply, type PullEnd, Puller } from "../../src/nats/Puller.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { contents } from "./stream.ts"

const nextId = JobId.makeGenerator()

const enqueue = (wire: Wire.Wire, count: number): Effect.Effect<ReadonlyArray<Ack>> =>
  Effect.forEach(
    Array.from({ length: count }, () => Subjects.addressOf(nextId(0))),
    (job) =>
      Effect.callback<Ack>((resume) =>
        wire.publisher.publish(
          {
            subject: wire.subjects.live("ready", "q", 3, job),
            payload: new Uint8Array(1),
            expected: undefined,
            filter: wire.subjects.job(job),
          },
          (ack) => resume(Effect.succeed(ack)),
        )
      ),
    { concurrency: "unbounded" },
  )

/** Messages that wait in the normal lane of the queue `q`. */
const pending = ({ nats, subjects }: Wire.Wire) =>
  Effect.map(
    Api.call<{ readonly num_pending: number }>(
      nats.connection,
      `CONSUMER.INFO.${Subjects.jobsStream(subjects.namespace, 0)}.ready_q_3`,
      undefined,
      "reading",
    ),
    (info) => info.num_pending,
  )

interface End {
  readonly tag: number
  readonly pull: number
  readonly end: PullEnd
}

/** A puller on the normal lane of the queue `q`, and what it reported. */
const pulling = (wire: Wire.Wire) =>
  Effect.gen(function* () {
    yield* wire.ensureQueue("q", 0)
    const delivered: Array<Delivered> = []
    const ends: Array<End> = []
    let wake = () => {}
    const puller = yield* Effect.acquireRelease(
      Effect.sync(() =>
        new Puller(wire.nats.connection, {
          message: (one) => {
            delivered.push(one)
            wake()
          },
          end: (tag, pull, end) => {
            ends.push({ tag, pull, end })
            wake()
          },
          beat: () => {},
        })
      ),
      (puller) => Effect.promise(() => puller.drain()),
    )
    const until = (reached: () => boolean): Effect.Effect<void> =>
      Effect.callback((resume) => {
        wake = () => reached() ? resume(Effect.void) : undefined
        wake()
      })
    const stream = Subjects.jobsStream(wire.subjects.namespace, 0)
    const pull = (batch: number, kind: "now" | "wait", tag = 7, consumer = "ready_q_3") =>
      puller.pull(stream, consumer, tag, batch, kind)
    return { puller, pull, delivered, ends, until }
  })

describe("a puller", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown, Scope.Scope>,
    settings: Wire.StreamOptions = {},
  ) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(
          Layer.provide(Layer.succeed(Wire.StreamSettings, settings)),
          Layer.provide(server.layer()),
        ),
      ))

  test("brings what is there in order, with what it says of itself", (wire) =>
    Effect.gen(function* () {
      yield* enqueue(wire, 5)
      const { delivered, pull, until } = yield* pulling(wire)
      pull(3, "now")
      yield* until(() => delivered.length === 3)
      assert.deepEqual(
        delivered.map(({ deliveries, pending, sequence }) => [sequence, deliveries, pending]),
        [[1, 1, 4], [2, 1, 3], [3, 1, 2]],
      )
      for (const { data, subject } of delivered) {
        assert.equal(wire.subjects.parse(subject)?.queue, "q")
        assert.equal(data.length, 1)
      }
    }))

  test("ends a pull that finds less than it asked for, by its tag and number", (wire) =>
    Effect.gen(function* () {
      yield* enqueue(wire, 1)
      const { delivered, ends, pull, until } = yield* pulling(wire)
      const number = pull(10, "now", 42)
      yield* until(() => ends.length === 1)
      assert.equal(delivered.length, 1)
      assert.deepEqual(ends, [{ tag: 42, pull: number, end: "empty" }])
      const next = pull(10, "now", 43)
      yield* until(() => ends.length === 2)
      assert.deepEqual(ends[1], { tag: 43, pull: next, end: "empty" })
    }))

  test("waits on an empty queue until something comes", (wire) =>
    Effect.gen(function* () {
      const { delivered, ends, pull, until } = yield* pulling(wire)
      pull(1, "wait")
      pull(1, "now", 8)
      // The server has seen the first when it answers the second.
      yield* until(() => ends.length === 1)
      yield* enqueue(wire, 1)
      yield* until(() => delivered.length === 1)
    }))

  test("takes an acknowledged message out of the stream, the others stay", (wire) =>
    Effect.gen(function* () {
      yield* enqueue(wire, 3)
      const { delivered, pull, puller, until } = yield* pulling(wire)
      pull(3, "now")
      yield* until(() => delivered.length === 3)
      puller.acknowledge(delivered[1] as Delivered)
      yield* eventually(contents(wire.nats), ({ messages }) => messages === 2)
    }))

  test("gets what nobody renewed again, with a higher count", (wire) =>
    Effect.gen(function* () {
      yield* enqueue(wire, 2)
      const { delivered, pull, puller, until } = yield* pulling(wire)
      pull(2, "now")
      yield* until(() => delivered.length === 2)
      const [kept, lost] = delivered as [Delivered, Delivered]
      const renewal = setInterval(() => puller.renew(kept), 100)
      pull(2, "wait")
      yield* until(() => delivered.length === 3)
      clearInterval(renewal)
      const [, , again] = delivered
      assert.deepEqual([again?.sequence, again?.deliveries], [lost.sequence, 2])
    }), { ackWaitMillis: 1_000 })

  test("says that a consumer that isn't there is missing", (wire) =>
    Effect.gen(function* () {
      const { ends, pull, until } = yield* pulling(wire)
      pull(1, "now", 1, "ready_nobody_3")
      pull(1, "wait", 2, "ready_nobody_3")
      yield* until(() => ends.length === 2)
      assert.deepEqual(ends.map(({ end, tag }) => [tag, end]).sort(), [[1, "missing"], [
        2,
        "missing",
      ]])
    }))

  test("says that a consumer is missing when it is deleted under a waiting pull", (wire) =>
    Effect.gen(function* () {
      const { ends, pull, until } = yield* pulling(wire)
      pull(1, "wait", 5)
      pull(1, "now", 6)
      yield* until(() => ends.length === 1)
      const stream = Subjects.jobsStream(wire.subjects.namespace, 0)
      yield* Effect.promise(() =>
        wire.nats.connection.request(`$JS.API.CONSUMER.DELETE.${stream}.ready_q_3`)
      )
      yield* until(() => ends.length === 2)
      assert.deepEqual([ends[1]?.tag, ends[1]?.end], [5, "missing"])
    }))

  test("whose waiting pulls are called off gets nothing more by them", (wire) =>
    Effect.gen(function* () {
      const { delivered, ends, pull, puller, until } = yield* pulling(wire)
      pull(5, "wait")
      pull(1, "now")
      yield* until(() => ends.length === 1)
      yield* Effect.promise(() => puller.stopWaiting())
      yield* enqueue(wire, 3)
      // A consumer learns of a message shortly after the publisher.
      yield* eventually(pending(wire), (count) => count === 3)
      pull(5, "now")
      yield* until(() => ends.length === 2)
      assert.equal(delivered.length, 3, "each came by the second pull")
      assert.ok(delivered.every(({ deliveries }) => deliveries === 1), "and none was lost before")
    }))
})

describe("an acknowledgement subject", () => {
  const expected = {
    stream: "PF_ns_JOBS_0",
    consumer: "ready_q_3",
    deliveries: 2,
    sequence: 17,
    pending: 5,
  }

  it("is read in the form without a domain", () => {
    const reply = "$JS.ACK.PF_ns_JOBS_0.ready_q_3.2.17.9.1700000000000000000.5"
    assert.deepEqual(parseReply(reply), expected)
  })

  it("is read in the form with a domain, an account and a random token", () => {
    const reply = "$JS.ACK.hub.ABC.PF_ns_JOBS_0.ready_q_3.2.17.9.1700000000000000000.5.random"
    assert.deepEqual(parseReply(reply), expected)
  })

  it("is told from any other subject", () => {
    for (const reply of ["", "_INBOX.a.b", "$JS.API.INFO", "$JS.ACK", "$JS.ACK.a.b.1", "JS.ACK"]) {
      assert.equal(parseReply(reply), undefined, reply)
    }
  })
})
