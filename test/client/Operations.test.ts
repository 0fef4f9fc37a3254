import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Client, Errors, Job, Operation, Retry } from "../../mod.ts"
import * as Engine from "../../src/client/Engine.ts"
import * as Moves from "../../src/client/Moves.ts"
import * as OperateWhere from "../../src/client/OperateWhere.ts"
import { moveOf } from "../../src/client/OperationMove.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as JobView from "../../src/nats/JobView.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { ended, gate, is, produce, serve, subjectsIn } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { worldTest } from "./world.ts"

const Work = Job.make("work", { payload: Schema.Number })
const Flaky = Job.make("flaky", {
  payload: Schema.Number,
  success: Schema.String,
  retry: Retry.fixed({ attempts: 2, delay: 0 }),
})
const Slow = Job.make("slow", {
  payload: Schema.Number,
  retry: Retry.fixed({ attempts: 2, delay: "1 hour" }),
})

const operations: Readonly<Record<JobState.OperationName, Operation.Operation>> = {
  cancel: Operation.cancel(),
  requeue: Operation.requeue(),
  runNow: Operation.runNow(),
  reschedule: Operation.reschedule({ delay: "1 hour" }),
  move: Operation.move({ queue: "elsewhere" }),
  remove: Operation.remove(),
}

/** What each operation leads to, from any state that it accepts. */
const after = (
  name: JobState.OperationName,
  from: JobState.JobState,
): JobState.JobState | undefined => {
  switch (name) {
    case "cancel":
      return "cancelled"
    case "requeue":
    case "runNow":
      return "enqueued"
    case "reschedule":
      return from === "retrying" ? "retrying" : "scheduled"
    case "move":
      return from
    case "remove":
      return undefined
  }
}

describe("An operation on a job", () => {
  const nats = testServer()

  effect("is done in every state that it accepts, and in no other", () =>
    Effect.gen(function* () {
      const open = gate()
      const layer = nats.layer(freshNamespace())
      const server = yield* serve(
        layer,
        Layer.mergeAll(
          Slow.toLayer(() => Effect.die("not yet")),
          Flaky.toLayer((n) =>
            n < 0
              ? Effect.die("never")
              : n > 0
              ? Effect.as(open.wait, "late")
              : Effect.succeed("done")
          ),
        ),
        { queues: { served: 50 } },
      )
      const { client, provide } = server
      const served = { queue: "served" }
      const make: Readonly<Record<JobState.JobState, Effect.Effect<string, unknown>>> = {
        awaiting: provide(
          Effect.flatMap(Work.enqueue(0), (parent) => Work.enqueueAfter(parent, 1)),
        ),
        scheduled: provide(Work.schedule(1, { delay: "1 hour" })),
        enqueued: provide(Work.enqueue(1)),
        processing: provide(Flaky.enqueue(1, served)).pipe(
          Effect.tap((id) => server.until(is("AttemptStarted", id))),
        ),
        retrying: provide(Slow.enqueue(1, served)).pipe(
          Effect.tap((id) => server.until(is("JobMoved", id, ({ to }) => to === "retrying"))),
        ),
        succeeded: provide(Flaky.enqueue(0, served)).pipe(
          Effect.tap((id) => server.until(ended(id))),
        ),
        failed: provide(Flaky.enqueue(-1, served)).pipe(
          Effect.tap((id) => server.until(ended(id))),
        ),
        cancelled: provide(Work.enqueue(1)).pipe(
          Effect.tap((id) => client.operate(id, Operation.cancel())),
        ),
      }
      for (const name of Object.keys(operations) as ReadonlyArray<JobState.OperationName>) {
        const operation = operations[name]
        for (const state of Object.keys(make) as ReadonlyArray<JobState.JobState>) {
          const what = `${name} of one that is ${state}`
          const id = yield* make[state]
          const before = yield* client.get(id)
          assert.equal(before.state, state, what)
          const answer = yield* client.operate(id, operation)
          if (!JobState.accepts[name].includes(state)) {
            assert.deepEqual(answer, { _tag: "conflict", id, state }, what)
            const { revision } = yield* client.get(id)
            assert.equal(revision, before.revision, what)
            continue
          }
          const to = after(name, state)
          const expected = { _tag: "changed", id, from: state, to: to ?? state }
          assert.deepEqual(answer, expected, what)
          // A served queue may have taken it on at once.
          if (name === "requeue" && state !== "cancelled") continue
          const now = yield* client.get(id).pipe(
            Effect.map((record) => record.state),
            Effect.catchTag("JobNotFound", () => Effect.succeed(undefined)),
          )
          assert.equal(now, to, what)
        }
      }
      open.open()
    }), { timeout: 60_000 })

  effect("on a job that isn't there is answered so", () =>
    Effect.gen(function* () {
      const { client } = yield* produce(nats.layer())
      const id = "01J9ZQ6Y3NM2D4V8T7K5R0B1C0"
      for (const operation of Object.values(operations)) {
        assert.deepEqual(yield* client.operate(id, operation), { _tag: "notFound", id })
      }
    }))

  effect("is done only for a job as its caller has seen it", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(nats.layer())
      const id = yield* provide(Work.schedule(1, { delay: "1 hour" }))
      const { revision } = yield* client.get(id)
      const wrong = yield* client.operate(id, Operation.cancel(), { ifState: "enqueued" })
      assert.deepEqual(wrong, { _tag: "conflict", id, state: "scheduled" })
      const seen = { ifState: ["scheduled", "retrying"], ifRevision: revision } as const
      const later = Operation.reschedule({ delay: "2 hours" })
      assert.equal((yield* client.operate(id, later, seen))._tag, "changed")
      // It is in the same state, but another one than was seen.
      assert.equal((yield* client.operate(id, Operation.cancel(), seen))._tag, "conflict")
      const now = { ifRevision: (yield* client.get(id)).revision }
      assert.equal((yield* client.operate(id, Operation.cancel(), now))._tag, "changed")
      const typo = { ifStates: "failed" } as unknown as Operation.Expected
      const error = yield* Effect.flip(client.operate(id, Operation.remove(), typo))
      assert.ok(error instanceof Errors.InvalidOptions)
    }))

  effect(
    "that cancels interrupts an attempt at once, and its late result doesn't count",
    () =>
      Effect.gen(function* () {
        const interrupted = gate()
        const layer = nats.layer(freshNamespace())
        const stubborn = Flaky.toLayer(() =>
          Effect.never.pipe(
            Effect.onInterrupt(() => Effect.sync(interrupted.open)),
            Effect.catchCause(() => Effect.succeed("all the same")),
          )
        )
        const server = yield* serve(layer, stubborn)
        const { client } = yield* produce(layer)
        const id = yield* server.provide(Flaky.enqueue(1))
        yield* server.until(is("AttemptStarted", id))
        const waiting = yield* Effect.forkChild(Effect.flip(server.provide(Flaky.await(id))))
        const start = performance.now()
        const operation = Operation.cancel({ reason: "not wanted" })
        const answer = yield* client.operate(id, operation, { ifState: "processing" })
        assert.deepEqual(answer, { _tag: "changed", id, from: "processing", to: "cancelled" })
        yield* interrupted.wait
        assert.ok(performance.now() - start < 1_000)
        assert.equal((yield* Fiber.join(waiting))._tag, "JobCancelled")
        yield* eventually(subjectsIn(server.nats), (left) => left.length === 1)
        const { reason, state } = yield* client.get(id)
        assert.deepEqual([state, reason], ["cancelled", "not wanted"])
        assert.equal(server.events.filter(ended(id)).length, 0)
      }),
  )

  effect(
    "that requeues gives all attempts once more and keeps the earlier ones",
    () =>
      Effect.gen(function* () {
        let good = false
        const layer = nats.layer(freshNamespace())
        const server = yield* serve(
          layer,
          Flaky.toLayer(() =>
            Effect.suspend(() => good ? Effect.succeed("at last") : Effect.die(1))
          ),
        )
        const { client, provide } = server
        const id = yield* provide(Flaky.enqueue(1))
        const ends = (count: number) => server.until(ended(id), { count })
        yield* ends(1)
        assert.equal((yield* client.operate(id, Operation.requeue()))._tag, "changed")
        yield* ends(2)
        const failed = yield* client.get(id)
        assert.equal(failed.state, "failed")
        assert.deepEqual(failed.attempts.map(({ number }) => number), [1, 2, 3, 4])
        good = true
        // From each of the final states.
        yield* client.operate(id, Operation.requeue())
        yield* ends(3)
        assert.equal((yield* client.get(id)).state, "succeeded")
        yield* client.operate(id, Operation.requeue())
        yield* ends(4)
        const { attempts, result, state } = yield* provide(Flaky.get(id))
        assert.deepEqual([state, result, attempts.length], ["succeeded", "at last", 6])
        const other = yield* provide(Flaky.schedule(1, { delay: "1 hour" }))
        yield* client.operate(other, Operation.cancel())
        yield* client.operate(other, Operation.requeue())
        yield* server.until(ended(other))
        assert.equal((yield* client.get(other)).state, "succeeded")
        yield* eventually(subjectsIn(server.nats), (left) => left.length === 2)
      }),
  )

  effect(
    "changes when and where a job runs, which it then does once",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const { client, nats: connected, provide } = yield* produce(layer)
        const change = (id: string, ...all: ReadonlyArray<Operation.Operation>) =>
          Effect.forEach(all, (operation) =>
            Effect.map(
              client.operate(id, operation),
              ({ _tag }) => assert.equal(_tag, "changed", operation._tag),
            ))
        const ids = yield* provide(Effect.all({
          run: Flaky.schedule(0, { delay: "1 hour" }),
          sooner: Flaky.schedule(0, { delay: "1 hour" }),
          later: Flaky.enqueue(0),
          moved: Flaky.enqueue(0, { queue: "nobody" }),
          urgent: Flaky.schedule(0, { delay: "1 hour", queue: "nobody" }),
        }))
        yield* change(ids.run, Operation.runNow())
        yield* change(ids.sooner, Operation.reschedule({ delay: "300 millis" }))
        yield* change(ids.later, Operation.reschedule({ at: Date.now() + 300 }))
        yield* change(ids.moved, Operation.move({ queue: "default", priority: "low" }))
        yield* change(
          ids.urgent,
          Operation.move({ queue: "default" }),
          Operation.move({ priority: "critical" }),
          Operation.runNow(),
        )
        const ready = yield* subjectsIn(connected, "ready.>")
        const where = (id: string) =>
          ready.find((subject) => subject.endsWith(id))?.split(".").slice(4, 6)
        assert.deepEqual(where(ids.urgent), ["default", "1"])
        assert.deepEqual(where(ids.moved), ["default", "4"])
        const server = yield* serve(layer, Flaky.toLayer(() => Effect.succeed("done")))
        for (const id of Object.values(ids)) yield* server.until(ended(id))
        yield* eventually(subjectsIn(connected), (left) => left.length === 5)
        assert.equal(server.events.filter(is("AttemptStarted")).length, 5)
      }),
  )

  effect(
    "that moves a retrying job keeps its time and its attempts",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const server = yield* serve(layer, Slow.toLayer(() => Effect.die("no")))
        const { client, provide } = server
        const id = yield* provide(Slow.enqueue(1))
        yield* server.until(is("JobMoved", id))
        const { due } = yield* client.get(id)
        yield* client.operate(id, Operation.move({ queue: "default", priority: "high" }))
        const moved = yield* client.get(id)
        assert.deepEqual([moved.state, moved.due], ["retrying", due])
        yield* client.operate(id, Operation.runNow())
        yield* server.until(ended(id))
        assert.equal((yield* client.get(id)).attemptCount, 2)
      }),
  )

  effect("ends or releases what follows the job", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(nats.layer())
      const [ready, later] = yield* provide(Effect.all([
        Work.enqueue(1),
        Work.schedule(1, { delay: "1 hour" }),
      ]))
      for (const parent of [ready, later]) {
        const child = yield* provide(Work.enqueueAfter(parent, 2))
        const other = yield* provide(Work.enqueueAfter(parent, 2, { on: "cancelled" }))
        const grandchild = yield* provide(Work.enqueueAfter(child, 3))
        yield* client.operate(parent, Operation.cancel())
        const states = yield* Effect.forEach([child, grandchild, other], client.get)
        assert.deepEqual(states.map(({ state }) => state), ["cancelled", "cancelled", "enqueued"])
      }
    }))

  effect("on a list of jobs answers in their order", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(nats.layer())
      const ids = yield* provide(Work.enqueueMany([1, 2, 3]))
      const [a = "", b = "", c = ""] = ids
      yield* client.operate(b, Operation.cancel())
      const answers = yield* client.operateAll([c, "nobody", b, a], Operation.cancel())
      assert.deepEqual(answers.map(({ _tag, id }) => [_tag, id]), [
        ["changed", c],
        ["notFound", "nobody"],
        ["conflict", b],
        ["changed", a],
      ])
      for (const bad of [new Array(10_001).fill(a), [a, "no id"], "a"]) {
        const list = bad as ReadonlyArray<string>
        const error = yield* Effect.flip(client.operateAll(list, Operation.remove()))
        assert.ok(error instanceof Errors.InvalidOptions)
      }
      assert.equal((yield* client.get(a)).state, "cancelled")
    }))
})

describe("What an end has begun when somebody dies", () => {
  const nats = testServer()

  /** A job that is cancelled, of which nobody has told the one that follows it. */
  const cutOff = Effect.gen(function* () {
    const wire = yield* Wire.Wire
    const parent = yield* Work.schedule(1, { delay: "1 hour" })
    const child = yield* Work.enqueueAfter(parent, 2, { on: "cancelled" })
    const cutoffs = yield* OperateWhere.newestSequences(wire)
    const view = yield* JobView.find(wire, parent)
    assert.ok(view)
    const end = moveOf(wire, view.current, Operation.cancel(), wire.clock.now())
    assert.ok(end)
    yield* Moves.write(wire, view, end, 5_000)
    const client = yield* Client.Client
    assert.equal((yield* client.get(child)).state, "awaiting")
    return { client, child, cutoffs, parent, wire }
  })

  worldTest(nats)(
    "is finished by a cancel by filter that is done once more",
    () =>
      Effect.gen(function* () {
        const { child, client, cutoffs, wire } = yield* cutOff
        const context = {
          ...{ wire, engine: yield* Engine.Engine, patience: 5_000, notify: () => {} },
          ensureQueue: () => Effect.void,
        }
        const operation = Operation.cancel()
        const request = { operation, filter: { states: ["scheduled"] as const }, cutoffs, asked: 0 }
        const tally = yield* OperateWhere.run(context, request)
        assert.deepEqual(tally, { matched: 0, changed: 0, conflicts: 0 })
        assert.equal((yield* client.get(child)).state, "enqueued")
      }).pipe(Effect.provide(Engine.layer)),
  )

  worldTest(nats)("is finished before a record is removed", () =>
    Effect.gen(function* () {
      const { child, client, parent } = yield* cutOff
      yield* client.operate(parent, Operation.remove())
      assert.equal((yield* client.get(child)).state, "enqueued")
      const other = yield* cutOff
      const removed = yield* client.operateWhere({ state: "cancelled" }, Operation.remove())
      assert.equal(removed.changed, 1)
      assert.equal((yield* client.get(other.child)).state, "enqueued")
    }))
})

describe("Operations on several jobs", () => {
  const nats = testServer()

  worldTest(nats)("reach the jobs of all partitions", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const ids = yield* Work.enqueueMany(Array.from({ length: 300 }, (_, n) => n))
      const states = Effect.map(
        Effect.forEach(ids, client.get, { concurrency: 16 }),
        (records) => [...new Set(records.map(({ state }) => state))],
      )
      const cancelled = yield* client.operateWhere({ name: "work" }, Operation.cancel())
      assert.equal(cancelled.changed, 300)
      assert.deepEqual(yield* states, ["cancelled"])
      const answers = yield* client.operateAll(ids, Operation.requeue())
      assert.ok(answers.every(({ _tag }) => _tag === "changed"))
      assert.deepEqual(yield* states, ["enqueued"])
      const counted = yield* client.operateWhere({ all: true }, Operation.cancel(), {
        dryRun: true,
      })
      assert.equal(counted.matched, 300)
    }), { partitions: 3 })
})

describe("An operation as a value", () => {
  const bad: Readonly<Record<string, () => unknown>> = {
    "a reason that is no text": () => Operation.cancel({ reason: 1 as unknown as string }),
    "neither delay nor instant": () => Operation.reschedule({} as { delay: number }),
    "an instant after the last": () => Operation.reschedule({ at: Date.UTC(2300, 0, 1) }),
    "a delay of centuries": () => Operation.reschedule({ delay: 300 * 365 * 86_400_000 }),
    "a move to nowhere": () => Operation.move({}),
    "a queue of the engine": () => Operation.move({ queue: "_engine" }),
    "an unknown priority": () => Operation.move({ priority: "urgent" as "high" }),
    "an unknown option": () => Operation.requeue({ reviv: true } as object),
  }
  for (const [what, make] of Object.entries(bad)) {
    it(`refuses ${what}`, () => {
      assert.throws(make, Errors.InvalidOptions)
    })
  }
})
