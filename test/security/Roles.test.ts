import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, it } from "node:test"
import { setImmediate } from "node:timers"
import { Client, Job, Nats, NatsError, Roles } from "../../mod.ts"
import { Puller } from "../../src/nats/Puller.ts"
import { rawHeaders } from "../../src/nats/Publisher.ts"
import * as Violations from "../../src/nats/Violations.ts"
import { produce, serve, type TestServer } from "../actors/harness.ts"
import { effect, eventually } from "../harness.ts"
import * as work from "./work.ts"
import { as, connect, inboxOf, namespace, roleServer, setUp, violationsOf } from "./world.ts"

type Connection = Nats.Nats["connection"]

const jobs = `PF_${namespace}_JOBS_0`
const state = `PF_${namespace}_STATE`
const logs = `PF_${namespace}_LOGS`
const prefix = `pf.${namespace}`

/** Whether a role may publish to a subject: the server tells at once when not. */
const mayPublish = (connection: Connection, subject: string): Effect.Effect<boolean> =>
  Effect.promise(async () => {
    let refused = false
    const stop = Violations.listen(connection, (violation) => {
      if (violation.operation === "publish" && violation.subject === subject) refused = true
    })
    connection.publish(subject, "not a job")
    await connection.flush()
    // What was refused is told before the flush is answered, but by an iterator.
    await new Promise((done) => setImmediate(done))
    stop()
    return !refused
  })

const maySubscribe = (connection: Connection, subject: string): Effect.Effect<boolean> =>
  Effect.promise(async () => {
    let refused = false
    const subscription = connection.subscribe(subject, {
      callback: (error) => {
        if (error !== null) refused = true
      },
    })
    await connection.flush()
    if (!refused) subscription.unsubscribe()
    return !refused
  })

const everybody: ReadonlyArray<Roles.Role> = Roles.roles
const writers: ReadonlyArray<Roles.Role> = ["producer", "worker", "operator"]
const readers: ReadonlyArray<Roles.Role> = [...writers, "viewer"]
const viewers: ReadonlyArray<Roles.Role> = ["viewer", "operator"]

/** Acts, and who may do them; whoever isn't named must be refused. */
const published: ReadonlyArray<readonly [subject: string, who: ReadonlyArray<Roles.Role>]> = [
  // Streams
  ...[state, jobs, logs].flatMap((stream): typeof published => [
    [`$JS.API.STREAM.INFO.${stream}`, everybody],
    [`$JS.API.STREAM.CREATE.${stream}`, ["setup"]],
    [`$JS.API.STREAM.UPDATE.${stream}`, ["setup"]],
    [`$JS.API.STREAM.DELETE.${stream}`, []],
    [`$JS.API.STREAM.SNAPSHOT.${stream}`, []],
    [`$JS.API.STREAM.RESTORE.${stream}`, []],
    [`$JS.API.DIRECT.GET.${stream}`, readers],
    [`$JS.API.DIRECT.GET.${stream}.${prefix}.0.ready.default.3._.x`, []],
    [`$JS.API.STREAM.MSG.GET.${stream}`, readers],
  ]),
  ["$JS.API.STREAM.LIST", []],
  ["$JS.API.STREAM.NAMES", []],
  ["$JS.API.STREAM.CREATE.copy", []],
  [`$JS.API.STREAM.MSG.DELETE.${jobs}`, writers],
  [`$JS.API.STREAM.MSG.DELETE.${state}`, []],
  [`$JS.API.STREAM.MSG.DELETE.${logs}`, []],
  [`$JS.API.STREAM.PURGE.${jobs}`, ["worker", "operator"]],
  [`$JS.API.STREAM.PURGE.${state}`, ["worker"]],
  [`$JS.API.STREAM.PURGE.${logs}`, []],
  // Consumers
  [`$JS.API.CONSUMER.INFO.${jobs}.ready_default_3`, everybody.slice(1)],
  [`$JS.API.CONSUMER.LIST.${jobs}`, viewers],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c.${prefix}.0.ready.default.3.>`, ["worker"]],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c.${prefix}.0.failed.default.*.*.*`, viewers],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c.${prefix}.0.claim.>`, []],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c`, []],
  [`$JS.API.CONSUMER.CREATE.${jobs}`, []],
  [`$JS.API.CONSUMER.DURABLE.CREATE.${jobs}.c`, []],
  [`$JS.API.CONSUMER.CREATE.${state}.c.${prefix}.state.>`, []],
  [`$JS.API.CONSUMER.CREATE.${logs}.c.${prefix}.log.>`, []],
  [`$JS.API.CONSUMER.DELETE.${jobs}.ready_default_3`, []],
  [`$JS.API.CONSUMER.PAUSE.${jobs}.ready_default_3`, []],
  [`$JS.API.CONSUMER.RESET.${jobs}.ready_default_3`, []],
  [`$JS.API.CONSUMER.MSG.NEXT.${jobs}.ready_default_3`, ["worker"]],
  [`$JS.ACK.${jobs}.ready_default_3.1.1.1.1.0`, ["worker"]],
  // Jobs
  [`${prefix}.0.ready.default.3._.x`, ["enqueuer", ...writers]],
  [`${prefix}.0.later.default.3._.x`, ["enqueuer", ...writers]],
  [`${prefix}.0.await.default.3._.x`, writers],
  [`${prefix}.0.claim.-.-.-.-.x`, writers],
  [`${prefix}.0.link.-.-.-.x.y`, writers],
  [`${prefix}.0.retry.default.3._.x`, ["worker", "operator"]],
  [`${prefix}.0.cancelled.default._._.x`, writers],
  [`${prefix}.0.succeeded._engine._._.x`, writers],
  [`${prefix}.0.succeeded.default._._.x`, ["worker"]],
  [`${prefix}.0.failed.default._._.x`, ["worker"]],
  // What servers say, and what they are asked
  [`${prefix}.state.server.x`, ["worker"]],
  [`${prefix}.state.janitor`, ["worker"]],
  [`${prefix}.state.retention._`, ["worker"]],
  [`${prefix}.log.x`, ["worker"]],
  [`${prefix}.ctl.find`, readers],
  [`${prefix}.ctl.describe`, ["worker", ...viewers]],
  [`${prefix}.ctl.void`, writers],
  // Others
  ["pf.other.0.ready.default.3._.x", []],
  ["$JS.API.STREAM.INFO.PF_other_JOBS_0", []],
  [`${inboxOf("operator")}.x`, []],
  ["$SYS.REQ.SERVER.PING", []],
  ["anything.else", []],
]

const subscribed: ReadonlyArray<readonly [subject: string, who: ReadonlyArray<Roles.Role>]> = [
  [">", []],
  ["_INBOX.>", []],
  ["$JS.>", []],
  ["$JS.EVENT.ADVISORY.>", []],
  [`${prefix}.>`, []],
  [`${prefix}.*.>`, []],
  [`${prefix}.0.>`, []],
  [`${prefix}.log.>`, readers],
  [`${prefix}.ctl.find`, ["worker"]],
  [`${prefix}.ctl.interest`, ["worker"]],
  [`${prefix}.ctl.ended`, readers],
  ["pf.other.log.>", []],
  ...Roles.roles.map((role) => [`${inboxOf(role)}.>`, [role]] as const),
]

describe("A role", () => {
  const server = roleServer(2)

  effect(
    "does all of its work",
    () =>
      Effect.gen(function* () {
        yield* setUp(server, 2)
        const refused = new Map<string, ReadonlyArray<string>>()
        const noting = (role: Roles.Role, nats: Nats.Nats) =>
          Effect.sync(() => refused.set(role, violationsOf(nats)))
        const worker: TestServer = yield* serve(as(server, "worker"), work.handlers, {
          retention: { age: "1 hour" },
        })
        yield* noting("worker", worker.nats)
        const by = <A, E>(role: Roles.Role, body: Effect.Effect<A, E, Client.Client>) =>
          Effect.scoped(Effect.gen(function* () {
            const client = yield* produce(as(server, role))
            yield* noting(role, client.nats)
            return yield* client.provide(body)
          }))
        yield* by("enqueuer", work.enqueue)
        yield* by("producer", work.produce)
        yield* by("producer", work.prepare)
        yield* by("viewer", work.view)
        yield* by("operator", work.operate)
        yield* worker.stop
        for (const [role, violations] of refused) {
          // A queue that no server has taken yet has no consumers, and only servers make them.
          const others = violations.filter((text) => !text.includes(".CONSUMER.CREATE."))
          assert.deepEqual(others, [], role)
          if (role === "worker") assert.deepEqual(violations, [])
        }
        assert.equal(refused.size, 5)
      }),
  )

  for (const role of Roles.roles) {
    effect(`is refused everything else: ${role}`, () =>
      Effect.gen(function* () {
        const { connection } = yield* connect(server, role)
        for (const [subject, who] of published) {
          // The stream must not really be changed by those who may.
          if (who.includes(role) && /STREAM\.(CREATE|UPDATE)/.test(subject)) continue
          assert.equal(
            yield* mayPublish(connection, subject),
            who.includes(role),
            `publish ${subject}`,
          )
        }
        for (const [subject, who] of subscribed) {
          assert.equal(
            yield* maySubscribe(connection, subject),
            who.includes(role),
            `subscribe ${subject}`,
          )
        }
      }))
  }
})

const refusedFor = (subject: string) => (error: unknown) => {
  assert.ok(error instanceof NatsError.Rejected, String(error))
  assert.equal(error.code, NatsError.Code.notPermitted)
  assert.equal(error.retryable, false)
  assert.ok(error.message.includes(`"${subject}"`), error.message)
  assert.match(error.message, /add that to its permissions/)
}

/** Fails within two seconds for want of a permission to publish to a subject. */
const isRefused = <A, E, R>(subject: string, self: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(Effect.timeout(self, "2 seconds")), refusedFor(subject))

const Work = Job.make("work", { queue: "work" })

describe("A missing permission", () => {
  const server = roleServer()

  effect("to make the streams is named when they aren't there yet", () =>
    Effect.gen(function* () {
      for (const role of ["enqueuer", "producer", "worker", "viewer", "operator"] as const) {
        const starting = Effect.scoped(Layer.build(Layer.provide(Client.layer, as(server, role))))
        yield* isRefused(`$JS.API.STREAM.CREATE.${state}`, starting)
      }
      yield* setUp(server)
      // Another process of the same role finds them, and one that sets up changes nothing.
      yield* setUp(server)
    }))

  effect("is named by what needs it, at once", () =>
    Effect.gen(function* () {
      yield* setUp(server)
      const enqueuer = yield* produce(as(server, "enqueuer"))
      const id = yield* enqueuer.provide(Work.enqueue())
      yield* isRefused(`$JS.API.DIRECT.GET.${jobs}`, enqueuer.client.get(id))
      const refusal = <A, E extends Error>(self: Effect.Effect<A, E>) =>
        Effect.map(Effect.flip(Effect.timeout(self, "2 seconds")), ({ message }) => message)
      const unique = yield* refusal(
        enqueuer.provide(Work.enqueue(undefined, { unique: { key: "k" } })),
      )
      assert.match(unique, /may not publish to "pf.acme.0.claim.-.-.-.-.\w+"/)
      const setup = yield* produce(as(server, "setup"))
      const one = yield* refusal(setup.provide(Work.enqueue()))
      assert.match(one, /may not publish to "pf.acme.0.ready.work.3._.\w+"/)
      const payloads = [undefined, undefined, undefined]
      const atomic = yield* refusal(setup.provide(Work.enqueueMany(payloads, { atomic: true })))
      assert.match(atomic, /may not publish to "pf.acme.0.ready.work.3._.\w+"/)
    }))

  effect("to pull ends a pull, with the reason", () =>
    Effect.gen(function* () {
      const { connection } = yield* connect(server, "producer")
      const [tag, number, end, why] = yield* Effect.callback<
        readonly [number, number, string, string]
      >((resume) => {
        const puller = new Puller(connection, {
          message: () => {},
          beat: () => {},
          end: (...args) => resume(Effect.succeed(args)),
        })
        puller.pull(jobs, "ready_work_3", 7, 1, "wait")
        return Effect.promise(() => puller.drain())
      })
      assert.deepEqual([tag, number, end], [7, 1, "refused"])
      assert.match(
        why,
        /may not publish to "\$JS.API.CONSUMER.MSG.NEXT.PF_acme_JOBS_0.ready_work_3"/,
      )
    }))

  effect(
    "to hear the answers names the option that says where they come",
    () =>
      Effect.gen(function* () {
        const layer = as(server, "worker", { inboxPrefix: inboxOf("operator") })
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
        assert.ok(error instanceof Nats.InvalidNatsOptions)
        assert.equal(error.field, "inboxPrefix")
        assert.match(error.message, /may not subscribe to "_INBOX_operator\.\w+\.\*"/)
      }),
  )

  effect(
    "to make consumers keeps nobody from storing jobs for servers to come",
    () =>
      Effect.gen(function* () {
        yield* setUp(server)
        const enqueuer = yield* produce(as(server, "enqueuer"))
        const Early = Job.make("early", { queue: "early" })
        const id = yield* enqueuer.provide(Early.enqueue())
        const worker = yield* serve(
          as(server, "worker"),
          Early.toLayer(() => Effect.void),
          { queues: { early: 1 } },
        )
        assert.equal((yield* worker.record(id)).state, "succeeded")
      }),
  )
})

describe("What permissions can't keep a user from, as docs/security.md says", () => {
  const server = roleServer()
  const victim = `${prefix}.0.failed.default._._.victim`
  const forged = `${prefix}.0.succeeded.default._._.forged`

  const subjectsIn = (connection: Connection) =>
    Effect.promise(async () => {
      const answer = await connection.request(
        `$JS.API.STREAM.INFO.${jobs}`,
        JSON.stringify({ subjects_filter: ">" }),
      )
      const info = answer.json<{ readonly state: { readonly subjects?: object } }>()
      return Object.keys(info.state.subjects ?? {})
    })

  const publish = (connection: Connection, subject: string, lines: string) =>
    Effect.promise(() =>
      connection.request(subject, "", { timeout: 5_000, headers: rawHeaders(lines) })
    )

  effect(
    "is publishing anywhere in the stream by a schedule or a reply, and wiping it",
    () =>
      Effect.gen(function* () {
        yield* setUp(server)
        const root = (yield* connect(server, "root")).connection
        const { connection } = yield* connect(server, "enqueuer")
        const subjects = subjectsIn(root)
        yield* publish(root, victim, "")

        const lines =
          `Nats-Schedule: @at 2020-01-01T00:00:00Z\r\nNats-Schedule-Target: ${forged}\r\n`
        yield* publish(connection, `${prefix}.0.later.default.3._.x`, lines)
        yield* eventually(subjects, (all) => all.includes(forged))

        // Whoever may ask anything of JetStream says where the answer goes.
        connection.publish(`$JS.API.STREAM.INFO.${jobs}`, "", { reply: `${forged}2` })
        yield* eventually(subjects, (all) => all.includes(`${forged}2`))

        yield* publish(connection, `${prefix}.0.ready.default.3._.x`, "Nats-Rollup: all\r\n")
        assert.deepEqual(yield* subjects, [`${prefix}.0.ready.default.3._.x`])
      }),
  )
})

describe("docs/security.md", () => {
  const page = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8")

  it("shows the configuration that these tests run with", () => {
    const users = Roles.roles.map((role) =>
      `    {\n      user: ${role}\n      password: $${role.toUpperCase()}_PASSWORD\n` +
      `      permissions: ${Roles.render(Roles.permissionsOf(role), "      ")}\n    }\n`
    )
    const wanted = `authorization {\n  users: [\n${users.join("")}  ]\n}\n`
    assert.ok(page.includes(wanted), `the page has to contain:\n${wanted}`)
  })
})
