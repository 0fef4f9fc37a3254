import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import type { JobId } from "../../src/core/JobId.ts"
import { ClaimGrace } from "../../src/nats/Claims.ts"
import { ended, produce, serve, subjectsIn } from "../actors/harness.ts"
import {
  effect,
  eventually,
  freshNamespace,
  type Program,
  spawnProgram,
  testServer,
} from "../harness.ts"
import { Once } from "./programs/unique.ts"

const enqueuer = new URL("./programs/enqueuer.ts", import.meta.url)

describe("Unique jobs", () => {
  const nats = testServer()

  /** A namespace with a client of this process, and processes that enqueue when they are told to. */
  const world = Effect.gen(function* () {
    const namespace = freshNamespace()
    const layer = nats.layer(namespace)
    const made = yield* produce(layer)
    const servers = yield* Effect.promise(nats.url)
    const go = `test.${namespace}.go`
    const jobs = Effect.map(
      subjectsIn(made.nats),
      (subjects) => subjects.filter((subject) => !subject.includes(".claim.")),
    )
    return {
      ...made,
      layer,
      jobs,
      claims: subjectsIn(made.nats, "claim.>"),
      spawn: (env: Readonly<Record<string, string>> = {}) =>
        Effect.tap(
          spawnProgram(enqueuer, {
            env: {
              SERVERS: servers,
              NAMESPACE: namespace,
              NATS_USER: nats.credentials.user,
              NATS_PASSWORD: nats.credentials.password,
              GO: go,
              ...env,
            },
          }),
          (program) => program.waitForLine("ready"),
        ),
      go: (key: string, count: number, options: object = {}) =>
        Effect.sync(() =>
          made.nats.connection.publish(go, JSON.stringify({ key, count, options }))
        ),
    }
  })

  /** What a process answers for a key: ids, and which of them it has created. */
  const answersOf = (program: Program, key: string) =>
    Effect.map(program.waitForLine(`${key} `), (line) => {
      assert.ok(!line.startsWith(`${key} failed`), line)
      return JSON.parse(line.slice(key.length + 1)) as ReadonlyArray<readonly [JobId, boolean]>
    })

  const rounds = Number(process.env["ROUNDS"] ?? 16)

  effect(
    "are one job each, however many of three processes enqueue them at once",
    () =>
      Effect.gen(function* () {
        const { go, jobs, spawn } = yield* world
        const programs = yield* Effect.all([spawn(), spawn(), spawn()], { concurrency: 3 })
        for (let round = 0; round < rounds; round++) {
          const key = `key-${round}`
          yield* go(key, round % 4 === 3 ? 21 : 22, round % 4 === 3 ? { delay: 3_600_000 } : {})
          const answers = (yield* Effect.forEach(programs, (one) => answersOf(one, key))).flat()
          assert.ok(answers.length >= 63)
          assert.equal(answers.filter(([, created]) => created).length, 1, key)
          assert.equal(new Set(answers.map(([id]) => id)).size, 1, key)
          assert.equal((yield* jobs).length, round + 1, key)
        }
      }),
    { timeout: rounds > 100 ? 600_000 : 30_000 },
  )

  const replace = { delay: 3_600_000, unique: { onConflict: "replace" } }

  const points = [
    // Whoever is next makes the job, once the claim is old.
    { at: "claimed", options: {}, takesOver: true },
    { at: "stored", options: {}, takesOver: false },
    { at: "stored", options: { unique: { until: "1 minute" } }, takesOver: false },
    { at: "stored", options: { delay: 3_600_000 }, takesOver: false },
    { at: "replaced", options: replace, takesOver: false },
  ] as const

  const crashAt = ({ at, options, takesOver }: typeof points[number]) =>
    Effect.gen(function* () {
      const { claims, go, jobs, layer, provide, spawn } = yield* world
      const key = "key"
      // What is to be replaced must be there.
      if (at === "replaced") yield* provide(Once.enqueue({ key, n: -1 }))
      const victim = yield* spawn({ CRASH_AT: at })
      yield* go(key, 1, options)
      assert.equal(yield* victim.exited, "SIGKILL", at)
      const before = (yield* jobs).map((subject) => subject.split(".").at(-1))
      assert.equal(new Set(before).size, takesOver ? 0 : 1, at)
      const next = yield* provide(Effect.provideService(
        Effect.all([1, 2, 3].map((n) => Once.submit({ key, n })), { concurrency: 3 }),
        ClaimGrace,
        500,
      ))
      assert.equal(next.filter(({ created }) => created).length, takesOver ? 1 : 0, at)
      const [{ id = "" } = {}] = next
      for (const answer of next) assert.equal(answer.id, id)
      if (!takesOver) assert.equal(before[0], id)
      if ("delay" in options) {
        const { payload, state } = yield* provide(Once.get(id))
        assert.deepEqual([state, payload.n], ["scheduled", 0], at)
        return
      }
      const server = yield* serve(layer, Once.toLayer(() => Effect.void))
      yield* server.until(ended(id))
      yield* eventually(jobs, (left) => left.length === 1)
      if (!("unique" in options)) yield* eventually(claims, (left) => left.length === 0)
    })

  effect(
    "stay one job when their producer is killed between any two of its writes",
    () => Effect.forEach(points, (point) => Effect.scoped(crashAt(point)), { concurrency: 3 }),
  )

  effect(
    "are claimed by the next one when a server is killed before it releases",
    () =>
      Effect.gen(function* () {
        const { claims, provide, spawn } = yield* world
        const server = yield* spawn({ SERVE: "yes" })
        const first = yield* provide(Once.enqueue({ key: "key", n: 1 }))
        assert.equal(yield* server.exited, "SIGKILL")
        assert.equal((yield* provide(Once.get(first))).state, "succeeded")
        assert.equal((yield* claims).length, 1)
        const second = yield* provide(Once.submit({ key: "key", n: 2 }))
        assert.deepEqual([second.created, second.id === first], [true, false])
      }),
  )

  effect(
    "stay one job when NATS is killed while many enqueue it",
    () =>
      Effect.gen(function* () {
        const { jobs, provide } = yield* world
        for (let round = 0; round < 2; round++) {
          const key = `key-${round}`
          const [answers] = yield* provide(Effect.all([
            Effect.forEach(
              Array.from({ length: 64 }, (_, n) => n),
              (n) => Effect.delay(Once.submit({ key, n }), n),
              { concurrency: "unbounded" },
            ),
            Effect.delay(nats.restartServer, 5 + 20 * round),
          ], { concurrency: 2 }))
          assert.equal(new Set(answers.map(({ id }) => id)).size, 1, key)
          assert.equal(answers.filter(({ created }) => created).length, 1, key)
          assert.equal((yield* Effect.retry(jobs, { times: 5 })).length, round + 1, key)
        }
      }),
    { timeout: 40_000 },
  )
})
