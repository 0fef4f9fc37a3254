import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, type Nats } from "../../mod.ts"
import * as Codec from "../../src/core/Codec.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { ended, is, publishRaw, serve } from "./harness.ts"

const Suspect = Job.make("suspect")

/** Stores a job that has lost servers before. */
const suspect = (nats: Nats.Nats, id: string, lost: number): Effect.Effect<JobId> =>
  Effect.gen(function* () {
    const payload = yield* Effect.orDie(Codec.make(Schema.Void).encode(undefined))
    const bytes = Envelope.fresh(Suspect.definition.template, Date.now(), payload)
    const envelope = Envelope.decode(bytes)
    assert.ok(Envelope.isEnvelope(envelope))
    const message = Envelope.live(envelope, { ...Envelope.untouched, lost })
    yield* publishRaw(nats, `pf.${nats.namespace}.0.ready.default.3._.${id}`, message)
    return id as JobId
  })

describe("A job that has lost its server three times", () => {
  const nats = testServer()

  /** Handlers that keep count of what runs beside a suspect. */
  const counted = (millis: number) => {
    let running = 0
    const beside: Array<number> = []
    const Ordinary = Job.make("ordinary")
    const around = <A, E, R>(self: Effect.Effect<A, E, R>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => running++),
        () => self,
        () => Effect.sync(() => running--),
      )
    const look = Effect.sync(() => beside.push(running))
    const handlers = Layer.merge(
      Ordinary.toLayer(() => around(Effect.sleep(millis))),
      Suspect.toLayer(() =>
        around(
          look.pipe(Effect.andThen(Effect.sleep("50 millis")), Effect.andThen(look), Effect.asVoid),
        )
      ),
    )
    return { Ordinary, handlers, beside }
  }

  effect("runs alone, in the midst of a busy server", () =>
    Effect.gen(function* () {
      const { Ordinary, beside, handlers } = counted(100)
      const server = yield* serve(nats.layer(), handlers, { queues: { default: 3 } })
      yield* server.provide(Ordinary.enqueueMany(new Array<void>(60).fill(undefined)))
      yield* server.until(is("AttemptStarted"), { count: 3 })
      const ids = [yield* suspect(server.nats, "one", 3), yield* suspect(server.nats, "two", 4)]
      for (const id of ids) assert.equal((yield* server.record(id)).state, "succeeded")
      assert.deepEqual(beside, [1, 1, 1, 1])
      yield* server.until(ended(), { count: 62 })
    }))

  effect("lets a free server have what waits for it to run alone", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const { Ordinary, handlers } = counted(2_000)
      const quick = Ordinary.toLayer(() => Effect.void)
      const busy = yield* serve(layer, handlers, { queues: { default: 4 } })
      yield* busy.provide(Ordinary.enqueue())
      yield* busy.until(is("AttemptStarted"))
      const id = yield* suspect(busy.nats, "waits", 3)
      const ids = yield* busy.provide(Ordinary.enqueueMany([undefined, undefined, undefined]))
      const free = yield* serve(layer, quick, { queues: { default: 4 } })
      const [first] = yield* free.until(ended(), { count: 3 })
      assert.ok(first !== undefined && ids.includes(first.id))
      assert.equal(busy.events.some(ended()), false)
      assert.equal((yield* busy.record(id)).state, "succeeded")
    }))

  effect("is parked as failed at the fifth loss, with a reason", () =>
    Effect.gen(function* () {
      const { handlers, beside } = counted(1)
      const server = yield* serve(nats.layer(), handlers)
      const record = yield* server.record(yield* suspect(server.nats, "five", 5))
      assert.deepEqual([record.state, record.lost, record.attemptCount], ["failed", 5, 0])
      assert.match(record.reason ?? "", /lost 5 times/)
      assert.deepEqual(beside, [])
    }))
})
