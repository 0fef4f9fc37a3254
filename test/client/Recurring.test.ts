import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, Middleware, Operation, Recurring } from "../../mod.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Conditional from "../../src/nats/Conditional.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { is, serve } from "../actors/harness.ts"
import { contents } from "../nats/stream.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { entryOf, lastSequence, runsOf, tick, timesOf, viewOf, wake } from "./entries.ts"
import { worldTest } from "./world.ts"

const hour = 3_600_000
const Report = Job.make("report", { payload: Schema.Struct({ team: Schema.String }) })
const payload = { team: "a" }
/** Half an hour ago there was a nominal time. */
const offset = (Date.now() - hour / 2) % hour
const hourly = { job: Report, payload, schedule: { every: hour, offset } } as const

const now = Effect.map(Wire.Wire, ({ clock }) => clock.now())

describe("a recurring entry", () => {
  const server = testServer()
  const test = worldTest(server)

  test("that is declared as it was writes nothing and fires nothing", () =>
    Effect.gen(function* () {
      const options = {
        ...hourly,
        ...{ misfire: "all", overlap: "skip", jitter: 500, limit: 9, queue: "mail" } as const,
        ...{ priority: "high", description: "d", from: "2026-01-01T00:00:00Z" } as const,
      }
      const { change } = yield* Recurring.upsert("report", options)
      assert.equal(change, "created")
      for (const state of ["active", "due", "paused", "finished"]) {
        if (state === "due") yield* wake("report", { cursor: (yield* now) - 2 * hour })
        if (state === "paused") yield* Recurring.pause("report")
        if (state === "finished") yield* wake("report", { runs: 9 })
        const before = yield* lastSequence
        const again = yield* Recurring.upsert("report", { ...options })
        assert.deepEqual([again.change, yield* lastSequence], ["unchanged", before], state)
      }
    }))

  test("keeps its due time with another payload, and counts from now with other times", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      const due = (yield* now) - 2 * hour
      yield* wake("report", { cursor: due, runs: 3 })
      const other = { ...hourly, misfire: "all", payload: { team: "b" } } as const
      assert.equal((yield* Recurring.upsert("report", other)).change, "changed")
      const { current, state } = yield* entryOf("report")
      assert.deepEqual([state.cursor, state.runs], [due, 3])
      // Its alarm is set to what is due: a server sees to it with what it is given now.
      assert.equal(current.subject.state, "await")
      assert((current.stored.due ?? 0) <= (yield* now))
      yield* wake("report")
      yield* tick("report")
      const runs = yield* runsOf("report")
      assert.equal(runs.length, 2)
      assert.deepEqual(runs.map(({ envelope }) => MessagePack.decode(envelope.payload)), [
        { team: "b" },
        { team: "b" },
      ])
      for (
        const times of [
          { schedule: { every: hour, offset: offset + 1 } },
          { schedule: "30 * * * *" },
          { schedule: "30 * * * *", timeZone: "Asia/Tokyo" },
          { schedule: "30 * * * *", timeZone: "Asia/Tokyo", from: 0 },
        ]
      ) {
        yield* wake("report", { cursor: (yield* now) - 5 * hour })
        const before = yield* now
        const { entry } = yield* Recurring.upsert("report", { ...other, ...times })
        assert((entry.next?.getTime() ?? 0) > before)
        yield* wake("report")
        assert.deepEqual(yield* tick("report"), [])
      }
    }))

  test("makes no run for a time over which it is paused, nor when it goes on", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      const paused = yield* Recurring.pause("report")
      assert.deepEqual([paused.state, paused.next], ["paused", undefined])
      assert.equal((yield* entryOf("report")).current.stored.due, Date.UTC(2200, 0, 1))
      yield* wake("report", { cursor: (yield* now) - 3 * hour })
      assert.deepEqual(yield* tick("report"), [])
      const before = yield* lastSequence
      assert.equal((yield* Recurring.pause("report")).paused?.getTime(), paused.paused?.getTime())
      assert.equal(yield* lastSequence, before)
      const { next, state } = yield* Recurring.resume("report")
      assert.deepEqual([state, (next?.getTime() ?? 0) > (yield* now)], ["active", true])
      yield* wake("report")
      assert.deepEqual(yield* tick("report"), [])
      assert.deepEqual(yield* timesOf("report"), [])
    }))

  test("runs by hand in whatever state, without a word about its times", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, limit: 2 })
      const { state: { cursor } } = yield* entryOf("report")
      const trouble = { message: "broken", at: 5, tries: 9 }
      const states = [
        ["active", {}],
        ["paused", { paused: 5 }],
        ["finished", { paused: undefined, runs: 2 }],
        ["disabled", { runs: 0, trouble }],
      ] as const
      for (const [expected, state] of states) {
        yield* wake("report", state)
        yield* tick("report")
        const before = yield* Recurring.get("report")
        assert.equal(before.state, expected)
        const id = yield* Recurring.trigger("report")
        const after = yield* Recurring.get("report")
        const { recurring, state: jobState } = yield* Report.get(id)
        assert.deepEqual([recurring?.entry, jobState], ["report", "enqueued"])
        assert.deepEqual([after.state, after.runs, after.next], [
          before.state,
          before.runs,
          before.next,
        ])
        assert.deepEqual(after.last, { id, at: recurring?.at, byHand: true })
        assert.equal(after.error?.tries, before.error?.tries)
        assert.equal((yield* entryOf("report")).state.cursor, cursor)
      }
      yield* Recurring.remove("report")
      const error = yield* Effect.flip(Recurring.trigger("report"))
      assert.equal(error._tag, "RecurringNotFound")
    }))

  test("that is removed leaves its runs, and may come back before its marker is gone and after", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      yield* wake("report", { cursor: (yield* now) - 2 * hour })
      yield* tick("report")
      const times = yield* timesOf("report")
      const { revision } = yield* Recurring.get("report")
      assert.deepEqual([yield* Recurring.remove("report"), times.length], [true, 2])
      assert.equal(yield* Recurring.remove("report"), false)
      for (const afterMarker of [false, true]) {
        if (afterMarker) {
          yield* Recurring.remove("report")
          // An alarm that comes late finds the marker, which goes with its own one.
          yield* wake("report")
          yield* tick("report")
          const { current } = yield* viewOf("report")
          yield* Conditional.remove(yield* Wire.Wire, 0, current.stored.sequence)
          yield* Effect.flip(viewOf("report").pipe(Effect.catchDefect(Effect.fail)))
        }
        const { change, entry } = yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
        assert.deepEqual([change, entry.runs, entry.last], ["created", 0, undefined])
        assert.equal(entry.revision > revision, !afterMarker)
        yield* wake("report")
        assert.deepEqual(yield* tick("report"), [])
      }
      assert.deepEqual(yield* timesOf("report"), times)
    }))

  test("has no jitter that lets runs start after their deadline", () =>
    Effect.gen(function* () {
      const jittered = { ...hourly, jitter: "2 minutes" } as const
      const refused = Recurring.upsert("report", { ...jittered, deadline: "2 minutes" })
      const error = yield* Effect.flip(refused)
      assert(error._tag === "InvalidOptions")
      assert.deepEqual([error.field, yield* lastSequence], ["jitter", 0])
      yield* Recurring.upsert("report", { ...jittered, deadline: "3 minutes" })
    }))

  test("may have any id on one line", () =>
    Effect.gen(function* () {
      const ids = ["a b", "a.b.*.>", "ä😀", "x".repeat(200), "/etc/passwd", "_recurring", "-", "0"]
      for (const id of ids) yield* Recurring.upsert(id, hourly)
      for (const id of ids) {
        const job = yield* Recurring.trigger(id)
        assert.equal((yield* Report.get(job)).recurring?.entry, id)
        assert.equal((yield* Recurring.get(id)).id, id)
        assert.equal(yield* Recurring.remove(id), true)
      }
    }))

  test(
    "lies with its runs in the first of several partitions, where operations find them",
    () =>
      Effect.gen(function* () {
        yield* Recurring.upsert("report", { ...hourly, misfire: "all", overlap: "queueOne" })
        const byHand = yield* Recurring.trigger("report")
        yield* wake("report", { cursor: (yield* now) - 1.5 * hour })
        const [run] = yield* tick("report")
        assert(run !== undefined)
        const client = yield* Client.Client
        const cancel = { cancel: { _tag: "Cancel" } }
        assert(cancel)
        for (const id of [byHand, run.id]) {
          assert.equal(JobId.partitionOf(id), 0)
          assert.equal((yield* client.operate(id, Operation.cancel()))._tag, "changed")
          assert.equal((yield* client.get(id)).state, "cancelled")
        }
        const { nats } = yield* Wire.Wire
        for (const partition of [1, 2, 3]) {
          assert.equal((yield* contents(nats, partition)).messages, 0)
        }
      }),
    { partitions: 4 },
  )
})

describe("the runs of a recurring entry", () => {
  const server = testServer()

  effect(
    "know their entry and nominal time, and each is told of once",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const seen: Array<string> = []
        const told: Array<Middleware.Transition> = []
        const middleware = Middleware.layer([
          Middleware.make("observer", {
            transition: (one) => Effect.sync(() => told.push(one)),
          }),
        ])
        const Ping = Job.make("ping")
        const live = Ping.toLayer(() =>
          Effect.flatMap(Job.current, ({ recurring }) =>
            Effect.sync(() =>
              seen.push(`${recurring?.entry} ${recurring?.at.toISOString()}`)
            ))
        )
        const servers = yield* Effect.forEach(["one", "two"], () =>
          serve(server.layer(namespace).pipe(Layer.merge(middleware)), live))
        const [one, two] = servers
        assert(one !== undefined && two !== undefined)
        const start = Math.ceil(Date.now() / 1_000) * 1_000 + 1_000
        const instants = [0, 1, 2].map((n) =>
          start + n * 1_000
        )
        yield* one.provide(
          Recurring.upsert("ping", { job: Ping, schedule: { at: instants }, overlap: "queueOne" }),
        )
        const record = yield* eventually(
          one.provide(Recurring.get("ping")),
          ({ state }) => state === "finished",
        )
        assert.equal(record.runs, 3)
        yield* eventually(Effect.sync(() => seen.length), (count) => count === 3)
        assert.deepEqual(seen, instants.map((at) => `ping ${new Date(at).toISOString()}`))
        const history = yield* one.provide(Recurring.history("ping"))
        assert.equal(history.length, 3)
        for (const { at, id, job } of history) {
          assert.deepEqual(job?.recurring, { entry: "ping", at })
          const made = told.filter((one) => one.id === id && one.from === undefined)
          assert.deepEqual(made.map(({ to }) => to), ["enqueued"])
        }
      }),
  )

  effect(
    "are left by servers that know nothing of their job to those that do",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const Ping = Job.make("ping", { queue: "mail" })
        const Other = Job.make("other")
        const ignorant = yield* serve(server.layer(namespace), Other.toLayer(() => Effect.void))
        const at = Date.now() + 800
        yield* ignorant.provide(Recurring.upsert("ping", { job: Ping, schedule: { at: [at] } }))
        yield* eventually(
          ignorant.provide(Recurring.get("ping")),
          ({ runs }) => runs === 1,
        )
        const knowing = yield* serve(server.layer(namespace), Ping.toLayer(() => Effect.void), {
          queues: { mail: 1 },
        })
        const [{ id } = { id: "" }] = yield* knowing.until(is("AttemptStarted"))
        const record = yield* knowing.record(id)
        assert.deepEqual([record.state, record.recurring?.at.getTime()], ["succeeded", at])
        assert.deepEqual(ignorant.events.filter(is("AttemptStarted")), [])
      }),
  )
})
