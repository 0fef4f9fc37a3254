import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { PartlyEnqueued } from "../../src/client/EnqueueMany.ts"
import * as Interception from "../../src/client/Interception.ts"
import * as Job from "../../src/client/Job.ts"
import * as Middleware from "../../src/client/Middleware.ts"
import { InvalidOptions, InvalidPayload } from "../../src/core/errors.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import { effect, testServer } from "../harness.ts"
import { messageOf, stored, type World, worldOf } from "./world.ts"

const Text = Schema.Struct({ text: Schema.String })

/** Writes down when it is entered and left. */
const tracing = (name: string, log: Array<string>) =>
  Middleware.make(name, {
    enqueue: (request, next) =>
      Effect.suspend(() => {
        log.push(`>${name}`)
        return Effect.tap(next(request), () => Effect.sync(() => log.push(`<${name}`)))
      }),
  })

/** Changes requests. */
const changing = (
  change: (request: Middleware.EnqueueRequest) => Partial<Middleware.EnqueueRequest>,
) =>
  Middleware.make("changing", {
    enqueue: (request, next) => next({ ...request, ...change(request) }),
  })

const payloadOf = (bytes: Uint8Array) => (MessagePack.decode(bytes) as { text: string }).text

const testing = (server: ReturnType<typeof testServer>) =>
(
  name: string,
  middleware: ReadonlyArray<Middleware.Middleware>,
  body: () => Effect.Effect<unknown, unknown, World | Scope.Scope>,
) =>
  effect(
    name,
    () =>
      Effect.provide(
        body(),
        worldOf(server).pipe(Layer.provide(Middleware.layer(middleware))),
      ),
  )

describe("middleware around an enqueue", () => {
  const server = testServer()
  const test = testing(server)
  const Plain = Job.make("plain", { payload: Text })

  const order: Array<string> = []
  const Own = Job.make("own", {
    payload: Text,
    middleware: [tracing("c", order), tracing("d", order)],
  })
  test(
    "is entered globally first, then that of the definition, and left the other way round",
    [tracing("a", order), tracing("b", order)],
    () =>
      Effect.gen(function* () {
        yield* Own.enqueue({ text: "x" })
        assert.deepEqual(order.splice(0), [">a", ">b", ">c", ">d", "<d", "<c", "<b", "<a"])
        yield* Own.schedule({ text: "x" }, { delay: "1 hour" })
        assert.equal(order.splice(0).length, 8)
        yield* Own.enqueueMany([{ text: "x" }, { text: "y" }])
        assert.equal(order.splice(0).length, 16)
        yield* Plain.enqueue({ text: "x" })
        assert.deepEqual(order.splice(0), [">a", ">b", "<b", "<a"])
      }),
  )

  effect(
    "of a layer stands outside of that of the layer it is provided to",
    () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        yield* Effect.provide(
          Plain.enqueue({ text: "x" }),
          worldOf(server).pipe(
            Layer.provide(Middleware.layer([tracing("inner", log)])),
            Layer.provide(Middleware.layer([tracing("outer", log)])),
          ),
        )
        assert.deepEqual(log.slice(0, 2), [">outer", ">inner"])
      }),
  )

  effect("is made by an effect from services", () =>
    Effect.gen(function* () {
      const Name = Context.Service<{ readonly value: string }>("test/Name")
      let closed = false
      const fromService = Effect.gen(function* () {
        const { value } = yield* Name
        yield* Effect.addFinalizer(() => Effect.sync(() => closed = true))
        return changing(() => ({ context: { value } }))
      })
      yield* Effect.provide(
        Effect.gen(function* () {
          const { envelope } = yield* messageOf(yield* Plain.enqueue({ text: "x" }))
          assert.deepEqual(envelope.options.context, { value: "made" })
          assert.equal(closed, false)
        }),
        worldOf(server).pipe(
          Layer.provide(Middleware.layer([fromService])),
          Layer.provide(Layer.succeed(Name, { value: "made" })),
        ),
      )
      assert.equal(closed, true)
    }))

  const Caller: Context.Reference<string> = Context.Reference("test/Caller", {
    defaultValue: () => "nobody",
  })
  test(
    "knows what the caller's fiber knows",
    [
      Middleware.make("caller", {
        enqueue: (request, next) =>
          Effect.flatMap(Caller, (caller) => next({ ...request, context: { caller } })),
      }),
    ],
    () =>
      Effect.gen(function* () {
        const id = yield* Effect.provideService(Plain.enqueue({ text: "x" }), Caller, "ada")
        assert.deepEqual((yield* messageOf(id)).envelope.options.context, { caller: "ada" })
      }),
  )

  test(
    "changes payload, queue, priority, time and context of one job and of many",
    [changing(({ name, options, payload }) => {
      const { text } = payload as typeof Text.Type
      return {
        // The name stays what it is, whatever a middleware says.
        name: `not-${name}`,
        payload: { text: text.toUpperCase() },
        options: { ...options, queue: `to-${text}`, priority: "high", delay: "1 hour" },
        context: { first: text[0] ?? "" },
      }
    })],
    () =>
      Effect.gen(function* () {
        const one = yield* Plain.enqueue({ text: "one" })
        const many = yield* Plain.enqueueMany([{ text: "two" }, { text: "three" }])
        const all = yield* Plain.enqueueMany([{ text: "four" }], { atomic: true })
        for (const [index, id] of [one, ...many, ...all].entries()) {
          const text = ["one", "two", "three", "four"][index] as string
          const { envelope, parsed } = yield* messageOf(id)
          assert.deepEqual([parsed?.state, parsed?.queue, parsed?.lane], [
            "later",
            `to-${text}`,
            "2",
          ])
          assert.deepEqual([envelope.name, envelope.queue, envelope.lane], [
            ...["plain", `to-${text}`, 2],
          ])
          assert.equal(payloadOf(envelope.payload), text.toUpperCase())
          assert.deepEqual(envelope.options.context, { first: text[0] })
        }
      }),
  )

  const broken: Array<[string, Partial<Middleware.EnqueueRequest>, string]> = [
    ["a payload that does not fit", { payload: { text: 5 } }, "payload.text"],
    ["a queue of no legal name", { options: { queue: "a b" } }, "queue"],
    ["a negative delay", { options: { delay: -5 } }, "delay"],
    ["an unknown option", { options: { color: "red" } as never }, "options.color"],
    ["a context that is no object", { context: "tenant" as never }, "context"],
    ["a context of other things than texts", { context: { a: 5 as never } }, "context.a"],
    ["a context with an illegal key", { context: { "": "x" } }, "context"],
    ["a context that is too large", { context: { a: "ü".repeat(4_096) } }, "context"],
  ]
  for (const [what, change, field] of broken) {
    test(`can not store ${what}`, [changing(() => change)], () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Plain.enqueue({ text: "x" }))
        assert.ok(error instanceof InvalidOptions || error instanceof InvalidPayload)
        assert.equal(error.field, field)
        const many = yield* Effect.flip(Plain.enqueueMany([{ text: "x" }]))
        assert.ok(many instanceof InvalidOptions || many instanceof InvalidPayload)
        assert.equal((yield* stored).messages, 0)
      }))
  }

  test(
    "vetoes a job: a typed error, and nothing is written",
    [Middleware.make("guard", {
      enqueue: (request, next) =>
        (request.payload as typeof Text.Type).text === "bad"
          ? Middleware.veto("not today")
          : next(request),
    })],
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Plain.enqueue({ text: "bad" }))
        assert.ok(error instanceof Middleware.EnqueueVetoed)
        assert.deepEqual({ ...error }, {
          ...{ job: "plain", field: "payload", middleware: "guard", reason: "not today" },
          ...{ _tag: "EnqueueVetoed", name: "EnqueueVetoed" },
        })
        const many = yield* Effect.flip(Plain.enqueueMany([{ text: "good" }, { text: "bad" }]))
        assert.ok(many instanceof Middleware.EnqueueVetoed)
        assert.equal(many.field, "payload[1]")
        assert.equal((yield* stored).messages, 0)
        yield* Plain.enqueue({ text: "good" })
        assert.equal((yield* stored).messages, 1)
      }),
  )

  test(
    "vetoes a job of a later page: what was stored before is listed",
    [Middleware.make("guard", {
      enqueue: (request, next) =>
        (request.payload as typeof Text.Type).text === "1001"
          ? Middleware.veto("too many")
          : next(request),
    })],
    () =>
      Effect.gen(function* () {
        const texts = Array.from({ length: 1_500 }, (_, index) => ({ text: String(index) }))
        const error = yield* Effect.flip(Plain.enqueueMany(texts))
        assert.ok(error instanceof PartlyEnqueued)
        assert.equal(error.stored.length, 1_000)
        assert.equal(error.error._tag, "EnqueueVetoed")
      }),
  )

  const throwing = (after: boolean) =>
    Middleware.make("thrower", {
      enqueue: (request, next) => {
        if ((request.payload as typeof Text.Type).text === "good") return next(request)
        if (!after) throw new Error("oh no")
        return Effect.andThen(next(request), Effect.die(new Error("oh no")))
      },
    })

  test(
    "that throws fails the one call, and nothing is written",
    [throwing(false)],
    () =>
      Effect.gen(function* () {
        const exits = yield* Effect.forEach(
          ["good", "bad", "good"],
          (text) => Effect.exit(Plain.enqueue({ text })),
          { concurrency: 3 },
        )
        assert.deepEqual(exits.map(Exit.isSuccess), [true, false, true])
        const error = yield* Effect.flip(Plain.enqueue({ text: "bad" }))
        assert.ok(error instanceof Middleware.MiddlewareFailed)
        assert.deepEqual([error.middleware, error.hook, error.id], [
          "thrower",
          "enqueue",
          undefined,
        ])
        assert.match(error.message, /thrower.*enqueue.*oh no/)
        assert.equal((yield* stored).messages, 2)
      }),
  )

  test(
    "that throws after the job was stored says its id",
    [throwing(true)],
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Plain.enqueue({ text: "bad" }))
        assert.ok(error instanceof Middleware.MiddlewareFailed)
        assert.match(error.message, new RegExp(`${error.id} is stored`))
        assert.equal((yield* messageOf(error.id as string)).envelope.name, "plain")
        // Of many, nothing is stored before all were asked.
        const many = yield* Effect.flip(Plain.enqueueMany([{ text: "good" }, { text: "bad" }]))
        assert.ok(many instanceof Middleware.MiddlewareFailed)
        assert.equal(many.id, undefined)
        assert.equal((yield* stored).messages, 1)
      }),
  )

  test(
    "that calls next twice stores one job and has its id twice",
    [Middleware.make("twice", {
      enqueue: (request, next) =>
        Effect.gen(function* () {
          const [first, second] = yield* Effect.all([next(request), next(request)], {
            concurrency: 2,
          })
          assert.equal(second, first)
          return yield* next(request)
        }),
    })],
    () =>
      Effect.gen(function* () {
        yield* Plain.enqueue({ text: "x" })
        yield* Plain.enqueueMany([{ text: "x" }])
        assert.equal((yield* stored).messages, 2)
      }),
  )

  test(
    "may call next again after it has failed",
    [Middleware.make("fallback", {
      enqueue: (request, next) =>
        Effect.catchTag(
          next(request),
          "InvalidOptions",
          () => next({ ...request, options: { queue: "fallback" } }),
        ),
    })],
    () =>
      Effect.gen(function* () {
        const id = yield* Plain.enqueue({ text: "x" }, { queue: "a b" })
        assert.equal((yield* messageOf(id)).parsed?.queue, "fallback")
        assert.equal((yield* stored).messages, 1)
      }),
  )

  test(
    "that never calls next has failed",
    [Middleware.make("lazy", { enqueue: () => Effect.succeed("made-up") })],
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Plain.enqueue({ text: "x" }))
        assert.ok(error instanceof Middleware.MiddlewareFailed)
        assert.match(error.message, /without calling next/)
        assert.equal((yield* stored).messages, 0)
      }),
  )
})

describe("middleware that observes", () => {
  const server = testServer()
  const test = testing(server)
  const seen: Array<Middleware.Transition> = []
  const lines: Array<string> = []
  const observer = Middleware.make("observer", {
    transition: (transition) => Effect.sync(() => seen.push(transition)),
  })
  const Plain = Job.make("plain", { payload: Text })

  test(
    "is told of every job that was stored, before the caller goes on",
    [observer],
    () =>
      Effect.gen(function* () {
        const id = yield* Plain.enqueue({ text: "x" })
        assert.deepEqual(seen.splice(0), [{ id, name: "plain", to: "enqueued", queue: "default" }])
        const at = new Date(Date.now() + 3_600_000)
        const later = yield* Plain.schedule({ text: "x" }, { at, queue: "slow" })
        assert.deepEqual(seen.splice(0), [
          { id: later, name: "plain", to: "scheduled", queue: "slow", due: at },
        ])
        const many = yield* Plain.enqueueMany([{ text: "x" }, { text: "y" }])
        assert.deepEqual(seen.splice(0).map(({ id }) => id), many)
        const all = yield* Plain.enqueueMany([{ text: "x" }, { text: "y" }], { atomic: true })
        assert.deepEqual(seen.splice(0).map(({ id }) => id), all)
        yield* Effect.flip(Plain.enqueue({ text: 5 } as never))
        assert.deepEqual(seen, [])
      }),
  )

  const thrower = Middleware.make("thrower", {
    transition: () => {
      throw new Error("oh no")
    },
  })
  const logger = Logger.make<unknown, void>(({ message }) => {
    lines.push(String(message))
  })
  effect(
    "and throws is logged once, and hides nothing from the others",
    () =>
      Effect.gen(function* () {
        yield* Effect.provide(
          Effect.gen(function* () {
            for (const text of ["x", "y", "z"]) yield* Plain.enqueue({ text })
          }),
          worldOf(server).pipe(
            Layer.provide(Middleware.layer([thrower, observer])),
            Layer.provide(Logger.layer([logger])),
          ),
        )
        assert.equal(seen.splice(0).length, 3)
        assert.equal(lines.length, 1)
        assert.match(lines[0] as string, /thrower/)
      }),
  )
})

describe("middleware that observes too slowly", () => {
  effect("is told in order of what it has room for, and no more", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const lines: Array<string> = []
      const opened = yield* Deferred.make<void>()
      const slow = Middleware.make("slow", {
        transition: ({ id }) =>
          Effect.andThen(Deferred.await(opened), Effect.sync(() => seen.push(id))),
      })
      const logger = Logger.make<unknown, void>(({ message }) => {
        lines.push(String(message))
      })
      yield* Effect.provide(
        Effect.gen(function* () {
          const { notify } = yield* Interception.Interception
          for (let index = 0; index < 10_100; index++) {
            notify({ id: String(index), name: "x", to: "enqueued" })
          }
          yield* Deferred.succeed(opened, undefined)
        }),
        Interception.layer.pipe(
          Layer.provide(Middleware.layer([slow])),
          Layer.provide(Logger.layer([logger])),
        ),
      )
      // Closing has waited for what was left: one it was busy with, and the backlog.
      assert.deepEqual(seen, Array.from({ length: 10_001 }, (_, index) => String(index)))
      assert.equal(lines.length, 1)
    }))
})

describe("the trace of an enqueue", () => {
  const test = testing(testServer())
  const Plain = Job.make("plain", { payload: Text })
  const traceId = "0af7651916cd43dd8448eb211c80319c"
  const spanId = "b7ad6b7169203331"
  const span = Tracer.externalSpan({ traceId, spanId })

  test(
    "travels with one job and with many, and nothing travels without",
    [],
    () =>
      Effect.gen(function* () {
        const [one, many] = yield* Effect.all([
          Plain.enqueue({ text: "x" }),
          Plain.enqueueMany([{ text: "y" }]),
        ]).pipe(Effect.withParentSpan(span))
        for (const id of [one, ...many]) {
          assert.deepEqual((yield* messageOf(id)).envelope.options, {
            ...(yield* messageOf(one)).envelope.options,
            context: { traceparent: `00-${traceId}-${spanId}-01` },
          })
        }
        const without = yield* Plain.enqueue({ text: "x" })
        assert.equal((yield* messageOf(without)).envelope.options.context, undefined)
      }),
  )

  test(
    "is beside what middleware says, and is that of a span around next",
    [Middleware.make("span", {
      enqueue: (request, next) =>
        next({ ...request, context: { tenant: "acme" } }).pipe(
          Effect.withParentSpan(Tracer.externalSpan({ traceId, spanId, sampled: false })),
        ),
    })],
    () =>
      Effect.gen(function* () {
        const one = yield* Effect.withParentSpan(Plain.enqueue({ text: "x" }), span)
        const [many] = yield* Plain.enqueueMany([{ text: "x" }])
        for (const id of [one, many as string]) {
          assert.deepEqual((yield* messageOf(id)).envelope.options.context, {
            tenant: "acme",
            traceparent: `00-${traceId}-${spanId}-00`,
          })
        }
      }),
  )

  test("is left out where tracing is disabled", [], () =>
    Effect.gen(function* () {
      const id = yield* Plain.enqueue({ text: "x" }).pipe(
        Effect.withSpan("hidden"),
        Effect.withTracerEnabled(false),
      )
      assert.equal((yield* messageOf(id)).envelope.options.context, undefined)
    }))
})

describe("a middleware", () => {
  it("with an illegal name or hook is refused", () => {
    const field = (make: () => unknown) => {
      try {
        make()
      } catch (error) {
        return (error as InvalidOptions).field
      }
    }
    assert.equal(field(() => Middleware.make("a b", {})), "name")
    assert.equal(field(() => Middleware.make("a", { around: 5 } as never)), "hooks.around")
    assert.equal(field(() => Middleware.make("a", { enqueue: 5 } as never)), "hooks.enqueue")
    assert.equal(field(() => Job.make("a", { middleware: 5 } as never)), "middleware")
    assert.equal(field(() => Job.make("a", { middleware: [5] } as never)), "middleware[0]")
  })
})
