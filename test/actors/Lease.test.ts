import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job } from "../../mod.ts"
import { effect, testServer } from "../harness.ts"
import { is, serve } from "./harness.ts"

const Long = Job.make("long")

describe("The lease of a job", () => {
  const server = testServer()

  effect(
    "is kept from the first moment of a server on, however short it is",
    () =>
      Effect.gen(function* () {
        const nats = server.layer()
        const handler = Long.toLayer(() => Effect.sleep("2500 millis"))
        const { events, provide } = yield* serve(nats, handler, { ackWaitMillis: 1_000 })
        yield* provide(Long.execute())
        const started = events.filter(is("AttemptStarted"))
        assert.deepEqual(started.map(({ delivery }) => delivery), [1])
        assert.equal(events.some(is("DeliveryDropped")), false)
        assert.equal(events.some(is("OutcomeLost")), false)
      }),
  )
})
