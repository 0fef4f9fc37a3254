/** What comes late or twice, and what isn't meant for recurring entries, made to happen each time. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, type Nats, Operation, Recurring, Retry } from "../../mod.ts"
import * as Watchdog from "../../actors/Watchdog.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Reader from "../../src/nats/Reader.ts"
import * as Wire from "../../src/nats/Wire.ts"
import {
  gate,
  is,
  produce,
  publishRaw,
  serve,
  subjectsIn,
  type Watch,
  watch,
} from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { dying } from "./dying.ts"

const Tick = Job.make("tick", { payload: Schema.Number, success: Schema.Number })
const TickLive = Tick.toLayer((version) => Effect.succeed(version))

const entry = "entry"
const id = EntryId.messageId(entry)
const declare = (version: number, at = Date.now() + 3_600_000) =>
  Recurring.upsert(entry, { job: Tick, payload: version, schedule: { at: [at] } })

/** The message of the entry. */
const messageOf = (nats: Nats.Nats) =>
  Reader.newestAtLeader(nats.connection, `PF_${nats.namespace}_JOBS_0`, `pf.*.0.*.*.*.*.${id}`)

/** Has an alarm fire that was on its way when its entry was changed. */
const fireLate = (nats: Nats.Nats, { data, subject }: Reader.StoredMessage) =>
  publishRaw(
    nats,
    `pf.${nats.namespace}.0.ready._engine.2._.${id}`,
    data,
    `Nats-Scheduler: ${subject}\r\nNats-Schedule-Next: purge\r\n`,
  )

/** Waits until servers have seen to all that lies in the engine's queue. */
const seenTo = (nats: Nats.Nats) =>
  eventually(subjectsIn(nats, "ready._engine.>"), ({ length }) => length === 0)

describe("A recurring entry", () => {
  const server = testServer()

  const changes: Readonly<Record<string, Effect.Effect<unknown, unknown, Client.Client>>> = {
    "a pause": Recurring.pause(entry),
    "a declaration": declare(2),
    "a removal": Recurring.remove(entry),
  }

  const changed = ([what, change]: readonly [string, typeof changes[string]]) =>
    Effect.scoped(Effect.gen(function* () {
      const layer = server.layer(freshNamespace())
      const { client, nats, provide } = yield* produce(layer)
      yield* provide(declare(1))
      const before = yield* messageOf(nats)
      assert.ok(before, what)
      yield* provide(change)
      const after = yield* Effect.exit(provide(Recurring.get(entry)))
      yield* fireLate(nats, before)
      yield* serve(layer, TickLive)
      yield* seenTo(nats)
      assert.deepEqual(yield* Effect.exit(client.recurring.get(entry)), after, what)
    }))

  effect(
    "stays changed when an alarm that was replaced fires all the same",
    () => Effect.forEach(Object.entries(changes), changed, { concurrency: 3 }),
  )

  /**
   * Asks for a run, and is killed before it could make it; then an alarm fires that is replaced. Gives
   * the sequence of what was asked for.
   */
  const askedAndLate = Effect.fnUntraced(function* (
    layer: ReturnType<typeof server.layer>,
    nats: Nats.Nats,
    provide: <A, E>(self: Effect.Effect<A, E, Client.Client>) => Effect.Effect<A, E>,
  ) {
    yield* provide(declare(1))
    const before = yield* messageOf(nats)
    assert.ok(before)
    const one = dying(layer, { writes: 1 })
    yield* Recurring.trigger(entry).pipe(
      Effect.provide(Layer.provide(Client.layer, one.layer)),
      Effect.forkDetach,
    )
    yield* one.died
    return (yield* fireLate(nats, before)) - 1
  })

  effect(
    "makes a run that was asked for, whatever fires after that",
    () =>
      Effect.gen(function* () {
        const layer = server.layer(freshNamespace())
        const { client, nats, provide } = yield* produce(layer)
        yield* askedAndLate(layer, nats, provide)
        const working = yield* serve(layer, TickLive)
        yield* seenTo(nats)
        const { last } = yield* client.recurring.get(entry)
        assert.equal(last?.byHand, true)
        assert.equal((yield* working.record(last?.id ?? "")).state, "succeeded")
      }),
  )

  effect(
    "makes it though whoever held it has died, and what fired after that is newer",
    () =>
      Effect.gen(function* () {
        const layer = server.layer(freshNamespace())
        const { client, nats, provide } = yield* produce(layer, { ackWaitMillis: 1_000 })
        yield* askedAndLate(layer, nats, provide)
        const stream = `PF_${nats.namespace}_JOBS_0`
        const pause = (until: number) =>
          Api.call(
            nats.connection,
            `CONSUMER.PAUSE.${stream}.ready__engine_2`,
            { pause_until: new Date(until).toISOString() },
            "pausing",
          )
        // What fired late is delivered last, and what was asked for once more.
        yield* pause(Date.now() + 60_000)
        const taken = yield* Effect.promise(() =>
          nats.connection.request(
            `$JS.API.CONSUMER.MSG.NEXT.${stream}.ready__engine_1`,
            '{"batch":1}',
            // What comes has the subject that it is stored under.
            { noMux: true, timeout: 5_000 },
          )
        )
        assert.match(taken.subject, /ready\._engine\.1/)
        const working = yield* serve(layer, TickLive, { ackWaitMillis: 1_000 })
        const { last } = yield* eventually(
          client.recurring.get(entry),
          (record) => record.last?.byHand === true,
        )
        assert.equal((yield* working.record(last?.id ?? "")).state, "succeeded")
        yield* pause(0)
        yield* seenTo(nats)
        assert.equal((yield* client.recurring.get(entry)).last?.id, last?.id)
      }),
  )

  /** Makes NATS lose sight of a message that is due, and has a watchdog look for it. */
  const loseAndRescue = Effect.fnUntraced(function* (
    layer: ReturnType<typeof server.layer>,
    nats: Nats.Nats,
    lane: number,
    sequence: number,
    until: (log: Watch) => Effect.Effect<unknown>,
  ) {
    yield* Api.call(
      nats.connection,
      `CONSUMER.RESET.PF_${nats.namespace}_JOBS_0.ready__engine_${lane}`,
      { seq: sequence + 1 },
      "resetting",
    )
    const log = watch()
    const watchdog = Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const options = { wire, emit: log.onEvent, queues: ["_engine"], interval: 30 }
      yield* Effect.forkScoped(yield* Watchdog.start(options))
      yield* until(log)
    })
    yield* Effect.scoped(Effect.provide(watchdog, Layer.provide(Wire.layer, layer)))
  })

  effect(
    "that NATS has lost sight of as it was due is put back, and makes its run",
    () =>
      Effect.gen(function* () {
        const layer = server.layer(freshNamespace())
        const { client, nats, provide } = yield* produce(layer)
        yield* provide(declare(1, Date.now() + 300))
        const due = yield* eventually(
          messageOf(nats),
          (one) => one?.subject.includes(".ready.") === true,
        )
        yield* loseAndRescue(
          layer,
          nats,
          2,
          due?.sequence ?? 0,
          (log) => log.until(is("JobRescued")),
        )
        yield* serve(layer, TickLive)
        const { runs } = yield* eventually(
          client.recurring.get(entry),
          ({ state }) => state === "finished",
        )
        assert.equal(runs, 1)
      }),
  )

  effect(
    "isn't given up for what fired after it, should NATS lose sight of it",
    () =>
      Effect.gen(function* () {
        const layer = server.layer(freshNamespace())
        const { client, nats, provide } = yield* produce(layer)
        const asked = yield* askedAndLate(layer, nats, provide)
        // Several rounds, of which the second would remove what counts.
        yield* loseAndRescue(layer, nats, 1, asked, () => Effect.sleep("300 millis"))
        yield* serve(layer, TickLive)
        yield* eventually(
          client.recurring.get(entry),
          ({ last }) => last?.byHand === true,
        )
      }),
  )

  effect(
    "makes one run for one who asks, though the answer to that is lost",
    () =>
      Effect.gen(function* () {
        const layer = server.layer(freshNamespace())
        const working = yield* serve(layer, TickLive)
        yield* working.provide(declare(1))
        const wire = Context.get(yield* Layer.build(Layer.provide(Wire.layer, layer)), Wire.Wire)
        const { publisher } = wire
        let lost = 0
        const forgetful = new Proxy(publisher, {
          get: (target, key) => {
            const value: unknown = Reflect.get(target, key, target)
            if (key !== "publish") return typeof value === "function" ? value.bind(target) : value
            const publish: typeof target.publish = (publication, done) =>
              target.publish(publication, (ack) => {
                if (lost > 0 || !publication.subject.includes(".ready._engine.")) return done(ack)
                lost++
                // It is repeated, and by then the run has begun.
                void Effect.runPromise(working.until(is("AttemptStarted"))).then(() =>
                  done({ _tag: "Conflict", repeated: true })
                )
              })
            return publish
          },
        })
        const client = Client.layerOnWire.pipe(
          Layer.provide(Layer.succeed(Wire.Wire, { ...wire, publisher: forgetful })),
        )
        const run = yield* Effect.provide(Recurring.trigger(entry), client)
        assert.equal(lost, 1)
        yield* working.record(run)
        yield* seenTo(working.nats)
        assert.equal((yield* working.client.recurring.get(entry)).revision, 3)
        assert.equal(working.events.filter(is("AttemptStarted")).length, 1)
      }),
  )

  effect("is no job for anybody who knows the id of its message", () =>
    Effect.gen(function* () {
      const { client, provide } = yield* produce(server.layer(freshNamespace()))
      const { entry: before } = yield* provide(declare(1))
      for (const operation of [Operation.cancel(), Operation.runNow(), Operation.remove()]) {
        assert.deepEqual(yield* client.operate(id, operation), { _tag: "notFound", id })
      }
      assert.equal((yield* Effect.flip(client.get(id)))._tag, "JobNotFound")
      const follows = yield* Effect.flip(provide(Tick.enqueueAfter(id, 1)))
      assert.equal(follows._tag, "JobNotFound")
      const page = yield* client.list({ state: "awaiting" })
      assert.deepEqual(page.jobs, [])
      assert.deepEqual(yield* client.recurring.get(entry), before)
    }))

  effect(
    "skips a time while an earlier run lives again that somebody has requeued",
    () =>
      Effect.gen(function* () {
        const gates = gate()
        let isBroken = true
        const Held = Job.make("held", { retry: Retry.none })
        const live = Held.toLayer(() => isBroken ? Effect.die("broken") : gates.wait)
        const working = yield* serve(server.layer(freshNamespace()), live)
        const begin = Date.now() + 400
        const times = [begin, begin + 400, begin + 1_600]
        yield* working.provide(
          Recurring.upsert(entry, { job: Held, schedule: { at: times }, overlap: "skip" }),
        )
        const [first = "", second = "", third = ""] = times.map((at) => EntryId.runId(entry, at))
        yield* working.record(first)
        yield* working.record(second)
        isBroken = false
        const requeued = yield* working.client.operate(first, Operation.requeue())
        assert.equal(requeued._tag, "changed")
        const { runs, skipped } = yield* eventually(
          working.client.recurring.get(entry),
          ({ state }) => state === "finished",
        )
        assert.deepEqual([runs, skipped?.count, skipped?.reason], [2, 1, "overlap"])
        assert.equal((yield* Effect.flip(working.client.get(third)))._tag, "JobNotFound")
        gates.open()
        yield* eventually(working.client.get(first), ({ state }) => state === "succeeded")
      }),
  )
})
