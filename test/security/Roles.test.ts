import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe } from "node:test"
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
const readers: ReadonlyArray<Roles.Role> = ["producer", "worker", "operator"]

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
  [`$JS.API.STREAM.MSG.DELETE.${jobs}`, readers],
  [`$JS.API.STREAM.MSG.DELETE.${state}`, []],
  [`$JS.API.STREAM.MSG.DELETE.${logs}`, []],
  [`$JS.API.STREAM.PURGE.${jobs}`, ["worker", "operator"]],
  [`$JS.API.STREAM.PURGE.${state}`, ["worker"]],
  [`$JS.API.STREAM.PURGE.${logs}`, []],
  // Consumers
  [`$JS.API.CONSUMER.INFO.${jobs}.ready_default_3`, everybody.slice(1)],
  [`$JS.API.CONSUMER.LIST.${jobs}`, ["operator"]],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c.${prefix}.0.ready.default.3.>`, ["worker"]],
  [`$JS.API.CONSUMER.CREATE.${jobs}.c.${prefix}.0.failed.default.*.*.*`, ["operator"]],
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
  [`${prefix}.0.ready.default.3._.x`, ["enqueuer", ...readers]],
  [`${prefix}.0.later.default.3._.x`, ["enqueuer", ...readers]],
  [`${prefix}.0.await.default.3._.x`, readers],
  [`${prefix}.0.claim.-.-.-.-.x`, readers],
  [`${prefix}.0.link.-.-.-.x.y`, readers],
  [`${prefix}.0.retry.default.3._.x`, ["worker", "operator"]],
  [`${prefix}.0.cancelled.default._._.x`, readers],
  [`${prefix}.0.succeeded._engine._._.x`, readers],
  [`${prefix}.0.succeeded.default._._.x`, ["worker"]],
  [`${prefix}.0.failed.default._._.x`, ["worker"]],
  // What servers say, and what they are asked
  [`${prefix}.state.server.x`, ["worker"]],
  [`${prefix}.state.janitor`, ["worker"]],
  [`${prefix}.state.retention._`, ["worker"]],
  [`${prefix}.log.x`, ["worker"]],
  [`${prefix}.ctl.find`, readers],
  [`${prefix}.ctl.describe`, ["worker", "operator"]],
  [`${prefix}.ctl.void`, readers],
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
  const server = roleServer()

  effect(
    "does all of its work",
    () =>
      Effect.gen(function* () {
        yield* setUp(server)
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
        yield* by("operator", work.operate)
        yield* worker.stop
        for (const [role, violations] of refused) {
          // A queue that no server has taken yet has no consumers, and only servers make them.
          const others = violations.filter((text) => !text.includes(".CONSUMER.CREATE."))
          assert.deepEqual(others, [], role)
          if (role === "worker") assert.deepEqual(violations, [])
        }
        assert.equal(refused.size, 4)
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
