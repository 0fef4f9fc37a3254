import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { type Client, Job, type JobRecord, Retry } from "../../mod.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { ended, gate, is, produce, serve } from "../actors/harness.ts"
import { put, store } from "../nats/jobs.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

const Work = Job.make("work", { payload: Schema.Number, success: Schema.Number, queue: "work" })
const Break = Job.make("break", { error: Boom, queue: "work", retry: Retry.none })
const Again = Job.make("again", {
  error: Boom,
  queue: "mail",
  retry: Retry.fixed({ attempts: 5, delay: "1 hour" }),
})
const Wait = Job.make("wait", { queue: "slow", payload: Schema.Number })

const handlers = Layer.mergeAll(
  Work.toLayer((n) => Effect.succeed(n * 2)),
  Break.toLayer(() => Effect.fail(new Boom())),
  Again.toLayer(() => Effect.fail(new Boom())),
)

const idsOf = ({ jobs }: Client.JobPage) => jobs.map(({ id }) => id)

const zero: Client.StateCounts = {
  awaiting: 0,
  scheduled: 0,
  enqueued: 0,
  processing: 0,
  retrying: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
}

describe("reading the engine", () => {
  const server = testServer()

  effect(
    "counts every job of a mixed run once, in its state and queue",
    () =>
      Effect.gen(function* () {
        const nats = server.layer(freshNamespace())
        const { client, provide, until } = yield* serve(nats, handlers, {
          queues: { work: 10, mail: 10 },
        })
        yield* provide(Work.enqueueMany(Array.from({ length: 40 }, (_, n) => n)))
        for (let i = 0; i < 3; i++) yield* provide(Break.enqueue())
        for (let i = 0; i < 4; i++) yield* provide(Again.enqueue())
        for (let i = 0; i < 5; i++) yield* provide(Work.schedule(i, { delay: "1 hour" }))
        for (let i = 0; i < 6; i++) yield* provide(Work.enqueue(i, { queue: "nobody" }))
        // While jobs move one may count twice, so it is looked at before and after only.
        yield* until(ended(), { count: 43 })
        yield* until(is("JobMoved", undefined, ({ to }) => to === "retrying"), { count: 4 })
        const work = { ...zero, succeeded: 40, failed: 3, scheduled: 5 }
        // An outcome is told of before its message is acknowledged.
        const counts = yield* eventually(
          client.counts(),
          ({ total: { enqueued, processing, succeeded } }) =>
            enqueued === 6 && processing === 0 && succeeded === 40,
        )
        assert.deepEqual(counts.queues, {
          mail: { ...zero, retrying: 4 },
          nobody: { ...zero, enqueued: 6 },
          work,
        })
        assert.deepEqual(counts.total, { ...work, retrying: 4, enqueued: 6 })
        assert.equal(Object.values(counts.total).reduce((a, b) => a + b), 40 + 3 + 4 + 5 + 6)
        assert.deepEqual((yield* client.counts({ queue: "work" })).total, work)

        const [mail, nobody, own] = yield* client.queues()
        assert.deepEqual([mail?.queue, mail?.retrying, mail?.servers.length], ["mail", 4, 1])
        assert.deepEqual([nobody?.enqueued, nobody?.servers], [6, []])
        assert.deepEqual([own?.scheduled, own?.enqueued, own?.lagMillis], [5, 0, 0])
        assert.equal(own?.oldest, undefined)
      }),
  )

  effect(
    "lists the jobs of a state in pages that hold each of them once",
    () =>
      Effect.gen(function* () {
        const { client, provide, until } = yield* serve(server.layer(freshNamespace()), handlers, {
          queues: { work: 1 },
        })
        const waiting: Array<string> = []
        const done: Array<string> = []
        for (let i = 0; i < 12; i++) {
          waiting.push(yield* provide(Work.enqueue(i, { queue: "nobody", priority: "low" })))
          done.push(yield* provide(Work.enqueue(i)))
          yield* until(ended(), { count: i + 1 })
        }
        const pagesOf = Effect.fnUntraced(function* (options: Client.ListOptions) {
          const ids: Array<string> = []
          let cursor: string | undefined
          do {
            const page: Client.JobPage = yield* client.list({ limit: 5, ...options, cursor })
            ids.push(...idsOf(page))
            cursor = page.cursor
          } while (cursor !== undefined)
          return ids
        })
        assert.deepEqual(yield* pagesOf({ state: "enqueued" }), waiting)
        assert.deepEqual(yield* pagesOf({ state: "succeeded" }), done.toReversed())
        assert.deepEqual(yield* pagesOf({ state: "succeeded", name: "work" }), done.toReversed())
        assert.deepEqual(yield* pagesOf({ state: "succeeded", name: "break" }), [])
        assert.deepEqual(yield* pagesOf({ state: "enqueued", queue: "work" }), [])
        const { cursor, jobs: [newest] } = yield* client.list({ state: "succeeded" })
        assert.equal(cursor, undefined, "fifty fit on a page")
        assert.deepEqual([newest?.state, newest?.payload, newest?.result], ["succeeded", 11, 22])
        const { jobs: [oldest] } = yield* client.list({ state: "enqueued", limit: 1 })
        assert.deepEqual([oldest?.state, oldest?.priority, oldest?.payload], ["enqueued", "low", 0])
      }),
  )

  effect("tells what runs and what waits, and who runs it", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const nats = server.layer(freshNamespace())
      const WaitLive = Wait.toLayer(() => wait)
      const one = yield* serve(nats, WaitLive, { queues: { slow: 3 }, name: "one" })
      const ids = yield* one.provide(Wait.enqueueMany([0, 1, 2, 3, 4, 5, 6, 7]))
      yield* one.until(is("AttemptStarted"), { count: 3 })
      const [own] = yield* one.client.servers
      assert.equal(own?.id, one.server.id)
      assert.deepEqual(own?.pools, [{ queues: ["slow"], slots: 3 }])
      assert.equal(own?.runningCount, 3)
      assert.deepEqual(
        own?.running?.map(({ attempt, id, name, queue }) => [id, name, queue, attempt]).sort(),
        ids.slice(0, 3).map((id) => [id, "wait", "slow", 1]),
      )
      const running = yield* one.client.list({ state: "processing", limit: 2 })
      const rest = yield* one.client.list({
        ...{ state: "processing", limit: 2, cursor: running.cursor },
      })
      assert.deepEqual([...idsOf(running), ...idsOf(rest)].sort(), ids.slice(0, 3))
      assert.equal(rest.cursor, undefined)
      assert.equal(running.jobs[0]?.running?.server, one.server.id)
      assert.deepEqual(idsOf(yield* one.client.list({ state: "enqueued" })), ids.slice(3))
      const { total } = yield* eventually(one.client.counts(), ({ total }) => total.enqueued === 5)
      assert.deepEqual(total, { ...zero, enqueued: 5, processing: 3 })
      const [slow] = yield* one.client.queues({ queue: "slow" })
      assert.deepEqual(
        [slow?.enqueued, slow?.processing, slow?.byPriority.normal, slow?.oldest?.id],
        [5, 3, 5, ids[3]],
      )
      assert.deepEqual(slow?.servers, [one.server.id])
      assert.ok((slow?.lagMillis ?? -1) >= 0 && (slow?.lagMillis ?? 0) < 30_000)
      open()
      yield* one.until(ended(), { count: 8 })
      const [idle] = yield* eventually(
        one.client.servers,
        ([server]) => server?.runningCount === 0,
      )
      assert.deepEqual(idle?.running, [])
    }))

  effect("lists a server that doesn't answer without what it runs", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      const nats = server.layer(namespace)
      const { client, server: own } = yield* serve(nats, handlers, { queues: { work: 1 } })
      const context = yield* Layer.build(Wire.layer.pipe(Layer.provide(nats)))
      const wire = yield* Effect.provide(Wire.Wire, context)
      const silent = {
        ...{ id: "silent", host: "h", pid: 1, runtime: "node 24", started: 0 },
        ...{ pools: [{ queues: ["mail"], slots: 2 }], jobs: ["a"] },
      }
      yield* put(wire, wire.subjects.state("server", "silent"), MessagePack.encode(silent))
      yield* put(wire, wire.subjects.state("server", "junk"), Uint8Array.of(0xc1))
      const [first, second, ...others] = yield* client.servers
      assert.deepEqual([first?.id, first?.running, first?.runningCount], [
        "silent",
        undefined,
        undefined,
      ])
      assert.deepEqual([second?.id, second?.running, others], [own.id, [], []])
    }))

  effect(
    "hides the engine's own queues and jobs from all who don't ask for them",
    () =>
      Effect.gen(function* () {
        const nats = server.layer(freshNamespace())
        const { client } = yield* produce(nats)
        const wire = yield* Effect.provide(
          Wire.Wire,
          yield* Layer.build(Wire.layer.pipe(Layer.provide(nats))),
        )
        yield* wire.ensureQueue("_engine", 0)
        yield* wire.ensureQueue("q", 0)
        const command = yield* store(wire, "ready", { queue: "_engine", name: "_command" })
        const batch = yield* store(wire, "ready", { queue: "q", name: "_batch" })
        const job = yield* store(wire, "ready", { queue: "q" })
        const list = (options: Partial<Client.ListOptions>) =>
          Effect.map(client.list({ state: "enqueued", ...options }), idsOf)
        assert.deepEqual(yield* list({}), [job.id])
        assert.deepEqual(yield* list({ queue: "q" }), [job.id])
        assert.deepEqual(yield* list({ queue: "_engine" }), [command.id])
        assert.deepEqual(yield* list({ name: "_batch" }), [batch.id])
        assert.deepEqual(Object.keys((yield* client.counts()).queues), ["q"])
        yield* eventually(client.counts({ queue: "_engine" }), ({ total }) => total.enqueued === 1)
        assert.deepEqual((yield* client.queues()).map(({ queue }) => queue), ["q"])
      }),
  )

  effect(
    "refuses bad options by name, and reads a namespace where nothing is",
    () =>
      Effect.gen(function* () {
        const { client } = yield* produce(server.layer(freshNamespace()))
        const fieldOf = <A>(self: Effect.Effect<A, unknown>) =>
          Effect.map(Effect.flip(self), (error) => {
            assert.ok(error instanceof InvalidOptions, String(error))
            return error.field
          })
        const list = (options: Record<string, unknown>) =>
          fieldOf(client.list({ state: "failed", ...options } as Client.ListOptions))
        assert.equal(yield* list({ state: "ready" }), "state")
        assert.equal(yield* list({ queue: "a.b" }), "queue")
        assert.equal(yield* list({ group: "*" }), "group")
        assert.equal(yield* list({ name: "" }), "name")
        assert.equal(yield* list({ offset: 1 }), "options.offset")
        for (const limit of [0, 1_001, 1.5, Number.NaN]) {
          assert.equal(yield* list({ limit }), "limit")
        }
        const ofOther = Buffer.from(MessagePack.encode(["succeeded", 1])).toString("base64url")
        const tooMany = Buffer.from(MessagePack.encode(["failed", 1, 1])).toString("base64url")
        for (const cursor of ["", "!", "AAAA", ofOther, tooMany, 7]) {
          assert.equal(yield* list({ cursor }), "cursor")
        }
        assert.equal(yield* fieldOf(client.counts({ queue: ">" })), "queue")
        assert.equal(yield* fieldOf(client.queues({ queue: "" })), "queue")
        for (const state of Object.keys(zero) as Array<JobRecord.JobRecord["state"]>) {
          assert.deepEqual(yield* client.list({ state }), { jobs: [], cursor: undefined })
        }
        assert.deepEqual(yield* client.counts(), { total: zero, queues: {} })
        assert.deepEqual(yield* client.queues(), [])
        assert.deepEqual(yield* client.servers, [])
      }),
  )
})
