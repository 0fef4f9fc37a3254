import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import assert from "node:assert/strict"
import { describe } from "node:test"
import type { Event } from "../../actors/Event.ts"
import * as Janitor from "../../actors/Janitor.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Retention from "../../src/nats/Retention.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import * as Topology from "../../src/nats/Topology.ts"
import { layer as wireLayer, Wire } from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"

const hour = 3_600_000
const now = { name: "common", ageMillis: 0, count: 100_000 }

/** A client of its own in the namespace, like another process has. */
const connect = (server: ReturnType<typeof testServer>, namespace: string) =>
  Effect.map(
    Layer.build(Layer.provide(Layer.fresh(wireLayer), server.layer(namespace))),
    (context) => Context.get(context, Wire),
  )

let made = 0

/** Stores the record of a job that succeeded. */
const record = (wire: Wire, retention?: string) => {
  const envelope = Envelope.make({
    name: "test",
    queue: "default",
    lane: 3,
    options: { retention },
    created: 0,
    payload: new Uint8Array(1),
    progress: Envelope.untouched,
  })
  const job = { partition: 0, group: "_", id: `job${made++}` }
  const subject = wire.subjects.final("succeeded", envelope, job)
  return Effect.promise(() => wire.nats.connection.request(subject, new Uint8Array(1)))
}

const left = (wire: Wire) =>
  Effect.map(
    wire.reader.newest(jobsStream(wire.subjects.namespace, 0), [">"]),
    (found) => found.length,
  )

interface Running {
  /** Records that this janitor has removed. */
  readonly purged: () => number
}

const run = (
  wire: Wire,
  retentions: { readonly [retentionClass: string]: Retention.Setting },
  interval = 100,
) =>
  Effect.gen(function* () {
    let purged = 0
    const emit = (event: Event) => {
      if (event._tag === "RecordsPurged") purged += event.count
    }
    const settings = new Map(Object.entries(retentions))
    const life = yield* Janitor.start({
      wire,
      emit,
      retentions: settings,
      ackWaitMillis: 0,
      interval,
    })
    yield* Effect.forkScoped(life)
    const running: Running = { purged: () => purged }
    return running
  })

const purges = ({ purged }: Running, count: number) =>
  eventually(Effect.sync(purged), (sum) => sum === count)

describe("Janitor", () => {
  const server = testServer()

  effect("removes what is past its retention, round after round", () =>
    Effect.gen(function* () {
      const wire = yield* connect(server, freshNamespace())
      yield* record(wire)
      const janitor = yield* run(wire, { _: now })
      yield* purges(janitor, 1)
      yield* record(wire)
      yield* record(wire)
      yield* purges(janitor, 3)
      assert.equal(yield* left(wire), 0)
    }))

  effect(
    "keeps records for a day when no server says anything else",
    () =>
      Effect.gen(function* () {
        const wire = yield* connect(server, freshNamespace())
        yield* record(wire)
        yield* record(wire, "_0a")
        const ages: Array<number> = []
        wire.nats.connection.subscribe("$JS.API.STREAM.MSG.GET.>", {
          callback: (_, message) => {
            const { start_time = "" } = message.json<{ readonly start_time?: string }>()
            ages.push(Date.now() - Date.parse(start_time))
          },
        })
        yield* purges(yield* run(wire, { _0a: { ...now, name: "short" } }), 1)
        assert.equal(yield* left(wire), 1)
        assert.ok(ages.some((age) => Math.abs(age - 24 * hour) < 60_000), String(ages))
      }),
  )

  effect(
    "follows the settings of servers that are gone, the last one's",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const mine = yield* connect(server, namespace)
        yield* Effect.scoped(Effect.gen(function* () {
          const other = yield* connect(server, namespace)
          const published = (setting: Retention.Setting) =>
            eventually(
              Retention.published(mine),
              (settings) => settings.get("_0a")?.ageMillis === setting.ageMillis,
            )
          for (const ageMillis of [0, hour, 0]) {
            const setting = { name: "short", ageMillis, count: 5 }
            yield* run(other, { _0a: setting })
            yield* published(setting)
          }
        }))
        yield* record(mine, "_0a")
        yield* record(mine)
        yield* purges(yield* run(mine, { _: now }), 2)
      }),
  )

  effect("leaves a round to one of two", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      const [one, two, watcher] = [
        yield* connect(server, namespace),
        yield* connect(server, namespace),
        yield* connect(server, namespace),
      ]
      yield* Retention.publish(watcher, "_", now)
      for (let i = 0; i < 3; i++) yield* record(watcher)
      // There is one round only, so the records must be past their retention when it begins.
      yield* eventually(
        Api.call<{ readonly ts: string; readonly state: { readonly last_ts: string } }>(
          watcher.nats.connection,
          `STREAM.INFO.${jobsStream(namespace, 0)}`,
          undefined,
          "reading",
        ),
        ({ state, ts }) => Date.parse(ts) - Date.parse(state.last_ts) >= 2,
      )
      const { connection } = watcher.nats
      const claims = new Set<string>()
      const answers = new Set<string>()
      let looks = 0
      connection.subscribe(watcher.subjects.state("janitor"), {
        callback: (_, { reply }) => void claims.add(reply ?? ""),
      })
      connection.subscribe("_INBOX.>", {
        callback: (_, { subject }) => void answers.add(subject),
      })
      connection.subscribe(`$JS.API.STREAM.INFO.${jobsStream(namespace, 0)}`, {
        callback: () => void looks++,
      })
      yield* Effect.promise(() => connection.flush())
      const janitors = [yield* run(one, {}, hour), yield* run(two, {}, hour)]
      yield* eventually(
        Effect.sync(() => [...claims].filter((reply) => answers.has(reply)).length),
        (answered) => answered === 2,
      )
      const purged = () => janitors.reduce((sum, { purged }) => sum + purged(), 0)
      yield* eventually(Effect.sync(purged), (sum) => sum === 3)
      for (const { nats } of [one, two, watcher]) {
        yield* Effect.promise(() => nats.connection.flush())
      }
      assert.equal(looks, 1)
      assert.equal(janitors.filter(({ purged }) => purged() === 0).length, 1)
    }))

  effect("makes up for a round that got no answer", () =>
    Effect.gen(function* () {
      const wire = yield* connect(server, freshNamespace())
      let lost = 0
      const connection = new Proxy(wire.nats.connection, {
        get: (target, key) => {
          const value: unknown = Reflect.get(target, key)
          if (typeof value !== "function") return value
          if (key !== "request" || lost > 0) return value.bind(target)
          return () => Promise.reject(new Error(`answer ${++lost} got lost`))
        },
      })
      yield* record(wire)
      yield* purges(yield* run({ ...wire, nats: { ...wire.nats, connection } }, { _: now }), 1)
      assert.equal(lost, 1)
    }))

  effect("makes up for a round that was refused", () =>
    Effect.gen(function* () {
      const wire = yield* connect(server, freshNamespace())
      const { connection, namespace } = wire.nats
      const stream = jobsStream(namespace, 0)
      yield* Api.call(connection, `STREAM.DELETE.${stream}`, undefined, "deleting")
      const warnings: Array<string> = []
      const logger = Logger.layer([
        Logger.make(({ message }) => void warnings.push(String(message))),
      ])
      yield* Effect.gen(function* () {
        const janitor = yield* run(wire, { _: now })
        yield* eventually(Effect.sync(() => warnings.length), (count) => count > 0)
        yield* Topology.ensure(connection, { namespace })
        yield* record(wire)
        yield* purges(janitor, 1)
      }).pipe(Effect.provide(logger))
      assert.match(warnings[0] ?? "", /stream not found/)
    }))

  effect("goes on when the connection is back", () =>
    Effect.gen(function* () {
      const wire = yield* connect(server, freshNamespace())
      const janitor = yield* run(wire, { _: now })
      yield* record(wire)
      yield* purges(janitor, 1)
      const reconnected = Effect.callback<void>((resume) => {
        const stop = wire.nats.onReconnect(() => {
          stop()
          resume(Effect.void)
        })
      })
      yield* Effect.all([reconnected, server.restartServer], { concurrency: "unbounded" })
      yield* record(wire)
      yield* purges(janitor, 2)
    }))
})
