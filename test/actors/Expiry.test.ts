import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { Buffer } from "node:buffer"
import { describe } from "node:test"
import { Job, type Nats, Retry } from "../../mod.ts"
import type { Definition } from "../../src/client/Definition.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Api from "../../src/nats/Api.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { ended, Envelope, gate, is, publishRaw, serve, Subjects } from "./harness.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", { code: Schema.Number }) {}

const hour = 3_600_000
const newId = JobId.makeGenerator()

/** Stores a job as if it had been created, or touched by servers, before. */
const put = (
  nats: Nats.Nats,
  { definition }: { readonly definition: Definition },
  { age, ...progress }: Partial<Envelope.Progress> & { readonly age: number },
): Effect.Effect<JobId.JobId> => {
  const id = newId(0)
  const created = Date.now() - age
  const { lane, queue, template } = definition
  const payload = MessagePack.encode(null)
  const bytes = Envelope.freshWith(template, created, payload, {
    ...Envelope.untouched,
    ...progress,
  })
  const subject = `pf.${nats.namespace}.0.ready.${queue}.${lane}._.${id}`
  return Effect.as(publishRaw(nats, subject, bytes), id)
}

/** The newest message of a job. */
const messageOf = Effect.fnUntraced(function* (
  { connection, namespace }: Nats.Nats,
  id: JobId.JobId,
) {
  const { message } = yield* Api.call<{ readonly message: { readonly data: string } }>(
    connection,
    `STREAM.MSG.GET.${Subjects.jobsStream(namespace, 0)}`,
    { last_by_subj: `pf.${namespace}.0.*.*.*._.${id}` },
    "reading a message",
  )
  const envelope = Envelope.decode(Buffer.from(message.data, "base64"))
  assert.ok(Envelope.isEnvelope(envelope))
  return envelope
})

describe("A job with a deadline", () => {
  const nats = testServer()

  effect(
    "is interrupted at it and has failed, whatever its retry policy",
    () =>
      Effect.gen(function* () {
        const interrupted: Array<number> = []
        const Slow = Job.make("slow", { deadline: "300 millis", timeout: "1 hour" })
        const server = yield* serve(
          nats.layer(),
          Slow.toLayer(() =>
            Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push(1)))
          ),
        )
        const id = yield* server.provide(Slow.enqueue())
        const record = yield* server.record(id)
        assert.equal(record.state, "failed")
        assert.match(record.reason ?? "", /wasn't finished by its deadline, \d{4}-.*Z/)
        assert.deepEqual(record.attempts.map(({ ending }) => ending), ["timedOut"])
        assert.deepEqual(interrupted, [1])
        assert.equal(record.deadline?.getTime(), record.created.getTime() + 300)
        const late = (record.ended?.getTime() ?? 0) - record.deadline.getTime()
        assert.ok(late > -20 && late < 5_000, String(late))
      }),
  )

  effect("is retried after a timeout that comes sooner", () =>
    Effect.gen(function* () {
      const Stuck = Job.make("stuck", {
        deadline: "1 hour",
        timeout: "20 millis",
        retry: Retry.fixed({ attempts: 2, delay: 1 }),
      })
      const server = yield* serve(nats.layer(), Stuck.toLayer(() => Effect.never))
      const record = yield* server.record(yield* server.provide(Stuck.enqueue()))
      assert.deepEqual(record.attempts.map(({ ending }) => ending), ["timedOut", "timedOut"])
      assert.match(record.reason ?? "", /longer than its limit of 20 ms/)
    }))

  effect(
    "fails at once when its next attempt would begin after it; the last error stays",
    () =>
      Effect.gen(function* () {
        const Fail = Job.make("fail", {
          error: Boom,
          deadline: "1 minute",
          retry: Retry.fixed({ attempts: 3, delay: "1 hour" }),
        })
        const Sleepy = Job.make("sleepy", { deadline: "1 minute" })
        const server = yield* serve(
          nats.layer(),
          Layer.merge(
            Fail.toLayer(() => new Boom({ code: 7 })),
            Sleepy.toLayer(() => Job.snooze("1 hour")),
          ),
        )
        const failed = yield* server.provide(Fail.enqueue())
        yield* server.until(ended(failed))
        const record = yield* server.provide(Fail.get(failed))
        assert.equal(record.state, "failed")
        assert.match(
          record.reason ?? "",
          /next attempt would begin after its deadline.*; the last one/,
        )
        assert.deepEqual(record.attempts.map(({ error }) => error?.code), [7])
        const snoozed = yield* server.record(yield* server.provide(Sleepy.enqueue()))
        assert.deepEqual([snoozed.state, snoozed.attemptCount], ["failed", 0])
        assert.match(snoozed.reason ?? "", /next attempt would begin after its deadline/)
      }),
  )

  effect(
    "that is met after it isn't run but failed, by servers that don't know it too",
    () =>
      Effect.gen(function* () {
        const Late = Job.make("late", { deadline: "1 minute" })
        const Foreign = Job.make("foreign", { deadline: "1 minute" })
        const server = yield* serve(nats.layer(), Late.toLayer(() => Effect.void))
        for (const job of [Late, Foreign]) {
          const record = yield* server.record(yield* put(server.nats, job, { age: hour }))
          assert.equal(record.state, "failed")
          assert.match(record.reason ?? "", /its deadline passed at .* while it waited/)
        }
        // A requeue begins the time anew; becoming ready later does not.
        const now = Date.now()
        const later = yield* put(server.nats, Late, { age: hour, since: now })
        assert.equal((yield* server.record(later)).state, "failed")
        assert.equal(server.events.filter(is("AttemptStarted")).length, 0)
        const again = yield* put(server.nats, Late, { age: hour, since: now, after: 1 })
        assert.equal((yield* server.record(again)).state, "succeeded")
      }),
  )

  effect(
    "that passes while it waits to run alone leaves the server to others",
    () =>
      Effect.gen(function* () {
        const blocked = gate()
        const Blocker = Job.make("blocker")
        const Suspect = Job.make("suspect", { deadline: "1 hour" })
        const server = yield* serve(
          nats.layer(),
          Layer.merge(Blocker.toLayer(() => blocked.wait), Suspect.toLayer(() => Effect.void)),
          { queues: { default: 2 } },
        )
        const blocker = yield* server.provide(Blocker.enqueue())
        yield* server.until(is("AttemptStarted", blocker))
        const suspect = yield* put(server.nats, Suspect, { age: hour - 700, lost: 4 })
        // Its time passes while it waits for the blocker.
        yield* Effect.sleep("1 second")
        assert.equal(server.events.filter(ended(suspect)).length, 0)
        blocked.open()
        assert.equal((yield* server.record(suspect)).state, "failed")
        const other = yield* server.provide(Blocker.enqueue())
        assert.equal((yield* server.record(other)).state, "succeeded")
        assert.equal(server.events.filter(is("AttemptStarted", suspect)).length, 0)
      }),
  )
})

describe("A job with a time to live", () => {
  const nats = testServer()
  const Brief = Job.make("brief", { ttl: "1 minute" })

  effect(
    "that is met too late is cancelled, with the reason, and never run",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), Brief.toLayer(() => Effect.void))
        const now = Date.now()
        for (const progress of [{ age: hour }, { age: 3 * hour, since: now - hour }]) {
          const record = yield* server.record(yield* put(server.nats, Brief, progress))
          assert.deepEqual([record.state, record.attempts], ["cancelled", []])
          assert.match(record.reason ?? "", /not begun within its time to live of 60000 ms/)
        }
        assert.equal(server.events.filter(is("AttemptStarted")).length, 0)
      }),
  )

  effect(
    "runs when it is ready for less, and whenever an attempt may have begun",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), Brief.toLayer(() => Effect.void))
        const cases: ReadonlyArray<Partial<Envelope.Progress>> = [
          { since: Date.now() },
          { attempts: 1 },
          { snoozes: 1 },
          { lost: 1 },
          { begun: true },
        ]
        for (const progress of cases) {
          const id = yield* put(server.nats, Brief, { age: hour, ...progress })
          assert.equal((yield* server.record(id)).state, "succeeded", JSON.stringify(progress))
        }
        const id = yield* server.provide(Brief.enqueue())
        assert.equal((yield* server.record(id)).state, "succeeded")
      }),
  )

  effect("remembers an attempt that the stop of its server cut off", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const Endless = Job.make("endless")
      const server = yield* serve(layer, Endless.toLayer(() => Effect.never), {
        gracePeriod: "10 millis",
      })
      const ids = [
        yield* server.provide(Endless.enqueue(undefined, { ttl: "1 minute" })),
        yield* server.provide(Endless.enqueue()),
      ]
      yield* server.until(is("AttemptStarted"), { count: 2 })
      yield* server.stop
      const next = yield* serve(layer, Endless.toLayer(() => Effect.never), {
        queues: { other: 1 },
      })
      const begun = yield* Effect.forEach(
        ids,
        (id) => Effect.map(messageOf(next.nats, id), ({ progress }) => progress.begun),
      )
      assert.deepEqual(begun, [true, undefined])
    }))

  effect(
    "is told when it is due, however it is stored; other jobs are not",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), Brief.toLayer(() => Effect.void))
        const in2h = { delay: "2 hours" } as const
        const Plain = Job.make("plain")
        const stored = (id: JobId.JobId) => messageOf(server.nats, id)
        const [many] = yield* server.provide(Brief.enqueueMany([undefined], in2h))
        for (
          const id of [many as JobId.JobId, yield* server.provide(Brief.schedule(undefined, in2h))]
        ) {
          const { created, options, progress } = yield* stored(id)
          assert.equal(options.ttl, 60_000)
          assert.ok(Math.abs((progress.since ?? 0) - created - 2 * hour) < 5_000)
        }
        const plain = yield* stored(yield* server.provide(Plain.schedule(undefined, in2h)))
        assert.equal(plain.progress, Envelope.untouched)
        const [own] = yield* server.provide(
          Brief.enqueueMany([undefined], { ...in2h, ttl: "3 minutes", deadline: "4 hours" }),
        )
        const { options } = yield* stored(own as JobId.JobId)
        assert.deepEqual([options.ttl, options.deadline], [180_000, 4 * hour])
      }),
  )

  effect(
    "or a deadline that can't be kept is refused before anything is stored",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), Brief.toLayer(() => Effect.void))
        const refused = (self: Effect.Effect<unknown, unknown, never>) =>
          Effect.map(Effect.flip(self), (error) => (error as { readonly field: string }).field)
        const { provide } = server
        const delay = "1 hour"
        const fields = [
          yield* refused(provide(Brief.enqueue(undefined, { ttl: 0 }))),
          yield* refused(provide(Brief.enqueue(undefined, { deadline: { days: 36_600 } }))),
          yield* refused(provide(Brief.enqueueMany([undefined], { deadline: -1 }))),
          yield* refused(provide(Brief.schedule(undefined, { delay, deadline: "59 minutes" }))),
          yield* refused(provide(Brief.schedule(undefined, {
            at: new Date(Date.now() + hour),
            deadline: "59 minutes",
          }))),
        ]
        assert.deepEqual(fields, ["ttl", "deadline", "deadline", "delay", "at"])
        for (const field of ["ttl", "deadline"]) {
          const exit = yield* Effect.exit(Effect.sync(() => Job.make("x", { [field]: 0 })))
          assert.ok(Exit.isFailure(exit))
        }
      }),
  )
})
