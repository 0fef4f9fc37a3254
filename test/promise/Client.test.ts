import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job } from "../../mod.ts"
import {
  AuthenticationFailed,
  AwaitTimedOut,
  ClientClosed,
  connect,
  DuplicateJob,
  fromEffect,
  InvalidOptions,
  InvalidPayload,
  job,
  JobFailed,
  JobNotFound,
  Retry,
} from "../../actors/promise/mod.ts"
import { testServer } from "../harness.ts"
import { anything, mail, numeric, promised, rejection, withClient } from "./world.ts"

const Send = job("mail/send", { payload: mail, success: mail, retry: Retry.none })
const Double = job("double", { payload: numeric, success: numeric, retry: Retry.none })
const Keep = job("keep", { payload: anything, success: anything, retry: Retry.none })
const Nothing = job("nothing", { retry: Retry.none })

const Give = job("give", { success: anything, retry: Retry.none })

const everything = [
  Give.handler(() => ({ map: new Map() })),
  Send.handler((payload) => ({ to: payload.to.toUpperCase() })),
  Double.handler(async (payload) => `${await Promise.resolve(payload) * 2}`),
  Keep.handler((payload) => payload),
  Nothing.handler(() => {}),
]

describe("a client with promises", () => {
  const server = testServer()

  promised(
    "enqueues, runs async functions and gives their results",
    () =>
      withClient(server, async (portfire) => {
        const id = await portfire.enqueue(Send, { to: "ada", copies: undefined })
        assert.equal((await portfire.get(id)).state, "enqueued")
        await portfire.serve({ queues: { default: 5 }, handlers: everything })
        assert.deepEqual(await portfire.await(Send, id), { to: "ADA" })
        const record = await portfire.get(Send, id)
        assert.deepEqual([record.state, record.payload], ["succeeded", { to: "ada" }])
        assert.equal(await portfire.execute(Nothing), undefined)
        const ids = await portfire.enqueueMany(Send, [{ to: "a" }, { to: "b" }], { atomic: true })
        const results = ids.map((id) => portfire.await(Send, id, { within: "20 seconds" }))
        assert.deepEqual(await Promise.all(results), [{ to: "A" }, { to: "B" }])
        const later = await portfire.schedule(Send, { to: "c" }, { delay: "1 hour" })
        const { created, id: same } = await portfire.submit(Send, { to: "d" }, { id: "chosen" })
        assert.deepEqual([created, same], [true, "chosen"])
        const page = await portfire.list({ state: "scheduled" })
        assert.deepEqual(page.jobs.map(({ id }) => id), [later])
        assert.equal((await portfire.counts()).total.scheduled, 1)
        assert.deepEqual((await portfire.queues()).map(({ queue }) => queue), ["default"])
        assert.equal((await portfire.servers()).length, 1)
      }),
  )

  promised(
    "keeps what goes into a schema and hands over what comes out",
    () =>
      withClient(server, async (portfire) => {
        await portfire.serve({ queues: { default: 5 }, handlers: everything })
        const id = await portfire.enqueue(Double, "21")
        assert.equal(await portfire.await(Double, id), 42)
        const typed = await portfire.get(Double, id)
        assert.deepEqual([typed.payload, typed.result], [21, 42])
        const plain = await portfire.get(id)
        assert.deepEqual([plain.payload, plain.result], ["21", "42"])
      }),
  )

  promised(
    "brings plain data back equal, and refuses what it can't keep",
    () =>
      withClient(server, async (portfire) => {
        await portfire.serve({ queues: { default: 5 }, handlers: everything })
        const value = {
          text: "é😀",
          numbers: [0, -1.5, 2 ** 53, Number.MAX_VALUE],
          date: new Date(1_700_000_000_123),
          bytes: Uint8Array.of(1, 2, 3),
          nothing: null,
          deep: [{ yes: true }],
        }
        assert.deepEqual(await portfire.execute(Keep, { ...value, gone: undefined }), value)
        const loop: Array<unknown> = []
        loop.push(loop)
        const refused: ReadonlyArray<readonly [unknown, string]> = [
          [{ a: [1n] }, "payload.a[0]"],
          [new Map([[1, 2]]), "payload"],
          [{ when: new Date(Number.NaN) }, "payload.when"],
          [{ set: new Set([1]) }, "payload.set"],
          [{ error: new Error("no") }, "payload.error"],
          [{ view: new Float64Array(1) }, "payload.view"],
          [{ call: () => {} }, "payload.call"],
          [[1, undefined], "payload[1]"],
          [{ text: "\ud800" }, "payload.text"],
          [undefined, "payload"],
        ]
        for (const [payload, field] of refused) {
          const error = await rejection(portfire.enqueue(Keep, payload))
          assert.ok(error instanceof InvalidPayload, `${field}: ${error}`)
          assert.equal(error.field, field)
        }
        const error = await rejection(portfire.enqueue(Keep, loop))
        assert.ok(error instanceof InvalidPayload)
        assert.match(error.reason, /nested/)
        const Give = job("give", { success: anything, retry: Retry.none })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [Give.handler(() => ({ map: new Map() }))],
        })
        const unkept = await rejection(portfire.execute(Give))
        assert.ok(unkept instanceof JobFailed)
        assert.match(unkept.reason, /^result\.map does not match .* Map can't be kept/)
      }),
  )

  promised(
    "rejects with the engine's own errors",
    () =>
      withClient(server, async (portfire, namespace) => {
        const invalid = await rejection(portfire.enqueue(Send, { to: 5 as never }))
        assert.ok(invalid instanceof InvalidPayload && invalid instanceof Error)
        assert.equal(invalid._tag, "InvalidPayload")
        assert.deepEqual([invalid.field, invalid.reason], ["payload.to", "a text is expected"])
        const late = await rejection(portfire.enqueue(Double, "one"))
        assert.ok(late instanceof InvalidPayload)
        assert.equal(late.reason, "one is no number")
        const many = await rejection(portfire.enqueueMany(Double, ["1", "two"]))
        assert.ok(many instanceof InvalidPayload)
        assert.equal(many.field, "payload[1]")
        const surplus = await rejection(portfire.enqueue(Nothing, 5 as never))
        assert.ok(surplus instanceof InvalidPayload)
        const option = await rejection(portfire.enqueue(Nothing, undefined, { queu: "a" } as never))
        assert.ok(option instanceof InvalidOptions)
        assert.equal(option.field, "options.queu")
        assert.ok(await rejection(portfire.get("nobody")) instanceof JobNotFound)
        const waited = await rejection(portfire.execute(Nothing, undefined, { within: 50 }))
        assert.ok(waited instanceof AwaitTimedOut)
        const twice = await rejection(portfire.serve({
          queues: { default: 1 },
          handlers: [Nothing.handler(() => {}), Nothing.handler(() => {})],
        }))
        assert.ok(twice instanceof DuplicateJob)
        const none = await rejection(portfire.serve({ queues: { default: 1 } } as never))
        assert.ok(none instanceof InvalidOptions)
        assert.equal(none.field, "handlers")
        const stranger = await rejection(connect({ servers: await server.url(), namespace }))
        assert.ok(stranger instanceof AuthenticationFailed)
        assert.throws(() => job("a", { payload: {} as never }), InvalidOptions)
        assert.throws(() => job("a", { error: mail } as never), InvalidOptions)
      }),
  )

  promised(
    "ends a wait when its signal is aborted, and leaves the job alone",
    () =>
      withClient(server, async (portfire) => {
        const id = await portfire.enqueue(Send, { to: "ada" })
        const controller = new AbortController()
        const waiting = rejection(portfire.await(Send, id, { signal: controller.signal }))
        const following = rejection((async () => {
          for await (const _ of portfire.follow(id, { signal: controller.signal })) break
        })())
        controller.abort(new Error("enough"))
        assert.equal((await waiting as Error).message, "enough")
        assert.equal((await following as Error).message, "enough")
        const before = await rejection(
          portfire.enqueue(Nothing, undefined, { signal: controller.signal }),
        )
        assert.equal((before as Error).message, "enough")
        assert.equal((await portfire.counts()).total.enqueued, 1)
        assert.equal((await portfire.get(id)).state, "enqueued")
      }),
  )

  promised(
    "rejects what waits when it is closed, and what comes after",
    () =>
      withClient(server, async (portfire) => {
        const id = await portfire.enqueue(Send, { to: "ada" })
        const waiting = rejection(portfire.await(Send, id))
        await Promise.all([portfire.close(), portfire[Symbol.asyncDispose]()])
        assert.ok(await waiting instanceof ClientClosed)
        assert.ok(await rejection(portfire.get(id)) instanceof ClientClosed)
      }),
  )

  promised(
    "shares jobs with Effect code in one program",
    () =>
      withClient(server, async (portfire) => {
        class Broken extends Schema.TaggedError<Broken>()("Broken", { code: Schema.Number }) {}
        const Square = Job.make("square", {
          payload: Schema.Number,
          success: Schema.BigInt,
          error: Broken,
          retry: Retry.none,
        })
        const Twice = fromEffect(Square)
        await portfire.serve({
          queues: { default: 5 },
          handlers: [
            Send.effect.toLayer(({ to }) => Effect.succeed({ to: `effect ${to}` })),
            Twice.handler((n) => {
              if (n < 0) throw new Broken({ code: n })
              if (n === 0) throw new Error("nothing to square")
              return BigInt(n * n)
            }),
          ],
        })
        assert.deepEqual(await portfire.execute(Send, { to: "ada" }), { to: "effect ada" })
        assert.equal(await portfire.run(Square.execute(5)), 25n)
        const typed = await rejection(portfire.execute(Twice, -5))
        assert.ok(typed instanceof Broken)
        assert.equal(typed.code, -5)
        const crashed = await rejection(portfire.execute(Twice, 0))
        assert.ok(crashed instanceof JobFailed)
        assert.equal(crashed.record.attempts[0]?.ending, "crashed")
      }),
  )
})

describe("an embedded server of a client with promises", () => {
  promised("refuses options at the wrong place", async () => {
    const error = await rejection(connect({ embedded: true, namespace: "a" } as never))
    assert.ok(error instanceof InvalidOptions)
    assert.equal(error.field, "namespace")
  })
})
