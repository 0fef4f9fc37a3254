import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, Recurring } from "../../mod.ts"
import type * as Entry from "../../src/core/Entry.ts"
import * as EntryTick from "../../src/core/EntryTick.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { eventually, testServer } from "../harness.ts"
import { entryOf, runsOf, tick, tickSince, timesOf, wake } from "./entries.ts"
import { worldTest } from "./world.ts"

const Report = Job.make("report")

const hour = 3_600_000
/** Half an hour ago there was one. */
const offset = (Date.now() - hour / 2) % hour
const hourly = { job: Report, schedule: { every: hour, offset } } as const

const now = Effect.map(Wire.Wire, ({ clock }) => clock.now())

/** The last nominal times, oldest first. */
const lastHours = (count: number) =>
  Effect.map(now, (instant) => {
    const last = Math.floor((instant - offset) / hour) * hour + offset
    return Array.from({ length: count }, (_, index) => last - (count - 1 - index) * hour)
  })

describe("a recurring entry, when all servers were down for ten hours,", () => {
  const server = testServer()
  const test = worldTest(server)

  const table: ReadonlyArray<
    readonly [
      name: string,
      misfire: Recurring.MisfireOption,
      times: (hours: ReadonlyArray<number>) => ReadonlyArray<number>,
      skipped: boolean,
    ]
  > = [
    ["runs once, for the last of the times", "once", (hours) => hours.slice(-1), true],
    ["runs for each of them", "all", (hours) => hours, false],
    ["runs for the last ones", { policy: "all", cap: 3 }, (hours) => hours.slice(-3), true],
    ["doesn't run for what is too late", "skip", () => [], true],
    [
      "runs for what isn't too late",
      { policy: "skip", tolerance: "2 hours" },
      (hours) => hours.slice(-2),
      true,
    ],
  ]
  for (const [name, misfire, expected, isSkipped] of table) {
    test(`${name}: ${JSON.stringify(misfire)}`, () =>
      Effect.gen(function* () {
        yield* Recurring.upsert("report", { ...hourly, misfire })
        const hours = yield* lastHours(10)
        const told = yield* tickSince("report", (hours[0] ?? 0) - 1)
        const times = expected(hours)
        const runs = yield* runsOf("report")
        assert.deepEqual(runs.map(({ at }) => at), times)
        assert(runs.every(({ state }) => state === "ready"))
        assert.deepEqual(told.map(({ id, to }) => [id, to]), runs.map(({ id }) => [id, "enqueued"]))
        const { last, next, runs: count, skipped, state } = yield* Recurring.get("report")
        assert.deepEqual([state, count], ["active", times.length])
        assert.equal(last?.at.getTime(), times.at(-1))
        assert((next?.getTime() ?? 0) > (yield* now))
        const missed = hours.findLast((at) => !times.includes(at))
        assert.deepEqual(
          skipped,
          isSkipped ? { count: 1, at: new Date(missed ?? 0), reason: "misfire" } : undefined,
        )
        // It is seen to: whoever looks once more finds nothing.
        yield* wake("report")
        assert.deepEqual(yield* tick("report"), [])
        assert.deepEqual(yield* timesOf("report"), times)
      }))
  }

  test("keeps to its first instant, to its last one and to its limit", () =>
    Effect.gen(function* () {
      const hours = yield* lastHours(10)
      const since = (hours[0] ?? 0) - 1
      const misfire: Entry.Misfire = { policy: "all", cap: 100 }
      const cases: ReadonlyArray<readonly [Partial<Entry.Plan>, from: number, to: number, string]> =
        [
          [{ from: hours[4] }, 4, 10, "active"],
          [{ until: hours[4] }, 0, 5, "finished"],
          [{ limit: 4 }, 0, 4, "finished"],
          [{ limit: 10 }, 0, 10, "finished"],
          [{ limit: 11 }, 0, 10, "active"],
          [{ from: hours[2], until: hours[7], limit: 3 }, 2, 5, "finished"],
          [
            { from: hours[2], until: hours[7], misfire: { policy: "all", cap: 2 } },
            6,
            8,
            "finished",
          ],
        ]
      for (const [index, [plan, from, to, state]] of cases.entries()) {
        const id = `report ${index}`
        yield* Recurring.upsert(id, hourly)
        yield* tickSince(id, since, { misfire, ...plan })
        assert.deepEqual(yield* timesOf(id), hours.slice(from, to), id)
        assert.equal((yield* Recurring.get(id)).state, state, id)
      }
    }))

  test("starts what is late at once, and what isn't within its jitter", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", hourly)
      const hours = yield* lastHours(10)
      const jitter = 3 * hour
      const misfire: Entry.Misfire = { policy: "all", cap: 100 }
      const told = yield* tickSince("report", (hours[0] ?? 0) - 1, { jitter, misfire })
      const { plan } = yield* entryOf("report")
      const instant = yield* now
      for (const { at, id, state } of yield* runsOf("report")) {
        const start = EntryTick.startOfRun(plan, at)
        const transition = told.find((one) => one.id === id)
        if (start <= instant) assert.deepEqual([state, transition?.to], ["ready", "enqueued"])
        else assert.deepEqual([state, transition?.due?.getTime()], ["later", start])
        if (at < instant - jitter) assert.equal(state, "ready")
        assert(start >= at && start < at + jitter)
      }
    }))

  test("runs at most a thousand times, in several writes", () =>
    Effect.gen(function* () {
      const { every } = { every: 1_000 }
      const misfire = { policy: "all", cap: 1_000 } as const
      yield* Recurring.upsert("report", { job: Report, schedule: { every }, misfire, limit: 1_005 })
      const end = Math.floor((yield* now) / every) * every
      yield* wake("report", { cursor: end - 10 * hour }, { until: end })
      const told = [
        ...yield* tick("report"),
        ...yield* Effect.andThen(wake("report"), tick("report")),
      ]
      assert.equal(new Set(told.map(({ id }) => id)).size, 1_000)
      assert.equal(told.length, 1_000)
      const { runs, skipped, state } = yield* Recurring.get("report")
      assert.deepEqual([runs, state], [1_000, "finished"])
      assert.deepEqual(skipped, {
        count: 1,
        at: new Date(end - 1_000_000),
        reason: "misfire",
      })
      const ids = new Set(told.map(({ id }) => id))
      const first = Math.min(...(yield* entryOf("report")).state.history.map(({ at }) => at))
      assert.deepEqual([first, ids.size], [end - 19_000, 1_000])
    }))

  test("runs for nothing from before it was made", () =>
    Effect.gen(function* () {
      const instant = yield* now
      const past = Array.from({ length: 5 }, (_, index) => instant - (5 - index) * 1_000)
      const misfire = "all"
      yield* Recurring.upsert("list", {
        job: Report,
        schedule: { at: [...past, instant + hour] },
        misfire,
      })
      yield* Recurring.upsert("hourly", { ...hourly, from: instant - 10 * hour, misfire })
      for (const id of ["list", "hourly"]) {
        yield* wake(id)
        assert.deepEqual(yield* tick(id), [])
      }
    }))

  test("runs at its time although the clock of whoever sees to it is behind", () =>
    Effect.gen(function* () {
      const at = (yield* now) + 300
      yield* Recurring.upsert("report", { job: Report, schedule: { at: [at] } })
      yield* eventually(entryOf("report"), ({ current }) => current.subject.state === "ready")
      const behind = (wire: Wire.Wire): Wire.Wire => ({
        ...wire,
        clock: { ...wire.clock, now: () => wire.clock.now() - 10_000 },
      })
      assert.equal((yield* tick("report", behind)).length, 1)
      assert.deepEqual(yield* timesOf("report"), [at])
      assert.equal((yield* Recurring.get("report")).state, "finished")
    }))

  test("has runs that nobody makes twice after its clock was set back", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      const hours = yield* lastHours(10)
      // As if the server's clock had been two hours ahead until now.
      const ahead = (hours.at(-1) ?? 0) + 2 * hour
      yield* wake("report", { cursor: ahead })
      assert.deepEqual(yield* tick("report"), [])
      const { next } = yield* Recurring.get("report")
      assert.equal(next?.getTime(), ahead + hour)
      yield* Recurring.pause("report")
      assert.equal((yield* Recurring.resume("report")).next?.getTime(), ahead + hour)
    }))
})
