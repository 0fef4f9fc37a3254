import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Sweep from "../../src/nats/Sweep.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { store } from "./jobs.ts"

/** Requests of a kind from now on. */
const countCalls = ({ nats: { connection } }: Wire.Wire, verb: string) => {
  let calls = 0
  connection.subscribe(`$JS.API.${verb}.>`, { callback: () => void calls++ })
  return () => calls
}

describe("A sweep", () => {
  const server = testServer()
  const test = (name: string, body: (wire: Wire.Wire) => Effect.Effect<unknown, unknown>) =>
    effect(name, () =>
      Effect.provide(
        Effect.flatMap(Wire.Wire, body),
        Wire.layer.pipe(Layer.provide(server.layer())),
      ))

  /** Sweeps through all that is ready in pages, while more is stored; gives what is left. */
  const sweepThrough = Effect.fnUntraced(function* (
    wire: Wire.Wire,
    whole: boolean,
    stays: (sequence: number) => boolean,
  ) {
    const { reader, subjects } = wire
    const stream = Subjects.jobsStream(subjects.namespace, 0)
    const filter = subjects.jobs(0, { state: "ready" })
    const sweep = Sweep.make(wire, 0, whole)
    const read = yield* reader.page(stream, filter, { sequence: 1, count: 10_000, bytes: 1e7 })
    const late = yield* store(wire, "ready", { queue: "a" })
    for (let at = 0; at < read.messages.length; at += 300) {
      const page = read.messages.slice(at, at + 300)
      const gone = page.map(({ sequence }) => sequence).filter((sequence) => !stays(sequence))
      yield* sweep.page(page, new Set(gone))
    }
    yield* sweep.end
    const { messages } = yield* reader.page(stream, filter, {
      sequence: 1,
      count: 10_000,
      bytes: 1e7,
    })
    return {
      left: messages.map(({ sequence }) => sequence),
      expected: [
        ...read.messages.map(({ sequence }) => sequence).filter(stays),
        late.sequence,
      ],
    }
  })

  const fill = (wire: Wire.Wire) =>
    Effect.forEach(
      Array.from({ length: 2_000 }),
      (_, n) => store(wire, "ready", { queue: n % 4 === 3 ? "b" : "a", lane: n % 8 < 4 ? 3 : 2 }),
      { concurrency: 100, discard: true },
    )

  test("purges what lies below the first message that stays, and deletes the rest", (wire) =>
    Effect.gen(function* () {
      yield* fill(wire)
      const purges = countCalls(wire, "STREAM.PURGE")
      const deletions = countCalls(wire, "STREAM.MSG.DELETE")
      const { expected, left } = yield* sweepThrough(wire, true, (n) => n === 1_800 || n > 1_990)
      assert.deepEqual(left, expected)
      // Two lanes of `a` are worth it, of `b` there are too few in each.
      assert.equal(purges(), 2)
      assert.ok(deletions() > 400 && deletions() < 700, `${deletions()}`)
    }))

  test("purges nothing where it hasn't seen all", (wire) =>
    Effect.gen(function* () {
      yield* fill(wire)
      const purges = countCalls(wire, "STREAM.PURGE")
      const { expected, left } = yield* sweepThrough(wire, false, (n) => n % 500 === 0)
      assert.deepEqual(left, expected)
      assert.equal(purges(), 0)
    }))
})
