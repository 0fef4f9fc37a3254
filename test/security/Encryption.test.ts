import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { connect, Encrypted, job } from "../../actors/promise/mod.ts"
import {
  Encryption,
  Errors,
  Flow,
  Isolated,
  Job,
  JobOutcome,
  JobRecord,
  Recurring,
} from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import { is, produce, publishRaw, serve, Subjects, subjectsIn } from "../actors/harness.ts"
import { InThread } from "../actors/programs/isolatedJobs.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import type { Nats } from "../../src/nats/Nats.ts"
import { newestAtLeader } from "../../src/nats/Reader.ts"

const secret = "4111-1111-1111-1111"
const keyOf = (fill: number) => new Uint8Array(32).fill(fill)
const keys = { one: keyOf(1), two: keyOf(2) }
const withOne = Encryption.layer({ current: "one", keys: { one: keys.one } })
const withBoth = Encryption.layer({ current: "two", keys })
const withTwo = Encryption.layer({ current: "two", keys: { two: keys.two } })

class Declined extends Schema.TaggedError<Declined>()("Declined", { card: Schema.String }) {
  override get message(): string {
    return `${this.card} was declined`
  }
}

const card = Schema.Struct({ card: Schema.String })
const Charge = Job.make("charge", { payload: card, success: card, error: Declined })
const Split = Job.make("split", { payload: card, success: Schema.Array(Schema.String) })
const Echo = Job.make("echo", { payload: Schema.String, success: Schema.String })
const Join = Job.make("join", {
  payload: Schema.Array(Schema.String),
  success: Schema.Array(Schema.String),
})
const Collect = Job.make("collect", { success: Schema.Array(card) })

const handlers = Layer.mergeAll(
  Charge.toLayer(({ card }) =>
    card.startsWith("declined")
      ? Effect.fail(new Declined({ card: secret }))
      : card.startsWith("crash")
      ? Effect.die(new Error(secret))
      : Effect.succeed({ card: card + secret })
  ),
  Split.toLayer(({ card }) => Effect.succeed(card.split("-"))),
  Echo.toLayer((text) => Effect.succeed(`${text}!`)),
  Join.toLayer((texts) => Effect.succeed(texts)),
  Collect.toLayer(() => Charge.parentResults),
)

const text = new TextDecoder("latin1")

describe("encryption", () => {
  const server = testServer()

  /** A server with keys, in a namespace. */
  const world = (encryption: Layer.Layer<never, unknown>, namespace = freshNamespace()) =>
    Effect.map(
      Effect.provide(
        serve(
          Layer.mergeAll(server.layer(namespace), encryption as Layer.Layer<never>),
          handlers,
        ),
        Layer.empty,
      ),
      (made) => ({ ...made, namespace }),
    )
  const client = (namespace: string, encryption: Layer.Layer<never, unknown> = Layer.empty) =>
    produce(Layer.mergeAll(server.layer(namespace), encryption as Layer.Layer<never>))

  const messagesIn = (nats: Nats) =>
    Effect.flatMap(
      subjectsIn(nats),
      (subjects) =>
        Effect.forEach(subjects, (subject) =>
          newestAtLeader(nats.connection, Subjects.jobsStream(nats.namespace, 0), subject)),
    )

  const noSecretIn = (nats: Nats) =>
    Effect.map(messagesIn(nats), (messages) => {
      assert(messages.length > 0)
      for (const message of messages) {
        assert(!text.decode(message?.data).includes("4111"), message?.subject)
      }
    })

  effect(
    "keeps payloads, results and errors from the stream, and gives them back",
    () =>
      Effect.gen(function* () {
        const { client, nats, provide } = yield* world(withOne)
        const id = yield* provide(Charge.enqueue({ card: secret }))
        assert.deepEqual(yield* provide(Charge.await(id)), { card: secret + secret })
        const record = yield* provide(Charge.get(id))
        assert.deepEqual([record.payload.card, record.result?.card], [secret, secret + secret])
        assert.deepEqual((yield* client.get(id)).payload, { card: secret })

        const none = { retry: { backoff: { kind: "none" } } } as never
        const declined = yield* provide(Charge.enqueue({ card: `declined ${secret}` }, none))
        const error = yield* Effect.flip(provide(Charge.await(declined)))
        assert(error instanceof Declined)
        assert.equal(error.card, secret)
        const failed = yield* client.get(declined)
        assert.equal(failed.reason, `${secret} was declined`)
        assert.match(failed.attempts[0]?.stack ?? "", /Encryption/)

        const crashed = yield* provide(Charge.enqueue({ card: `crash ${secret}` }, none))
        const reason = yield* Effect.flip(provide(Charge.await(crashed)))
        assert(reason instanceof JobOutcome.JobFailed)
        assert.equal(reason.reason, secret)
        yield* noSecretIn(nats)
      }),
  )

  effect(
    "shows those without the key that something is encrypted, and with which key",
    () =>
      Effect.gen(function* () {
        const { namespace, provide } = yield* world(withOne)
        const none = { retry: { backoff: { kind: "none" } } } as never
        const id = yield* provide(Charge.enqueue({ card: secret }))
        const declined = yield* provide(Charge.enqueue({ card: "declined" }, none))
        yield* provide(Charge.await(id))
        yield* Effect.flip(provide(Charge.await(declined)))
        for (const encryption of [Layer.empty, withTwo]) {
          const other = yield* client(namespace, encryption)
          const { payload, result } = yield* other.client.get(id)
          assert.deepEqual([payload, result], [
            new Encryption.Encrypted("one"),
            new Encryption.Encrypted("one"),
          ])
          const { attempts, reason } = yield* other.client.get(declined)
          assert.deepEqual([reason, attempts[0]?.message, attempts[0]?.stack], [
            "encrypted",
            "encrypted",
            undefined,
          ])
          const listed = yield* other.client.list({ state: "succeeded" })
          assert.deepEqual(listed.jobs[0]?.payload, new Encryption.Encrypted("one"))
          const typed = yield* Effect.flip(other.provide(Charge.get(id)))
          assert(typed instanceof JobRecord.UnreadableRecord)
          assert.match(typed.reason, /encrypted with the key one/)
          const awaited = yield* Effect.flip(other.provide(Charge.await(id)))
          assert(awaited instanceof JobRecord.UnreadableRecord)
        }
      }),
  )

  effect("passes a job on to a server that has its key", () =>
    Effect.gen(function* () {
      const first = yield* world(withTwo)
      const { client: other, provide } = yield* client(first.namespace, withOne)
      const id = yield* provide(Charge.enqueue({ card: secret }))
      yield* first.until(is("JobMoved", id, ({ to }) => to === "unknown"))
      assert.equal((yield* other.get(id)).attemptCount, 0)
      const second = yield* world(withBoth, first.namespace)
      // The result has the new key, which the first client doesn't have.
      const error = yield* Effect.flip(provide(Charge.await(id)))
      assert(error instanceof JobRecord.UnreadableRecord)
      assert.deepEqual((yield* second.client.get(id)).result, { card: secret + secret })
      assert.deepEqual((yield* second.client.get(id)).payload, { card: secret })
    }))

  effect("goes through continuations, lists and workflows", () =>
    Effect.gen(function* () {
      const { nats, provide } = yield* world(withOne)
      const flow = Flow.job(Split, { card: secret }).pipe(
        Flow.forEach(Echo),
        Flow.andThen(Join),
      )
      const parts = secret.split("-").map((part) => `${part}!`)
      assert.deepEqual(yield* provide(Flow.execute(flow)), parts)
      const all = Flow.all({
        a: Flow.job(Charge, { card: secret }),
        b: Flow.job(Split, { card: secret }).pipe(Flow.forEach(Echo)),
      })
      assert.deepEqual(yield* provide(Flow.execute(all)), {
        a: { card: secret + secret },
        b: parts,
      })
      const id = yield* provide(Charge.enqueue({ card: secret }))
      const after = yield* provide(Collect.enqueueAfter([id]))
      assert.deepEqual(yield* provide(Collect.await(after)), [{ card: secret + secret }])
      yield* noSecretIn(nats)
    }))

  effect(
    "leaves recurring entries, unique keys and chosen ids what they are",
    () =>
      Effect.gen(function* () {
        const { nats, provide } = yield* world(withOne)
        const entry = {
          job: Charge,
          payload: { card: secret },
          schedule: { every: "1 hour" },
        } as const
        assert.equal((yield* provide(Recurring.upsert("e", entry))).change, "created")
        assert.equal((yield* provide(Recurring.upsert("e", entry))).change, "unchanged")
        const run = yield* provide(Recurring.trigger("e"))
        assert.deepEqual(yield* provide(Charge.await(run)), { card: secret + secret })
        const unique = { unique: { key: "k" } }
        const at = { delay: "1 hour", ...unique } as const
        const [one, two] = [
          yield* provide(Charge.schedule({ card: secret }, at)),
          yield* provide(Charge.schedule({ card: secret }, at)),
        ]
        assert.equal(one, two)
        const chosen = yield* provide(Charge.enqueue({ card: secret }, { id: "mine" }))
        assert.deepEqual(yield* provide(Charge.await(chosen)), { card: secret + secret })
        const ids = yield* provide(Charge.enqueueMany([{ card: "a" }, { card: "b" }]))
        for (const id of ids) yield* provide(Charge.await(id))
        yield* noSecretIn(nats)
      }),
  )

  effect(
    "refuses a payload that belongs to another job, or that was changed",
    () =>
      Effect.gen(function* () {
        const { nats, namespace, provide, record } = yield* world(withOne)
        yield* provide(Charge.schedule({ card: secret }, { delay: "1 hour" }))
        const [message] = yield* messagesIn(nats)
        const sealed = Envelope.decode(message?.data as Uint8Array) as Envelope.Envelope
        const put = (name: string, id: string, payload: Uint8Array) =>
          publishRaw(
            nats,
            Subjects.make(namespace).live("ready", "default", 3, Subjects.addressOf(id)),
            Envelope.fresh(Envelope.template(name, "default", 3, {}), Date.now(), payload),
          )
        yield* put("split", "moved", sealed.payload)
        assert.match((yield* record("moved")).reason ?? "", /belongs to another job/)
        const changed = sealed.payload.slice()
        changed[60] = (changed[60] as number) ^ 1
        yield* put("charge", "changed", changed)
        assert.match((yield* record("changed")).reason ?? "", /can't be decrypted/)
      }),
  )

  effect("leaves payloads of older versions what they are", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      const old = yield* client(namespace, withOne)
      const First = Job.make("grown", { payload: Schema.String })
      const id = yield* old.provide(First.enqueue(secret))
      const Second = Job.make("grown", {
        payload: card,
        success: card,
        version: 2,
        migrations: { 1: (text) => ({ card: text }) },
      })
      const nats = Layer.mergeAll(server.layer(namespace), withBoth as Layer.Layer<never>)
      const { provide } = yield* serve(nats, Second.toLayer(Effect.succeed))
      assert.deepEqual(yield* provide(Second.await(id)), { card: secret })
      assert.deepEqual((yield* provide(Second.get(id))).payload, { card: secret })
    }))

  effect("reaches handlers in threads, and gives what they give", () =>
    Effect.gen(function* () {
      const worker = new URL("../actors/programs/isolatedWorker.ts", import.meta.url)
      const isolated = Layer.orDie(Isolated.layer(InThread, worker, { workers: 1 }))
      const nats = Layer.mergeAll(server.layer(), withOne as Layer.Layer<never>)
      const { client, provide, record } = yield* serve(nats, isolated)
      for (const deed of ["well", "fail"]) {
        const id = yield* provide(InThread.enqueue(deed))
        assert.equal((yield* record(id)).payload, deed)
        const { attempts: [attempt], result } = yield* client.get(id)
        assert(deed === "well" ? typeof result === "string" : attempt?.error !== undefined)
      }
    }))

  effect("is there for code with promises", () =>
    Effect.promise(async () => {
      const Keep = job("keep")
      const at = { servers: await server.url(), authentication: server.credentials }
      const namespace = freshNamespace()
      const options = { current: "one", keys: { one: keys.one } }
      const portfire = await connect({
        ...at,
        namespace,
        encryption: () => Promise.resolve(options),
      })
      const stranger = await connect({ ...at, namespace })
      try {
        const id = await portfire.enqueue(Keep)
        await portfire.serve({ queues: { default: 1 }, handlers: [Keep.handler(() => {})] })
        await portfire.await(Keep, id)
        assert.deepEqual((await stranger.get(id)).payload, new Encrypted("one"))
        assert.equal((await portfire.get(id)).payload, null)
      } finally {
        await stranger.close()
        await portfire.close()
      }
    }))

  effect(
    "takes keys in every form, and doesn't tell those that are none",
    () =>
      Effect.gen(function* () {
        const base64 = btoa(String.fromCharCode(...keys.one))
        for (const one of [base64, Redacted.make(base64), Redacted.make(keys.one)]) {
          yield* Encryption.make({ current: "one", keys: { one } })
        }
        const provided = Encryption.layer(Effect.succeed({ current: "one", keys }))
        yield* Layer.build(provided)
        for (const key of ["secret", keyOf(1).slice(1), base64.slice(4)]) {
          const error = yield* Effect.flip(Encryption.make({ current: "one", keys: { one: key } }))
          assert(error instanceof Errors.InvalidOptions)
          assert.equal(error.field, "encryption.keys.one")
          assert(!error.message.includes(String(key)))
        }
        const error = yield* Effect.flip(Encryption.make({ current: "three", keys }))
        assert.equal(error.field, "encryption.current")
      }),
  )
})
