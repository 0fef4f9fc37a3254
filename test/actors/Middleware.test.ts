import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, Middleware, Retry } from "../../mod.ts"
import { effect, testServer } from "../harness.ts"
import { ended, serve } from "./harness.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

const once = Retry.fixed({ attempts: 1, delay: 0 })

const Work = Job.make("work", {
  payload: Schema.String,
  success: Schema.String,
  error: Refused,
  retry: once,
})

const Tenant: Context.Reference<string> = Context.Reference("test/Tenant", {
  defaultValue: () => "none",
})

const WorkLive = Work.toLayer((text) =>
  Effect.gen(function* () {
    if (text === "fail") return yield* new Refused({ why: "asked to" })
    if (text === "crash") throw new Error("the handler's own")
    return `${text} for ${yield* Tenant}`
  })
)

/** Around attempts. */
const around = (name: string, attempt: Middleware.Hooks["attempt"] & object) =>
  Middleware.make(name, { attempt })

describe("middleware around an attempt", () => {
  const server = testServer()

  const serveWith = (middleware: ReadonlyArray<Middleware.Middleware>) =>
    serve(server.layer(), Layer.provideMerge(WorkLive, Middleware.layer(middleware)))

  /** Runs one job of a text under the middleware, and reads what became of it. */
  const outcome = Effect.fnUntraced(function* (
    text: string,
    ...middleware: ReadonlyArray<Middleware.Middleware>
  ) {
    const { provide, record } = yield* serveWith(middleware)
    return yield* record(yield* provide(Work.enqueue(text)))
  })

  effect(
    "is entered globally first, then that of the definition, and left the other way",
    () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const tracing = (name: string) =>
          around(name, (attempt, next) =>
            Effect.suspend(() => {
              log.push(`>${name}`)
              assert.deepEqual([attempt.name, attempt.attempt, attempt.payload], ["own", 1, "x"])
              return Effect.ensuring(next, Effect.sync(() => log.push(`<${name}`)))
            }))
        const Own = Job.make("own", {
          payload: Schema.String,
          middleware: [tracing("c"), tracing("d")],
        })
        const OwnLive = Own.toLayer(() => Effect.sync(() => log.push("run")))
        const { provide, record } = yield* serve(
          server.layer(),
          Layer.provideMerge(OwnLive, Middleware.layer([tracing("a"), tracing("b")])),
        )
        yield* record(yield* provide(Own.enqueue("x")))
        assert.deepEqual(log, [">a", ">b", ">c", ">d", "run", "<d", "<c", "<b", "<a"])
      }),
  )

  effect("gives the handler what travelled from the enqueue", () =>
    Effect.gen(function* () {
      const Tenants = Middleware.make("tenants", {
        enqueue: (request, next) =>
          Effect.flatMap(Tenant, (tenant) => next({ ...request, context: { tenant } })),
        attempt: (attempt, next) =>
          Effect.provideService(next, Tenant, attempt.context["tenant"] ?? "nobody"),
      })
      const { provide, record } = yield* serveWith([Tenants])
      const id = yield* Effect.provideService(provide(Work.enqueue("mail")), Tenant, "acme")
      assert.equal((yield* record(id)).result, "mail for acme")
    }))

  effect("lets handlers read the context of every attempt", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const Reading = Job.make("reading", {
        retry: Retry.fixed({ attempts: 2, delay: 0 }),
        middleware: [
          Middleware.make("locale", {
            enqueue: (request, next) => next({ ...request, context: { locale: "de" } }),
          }),
        ],
      })
      const live = Reading.toLayer(() =>
        Effect.gen(function* () {
          const { attempt, context } = yield* Job.current
          seen.push(context)
          if (attempt === 1) throw new Error("again")
        })
      )
      const { provide, record } = yield* serve(server.layer(), live)
      yield* record(yield* provide(Reading.enqueue()))
      assert.deepEqual(seen, [{ locale: "de" }, { locale: "de" }])
    }))

  effect(
    "vetoes: the job ends cancelled, and its handler does not run",
    () =>
      Effect.gen(function* () {
        const guard = around("guard", () => Middleware.veto("tenant closed"))
        const record = yield* outcome("crash", guard)
        assert.deepEqual([record.state, record.reason], ["cancelled", "tenant closed"])
        assert.deepEqual([record.attemptCount, record.attempts.length], [0, 1])
        assert.deepEqual([record.attempts[0]?.ending, record.attempts[0]?.message], [
          ...["vetoed", "tenant closed"],
        ])
      }),
  )

  effect("changes the end of an attempt", () =>
    Effect.gen(function* () {
      const rescue = around("rescue", (_, next) => Effect.orElseSucceed(next, () => "rescued"))
      assert.equal((yield* outcome("fail", rescue)).result, "rescued")
      const instead = around("instead", () => Effect.succeed("cached"))
      assert.equal((yield* outcome("crash", instead)).result, "cached")
      const refuse = around("refuse", () => Effect.fail(new Refused({ why: "not you" })))
      const { attempts } = yield* outcome("x", refuse)
      assert.deepEqual([attempts[0]?.ending, (attempts[0]?.error as Refused).why], [
        ...["failed", "not you"],
      ])
    }))

  effect("that lets things pass changes nothing", () =>
    Effect.gen(function* () {
      const passing = [
        around("one", (_, next) => next),
        around("two", (_, next) => Effect.tapCause(next, () => Effect.void)),
      ]
      const succeeded = yield* outcome("x", ...passing)
      assert.equal(succeeded.result, "x for none")
      const failed = yield* outcome("fail", ...passing)
      assert.deepEqual(failed.attempts.map(({ ending, message }) => [ending, message]), [
        ["failed", yield* Effect.succeed(failed.attempts[0]?.message)],
      ])
      assert.ok(failed.attempts[0]?.error)
      const crashed = yield* outcome("crash", ...passing)
      assert.deepEqual([crashed.attempts[0]?.ending, crashed.reason], [
        ...["crashed", "the handler's own"],
      ])
    }))

  const broken: Array<[string, Middleware.Middleware]> = [
    [
      "throws",
      around("broken", () => {
        throw new Error("oh no")
      }),
    ],
    ["dies", around("broken", () => Effect.die(new Error("oh no")))],
    [
      "throws after the handler",
      around("broken", (_, next) => Effect.andThen(next, Effect.die(new Error("oh no")))),
    ],
    [
      "fails with what the definition does not know",
      around("broken", () => Effect.fail(new Error("oh no"))),
    ],
  ]
  for (const [what, middleware] of broken) {
    effect(`that ${what} has crashed the attempt, and is named`, () =>
      Effect.gen(function* () {
        const outer = around("outer", (_, next) => next)
        const { attempts, state } = yield* outcome("x", outer, middleware)
        assert.equal(state, "failed")
        assert.equal(attempts[0]?.ending, "crashed")
        assert.match(attempts[0]?.message ?? "", /middleware broken .* attempt.*oh no/)
      }))
  }

  effect(
    "that calls next twice has crashed the attempt; the handler ran once",
    () =>
      Effect.gen(function* () {
        const twice = around("twice", (_, next) => Effect.andThen(next, next))
        const { attempts } = yield* outcome("x", twice)
        assert.equal(attempts[0]?.ending, "crashed")
        assert.match(attempts[0]?.message ?? "", /twice.*called next twice/)
      }),
  )

  effect(
    "counts within the attempt's time limit, and is tried again like a handler",
    () =>
      Effect.gen(function* () {
        const slow = around("slow", ({ attempt }, next) => attempt === 1 ? Effect.never : next)
        const { provide, record } = yield* serveWith([slow])
        const id = yield* provide(Work.enqueue("x", {
          timeout: "20 millis",
          retry: Retry.fixed({ attempts: 2, delay: 0 }),
        }))
        const { attempts, state } = yield* record(id)
        assert.deepEqual([state, ...attempts.map(({ ending }) => ending)], [
          ...["succeeded", "timedOut", "succeeded"],
        ])
      }),
  )

  effect(
    "that observes is told of all transitions, and hurts nobody by throwing",
    () =>
      Effect.gen(function* () {
        const seen: Array<Middleware.Transition> = []
        const own: Array<string> = []
        const Flaky = Job.make("flaky", {
          retry: Retry.fixed({ attempts: 2, delay: 0 }),
          middleware: [
            Middleware.make("own", { transition: ({ to }) => Effect.sync(() => own.push(to)) }),
          ],
        })
        const FlakyLive = Flaky.toLayer(() =>
          Effect.gen(function* () {
            if ((yield* Job.current).attempt === 1) throw new Error("not yet")
          })
        )
        const observer = Middleware.make("observer", {
          transition: (transition) =>
            Effect.sync(() => {
              seen.push(transition)
              throw new Error("an observer's trouble")
            }),
        })
        const { provide, until } = yield* serve(
          server.layer(),
          Layer.provideMerge(Layer.merge(FlakyLive, WorkLive), Middleware.layer([observer])),
        )
        const id = yield* provide(Flaky.enqueue())
        yield* until(ended(id))
        const server1 = seen.filter(({ to }) => to !== "enqueued")
        assert.deepEqual(server1.map(({ attempt, from, to }) => [from, to, attempt]), [
          ["enqueued", "processing", 1],
          ["processing", "retrying", 1],
          ["enqueued", "processing", 2],
          ["processing", "succeeded", 2],
        ])
        assert.equal(server1[1]?.reason, "not yet")
        assert.ok(server1[1]?.due instanceof Date)
        assert.deepEqual(seen.filter(({ to }) => to === "enqueued"), [
          { id, name: "flaky", to: "enqueued", queue: "default" },
        ])
        const before = seen.length
        assert.equal(own.length, before)
        yield* until(ended(yield* provide(Work.enqueue("x"))))
        assert.equal(seen.length, before + 3)
        assert.equal(own.length, before, "middleware of one definition hears nothing of another")
      }),
  )
})

describe("the span of an attempt", () => {
  const server = testServer()

  /** A tracer that keeps its spans. */
  const recorder = () => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span(options) {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      },
    })
    return { spans, layer: Layer.succeed(Tracer.Tracer, tracer), tracer }
  }

  const Chain = Job.make("chain", { payload: Schema.Number, retry: once })
  const ChainLive = Chain.toLayer((left) =>
    left === 0 ? Effect.die(new Error("the end")) : Effect.orDie(Chain.enqueue(left - 1))
  )

  effect(
    "goes on with the trace of the enqueue, through jobs that enqueue jobs",
    () =>
      Effect.gen(function* () {
        const { layer, spans, tracer } = recorder()
        const { provide, until } = yield* serve(
          server.layer(),
          Layer.provideMerge(ChainLive, layer),
        )
        const id = yield* provide(Chain.enqueue(2)).pipe(
          Effect.withSpan("request"),
          Effect.provideService(Tracer.Tracer, tracer),
        )
        yield* until(ended(), { count: 3 })
        const jobs = spans.filter(({ name }) => name === "job chain")
        const request = spans.find(({ name }) => name === "request")
        assert.equal(jobs.length, 3)
        for (const [index, job] of jobs.entries()) {
          const parent = Option.getOrThrow(job.parent)
          assert.deepEqual([parent._tag, parent.spanId, parent.traceId], [
            "ExternalSpan",
            (index === 0 ? request : jobs[index - 1])?.spanId,
            request?.traceId,
          ])
          assert.equal(job.traceId, request?.traceId)
          assert.equal(job.kind, "consumer")
          assert.equal(job.status._tag, "Ended")
        }
        assert.deepEqual([...jobs[0]?.attributes ?? []], [
          ["job.id", id],
          ["job.name", "chain"],
          ["job.queue", "default"],
          ["job.attempt", 1],
        ])
        assert.deepEqual(
          jobs.map(({ status }) => status._tag === "Ended" && status.exit._tag),
          ["Success", "Success", "Failure"],
        )
      }),
  )

  effect(
    "has no parent where no trace travelled, and is around middleware",
    () =>
      Effect.gen(function* () {
        const { layer, spans } = recorder()
        let inside: string | undefined
        const looking = around("looking", (_, next) =>
          Effect.flatMap(Effect.orDie(Effect.currentSpan), ({ name }) => {
            inside = name
            return next
          }))
        const { provide, record } = yield* Effect.withSpan(
          serve(
            server.layer(),
            WorkLive.pipe(
              Layer.provideMerge(Middleware.layer([looking])),
              Layer.provideMerge(layer),
            ),
          ),
          "starting the program",
        )
        yield* record(yield* provide(Work.enqueue("x")))
        assert.equal(inside, "job work")
        assert.deepEqual(spans.map(({ name, parent }) => [name, parent._tag]), [[
          "job work",
          "None",
        ]])
      }),
  )

  effect(
    "carries a trace on without a tracer, and its word whether it is sampled",
    () =>
      Effect.gen(function* () {
        const traceId = "0af7651916cd43dd8448eb211c80319c"
        const span = Tracer.externalSpan({ traceId, spanId: "b7ad6b7169203331", sampled: false })
        const seen: Array<string> = []
        const Looking = Job.make("looking", { payload: Schema.Number })
        const live = Looking.toLayer((left) =>
          Effect.gen(function* () {
            seen.push((yield* Job.current).context["traceparent"] ?? "none")
            if (left > 0) yield* Effect.orDie(Looking.enqueue(left - 1))
          })
        )
        const { provide, until } = yield* serve(server.layer(), live)
        yield* provide(Effect.withParentSpan(Looking.enqueue(1), span))
        yield* until(ended(), { count: 2 })
        yield* provide(Looking.enqueue(1))
        yield* until(ended(), { count: 4 })
        assert.equal(seen[0], `00-${traceId}-b7ad6b7169203331-00`)
        assert.match(seen[1] ?? "", new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
        assert.notEqual(seen[1], seen[0])
        assert.deepEqual(seen.slice(2), ["none", "none"])
      }),
  )
})
