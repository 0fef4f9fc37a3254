import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, type Client, Errors, Job, Middleware, Operation, Retry } from "../../mod.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { ended, gate, is, produce, serve, subjectsIn } from "./harness.ts"

const Mail = Job.make("mail", { payload: Schema.Number, queue: "mail" })
const Image = Job.make("image", {
  payload: Schema.Number,
  queue: "image",
  retry: Retry.fixed({ attempts: 1, delay: 0 }),
})

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** Ids of the jobs in a state, from what lies in the stream. */
const idsIn = (nats: Parameters<typeof subjectsIn>[0], state: string) =>
  Effect.map(
    subjectsIn(nats, `${state}.>`),
    (subjects) => new Set(subjects.map((subject) => subject.split(".").at(-1) ?? "")),
  )

describe("An operation by filter", () => {
  const nats = testServer()

  effect(
    "meets what the filter says, no more, and changes nothing in a dry run",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const server = yield* serve(
          layer,
          Image.toLayer((n) => Effect.die(new Error(n % 2 ? `Disk FULL at ${n}` : "no such file"))),
          { queues: { image: 20 } },
        )
        const { client, nats: connected, provide } = server
        const failed = yield* provide(Image.enqueueMany(numbers(4)))
        yield* server.until(ended(), { count: 4 })
        const [a = "", b = ""] = yield* provide(Mail.enqueueMany([1, 2]))
        const low = yield* provide(Mail.enqueue(3, { queue: "other", priority: "low" }))
        const later = yield* provide(Mail.schedule(4, { delay: "1 hour" }))
        const child = yield* provide(Mail.enqueueAfter(later, 5))
        const batch = yield* provide(
          Batch.create({ description: "two" }, (builder) => builder.addMany(Mail, [6, 7])),
        )
        yield* eventually(subjectsIn(connected, "ready._engine.>"), ({ length }) => length === 0)
        const members = [...yield* idsIn(connected, "ready")].filter((id) =>
          ![a, b, low].includes(id)
        )
        const odd = failed.filter((_, n) => n % 2)
        const cancel = Operation.cancel()
        const requeue = Operation.requeue()
        const cases: ReadonlyArray<
          readonly [Client.JobFilter, Operation.Operation, ReadonlyArray<string>]
        > = [
          [{ all: true }, cancel, [a, b, low, later, child, ...members]],
          [{ all: true }, requeue, failed],
          [{ queue: "mail" }, cancel, [a, b, later, child, ...members]],
          [{ queue: "mail", state: "enqueued" }, cancel, [a, b, ...members]],
          [{ state: ["scheduled", "awaiting"] }, cancel, [later, child]],
          [{ state: "processing" }, cancel, []],
          [{ name: "mail", group: "_", queue: "other" }, cancel, [low]],
          [{ group: batch }, cancel, members],
          [{ group: batch, name: "image" }, cancel, []],
          [{ error: "disk full" }, requeue, odd],
          [{ error: "disk full", queue: "mail" }, requeue, []],
          [{ olderThan: "1 hour" }, cancel, []],
          [{ newerThan: "1 hour", queue: "other" }, cancel, [low]],
          [{ newerThan: 0 }, Operation.remove(), []],
          [{ olderThan: 0, name: "image" }, Operation.remove(), failed],
          [{ all: true }, Operation.runNow(), [later]],
        ]
        const before = yield* subjectsIn(connected)
        for (const [filter, operation, ids] of cases) {
          const changes = yield* client.operateWhere(filter, operation, { dryRun: true })
          const expected = { matched: ids.length, changed: 0, conflicts: 0, dryRun: true }
          assert.deepEqual(changes, expected, JSON.stringify([filter, operation]))
        }
        assert.deepEqual(new Set(yield* subjectsIn(connected)), new Set(before))
        // And what is met is what is changed.
        const changes = yield* client.operateWhere({ error: "disk full" }, Operation.remove())
        assert.deepEqual(changes, { matched: 2, changed: 2, conflicts: 0, dryRun: false })
        assert.deepEqual(
          yield* idsIn(connected, "failed"),
          new Set(failed.filter((_, n) => n % 2 === 0)),
        )
        yield* client.operateWhere({ group: batch }, cancel)
        const { cancelled } = (yield* provide(Batch.await(batch))).members
        assert.equal(cancelled, 2)
        yield* client.operateWhere({ name: "mail", queue: "other" }, cancel)
        assert.deepEqual(yield* idsIn(connected, "cancelled"), new Set([low, ...members]))
      }),
  )

  effect(
    "refuses a filter that it doesn't understand, and writes nothing",
    () =>
      Effect.gen(function* () {
        const { client, nats: connected, provide } = yield* produce(nats.layer())
        yield* provide(Mail.enqueue(1))
        const bad: ReadonlyArray<readonly [unknown, Operation.Operation]> = [
          [{}, Operation.cancel()],
          [{ queue: undefined }, Operation.cancel()],
          [{ all: false }, Operation.cancel()],
          [{ quue: "mail" }, Operation.cancel()],
          [{ queue: "mail.*" }, Operation.cancel()],
          [{ queue: "_engine" }, Operation.cancel()],
          [{ name: "_where" }, Operation.cancel()],
          [{ group: ">" }, Operation.cancel()],
          [{ state: "failed" }, Operation.cancel()],
          [{ state: [] }, Operation.cancel()],
          [{ state: "enqueued" }, Operation.requeue()],
          [{ error: "" }, Operation.requeue()],
          [{ olderThan: -1 }, Operation.requeue()],
          [{ newerThan: "soon" }, Operation.requeue()],
          [{ all: true }, { _tag: "explode" } as unknown as Operation.Operation],
          ["mail", Operation.cancel()],
        ]
        for (const [filter, operation] of bad) {
          const error = yield* Effect.flip(
            client.operateWhere(filter as Client.JobFilter, operation),
          )
          assert.ok(error instanceof Errors.InvalidOptions, JSON.stringify(filter))
        }
        assert.equal((yield* subjectsIn(connected)).length, 1)
      }),
  )

  effect("is done by the caller where no server is", () =>
    Effect.gen(function* () {
      const { client, nats: connected, provide } = yield* produce(nats.layer())
      yield* provide(Mail.enqueueMany(numbers(2_500)))
      const keep = yield* provide(Image.enqueue(1, { queue: "mail" }))
      yield* provide(Mail.enqueueMany(numbers(600)))
      const changes = yield* client.operateWhere({ name: "mail" }, Operation.cancel())
      assert.deepEqual(changes, { matched: 3_100, changed: 3_100, conflicts: 0, dryRun: false })
      assert.deepEqual(yield* idsIn(connected, "ready"), new Set([keep]))
      assert.equal((yield* idsIn(connected, "cancelled")).size, 3_100)
      const again = yield* client.operateWhere({ state: "cancelled" }, Operation.requeue())
      assert.equal(again.changed, 3_100)
      assert.equal((yield* subjectsIn(connected)).length, 3_101)
      const moved = yield* client.operateWhere({ queue: "mail" }, Operation.move({ queue: "b" }))
      assert.equal(moved.changed, 3_101)
      assert.equal((yield* subjectsIn(connected, "ready.b.>")).length, 3_101)
      yield* client.operateWhere({ queue: "b" }, Operation.reschedule({ delay: "1 hour" }))
      assert.equal((yield* subjectsIn(connected, "later.b.>")).length, 3_101)
      const now = yield* client.operateWhere({ state: "scheduled" }, Operation.runNow())
      assert.equal(now.changed, 3_101)
      yield* client.operateWhere({ queue: "b" }, Operation.cancel())
      const removed = yield* client.operateWhere({ all: true }, Operation.remove())
      assert.equal(removed.changed, 3_101)
      assert.deepEqual(yield* subjectsIn(connected), [])
    }))

  effect(
    "is done by a server, for jobs that it works on meanwhile too: each ends once",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const told: Array<Middleware.Transition> = []
        const observer = Middleware.make("observer", {
          transition: (transition) => Effect.sync(() => void told.push(transition)),
        })
        let ran = 0
        const server = yield* serve(
          layer,
          Mail.toLayer(() => Effect.andThen(Effect.sleep(1), Effect.sync(() => void ran++))).pipe(
            Layer.provideMerge(Middleware.layer([observer])),
          ),
          { queues: { mail: 20 } },
        )
        const { client, nats: connected, provide } = yield* produce(layer)
        const count = 6_000
        const first = yield* provide(Mail.enqueueMany(numbers(count)))
        const changing = yield* Effect.forkChild(
          client.operateWhere({ queue: "mail" }, Operation.cancel({ reason: "enough" })),
        )
        // Not meant, for they weren't there.
        const second = yield* Effect.andThen(
          server.until(is("AttemptStarted", undefined, ({ name }) => name === "_where")),
          provide(Mail.enqueueMany(numbers(500))),
        )
        const { changed } = yield* Fiber.join(changing)
        yield* eventually(subjectsIn(connected, "ready.>"), ({ length }) => length === 0)
        const succeeded = yield* idsIn(connected, "succeeded.mail")
        const cancelled = yield* idsIn(connected, "cancelled")
        assert.equal(cancelled.size, changed)
        assert.equal(succeeded.size + cancelled.size, count + 500)
        assert.ok(changed > 0 && ran >= succeeded.size)
        for (const id of second) assert.ok(succeeded.has(id))
        for (const id of first) assert.ok(succeeded.has(id) !== cancelled.has(id))
        assert.equal(told.filter(({ to }) => to === "cancelled").length, changed)
      }),
  )

  effect("requeues what fails again only once", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const server = yield* serve(layer, Image.toLayer(() => Effect.die("no")), {
        queues: { image: 50 },
      })
      const { client, provide } = server
      const ids = yield* provide(Image.enqueueMany(numbers(700)))
      const member = yield* provide(
        Batch.create({}, (builder) => builder.add(Image, 1)).pipe(
          Effect.tap((batch) => Batch.await(batch)),
        ),
      )
      const isEnd = is("JobMoved", undefined, ({ name, to }) => name === "image" && to === "failed")
      yield* server.until(isEnd, { count: 701 })
      const changes = yield* client.operateWhere({ state: "failed" }, Operation.requeue())
      assert.deepEqual(changes, { matched: 701, changed: 701, conflicts: 0, dryRun: false })
      yield* server.until(isEnd, { count: 1_402 })
      for (const id of [ids[0] ?? "", ids[699] ?? ""]) {
        const { attempts } = yield* eventually(client.get(id), ({ state }) => state === "failed")
        assert.equal(attempts.length, 2)
      }
      const { state } = yield* provide(Batch.await(member))
      assert.equal(state, "completed")
      assert.equal(server.events.filter(isEnd).length, 1_402)
    }))

  effect(
    "that cancels interrupts what runs, and ends or releases what follows",
    () =>
      Effect.gen(function* () {
        const open = gate()
        let interrupted = 0
        const server = yield* serve(
          nats.layer(freshNamespace()),
          Mail.toLayer(() =>
            Effect.onInterrupt(open.wait, () => Effect.sync(() => void interrupted++))
          ),
          { queues: { mail: 2 } },
        )
        const { client, provide } = server
        const running = yield* provide(Mail.enqueueMany([1, 2]))
        yield* server.until(is("AttemptStarted"), { count: 2 })
        const waiting = yield* provide(Mail.enqueueMany([3, 4]))
        const later = yield* provide(Mail.schedule(5, { delay: "1 hour" }))
        const parents = [...running, ...waiting, later]
        const unique = yield* provide(Mail.enqueue(6, { unique: { key: "six" } }))
        const follow = (options: object) =>
          provide(Effect.forEach(parents, (id) => Image.enqueueAfter(id, 1, options)))
        const children = yield* follow({})
        const others = yield* follow({ on: "cancelled" })
        const only = yield* client.operateWhere({ state: "processing" }, Operation.cancel())
        assert.equal(only.changed, 2)
        yield* eventually(Effect.sync(() => interrupted), (count) => count === 2)
        const rest = yield* client.operateWhere({ queue: "mail" }, Operation.cancel())
        // Those that wait may have been taken on in the meantime.
        assert.equal(rest.changed, 4)
        for (const id of [...parents, ...children]) {
          assert.equal((yield* client.get(id)).state, "cancelled")
        }
        for (const id of others) assert.equal((yield* client.get(id)).state, "enqueued")
        const next = yield* provide(Mail.submit(6, { unique: { key: "six" } }))
        assert.ok(next.created && next.id !== unique)
        open.open()
      }),
  )
})
