import fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Envelope from "../../src/core/Envelope.ts"
import type { WireState } from "../../src/core/JobState.ts"
import type { StoredMessage } from "../../src/nats/Reader.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"

const subjects = Subjects.make("ns")
const finals: ReadonlyArray<WireState> = ["succeeded", "failed", "cancelled"]

const bytesOf = (after: number) =>
  Envelope.live(
    Envelope.make({
      ...{ name: "n", queue: "q", lane: 3, options: {}, created: 0 },
      payload: new Uint8Array(1),
      progress: Envelope.untouched,
    }),
    { ...Envelope.untouched, after },
  )

const stored = (subject: string, sequence: number, data: Uint8Array): StoredMessage => ({
  ...{ subject, sequence, data },
  time: 0,
})

const messageOf = ([state, sequence, after = 0]: readonly [WireState, number, number?]) =>
  stored(`pf.ns.0.${state}.q.3._.id`, sequence, bytesOf(after))

const currentOf = (messages: ReadonlyArray<readonly [WireState, number, number?]>) =>
  Records.current(Records.parse(subjects, messages.map(messageOf)))?.stored.sequence

/** What the messages of a job are, each with its sequence and what it comes after; which counts. */
const table: ReadonlyArray<
  readonly [string, ReadonlyArray<readonly [WireState, number, number?]>, number | undefined]
> = [
  ["nothing of nothing", [], undefined],
  ["the only one", [["ready", 5]], 5],
  ["the newest of live ones", [["later", 5], ["ready", 6]], 6],
  ["the newest of live ones in any order", [["ready", 6], ["retry", 7], ["later", 5]], 7],
  ["a record over older ones", [["ready", 5], ["succeeded", 6]], 6],
  ["a record over newer ones that know nothing of it", [["succeeded", 6], ["ready", 9]], 6],
  ["a record over a newer retry", [["failed", 6], ["retry", 7], ["later", 8]], 6],
  ["what a requeue made over the record", [["failed", 6], ["ready", 7, 6]], 7],
  ["the newest after a requeue", [["failed", 6], ["ready", 7, 6], ["retry", 8, 6]], 8],
  ["what a requeue made over a stale newer one", [["failed", 6], ["ready", 7, 6], ["ready", 8]], 7],
  ["the record of the second life", [["failed", 6], ["ready", 7, 6], ["succeeded", 9, 6]], 9],
  ["the second record over a stale requeued one", [["succeeded", 9, 6], ["ready", 10, 6]], 9],
  ["the third life", [["failed", 6], ["cancelled", 9, 6], ["retry", 10, 9]], 10],
  ["a record over what comes after an earlier one", [["failed", 9], ["ready", 10, 8]], 9],
  ["the newest of two records", [["succeeded", 6], ["cancelled", 7]], 7],
]

describe("of a job's messages", () => {
  for (const [what, messages, sequence] of table) {
    it(`counts ${what}`, () => assert.equal(currentOf(messages), sequence))
  }

  it("the same counts whatever order they are read in", () => {
    const state = fc.constantFrom<WireState>("ready", "later", "retry", ...finals)
    const messages = fc.uniqueArray(fc.tuple(state, fc.integer({ min: 1, max: 20 }), fc.nat(20)), {
      selector: ([, sequence]) => sequence,
      maxLength: 8,
    })
    fc.assert(
      fc.property(messages, fc.infiniteStream(fc.nat()), (messages, random) => {
        const shuffled = messages.map((message) => ({
          message,
          key: random.next().value as number,
        }))
          .sort((a, b) => a.key - b.key).map(({ message }) => message)
        assert.equal(currentOf(shuffled), currentOf(messages))
      }),
    )
  })

  it("the one that counts is never beaten by the rule", () => {
    const state = fc.constantFrom<WireState>("ready", "later", "retry", ...finals)
    const one = fc.tuple(state, fc.integer({ min: 1, max: 20 }), fc.nat(20))
      // A message can only come after what was there before it.
      .map(([state, sequence, after]) => [state, sequence, after % sequence] as const)
    const messages = fc.uniqueArray(one, { selector: ([, sequence]) => sequence, minLength: 1 })
    fc.assert(fc.property(messages, (messages) => {
      const sequence = currentOf(messages)
      const [winner] = messages.filter((message) => message[1] === sequence)
      assert.ok(winner)
      for (const [state, sequence] of messages) {
        if (!finals.includes(state) || sequence === winner[1]) continue
        assert.ok(
          winner[2] >= sequence || (finals.includes(winner[0]) && winner[1] > sequence),
          `${winner} although ${state} ${sequence}`,
        )
      }
    }))
  })

  it("what can't be read is left out", () => {
    const good = messageOf(["ready", 5])
    const found = Records.parse(subjects, [
      good,
      stored("pf.ns.0.claim.abc", 6, bytesOf(0)),
      stored("pf.other.0.failed.q._._.id", 7, bytesOf(0)),
      stored("pf.ns.0.failed.q._._.id", 8, Uint8Array.of(1, 2, 3)),
    ])
    assert.deepEqual(found.map(({ stored }) => stored.sequence), [5])
  })

  it("records are told from the others by their state", () => {
    for (const state of ["ready", "later", "retry", "await", "part", ...finals] as const) {
      const [message] = Records.parse(subjects, [messageOf([state, 1])])
      assert.equal(
        message === undefined || Records.isRecord(message.subject),
        finals.includes(state),
      )
    }
  })
})
