import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Entry from "../../src/core/Entry.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobId from "../../src/core/JobId.ts"
import { maxDelayMillis, maxInstantMillis } from "../../src/core/Limits.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"

const job = Envelope.make({
  name: "report",
  queue: "mail",
  lane: 2,
  options: { timeout: 5_000, context: { tenant: "a" } },
  created: 0,
  payload: MessagePack.encode({ team: "x" }),
  progress: Envelope.untouched,
})

const plan: Entry.Plan = {
  id: "päivä 1.*.>",
  recurrence: { _tag: "Cron", pattern: "0 9 * * 1", zone: "Europe/Berlin" },
  misfire: { policy: "all", cap: 7 },
  overlap: "queueOne",
  jitter: 1_500,
  from: 1,
  until: 9e11,
  limit: 3,
  set: "app",
  description: "what it does",
  job,
}

const run = (index: number, ended = false): Entry.Run => ({
  id: EntryId.runId("e", index),
  at: index,
  byHand: index % 2 === 0,
  ended,
})

const state: Entry.State = {
  revision: 4,
  cursor: 1_700_000_000_000,
  changed: 1_600_000_000_000,
  paused: 5,
  removed: 6,
  runs: 9,
  asked: [run(2)],
  history: [run(3, true), run(4)],
  skipped: { count: 2, at: 77, reason: "overlap" },
  trouble: { message: "no such zone", at: 88, tries: 3 },
}

describe("the bytes of an entry", () => {
  it("say all of its plan and of its state", () => {
    const read = Entry.planFrom(Entry.planToWire(plan))
    assert(Entry.isReadable(read))
    assert.deepEqual(Entry.planToWire(read), Entry.planToWire(plan))
    const { job: _, ...rest } = read
    const { job: __, ...expected } = plan
    assert.deepEqual(rest, expected)
    assert.deepEqual([read.job.name, read.job.queue, read.job.lane], ["report", "mail", 2])
    assert.deepEqual(read.job.options.context, { tenant: "a" })
    assert.deepEqual(Entry.stateFrom(Entry.stateToWire(state)), state)
    const few = { ...Entry.fresh(1, 2), paused: undefined, removed: undefined }
    assert.deepEqual(Entry.stateFrom(Entry.stateToWire(few)), {
      ...few,
      skipped: undefined,
      trouble: undefined,
    })
  })

  it("of a later version are told from broken ones", () => {
    const later = (bytes: Uint8Array) => {
      const parts = MessagePack.decode(bytes) as Array<unknown>
      return MessagePack.encode([2, ...parts.slice(1), "more"])
    }
    assert.equal(Entry.planFrom(later(Entry.planToWire(plan))), "newer")
    assert.equal(Entry.stateFrom(later(Entry.stateToWire(state))), "newer")
    for (const bytes of [[], [1], [0], [193], [1, 2, 3], MessagePack.encode([1, "x"])]) {
      assert.equal(Entry.planFrom(Uint8Array.from(bytes)), "broken")
      assert.equal(Entry.stateFrom(Uint8Array.from(bytes)), "broken")
    }
  })

  it("that would hold a server up or crash it are broken", () => {
    const planWith = (index: number, value: unknown) => {
      const parts = MessagePack.decode(Entry.planToWire(plan)) as Array<unknown>
      parts[index] = value
      return Entry.planFrom(MessagePack.encode(parts))
    }
    for (
      const [index, value] of [
        [1, 5],
        [2, ["cron", 5, "UTC"]],
        [2, ["every", 1e300, 0]],
        [2, ["at", ["soon"]]],
        [2, ["moon"]],
        [3, ["all", -1]],
        [3, ["never", 1]],
        [4, "deny"],
        [5, -1],
        [5, maxDelayMillis + 1],
        [6, [1e300]],
        [6, [null, null, 1.5]],
        [7, Uint8Array.of(1, 2)],
      ] as const
    ) assert.equal(planWith(index, value), "broken", `${index}: ${JSON.stringify(value)}`)
    const stateWith = (index: number, value: unknown) => {
      const parts = MessagePack.decode(Entry.stateToWire(state)) as Array<unknown>
      parts[index] = value
      return Entry.stateFrom(MessagePack.encode(parts))
    }
    for (
      const [index, value] of [[1, -1], [2, 1e300], [2, "now"], [4, "x"], [6, 0.5]] as const
    ) assert.equal(stateWith(index, value), "broken", `${index}: ${JSON.stringify(value)}`)
    // Runs elsewhere than an entry's would be written into another stream.
    const elsewhere = [JobId.makeGenerator()(3), "chosen", "a.b", 5].map((id) => [id, 1, 0])
    const odd = stateWith(7, elsewhere)
    assert(Entry.isReadable(odd))
    assert.deepEqual(odd.asked, [])
  })
})

describe("what an entry remembers of its runs", () => {
  const many = Array.from({ length: 30 }, (_, index) => run(index, index !== 4))

  it("are the last twenty", () => {
    assert.deepEqual(Entry.remember(many, [run(30)], "allow"), [...many.slice(11), run(30)])
  })

  it("are also those that live, where it matters", () => {
    const kept = Entry.remember(many, [run(30)], "skip")
    assert.deepEqual(kept, [run(4), ...many.slice(11), run(30)])
    const living = Array.from({ length: 500 }, (_, index) => run(index))
    assert.equal(Entry.remember(living, [], "queueOne").length, 120)
  })
})

describe("the ids of an entry", () => {
  it("are different for all entries, and of the engine's form", () => {
    const names = Array.from({ length: 40_000 }, (_, index) => `job ${index}`)
    const similar = ["a", "b", "aa", "ab", "ba", "a ", "ä", "a\u0308", "A", "😀", "😁"]
    const ids = [...names, ...similar, "x".repeat(199), "x".repeat(200)].map(EntryId.messageId)
    assert.equal(new Set(ids).size, ids.length)
    for (const id of ids.slice(-20)) assert(JobId.isEngineId(id) && JobId.partitionOf(id) === 0)
  })

  it("of runs differ by entry and time, and begin with their time", () => {
    const times = [0, 1, 999, 1_000, 1_800_000_000_000, maxInstantMillis - 1]
    const ids = ["a", "b", "ä b.c"].flatMap((entry) => times.map((at) => EntryId.runId(entry, at)))
    assert.equal(new Set(ids).size, ids.length)
    for (const id of ids) assert(JobId.isEngineId(id) && JobId.partitionOf(id) === 0)
    assert.deepEqual(ids.slice(0, times.length).map(JobId.timeOf), times)
  })
})
