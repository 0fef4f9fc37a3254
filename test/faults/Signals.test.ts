import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, eventually, testServer } from "../harness.ts"
import { heldIn } from "../actors/harness.ts"
import { world } from "./harness.ts"
import { Step } from "./programs/jobs.ts"

describe("A server process", () => {
  const nats = testServer()

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    effect(
      `ends with code 0 on ${signal}, after what runs has ended`,
      () =>
        Effect.gen(function* () {
          const { nats: connected, provide, settled, spawn } = yield* world(nats, 30_000)
          const server = yield* spawn()
          const ids = yield* provide(Step.enqueueMany([{ millis: 300 }, { millis: 300 }]))
          for (const id of ids) yield* server.waitForLine(`AttemptStarted ${id}`)
          server.kill(signal)
          assert.equal(yield* server.exited, 0)
          assert.equal(yield* heldIn(connected, "default"), 0)
          yield* settled(ids)
        }),
    )
  }

  effect(
    "gives back on a signal what takes longer than the grace period; it runs elsewhere",
    () =>
      Effect.gen(function* () {
        const { allEnded, provide, settled, spawn } = yield* world(nats, 30_000)
        const server = yield* spawn({ GRACE: "100", SLOTS: "2" })
        const payloads = Array.from({ length: 12 }, (_, i) => ({ millis: i < 2 ? 1_500 : 10 }))
        const ids = yield* provide(Step.enqueueMany(payloads))
        for (const id of ids.slice(0, 2)) yield* server.waitForLine(`AttemptStarted ${id}`)
        server.kill("SIGTERM")
        assert.equal(yield* server.exited, 0)
        // All end well before the lease of anything could have run out.
        yield* spawn()
        yield* allEnded(ids.length, 10_000)
        for (const { attempts, lost } of yield* settled(ids)) {
          assert.deepEqual([attempts.length, lost], [1, 0])
        }
      }),
  )

  effect("ends at once with code 130 on a second signal", () =>
    Effect.gen(function* () {
      const { client, ledger, provide, spawn } = yield* world(nats, 1_000)
      const server = yield* spawn()
      const id = yield* provide(Step.enqueue({ millis: 60_000 }))
      yield* eventually(Effect.sync(ledger), ({ length }) => length > 0)
      server.kill("SIGTERM")
      yield* server.waitForLine("DrainStarted")
      const begun = performance.now()
      // The same signal within moments may be an echo of the first.
      yield* Effect.sleep("1 second")
      server.kill("SIGINT")
      assert.equal(yield* server.exited, 130)
      assert.ok(performance.now() - begun < 5_000)
      assert.equal((yield* client.get(id)).ended, undefined)
    }))

  effect("that can't reach NATS says why and ends with code 1", () =>
    Effect.gen(function* () {
      const { spawn } = yield* world(nats, 1_000)
      const failed = yield* Effect.exit(spawn({ SERVERS: "127.0.0.1:1" }))
      assert.equal(failed._tag, "Failure")
      assert.match(String(failed), /ended \(1\)/)
      assert.match(String(failed), /NATS did not answer while connecting to 127\.0\.0\.1:1/)
    }))
})
