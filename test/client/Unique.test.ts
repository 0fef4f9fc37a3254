import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, Retry } from "../../mod.ts"
import * as Existing from "../../src/client/Existing.ts"
import * as Operation from "../../src/client/Operation.ts"
import * as Moves from "../../src/client/Moves.ts"
import * as Claims from "../../src/nats/Claims.ts"
import * as Conditional from "../../src/nats/Conditional.ts"
import * as JobView from "../../src/nats/JobView.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { ended, is, serve, subjectsIn } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { idsIn } from "../nats/stream.ts"
import { stored, worldTest } from "./world.ts"

const payload = Schema.Struct({ account: Schema.String, n: Schema.Number })
const Sync = Job.make("sync", { payload, unique: { key: ({ account }) => account } })
const Plain = Job.make("plain", { payload, retry: Retry.none })

const of = (n: number, account = "a") => ({ account, n })
const bad = (value: unknown) => value as never

/** What lies in the stream beside the jobs. */
const claims = Effect.flatMap(Wire.Wire, ({ nats }) => subjectsIn(nats, "claim.>"))

const viewOf = (id: string) =>
  Effect.gen(function* () {
    const wire = yield* Wire.Wire
    const view = yield* JobView.at(wire, Subjects.addressOf(id, wire.partitions))
    return view ?? (yield* Effect.die(new Error(`no job ${id}`)))
  })

/** Ends a job as a server would that dies before it releases the claim. */
const endAndDie = (id: string) =>
  Effect.gen(function* () {
    const wire = yield* Wire.Wire
    const view = yield* viewOf(id)
    const outcome = { ended: Date.now() }
    yield* Moves.write(
      wire,
      view,
      Moves.ended(wire.subjects, view.current, "succeeded", outcome),
      5_000,
    )
    yield* Conditional.remove(wire, view.address.partition, view.current.stored.sequence)
  })

describe("a unique key", () => {
  const server = testServer()
  const test = worldTest(server)

  test("is held by one of many callers at once; all get the id of its job", () =>
    Effect.gen(function* () {
      const { nats } = yield* Wire.Wire
      for (const unique of [{}, { until: "started" }, { until: "1 minute" }] as const) {
        const answers = yield* Effect.forEach(
          Array.from({ length: 32 }, (_, n) => n),
          (n) => Sync.submit(of(n, JSON.stringify(unique)), { unique }),
          { concurrency: "unbounded" },
        )
        assert.equal(answers.filter(({ created }) => created).length, 1)
        assert.equal(new Set(answers.map(({ id }) => id)).size, 1)
      }
      const jobs = (yield* idsIn(nats)).filter((id) => id.length === 26)
      assert.deepEqual([jobs.length, (yield* claims).length], [3, 3])
    }))

  test("is known for its own by an enqueue whose answer is lost, which stores nothing twice", () =>
    Effect.gen(function* () {
      const { publisher } = yield* Wire.Wire
      const losing = (write: Existing.Write) => {
        // By then the job is on its way.
        if (write === "claimed") queueMicrotask(() => publisher.reconnected())
      }
      const answer = yield* Effect.provideService(Sync.submit(of(1)), Existing.OnWrite, losing)
      assert.ok(answer.created)
      assert.equal((yield* stored).lastSequence, 2)
      assert.equal((yield* Sync.submit(of(2))).id, answer.id)
    }))

  test("belongs to one job name, and decides its partition", () =>
    Effect.gen(function* () {
      const unique = { key: "a" }
      const ids = [yield* Sync.enqueue(of(1)), yield* Plain.enqueue(of(1), { unique })]
      assert.notEqual(ids[0], ids[1])
      const many = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, n) => `key ${n}\0\u{1F511}`.padEnd(n * 50, "x")),
        (key) => Plain.enqueue(of(1), { unique: { key } }),
      )
      const again = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, n) => `key ${n}\0\u{1F511}`.padEnd(n * 50, "x")),
        (key) => Plain.enqueue(of(1), { unique: { key } }),
      )
      assert.deepEqual(again, many)
      assert.equal(new Set(many.map((id) => id.at(-1))).size, 3)
      for (const id of [...ids, ...many]) {
        assert.equal((yield* Client.Client.use((c) => c.get(id))).id, id)
      }
    }), { partitions: 3 })

  test("that is held is an error where the caller asks for it", () =>
    Effect.gen(function* () {
      const id = yield* Sync.schedule(of(1), { delay: "1 hour" })
      const error = yield* Effect.flip(Sync.enqueue(of(2), { unique: { onConflict: "fail" } }))
      assert.ok(error._tag === "JobExists", error._tag)
      assert.deepEqual([error.id, error.state], [id, "scheduled"])
    }))

  test("debounces with replace and a delay: one job, the newest payload, from the newest time on", () =>
    Effect.gen(function* () {
      const unique = { onConflict: "replace" } as const
      const ids: Array<string> = []
      const dues: Array<number> = []
      for (let n = 0; n < 5; n++) {
        ids.push(yield* Sync.schedule(of(n), { delay: `${n + 10} minutes`, unique }))
        dues.push((yield* Sync.get(ids[0] as string)).due?.getTime() ?? 0)
      }
      assert.equal(new Set(ids).size, 1)
      assert.deepEqual(dues, [...dues].sort((a, b) => a - b))
      const [id = ""] = ids
      assert.deepEqual((yield* Sync.get(id)).payload, of(4))
      assert.equal((yield* stored).messages, 2)
      // Without a delay it is ready at once, and what was to come is gone.
      yield* Sync.enqueue(of(5), { unique })
      const { state, payload } = yield* Sync.get(id)
      assert.deepEqual([state, payload], ["enqueued", of(5)])
      assert.equal((yield* stored).messages, 2)
    }))

  test("is taken over at once from a job that ended without releasing it", () =>
    Effect.gen(function* () {
      for (const delay of [undefined, "1 hour"] as const) {
        const first = yield* Sync.enqueue(of(1))
        yield* endAndDie(first)
        const answers = yield* Effect.forEach(
          [1, 2, 3, 4, 5, 6, 7, 8],
          (n) => Sync.submit(of(n), { delay }),
          { concurrency: "unbounded" },
        )
        assert.equal(answers.filter(({ created }) => created).length, 1)
        const second = answers[0]?.id ?? ""
        assert.deepEqual([...new Set(answers.map(({ id }) => id))], [second])
        assert.notEqual(second, first)
        const { current } = yield* viewOf(second)
        yield* Claims.releaseClaim(
          yield* Wire.Wire,
          current.subject,
          current.envelope.progress.claim as never,
        )
        assert.deepEqual(yield* claims, [], "the claim of the second one can't be released")
      }
    }))

  test("without a job is waited for, until the job comes or the claim is old", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const key = Claims.keyOf(yield* Claims.hashOf("sync", "a"), 1)
      const body = { id: "01ARZ3NDEKTSV4RRFFQ69G5FA0", nonce: "x", until: "finished" } as const
      yield* Claims.put(wire, key, body, 0, 1_000)
      const began = performance.now()
      const { created, id } = yield* Effect.provideService(
        Sync.submit(of(1)),
        Claims.ClaimGrace,
        700,
      )
      const took = performance.now() - began
      assert.ok(took > 600 && took < 3_000, `${took} ms`)
      assert.ok(created && id !== body.id)
      // Who comes too late finds that the key isn't his any more.
      assert.equal((yield* idsIn(wire.nats)).filter((id) => id.length === 26).length, 1)
    }))

  test("can be claimed again by a job that is requeued, unless another one holds it", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const first = yield* Sync.enqueue(of(1))
      yield* endAndDie(first)
      const { address, current } = yield* viewOf(first)
      const kept = yield* Claims.reclaim(wire, address, current.envelope)
      assert.ok(kept._tag === "Kept" && kept.claim !== undefined)
      assert.ok(kept.claim.sequence > current.stored.sequence)
      yield* Claims.releaseClaim(wire, address, kept.claim)
      assert.equal((yield* Claims.reclaim(wire, address, current.envelope))._tag, "Kept")
      // A requeue that is under way holds the key for as long as it may take.
      const second = yield* Effect.provideService(Sync.submit(of(2)), Claims.ClaimGrace, 300)
      assert.deepEqual([second.created, second.id === first], [true, false])
      assert.deepEqual(
        yield* Claims.reclaim(wire, address, current.envelope),
        { _tag: "Taken", by: second.id },
      )
    }))

  test("goes to one of a requeue and several enqueues at once", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const { nats } = yield* Wire.Wire
      let requeued = 0
      for (let round = 0; round < 40; round++) {
        const account = `account ${round}`
        const first = yield* Sync.enqueue(of(1, account))
        yield* endAndDie(first)
        const [answer, ...submitted] = yield* Effect.all([
          Effect.delay(client.operate(first, Operation.requeue()), round % 8),
          ...[2, 3, 4].map((n) => Effect.delay(Sync.submit(of(n, account)), (round * n) % 7)),
        ], { concurrency: "unbounded" })
        const won = "_tag" in answer && answer._tag === "changed"
        if (won) requeued++
        const created = submitted.filter((one) => "created" in one && one.created)
        assert.equal(created.length, won ? 0 : 1, `round ${round}`)
        const live = yield* subjectsIn(nats, "ready.>")
        assert.equal(live.length, round + 1, `round ${round}`)
      }
      assert.ok(requeued > 0 && requeued < 40, `${requeued} requeues won`)
    }))

  test("is refused where it can't be one, before anything is stored", () =>
    Effect.gen(function* () {
      const refused = (options: unknown, field: string) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(Plain.enqueue(of(1), bad(options)))
          assert.deepEqual([error._tag, "field" in error && error.field], ["InvalidOptions", field])
        })
      for (const key of ["", "x".repeat(1_001), 7, undefined]) {
        yield* refused({ unique: { key } }, "unique.key")
      }
      yield* refused({ unique: { key: "a", until: "never" } }, "unique.until")
      yield* refused({ unique: { key: "a", until: 0 } }, "unique.until")
      yield* refused({ unique: { key: "a", onConflict: "x" } }, "unique.onConflict")
      yield* refused({ unique: { key: "a", for: 1 } }, "unique.for")
      yield* refused({ unique: "a" }, "unique")
      const many = yield* Effect.flip(Sync.enqueueMany([of(1)]))
      assert.deepEqual([many._tag, "field" in many && many.field], ["InvalidOptions", "unique"])
      const throwing = Job.make("throwing", {
        unique: {
          key: () => {
            throw new Error("no key")
          },
        },
      })
      assert.match((yield* Effect.flip(throwing.enqueue())).message, /no key/)
      assert.throws(() => Job.make("x", { unique: bad({ key: "text" }) }), /unique\.key/)
      assert.equal((yield* stored).lastSequence, 0)
    }))
})

describe("a unique key while servers run", () => {
  const nats = testServer()

  const start = (handler: (payload: { readonly n: number }) => Effect.Effect<void>) =>
    Effect.gen(function* () {
      const server = yield* serve(
        nats.layer(freshNamespace()),
        Layer.merge(Sync.toLayer(handler), Plain.toLayer(handler)),
        { gracePeriod: "50 millis" },
      )
      return { ...server, claims: subjectsIn(server.nats, "claim.>") }
    })

  effect("is released when its job has succeeded or failed", () =>
    Effect.gen(function* () {
      const { claims, provide, until } = yield* start(({ n }) =>
        n === 0 ? Effect.void : Effect.die("no")
      )
      for (const n of [0, 1, 0]) {
        const { created, id } = yield* provide(Plain.submit(of(n), { unique: { key: "a" } }))
        assert.ok(created)
        yield* until(ended(id))
        yield* eventually(claims, (left) => left.length === 0)
      }
    }))

  effect(
    "is released by a cancel, and claimed again by a requeue where nobody holds it",
    () =>
      Effect.gen(function* () {
        const { claims, client, provide, until } = yield* start(({ n }) =>
          n === 1 ? Effect.never : Effect.void
        )
        const cancelled: Array<string> = []
        // One that waits to come, one that runs.
        for (const options of [{ delay: "1 hour" }, {}] as const) {
          const { created, id } = yield* provide(Sync.submit(of(1), options))
          assert.ok(created)
          if (options.delay === undefined) yield* until(is("AttemptStarted", id))
          assert.equal((yield* client.operate(id, Operation.cancel()))._tag, "changed")
          yield* eventually(claims, (left) => left.length === 0)
          cancelled.push(id)
        }
        const [first = ""] = cancelled
        const holder = yield* provide(Sync.submit(of(2), { delay: "1 hour" }))
        assert.equal((yield* client.operate(first, Operation.requeue()))._tag, "conflict")
        yield* client.operate(holder.id, Operation.cancel())
        yield* eventually(claims, (left) => left.length === 0)
        assert.equal((yield* client.operate(first, Operation.requeue()))._tag, "changed")
        yield* until(is("AttemptStarted", first))
        assert.deepEqual(yield* provide(Sync.submit(of(3))), { id: first, created: false })
      }),
  )

  effect("held until started is free while its job runs", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { claims, provide, until } = yield* start(() => Deferred.await(gate))
      const unique = { until: "started" } as const
      const first = yield* provide(Sync.submit(of(1), { unique, delay: "300 millis" }))
      assert.deepEqual(yield* provide(Sync.submit(of(2), { unique })), {
        id: first.id,
        created: false,
      })
      yield* until(is("AttemptStarted", first.id))
      yield* eventually(claims, (left) => left.length === 0)
      const second = yield* provide(Sync.submit(of(3), { unique }))
      assert.ok(second.created)
      yield* until(is("AttemptStarted", second.id))
      yield* Deferred.succeed(gate, undefined)
      yield* until(ended(), { count: 2 })
    }))

  effect("held for a time throttles, whatever becomes of the job", () =>
    Effect.gen(function* () {
      const { claims, provide, until } = yield* start(() => Effect.void)
      const submit = (n: number, onConflict: Job.OnConflict = "ignore") =>
        provide(Sync.submit(of(n), { unique: { until: "1200 millis", onConflict } }))
      const first = yield* submit(1)
      yield* until(ended(first.id))
      assert.deepEqual(yield* submit(2), { id: first.id, created: false })
      assert.deepEqual(yield* submit(3, "replace"), { id: first.id, created: false })
      assert.equal((yield* Effect.flip(submit(4, "fail")))._tag, "JobExists")
      yield* eventually(claims, (left) => left.length === 0)
      assert.ok((yield* submit(5)).created)
    }))

  effect(
    "passes with replace to a new job when the one that has it runs",
    () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const seen: Array<number> = []
        const { claims, provide, until } = yield* start(({ n }) => {
          seen.push(n)
          return n === 1 ? Deferred.await(gate) : Effect.void
        })
        const unique = { onConflict: "replace" } as const
        const first = yield* provide(Sync.submit(of(1), { unique }))
        yield* until(is("AttemptStarted", first.id))
        const second = yield* provide(Sync.submit(of(2), { unique, delay: "1 hour" }))
        assert.ok(second.created && second.id !== first.id)
        yield* Deferred.succeed(gate, undefined)
        yield* until(ended(first.id))
        const third = yield* provide(Sync.submit(of(3), { unique }))
        assert.deepEqual(third, { id: second.id, created: false })
        yield* until(ended(second.id))
        yield* eventually(claims, (left) => left.length === 0)
        assert.deepEqual(seen, [1, 3])
      }),
  )

  effect(
    "never lets two of its jobs run at once, and each of them runs",
    () =>
      Effect.gen(function* () {
        const running = new Map<string, number>()
        let most = 0
        const ran: Array<string> = []
        const Busy = Job.make("busy", {
          payload: Schema.String,
          unique: { key: (key) => key },
          retry: Retry.none,
        })
        const live = Busy.toLayer((key) =>
          Effect.gen(function* () {
            const { id } = yield* Job.current
            const now = (running.get(key) ?? 0) + 1
            running.set(key, now)
            most = Math.max(most, now)
            yield* Effect.sleep("5 millis")
            running.set(key, now - 1)
            ran.push(id)
          })
        )
        const { provide, until } = yield* serve(nats.layer(freshNamespace()), live)
        const answers = yield* provide(
          Effect.forEach(
            Array.from({ length: 1_000 }, (_, n) => `key ${n % 7}`),
            (key) => Busy.submit(key),
            { concurrency: 64 },
          ),
        )
        const created = answers.filter((answer) => answer.created).map(({ id }) => id)
        yield* until(ended(), { count: created.length })
        assert.equal(most, 1)
        assert.deepEqual(ran.sort(), created.sort())
        for (const { id } of answers) assert.ok(created.includes(id))
        assert.ok(created.length > 7)
      }),
  )
})
