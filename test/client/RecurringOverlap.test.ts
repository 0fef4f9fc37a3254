import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, Operation, Recurring, Retry } from "../../mod.ts"
import type * as Entry from "../../src/core/Entry.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import { maxDelayMillis } from "../../src/core/Limits.ts"
import * as Links from "../../src/nats/Links.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { ended, gate, is, serve } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { entryOf, runsOf, tick, tickSince, wake } from "./entries.ts"
import { worldOf, worldTest } from "./world.ts"

const hour = 3_600_000
/** Half an hour ago there was a nominal time. */
const offset = (Date.now() - hour / 2) % hour
const schedule = { every: hour, offset }

const Report = Job.make("report")

const now = Effect.map(Wire.Wire, ({ clock }) => clock.now())

/** The nominal time before now, or one of those before. */
const nominal = (ago: number) =>
  Effect.map(now, (instant) => Math.floor((instant - offset) / hour) * hour + offset - ago * hour)

/** Ticks an entry for the nominal time so many hours ago; ascending, or there is none. */
const tickAt = Effect.fnUntraced(function* (
  id: string,
  ago: number,
  plan: Partial<Entry.Plan> = {},
) {
  const at = yield* nominal(ago)
  yield* wake(id, { cursor: at - 1 }, { misfire: { policy: "all", cap: 1 }, until: at, ...plan })
  return yield* tick(id)
})

const operate = (id: string, operation: Operation.Operation) =>
  Effect.gen(function* () {
    const answer = yield* Effect.flatMap(Client.Client, (client) => client.operate(id, operation))
    assert.equal(answer._tag, "changed")
  })

describe("a nominal time of a recurring entry, while an earlier run lives,", () => {
  const server = testServer()
  const test = worldTest(server)

  test("leads to a run beside it, where that is allowed", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { job: Report, schedule })
      for (const ago of [3, 2, 1]) yield* tickAt("report", ago)
      assert.deepEqual((yield* runsOf("report")).map(({ state }) => state), [
        "ready",
        "ready",
        "ready",
      ])
    }))

  test("is skipped, which is written down, until that has ended", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { job: Report, schedule, overlap: "skip" })
      const [first] = yield* tickAt("report", 9)
      assert(first !== undefined)
      for (const [index, ago] of [8, 7].entries()) {
        assert.deepEqual(yield* tickAt("report", ago), [])
        const { skipped } = yield* Recurring.get("report")
        const at = new Date(yield* nominal(ago))
        assert.deepEqual(skipped, { count: index + 1, at, reason: "overlap" })
      }
      yield* operate(first.id, Operation.cancel())
      const [second] = yield* tickAt("report", 6)
      assert(second !== undefined)
      const { state: { history } } = yield* entryOf("report")
      assert.deepEqual(history.map(({ ended, id }) => [id, ended]), [
        [first.id, true],
        [second.id, false],
      ])
      // One whose record is gone has ended, too.
      yield* operate(second.id, Operation.cancel())
      yield* operate(second.id, Operation.remove())
      const [third] = yield* tickAt("report", 5, { jitter: maxDelayMillis })
      assert.equal(third?.to, "scheduled")
      assert.deepEqual(yield* tickAt("report", 4), [])
      assert.equal((yield* Recurring.get("report")).runs, 3)
    }))

  test("makes one run that waits for it, and no second one", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { job: Report, schedule, overlap: "queueOne" })
      const [first] = yield* tickAt("report", 9)
      const [queued] = yield* tickAt("report", 8)
      assert(first !== undefined && queued !== undefined)
      assert.deepEqual([first.to, queued.to], ["enqueued", "awaiting"])
      const { parents } = yield* Report.get(queued.id)
      assert.deepEqual(parents, [{ id: first.id, state: undefined }])
      assert.deepEqual(yield* tickAt("report", 7), [])
      assert.equal((yield* Recurring.get("report")).skipped?.count, 1)
      // Whoever cancels the one that waits makes room for another one.
      yield* operate(queued.id, Operation.cancel())
      const [next] = yield* tickAt("report", 6)
      assert.equal(next?.to, "awaiting")
      yield* operate(first.id, Operation.cancel())
      yield* operate(next?.id ?? "", Operation.cancel())
      assert.equal((yield* tickAt("report", 5))[0]?.to, "enqueued")
    }))

  test("counts runs by hand, those of this moment included, which themselves ask for nothing", () =>
    Effect.gen(function* () {
      for (const overlap of ["skip", "queueOne"] as const) {
        yield* Recurring.upsert(overlap, { job: Report, schedule, overlap })
        const byHand = yield* Recurring.trigger(overlap)
        const beside = yield* Recurring.trigger(overlap)
        assert.equal((yield* Report.get(beside)).state, "enqueued")
        const told = yield* tickAt(overlap, 3)
        assert.deepEqual(told.map(({ to }) => to), overlap === "skip" ? [] : ["awaiting"])
        for (const { id } of [{ id: byHand }, { id: beside }, ...told]) {
          yield* operate(id, Operation.cancel())
        }
        // Asked for at the very nominal time.
        const asked: Entry.Run = {
          id: EntryId.runId(`asked for ${overlap}`, yield* now),
          at: yield* now,
          byHand: true,
          ended: false,
        }
        yield* wake(overlap, { asked: [asked] })
        const both = yield* tickAt(overlap, 2)
        assert.deepEqual(
          both.map(({ to }) => to),
          overlap === "skip" ? ["enqueued"] : ["enqueued", "awaiting"],
        )
        if (overlap === "queueOne") {
          const { parents } = yield* Report.get(both[1]?.id ?? "")
          assert.deepEqual(parents, [{ id: asked.id, state: undefined }])
        }
      }
    }))

  test("still counts it when twenty others have come since", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { job: Report, schedule, overlap: "skip" })
      yield* tickAt("report", 9)
      for (let n = 0; n < 25; n++) {
        yield* operate(yield* Recurring.trigger("report"), Operation.cancel())
      }
      assert.deepEqual(yield* tickAt("report", 8), [])
    }))

  test("of many that were missed: one runs, one waits, or all run", () =>
    Effect.gen(function* () {
      for (
        const [overlap, states] of [
          ["allow", ["ready", "ready", "ready", "ready"]],
          ["skip", ["ready"]],
          ["queueOne", ["await", "ready"]],
        ] as const
      ) {
        yield* Recurring.upsert(overlap, { job: Report, schedule, overlap, misfire: "all" })
        yield* tickSince(overlap, (yield* nominal(3)) - 1, { limit: 4 })
        const runs = yield* runsOf(overlap)
        assert.deepEqual(runs.map(({ state }) => state).sort(), states)
        const { runs: count, state } = yield* Recurring.get(overlap)
        assert.deepEqual([count, state], [states.length, count === 4 ? "finished" : "active"])
      }
    }))
})

const once = Retry.fixed({ attempts: 1, delay: 0 })
const twice = Retry.fixed({ attempts: 2, delay: "1 second" })

describe("a run of a recurring entry that waits for the one before", () => {
  const server = testServer()

  /** Ends as it is told, once its gate is open. */
  const Ending = Job.make("ending", { payload: Schema.String, error: Schema.String, retry: once })
  const Flaky = Job.make("flaky", { error: Schema.String, retry: twice })

  const worldFor = Effect.fnUntraced(function* () {
    const opened = gate()
    const namespace = freshNamespace()
    const handlers = Layer.mergeAll(
      Ending.toLayer((how) =>
        Effect.flatMap(Job.current, ({ recurring }) =>
          Effect.andThen(
            opened.wait,
            how === "fail" ? Effect.fail(`no ${recurring?.entry}`) : Effect.void,
          ))
      ),
      Flaky.toLayer(() =>
        Effect.flatMap(
          Job.current,
          ({ attempt }) => attempt === 1 ? Effect.fail("not yet") : Effect.void,
        )
      ),
    )
    const alarm = Layer.succeed(Wire.AlarmMillis, 600)
    const start = serve(server.layer(namespace).pipe(Layer.merge(alarm)), handlers)
    const world = yield* Layer.build(worldOf(server, { namespace, alarmMillis: 600 }))
    return { opened, start, world }
  })

  for (const how of ["succeed", "fail", "cancel"] as const) {
    effect(`gets its turn when that one is told to ${how}`, () =>
      Effect.gen(function* () {
        const { opened, start, world } = yield* worldFor()
        yield* Effect.provide(
          Effect.gen(function* () {
            yield* Recurring.upsert("e", {
              ...{ job: Ending, payload: how, schedule, overlap: "queueOne" },
            })
            const [first] = yield* tickAt("e", 3)
            const [second] = yield* tickAt("e", 2)
            assert(first !== undefined && second !== undefined)
            // Whoever made it died before it was linked: its own alarm sees to that.
            const wire = yield* Wire.Wire
            assert.deepEqual(yield* Links.from(wire, Subjects.addressOf(first.id)), [])
            const running = yield* start
            yield* running.until(is("AttemptStarted", first.id))
            yield* eventually(
              Links.from(wire, Subjects.addressOf(first.id)),
              (links) => links.length === 1,
            )
            assert.equal((yield* Ending.get(second.id)).state, "awaiting")
            if (how === "cancel") yield* operate(first.id, Operation.cancel())
            yield* Effect.sync(opened.open)
            const { state } = yield* running.record(second.id)
            assert.equal(state, how === "fail" ? "failed" : "succeeded")
            const ends = { succeed: "succeeded", fail: "failed", cancel: "cancelled" }
            assert.equal((yield* Ending.get(first.id)).state, ends[how])
            const started = running.events.filter(is("AttemptStarted")).map(({ id }) => id)
            assert.deepEqual(started, [first.id, second.id])
          }),
          world,
        )
      }))
  }

  effect("waits while that one retries", () =>
    Effect.gen(function* () {
      const { start, world } = yield* worldFor()
      yield* Effect.provide(
        Effect.gen(function* () {
          yield* Recurring.upsert("e", { job: Flaky, schedule, overlap: "queueOne" })
          const [first] = yield* tickAt("e", 3)
          const [second] = yield* tickAt("e", 2)
          assert(first !== undefined && second !== undefined)
          const running = yield* start
          yield* running.until(ended(second.id))
          const started = running.events.filter(is("AttemptStarted")).map(({ id }) => id)
          assert.deepEqual(started, [first.id, first.id, second.id, second.id])
        }),
        world,
      )
    }))

  effect("runs although the record of that one is gone", () =>
    Effect.gen(function* () {
      const { opened, start, world } = yield* worldFor()
      opened.open()
      yield* Effect.provide(
        Effect.gen(function* () {
          yield* Recurring.upsert("e", {
            ...{ job: Ending, payload: "succeed", schedule, overlap: "queueOne" },
          })
          const [first] = yield* tickAt("e", 3)
          const [second] = yield* tickAt("e", 2)
          assert(first !== undefined && second !== undefined)
          yield* operate(first.id, Operation.cancel())
          yield* operate(first.id, Operation.remove())
          const running = yield* start
          const { reason, state } = yield* running.record(second.id)
          assert.deepEqual([state, reason], ["succeeded", undefined])
        }),
        world,
      )
    }))
})
