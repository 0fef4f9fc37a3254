import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { Buffer } from "node:buffer"
import { describe } from "node:test"
import { Job, type Nats } from "../../mod.ts"
import type { JobId } from "../../src/core/JobId.ts"
import * as Api from "../../src/nats/Api.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { ended, Envelope, is, publishRaw, serve, Subjects } from "./harness.ts"

const Old = Job.make("greet", {
  payload: Schema.Struct({ name: Schema.String }),
  success: Schema.String,
})

const New = Job.make("greet", {
  version: 2,
  payload: Schema.Struct({ first: Schema.String, last: Schema.String }),
  success: Schema.String,
  migrations: {
    1: (old) => {
      const [first, last] = (old as { readonly name: string }).name.split(" ")
      return { first, last }
    },
  },
})

const OldLive = Old.toLayer(({ name }) => Effect.succeed(`${name} by the old`))
const NewLive = New.toLayer(({ first, last }) => Effect.succeed(`${first} ${last} by the new`))

/** Puts a job that has ended back to its queue. */
const requeue = Effect.fnUntraced(function* (
  nats: Nats.Nats,
  id: JobId,
) {
  const prefix = `pf.${nats.namespace}.0`
  const { message } = yield* Api.call<
    { readonly message: { readonly data: string; readonly seq: number } }
  >(
    nats.connection,
    `STREAM.MSG.GET.${Subjects.jobsStream(nats.namespace, 0)}`,
    { last_by_subj: `${prefix}.failed.*.*._.${id}` },
    "reading a record",
  )
  const envelope = Envelope.decode(Buffer.from(message.data, "base64"))
  assert.ok(Envelope.isEnvelope(envelope))
  const bytes = Envelope.live(envelope, { ...Envelope.untouched, after: message.seq })
  yield* publishRaw(nats, `${prefix}.ready.${envelope.queue}.${envelope.lane}._.${id}`, bytes)
})

describe("Servers of two versions of a job", () => {
  const nats = testServer()

  effect(
    "run the jobs of both, side by side and one after the other",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const old = yield* serve(layer, OldLive)
        // Before any newer server is there, the old one leaves new jobs alone.
        const fresh = [
          yield* old.provide(New.enqueue({ first: "Ada", last: "Lovelace" })),
          ...yield* old.provide(New.enqueueMany([{ first: "Alan", last: "Turing" }])),
        ]
        for (const id of fresh) {
          yield* old.until(is("JobMoved", id, ({ to }) => to === "unknown"))
        }
        const young = yield* serve(layer, NewLive)
        const stale = yield* old.provide(
          Old.enqueueMany(Array.from({ length: 20 }, (_, i) => ({ name: `Grace Hopper${i}` }))),
        )
        for (const [i, id] of stale.entries()) {
          const end = yield* Effect.race(young.until(ended(id)), old.until(ended(id)))
          assert.equal(end[0]?.to, "succeeded")
          const record = yield* young.provide(New.get(id))
          assert.deepEqual(record.payload, { first: "Grace", last: `Hopper${i}` })
          assert.match(record.result ?? "", /^Grace Hopper\d+ by the (old|new)$/)
          assert.equal(record.version, 1)
        }
        yield* old.stop
        // Nobody but the new one is left.
        const last = yield* young.provide(Old.enqueue({ name: "Mary Somerville" }))
        const end = yield* young.until(ended(last))
        assert.equal(end[0]?.to, "succeeded")
        const kept = yield* young.provide(New.get(last))
        assert.equal(kept.result, "Mary Somerville by the new")
        for (const id of fresh) {
          const record = yield* young.record(id)
          assert.equal(record.state, "succeeded")
          assert.match(String(record.result), / by the new$/)
          assert.deepEqual([record.version, record.attempts.length], [2, 1])
          const unreadable = yield* Effect.flip(young.provide(Old.get(id)))
          assert.match(unreadable.message, /payload .* version 2, this definition knows .* up to 1/)
        }
        const started = old.events.filter(is("AttemptStarted")).map(({ id }) => id)
        assert.deepEqual(started.filter((id) => fresh.includes(id)), [])
      }),
  )

  effect(
    "leave what none can read failed, bytes and all, for the next one to run",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const Broken = Job.make("greet", {
          version: 2,
          payload: Schema.Struct({ first: Schema.String, last: Schema.String }),
          migrations: { 1: (old) => ({ first: (old as { readonly name: string }).name }) },
        })
        const Forgetful = Job.make("greet", { version: 2, payload: Schema.String })
        const expectations = [
          [Broken.toLayer(() => Effect.void), /^payload\.last .*version 1, migrated to 2/],
          [Forgetful.toLayer(() => Effect.void), /^payload .*version 1, the oldest .* is 2/],
        ] as const
        for (const [handlers, reason] of expectations) {
          const server = yield* serve(layer, handlers)
          const id = yield* server.provide(Old.enqueue({ name: "Ada Lovelace" }))
          const failed = yield* server.record(id)
          assert.deepEqual([failed.state, failed.attempts[0]?.ending], ["failed", "crashed"])
          assert.match(failed.reason ?? "", reason)
          assert.equal(failed.attempts.length, 1)
          assert.deepEqual(failed.payload, { name: "Ada Lovelace" })
          yield* server.stop
          const deployed = yield* serve(layer, NewLive)
          yield* requeue(deployed.nats, id)
          const record = yield* deployed.record(id)
          assert.deepEqual([record.state, record.result], [
            "succeeded",
            "Ada Lovelace by the new",
          ])
          yield* deployed.stop
        }
      }),
  )
})
