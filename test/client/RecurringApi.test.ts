import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as TestClock from "effect/testing/TestClock"
import { Client, Errors, Job, Operation, Recurring } from "../../mod.ts"
import * as Entry from "../../src/core/Entry.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import { parentResult } from "../../src/client/Prepare.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { serve } from "../actors/harness.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { stored, worldTest } from "./world.ts"

const Report = Job.make("report", { payload: Schema.Struct({ team: Schema.String }) })
const Cleanup = Job.make("cleanup")
const Single = Job.make("single", { unique: { key: () => "one" } })

const day = 86_400_000
const hourly = { job: Cleanup, schedule: "@hourly" } as const

const idsOf = ({ entries }: Recurring.Page) => entries.map(({ id }) => id)

/** Reads all pages. */
const allPages = Effect.fnUntraced(function* (options: Recurring.ListOptions) {
  const ids: Array<string> = []
  let cursor: string | undefined
  do {
    const page: Recurring.Page = yield* Recurring.list({ ...options, cursor })
    ids.push(...idsOf(page))
    cursor = page.cursor
  } while (cursor !== undefined)
  return ids
})

const iso = (dates: ReadonlyArray<Date>) => dates.map((date) => date.toISOString())

/** Stores an hourly entry whose state and bytes are what somebody makes of them. */
const storeRaw = Effect.fnUntraced(function* (
  id: string,
  change: (payload: Uint8Array) => Uint8Array,
  state: Partial<Entry.State> = {},
) {
  const wire = yield* Wire.Wire
  yield* Recurring.upsert(id, { ...hourly, limit: 5 })
  const address = EntryMessage.addressOf(id)
  const view = yield* EntryMessage.at(wire, address)
  if (view === undefined || !Entry.isReadable(view.state)) throw new Error("not there")
  const bytes = change(EntryMessage.bytesIn(view, { ...view.state, ...state, revision: 9 }))
  const message = EntryMessage.waiting(wire, view, bytes, undefined)
  yield* EntryMessage.write(wire, address, message, view.newest, 5_000)
})

describe("an upsert", () => {
  const server = testServer()
  const test = worldTest(server)

  test("is refused with the field and what to do, and nothing is written", () =>
    Effect.gen(function* () {
      const past = new Date(Date.now() - day)
      const wrong: ReadonlyArray<readonly [id: unknown, options: object, field: string, RegExp]> = [
        ["", {}, "id", /1 to 200 characters/],
        ["a\nb", {}, "id", /on one line/],
        ["a", { timeZone: "Europe/Berlinn" }, "timeZone", /knows no such time zone/],
        ["a", { timeZone: null }, "timeZone", /knows no such time zone/],
        ["a", { schedule: "0 0 31 2 *" }, "schedule", /no date fits it/],
        ["a", { schedule: "every day" }, "schedule", /5 or 6 fields/],
        ["a", { schedule: undefined }, "schedule", /cron expression/],
        ["a", { schedule: { every: 10 } }, "schedule", /from a second/],
        ["a", { schedule: { every: "1 day", at: [] } }, "schedule.at", /known are every, offset/],
        ["a", { schedule: { every: "1 day" }, timeZone: "UTC" }, "timeZone", /only a cron/],
        ["a", { schedule: { at: [past] } }, "schedule.at", /is yet to come/],
        ["a", { until: past }, "until", /no time between now and then/],
        ["a", { from: new Date(), until: past }, "until", /before `from`/],
        ["a", { schedule: { every: "1 minute" }, jitter: "2 minutes" }, "jitter", /overtake/],
        ["a", { limit: 0 }, "limit", /1 or more/],
        ["a", { misfire: "never" }, "misfire", /once, all or skip/],
        ["a", { misfire: { policy: "all", cap: 1_001 } }, "misfire.cap", /1 to 1000/],
        ["a", { overlap: "deny" }, "overlap", /allow, skip or queueOne/],
        ["a", { shedule: "@daily" }, "options.shedule", /no such option/],
        ["a", { set: "mine" }, "options.set", /no such option/],
        ["a", { queue: "no queue" }, "queue", /a name has/],
        ["a", { job: "cleanup" }, "job", /a job definition is expected/],
        ["a", { job: undefined }, "job", /a job definition is expected/],
        ["a", { job: Single }, "job", /a unique job can't recur/],
        ["a", { payload: parentResult }, "payload", /follow no job/],
      ]
      for (const [id, options, field, reason] of wrong) {
        const error = yield* Effect.flip(
          Recurring.upsert(id as string, { ...hourly, ...options } as never),
        )
        assert.ok(error instanceof Errors.InvalidOptions, `${field}: ${error}`)
        assert.equal(error.field, field, error.message)
        assert.match(error.message, reason)
      }
      const badPayload = yield* Effect.flip(
        Recurring.upsert("a", { ...hourly, job: Report, payload: { team: 5 } } as never),
      )
      assert.ok(badPayload instanceof Errors.InvalidPayload)
      assert.match(badPayload.message, /job report: payload\.team/)
      assert.deepEqual((yield* stored).subjects, [])
    }))

  test("of what has run out needs times, and begins with those that it is given", () =>
    Effect.gen(function* () {
      const soon = new Date(Date.now() + 400)
      const oneShot = { job: Cleanup, schedule: { at: [soon] } } as const
      yield* Recurring.upsert("campaign", oneShot)
      yield* eventually(
        Recurring.get("campaign"),
        ({ next }) => next === undefined || next < new Date(),
      )
      // As it was: it isn't refused.
      assert.equal((yield* Recurring.upsert("campaign", oneShot)).change, "unchanged")
      const queue = { ...oneShot, queue: "other" }
      assert.equal((yield* Recurring.upsert("campaign", queue)).change, "changed")
      const ended = { ...hourly, until: new Date(Date.now() - day) }
      const error = yield* Effect.flip(Recurring.upsert("campaign", ended))
      assert.match(error.message, /no time between now and then/)
      yield* Recurring.sync([Recurring.define("ended", ended)])
      assert.equal((yield* Recurring.get("ended")).state, "finished")
      const { entry } = yield* Recurring.upsert("ended", hourly)
      assert.equal(entry.state, "active")
      assert.ok(Number(entry.next) > Date.now(), "nothing is caught up with")
    }))
})

describe("an upsert of an entry that is there", () => {
  const server = testServer()
  const test = worldTest(server)

  test("goes on where it was with another payload, and from now on with other times", () =>
    Effect.gen(function* () {
      const cursor = Date.now() - 10 * day
      const daysAgo = { cursor, runs: 4, history: [] }
      yield* storeRaw("behind", (bytes) => bytes, daysAgo)
      const overdue = (yield* Recurring.get("behind")).next
      assert.ok(Number(overdue) < cursor + day, "it has times to catch up with")
      const other = { ...hourly, job: Report, payload: { team: "sales" }, limit: 5 }
      const first = yield* Recurring.upsert("behind", other)
      assert.deepEqual([first.change, first.entry.next, first.entry.runs], ["changed", overdue, 4])
      const zone = { ...other, timeZone: "Asia/Kolkata" }
      const { change, entry } = yield* Recurring.upsert("behind", zone)
      assert.deepEqual([change, entry.runs], ["changed", 4])
      assert.ok(Number(entry.next) > Date.now(), "nothing is caught up with")
    }))

  test("whose limit was reached goes on from now on when it is raised", () =>
    Effect.gen(function* () {
      yield* storeRaw("done", (bytes) => bytes, { cursor: Date.now() - 10 * day, runs: 5 })
      assert.equal((yield* Recurring.get("done")).state, "finished")
      assert.deepEqual(yield* Recurring.next("done"), [])
      const { entry } = yield* Recurring.upsert("done", { ...hourly, limit: 7 })
      assert.deepEqual([entry.state, entry.runs], ["active", 5])
      assert.ok(Number(entry.next) > Date.now(), "nothing is caught up with")
      assert.equal((yield* Recurring.next("done")).length, 2)
    }))
})

describe("a list of entries", () => {
  const server = testServer()
  const test = worldTest(server)

  test("has each entry once, in the order of the ids, page by page", () =>
    Effect.gen(function* () {
      const ids = Array.from({ length: 150 }, (_, n) => `Entry ${n * 7 % 150} ü`)
      yield* Effect.forEach(ids, (id) => Recurring.upsert(id, hourly), { concurrency: 32 })
      const sorted = [...ids].sort()
      for (const limit of [1_000, 100, 20]) {
        assert.deepEqual(yield* allPages({ limit }), sorted)
      }
      const page = yield* Recurring.list()
      assert.deepEqual(idsOf(page), sorted.slice(0, 50))
      yield* Recurring.remove(sorted[50] as string)
      assert.deepEqual(idsOf(yield* Recurring.list({ limit: 2, cursor: page.cursor })), [
        sorted[51],
        sorted[52],
      ])
    }))

  test("has those that are asked for", () =>
    Effect.gen(function* () {
      const weekly = { job: Report, payload: { team: "sales" }, schedule: "@weekly" } as const
      yield* Recurring.upsert("sales", { ...weekly, description: "Numbers for the board" })
      yield* Recurring.sync([Recurring.define("tidy", hourly)], { set: "housekeeping" })
      yield* Recurring.upsert("gone", hourly)
      yield* Recurring.remove("gone")
      yield* Recurring.pause("sales")
      yield* Recurring.sync([
        Recurring.define("old", { ...hourly, until: "2020-01-01T00:00:00Z" }),
      ])
      const found = (options: Recurring.ListOptions) => Effect.map(Recurring.list(options), idsOf)
      assert.deepEqual(yield* found({}), ["old", "sales", "tidy"])
      assert.deepEqual(yield* found({ state: "paused" }), ["sales"])
      assert.deepEqual(yield* found({ state: "active" }), ["tidy"])
      assert.deepEqual(yield* found({ state: "finished" }), ["old"])
      assert.deepEqual(yield* found({ job: "report" }), ["sales"])
      assert.deepEqual(yield* found({ set: "housekeeping" }), ["tidy"])
      assert.deepEqual(yield* found({ search: "BOARD" }), ["sales"])
      assert.deepEqual(yield* found({ search: "clean", state: "active" }), ["tidy"])
      assert.deepEqual(yield* found({ search: "nothing" }), [])
      for (
        const [options, field] of [
          [{ limit: 0 }, "limit"],
          [{ state: "enqueued" }, "state"],
          [{ cursor: "?" }, "cursor"],
          [{ queue: "default" }, "options.queue"],
        ] as const
      ) {
        const error = yield* Effect.flip(Recurring.list(options as never))
        assert.ok(error instanceof Errors.InvalidOptions)
        assert.equal(error.field, field)
      }
    }))

  effect("leaves none out while they run every second", () =>
    Effect.gen(function* () {
      const { provide } = yield* serve(server.layer(), Layer.empty)
      const ids = Array.from({ length: 200 }, (_, n) => `entry ${n + 100}`)
      const every = { job: Cleanup, schedule: { every: "1 second" }, queue: "nobody" } as const
      const declarations = ids.map((id) => Recurring.define(id, every))
      yield* provide(Recurring.sync(declarations))
      let runs = 0
      for (let lists = 0; lists < 15 || runs < 2; lists++) {
        const page = yield* provide(Recurring.list({ limit: 1_000 }))
        assert.deepEqual([idsOf(page), page.unreadable], [ids, 0])
        runs = page.entries[0]?.runs ?? 0
      }
    }))

  test("counts what it can't read", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("mine", hourly)
      yield* storeRaw("damaged", () => new Uint8Array([1, 2, 3]))
      yield* storeRaw("newer", (bytes) => {
        const parts = MessagePack.decode(bytes) as Array<unknown>
        const payload = parts.findIndex((part) => part instanceof Uint8Array)
        const plan = MessagePack.decode(parts[payload] as Uint8Array) as Array<unknown>
        parts[payload] = MessagePack.encode([99, ...plan.slice(1)])
        return MessagePack.encode(parts)
      })
      const page = yield* Recurring.list({ search: "mine" })
      assert.deepEqual(idsOf(page), ["mine"])
      assert.equal(page.unreadable, 2)
      const error = yield* Effect.flip(Recurring.sync([
        Recurring.define("first", hourly),
        Recurring.define("newer", hourly),
      ]))
      assert.match(error.message, /declarations\["newer"\]\.id.*newer version/)
      assert.equal(idsOf(yield* Recurring.list()).length, 1, "nothing was written")
    }))
})

describe("declarations", () => {
  const server = testServer()
  const test = worldTest(server)

  test("that are synced are made, changed, left alone or removed, and no others", () =>
    Effect.gen(function* () {
      const weekly = { job: Report, payload: { team: "sales" }, schedule: "@weekly" } as const
      const tidy = Recurring.define("tidy", hourly)
      const sales = Recurring.define("sales", weekly)
      yield* Recurring.upsert("by hand", hourly)
      yield* Recurring.sync([Recurring.define("theirs", hourly)], { set: "others" })
      const nothing = { created: [], changed: [], unchanged: [], removed: [] }
      assert.deepEqual(yield* Recurring.sync([tidy, sales]), {
        ...nothing,
        created: ["tidy", "sales"],
      })
      const { revision } = yield* Recurring.pause("sales")
      const before = (yield* stored).subjects
      const options = { removeOthers: true }
      assert.deepEqual(yield* Recurring.sync([tidy, sales], options), {
        ...nothing,
        unchanged: ["tidy", "sales"],
      })
      assert.deepEqual((yield* stored).subjects, before)

      const daily = Recurring.define("sales", { ...weekly, schedule: "@daily" })
      assert.deepEqual(yield* Recurring.sync([daily]), { ...nothing, changed: ["sales"] })
      const record = yield* Recurring.get("sales")
      assert.deepEqual([record.state, record.set], ["paused", "default"])
      assert.equal(record.revision, revision + 1)
      assert.deepEqual(yield* Recurring.sync([daily], options), {
        ...nothing,
        unchanged: ["sales"],
        removed: ["tidy"],
      })
      assert.deepEqual(yield* Recurring.sync([], { set: "none", removeOthers: true }), nothing)
      assert.deepEqual(idsOf(yield* Recurring.list()), ["by hand", "sales", "theirs"])
      // Who declares it last has it.
      yield* Recurring.upsert("sales", weekly)
      assert.equal((yield* Recurring.get("sales")).set, undefined)
      assert.deepEqual(yield* Recurring.sync([], options), nothing)
    }))

  test("are all checked before one of them is written", () =>
    Effect.gen(function* () {
      const good = Recurring.define("good", hourly)
      const wrong: ReadonlyArray<readonly [ReadonlyArray<unknown>, object, field: string]> = [
        [
          [good, Recurring.define("bad", { ...hourly, schedule: "0 0 31 2 *" })],
          {},
          'declarations["bad"].schedule',
        ],
        [
          [good, Recurring.define("bad", { ...hourly, job: Single })],
          {},
          'declarations["bad"].job',
        ],
        [[good, good], {}, "declarations[1].id"],
        [[good, hourly], {}, "declarations[1]"],
        [[good], { set: "no set" }, "set"],
        [[good], { removeOther: true }, "options.removeOther"],
        [[good], { removeOthers: "yes" }, "removeOthers"],
        ["good" as never, {}, "declarations"],
      ]
      for (const [declarations, options, field] of wrong) {
        const error = yield* Effect.flip(Recurring.sync(declarations as never, options))
        assert.ok(error instanceof Errors.InvalidOptions, `${field}: ${error}`)
        assert.equal(error.field, field, error.message)
      }
      const bad = Recurring.define("bad", { ...hourly, job: Report, payload: { team: 5 } as never })
      const error = yield* Effect.flip(Recurring.sync([good, bad]))
      assert.match(error.message, /job report: declarations\["bad"\]\.payload\.team/)
      assert.deepEqual((yield* stored).subjects, [])
    }))

  test("are synced by a layer when it is built", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const layer = Recurring.layer([Recurring.define("tidy", hourly)], { set: "mine" })
      yield* Effect.scoped(Layer.build(layer)).pipe(Effect.provideService(Client.Client, client))
      assert.equal((yield* Recurring.get("tidy")).set, "mine")
    }))
})

describe("times to come", () => {
  const server = testServer()
  const test = worldTest(server)

  effect("of a schedule need no client", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2030, 2, 30, 12))
      const berlin = { schedule: "30 2 * * *", timeZone: "Europe/Berlin" }
      assert.deepEqual(iso(yield* Recurring.preview(berlin, { count: 3 })), [
        "2030-03-31T01:00:00.000Z",
        "2030-04-01T00:30:00.000Z",
        "2030-04-02T00:30:00.000Z",
      ])
      assert.equal((yield* Recurring.preview({ schedule: "@hourly" })).length, 10)
      const bounded = {
        schedule: { every: "1 day", offset: "6 hours" },
        from: "2030-05-01T06:00:00Z",
        until: "2030-05-03T06:00:00Z",
      } as const
      const days = ["01", "02", "03"].map((day) => `2030-05-${day}T06:00:00.000Z`)
      assert.deepEqual(iso(yield* Recurring.preview(bounded)), days)
      assert.deepEqual(iso(yield* Recurring.preview({ ...bounded, limit: 2 })), days.slice(0, 2))
      const after = { after: "2030-05-01T06:00:00Z", count: 1 }
      assert.deepEqual(iso(yield* Recurring.preview(bounded, after)), days.slice(1, 2))
      for (
        const [options, how, field] of [
          [{ schedule: "@hourly" }, { count: 0 }, "count"],
          [{ schedule: "@hourly" }, { count: 1_001 }, "count"],
          [{ schedule: "@hourly" }, { after: "tomorrow" }, "after"],
          [{ schedule: "@hourly", limit: 0 }, {}, "limit"],
          [{ schedule: "@hourly", timeZone: "Mars" }, {}, "timeZone"],
          [{ schedule: "@hourly", job: Cleanup }, {}, "options.job"],
        ] as const
      ) {
        const error = yield* Effect.flip(Recurring.preview(options as never, how as never))
        assert.equal(error.field, field, error.message)
      }
    }).pipe(Effect.provide(TestClock.layer())))

  test("of an entry end with its limit and are those after resuming while it is paused", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("five", { ...hourly, limit: 5 })
      const times = yield* Recurring.next("five")
      assert.equal(times.length, 5)
      assert.deepEqual(times[0], (yield* Recurring.get("five")).next)
      yield* Recurring.pause("five")
      assert.equal((yield* Recurring.get("five")).next, undefined)
      assert.deepEqual(yield* Recurring.next("five", 3), times.slice(0, 3))
      const missing = yield* Effect.flip(Recurring.next("none"))
      assert.ok(missing instanceof Recurring.RecurringNotFound)
      const many = yield* Effect.flip(Recurring.next("five", 1_001))
      assert.match(many.message, /count: 1001.*1 to 1000/)
    }))
})

describe("the history of an entry", () => {
  const server = testServer()
  const test = worldTest(server)

  test("has the last runs with their jobs, newest first", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      yield* Recurring.upsert("report", {
        job: Report,
        payload: { team: "sales" },
        schedule: { every: "1 day" },
      })
      assert.deepEqual(yield* Recurring.history("report"), [])
      const ids: Array<string> = []
      for (let run = 0; run < 22; run++) ids.push(yield* Recurring.trigger("report"))
      const runs = yield* Recurring.history("report")
      assert.deepEqual(runs.map(({ id }) => id), ids.slice(2).reverse())
      assert.ok(runs.every(({ byHand, job }) => byHand && job?.state === "enqueued"))
      assert.deepEqual(runs[0]?.job?.payload, { team: "sales" })
      assert.deepEqual(runs[0]?.job?.recurring, { entry: "report", at: runs[0]?.at })
      const last = ids[21] as string
      yield* client.operate(last, Operation.cancel())
      yield* client.operate(last, Operation.remove())
      const [gone, there] = yield* Recurring.history("report")
      assert.deepEqual([gone?.id, gone?.job, there?.job?.id], [last, undefined, ids[20]])
      const { state } = yield* Recurring.get("report")
      assert.equal(state, "active")
    }))
})
