import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import { Batch, Client, Job, Operation, Retry } from "../../mod.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { contents } from "../nats/stream.ts"
import { ended, gate, is, produce, serve, type TestServer } from "./harness.ts"

const Work = Job.make("work", { payload: Schema.Number, success: Schema.Number })
const Flaky = Job.make("flaky", { payload: Schema.String, retry: Retry.none })
const Note = Job.make("note", { payload: Schema.String })
const Slow = Job.make("slow")
/** One at a time on a server, and done when its twin has begun: that is on the other one. */
const Twin = Job.make("twin", { payload: Schema.Number, queue: "twins" })
const Stranger = Job.make("stranger")
const Spread = Job.make("spread", {
  payload: Schema.Struct({ batch: Schema.String, depth: Schema.Number }),
})

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** Two servers on one namespace, and what their handlers do. */
interface World extends TestServer {
  readonly second: TestServer
  /** What notes have said, in their order. */
  readonly notes: ReadonlyArray<string>
  /** Slow jobs that have begun. */
  readonly begun: () => number
  /** From now on flaky jobs succeed. */
  readonly clear: () => void
  /** Lets slow jobs end. */
  readonly open: () => void
  /** Messages in the stream that aren't the records of jobs. */
  readonly unfinished: Effect.Effect<ReadonlyArray<string>, unknown>
}

describe("a batch on servers", () => {
  const nats = testServer()

  const world: Effect.Effect<World, unknown, Scope.Scope> = Effect.gen(function* () {
    const notes: Array<string> = []
    let bad = true
    let begun = 0
    const { open, wait } = gate()
    const twins = new Map<number, ReturnType<typeof gate>>()
    const handlers = Layer.mergeAll(
      Work.toLayer((n) => Effect.succeed(n * 2)),
      Flaky.toLayer(() => bad ? Effect.die(new Error("bad weather")) : Effect.void),
      Note.toLayer((text) => Effect.sync(() => void notes.push(text))),
      Twin.toLayer((n) => {
        const waiting = twins.get(n)
        if (waiting !== undefined) return Effect.sync(waiting.open)
        const alone = gate()
        twins.set(n, alone)
        return alone.wait
      }),
      Slow.toLayer(() => Effect.suspend(() => (begun++, wait))),
      Spread.toLayer(({ batch, depth }) =>
        depth === 0
          ? Effect.void
          : Effect.orDie(Batch.attach(batch, (more) =>
            more.addMany(Spread, [{ batch, depth: depth - 1 }, { batch, depth: depth - 1 }])))
      ),
    )
    const layer = nats.layer(freshNamespace())
    const server = yield* serve(layer, handlers, { queues: { default: 20, twins: 1 } })
    const second = yield* serve(layer, handlers, { queues: { default: 20, twins: 1 } })
    return {
      ...server,
      second,
      notes,
      begun: () => begun,
      clear: () => void (bad = false),
      open,
      unfinished: Effect.map(
        contents(server.nats),
        ({ subjects }) => subjects.filter((one) => !/\.(succeeded|failed|cancelled)\./.test(one)),
      ),
    }
  })

  const test = (
    name: string,
    body: (world: World) => Effect.Effect<unknown, unknown, Client.Client>,
    options: { readonly timeout?: number; readonly alarmMillis?: number } = {},
  ) =>
    effect(name, () =>
      Effect.provideService(
        Effect.flatMap(world, (one) => one.provide(body(one))),
        Wire.AlarmMillis,
        options.alarmMillis ?? 30_000,
      ), options)

  const end = (id: string) => Batch.await(id, { within: "10 seconds" })
  const operate = (id: string, operation: Operation.Operation) =>
    Client.Client.use((client) => client.operate(id, operation))
  const finalOf = (id: string) =>
    Client.Client.use((client) => client.awaitRecord(id, { within: "10 seconds" }))
  const nothingLeft = ({ unfinished }: World) => eventually(unfinished, (left) => left.length === 0)

  test("ends as succeeded when all members have, and what follows it runs once", (world) =>
    Effect.gen(function* () {
      const first = yield* Work.enqueue(1)
      let due = 0
      const id = yield* Batch.create({ description: "mixed" }, (batch) =>
        Effect.gen(function* () {
          const one = yield* batch.add(Work, 1)
          yield* batch.addAfter(one, Work, Job.parentResult)
          yield* batch.addAfter(first, Note, "after one outside")
          yield* batch.add(Work, 3, { delay: "300 millis" })
          due = performance.now() + 300
          const inner = yield* batch.addBatch({}, (nested) => nested.addMany(Work, numbers(20)))
          yield* batch.addAfter(inner, Note, "after the nested one")
          yield* batch.addBatch({}, () => Effect.void)
        }))
      const followers = yield* Effect.forEach(
        ["succeeded", "failed", "cancelled", "any"] as const,
        (on) => Note.enqueueAfter(id, on, { on }),
      )
      const next = yield* Batch.create({}, (batch) => batch.addAfter(id, Note, "next batch"))
      const record = yield* end(id)
      assert.ok(performance.now() >= due - 50)
      assert.deepEqual([record.state, record.total, record.members.succeeded], ["succeeded", 7, 7])
      const states = yield* Effect.forEach(followers, finalOf)
      assert.deepEqual(
        states.map(({ state }) => state),
        ["succeeded", "cancelled", "cancelled", "succeeded"],
      )
      assert.equal((yield* end(next)).state, "succeeded")
      assert.deepEqual(
        [...world.notes].sort(),
        ["after one outside", "after the nested one", "any", "next batch", "succeeded"],
      )
      yield* nothingLeft(world)
    }))

  test("ends as completed when a member fails, reopens for its requeue and ends again", (world) =>
    Effect.gen(function* () {
      let member = ""
      let inner = ""
      const id = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          yield* batch.addMany(Work, numbers(3))
          inner = yield* batch.addBatch({}, (nested) =>
            Effect.map(nested.add(Flaky, "x"), (one) => void (member = one)))
        }))
      const failed = yield* Note.enqueueAfter(id, "failed", { on: "failed" })
      const well = yield* Note.enqueueAfter(id, "well")
      const first = yield* end(id)
      assert.deepEqual([first.state, first.members.failed], ["completed", 1])
      assert.match(first.reason ?? "", /of 4 members 1 failed and 0 were cancelled/)
      assert.equal((yield* Batch.get(inner)).state, "completed")
      assert.deepEqual(
        [(yield* finalOf(failed)).state, (yield* finalOf(well)).state],
        ["succeeded", "cancelled"],
      )
      world.clear()
      assert.equal((yield* operate(member, Operation.requeue()))._tag, "changed")
      const again = yield* eventually(Batch.get(id), ({ state }) => state === "succeeded")
      assert.deepEqual([again.total, again.members.succeeded], [4, 4])
      assert.equal((yield* Batch.get(inner)).state, "succeeded")
      assert.deepEqual(world.notes, ["failed"])
      yield* nothingLeft(world)
    }))

  test("opens for several requeues at once and ends when the last of them has", (world) =>
    Effect.gen(function* () {
      const members: Array<string> = []
      const id = yield* Batch.create({}, (batch) =>
        Effect.map(
          batch.addMany(Flaky, numbers(30).map(String)),
          (ids) => void members.push(...ids),
        ))
      assert.equal((yield* end(id)).members.failed, 30)
      world.clear()
      const answers = yield* Effect.forEach(
        members,
        (one) => operate(one, Operation.requeue()),
        { concurrency: "unbounded" },
      )
      assert.ok(answers.every(({ _tag }) => _tag === "changed"))
      const record = yield* eventually(Batch.get(id), ({ state }) => state === "succeeded")
      assert.equal(record.members.succeeded, 30)
      yield* nothingLeft(world)
    }))

  test("is added to while it runs, while it ends, and after its end", (world) =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) => batch.add(Work, 0))
      const follower = yield* Note.enqueueAfter(id, "once", { on: "any" })
      // Each addition meets the end that the one before has caused, or just not.
      for (const n of numbers(40)) yield* Batch.attach(id, (batch) => batch.add(Work, n))
      yield* finalOf(follower)
      yield* end(id)
      yield* Batch.attach(id, (batch) => batch.add(Note, "more"))
      const later = yield* Note.enqueueAfter(id, "twice")
      yield* finalOf(later)
      const record = yield* end(id)
      assert.deepEqual([record.state, record.total], ["succeeded", 42])
      assert.deepEqual([...world.notes].sort(), ["more", "once", "twice"])
      yield* nothingLeft(world)
    }))

  test("grows from within the handlers of its members", (world) =>
    Effect.gen(function* () {
      const id = yield* Batch.create(
        {},
        (batch) => batch.add(Spread, { batch: batch.id, depth: 4 }),
      )
      const follower = yield* Note.enqueueAfter(id, "all")
      yield* finalOf(follower)
      const record = yield* end(id)
      assert.deepEqual([record.state, record.total], ["succeeded", 31])
      assert.deepEqual(world.notes, ["all"])
    }))

  test("is cancelled with all of its members, wherever they are, and with what is nested", (world) =>
    Effect.gen(function* () {
      const ids: Record<string, string> = {}
      const id = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          ids["slow"] = yield* batch.add(Slow, undefined)
          ids["child"] = yield* batch.addAfter(ids["slow"], Note, "child")
          ids["grandchild"] = yield* batch.addAfter(ids["child"], Note, "grandchild")
          ids["due"] = yield* batch.add(Work, 1, { delay: "1 hour" })
          ids["stranger"] = yield* batch.add(Stranger, undefined)
          ids["inner"] = yield* batch.addBatch({}, (nested) =>
            Effect.map(nested.add(Slow, undefined), (one) => void (ids["nested"] = one)))
        }))
      const outside = yield* Note.enqueueAfter(ids["due"] ?? "", "outside", { on: "cancelled" })
      const after = yield* Note.enqueueAfter(id, "cancelled", { on: "cancelled" })
      yield* eventually(Effect.sync(world.begun), (begun) => begun === 2)
      assert.equal((yield* operate(id, Operation.cancel()))._tag, "changed")
      for (const [name, one] of Object.entries(ids)) {
        assert.equal((yield* finalOf(one)).state, "cancelled", name)
      }
      const record = yield* Batch.get(id)
      assert.deepEqual([record.state, record.members.cancelled], ["cancelled", 6])
      assert.equal((yield* Batch.get(ids["inner"] ?? "")).state, "cancelled")
      yield* finalOf(outside)
      yield* finalOf(after)
      assert.deepEqual([...world.notes].sort(), ["cancelled", "outside"])
      world.open()
      yield* nothingLeft(world)
      assert.equal((yield* operate(ids["slow"] ?? "", Operation.requeue()))._tag, "conflict")
      assert.equal(world.begun(), 2)
    }))

  test("starts no member after its cancellation was stored", (world) =>
    Effect.gen(function* () {
      const id = yield* Batch.create({}, (batch) => batch.addMany(Work, numbers(3_000)))
      yield* operate(id, Operation.cancel())
      const started = () =>
        [world, world.second].flatMap(({ events }) => events.filter(is("AttemptStarted"))).length
      const before = started()
      const { members } = yield* Batch.get(id)
      assert.equal(members.succeeded + members.cancelled, 3_000)
      yield* nothingLeft(world)
      assert.equal(started(), before)
      assert.ok(members.cancelled > 0)
    }))

  test("with members of a name that no server knows waits for them", (world) =>
    Effect.gen(function* () {
      let stranger = ""
      const id = yield* Batch.create({}, (batch) =>
        Effect.gen(function* () {
          stranger = yield* batch.add(Stranger, undefined)
          yield* batch.add(Work, 1)
        }))
      yield* eventually(
        Batch.get(id),
        ({ members }) => members.succeeded === 1 && members.scheduled === 1,
      )
      assert.equal((yield* Batch.get(id)).state, "started")
      yield* operate(stranger, Operation.cancel())
      const { members, state } = yield* end(id)
      assert.deepEqual([state, members.succeeded, members.cancelled], ["completed", 1, 1])
      void world
    }))

  test(
    "that somebody stopped adding to, or building, is rid of that and ends",
    (world) =>
      Effect.gen(function* () {
        const id = yield* Batch.create({}, (batch) => batch.add(Slow, undefined))
        const build = (staged: Deferred.Deferred<void>) => (batch: Batch.Builder) =>
          batch.addMany(Work, numbers(10)).pipe(
            Effect.andThen(Deferred.succeed(staged, undefined)),
            Effect.andThen(Effect.never),
          )
        // Their connection is closed while they are at it.
        const stopped = yield* Effect.scoped(Effect.gen(function* () {
          const dying = yield* produce(nats.layer(world.nats.namespace))
          return yield* Effect.forEach(
            [
              (staged: Deferred.Deferred<void>) => Effect.asVoid(Batch.attach(id, build(staged))),
              (staged: Deferred.Deferred<void>) => Effect.asVoid(Batch.create({}, build(staged))),
            ],
            Effect.fnUntraced(function* (act) {
              const staged = yield* Deferred.make<void>()
              const fiber = yield* Effect.forkDetach(dying.provide(act(staged)))
              yield* Deferred.await(staged)
              return fiber
            }),
          )
        }))
        world.open()
        const { state, total } = yield* end(id)
        assert.deepEqual([state, total], ["succeeded", 1])
        yield* nothingLeft(world)
        yield* Fiber.interruptAll(stopped)
      }),
    { alarmMillis: 500 },
  )

  /** How often the two last members of a batch end at once. */
  const full = process.env["PORTFIRE_RACES"]
  const races = Number(full ?? 100)

  test(
    "ends once when its two last members end at once on two servers",
    (world) =>
      Effect.gen(function* () {
        const started = performance.now()
        for (const n of numbers(races)) {
          const id = yield* Batch.create({}, (batch) => batch.addMany(Twin, [n, n]))
          yield* finalOf(yield* Note.enqueueAfter(id, String(n)))
        }
        const seconds = (performance.now() - started) / 1_000
        yield* nothingLeft(world)
        assert.deepEqual(world.notes, numbers(races).map(String))
        const both = [world, world.second].map(({ events }) =>
          events.filter(ended()).filter(({ name }) => name === "twin").length
        )
        assert.deepEqual(both, [races, races])
        const { lastSequence } = yield* contents(world.nats)
        const writes = (lastSequence / races).toFixed(1)
        if (full !== undefined) {
          console.log(`${races} races in ${seconds.toFixed(1)} s, ${writes} writes each`)
        }
      }),
    { timeout: 300_000 },
  )
})
