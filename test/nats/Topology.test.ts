import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Api from "../../src/nats/Api.ts"
import * as Nats from "../../src/nats/Nats.ts"
import { jobsStream, logsStream, stateStream } from "../../src/nats/Subjects.ts"
import * as Topology from "../../src/nats/Topology.ts"
import { type Config, consumersOf, plan, type Resource } from "../../src/nats/TopologyPlan.ts"
import { effect, testServer } from "../harness.ts"

type Connection = Nats.Nats["connection"]

interface Info {
  readonly config: Config
}

const streamConfig = (connection: Connection, stream: string) =>
  Effect.map(
    Api.call<Info>(connection, `STREAM.INFO.${stream}`, undefined, "reading"),
    ({ config }) => config,
  )

/** What an operator does with the command line tool: edit some fields of what is there. */
const operate = Effect.fnUntraced(
  function* (connection: Connection, stream: string, changed: Config) {
    const config = { ...(yield* streamConfig(connection, stream)), ...changed }
    return yield* Api.call(connection, `STREAM.UPDATE.${stream}`, config, "operating")
  },
)

const createByHand = (connection: Connection, { config, name }: Resource, changed: Config) =>
  Api.call(connection, `STREAM.CREATE.${name}`, { ...config, ...changed }, "creating by hand")

/** The JetStream API requests that run while `self` does, as verbs with their stream. */
const requestsOf = Effect.fnUntraced(function* <A, E, R>(
  connection: Connection,
  self: Effect.Effect<A, E, R>,
) {
  const seen: Array<string> = []
  const subscription = connection.subscribe("$JS.API.>", {
    callback: (_, { subject }) => void seen.push(subject.slice("$JS.API.".length)),
  })
  yield* Effect.promise(() => connection.flush())
  yield* self
  yield* Effect.promise(() => connection.flush())
  subscription.unsubscribe()
  return seen.sort()
})

const conflictsOf = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(self), (error) => {
    if (!(error instanceof Topology.TopologyConflict)) throw error
    return error.conflicts
  })

describe("Topology.ensure", () => {
  const server = testServer()
  const test = (
    name: string,
    body: (connection: Connection, namespace: string) => Effect.Effect<unknown, unknown>,
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const { connection, namespace } = yield* Nats.Nats
        yield* body(connection, namespace)
      }).pipe(Effect.provide(server.layer())))

  test(
    "makes every stream of the plan as planned",
    (connection, namespace) =>
      Effect.gen(function* () {
        const topology = yield* Topology.ensure(connection, { namespace, partitions: 3 })
        assert.deepEqual(topology, { namespace, partitions: 3, replicas: 1, kept: [] })
        for (const { config, name } of plan({ namespace, partitions: 3 }).streams) {
          const actual = yield* streamConfig(connection, name)
          const { metadata, ...fields } = config
          for (const [field, value] of Object.entries(fields)) {
            assert.deepEqual(actual[field], value, `${name} ${field}`)
          }
          for (const [key, value] of Object.entries(metadata as Config)) {
            assert.equal((actual.metadata as Config)[key], value)
          }
        }
      }),
  )

  test(
    "reads once per stream and writes nothing when all is there",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Topology.ensure(connection, { namespace, partitions: 2 })
        const streams = [
          stateStream(namespace),
          jobsStream(namespace, 0),
          jobsStream(namespace, 1),
          logsStream(namespace),
        ]
        const configs = Effect.forEach(streams, (stream) => streamConfig(connection, stream))
        const before = yield* configs
        const requests = yield* requestsOf(
          connection,
          Topology.ensure(connection, { namespace, partitions: 2 }),
        )
        assert.deepEqual(requests, streams.map((stream) => `STREAM.INFO.${stream}`).sort())
        assert.deepEqual(yield* configs, before)
      }),
  )

  test(
    "makes a stream that somebody deleted again",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Topology.ensure(connection, { namespace, partitions: 2 })
        const stream = stateStream(namespace)
        yield* Api.call(connection, `STREAM.DELETE.${stream}`, undefined, "deleting")
        const topology = yield* Topology.ensure(connection, { namespace })
        assert.equal(topology.partitions, 2)
        const { metadata } = yield* streamConfig(connection, stream)
        assert.equal((metadata as Config)["portfire.partitions"], "2")
      }),
  )

  test(
    "adds the stream for the lines of jobs to a namespace without it, and keeps its bounds",
    (connection, namespace) =>
      Effect.gen(function* () {
        const [state, jobs] = plan({ namespace }).streams as [Resource, Resource]
        for (const stream of [state, jobs]) yield* createByHand(connection, stream, {})
        const requests = yield* requestsOf(connection, Topology.ensure(connection, { namespace }))
        const stream = logsStream(namespace)
        assert.deepEqual(requests.filter((request) => !request.startsWith("STREAM.INFO.")), [
          `STREAM.CREATE.${stream}`,
        ])
        const bounds = {
          max_age: 3_600_000_000_000,
          max_msgs_per_subject: 10,
          max_bytes: 1_000_000,
        }
        yield* operate(connection, stream, bounds)
        const { kept } = yield* Topology.ensure(connection, { namespace, force: true })
        assert.deepEqual(
          Object.fromEntries(kept.map(({ actual, field }) => [field, actual])),
          bounds,
        )
        const config = yield* streamConfig(connection, stream)
        for (const [field, value] of Object.entries(bounds)) assert.equal(config[field], value)
      }),
  )

  test(
    "keeps the stored number of partitions when none is asked for",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Topology.ensure(connection, { namespace, partitions: 3 })
        const topology = yield* Topology.ensure(connection, { namespace })
        assert.equal(topology.partitions, 3)
      }),
  )

  test(
    "refuses another number of partitions, also by force",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Topology.ensure(connection, { namespace, partitions: 2 })
        for (const partitions of [1, 3]) {
          for (const force of [false, true]) {
            const requests = yield* requestsOf(
              connection,
              Effect.gen(function* () {
                const conflicts = yield* conflictsOf(
                  Topology.ensure(connection, { namespace, partitions, force }),
                )
                const { actual, field, forceable, resource, wanted } = conflicts[0]!
                assert.deepEqual([resource.name, field, wanted, actual, forceable], [
                  stateStream(namespace),
                  "metadata.portfire.partitions",
                  String(partitions),
                  "2",
                  false,
                ])
              }),
            )
            assert.ok(requests.every((request) => request.startsWith("STREAM.INFO.")))
          }
        }
      }),
  )

  test(
    "refuses a number of partitions that can't be",
    (connection, namespace) =>
      Effect.gen(function* () {
        for (const partitions of [0, 33, 1.5, NaN]) {
          const requests = yield* requestsOf(
            connection,
            Effect.map(
              Effect.flip(Topology.ensure(connection, { namespace, partitions })),
              (error) => {
                assert.equal(error._tag, "InvalidOptions")
                assert.match(error.message, /^partitions: /)
              },
            ),
          )
          assert.deepEqual(requests, [])
        }
      }),
  )

  test(
    "leaves alone what is the operator's, also by force",
    (connection, namespace) =>
      Effect.gen(function* () {
        const stream = jobsStream(namespace, 0)
        yield* Topology.ensure(connection, { namespace })
        yield* operate(connection, stream, {
          description: "payments",
          compression: "s2",
          max_bytes: 1_000_000_000,
          max_msg_size: 500_000,
          metadata: {
            ...plan({ namespace }).streams[1]!.config.metadata as Config,
            team: "payments",
          },
        })
        const before = yield* streamConfig(connection, stream)
        const topology = yield* Topology.ensure(connection, { namespace, force: true })
        assert.deepEqual(yield* streamConfig(connection, stream), before)
        assert.deepEqual(topology.kept.map(({ actual, field }) => [field, actual]), [
          ["max_bytes", 1_000_000_000],
        ])
      }),
  )

  test(
    "raises a short duplicate window without asking",
    (connection, namespace) =>
      Effect.gen(function* () {
        const stream = jobsStream(namespace, 0)
        const wanted = plan({ namespace }).streams[1]!.config.duplicate_window
        yield* Topology.ensure(connection, { namespace })
        yield* operate(connection, stream, { duplicate_window: 100_000_000 })
        yield* Topology.ensure(connection, { namespace })
        assert.equal((yield* streamConfig(connection, stream)).duplicate_window, wanted)
      }),
  )

  test(
    "adds its metadata where it is missing, and keeps the rest",
    (connection, namespace) =>
      Effect.gen(function* () {
        const { streams } = plan({ namespace })
        const metadata = { team: "payments" }
        for (const stream of streams) yield* createByHand(connection, stream, { metadata })
        yield* Topology.ensure(connection, { namespace })
        for (const { name } of streams) {
          const actual = (yield* streamConfig(connection, name)).metadata as Config
          assert.equal(actual["portfire.layout"], "1")
          assert.equal(actual["portfire.partitions"], "1")
          assert.equal(actual.team, "payments")
        }
      }),
  )

  const breaking: ReadonlyArray<readonly [field: string, value: (namespace: string) => unknown]> = [
    ["subjects", (namespace) => [`pf.${namespace}.0.ready.>`]],
    ["max_msgs_per_subject", () => 5],
    ["max_msgs", () => 1_000],
    ["max_age", () => 3_600_000_000_000],
    ["no_ack", () => true],
    ["allow_direct", () => false],
    ["allow_atomic", () => false],
    ["subject_transform", (namespace) => ({ src: `pf.${namespace}.0.>`, dest: `x${namespace}.>` })],
  ]
  for (const [field, value] of breaking) {
    test(
      `refuses another ${field}, and sets it by force`,
      (connection, namespace) =>
        Effect.gen(function* () {
          const stream = jobsStream(namespace, 0)
          yield* Topology.ensure(connection, { namespace })
          const planned = yield* streamConfig(connection, stream)
          yield* operate(connection, stream, { [field]: value(namespace), description: "mine" })
          const operated = yield* streamConfig(connection, stream)

          const conflicts = yield* conflictsOf(Topology.ensure(connection, { namespace }))
          assert.deepEqual(
            conflicts.map(({ actual, field, forceable, resource, wanted }) => [
              resource.name,
              field,
              wanted,
              actual,
              forceable,
            ]),
            [[stream, field, plan({ namespace }).streams[1]!.config[field], operated[field], true]],
          )
          assert.deepEqual(yield* streamConfig(connection, stream), operated)

          yield* Topology.ensure(connection, { namespace, force: true })
          assert.deepEqual(yield* streamConfig(connection, stream), {
            ...planned,
            description: "mine",
          })
        }),
    )
  }

  for (const field of ["allow_msg_schedules", "allow_msg_ttl"]) {
    test(
      `refuses a stream without ${field}, and switches it on by force`,
      (connection, namespace) =>
        Effect.gen(function* () {
          const jobs = plan({ namespace }).streams[1]!
          yield* createByHand(connection, jobs, { [field]: false })
          const conflicts = yield* conflictsOf(Topology.ensure(connection, { namespace }))
          assert.deepEqual(conflicts.map((conflict) => [conflict.field, conflict.forceable]), [
            [field, true],
          ])
          yield* Topology.ensure(connection, { namespace, force: true })
          assert.equal((yield* streamConfig(connection, jobs.name))[field], true)
        }),
    )
  }

  const fixed: ReadonlyArray<readonly [field: string, changed: Config]> = [
    ["retention", { retention: "limits" }],
    ["storage", { storage: "memory" }],
    ["deny_delete", { deny_delete: true }],
    ["deny_purge", { deny_purge: true, allow_msg_schedules: false }],
    ["persist_mode", { persist_mode: "async", allow_atomic: false }],
    ["mirror", {
      mirror: { name: "elsewhere" },
      subjects: undefined,
      allow_msg_schedules: false,
      allow_atomic: false,
    }],
  ]
  for (const [field, changed] of fixed) {
    test(
      `refuses another ${field}, also by force, and says why`,
      (connection, namespace) =>
        Effect.gen(function* () {
          const jobs = plan({ namespace }).streams[1]!
          yield* createByHand(connection, jobs, changed)
          const before = yield* streamConfig(connection, jobs.name)
          for (const force of [false, true]) {
            const error = yield* Effect.flip(Topology.ensure(connection, { namespace, force }))
            assert.ok(error instanceof Topology.TopologyConflict, String(error))
            const conflict = error.conflicts.find((one) => one.field === field)
            assert.equal(conflict?.forceable, false)
            assert.match(
              error.message,
              new RegExp(`stream ${jobs.name}: ${field} is .*it can't be changed, force included`),
            )
          }
          assert.deepEqual(yield* streamConfig(connection, jobs.name), before)
          const state = Effect.flip(streamConfig(connection, stateStream(namespace)))
          assert.equal((yield* state)._tag, "Rejected")
        }),
    )
  }

  test(
    "refuses a namespace with a newer layout, also by force",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Topology.ensure(connection, { namespace })
        for (const stream of [stateStream(namespace), jobsStream(namespace, 0)]) {
          yield* operate(connection, stream, {
            metadata: { "portfire.layout": "2", "portfire.partitions": "1" },
          })
        }
        for (const force of [false, true]) {
          const error = yield* Effect.flip(Topology.ensure(connection, { namespace, force }))
          assert.equal(error._tag, "TopologyConflict")
          assert.match(error.message, /portfire\.layout is "2", needed is "1" \(another version of/)
        }
      }),
  )

  test(
    "works from several connections at once",
    (connection, namespace) =>
      Effect.gen(function* () {
        yield* Effect.scoped(Effect.gen(function* () {
          const context = yield* Layer.build(server.layer(namespace))
          const second = (yield* Effect.provide(Nats.Nats, context)).connection
          const all = Array.from(
            { length: 10 },
            (_, i) =>
              Topology.ensure(i % 2 === 0 ? connection : second, { namespace, partitions: 2 }),
          )
          const topologies = yield* Effect.all(all, { concurrency: "unbounded" })
          for (const { partitions } of topologies) assert.equal(partitions, 2)
        }))
      }),
  )

  test(
    "lets one number of partitions win when several ask at once",
    (connection, namespace) =>
      Effect.gen(function* () {
        const results = yield* Effect.forEach(
          [2, 3, 4],
          (partitions) => Effect.result(Topology.ensure(connection, { namespace, partitions })),
          { concurrency: "unbounded" },
        )
        const won = results.filter(Result.isSuccess).map(({ success }) => success.partitions)
        assert.equal(won.length, 1)
        for (const { failure } of results.filter(Result.isFailure)) {
          assert.equal(failure._tag, "TopologyConflict")
        }
        const { streams } = yield* Api.call<{ readonly streams: ReadonlyArray<string> }>(
          connection,
          "STREAM.NAMES",
          { subject: `pf.${namespace}.>` },
          "listing",
        )
        const { streams: planned } = plan({ namespace, partitions: won[0]! })
        assert.deepEqual([...streams].sort(), planned.map(({ name }) => name).sort())
      }),
  )
})

describe("Topology.ensureQueue", () => {
  const server = testServer()
  const queue = "mail"
  const partition = 0
  const test = (
    name: string,
    body: (connection: Connection, namespace: string) => Effect.Effect<unknown, unknown>,
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const { connection, namespace } = yield* Nats.Nats
        yield* Topology.ensure(connection, { namespace })
        yield* body(connection, namespace)
      }).pipe(Effect.provide(server.layer())))

  const configs = (connection: Connection, namespace: string) =>
    Effect.map(
      Topology.read(connection, consumersOf({ namespace, partition, queue })),
      (actual) => [...actual.values()],
    )

  /** What an operator does: edit some fields of the consumer of priority 1. */
  const operateConsumer = Effect.fnUntraced(
    function* (connection: Connection, namespace: string, changed: Config) {
      const { name, stream } = consumersOf({ namespace, partition, queue })[1]!
      const { config } = yield* Api.call<Info>(
        connection,
        `CONSUMER.INFO.${stream}.${name}`,
        undefined,
        "reading",
      )
      yield* Api.call(
        connection,
        `CONSUMER.CREATE.${stream}.${name}.${config.filter_subject}`,
        { stream_name: stream, action: "update", config: { ...config, ...changed } },
        "operating",
      )
    },
  )

  test(
    "leaves the limits of consumers that exist to whoever asked for them",
    (connection, namespace) =>
      Effect.gen(function* () {
        const place = { namespace, partition, queue }
        const asked = { ackWaitMillis: 5_000, maxAckPending: 700 }
        yield* Topology.ensureQueue(connection, { ...place, ...asked })
        for (const consumer of yield* Topology.ensureQueue(connection, place)) {
          const { ackWaitMillis, maxAckPending } = consumer
          assert.deepEqual({ ackWaitMillis, maxAckPending }, asked)
        }
        for (const config of yield* configs(connection, namespace)) {
          assert.equal(config.ack_wait, 5e9)
        }
      }),
  )

  test(
    "makes one consumer per priority and tells their limits",
    (connection, namespace) =>
      Effect.gen(function* () {
        const consumers = yield* Topology.ensureQueue(connection, {
          namespace,
          partition,
          queue,
          ackWaitMillis: 2_500,
          maxAckPending: 7,
        })
        assert.deepEqual(
          consumers,
          [0, 1, 2, 3, 4].map((priority) => ({
            priority,
            stream: jobsStream(namespace, 0),
            name: `ready_mail_${priority}`,
            ackWaitMillis: 2_500,
            maxAckPending: 7,
          })),
        )
        for (const config of yield* configs(connection, namespace)) {
          assert.equal(config.ack_wait, 2_500_000_000)
          assert.equal(config.max_ack_pending, 7)
          assert.equal(config.max_deliver, -1)
          assert.equal(config.inactive_threshold ?? 0, 0)
          assert.equal(config.max_waiting, 65_536)
        }
      }),
  )

  test(
    "reads once per consumer and writes nothing when they exist",
    (connection, namespace) =>
      Effect.gen(function* () {
        const ensure = Topology.ensureQueue(connection, { namespace, partition, queue })
        yield* ensure
        const before = yield* configs(connection, namespace)
        const requests = yield* requestsOf(connection, ensure)
        assert.deepEqual(
          requests,
          [0, 1, 2, 3, 4].map((p) => `CONSUMER.INFO.${jobsStream(namespace, 0)}.ready_mail_${p}`),
        )
        assert.deepEqual(yield* configs(connection, namespace), before)
      }),
  )

  test("works many times at once", (connection, namespace) =>
    Effect.gen(function* () {
      const ensure = Topology.ensureQueue(connection, { namespace, partition, queue })
      const all = yield* Effect.all(Array.from({ length: 10 }, () => ensure), {
        concurrency: "unbounded",
      })
      for (const consumers of all) assert.deepEqual(consumers, all[0])
    }))

  test(
    "works many times at once with different options",
    (connection, namespace) =>
      Effect.gen(function* () {
        const asked = [10_000, 20_000, 30_000, 20_000, 10_000]
        const ensure = (ackWaitMillis: number) =>
          Topology.ensureQueue(connection, { namespace, partition, queue, ackWaitMillis })
        yield* Effect.all(asked.map(ensure), { concurrency: "unbounded" })
        for (const { ackWaitMillis } of yield* ensure(10_000)) {
          assert.ok(asked.includes(ackWaitMillis))
        }
        for (const { ackWaitMillis } of yield* ensure(30_000)) assert.equal(ackWaitMillis, 30_000)
      }),
  )

  test(
    "raises ack wait and bound, and keeps higher ones",
    (connection, namespace) =>
      Effect.gen(function* () {
        const ensure = (ackWaitMillis: number, maxAckPending: number, force = false) =>
          Effect.map(
            Topology.ensureQueue(connection, {
              namespace,
              partition,
              queue,
              ackWaitMillis,
              maxAckPending,
              force,
            }),
            (consumers) => consumers.map((one) => [one.ackWaitMillis, one.maxAckPending])[4],
          )
        assert.deepEqual(yield* ensure(2_000, 10), [2_000, 10])
        assert.deepEqual(yield* ensure(4_000, 20), [4_000, 20])
        assert.deepEqual(yield* ensure(3_000, 15), [4_000, 20])
        assert.deepEqual(yield* ensure(3_000, 15, true), [3_000, 20])
      }),
  )

  for (
    const [field, value] of [
      ["max_deliver", 5],
      ["backoff", [30_000_000_000]],
      ["headers_only", true],
      ["inactive_threshold", 60_000_000_000],
    ] as const
  ) {
    test(
      `refuses another ${field}, and sets it by force`,
      (connection, namespace) =>
        Effect.gen(function* () {
          const options = { namespace, partition, queue }
          yield* Topology.ensureQueue(connection, options)
          const before = yield* configs(connection, namespace)
          // A backoff has to fit into a bounded number of deliveries.
          const bound = field === "backoff" ? { max_deliver: 5 } : {}
          yield* operateConsumer(connection, namespace, { ...bound, [field]: value })
          const conflicts = yield* conflictsOf(Topology.ensureQueue(connection, options))
          const conflict = conflicts.find((one) => one.field === field)
          assert.deepEqual([conflict?.actual, conflict?.forceable], [value, true])
          yield* Topology.ensureQueue(connection, { ...options, force: true })
          assert.deepEqual(yield* configs(connection, namespace), before)
        }),
    )
  }

  test(
    "refuses fewer waiting pulls, and says how to get more",
    (connection, namespace) =>
      Effect.gen(function* () {
        const { config, name, stream } = consumersOf({ namespace, partition, queue })[1]!
        yield* Api.call(connection, `CONSUMER.CREATE.${stream}.${name}.${config.filter_subject}`, {
          stream_name: stream,
          action: "create",
          config: { ...config, max_waiting: 512 },
        }, "creating by hand")
        const ensure = Topology.ensureQueue(connection, {
          namespace,
          partition,
          queue,
          force: true,
        })
        const error = yield* Effect.flip(ensure)
        assert.equal(error._tag, "TopologyConflict")
        assert.match(error.message, /max_waiting is 512, needed is 65536 .*delete the consumer/)
        yield* Api.call(connection, `CONSUMER.DELETE.${stream}.${name}`, undefined, "deleting")
        yield* ensure
      }),
  )

  test("leaves a paused consumer paused", (connection, namespace) =>
    Effect.gen(function* () {
      const options = { namespace, partition, queue }
      yield* Topology.ensureQueue(connection, options)
      yield* operateConsumer(connection, namespace, { description: "paused for a while" })
      const { name, stream } = consumersOf(options)[1]!
      const pause = { pause_until: "2100-01-01T00:00:00Z" }
      yield* Api.call(connection, `CONSUMER.PAUSE.${stream}.${name}`, pause, "pausing")
      const raised = { ...options, ackWaitMillis: 60_000, force: true }
      yield* Topology.ensureQueue(connection, raised)
      const config = (yield* configs(connection, namespace))[1]!
      assert.deepEqual([config.pause_until, config.description, config.ack_wait], [
        pause.pause_until,
        "paused for a while",
        60_000_000_000,
      ])
    }))

  test("fails when the namespace doesn't exist", (connection) =>
    Effect.gen(function* () {
      const options = { namespace: "nowhere", partition, queue }
      const error = yield* Effect.flip(Topology.ensureQueue(connection, options))
      assert.equal(error._tag, "Rejected")
    }))
})
