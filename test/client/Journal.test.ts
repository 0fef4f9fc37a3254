import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Errors, Job, type Journal } from "../../mod.ts"
import * as Form from "../../src/core/Journal.ts"
import { Client } from "../../src/client/Client.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { gate, serve } from "../actors/harness.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { worldTest } from "./world.ts"

const silent = Logger.layer([])

/** Stores lines of a job as a server does. */
const write = Effect.fnUntraced(function* (id: string, texts: ReadonlyArray<string>) {
  const { publisher, subjects } = yield* Wire.Wire
  const subject = subjects.log(id)
  for (const text of texts) {
    const line = { time: 1, level: "Info", text, attempt: 1, annotations: {} } as const
    yield* Effect.callback<void>((resume) =>
      publisher.publish(
        { subject, payload: Form.encodeLine(line), expected: undefined, filter: subject },
        () => resume(Effect.void),
      )
    )
  }
})

const texts = (lines: ReadonlyArray<Journal.Line>) => lines.map(({ text }) => text)

describe("The lines of a job", () => {
  const server = testServer()
  const test = worldTest(server)

  test("are read in pages, each from the cursor of the one before", () =>
    Effect.gen(function* () {
      const client = yield* Client
      for (const part of ["1", "2", "3", "4", "5"]) {
        yield* write("own", [part])
        yield* write("other", ["other"])
      }
      const first = yield* client.logs("own", { limit: 2 })
      const second = yield* client.logs("own", { limit: 2, from: first.cursor })
      const third = yield* client.logs("own", { limit: 2, from: second.cursor })
      const fourth = yield* client.logs("own", { from: third.cursor })
      assert.deepEqual([first, second, third, fourth].map(({ lines }) => texts(lines)), [
        ["1", "2"],
        ["3", "4"],
        ["5"],
        [],
      ])
      assert.equal(fourth.cursor, third.cursor)
      yield* write("own", ["6"])
      assert.deepEqual(texts((yield* client.logs("own", { from: fourth.cursor })).lines), ["6"])
    }))

  test("are none for a job that wrote none, or isn't there", () =>
    Effect.gen(function* () {
      const client = yield* Client
      assert.deepEqual(yield* client.logs("nobody"), { lines: [], cursor: 0 })
      assert.equal(yield* client.progress("nobody"), undefined)
      const error = yield* Effect.flip(Stream.runDrain(client.follow("nobody")))
      assert.equal(error._tag, "JobNotFound")
    }))

  test("are refused for what can't be an id, a cursor or a limit", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const refusals = [
        ["id", client.logs("*")],
        ["id", client.progress(">")],
        ["id", Stream.runDrain(client.follow("a.b"))],
        ["from", client.logs("a", { from: -1 })],
        ["limit", client.logs("a", { limit: 1_001 })],
        ["limit", client.logs("a", { limit: 0 })],
        ["options.form", client.logs("a", { form: 3 } as Journal.LogsOptions)],
      ] as const
      for (const [field, refused] of refusals) {
        const error = yield* Effect.flip(Effect.asVoid<unknown, unknown, never>(refused))
        assert.ok(error instanceof Errors.InvalidOptions, String(error))
        assert.equal(error.field, field)
      }
    }))
})

describe("Following a job", () => {
  const nats = testServer()

  effect(
    "gives what it wrote, then what it writes, and ends with it",
    () =>
      Effect.gen(function* () {
        const followed = gate()
        const seen = gate()
        const Talk = Job.make("talk", { logs: { lines: 1_000 } })
        const server = yield* serve(
          nats.layer(),
          Talk.toLayer(() =>
            Effect.gen(function* () {
              yield* Effect.log("before")
              yield* Job.progress({ fraction: 0.1, note: "early" })
              yield* followed.wait
              yield* Effect.log("live")
              yield* seen.wait
              for (let i = 1; i <= 600; i++) yield* Effect.log(`line ${i}`)
              yield* Job.progress(1)
            })
          ).pipe(Layer.provide(silent)),
        )
        const id = yield* server.provide(Talk.enqueue())
        yield* eventually(server.client.logs(id), ({ lines }) => lines.length === 1)
        const all = yield* server.client.follow(id).pipe(
          Stream.tap((it) =>
            Effect.sync(() => {
              if (it._tag === "Line" && it.text === "before") followed.open()
              if (it._tag === "Line" && it.text === "live") seen.open()
            })
          ),
          Stream.runCollect,
        )
        const lines = all.filter((it) => it._tag === "Line")
        const progress = all.filter((it) => it._tag === "Progress")
        assert.deepEqual(texts(lines), [
          "before",
          "live",
          ...Array.from({ length: 600 }, (_, i) => `line ${i + 1}`),
        ])
        assert.equal(progress[0]?.note, "early")
        assert.equal(progress.at(-1)?.fraction, 1)
        assert.equal(new Set(progress).size, progress.length)
        assert.equal((yield* server.client.get(id)).state, "succeeded")
      }),
  )

  effect(
    "that has ended gives all it wrote and ends, for any number of readers",
    () =>
      Effect.gen(function* () {
        const Talk = Job.make("talk", { logs: true })
        const server = yield* serve(
          nats.layer(),
          Talk.toLayer(() =>
            Effect.andThen(Effect.log("one"), Effect.andThen(Effect.log("two"), Job.progress(0.5)))
          ).pipe(Layer.provide(silent)),
        )
        const id = yield* server.provide(Talk.enqueue())
        yield* server.record(id)
        yield* eventually(server.client.progress(id), (it) => it !== undefined)
        const all = yield* Effect.all(
          [1, 2, 3].map(() => Stream.runCollect(server.client.follow(id))),
          { concurrency: "unbounded" },
        )
        for (const it of all) {
          assert.deepEqual(it.map((one) => one._tag === "Line" ? one.text : one.fraction), [
            "one",
            "two",
            0.5,
          ])
        }
      }),
  )

  effect("goes on when NATS was away", () =>
    Effect.gen(function* () {
      const away = gate()
      const Talk = Job.make("talk", { logs: true })
      const server = yield* serve(
        nats.layer(),
        Talk.toLayer(() =>
          Effect.andThen(Effect.log("before"), Effect.andThen(away.wait, Effect.log("after")))
        ).pipe(Layer.provide(silent)),
      )
      const id = yield* server.provide(Talk.enqueue())
      const began = gate()
      const following = yield* server.client.follow(id).pipe(
        Stream.tap(() => Effect.sync(began.open)),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true }),
      )
      yield* began.wait
      yield* nats.killServer
      yield* nats.restartServer
      away.open()
      const all = yield* Fiber.join(following)
      assert.deepEqual(all.map((it) => it._tag === "Line" ? it.text : ""), ["before", "after"])
    }))
})

describe("The option for lines", () => {
  it("is off, on, or a number and a level", () => {
    const limits = [undefined, false, true, { lines: 7 }, { level: "Debug" as const }].map((logs) =>
      Job.make("a", { logs }).definition.logs
    )
    assert.deepEqual(limits, [
      undefined,
      undefined,
      { level: "Info", lines: 200 },
      { level: "Info", lines: 7 },
      { level: "Debug", lines: 200 },
    ])
  })

  it("is refused where it makes no sense", () => {
    const bad = [
      ["logs.lines", { lines: 0 }],
      ["logs.lines", { lines: 1_001 }],
      [
        "logs.level",
        { level: "Loud" },
      ],
      ["logs.lnies", { lnies: 1 }],
      ["logs", 3],
    ] as const
    for (const [field, logs] of bad) {
      assert.throws(
        () => Job.make("a", { logs: logs as unknown as boolean }),
        (error) => error instanceof Errors.InvalidOptions && error.field === field,
      )
    }
  })
})
