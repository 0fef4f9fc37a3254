import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, Retry } from "../../mod.ts"
import * as Codec from "../../src/core/Codec.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import type { JobId } from "../../src/core/JobId.ts"
import type { FinalState } from "../../src/core/JobState.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Schema from "effect/Schema"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { ended, gate, heldIn, is, produce, publishRaw, serve, subjectsIn } from "./harness.ts"

const Work = Job.make("work", { retry: Retry.none })

/** The message of a job of `Work` as nobody has touched it. */
const fresh = (): Envelope.Envelope => {
  const payload = Effect.runSync(Codec.make(Schema.Void).encode(undefined))
  const bytes = Envelope.fresh(Work.definition.template, Date.now(), payload)
  const envelope = Envelope.decode(bytes)
  assert.ok(Envelope.isEnvelope(envelope))
  return envelope
}

const record = (envelope: Envelope.Envelope): Uint8Array =>
  Envelope.final(envelope, { ...Envelope.untouched, attempts: 1 }, { ended: Date.now() })

describe("A committed outcome", () => {
  const nats = testServer()

  for (const state of ["succeeded", "failed", "cancelled"] as const) {
    effect(`keeps a job that is ${state} from being run once more`, () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const { client, nats: connected, provide } = yield* produce(layer)
        const id = yield* provide(Work.enqueue())
        const subjects = Subjects.make(connected.namespace)
        const at = subjects.final(state, fresh(), Subjects.addressOf(id))
        yield* publishRaw(connected, at, record(fresh()))
        let ran = false
        const server = yield* serve(layer, Work.toLayer(() => Effect.sync(() => void (ran = true))))
        yield* server.until(is("DeliveryDropped", id))
        assert.equal(ran, false)
        assert.equal((yield* client.get(id)).state, state)
        const left = yield* eventually(subjectsIn(connected), (found) => found.length === 1)
        assert.deepEqual(left, [at])
      }))
  }

  for (const state of ["retry", "later"] as const) {
    effect(
      `of an attempt (${state}) keeps an older delivery of the job from running`,
      () =>
        Effect.gen(function* () {
          const layer = nats.layer(freshNamespace())
          const { nats: connected, provide } = yield* produce(layer)
          const id = yield* provide(Work.enqueue())
          const subjects = Subjects.make(connected.namespace)
          const job = Subjects.addressOf(id)
          const ready = subjects.live("ready", "default", 3, job)
          const lines = Subjects.scheduleLines(Date.now() + 3_600_000, ready)
          yield* publishRaw(
            connected,
            subjects.live(state, "default", 3, job),
            Envelope.live(fresh(), { ...Envelope.untouched, attempts: 1 }),
            lines,
          )
          const server = yield* serve(layer, Work.toLayer(() => Effect.void))
          yield* server.until(is("DeliveryDropped", id))
          assert.equal(server.events.some(is("AttemptStarted", id)), false)
          yield* eventually(subjectsIn(connected, "ready.>"), (found) => found.length === 0)
        }),
    )
  }

  effect("written by a newer engine keeps a job from running, too", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const { nats: connected, provide } = yield* produce(layer)
      const id = yield* provide(Work.enqueue())
      const subjects = Subjects.make(connected.namespace)
      const at = subjects.final("succeeded", fresh(), Subjects.addressOf(id))
      yield* publishRaw(connected, at, MessagePack.encode([Envelope.version + 1, "unknown"]))
      const server = yield* serve(layer, Work.toLayer(() => Effect.void))
      yield* server.until(is("DeliveryDropped", id))
      assert.equal(server.events.some(is("AttemptStarted", id)), false)
    }))

  effect(
    "of an attempt that is ready again keeps the message from running that was given back",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const { nats: connected } = yield* produce(layer)
        const subjects = Subjects.make(connected.namespace)
        const id = "again" as JobId
        const ready = (lane: number) =>
          subjects.live("ready", "default", lane, Subjects.addressOf(id))
        yield* publishRaw(connected, ready(0), Envelope.live(fresh(), Envelope.untouched))
        const progress = { ...Envelope.untouched, attempts: 3 }
        yield* publishRaw(connected, ready(3), Envelope.live(fresh(), progress))
        const server = yield* serve(layer, Work.toLayer(() => Effect.void))
        assert.equal((yield* server.record(id)).attemptCount, 4)
        yield* server.until(is("DeliveryDropped", id))
        assert.equal(server.events.filter(is("AttemptStarted", id)).length, 1)
      }),
  )

  effect(
    "does not keep a job from running that was requeued after it",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const { nats: connected } = yield* produce(layer)
        const subjects = Subjects.make(connected.namespace)
        const id = "again" as JobId
        const job = Subjects.addressOf(id)
        const at = subjects.final("failed", fresh(), job)
        const after = yield* publishRaw(connected, at, record(fresh()))
        yield* publishRaw(
          connected,
          subjects.live("ready", "default", 3, job),
          Envelope.live(fresh(), { ...Envelope.untouched, after }),
        )
        const server = yield* serve(layer, Work.toLayer(() => Effect.void))
        assert.equal((yield* server.record(id)).state, "succeeded")
      }),
  )

  effect(
    "written by somebody else while the job ran is not overwritten",
    () =>
      Effect.gen(function* () {
        const { open, wait } = gate()
        const server = yield* serve(nats.layer(), Work.toLayer(() => wait))
        const id = yield* server.provide(Work.enqueue())
        yield* server.until(is("AttemptStarted", id))
        const subjects = Subjects.make(server.nats.namespace)
        const at = subjects.final("cancelled" satisfies FinalState, fresh(), Subjects.addressOf(id))
        yield* publishRaw(server.nats, at, record(fresh()))
        open()
        const [lost] = yield* server.until(is("OutcomeLost", id))
        assert.equal(lost?.to, "succeeded")
        assert.equal((yield* server.client.get(id)).state, "cancelled")
        const left = yield* eventually(subjectsIn(server.nats), (found) => found.length === 1)
        assert.deepEqual(left, [at])
        assert.equal(server.events.some(ended(id)), false)
      }),
  )

  effect(
    "is told of once when it was stored but the answer got lost",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        let killed = false
        const runs: Array<JobId> = []
        const server = yield* serve(
          layer,
          Work.toLayer(() =>
            Effect.flatMap(Job.current, ({ id }) => Effect.sync(() => runs.push(id)))
          ),
          {
            queues: { default: 5 },
            ackWaitMillis: 1_000,
            // Acknowledgements leave after this: the kill comes before them.
            onEvent: (event) => {
              if (!ended()(event) || killed) return
              killed = true
              Effect.runFork(nats.killServer)
            },
          },
        )
        const ids = yield* server.provide(Work.enqueueMany(new Array<void>(20).fill(undefined)))
        yield* server.until(ended())
        yield* nats.restartServer
        const back = performance.now()
        const outcomes = yield* server.until(ended(), { count: ids.length })
        assert.ok(performance.now() - back < 3_000, "a question got lost with the connection")
        yield* eventually(subjectsIn(server.nats, "ready.>"), (found) => found.length === 0)
        assert.equal(server.events.some(is("OutcomeLost")), false)
        assert.deepEqual(outcomes.map(({ id }) => id).sort(), [...ids].sort())
        // What ran twice was interrupted by the kill before its end was stored.
        const stored = new Set<JobId>()
        for (const event of server.events) {
          if (ended()(event)) stored.add(event.id)
          else if (event._tag === "AttemptStarted") assert.equal(stored.has(event.id), false)
        }
        yield* eventually(heldIn(server.nats, "default"), (held) => held === 0)
      }),
  )
})

describe("On a server that takes small messages only, a job", () => {
  const nats = testServer({ config: "jetstream {}, max_payload: 65536" })

  effect("can be retried and can end, with less of its history", () =>
    Effect.gen(function* () {
      class Big extends Schema.TaggedError<Big>()("Big", { text: Schema.String }) {}
      const Chatty = Job.make("chatty", {
        error: Big,
        retry: Retry.fixed({ attempts: 10, delay: 0 }),
      })
      const layer = nats.layer()
      const server = yield* serve(layer, Chatty.toLayer(() => new Big({ text: "x".repeat(9_000) })))
      const id = yield* server.provide(Chatty.enqueue())
      const record = yield* server.record(id)
      assert.deepEqual([record.state, record.attemptCount], ["failed", 10])
      assert.ok(server.events.some(is("CommitRefused", id)))
    }))
})
