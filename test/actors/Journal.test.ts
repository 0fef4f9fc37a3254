import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { type Client, Job, type Journal, type Nats, Retry } from "../../mod.ts"
import { Journal as ActorJournal } from "../../actors/Journal.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { decodeLine } from "../../src/core/Journal.ts"
import { logsStream } from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { gate, is, serve } from "./harness.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

/** The lines of a job once there are that many: they are stored beside its outcome, not before. */
const linesOf = (client: Client.Client, id: JobId, count: number) =>
  Effect.map(
    eventually(client.logs(id), ({ lines }) => lines.length >= count),
    ({ lines }) => lines,
  )

const texts = (lines: ReadonlyArray<Journal.Line>) => lines.map(({ text }) => text)

/** The application's own loggers: none, so that tests say nothing. */
const silent = Logger.layer([])

/** All that is published under the log subjects of a namespace from now on, as subjects. */
const listenTo = Effect.fnUntraced(function* ({ connection, namespace }: Nats.Nats) {
  const heard: Array<string> = []
  const subscription = connection.subscribe(`pf.${namespace}.log.>`, {
    callback: (_, { subject }) => void heard.push(subject),
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => subscription.unsubscribe()))
  yield* Effect.promise(() => connection.flush())
  return heard
})

describe("A handler that logs", () => {
  const nats = testServer()

  effect("leaves the lines of all its attempts in their order", () =>
    Effect.gen(function* () {
      const Talk = Job.make("talk", {
        error: Boom,
        logs: true,
        retry: Retry.fixed({ attempts: 2, delay: 10 }),
      })
      const server = yield* serve(
        nats.layer(),
        Talk.toLayer(() =>
          Effect.gen(function* () {
            const { attempt } = yield* Job.current
            yield* Effect.log("begin", { attempt })
            yield* Effect.annotateLogs(Effect.logWarning("careful"), { user: "ada" })
            if (attempt === 1) return yield* new Boom()
            yield* Effect.logError(
              "caught",
              yield* Effect.sandbox(Effect.die("pity")).pipe(Effect.flip),
            )
          })
        ).pipe(Layer.provide(silent)),
      )
      const before = Date.now()
      const id = yield* server.provide(Talk.enqueue())
      yield* server.record(id)
      const lines = yield* linesOf(server.client, id, 5)
      assert.deepEqual(
        lines.map(({ annotations, attempt, level, text }) => [
          attempt,
          level,
          text.split("\n")[0],
          annotations,
        ]),
        [
          [1, "Info", 'begin {"attempt":1}', {}],
          [1, "Warn", "careful", { user: "ada" }],
          [2, "Info", 'begin {"attempt":2}', {}],
          [2, "Warn", "careful", { user: "ada" }],
          [2, "Error", lines[4]?.text.split("\n")[0], {}],
        ],
      )
      assert.match(lines[4]?.text ?? "", /^caught .*pity/)
      for (const { time } of lines) assert.ok(time.getTime() >= before && time <= new Date())
    }))

  effect(
    "keeps as many lines as its definition allows, and tells how many it dropped",
    () =>
      Effect.gen(function* () {
        const Chatter = Job.make("chatter", { logs: { lines: 150, level: "Warn" } })
        const server = yield* serve(
          nats.layer(),
          Chatter.toLayer(() =>
            Effect.forEach(
              Array.from({ length: 400 }, (_, i) => i),
              (i) =>
                Effect.andThen(Effect.log("less"), Effect.logWarning(`${i} ${"x".repeat(3_000)}`)),
              {
                discard: true,
              },
            )
          ).pipe(Layer.provide(silent)),
        )
        const id = yield* server.provide(Chatter.enqueue())
        yield* server.record(id)
        const lines = yield* linesOf(server.client, id, 151)
        assert.deepEqual(lines.slice(0, 150).map(({ text }) => Number(text.split(" ")[0])), [
          ...Array.from({ length: 150 }, (_, i) => i),
        ])
        assert.deepEqual([lines[0]?.text.length, lines[0]?.text.at(-1)], [2_000, "…"])
        assert.deepEqual(texts(lines.slice(150)), ["… 250 lines dropped"])
      }),
  )

  effect("still logs where the application does", () =>
    Effect.gen(function* () {
      const own: Array<unknown> = []
      const logger = Logger.make(({ message }) => void own.push(message))
      const Talk = Job.make("talk", { logs: true })
      const server = yield* serve(
        nats.layer(),
        Talk.toLayer(() => Effect.log("hello")).pipe(Layer.provide(Logger.layer([logger]))),
      )
      const id = yield* server.provide(Talk.enqueue())
      yield* server.record(id)
      assert.deepEqual(texts(yield* linesOf(server.client, id, 1)), ["hello"])
      assert.deepEqual(own, [["hello"]])
    }))

  effect(
    "publishes nothing when its definition keeps no lines, nor does what it leaves running",
    () =>
      Effect.gen(function* () {
        const late = gate()
        const done = gate()
        const Quiet = Job.make("quiet")
        const Leaky = Job.make("leaky", { logs: true })
        const leak = Effect.gen(function* () {
          yield* late.wait
          yield* Effect.log("too late")
          yield* Job.progress(1)
          done.open()
        })
        const server = yield* serve(
          nats.layer(),
          Layer.merge(
            Quiet.toLayer(() => Effect.log("hush")),
            Leaky.toLayer(() => Effect.asVoid(Effect.forkDetach(leak, { startImmediately: true }))),
          ).pipe(Layer.provide(silent)),
        )
        const heard = yield* listenTo(server.nats)
        const quiet = yield* server.provide(Quiet.enqueue())
        const leaky = yield* server.provide(Leaky.enqueue())
        yield* server.record(quiet)
        yield* server.record(leaky)
        late.open()
        yield* done.wait
        yield* Effect.promise(() => server.nats.connection.flush())
        assert.deepEqual(heard, [])
        assert.deepEqual(yield* server.client.logs(leaky), { lines: [], cursor: 0 })
      }),
  )
})

describe("A handler that reports its progress", () => {
  const nats = testServer()

  effect("sends few of many, and the last one always", () =>
    Effect.gen(function* () {
      const Count = Job.make("count")
      const server = yield* serve(
        nats.layer(),
        Count.toLayer(() =>
          Effect.forEach(Array.from({ length: 10_000 }, (_, i) => i + 1), (done) =>
            Job.progress({ done, total: 10_000, note: `part ${done}` }), { discard: true })
        ),
      )
      const heard = yield* listenTo(server.nats)
      const id = yield* server.provide(Count.enqueue())
      const record = yield* server.record(id)
      const progress = yield* eventually(server.client.progress(id), (it) =>
        it?.done === 10_000)
      assert.deepEqual({ ...progress, time: undefined }, {
        _tag: "Progress",
        time: undefined,
        fraction: 1,
        done: 10_000,
        total: 10_000,
        note: "part 10000",
        attempt: 1,
      })
      yield* Effect.promise(() =>
        server.nats.connection.flush()
      )
      const [attempt] = record.attempts
      const millis = attempt!.ended.getTime() - attempt!.started.getTime()
      assert.ok(heard.length >= 2 && heard.length <= 2 + millis / 250, `${heard.length}`)
      assert.ok(heard.every((subject) => subject.endsWith(`.${id}.progress`)))
    }))

  effect("sends what it said last while it goes on", () =>
    Effect.gen(function* () {
      const end = gate()
      const Wait = Job.make("wait")
      const server = yield* serve(
        nats.layer(),
        Wait.toLayer(() =>
          Effect.andThen(
            Effect.forEach([0.1, 0.2, 0.3], Job.progress, { discard: true }),
            end.wait,
          )
        ),
      )
      const id = yield* server.provide(Wait.enqueue())
      const seen = yield* eventually(server.client.progress(id), (it) => it?.fraction === 0.3)
      assert.equal(seen?.attempt, 1)
      end.open()
      yield* server.record(id)
    }))
})

describe("A handler that writes while NATS is away", () => {
  const nats = testServer()

  effect("has few lines on their way at once", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const kept = new ActorJournal(wire, { id: "a", attempt: 1 }, 1_000)
      yield* nats.killServer
      for (let i = 0; i < 5_000; i++) {
        kept.line(new Date(), "Info", () => `line ${i}`, {})
        kept.report(i / 5_000)
      }
      assert.equal(wire.publisher.pending, 101)
      kept.end()
      kept.line(new Date(), "Info", () => "late", {})
      kept.report(1)
      assert.equal(wire.publisher.pending, 1_003)
      yield* nats.restartServer
      yield* eventually(Effect.sync(() => wire.publisher.pending), (pending) => pending === 0)
      const stream = logsStream(wire.subjects.namespace)
      const stored = yield* wire.reader.range(stream, "pf.>", 1, 2_000)
      const lines = stored.flatMap(({ data, subject }) =>
        subject.endsWith("progress") ? [] : [decodeLine(data)?.text]
      )
      // The stream keeps a thousand, and the last one says what was dropped.
      assert.deepEqual(lines, [
        ...Array.from({ length: 999 }, (_, i) => `line ${i + 1}`),
        "… 4000 lines dropped",
      ])
    }).pipe(Effect.provide(Wire.layer.pipe(Layer.provide(nats.layer())))))

  effect(
    "isn't held up, keeps little, and what it wrote last is there afterwards",
    () =>
      Effect.gen(function* () {
        const began = gate()
        const away = gate()
        const wrote = gate()
        const Write = Job.make("write", { logs: { lines: 120 } })
        let millis = 0
        const server = yield* serve(
          nats.layer(),
          Write.toLayer(() =>
            Effect.gen(function* () {
              began.open()
              yield* away.wait
              const start = performance.now()
              for (let i = 1; i <= 5_000; i++) {
                yield* Effect.log(`line ${i}`)
                yield* Job.progress(i / 5_000)
              }
              millis = performance.now() - start
              wrote.open()
            })
          ).pipe(Layer.provide(silent)),
        )
        const id = yield* server.provide(Write.enqueue())
        yield* began.wait
        yield* nats.killServer
        away.open()
        yield* wrote.wait
        assert.ok(millis < 2_000, `${millis} ms`)
        yield* nats.restartServer
        const moved = yield* server.until(is("JobMoved", id), { timeout: 20_000 })
        assert.equal(moved.length, 1)
        const progress = yield* eventually(
          Effect.orElseSucceed(server.client.progress(id), () => undefined),
          (it) => it?.fraction === 1,
        )
        assert.equal(progress?.attempt, 1)
        const lines = yield* linesOf(server.client, id, 121)
        assert.equal(lines.filter(({ text }) => text === "… 4880 lines dropped").length, 1)
        assert.ok(new Set(texts(lines)).has("line 120"))
      }),
  )
})
