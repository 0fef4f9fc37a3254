import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, eventually, type Program, testServer } from "../harness.ts"
import { ended, heldIn, is, serve } from "../actors/harness.ts"
import { world } from "./harness.ts"
import { Doomed, Poison, Step, Stranger } from "./programs/jobs.ts"

const ackWaitMillis = 1_500

describe("When a server process is killed", () => {
  const nats = testServer()

  effect(
    "its jobs run elsewhere within one ack wait, and none of all is lost or run twice",
    () =>
      Effect.gen(function* () {
        const { allEnded, ledger, provide, settled, spawn } = yield* world(nats, ackWaitMillis)
        const [victim, other] = yield* Effect.all([spawn(), spawn()], { concurrency: 2 })
        const payloads = Array.from(
          { length: 40 },
          (_, i) => ({ millis: 200, failures: i % 8 ? 0 : 1 }),
        )
        const ids = yield* provide(Step.enqueueMany(payloads))
        for (let i = 0; i < 5; i++) yield* victim.waitForLine("AttemptStarted")
        yield* victim.waitForLine("JobMoved")
        victim.kill("SIGKILL")
        yield* victim.exited
        const killed = performance.now()
        const running = (pid: number) => {
          const open = new Set<string>()
          for (const entry of ledger()) {
            if (entry.pid !== pid) continue
            if (entry.what === "started") open.add(entry.id)
            else open.delete(entry.id)
          }
          return [...open]
        }
        const cutOff = running(victim.pid).filter((id) =>
          ids.findIndex((one) => one === id) % 8 > 0
        )
        yield* eventually(
          Effect.sync(ledger),
          (entries) =>
            cutOff.every((id) => entries.some((e) => e.id === id && e.pid === other.pid)),
        )
        const took = performance.now() - killed
        assert.ok(took < ackWaitMillis + 2_000, `${took} ms`)
        yield* allEnded(ids.length)
        const records = yield* settled(ids)
        for (const [index, { attemptCount, state }] of records.entries()) {
          assert.deepEqual([state, attemptCount], ["succeeded", index % 8 ? 1 : 2])
        }
        for (const { id, lost } of records) assert.ok(!cutOff.includes(id) || lost === 1)
      }),
  )

  const points = [
    { at: "AttemptStarted", job: Step.enqueue({ millis: 0 }), ending: ["succeeded"] },
    { at: "JobMoved:succeeded", job: Step.enqueue({ millis: 0 }), ending: ["succeeded"] },
    { at: "JobMoved:failed", job: Doomed.enqueue(), ending: ["crashed"] },
    {
      at: "JobMoved:retrying",
      job: Step.enqueue({ millis: 0, failures: 1 }),
      ending: ["crashed", "succeeded"],
    },
    {
      at: "JobMoved:snoozed",
      job: Step.enqueue({ millis: 0, snoozes: 1 }),
      ending: ["snoozed", "succeeded"],
    },
    { at: "JobMoved:unknown", job: Stranger.enqueue(), ending: ["succeeded"] },
    { at: "JobMoved:returned", job: Step.enqueue({ millis: 60_000 }), ending: ["succeeded"] },
  ] as const

  const crashAt = ({ at, ending, job }: typeof points[number]) =>
    Effect.gen(function* () {
      const { layer, provide, settled, spawn } = yield* world(nats, 1_000)
      const victim = yield* spawn({ CRASH_AT: at, GRACE: "1" })
      const id = yield* provide(job)
      if (at === "JobMoved:returned") {
        yield* victim.waitForLine("AttemptStarted")
        victim.kill("SIGTERM")
      }
      assert.equal(yield* victim.exited, "SIGKILL", at)
      const handlers = Layer.mergeAll(
        Step.toLayer(() => Effect.succeed("here")),
        Doomed.toLayer(() => Effect.void),
        Stranger.toLayer(() => Effect.void),
      )
      const server = yield* serve(layer, handlers, { ackWaitMillis: 1_000 })
      yield* eventually(server.client.get(id), ({ ended }) => ended !== undefined)
      const over = at === "JobMoved:succeeded" || at === "JobMoved:failed"
      // The message that the killed server had not acknowledged comes once more, and is dropped.
      if (over) yield* server.until(is("DeliveryDropped", id))
      const [record] = yield* settled([id])
      assert.deepEqual(record?.attempts.map((attempt) => attempt.ending), [...ending], at)
      const here = server.events.filter(is("AttemptStarted", id)).length
      assert.equal(here, over ? 0 : 1, at)
      assert.equal(server.events.filter(ended(id)).length, here, at)
    })

  effect(
    "as it tells of any transition, another one goes on from there",
    () => Effect.forEach(points, (point) => Effect.scoped(crashAt(point)), { concurrency: 3 }),
  )

  effect(
    "by a job of its own, again and again, the job is parked; others get through",
    () =>
      Effect.gen(function* () {
        const { client, ledger, provide, settled, spawn } = yield* world(nats, 1_000)
        const poison = yield* provide(Poison.enqueue())
        const ids = [poison]
        let server: Program | undefined
        for (let kills = 0; kills < 5; kills++) {
          ids.push(...yield* provide(Step.enqueueMany([{ millis: 700 }, { millis: 700 }])))
          server = yield* spawn()
          assert.equal(yield* server.exited, 7)
        }
        server = yield* spawn()
        yield* Effect.forEach(
          ids,
          (id) =>
            eventually(client.get(id), ({ ended }) => ended !== undefined, { timeout: 20_000 }),
          { concurrency: "unbounded" },
        )
        const [parked, ...bystanders] = yield* settled(ids)
        assert.deepEqual([parked?.state, parked?.lost], ["failed", 5])
        assert.match(parked?.reason ?? "", /kill the process/)
        for (const { state } of bystanders) assert.equal(state, "succeeded")
        const entries = ledger()
        const runs = entries.flatMap(({ id, pid, what }, at) =>
          id === poison && what === "started" ? [{ at, pid }] : []
        )
        assert.equal(runs.length, 5)
        for (const { at, pid } of runs.slice(3)) {
          const before = entries.slice(0, at).filter((entry) => entry.pid === pid)
          const started = before.filter(({ what }) => what === "started").length
          const done = before.filter(({ what }) => what === "done").length
          assert.equal(started, done, "something ran beside it")
        }
      }),
    { timeout: 60_000 },
  )
})

describe("When a server process stands still for longer than the ack wait", () => {
  const nats = testServer()

  effect(
    "another runs its job, and it can't overwrite the outcome when it goes on",
    () =>
      Effect.gen(function* () {
        const { allEnded, ledger, provide, settled, spawn } = yield* world(nats, 1_000)
        const servers = yield* Effect.all([spawn(), spawn()], { concurrency: 2 })
        const id = yield* provide(Step.enqueue({ millis: 500 }))
        const [begun] = yield* eventually(Effect.sync(ledger), ({ length }) => length > 0)
        const stale = servers.find(({ pid }) => pid === begun?.pid) as Program
        const other = servers.find((server) => server !== stale) as Program
        stale.kill("SIGSTOP")
        yield* other.waitForLine(`JobMoved:succeeded ${id}`)
        stale.kill("SIGCONT")
        yield* stale.waitForLine(`OutcomeLost ${id}`)
        const [record] = yield* settled([id])
        assert.deepEqual([record?.state, record?.attempts.length], ["succeeded", 1])
        // More than once when NATS offered it to the one that stands still again.
        assert.ok((record?.lost ?? 0) >= 1)
        assert.match(record?.attempts[0]?.server ?? "", new RegExp(`-${other.pid}-`))
        // Both are well: they run what comes next.
        const ids = yield* provide(Step.enqueueMany(new Array(20).fill({ millis: 100 })))
        yield* allEnded(21)
        yield* settled([id, ...ids])
        const pids = new Set(ledger().map(({ pid }) => pid))
        assert.deepEqual([...pids].sort(), [stale.pid, other.pid].sort())
      }),
  )

  effect(
    "it does not start what has waited in it for a slot and is over by now",
    () =>
      Effect.gen(function* () {
        const { allEnded, ledger, nats: connected, provide, settled, spawn } = yield* world(
          nats,
          1_000,
        )
        const stale = yield* spawn({ SLOTS: "1" })
        const first = yield* provide(Step.enqueue({ millis: 400 }))
        yield* eventually(Effect.sync(ledger), ({ length }) => length > 0)
        const second = yield* provide(Step.enqueue({ millis: 0 }, { priority: "high" }))
        yield* eventually(heldIn(connected, "default"), (held) => held === 2)
        stale.kill("SIGSTOP")
        yield* spawn()
        yield* allEnded(2)
        stale.kill("SIGCONT")
        yield* stale.waitForLine(`OutcomeLost ${first}`)
        yield* stale.waitForLine(`DeliveryDropped ${second}`)
        yield* settled([first, second])
        assert.equal(stale.lines.some((line) => line === `AttemptStarted ${second}`), false)
      }),
  )
})
