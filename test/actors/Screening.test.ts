import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, Retry } from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobView from "../../src/nats/JobView.ts"

import * as Wire from "../../src/nats/Wire.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Layer from "effect/Layer"
import * as Context from "effect/Context"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { ended, is, produce, publishRaw, serve } from "./harness.ts"

const Work = Job.make("work", { payload: Schema.Number, success: Schema.Number, retry: Retry.none })

describe("A ready message beside one that waits for its time", () => {
  const nats = testServer()

  /** A job due in a moment, and a ready message of it as a schedule would have made it. */
  const fired = Effect.fnUntraced(function* (
    layer: ReturnType<typeof nats.layer>,
    change: (envelope: Envelope.Envelope) => Uint8Array,
  ) {
    const { nats: connected, provide } = yield* produce(layer)
    const id = yield* provide(Work.schedule(7, { delay: "1500 millis" }))
    const context = yield* Layer.build(Layer.provide(Wire.layer, layer))
    const view = yield* JobView.find(Context.get(context, Wire.Wire), id)
    assert.ok(view !== undefined)
    const ready = Subjects.make(connected.namespace).live("ready", "default", 3, view.address)
    yield* publishRaw(connected, ready, change(view.current.envelope))
    return id
  })

  effect(
    "that has taken its place since does not run: the job runs at the later time",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const id = yield* fired(
          layer,
          (envelope) => Envelope.live(envelope, { ...Envelope.untouched, since: 1 }),
        )
        const server = yield* serve(layer, Work.toLayer(Effect.succeed))
        yield* server.until(is("DeliveryDropped", id))
        assert.equal(server.events.some(is("AttemptStarted", id)), false)
        const [outcome] = yield* server.until(ended(id))
        assert.equal(outcome?.to, "succeeded")
        assert.equal(server.events.filter(is("AttemptStarted", id)).length, 1)
        assert.equal((yield* server.record(id)).result, 7)
      }),
  )

  effect(
    "that says the same runs at once: its schedule has just fired",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const id = yield* fired(layer, (envelope) => Envelope.live(envelope, envelope.progress))
        const server = yield* serve(layer, Work.toLayer(Effect.succeed))
        yield* server.until(ended(id))
        assert.equal(server.events.filter(is("AttemptStarted", id)).length, 1)
      }),
  )
})
