import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Client from "../../src/client/Client.ts"
import * as Job from "../../src/client/Job.ts"
import * as Attempt from "../../src/core/Attempt.ts"
import { Bytes } from "../../src/core/Codec.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobId from "../../src/core/JobId.ts"
import { maxInstantMillis, payloadLimit } from "../../src/core/Limits.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Retry from "../../src/core/Retry.ts"
import type { Ack } from "../../src/nats/Publisher.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { messageOf, stored, worldOf, worldTest } from "./world.ts"

const Mail = Job.make("mail/welcome", {
  payload: Schema.Struct({ to: Schema.String, copies: Schema.optional(Schema.Number) }),
  queue: "mail",
  priority: "low",
})

const Blob = Job.make("blob", { payload: Bytes })
const Nothing = Job.make("nothing")

const bad = (value: unknown) => value as never

describe("an enqueued job", () => {
  const test = worldTest(testServer())

  test("is one message on the subject of its queue and priority, under its id", () =>
    Effect.gen(function* () {
      const before = Date.now()
      const id = yield* Mail.enqueue({ to: "ada" })
      const { envelope, parsed } = yield* messageOf(id)
      assert.deepEqual({ ...parsed }, {
        ...{ partition: 0, state: "ready", queue: "mail", lane: "4", group: "_", id },
      })
      assert.ok(JobId.isEngineId(id))
      assert.deepEqual([envelope.name, envelope.queue, envelope.lane], ["mail/welcome", "mail", 4])
      assert.deepEqual(MessagePack.decode(envelope.payload), { to: "ada" })
      // The NATS server's clock, whose measurement is good to half a round trip.
      assert.ok(envelope.created >= before - 500 && envelope.created <= Date.now() + 500)
      assert.equal(envelope.progress, Envelope.untouched)
      assert.equal((yield* stored).messages, 1)
    }))

  test("is read as it was given, at once", () =>
    Effect.gen(function* () {
      const id = yield* Mail.enqueue({ to: "ada", copies: undefined })
      const record = yield* Mail.get(id)
      const { created, revision, ...rest } = record
      assert.ok(revision > 0)
      assert.ok(Math.abs(created.getTime() - Date.now()) < 5_000)
      assert.deepEqual(rest, {
        id,
        name: "mail/welcome",
        state: "enqueued",
        queue: "mail",
        priority: "low",
        payload: { to: "ada", copies: undefined },
        ...{ version: 1, deadline: undefined },
        ...{ due: undefined, ended: undefined, result: undefined, reason: undefined },
        recurring: undefined,
        ...{ attempts: [], attemptCount: 0, snoozes: 0, lost: 0 },
        ...{ parents: [], batch: undefined },
      })
    }))

  test("of no payload needs none", () =>
    Effect.gen(function* () {
      const id = yield* Nothing.enqueue()
      assert.equal((yield* Nothing.get(id)).payload, undefined)
    }))

  test("of every kind of value is read as it was given", () =>
    Effect.gen(function* () {
      const Rich = Job.make("rich", {
        payload: Schema.Struct({
          date: Schema.Date,
          bytes: Bytes,
          big: Schema.BigInt,
          option: Schema.Option(Schema.String),
          map: Schema.ReadonlyMap(Schema.String, Schema.BigInt),
          absent: Schema.optional(Schema.String),
        }),
      })
      const payload = {
        date: new Date(0),
        bytes: Uint8Array.of(1, 2),
        big: -(2n ** 70n),
        option: Option.some("x"),
        map: new Map([["a", 1n]]),
        absent: undefined,
      }
      const record = yield* Rich.get(yield* Rich.enqueue(payload))
      assert.deepEqual(record.payload, payload)
    }))

  test("goes where the caller says, with what the caller says", () =>
    Effect.gen(function* () {
      const retry = Retry.fixed({ attempts: 2, delay: "1 second", jitter: 0 })
      const id = yield* Mail.enqueue({ to: "ada" }, {
        queue: "urgent",
        priority: "critical",
        retry,
        timeout: "5 seconds",
      })
      const { envelope, parsed } = yield* messageOf(id)
      assert.deepEqual([parsed?.queue, parsed?.lane], ["urgent", "1"])
      assert.deepEqual([envelope.queue, envelope.lane], ["urgent", 1])
      assert.deepEqual(envelope.options.retry, retry.backoff)
      assert.equal(envelope.options.timeout, 5_000)
      const record = yield* Mail.get(id)
      assert.deepEqual([record.queue, record.priority], ["urgent", "critical"])
    }))

  test("keeps the definition's choice where the caller makes none", () =>
    Effect.gen(function* () {
      const all = { queue: undefined, priority: undefined, retry: undefined, timeout: undefined }
      for (const options of [{}, all, { priority: "high" as const }, undefined]) {
        const { envelope } = yield* messageOf(yield* Mail.enqueue({ to: "ada" }, options))
        const lane = options !== undefined && "priority" in options && options.priority ? 2 : 4
        assert.deepEqual([envelope.queue, envelope.lane], ["mail", lane])
        assert.equal(envelope.options.retry, undefined)
        assert.equal(envelope.options.timeout, undefined)
      }
    }))

  test("has its queue's consumers made with it", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      assert.equal(wire.knowsQueue("mail", 0), false)
      yield* Mail.enqueue({ to: "ada" })
      assert.equal(wire.knowsQueue("mail", 0), true)
    }))

  test("is one of many at once, all of which are stored under their own id", () =>
    Effect.gen(function* () {
      const ids = yield* Effect.forEach(
        Array.from({ length: 5_000 }, (_, index) => ({ to: `user ${index}` })),
        (payload) => Mail.enqueue(payload),
        { concurrency: "unbounded" },
      )
      assert.equal(new Set(ids).size, 5_000)
      const { messages, subjects } = yield* stored
      assert.equal(messages, 5_000)
      assert.deepEqual(subjects.map((subject) => subject.split(".").at(-1)), [...ids].sort())
      assert.equal((yield* Mail.get(ids[4_321] as string)).payload.to, "user 4321")
    }))

  test("goes to the partitions in turn", () =>
    Effect.gen(function* () {
      const ids = yield* Effect.replicateEffect(Mail.enqueue({ to: "ada" }), 30)
      const counts = [0, 1, 2].map((p) => ids.filter((id) => JobId.partitionOf(id) === p).length)
      assert.deepEqual(counts, [10, 10, 10])
      for (const id of ids) assert.equal((yield* Mail.get(id)).id, id)
    }), { partitions: 3 })
})

describe("a scheduled job", () => {
  const test = worldTest(testServer())

  test("lies apart until it is due, then is ready", () =>
    Effect.gen(function* () {
      const id = yield* Mail.schedule({ to: "ada" }, { delay: "300 millis" })
      const record = yield* Mail.get(id)
      assert.equal(record.state, "scheduled")
      assert.ok(Math.abs((record.due?.getTime() ?? 0) - Date.now() - 300) < 300)
      const ready = yield* eventually(Mail.get(id), ({ state }) => state === "enqueued")
      assert.equal(ready.due, undefined)
      assert.deepEqual(ready.payload, { to: "ada" })
      assert.equal((yield* stored).messages, 1)
    }))

  test("is due at the instant, however it is written", () =>
    Effect.gen(function* () {
      const due = Math.ceil(Date.now() / 1_000) * 1_000 + 3_600_000
      const iso = new Date(due + 7_200_000).toISOString().replace("Z", "+02:00")
      for (const at of [due, new Date(due), new Date(due).toISOString(), iso]) {
        const record = yield* Mail.get(yield* Mail.schedule({ to: "ada" }, { at }))
        assert.deepEqual([record.state, record.due?.getTime()], ["scheduled", due])
      }
    }))

  test("keeps the caller's choices", () =>
    Effect.gen(function* () {
      const id = yield* Mail.schedule({ to: "ada" }, {
        delay: "1 hour",
        queue: "urgent",
        priority: "high",
        timeout: 5,
      })
      const { envelope, parsed } = yield* messageOf(id)
      assert.deepEqual([parsed?.state, parsed?.queue, parsed?.lane], ["later", "urgent", "2"])
      assert.equal(envelope.options.timeout, 5)
    }))

  test("of the past is ready now", () =>
    Effect.gen(function* () {
      const past = [
        { at: 0 },
        { at: -1 },
        { at: new Date(Date.now() - 1_000) },
        { at: "1969-07-20T20:17:40Z" },
        { delay: 0 },
        { delay: "0 seconds" as const },
      ]
      for (const when of past) {
        const id = yield* Mail.schedule({ to: "ada" }, when as Client.When)
        assert.equal((yield* Mail.get(id)).state, "enqueued")
      }
    }))

  test("of the last instant there is, is kept", () =>
    Effect.gen(function* () {
      const at = maxInstantMillis - 1
      const record = yield* Mail.get(yield* Mail.schedule({ to: "ada" }, { at }))
      assert.deepEqual([record.state, record.due?.getTime()], ["scheduled", at])
    }))
})

/** An input, how it is refused, and at which field. */
type BadInput = readonly [
  tag: string,
  field: string,
  Effect.Effect<unknown, unknown, Client.Client>,
]

const payload = { to: "ada" }
const cyclic: { n: unknown } = { n: null }
cyclic.n = cyclic
interface List {
  readonly n: List | null
}
const List: Schema.Codec<List> = Schema.Struct({
  n: Schema.NullOr(Schema.suspend((): Schema.Codec<List> => List)),
})
const Anything = Job.make("anything", { payload: Schema.Unknown })
const Nested = Job.make("nested", { payload: List })

const badInputs: ReadonlyArray<BadInput> = [
  ["InvalidPayload", "payload.to", Mail.enqueue(bad({ to: 5 }))],
  ["InvalidPayload", "payload.to", Mail.enqueue(bad({}))],
  ["InvalidPayload", "payload.copies", Mail.enqueue(bad({ to: "a", copies: "2" }))],
  ["InvalidPayload", "payload", Mail.enqueue(bad(undefined))],
  ["InvalidPayload", "payload", Mail.enqueue(bad(null))],
  ["InvalidPayload", "payload", Mail.enqueue(bad("ada"))],
  ["InvalidPayload", "payload", Blob.enqueue(bad([1, 2]))],
  ["InvalidPayload", "payload", Anything.enqueue(5n)],
  ["InvalidPayload", "payload", Anything.enqueue(() => 1)],
  ["InvalidPayload", "payload", Anything.enqueue(JSON.parse('{"__proto__": 1}'))],
  ["InvalidPayload", "payload", Nested.enqueue(bad(cyclic))],
  ["InvalidPayload", "payload.to", Mail.schedule(bad({ to: 5 }), { delay: 5 })],
  ["PayloadTooLarge", "payload", Blob.enqueue(new Uint8Array(1_000_000))],
  ["PayloadTooLarge", "payload", Blob.schedule(new Uint8Array(1_000_000), { delay: 5 })],
  ["InvalidOptions", "queue", Mail.enqueue(payload, { queue: "" })],
  ["InvalidOptions", "queue", Mail.enqueue(payload, { queue: "_own" })],
  ["InvalidOptions", "queue", Mail.enqueue(payload, { queue: "a.b" })],
  ["InvalidOptions", "queue", Mail.enqueue(payload, { queue: "x".repeat(65) })],
  ["InvalidOptions", "queue", Mail.enqueue(payload, { queue: bad(null) })],
  ["InvalidOptions", "priority", Mail.enqueue(payload, { priority: bad("urgent") })],
  ["InvalidOptions", "priority", Mail.enqueue(payload, { priority: bad(0) })],
  ["InvalidOptions", "timeout", Mail.enqueue(payload, { timeout: 0 })],
  ["InvalidOptions", "timeout", Mail.enqueue(payload, { timeout: -5 })],
  ["InvalidOptions", "timeout", Mail.enqueue(payload, { timeout: Number.NaN })],
  ["InvalidOptions", "retry", Mail.enqueue(payload, { retry: bad("twice") })],
  [
    "InvalidOptions",
    "retry.attempts",
    Mail.enqueue(payload, { retry: Retry.fixed({ attempts: -1, delay: 5 }) }),
  ],
  [
    "InvalidOptions",
    "retry.decide",
    Mail.enqueue(payload, { retry: Retry.exponential({ decide: () => true }) }),
  ],
  ["InvalidOptions", "options.prioriy", Mail.enqueue(payload, bad({ prioriy: "high" }))],
  ["InvalidOptions", "options.delay", Mail.enqueue(payload, bad({ delay: 5 }))],
  ["InvalidOptions", "options.atomic", Mail.enqueue(payload, bad({ atomic: true }))],
  ["InvalidOptions", "options", Mail.enqueue(payload, bad(null))],
  ["InvalidOptions", "options", Mail.enqueue(payload, bad("mail"))],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: -1 })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: Number.NaN })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: "-5 seconds" })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: "Infinity" })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: bad("soon") })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: bad([Number.NaN, 0]) })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: bad({ second: 5 }) })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: "90000 days" })],
  ["InvalidOptions", "delay", Mail.schedule(payload, { delay: 1e300 })],
  ["InvalidOptions", "delay", Mail.schedule(payload, bad({}))],
  ["InvalidOptions", "options", Mail.schedule(payload, bad(undefined))],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: new Date(Number.NaN) })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: Number.POSITIVE_INFINITY })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: "tomorrow" })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: "2030-02-31T00:00:00Z" })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: "2030-01-01T00:00:00" })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: "2262-01-01T00:00:00Z" })],
  ["InvalidOptions", "at", Mail.schedule(payload, { at: bad({}) })],
  ["InvalidOptions", "at", Mail.schedule(payload, bad({ at: 5, delay: 5 }))],
  ["InvalidOptions", "options.after", Mail.schedule(payload, bad({ delay: 5, after: 5 }))],
]

describe("bad input", () => {
  const server = testServer()
  const test = worldTest(server)

  test("is refused with its field, and nothing is stored", () =>
    Effect.gen(function* () {
      for (const [index, [tag, field, input]] of badInputs.entries()) {
        const result = yield* Effect.result(input)
        assert.equal(result._tag, "Failure", `case ${index} was accepted`)
        const error = (result as { readonly failure: { readonly _tag: string } }).failure
        const { field: found } = error as unknown as { readonly field: string }
        assert.deepEqual([error._tag, found], [tag, field], `case ${index}`)
        assert.notEqual((error as unknown as Error).message, "")
      }
      assert.equal((yield* stored).lastSequence, 0)
    }))

  test("of a payload that is too large tells its size and the limit, which fits", () =>
    Effect.gen(function* () {
      const { nats } = yield* Wire.Wire
      const limit = payloadLimit(nats.server().maxPayload)
      assert.equal(limit, 1_048_576 / 2 - 65_536)
      // Bytes of more than 65,535 have a head of five.
      const error = yield* Effect.flip(Blob.enqueue(new Uint8Array(limit - 4)))
      assert.ok(error._tag === "PayloadTooLarge")
      assert.deepEqual([error.size, error.limit, error.job], [limit + 1, limit, "blob"])
      assert.match(error.message, new RegExp(`${limit + 1} bytes, the limit is ${limit}`))
      assert.equal((yield* stored).lastSequence, 0)
      const id = yield* Blob.enqueue(new Uint8Array(limit - 5))
      assert.equal((yield* Blob.get(id)).payload.length, limit - 5)
    }))

  test("of a name is refused where a job is asked for", () =>
    Effect.gen(function* () {
      for (const id of ["", "a.b", "*", ">", "_x", "x".repeat(65), bad(undefined), bad(5)]) {
        const error = yield* Effect.flip(Mail.get(id))
        assert.ok(error._tag === "InvalidOptions" && error.field === "id", String(id))
      }
    }))
})

describe("a server that takes small messages only", () => {
  const server = testServer({ config: "jetstream {}, max_payload: 4096" })

  effect(
    "still takes small payloads, and the error tells its limit",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Blob.enqueue(new Uint8Array(2_000)))
        assert.ok(error._tag === "PayloadTooLarge" && error.limit === 1_024)
        yield* Blob.enqueue(new Uint8Array(1_000))
      }).pipe(Effect.provide(worldOf(server))),
  )
})

class Bounced extends Data.Error<{ readonly code: number }> {
  readonly _tag = "Bounced"
}

const Typed = Job.make("typed", {
  payload: Schema.Struct({ n: Schema.Number }),
  success: Schema.Struct({ at: Schema.Date }),
  error: Schema.Struct({ code: Schema.Number }),
})

/** Writes a job's message by hand, as an engine or an intruder would. */
const write = Effect.fnUntraced(function* (subject: string, data: Uint8Array, headers?: string) {
  const { publisher } = yield* Wire.Wire
  const ack = yield* Effect.callback<Ack>((resume) =>
    publisher.publish(
      { subject, payload: data, expected: undefined, filter: subject, headers },
      (ack) => resume(Effect.succeed(ack)),
    )
  )
  assert.equal(ack._tag, "Stored")
})

describe("reading a job", () => {
  const server = testServer()
  const test = worldTest(server)

  test("that nobody has made says so, whatever its id names", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const next = JobId.makeGenerator()
      for (const id of [next(0), next(1), next(31), "order-17", next(0).toLowerCase()]) {
        const error = yield* Effect.flip(client.get(id))
        assert.ok(error._tag === "JobNotFound" && error.id === id, error.message)
      }
    }))

  test("gives its attempts, typed error and result once it has ended", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const id = yield* Typed.enqueue({ n: 5 })
      const { envelope } = yield* messageOf(id)
      const error = new Bounced({ code: 550 })
      const attempt: Attempt.Attempt = {
        number: 1,
        server: "server-1",
        started: 1_000,
        ended: 2_000,
        ending: "failed",
        ...Attempt.describe(error),
        error: MessagePack.encode({ code: 550 }),
      }
      const last = { number: 2, server: "server-2", started: 3_000, ended: 4_000 }
      const progress = {
        ...Envelope.untouched,
        attempts: 2,
        snoozes: 3,
        lost: 1,
        history: [attempt, { ...last, ending: "succeeded" as const }],
      }
      const result = MessagePack.encode({ at: "1970-01-01T00:00:01.000Z" })
      const subject = wire.subjects.final("succeeded", envelope, Subjects.addressOf(id))
      yield* write(subject, Envelope.final(envelope, progress, { ended: 4_000, result }))
      const record = yield* Typed.get(id)
      assert.equal(record.state, "succeeded")
      assert.deepEqual(record.result, { at: new Date(1_000) })
      assert.deepEqual(record.ended, new Date(4_000))
      assert.deepEqual([record.attemptCount, record.snoozes, record.lost], [2, 3, 1])
      const [first, second] = record.attempts
      assert.deepEqual([first?.number, first?.server, first?.ending], [1, "server-1", "failed"])
      assert.deepEqual(first?.error, { code: 550 })
      assert.ok(first?.stack?.includes("Bounced") || first?.stack?.includes("Error"))
      assert.deepEqual([first?.started, first?.ended], [new Date(1_000), new Date(2_000)])
      assert.deepEqual([second?.number, second?.ending], [2, "succeeded"])
      const plain = yield* Effect.flatMap(Client.Client, (client) => client.get(id))
      assert.deepEqual(plain.result, { at: "1970-01-01T00:00:01.000Z" })
    }))

  test("of another definition says which field doesn't fit; without schemas it is read", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const id = yield* Mail.enqueue({ to: "ada" })
      const error = yield* Effect.flip(Typed.get(id))
      assert.ok(error._tag === "UnreadableRecord" && error.field === "payload.n", error.message)
      assert.deepEqual((yield* client.get(id)).payload, { to: "ada" })
    }))

  test("whose record had no room for its input says so; without schemas it is read", () =>
    Effect.gen(function* () {
      const { subjects } = yield* Wire.Wire
      const id = yield* Typed.enqueue({ n: 5 })
      const envelope = Envelope.withoutPayload((yield* messageOf(id)).envelope)
      const subject = subjects.final("failed", envelope, Subjects.addressOf(id))
      const outcome = { ended: 1, reason: "too much" }
      yield* write(subject, Envelope.final(envelope, Envelope.untouched, outcome))
      const error = yield* Effect.flip(Typed.get(id))
      assert.ok(error._tag === "UnreadableRecord" && error.field === "payload")
      assert.match(error.reason, /too large to keep its input/)
      const record = yield* Effect.flatMap(Client.Client, (client) => client.get(id))
      assert.deepEqual([record.state, record.reason], ["failed", "too much"])
    }))

  test("whose bytes are no job says so", () =>
    Effect.gen(function* () {
      const { subjects } = yield* Wire.Wire
      const job = Subjects.addressOf(JobId.makeGenerator()(0))
      yield* write(subjects.live("ready", "q", 3, job), Uint8Array.of(1, 2, 3))
      const error = yield* Effect.flip(Mail.get(job.id))
      assert.ok(error._tag === "UnreadableRecord" && error.field === "message")
    }))

  effect(
    "of another namespace finds nothing, and its stream holds nothing",
    () =>
      Effect.gen(function* () {
        const [one, two] = [freshNamespace(), freshNamespace()]
        const id = yield* Mail.enqueue(payload).pipe(
          Effect.provide(worldOf(server, { namespace: one })),
        )
        const other = worldOf(server, { namespace: two })
        const error = yield* Effect.flip(Mail.get(id)).pipe(Effect.provide(other))
        assert.equal(error._tag, "JobNotFound")
        assert.equal((yield* stored.pipe(Effect.provide(other))).lastSequence, 0)
        const same = worldOf(server, { namespace: one })
        assert.equal((yield* Mail.get(id).pipe(Effect.provide(same))).payload.to, "ada")
      }),
  )
})
