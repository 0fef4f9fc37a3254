import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"
import { describe } from "node:test"
import type { JobId } from "../../src/core/JobId.ts"
import { effect, eventually, type Program, testServer } from "../harness.ts"
import { world } from "./harness.ts"
import { Step } from "./programs/jobs.ts"

/** Megabytes that a process takes, where the system tells. */
const megabytes = ({ pid }: Program): number => {
  const file = `/proc/${pid}/status`
  if (!existsSync(file)) return 0
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(file, "utf8"))?.[1]) / 1024
}

describe("When the NATS server is killed", () => {
  const nats = testServer()

  effect(
    "each enqueue, delay and retry it had confirmed is kept; servers go on by themselves",
    () =>
      Effect.gen(function* () {
        const { allEnded, ledger, provide, settled, spawn } = yield* world(nats, 1_500)
        const servers = yield* Effect.all([spawn({ SLOTS: "20" }), spawn({ SLOTS: "20" })], {
          concurrency: 2,
        })
        const before = servers.map(megabytes)
        const confirmed: Array<JobId> = []
        const retried = new Set<JobId>()
        let enqueueing = true
        const loop = (index: number) =>
          Effect.gen(function* () {
            while (enqueueing) {
              const kind = (confirmed.length + index) % 10
              const payload = { millis: kind, failures: kind === 0 ? 2 : 0 }
              const id = yield* provide(
                kind < 3
                  ? Step.schedule(payload, { delay: 200 + kind * 700 })
                  : Step.enqueue(payload),
              )
              confirmed.push(id)
              if (kind === 0) retried.add(id)
              yield* Effect.sleep("5 millis")
            }
          })
        const loops = yield* Effect.forkChild(
          Effect.forEach([0, 1, 2, 3], loop, { concurrency: "unbounded" }),
        )
        for (let kills = 0; kills < 2; kills++) {
          const sofar = ledger().length
          yield* eventually(Effect.sync(ledger), ({ length }) => length > sofar + 300)
          yield* nats.killServer
          yield* Effect.sleep("700 millis")
          yield* nats.restartServer
        }
        const sofar = confirmed.length
        yield* eventually(Effect.sync(() => confirmed.length), (length) => length > sofar + 100)
        enqueueing = false
        yield* Fiber.join(loops)
        yield* allEnded(confirmed.length, 60_000)
        const records = yield* settled(confirmed, 250)
        for (const { attemptCount, id, state } of records) {
          assert.deepEqual([state, attemptCount], ["succeeded", retried.has(id) ? 3 : 1])
        }
        // The same processes are still there, and hold nothing of what they couldn't send.
        for (const [index, server] of servers.entries()) {
          assert.equal(server.lines.some((line) => line.startsWith("AttemptStarted")), true)
          assert.ok(megabytes(server) < (before[index] ?? 0) + 150)
          server.kill("SIGTERM")
          assert.equal(yield* server.exited, 0)
        }
      }),
    { timeout: 150_000 },
  )

  effect(
    "long enough for each lease to end, running jobs go on and end once",
    () =>
      Effect.gen(function* () {
        const { allEnded, ledger, provide, settled, spawn } = yield* world(nats, 500)
        yield* spawn({ SLOTS: "5" })
        const ids = yield* provide(Step.enqueueMany(new Array(5).fill({ millis: 2_000 })))
        yield* eventually(Effect.sync(ledger), ({ length }) => length === 5)
        yield* nats.killServer
        yield* Effect.sleep("1 second")
        yield* nats.restartServer
        yield* eventually(
          Effect.sync(ledger),
          (entries) => entries.filter(({ what }) => what === "stored").length === 5,
        )
        yield* allEnded(5)
        for (const { attempts, state } of yield* settled(ids)) {
          assert.deepEqual([state, attempts.length], ["succeeded", 1])
        }
        assert.equal(ledger().filter(({ what }) => what === "started").length, 5)
      }),
  )
})
