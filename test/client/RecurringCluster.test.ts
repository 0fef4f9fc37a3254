import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { createServer } from "node:net"
import { join } from "node:path"
import { describe } from "node:test"
import { Job, Nats, Recurring, Server, StreamSettings } from "../../mod.ts"
import * as Api from "../../src/nats/Api.ts"
import * as ServerBinary from "../../src/nats/ServerBinary.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import { is, watch } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, temporaryFolder } from "../harness.ts"

const freePort = (): Promise<number> =>
  new Promise((done) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      server.close(() => done(port))
    })
  })

const againSoon = Schedule.spaced("250 millis")

const isEnd = ({ to }: { readonly to: string }): boolean => to === "succeeded"

/** Three nats-servers, by name, until the scope ends. */
const cluster = Effect.gen(function* () {
  const folder = yield* temporaryFolder
  const { path } = yield* ServerBinary.find(undefined)
  const ports = yield* Effect.promise(() => Promise.all(Array.from({ length: 6 }, freePort)))
  const [clients, routes] = [ports.slice(0, 3), ports.slice(3)]
  const start = (port: number, index: number): ChildProcess => {
    const name = `n${index}`
    return spawn(
      path,
      [
        ...["-js", "-a", "127.0.0.1", "-p", `${port}`, "-sd", join(folder, name), "-n", name],
        ...["--cluster_name", "C", "--cluster", `nats://127.0.0.1:${routes[index]}`],
        ...["--routes", routes.map((route) => `nats://127.0.0.1:${route}`).join(",")],
        ...["-l", join(folder, `${name}.log`)],
      ],
      { stdio: "ignore" },
    )
  }
  const kill = (child: ChildProcess) =>
    Effect.promise(async () => {
      const gone = new Promise((done) => child.once("exit", done))
      if (child.kill("SIGKILL")) await gone
    })
  const children = yield* Effect.acquireRelease(
    Effect.sync(() => clients.map(start)),
    (children) => Effect.forEach(children, kill, { discard: true }),
  )
  return {
    servers: clients.map((port) => `127.0.0.1:${port}`),
    kill: (name: string) => kill(children[Number(name.slice(1))] as ChildProcess),
  }
})

describe("a recurring entry in a cluster", () => {
  effect(
    "neither misses nor repeats a time when the leader of its stream dies",
    () =>
      Effect.gen(function* () {
        const { kill, servers } = yield* cluster
        const namespace = freshNamespace()
        const Tick = Job.make("tick")
        const log = watch()
        const live = Server.layer({ queues: { default: 5 }, onEvent: log.onEvent }).pipe(
          Layer.provide(Tick.toLayer(() => Effect.void)),
          Layer.provideMerge(Nats.layer({ servers, namespace })),
          Layer.provide(Layer.succeed(StreamSettings, { replicas: 3 })),
        )
        // Until the cluster has formed nobody can make a stream there.
        const build = Effect.retry(Layer.build(live), { times: 60, schedule: againSoon })
        const first = yield* build
        const second = yield* build
        const leader = Effect.gen(function* () {
          const { connection } = yield* Nats.Nats
          const { cluster } = yield* Api.call<{ readonly cluster: { readonly leader: string } }>(
            ...[
              connection,
              `STREAM.INFO.${jobsStream(namespace, 0)}`,
              undefined,
              "asking",
            ] as const,
          )
          return cluster.leader
        })
        yield* Effect.gen(function* () {
          const options = { job: Tick, schedule: { every: "1 second" }, misfire: "all" } as const
          yield* Recurring.upsert("tick", options)
          assert.equal((yield* Recurring.upsert("tick", options)).change, "unchanged")
          yield* log.until(is("AttemptStarted"), { count: 2 })
          yield* kill(yield* leader)
          const before = log.events.filter(is("AttemptStarted")).length
          const more = (count: number) =>
            log.until(is("AttemptStarted"), { count: before + count, timeout: 30_000 })
          yield* more(1)
          const byHand = yield* Recurring.trigger("tick")
          yield* more(4)
          yield* Recurring.pause("tick")
          const history = yield* Recurring.history("tick")
          yield* eventually(
            Effect.sync(() => log.events.filter(is("JobMoved", undefined, isEnd)).length),
            (count) => count >= history.length,
          )
          const timed = history.filter(({ byHand }) => !byHand).map(({ at }) => at.getTime())
          assert(timed.length >= 4 && timed.length < 20, `${timed.length}`)
          assert.deepEqual(timed, timed.map((_, n) => (timed[0] ?? 0) - n * 1_000))
          assert.deepEqual(history.filter((run) => run.byHand).map(({ id }) => id), [byHand])
          const ends = log.events.filter(is("JobMoved", undefined, isEnd)).map(({ id }) => id)
          assert.deepEqual(ends.sort(), history.map(({ id }) => id).sort())
        }).pipe(Effect.provide(first))
        assert(second !== first)
      }),
    { timeout: 60_000 },
  )
})
