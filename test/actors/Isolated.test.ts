import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Tracer from "effect/Tracer"
import assert from "node:assert/strict"
import process from "node:process"
import { describe, it } from "node:test"
import { Errors, Isolated, Job, type JobRecord, Middleware, Operation } from "../../mod.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { is, serve } from "./harness.ts"
import { handle, Here, InProcess, InThread, Short } from "./programs/isolatedJobs.ts"

const worker = new URL("./programs/isolatedWorker.ts", import.meta.url)
const options = { workers: 1, grace: "200 millis" } as const
const isolated = [InThread, InProcess]
const live = Layer.mergeAll(
  Isolated.layer(InThread, worker, options),
  Isolated.layer(InProcess, worker, options),
  Here.toLayer(handle),
).pipe(Layer.orDie)

const gist = ({ attempts, reason, result, state }: JobRecord.JobRecord) => ({
  state,
  reason,
  result,
  attempts: attempts.map(({ ending, error, message }) => ({ ending, error, message })),
})

describe("An isolated handler", () => {
  const nats = testServer()

  effect("ends like one in the server, whatever it does", () =>
    Effect.gen(function* () {
      const { provide, record } = yield* serve(nats.layer(), live)
      const deeds = ["well", "fail", "unfit", "crash", "interrupt", "discard", "misfit", "huge"]
      for (const deed of [...deeds, "veto", "snooze"]) {
        const expected = gist(yield* record(yield* provide(Here.enqueue(deed))))
        for (const job of isolated) {
          const seen = gist(yield* record(yield* provide(job.enqueue(deed))))
          assert.deepEqual(seen, expected, `${job.name} ${deed}`)
        }
      }
      // The stack is that of the place where it was thrown.
      const { attempts } = yield* record(yield* provide(InThread.enqueue("crash")))
      assert.match(attempts[0]?.stack ?? "", /isolatedJobs\.ts/)
    }))

  effect(
    "runs where its definition says, again and again in the same place",
    () =>
      Effect.gen(function* () {
        const { provide, record } = yield* serve(nats.layer(), live)
        const whereOf = Effect.fnUntraced(function* (job: typeof isolated[number]) {
          const { result = "" } = yield* record(yield* provide(job.enqueue("where")))
          return String(result)
        })
        const [thread = "", other = ""] = yield* Effect.forEach(isolated, whereOf)
        assert.ok(thread.startsWith(`${process.pid}:`) && !thread.endsWith(":0"), thread)
        assert.ok(!other.startsWith(`${process.pid}:`), other)
        assert.deepEqual(yield* Effect.forEach(isolated, whereOf), [thread, other])
      }),
  )

  effect(
    "knows its job, with its parents and its context, as one in the server does",
    () =>
      Effect.gen(function* () {
        const tenants = Middleware.make("tenants", {
          enqueue: (request, next) => next({ ...request, context: { tenant: "acme" } }),
        })
        const { provide, record } = yield* serve(
          nats.layer(),
          Layer.provideMerge(live, Middleware.layer([tenants])),
        )
        const parent = yield* provide(InThread.enqueue("before"))
        for (const job of isolated) {
          const { started, ...record1 } = yield* record(
            yield* provide(job.enqueueAfter(parent, "facts", { priority: "high" })),
          ).pipe(Effect.map(({ result, ...record }) => {
            const facts = JSON.parse(String(result)) as Record<string, unknown>
            assert.deepEqual(facts, {
              id: record.id,
              name: job.name,
              attempt: 1,
              delivery: 1,
              queue: "default",
              priority: "high",
              created: record.created.toISOString(),
              context: { tenant: "acme" },
              started: record.attempts[0]?.started.toISOString(),
              server: record.attempts[0]?.server,
              parents: facts["parents"],
            })
            const [{ id, outcome }] = facts["parents"] as [{ id: string; outcome: unknown }]
            assert.equal(id, parent)
            assert.equal((outcome as { state: string }).state, "succeeded")
            return { ...record, started: facts["started"] }
          }))
          assert.ok(started !== undefined && record1.state === "succeeded")
          const child = yield* provide(job.enqueueAfter(parent, "parents"))
          assert.equal((yield* record(child)).result, '["did before"]')
        }
      }),
  )

  effect(
    "logs with annotations, says how far it is, and carries the trace on",
    () =>
      Effect.gen(function* () {
        const spans: Array<Tracer.NativeSpan> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          },
        })
        const traced = Layer.provideMerge(live, Layer.succeed(Tracer.Tracer, tracer))
        const { client, provide, record } = yield* serve(nats.layer(), traced)
        for (const job of isolated) {
          const id = yield* provide(job.enqueue("speak"))
          yield* record(id)
          const { lines } = yield* eventually(client.logs(id), ({ lines }) => lines.length > 0)
          assert.deepEqual(
            lines.map((
              { annotations, attempt, level, text },
            ) => [level, text, annotations, attempt]),
            [["Warn", 'hear {"me":1}', { tenant: "acme", n: "2" }, 1]],
          )
          const progress = yield* eventually(client.progress(id), (found) => found !== undefined)
          assert.deepEqual([progress?.fraction, progress?.note], [0.25, "a quarter"])
          spans.length = 0
          const spoken = yield* record(yield* provide(job.enqueue("span")))
          const span = spans.find(({ name }) => name === `job ${job.name}`)
          assert.equal(spoken.result, `ExternalSpan ${span?.traceId} ${span?.spanId}`)
        }
      }),
  )

  effect(
    "is surrounded by middleware, which sees its result and errors",
    () =>
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const watching = Middleware.make("watching", {
          attempt: (_, next) =>
            Effect.orElseSucceed(
              Effect.map(next, (value) => {
                seen.push(value)
                return `${value}!`
              }),
              () => "rescued",
            ),
        })
        const { provide, record } = yield* serve(
          nats.layer(),
          Layer.provideMerge(live, Middleware.layer([watching])),
        )
        for (const job of isolated) {
          assert.equal((yield* record(yield* provide(job.enqueue("well")))).result, "did well!")
          assert.equal((yield* record(yield* provide(job.enqueue("fail")))).result, "rescued")
        }
        assert.deepEqual(seen, ["did well", "did well"])
      }),
  )

  effect(
    "keeps its lease and shows progress while it never lets go of the processor",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const settings = { ackWaitMillis: 3_000 }
        const servers = [yield* serve(layer, live, settings), yield* serve(layer, live, settings)]
        const [{ client, provide }] = servers as [typeof servers[0] & object]
        const ids = yield* Effect.forEach(isolated, (job) => provide(job.enqueue("spin 4000")))
        const counting = yield* provide(Here.enqueue("well"))
        for (const id of [...ids, counting]) {
          const { attempts, state } = yield* eventually(
            Effect.orDie(client.get(id)),
            ({ state }) => state === "succeeded",
          )
          assert.deepEqual([state, attempts.length], ["succeeded", 1])
        }
        const all = servers.flatMap(({ events }) => events)
        for (const id of ids) assert.equal(all.filter(is("AttemptStarted", id)).length, 1)
        const steps = yield* Effect.forEach(isolated, (job) => provide(job.enqueue("count")))
        for (const id of steps) {
          const first = yield* eventually(client.progress(id), (found) => found !== undefined)
          assert.ok((first?.fraction ?? 1) < 1, "progress came at the end alone")
        }
      }),
  )

  effect(
    "is limited in time from when a worker has it, and interrupted then",
    () =>
      Effect.gen(function* () {
        const { provide, record } = yield* serve(
          nats.layer(),
          Layer.orDie(
            Isolated.layer(Short, worker, { ...options, grace: "5 seconds" }),
          ),
        )
        const spinning = yield* provide(Short.enqueueMany(["spin 350", "spin 350", "spin 350"]))
        for (const id of spinning) assert.equal((yield* record(id)).state, "succeeded")
        const { attempts } = yield* record(yield* provide(Short.enqueue("never")))
        const [{ ended, message, started }] = attempts as [JobRecord.AttemptRecord]
        assert.equal(message, "the attempt took longer than its limit of 600 ms")
        // Where it lets go of the processor, its worker isn't killed.
        assert.ok(ended.getTime() - started.getTime() < 3_000)
        // The deadline of a job counts whatever it waits for.
        const first = yield* provide(Short.enqueue("spin 500"))
        const late = yield* provide(Short.enqueue("well", { deadline: "200 millis" }))
        assert.match((yield* record(late)).reason ?? "", /wasn't finished by its deadline/)
        assert.equal((yield* record(first)).state, "succeeded")
      }),
  )

  effect(
    "that floods its server with lines and progress is cut short",
    () =>
      Effect.gen(function* () {
        const { client, provide, record } = yield* serve(
          nats.layer(),
          Layer.provide(live, Logger.layer([])),
        )
        for (const job of isolated) {
          const id = yield* provide(job.enqueue("flood"))
          assert.equal((yield* record(id)).result, "flooded")
          const { lines } = yield* eventually(client.logs(id), ({ lines }) => lines.length > 200)
          assert.match(lines.at(-1)?.text ?? "", /^… \d+ lines dropped$/)
          const last = yield* eventually(client.progress(id), (found) => found?.fraction === 1)
          assert.equal(last?.done, 20_000)
        }
      }),
  )

  effect("never gets what was cut off when its attempt is", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), live)
      const { client, provide, record } = server
      for (const job of isolated) {
        const id = yield* provide(job.enqueue("spin"))
        yield* server.until(is("AttemptStarted", id))
        yield* client.operate(id, Operation.cancel())
        // The only worker was killed with it, and there is another.
        assert.equal((yield* record(yield* provide(job.enqueue("well")))).result, "did well")
      }
    }))
})

describe("A definition with isolation", () => {
  it("is refused by toLayer, which says what to do", () => {
    assert.throws(() => InThread.toLayer(handle), (error) => {
      assert.ok(error instanceof Errors.InvalidOptions)
      assert.equal(error.field, "isolation")
      assert.match(error.message, /Isolated\.serve .* Isolated\.layer/)
      return true
    })
    assert.throws(() => Job.make("x", { isolation: "fiber" as "thread" }), Errors.InvalidOptions)
  })

  effect("is bound with checked options", () =>
    Effect.gen(function* () {
      const refused = Effect.fnUntraced(function* (
        module: URL | string,
        options: Isolated.IsolatedOptions,
      ) {
        const built = Layer.build(Isolated.layer(InThread, module, options))
        const error = yield* Effect.flip(built)
        assert.ok(error instanceof Errors.InvalidOptions)
        return error.field
      })
      assert.equal(yield* refused("./worker.ts", {}), "module")
      assert.equal(yield* refused("https://example.org/worker.ts", {}), "module")
      assert.equal(yield* refused(worker, { workers: 0 }), "workers")
      assert.equal(yield* refused(worker, { grace: "40 days" }), "grace")
      assert.equal(yield* refused(worker, { idle: -1 }), "idle")
      assert.equal(yield* refused(worker, { memory: 100 }), "memory")
      const unknown = { worker: 1 } as Isolated.IsolatedOptions
      assert.equal(yield* refused(worker, unknown), "options.worker")
    }))
})
