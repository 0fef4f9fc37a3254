import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import type { BatchMessage, Condition } from "../../src/nats/AtomicBatch.ts"
import * as BatchGatherer from "../../src/nats/BatchGatherer.ts"
import { Code } from "../../src/nats/errors.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { contents } from "./stream.ts"

const nextId = JobId.makeGenerator()

/** What lies there for a job, and a batch that moves it on under a condition. */
interface Author {
  readonly before: string
  readonly sequence: number
  readonly next: (condition: Condition) => ReadonlyArray<BatchMessage>
  readonly filter: string
}

const author = (wire: Wire.Wire) =>
  Effect.gen(function* () {
    const { subjects } = wire
    const job = Subjects.addressOf(nextId(0))
    const before = subjects.live("ready", "q", 3, job)
    const answer = yield* Effect.promise(() => wire.nats.connection.request(before, "before"))
    const { seq: sequence } = answer.json<{ readonly seq: number }>()
    const next: Author["next"] = (condition) =>
      [
        ...[1, 2].map(() => {
          const run = Subjects.addressOf(nextId(0))
          return { subject: subjects.live("ready", "q", 3, run), payload: new Uint8Array(9) }
        }),
        { subject: subjects.live("await", "q", 3, job), payload: new Uint8Array(9), condition },
      ].map((message) => ({ ...message, messageId: nextId(0) }))
    return { before, sequence, filter: subjects.job(job), next }
  })

describe("batches of many authors", () => {
  const server = testServer()
  const test = (name: string, body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown>) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(Layer.provide(server.layer())),
      ))

  /** The numbers of messages in the batches that a connection sees. */
  const watchSizes = ({ nats, subjects }: Wire.Wire) => {
    const sizes: Array<number> = []
    nats.connection.subscribe(`pf.${subjects.namespace}.>`, {
      callback: (_, { headers }) => {
        if (headers?.get("Nats-Batch-Commit") === "1") {
          sizes.push(Number(headers.get("Nats-Batch-Sequence")))
        }
      },
    })
    return Effect.as(Effect.promise(() => nats.connection.flush()), sizes)
  }

  test("that come at once share one, each under a condition of its own", (wire) =>
    Effect.gen(function* () {
      const authors = yield* Effect.forEach(Array.from({ length: 100 }), () => author(wire))
      const sizes = yield* watchSizes(wire)
      const store = BatchGatherer.make(wire.nats.connection, 5_000)
      const batches = authors.map(({ filter, next, sequence }) =>
        next({ expected: sequence, filter })
      )
      yield* Effect.forEach(batches, store, { concurrency: "unbounded", discard: true })
      // One refused batch of all, and each alone after it, would be stored as well.
      assert.deepEqual(sizes, [300])
      const expected = [
        ...authors.map(({ before }) => before),
        ...batches.flat().map((one) => one.subject),
      ]
      assert.deepEqual((yield* contents(wire.nats)).subjects, expected.sort())
    }))

  test("are stored but for the one whose condition isn't met", (wire) =>
    Effect.gen(function* () {
      const authors = yield* Effect.forEach(Array.from({ length: 20 }), () => author(wire))
      const store = BatchGatherer.make(wire.nats.connection, 5_000)
      const late = 13
      const batches = authors.map(({ filter, next, sequence }, index) =>
        next({ expected: index === late ? sequence + 1_000 : sequence, filter })
      )
      const results = yield* Effect.forEach(batches, (batch) => Effect.result(store(batch)), {
        concurrency: "unbounded",
      })
      for (const [index, result] of results.entries()) {
        assert.equal(result._tag, index === late ? "Failure" : "Success", `batch ${index}`)
        if (result._tag === "Failure") {
          assert.ok(result.failure._tag === "Rejected")
          assert.equal(result.failure.code, Code.wrongLastSequence)
        }
      }
      const stored = batches.filter((_, index) => index !== late).flat()
      const expected = [...authors.map(({ before }) => before), ...stored.map((one) => one.subject)]
      assert.deepEqual((yield* contents(wire.nats)).subjects, expected.sort())
    }))

  test("of which two rest on the same condition are stored but for one of the two", (wire) =>
    Effect.gen(function* () {
      const { filter, next, sequence } = yield* author(wire)
      const store = BatchGatherer.make(wire.nats.connection, 5_000)
      const rivals = [1, 2, 3].map(() => next({ expected: sequence, filter }))
      const results = yield* Effect.forEach(rivals, (batch) => Effect.result(store(batch)), {
        concurrency: "unbounded",
      })
      assert.deepEqual(results.map(({ _tag }) => _tag), ["Success", "Failure", "Failure"])
    }))
})
