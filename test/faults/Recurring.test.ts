/**
 * An entry per second, three servers, and faults at random: each nominal time gets exactly one job.
 * `PORTFIRE_TICKS=120` says for how many seconds, and does it with every kind of fault; default 9
 * seconds of killed servers. `PORTFIRE_SEED` repeats the choices of an earlier run.
 */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { describe } from "node:test"
import { Recurring } from "../../mod.ts"
import { produce, subjectsIn } from "../actors/harness.ts"
import {
  effect,
  eventually,
  freshNamespace,
  type Program,
  spawnProgram,
  temporaryFolder,
  testServer,
} from "../harness.ts"
import { Random } from "../model/Random.ts"
import { Tick } from "./programs/recurringJobs.ts"

const full = process.env["PORTFIRE_TICKS"]
const seconds = Number(full ?? 9)
const seed = Number(process.env["PORTFIRE_SEED"] ?? Date.now() % 1_000_000)
const ackWaitMillis = 1_000
const program = new URL("./programs/recurring.ts", import.meta.url)

/** How often a fault is chosen. */
type Faults = Readonly<Record<"kill" | "stop" | "nats", number>>

describe("An entry that is due every second", () => {
  const nats = testServer()

  const survives = (faults: Faults) => () =>
    Effect.gen(function* () {
      const random = new Random(seed)
      const namespace = freshNamespace()
      const ledgerFile = join(yield* temporaryFolder, "ledger")
      const made = yield* produce(nats.layer(namespace), { ackWaitMillis })
      const servers = yield* Effect.promise(nats.url)
      const start = Effect.tap(
        spawnProgram(program, {
          env: {
            SERVERS: servers,
            NAMESPACE: namespace,
            NATS_USER: nats.credentials.user,
            NATS_PASSWORD: nats.credentials.password,
            ACK_WAIT: String(ackWaitMillis),
            LEDGER: ledgerFile,
          },
        }),
        (server) => server.waitForLine("ready"),
      )
      const alive: Array<Program> = [
        ...yield* Effect.all([start, start, start], { concurrency: 3 }),
      ]
      const upsert = Recurring.upsert("every second", {
        job: Tick,
        payload: { millis: 100 },
        schedule: { every: "1 second" },
        misfire: { policy: "all", cap: 1_000 },
      })
      const { entry } = yield* made.provide(upsert)
      const first = entry.next?.getTime() ?? 0

      const happened = { kill: 0, stop: 0, nats: 0 }
      const happen: Record<keyof Faults, (server: Program) => Effect.Effect<void, unknown>> = {
        kill: (server) =>
          Effect.gen(function* () {
            server.kill(random.chance(0.25) ? "SIGTERM" : "SIGKILL")
            yield* server.exited
          }),
        stop: (server) =>
          Effect.gen(function* () {
            server.kill("SIGSTOP")
            yield* Effect.sleep(ackWaitMillis + random.between(200, 1_500))
            server.kill("SIGCONT")
          }),
        nats: () =>
          Effect.gen(function* () {
            yield* nats.killServer
            yield* Effect.sleep(random.between(0, 500))
            yield* nats.restartServer
          }),
      }
      const end = performance.now() + seconds * 1_000
      const rest = (longest: number) => Effect.sleep(random.between(0, longest))
      while (performance.now() < end) {
        yield* rest(800)
        // As a server makes the run, or when none does.
        if (random.chance(0.6)) {
          yield* Effect.sleep(1_000 - Date.now() % 1_000 + random.between(0, 15))
        }
        const fault = random.weighted(faults)
        happened[fault]++
        if (fault !== "kill") {
          yield* happen[fault](random.pick(alive))
          continue
        }
        // Now and then all of them.
        const victims = random.chance(0.3) ? alive.splice(0) : [random.pick(alive)]
        happened.kill += victims.length - 1
        yield* Effect.forEach(victims, happen.kill, { discard: true })
        yield* rest(500)
        const dead = new Set(victims)
        const left = alive.filter((server) => !dead.has(server))
        const fresh = yield* Effect.forEach(victims, () => start, { concurrency: 3 })
        alive.splice(0, alive.length, ...left, ...fresh)
      }

      const record = yield* made.provide(Recurring.get("every second"))
      // Once it has got over the last fault.
      const overIt = Date.now()
      yield* eventually(
        made.provide(Recurring.get("every second")),
        ({ last }) => (last?.at.getTime() ?? 0) > overIt,
        { timeout: 20_000 },
      )
      const paused = yield* made.provide(Recurring.pause("every second"))
      const last = paused.last?.at.getTime() ?? 0
      assert.ok(paused.runs >= record.runs)
      const expected = Array.from(
        { length: (last - first) / 1_000 + 1 },
        (_, index) => first + index * 1_000,
      )
      const ended = yield* eventually(
        subjectsIn(made.nats, "succeeded.>"),
        ({ length }) => length >= expected.length,
        { timeout: 30_000 },
      )
      const records = yield* Effect.forEach(
        ended,
        (subject) => made.client.get(subject.split(".").at(-1) ?? ""),
        { concurrency: 20 },
      )
      const times = records.map(({ recurring }) => recurring?.at.getTime() ?? 0)
      assert.deepEqual(times.sort((a, b) => a - b), expected, "jobs by nominal time")
      assert.equal(paused.runs, expected.length)

      const ledger = (existsSync(ledgerFile) ? readFileSync(ledgerFile, "utf8") : "").split("\n")
        .filter(Boolean).map((line) => line.split(" "))
      const started = new Map<number, number>()
      const idOf = new Map(records.map(({ id, recurring }) => [recurring?.at.getTime(), id]))
      for (const [at, id, , now] of ledger) {
        assert.equal(id, idOf.get(Number(at)), `another job for ${at}`)
        if (!started.has(Number(at))) started.set(Number(at), Number(now))
      }
      assert.deepEqual([...started.keys()].sort((a, b) => a - b), expected, "runs by nominal time")
      yield* eventually(
        subjectsIn(made.nats),
        // The records and the entry.
        ({ length }) => length === expected.length + 1,
        { timeout: 20_000 },
      )

      const longest = (delays: ReadonlyArray<number>) => Math.max(...delays)
      const created = records.map(({ created, recurring }) =>
        created.getTime() - (recurring?.at.getTime() ?? 0)
      )
      const begun = [...started].map(([at, now]) => now - at)
      const late = created.filter((delay) => delay > 500).length
      console.log(
        `seed ${seed}: ${expected.length} ticks; servers killed ${happened.kill}, stopped ` +
          `${happened.stop}, NATS killed ${happened.nats}; ${ledger.length} attempts; made at most ` +
          `${longest(created)} ms late (${late} more than 500), begun at most ${longest(begun)}`,
      )
    })

  const timeout = { timeout: 90_000 + seconds * 2_000 }
  effect(
    "gets one job for each time while servers are killed and started",
    survives({ kill: 1, stop: 0, nats: 0 }),
    timeout,
  )
  if (full !== undefined) {
    effect(
      "gets them while NATS is killed as well",
      survives({ kill: 4, stop: 0, nats: 1 }),
      timeout,
    )
    effect(
      "gets them while servers stand still for longer than the ack wait",
      survives({ kill: 1, stop: 3, nats: 0 }),
      timeout,
    )
  }
})
