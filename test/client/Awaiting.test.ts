import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, Retry } from "../../mod.ts"
import * as Awaiting from "../../src/client/Awaiting.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import type { FinalState } from "../../src/core/JobState.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { gate, is, produce, publishRaw, serve } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { messageOf, worldTest } from "./world.ts"

class Bounced extends Schema.TaggedError<Bounced>()("Bounced", { code: Schema.Number }) {}

const Send = Job.make("send", {
  payload: Schema.Struct({ n: Schema.Number }),
  success: Schema.Struct({ n: Schema.Number, at: Schema.Date }),
  error: Bounced,
  retry: Retry.fixed({ attempts: 2, delay: 0 }),
})

const at = new Date(1_700_000_000_000)

/** Writes the final record of a job that no server has run, and tells nobody. */
const end = Effect.fnUntraced(function* (
  id: string,
  state: FinalState,
  reason?: string,
  history: Envelope.Progress["history"] = [],
) {
  const { nats, subjects } = yield* Wire.Wire
  const { envelope } = yield* messageOf(id)
  const progress = { ...envelope.progress, history }
  const record = Envelope.final(envelope, progress, { ended: Date.now(), reason })
  yield* publishRaw(nats, subjects.final(state, envelope, Subjects.addressOf(id)), record)
})

/** Counts the reads of the first partition from now on. */
const countReads = Effect.map(Wire.Wire, ({ nats: { connection, namespace } }) => {
  let reads = 0
  connection.subscribe(`$JS.API.DIRECT.GET.${Subjects.jobsStream(namespace, 0)}`, {
    callback: () => void reads++,
  })
  return Effect.sync(() => reads)
})

describe("execute", () => {
  const nats = testServer()

  effect("gives the result that the handler gave, with its type", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), Send.toLayer(({ n }) => Effect.succeed({ n, at })))
      assert.deepEqual(yield* server.provide(Send.execute({ n: 5 })), { n: 5, at })
    }))

  effect("fails with the typed error of the last attempt", () =>
    Effect.gen(function* () {
      const server = yield* serve(
        nats.layer(),
        Send.toLayer(() =>
          Effect.flatMap(Job.current, ({ attempt }) => new Bounced({ code: 550 + attempt }))
        ),
      )
      const error = yield* Effect.flip(server.provide(Send.execute({ n: 5 })))
      assert.ok(error instanceof Bounced, String(error))
      assert.equal(error.code, 552)
    }))

  effect(
    "fails as JobFailed when the job crashed after a typed error, or was discarded",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(
          nats.layer(),
          Send.toLayer(({ n }) =>
            Effect.flatMap(Job.current, ({ attempt }) =>
              n === 0
                ? Job.discard("no use")
                : attempt === 1
                ? new Bounced({ code: 550 })
                : Effect.die(new Error("out of paper")))
          ),
        )
        const crashed = yield* Effect.flip(server.provide(Send.execute({ n: 5 })))
        assert.ok(crashed._tag === "JobFailed", String(crashed))
        assert.equal(crashed.reason, "out of paper")
        assert.equal(crashed.message, `job ${crashed.id} (send) failed: out of paper`)
        assert.deepEqual(
          crashed.record.attempts.map(({ ending }) =>
            ending
          ),
          ["failed", "crashed"],
        )
        assert.deepEqual(crashed.record.payload, { n: 5 })
        const discarded = yield* Effect.flip(server.provide(Send.execute({ n: 0 })))
        assert.ok(
          discarded._tag === "JobFailed" && discarded.reason === "no use",
          String(discarded),
        )
      }),
  )

  effect("waits until there is a server", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const { provide } = yield* produce(layer)
      const executing = yield* Effect.forkChild(provide(Send.execute({ n: 1 })))
      yield* serve(layer, Send.toLayer(({ n }) => Effect.succeed({ n, at })))
      assert.deepEqual(yield* Fiber.join(executing), { n: 1, at })
    }))

  effect(
    "ends in time when the job doesn't, and leaves the job alone",
    () =>
      Effect.gen(function* () {
        const { open, wait } = gate()
        const server = yield* serve(
          nats.layer(),
          Send.toLayer(({ n }) => Effect.as(wait, { n, at })),
        )
        const late = yield* Effect.flip(server.provide(Send.execute({ n: 1 }, { within: 50 })))
        assert.ok(late._tag === "AwaitTimedOut" && late.within === 50, String(late))
        open()
        assert.deepEqual(yield* server.provide(Send.await(late.id)), { n: 1, at })
      }),
  )

  effect("refuses a time that is none, before anything is stored", () =>
    Effect.gen(function* () {
      const { provide } = yield* produce(nats.layer())
      for (const within of [-1, Number.NaN, "soon", Infinity]) {
        const options = { within } as { readonly within: number }
        const error = yield* Effect.flip(provide(Send.execute({ n: 1 }, options)))
        assert.ok(error._tag === "InvalidOptions" && error.field === "within", String(error))
        const other = yield* Effect.flip(provide(Send.await("id", options)))
        assert.ok(other._tag === "InvalidOptions" && other.field === "within", String(other))
      }
      const unknown = { within: 1, delay: 5 }
      const error = yield* Effect.flip(provide(Send.execute({ n: 1 }, unknown)))
      assert.ok(error._tag === "InvalidOptions" && error.field === "options.delay", String(error))
    }))

  effect(
    "gives each of two thousand at once its own result, with few messages",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(
          nats.layer(),
          Send.toLayer(({ n }) =>
            n % 100 === 99 ? new Bounced({ code: n }) : Effect.succeed({ n, at })
          ),
          { queues: { default: 200 } },
        )
        let interests = 0
        const { connection, namespace } = server.nats
        connection.subscribe(Subjects.make(namespace).control("interest"), {
          callback: () => void interests++,
        })
        const results = yield* server.provide(Effect.forEach(
          Array.from({ length: 2_000 }, (_, n) => n),
          (n) =>
            Effect.match(Send.execute({ n }, { retry: Retry.none, within: "20 seconds" }), {
              onSuccess: (result) => result.n,
              onFailure: (error) => error._tag === "Bounced" ? -error.code : error._tag,
            }),
          { concurrency: "unbounded" },
        ))
        for (const [n, got] of results.entries()) assert.equal(got, n % 100 === 99 ? -n : n)
        assert.ok(interests > 0 && interests < 200, `${interests} messages`)
      }),
  )
})

describe("execute, with NATS killed in the middle", () => {
  const nats = testServer()

  effect("gives the result all the same", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const layer = nats.layer(freshNamespace())
      const server = yield* serve(layer, Send.toLayer(({ n }) => Effect.as(wait, { n, at })))
      const { provide } = yield* produce(layer)
      const executing = yield* Effect.forkChild(
        provide(Effect.all([1, 2, 3].map((n) => Send.execute({ n })), { concurrency: 3 })),
      )
      yield* server.until(is("AttemptStarted"), { count: 3 })
      yield* nats.killServer
      open()
      yield* nats.restartServer
      assert.deepEqual(yield* Fiber.join(executing), [1, 2, 3].map((n) => ({ n, at })))
    }))
})

describe("await", () => {
  const nats = testServer()
  const test = worldTest(nats)

  effect("works for a job that has ended before", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), Send.toLayer(({ n }) => Effect.succeed({ n, at })))
      const id = yield* server.provide(Send.enqueue({ n: 7 }))
      yield* server.record(id)
      assert.deepEqual(yield* server.provide(Send.await(id)), { n: 7, at })
      assert.equal((yield* server.client.awaitRecord(id)).state, "succeeded")
    }))

  test("fails as JobNotFound for an id that nobody has", () =>
    Effect.gen(function* () {
      for (const id of ["none", "01ARZ3NDEKTSV4RRFFQ69G5FA0", "01ARZ3NDEKTSV4RRFFQ69G5FAZ"]) {
        const error = yield* Effect.flip(Send.await(id))
        assert.ok(error._tag === "JobNotFound" && error.id === id, String(error))
      }
      const illegal = yield* Effect.flip(Send.await("*"))
      assert.ok(illegal._tag === "InvalidOptions" && illegal.field === "id", String(illegal))
    }))

  test("ends by reading when no notice comes; a job that was given up is JobFailed", () =>
    Effect.gen(function* () {
      const id = yield* Send.enqueue({ n: 1 })
      const reads = yield* countReads
      const waiting = yield* Effect.forkChild(Effect.flip(Send.await(id)))
      yield* eventually(reads, (count) => count > 0)
      const error = yield* Send.definition.error.encode(new Bounced({ code: 550 }))
      const times = { started: 1, ended: 2 }
      yield* end(id, "failed", "its server was lost", [
        { number: 1, server: "gone", ...times, ending: "failed", error },
      ])
      const failed = yield* Fiber.join(waiting)
      assert.ok(failed._tag === "JobFailed", String(failed))
      assert.deepEqual([failed.id, failed.reason], [id, "its server was lost"])
    }))

  test("fails as JobNotFound when the job vanishes meanwhile", () =>
    Effect.gen(function* () {
      const { nats, subjects } = yield* Wire.Wire
      const id = yield* Send.enqueue({ n: 1 })
      const reads = yield* countReads
      const waiting = yield* Effect.forkChild(Effect.flip(Send.await(id)))
      yield* eventually(reads, (count) => count > 0)
      yield* Api.call(
        nats.connection,
        `STREAM.PURGE.${Subjects.jobsStream(nats.namespace, 0)}`,
        { filter: subjects.job(Subjects.addressOf(id)) },
        "removing a job",
      )
      assert.equal((yield* Fiber.join(waiting))._tag, "JobNotFound")
    }))

  test("hears at once of an end that a server has stored, or another client announces", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const { open, wait } = gate()
      const server = yield* serve(
        nats.layer(wire.nats.namespace),
        Send.toLayer(({ n }) => Effect.as(wait, { n, at })),
      )
      const served = yield* Send.enqueue({ n: 1 })
      const unserved = yield* Send.enqueue({ n: 2 }, { queue: "nobody" })
      yield* server.until(is("AttemptStarted", served))
      const reads = yield* countReads
      const first = yield* Effect.forkChild(Send.await(served))
      const second = yield* Effect.forkChild(Effect.flip(Send.await(unserved)))
      // Now the next one is two seconds away.
      yield* eventually(reads, (count) => count >= 4)
      yield* end(unserved, "cancelled", "not wanted")
      const before = performance.now()
      open()
      Awaiting.announceEnded(wire, [unserved])
      assert.deepEqual(yield* Fiber.join(first), { n: 1, at })
      const error = yield* Fiber.join(second)
      assert.ok(performance.now() - before < 1_000, "it was read by and by")
      assert.ok(error._tag === "JobCancelled" && error.reason === "not wanted", String(error))
    }))

  test("leaves nothing behind when it ends, is out of time or is interrupted", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.Wire
      const awaiting = yield* Awaiting.make(wire)
      const id = yield* Send.enqueue({ n: 1 })
      const late = yield* Effect.flip(awaiting.ended(id, 20))
      assert.equal(late._tag, "AwaitTimedOut")
      assert.equal(awaiting.size(), 0)
      const interrupted = yield* Effect.forkChild(awaiting.ended(id, undefined))
      const waiting = yield* Effect.forkChild(awaiting.ended(id, undefined))
      yield* eventually(Effect.sync(awaiting.size), (size) => size === 1)
      yield* Fiber.interrupt(interrupted)
      assert.equal(awaiting.size(), 1)
      yield* end(id, "succeeded")
      yield* Fiber.join(waiting)
      assert.equal(awaiting.size(), 0)
      const unstored = yield* Effect.flip(
        awaiting.storedAndEnded((before) => Effect.andThen(before("new"), Effect.fail("no")), 5),
      )
      assert.deepEqual([unstored, awaiting.size()], ["no", 0])
    }))

  test("of thousands of jobs reads two hundred at a time", () =>
    Effect.gen(function* () {
      const { awaitRecord } = yield* Client.Client
      const ids = yield* Send.enqueueMany(Array.from({ length: 5_000 }, (_, n) => ({ n })))
      const reads = yield* countReads
      const errors = yield* Effect.forEach(
        ids,
        (id) => Effect.flip(awaitRecord(id, { within: "2 seconds" })),
        { concurrency: "unbounded" },
      )
      for (const { _tag } of errors) assert.equal(_tag, "AwaitTimedOut")
      const count = yield* reads
      assert.ok(count >= 50 && count <= 400, `${count} reads`)
    }))
})
