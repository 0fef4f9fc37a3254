import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Bytes, Job, Retry } from "../../mod.ts"
import type { JobId } from "../../src/core/JobId.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import { effect, testServer } from "../harness.ts"
import { ended, Envelope, is, publishRaw, serve } from "./harness.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", { code: Schema.Number }) {}
const twice = Retry.fixed({ attempts: 2, delay: "10 millis" })

describe("An attempt", () => {
  const nats = testServer()

  effect("that succeeds leaves a record with its result and itself", () =>
    Effect.gen(function* () {
      const Greet = Job.make("greet", { payload: Schema.String, success: Schema.String })
      const server = yield* serve(
        nats.layer(),
        Greet.toLayer((name) => Effect.succeed(`hi ${name}`)),
      )
      const id = yield* server.provide(Greet.enqueue("ada"))
      const record = yield* server.record(id)
      assert.equal(record.state, "succeeded")
      assert.equal(record.result, "hi ada")
      assert.equal(record.attemptCount, 1)
      const [attempt] = record.attempts
      assert.deepEqual([attempt?.number, attempt?.ending, attempt?.server], [
        1,
        "succeeded",
        server.server.id,
      ])
      assert.ok(attempt !== undefined && attempt.ended >= attempt.started)
      assert.ok(attempt.started >= record.created)
    }))

  effect("knows its job", () =>
    Effect.gen(function* () {
      const seen: Array<Job.CurrentJob> = []
      const Look = Job.make("look/at", { retry: twice, error: Boom })
      const server = yield* serve(
        nats.layer(),
        Look.toLayer(() =>
          Effect.gen(function* () {
            const job = yield* Job.current
            seen.push(job)
            if (job.attempt === 1) return yield* new Boom({ code: 1 })
          })
        ),
        { queues: { odd: 2 }, name: "lookout" },
      )
      const before = Date.now() - 500
      const id = yield* server.provide(Look.enqueue(undefined, { queue: "odd", priority: "high" }))
      const record = yield* server.record(id)
      const fields = ({ attempt, delivery, id, name, priority, queue, server }: Job.CurrentJob) => [
        attempt,
        delivery,
        id,
        name,
        priority,
        queue,
        server,
      ]
      const own = server.server.id
      assert.match(own, /^lookout-\d+-[0-9a-f]{6}$/)
      assert.deepEqual(seen.map(fields), [
        [1, 1, id, "look/at", "high", "odd", own],
        [2, 1, id, "look/at", "high", "odd", own],
      ])
      for (const [index, job] of seen.entries()) {
        assert.equal(job.created.getTime(), record.created.getTime())
        assert.equal(job.started.getTime(), record.attempts[index]?.started.getTime())
        assert.ok(job.created.getTime() >= before && job.started >= job.created)
      }
    }))

  effect(
    "that fails is retried until its attempts are used up; each keeps its typed error",
    () =>
      Effect.gen(function* () {
        const Fail = Job.make("fail", {
          error: Boom,
          retry: Retry.fixed({ attempts: 3, delay: 1 }),
        })
        let code = 0
        const server = yield* serve(nats.layer(), Fail.toLayer(() => new Boom({ code: ++code })))
        const id = yield* server.provide(Fail.enqueue())
        yield* server.until(ended(id))
        const record = yield* server.provide(Fail.get(id))
        assert.equal(record.state, "failed")
        assert.equal(record.attemptCount, 3)
        assert.deepEqual(record.attempts.map(({ error }) => error?.code), [1, 2, 3])
        assert.deepEqual(record.attempts.map(({ ending }) => ending), [
          "failed",
          "failed",
          "failed",
        ])
        assert.deepEqual(
          server.events.filter(is("JobMoved", id)).map(({ to }) => to),
          ["retrying", "retrying", "failed"],
        )
      }),
  )

  effect(
    "ends as crashed for a defect, a throw, no effect at all, and its own interruption",
    () =>
      Effect.gen(function* () {
        const none = { retry: Retry.none }
        const Defect = Job.make("defect", none)
        const Throw = Job.make("throw", none)
        const Nothing = Job.make("nothing", none)
        const Interrupt = Job.make("interrupt", none)
        const Hostile = Job.make("hostile", none)
        const Unprintable = Job.make("unprintable", none)
        const hostile = Object.defineProperty(new Error("x"), "message", {
          get: () => {
            throw new Error("the message itself throws")
          },
        })
        const server = yield* serve(
          nats.layer(),
          Layer.mergeAll(
            Defect.toLayer(() => Effect.die(new RangeError("too far"))),
            Throw.toLayer(() => {
              throw new TypeError("not even begun")
            }),
            Nothing.toLayer((() => undefined) as unknown as () => Effect.Effect<void>),
            Interrupt.toLayer(() => Effect.interrupt),
            Hostile.toLayer(() => {
              throw hostile
            }),
            Unprintable.toLayer(() =>
              Effect.die(Object.assign(new Error(), { message: 3, stack: {} }))
            ),
          ),
        )
        type AnyJob = { readonly enqueue: () => ReturnType<typeof Defect.enqueue> }
        const message = Effect.fnUntraced(function* (job: AnyJob) {
          const record = yield* server.record(yield* server.provide(job.enqueue()))
          assert.equal(record.state, "failed")
          assert.equal(record.attempts[0]?.ending, "crashed")
          return record.reason ?? ""
        })
        const [defect, thrown, nothing, interrupt, odd] = yield* Effect.all(
          [Defect, Throw, Nothing, Interrupt, Hostile, Unprintable].map(message),
          { concurrency: "unbounded" },
        )
        assert.equal(defect, "too far")
        assert.equal(thrown, "not even begun")
        assert.notEqual(nothing, "")
        assert.match(interrupt ?? "", /interrupted itself/)
        assert.notEqual(odd, "")
      }),
  )

  effect(
    "that takes too long is interrupted, its finalizers run, and it counts as failed",
    () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const Slow = Job.make("slow", { timeout: "50 millis", retry: twice })
        const server = yield* serve(
          nats.layer(),
          Slow.toLayer(() =>
            Effect.gen(function* () {
              const { attempt } = yield* Job.current
              yield* Effect.addFinalizer(() => Effect.sync(() => log.push(`scope ${attempt}`)))
              return yield* Effect.never
            }).pipe(Effect.onInterrupt(() => Effect.sync(() => log.push("interrupted"))))
          ),
        )
        const record = yield* server.record(yield* server.provide(Slow.enqueue()))
        assert.equal(record.state, "failed")
        assert.deepEqual(record.attempts.map(({ ending }) => ending), ["timedOut", "timedOut"])
        assert.match(record.reason ?? "", /50 ms/)
        assert.deepEqual(log, ["interrupted", "scope 1", "interrupted", "scope 2"])
      }),
  )

  effect(
    "runs the finalizers of its scope once, before its end is recorded",
    () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const Scoped = Job.make("scoped", { retry: twice })
        const server = yield* serve(
          nats.layer(),
          Scoped.toLayer(() =>
            Effect.gen(function* () {
              const { attempt } = yield* Job.current
              yield* Effect.addFinalizer(() => Effect.sync(() => log.push(`released ${attempt}`)))
              log.push(`acquired ${attempt}`)
              if (attempt === 1) yield* Effect.die("once")
            })
          ),
          { onEvent: (event) => event._tag === "JobMoved" && log.push(event.to) },
        )
        yield* server.record(yield* server.provide(Scoped.enqueue()))
        assert.deepEqual(log, [
          "acquired 1",
          "released 1",
          "retrying",
          "acquired 2",
          "released 2",
          "succeeded",
        ])
      }),
  )

  effect(
    "that discards ends the job; one that snoozes is not counted",
    () =>
      Effect.gen(function* () {
        let runs = 0
        const Discard = Job.make("discard")
        const Snooze = Job.make("snooze", { retry: Retry.none, success: Schema.Number })
        const server = yield* serve(
          nats.layer(),
          Layer.mergeAll(
            Discard.toLayer(() => Job.discard("no such customer")),
            Snooze.toLayer(() =>
              Effect.gen(function* () {
                const { attempt } = yield* Job.current
                if (++runs < 3) yield* Job.snooze("20 millis")
                return attempt
              })
            ),
          ),
        )
        const discarded = yield* server.record(yield* server.provide(Discard.enqueue()))
        assert.deepEqual(
          [discarded.state, discarded.reason, discarded.attempts.map(({ ending }) => ending)],
          ["failed", "no such customer", ["discarded"]],
        )
        const snoozed = yield* server.record(yield* server.provide(Snooze.enqueue()))
        assert.deepEqual(
          [snoozed.state, snoozed.result, snoozed.snoozes, snoozed.attemptCount],
          ["succeeded", 1, 2, 1],
        )
        assert.deepEqual(snoozed.attempts.map(({ ending }) => ending), [
          "snoozed",
          "snoozed",
          "succeeded",
        ])
      }),
  )

  effect("that snoozes for a time that is none ends as crashed", () =>
    Effect.gen(function* () {
      const Odd = Job.make("odd", { payload: Schema.Number, retry: Retry.none })
      const server = yield* serve(nats.layer(), Odd.toLayer((millis) => Job.snooze(millis)))
      for (const millis of [-1, 1e300]) {
        const record = yield* server.record(yield* server.provide(Odd.enqueue(millis)))
        assert.equal(record.state, "failed")
        assert.match(record.reason ?? "", /^delay: /)
      }
    }))

  effect(
    "whose result does not fit its schema or the server ends as crashed",
    () =>
      Effect.gen(function* () {
        const Wrong = Job.make("wrong", { success: Schema.Number, retry: Retry.none })
        const Huge = Job.make("huge", { success: Bytes, retry: Retry.none })
        const server = yield* serve(
          nats.layer(),
          Layer.mergeAll(
            Wrong.toLayer(() => Effect.succeed("text" as unknown as number)),
            Huge.toLayer(() => Effect.succeed(new Uint8Array(600 * 1024))),
          ),
        )
        const wrong = yield* server.record(yield* server.provide(Wrong.enqueue()))
        assert.equal(wrong.state, "failed")
        assert.match(wrong.reason ?? "", /result does not match its schema/)
        const huge = yield* server.record(yield* server.provide(Huge.enqueue()))
        assert.equal(huge.state, "failed")
        assert.match(huge.reason ?? "", /the result takes \d+ bytes, the limit is 458752/)
      }),
  )

  effect(
    "keeps the biggest input, result and errors, whatever comes together",
    () =>
      Effect.gen(function* () {
        const text = (length: number) => "ж".repeat(length)
        class Big extends Schema.TaggedError<Big>()("Big", { text: Schema.String }) {
          override get message() {
            return text(3_000)
          }
        }
        const Full = Job.make("full", {
          payload: Bytes,
          success: Bytes,
          error: Big,
          retry: Retry.fixed({ attempts: 11, delay: 0 }),
        })
        const server = yield* serve(
          nats.layer(),
          Full.toLayer((bytes) =>
            Effect.flatMap(
              Job.current,
              ({ attempt }) =>
                attempt < 11 ? new Big({ text: text(8_000) }) : Effect.succeed(bytes.slice()),
            )
          ),
        )
        const id = yield* server.provide(Full.enqueue(new Uint8Array(458_740)))
        const record = yield* server.record(id)
        assert.equal(record.state, "succeeded")
        assert.equal((record.result as Uint8Array).length, 458_740)
        assert.equal((record.payload as Uint8Array).length, 458_740)
        assert.equal(record.attemptCount, 11)
      }),
  )

  effect(
    "keeps its result and error apart from others', wherever its fiber pauses",
    () =>
      Effect.gen(function* () {
        const Echo = Job.make("echo", {
          payload: Schema.Tuple([Schema.Number, Schema.Number]),
          success: Schema.Struct({ text: Schema.String }),
          error: Boom,
          retry: Retry.none,
        })
        const server = yield* serve(
          nats.layer(),
          // A fiber pauses after some 2,000 steps: all lengths around that are run.
          Echo.toLayer(([steps, code]) =>
            Effect.gen(function* () {
              for (let step = 0; step < steps; step++) yield* Effect.sync(() => {})
              if (code % 4 > 1) return yield* new Boom({ code })
              return { text: `text ${code}` }
            })
          ),
          { queues: { default: 200 } },
        )
        const payloads = Array.from(
          { length: 1_200 },
          (_, code) => [code % 2 === 0 ? 1_800 + code / 4 : 0, code] as const,
        )
        const ids = yield* server.provide(Echo.enqueueMany(payloads))
        yield* server.until(ended(), { count: payloads.length })
        for (const [code, id] of ids.entries()) {
          const { attempts, result } = yield* server.provide(Echo.get(id))
          if (code % 4 > 1) {
            assert.equal(attempts[0]?.error?.code, code)
          } else assert.equal(result?.text, `text ${code}`)
        }
      }),
  )

  effect(
    "whose payload does not match its schema fails at once and keeps it",
    () =>
      Effect.gen(function* () {
        const Old = Job.make("moved", { payload: Schema.Struct({ old: Schema.String }) })
        const New = Job.make("moved", { payload: Schema.Struct({ to: Schema.Number }) })
        let ran = false
        const server = yield* serve(
          nats.layer(),
          New.toLayer(() => Effect.sync(() => void (ran = true))),
        )
        const id = yield* server.provide(Old.enqueue({ old: "form" }))
        const record = yield* server.record(id)
        assert.equal(record.state, "failed")
        assert.match(record.reason ?? "", /payload.* does not match its schema/)
        assert.deepEqual(record.payload, { old: "form" })
        assert.equal(record.attemptCount, 1)
        assert.equal(ran, false)
      }),
  )

  effect(
    "is not made for bytes that are no message: failed, kept, and others go on",
    () =>
      Effect.gen(function* () {
        const Fine = Job.make("fine", { payload: Schema.Number })
        const server = yield* serve(nats.layer(), Fine.toLayer(() => Effect.void))
        const { namespace } = server.nats
        const at = (id: string) => `pf.${namespace}.0.ready.default.3._.${id}`
        const garbage: ReadonlyArray<Uint8Array> = [
          new Uint8Array(0),
          new TextEncoder().encode('{"not":"ours"}'),
          new Uint8Array([0x98, 0xff, 0xc1]),
          MessagePack.encode([1, "fine", "default", 9, null, 0, new Uint8Array(0)]),
          MessagePack.encode([1, "fine", "not a queue", 3, null, 0, new Uint8Array(0)]),
          MessagePack.encode([1, "fine", "default", 3, { retry: 7 }, 0, new Uint8Array(0)]),
          MessagePack.encode([1, "fine", "default", 3, null, 0, "text"]),
          new Uint8Array(1024 * 1024 - 10).fill(0xc1),
        ]
        const ids: Array<JobId> = []
        for (const [index, bytes] of garbage.entries()) {
          yield* publishRaw(server.nats, at(`garbage-${index}`), bytes)
          ids.push(yield* server.provide(Fine.enqueue(index)))
        }
        for (const id of ids) assert.equal((yield* server.record(id)).state, "succeeded")
        for (const [index, bytes] of garbage.entries()) {
          const record = yield* server.record(`garbage-${index}` as JobId)
          assert.equal(record.state, "failed")
          assert.match(record.reason ?? "", /its message can't be read/)
          if (bytes.length < 1_000_000) {
            const kept = record.payload instanceof Uint8Array
              ? record.payload
              : MessagePack.encode(record.payload)
            assert.deepEqual([...kept], [...bytes])
          }
        }
      }),
  )

  effect(
    "is not made for a message of a newer version, which goes on untouched",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), Layer.empty)
        const { namespace } = server.nats
        const bytes = MessagePack.encode([Envelope.version + 1, { all: "new" }])
        const id = "from-the-future"
        yield* publishRaw(server.nats, `pf.${namespace}.0.ready.default.2._.${id}`, bytes)
        // Around twice: what was written the first time is the same message still.
        yield* server.until(is("JobMoved", undefined, ({ to }) => to === "unknown"), { count: 2 })
        const found = yield* Effect.promise(() =>
          server.nats.connection.request(
            `$JS.API.DIRECT.GET.PF_${namespace}_JOBS_0.pf.${namespace}.0.later.default.2._.${id}`,
          )
        )
        assert.deepEqual([...found.data], [...bytes])
        assert.equal(server.events.some(is("AttemptStarted")), false)
      }),
  )
})

describe("A retry policy", () => {
  const nats = testServer()

  effect(
    "decides by the error: as planned, never, after a time; what it throws ends the job",
    () =>
      Effect.gen(function* () {
        const seen: Array<readonly [number, number]> = []
        const Decide = Job.make("decide", {
          payload: Schema.Number,
          error: Boom,
          retry: Retry.fixed<Boom>({
            attempts: 3,
            delay: "1 hour",
            decide: (error, attempt) => {
              seen.push([error.code, attempt])
              if (error.code === 1) return true
              if (error.code === 2) return false
              if (error.code === 3) return "10 millis"
              if (error.code === 4) throw new Error("undecided")
              return Number.NaN
            },
          }),
        })
        const server = yield* serve(nats.layer(), Decide.toLayer((code) => new Boom({ code })))
        const enqueue = (code: number) => server.provide(Decide.enqueue(code))
        const planned = yield* enqueue(1)
        yield* server.until(is("JobMoved", planned))
        const waiting = yield* server.client.get(planned)
        assert.equal(waiting.state, "retrying")
        assert.ok((waiting.due?.getTime() ?? 0) > Date.now() + 3_500_000)
        const never = yield* server.record(yield* enqueue(2))
        assert.deepEqual([never.state, never.attemptCount], ["failed", 1])
        const soon = yield* server.record(yield* enqueue(3))
        assert.deepEqual([soon.state, soon.attemptCount], ["failed", 3])
        const threw = yield* server.record(yield* enqueue(4))
        assert.deepEqual([threw.state, threw.attemptCount], ["failed", 1])
        assert.match(threw.reason ?? "", /the retry policy threw: undecided/)
        const nonsense = yield* server.record(yield* enqueue(5))
        assert.equal(nonsense.state, "failed")
        assert.deepEqual(seen, [[1, 1], [2, 1], [3, 1], [3, 2], [4, 1], [5, 1]])
      }),
  )

  effect("given with a job replaces that of its definition", () =>
    Effect.gen(function* () {
      const Stubborn = Job.make("stubborn", { retry: Retry.none })
      const server = yield* serve(nats.layer(), Stubborn.toLayer(() => Effect.die("no")))
      const id = yield* server.provide(Stubborn.enqueue(undefined, { retry: twice }))
      assert.equal((yield* server.record(id)).attemptCount, 2)
    }))
})
