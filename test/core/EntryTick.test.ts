import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Entry from "../../src/core/Entry.ts"
import * as EntryTick from "../../src/core/EntryTick.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import type { Recurrence } from "../../src/core/Recurrence.ts"

const job = Envelope.make({
  name: "tick",
  queue: "default",
  lane: 3,
  options: {},
  created: 0,
  payload: Uint8Array.of(192),
  progress: Envelope.untouched,
})

const start = 1_800_000_000_000
const minute = 60_000
const hour = 60 * minute
/** The n-th full minute after the start. */
const at = (n: number) => start + n * minute

const planOf = (more: Partial<Entry.Plan> = {}): Entry.Plan => ({
  id: "e",
  recurrence: { _tag: "Every", millis: minute, anchor: 0 },
  misfire: { policy: "once", tolerance: 5_000 },
  overlap: "allow",
  jitter: 0,
  job,
  ...more,
})

const stateOf = (more: Partial<Entry.State> = {}): Entry.State => ({
  ...Entry.fresh(start, start),
  ...more,
})

const due = (plan: Partial<Entry.Plan>, now: number, state: Partial<Entry.State> = {}) =>
  EntryTick.due(planOf(plan), stateOf(state), now)

const once = (tolerance: number): Entry.Misfire => ({ policy: "once", tolerance })
const all = (cap: number): Entry.Misfire => ({ policy: "all", cap })
const skip = (tolerance: number): Entry.Misfire => ({ policy: "skip", tolerance })

describe("what is due of an entry", () => {
  it("is nothing at or before its cursor, which stays", () => {
    for (const now of [start - hour, start, at(1) - 1]) {
      const { cursor, missed, times } = due({}, now)
      assert.deepEqual([times, missed, cursor], [[], undefined, start])
    }
  })

  it("is a nominal time from the very millisecond on", () => {
    for (const misfire of [once(5_000), once(0), all(1), skip(0), skip(60_000)]) {
      const { cursor, missed, times } = due({ misfire }, at(1))
      assert.deepEqual([times, missed, cursor], [[at(1)], undefined, at(1)])
    }
  })

  const now = at(10) + 1_000
  const table: ReadonlyArray<
    readonly [string, Partial<Entry.Plan>, times: ReadonlyArray<number>, missed?: number]
  > = [
    ["once: the last of those that were missed", { misfire: once(5_000) }, [10], 9],
    ["once: each, within the tolerance", { misfire: once(hour) }, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
    ["all: each", { misfire: all(100) }, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
    ["all: the last ones, up to the cap", { misfire: all(3) }, [8, 9, 10], 7],
    ["skip: those within the tolerance", { misfire: skip(2 * minute) }, [9, 10], 8],
    ["skip: to the millisecond", { misfire: skip(61_000) }, [9, 10], 8],
    ["skip: what is due right now, whatever the tolerance", { misfire: skip(0) }, [10], 9],
    ["skip: none", { misfire: skip(0), until: at(9) }, [], 9],
    ["from on", { misfire: all(100), from: at(8) }, [8, 9, 10]],
    ["until, inclusive", { misfire: all(100), until: at(3) }, [1, 2, 3]],
    ["until just before", { misfire: all(100), until: at(3) - 1 }, [1, 2]],
    ["once, the last until", { misfire: once(0), until: at(3) }, [3], 2],
    ["the last until, when capped", { misfire: all(2), until: at(4) }, [3, 4], 2],
    ["skip: none until", { misfire: skip(minute), until: at(4) }, [], 4],
  ]
  for (const [name, plan, expected, missed] of table) {
    it(`after ten minutes: ${name}`, () => {
      const found = due(plan, now)
      assert.deepEqual(found.times, expected.map(at))
      assert.equal(found.missed, missed === undefined ? undefined : at(missed))
      assert.equal(found.cursor, now)
      const after = stateOf({ cursor: found.cursor })
      const next = EntryTick.nextTime(planOf(plan), after)
      assert.equal(next, plan.until === undefined ? at(11) : undefined)
    })
  }

  it("is never more than a thousand runs, however long the outage and whatever the cap", () => {
    const recurrence: Recurrence = { _tag: "Every", millis: 1_000, anchor: 0 }
    const year = start + 365 * 24 * hour
    for (const misfire of [all(Number.MAX_SAFE_INTEGER), once(1e12), skip(1e12)]) {
      const { missed, times } = due({ misfire, recurrence }, year)
      assert.equal(times.length, EntryTick.maxCaughtUp)
      assert.deepEqual([times.at(-1), missed], [year, year - 1_000_000])
    }
  })

  it("says how many runs there may still be", () => {
    assert.equal(due({}, at(3)).left, Number.POSITIVE_INFINITY)
    assert.equal(due({ limit: 5 }, at(3), { runs: 3 }).left, 2)
    for (const runs of [5, 9]) {
      const { left, times } = due({ limit: 5 }, at(3), { runs })
      assert.deepEqual([left, times], [0, []])
    }
  })

  it("is nothing while it is paused, removed or disabled", () => {
    const trouble = { message: "", at: start, tries: Entry.maxTries }
    for (const state of [{ paused: start }, { removed: start }, { trouble }]) {
      const { cursor, times } = due({}, at(10), state)
      assert.deepEqual([times, cursor], [[], start])
      assert.equal(EntryTick.nextTime(planOf(), stateOf(state)), undefined)
    }
    const tried = { trouble: { ...trouble, tries: Entry.maxTries - 1 } }
    assert.deepEqual(due({}, at(1), tried).times, [at(1)])
  })

  it("doesn't come again when the clock is set back, and isn't lost when it is set forward", () => {
    const first = due({ misfire: all(100) }, at(60))
    assert.equal(first.times.length, 60)
    const state = { cursor: first.cursor }
    for (const now of [at(0), at(30), at(60)]) assert.deepEqual(due({}, now, state).times, [])
    assert.deepEqual(due({}, at(61), state).times, [at(61)])
    assert.equal(EntryTick.nextTime(planOf(), stateOf(state)), at(61))
  })

  it("ends with a list of instants", () => {
    const recurrence: Recurrence = { _tag: "At", instants: [at(-5), at(2), at(4)] }
    const list = planOf({ recurrence, misfire: all(100) })
    const { cursor, times } = EntryTick.due(list, stateOf(), at(9))
    assert.deepEqual(times, [at(2), at(4)])
    assert.equal(EntryTick.nextTime(list, stateOf({ cursor })), undefined)
  })

  it("throws for a schedule that this runtime can't follow, unless nothing is asked of it", () => {
    const broken: ReadonlyArray<Recurrence> = [
      { _tag: "Cron", pattern: "* * * * *", zone: "Mars/Olympus" },
      { _tag: "Cron", pattern: "soon", zone: "UTC" },
      { _tag: "Every", millis: 0, anchor: 0 },
      { _tag: "Every", millis: 1.5, anchor: 0 },
      { _tag: "At", instants: [2, 1] },
      { _tag: "At", instants: [] },
    ]
    for (const recurrence of broken) {
      assert.throws(() => due({ recurrence }, at(1)), InvalidOptions)
      assert.deepEqual(due({ recurrence }, at(1), { paused: start }).times, [])
    }
  })
})

describe("the jitter of a run", () => {
  const jitter = 10_000
  const offsets = (id: string) =>
    Array.from(
      { length: 500 },
      (_, n) => EntryTick.startOfRun(planOf({ id, jitter }), at(n)) - at(n),
    )

  it("is the same whoever asks, and another for each run and entry", () => {
    assert.deepEqual(offsets("a"), offsets("a"))
    assert.notDeepEqual(offsets("a"), offsets("b"))
    assert(new Set(offsets("a")).size > 400)
  })

  it("lies below its bound, and spreads", () => {
    const all = offsets("a")
    assert(all.every((offset) => Number.isInteger(offset) && offset >= 0 && offset < jitter))
    for (let tenth = 0; tenth < 10; tenth++) {
      const inIt = all.filter((offset) => Math.floor(offset / 1_000) === tenth).length
      assert(inIt > 20 && inIt < 90, `${inIt} of 500 in tenth ${tenth}`)
    }
    assert.equal(EntryTick.startOfRun(planOf(), at(1)), at(1))
  })
})

describe("the next look at an entry", () => {
  const pause = EntryTick.pauseMillis(30_000)
  const look = (state: Partial<Entry.State>, plan: Partial<Entry.Plan> = {}) =>
    EntryTick.nextLook(planOf(plan), stateOf(state), start, pause)
  const run: Entry.Run = { id: "0", at: start, byHand: true, ended: false }
  const trouble = { message: "", at: start, tries: 1 }

  it("is its next nominal time, or never", () => {
    assert.equal(pause, 15_000)
    assert.equal(look({}), at(1))
    assert.equal(look({ cursor: at(-7) }), at(-6))
    assert.equal(look({ paused: start }), undefined)
    assert.equal(look({ runs: 3 }, { limit: 3 }), undefined)
  })

  it("is at once for what was asked for, and after a pause in trouble and once removed", () => {
    assert.equal(look({ asked: [run] }), start)
    assert.equal(look({ asked: [run], paused: start }), start)
    assert.equal(look({ trouble }), start + pause)
    // What was asked for may be the trouble.
    assert.equal(look({ trouble, asked: [run] }), start + pause)
    assert.equal(look({ removed: start }), start + pause)
    const disabled = { ...trouble, tries: Entry.maxTries }
    assert.equal(look({ trouble: disabled }), undefined)
    assert.equal(look({ trouble: disabled, asked: [run] }), undefined)
  })
})
