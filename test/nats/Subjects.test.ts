import fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobId from "../../src/core/JobId.ts"
import type { FinalState, WireState } from "../../src/core/JobState.ts"
import * as Subjects from "../../src/nats/Subjects.ts"

const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/)
const wireState = fc.constantFrom<WireState>(
  ...["ready", "later", "retry", "await", "part", "succeeded", "failed", "cancelled"] as const,
)
const address = fc.record({
  partition: fc.integer({ min: 0, max: 31 }),
  group: fc.oneof(fc.constant("_"), name),
  id: name,
})

/** Whether a subject matches a filter by NATS' rules. */
const matches = (filter: string, subject: string): boolean => {
  const [wanted, tokens] = [filter.split("."), subject.split(".")]
  return wanted.every((token, i) => token === ">" || token === "*" || token === tokens[i]) &&
    (wanted.at(-1) === ">" ? tokens.length >= wanted.length : tokens.length === wanted.length)
}

const envelopeIn = (queue: string, retention?: string) =>
  Envelope.make({
    ...{ name: "n", queue, lane: 3, options: { retention }, created: 0 },
    payload: new Uint8Array(1),
    progress: Envelope.untouched,
  })

describe("a job's subject", () => {
  it("comes back from parsing, for every state, and matches the job's filter", () => {
    fc.assert(
      fc.property(
        ...[name, wireState, name, fc.integer({ min: 0, max: 4 }), address] as const,
        (namespace, state, queue, lane, job) => {
          const subjects = Subjects.make(namespace)
          const subject = subjects.live(state, queue, lane, job)
          const parts = { ...job, state, queue, lane: String(lane) }
          assert.deepEqual({ ...subjects.parse(subject) }, parts)
          assert.ok(matches(subjects.job(job), subject))
          assert.equal(matches(subjects.ready(job.partition), subject), state === "ready")
        },
      ),
    )
  })

  it("of a final record carries the queue of its creation and the retention class", () => {
    const subjects = Subjects.make("ns")
    const job = { partition: 2, group: "_", id: "x" }
    const common = subjects.final("failed", envelopeIn("mail"), job)
    assert.equal(common, "pf.ns.2.failed.mail._._.x")
    const own = subjects.final("succeeded", envelopeIn("mail", "_0a1b2c3d"), job)
    assert.equal(own, "pf.ns.2.succeeded.mail._0a1b2c3d._.x")
    for (const state of ["succeeded", "failed", "cancelled"] as ReadonlyArray<FinalState>) {
      const subject = subjects.final(state, envelopeIn("mail", "_0a1b2c3d"), job)
      assert.ok(matches(subjects.finals(2, state, "_0a1b2c3d"), subject))
      assert.ok(!matches(subjects.finals(2, state, "_"), subject))
      assert.ok(matches(subjects.job(job), subject))
    }
  })

  it("stays below the server's 255 characters with the longest names", () => {
    const longest = "x".repeat(64)
    const job = { partition: 31, group: longest.slice(0, 26), id: longest }
    const subject = Subjects.make(longest.slice(0, 64)).live("succeeded", longest, 4, job)
    assert.ok(subject.length <= 255, String(subject.length))
  })

  it("of another namespace, or of no job, is not parsed", () => {
    const subjects = Subjects.make("ns")
    const others = [
      "",
      "pf.ns",
      "pf.ns.0.ready.q.3._",
      "pf.ns.0.ready.q.3._.id.more",
      "pf.ns.x.ready.q.3._.id",
      "pf.ns.-1.ready.q.3._.id",
      "pf.ns.0.running.q.3._.id",
      "pf.ns.0.toString.q.3._.id",
      "pf.ns2.0.ready.q.3._.id",
      "pf.n.0.ready.q.3._.id",
      "pf.ns.state.server.a",
      "pf.ns.ctl.find",
    ]
    for (const subject of others) assert.equal(subjects.parse(subject), undefined, subject)
    assert.equal(subjects.parse("pf.ns.0.ready.q.3._.id")?.id, "id")
  })
})

describe("the address of a job", () => {
  it("is told by an engine-made id alone", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 31 }), (partition) => {
      const id = JobId.makeGenerator()(partition)
      assert.deepEqual(Subjects.addressOf(id), { partition, group: "_", id })
    }))
  })

  it("of any other id is the first partition", () => {
    for (const id of ["order-17", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAI"]) {
      assert.deepEqual(Subjects.addressOf(id), { partition: 0, group: "_", id })
    }
  })
})

describe("the header lines of a delayed message", () => {
  it("say when and where to, and end with a line break", () => {
    assert.equal(
      Subjects.scheduleLines(1_700_000_000_000, "pf.ns.0.ready.q.3._.id"),
      "Nats-Schedule: @at 2023-11-14T22:13:20.000Z\r\n" +
        "Nats-Schedule-Target: pf.ns.0.ready.q.3._.id\r\n",
    )
  })
})
