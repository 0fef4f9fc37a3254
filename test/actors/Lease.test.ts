import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job } from "../../mod.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { is, serve } from "./harness.ts"

const Long = Job.make("long")

describe("The lease of a job", () => {
  const server = testServer()

  effect(
    "is kept from the first moment of a server on, however short it is",
    () =>
      Effect.gen(function* () {
        const nats = server.layer(freshNamespace())
        const start = serve(nats, Long.toLayer(() => Effect.sleep("2500 millis")), {
          ackWaitMillis: 1_000,
        })
        const servers = yield* Effect.all([start, start], { concurrency: 2 })
        const { provide } = servers[0]
        yield* Effect.all([provide(Long.execute()), provide(Long.execute())], { concurrency: 2 })
        const started = servers.flatMap(({ events }) => events).filter(is("AttemptStarted"))
        assert.deepEqual(started.map(({ delivery }) => delivery), [1, 1])
      }),
  )
})
