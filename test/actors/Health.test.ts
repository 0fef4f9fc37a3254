import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Findings } from "../../actors/Auditor.ts"
import * as Health from "../../actors/Health.ts"
import { Isolation } from "../../actors/Isolation.ts"
import { connect, job } from "../../actors/promise/mod.ts"
import { Job, type Server } from "../../mod.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { promised } from "../promise/world.ts"
import { gate, is, serve, type TestServer } from "./harness.ts"

const Quick = Job.make("quick")
const QuickLive = Quick.toLayer(() => Effect.void)
const Busy = Job.make("busy")
const BusyLive = Busy.toLayer(() =>
  Effect.sync(() => {
    const end = performance.now() + 1_300
    while (performance.now() < end) { /* Doesn't give way. */ }
  })
)

const codesOf = ({ reasons }: Server.Health) => reasons.map(({ code }) => code)

/** Waits until the server has this reason, and gives its health then. */
const until = ({ server }: TestServer, code: Server.HealthCode) =>
  eventually(server.health, (health) => codesOf(health).includes(code))

const untilReady = ({ server }: TestServer) => eventually(server.health, ({ ready }) => ready)

describe("the health of a server", () => {
  const nats = testServer()

  effect("is good while all is well, and seen by others", () =>
    Effect.gen(function* () {
      const own = yield* serve(nats.layer(), QuickLive)
      const health = yield* own.server.health
      assert.deepEqual(health.reasons, [])
      assert.deepEqual([health.live, health.ready, health.running], [true, true, 0])
      assert.deepEqual([health.durability.level, health.durability.copies], ["unknown", 1])
      assert.deepEqual(JSON.parse(JSON.stringify(health)), health)
      const [seen] = yield* own.client.servers
      assert.deepEqual([seen?.ready, seen?.reasons], [true, []])
    }))

  effect("asks NATS once for all who ask within a second", () =>
    Effect.gen(function* () {
      const own = yield* serve(nats.layer(), QuickLive)
      let requests = 0
      const { connection, namespace } = own.nats
      const subject = `$JS.API.STREAM.INFO.${Subjects.stateStream(namespace)}`
      connection.subscribe(subject, {
        callback: () => {
          requests++
        },
      })
      yield* Effect.promise(() => connection.flush())
      for (let round = 0; round < 5; round++) {
        yield* Effect.all(Array.from({ length: 20 }, () => own.server.health), {
          concurrency: "unbounded",
        })
      }
      yield* Effect.promise(() => connection.flush())
      assert.equal(requests, 1)
    }))

  effect("tells of a stop, and stays there after it", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const own = yield* serve(nats.layer(), Quick.toLayer(() => wait))
      yield* own.provide(Quick.enqueue())
      yield* own.until(is("AttemptStarted"))
      const stop = yield* Effect.forkChild(own.stop)
      yield* own.until(is("DrainStarted"))
      const stopping = yield* own.server.health
      assert.deepEqual(codesOf(stopping), ["stopping"])
      assert.deepEqual([stopping.live, stopping.ready, stopping.running], [true, false, 1])
      open()
      yield* Fiber.join(stop)
      const stopped = yield* own.server.health
      assert.deepEqual(codesOf(stopped), ["stopped"])
      assert.deepEqual([stopped.live, stopped.ready], [false, false])
    }))

  effect(
    "tells of a handler that blocks the event loop, as a warning or worse",
    () =>
      Effect.gen(function* () {
        const patient = yield* serve(nats.layer(), BusyLive)
        const hasty = yield* serve(nats.layer(), BusyLive, { ackWaitMillis: 3_000 })
        yield* patient.provide(Busy.enqueue())
        const warned = yield* until(patient, "eventLoopBlocked")
        assert.deepEqual([warned.live, warned.ready], [true, true])
        assert.match(warned.reasons[0]?.message ?? "", /has blocked the event loop for 1\.\d s/)
        const worse = yield* until(hasty, "eventLoopBlocked")
        assert.deepEqual([worse.live, worse.ready], [true, false])
      }),
  )

  effect("tells of a consumer that is gone until it is made again", () =>
    Effect.gen(function* () {
      const own = yield* serve(nats.layer(), QuickLive)
      const { connection, namespace } = own.nats
      const consumer = Subjects.consumerName("default", 3)
      const stream = Subjects.jobsStream(namespace, 0)
      const call = (verb: string) =>
        Api.call<{ readonly num_waiting: number }>(
          connection,
          `CONSUMER.${verb}.${stream}.${consumer}`,
          undefined,
          "a test",
        )
      yield* eventually(call("INFO"), ({ num_waiting }) => num_waiting > 0)
      yield* call("DELETE")
      const missing = yield* until(own, "consumersMissing")
      assert.deepEqual([missing.live, missing.ready], [true, false])
      assert.ok(missing.reasons.some(({ message }) => message.includes(consumer)))
      assert.deepEqual(codesOf(yield* untilReady(own)), [])
    }))

  effect("tells of a stream that an operator has deleted", () =>
    Effect.gen(function* () {
      const own = yield* serve(nats.layer(), QuickLive)
      const { connection, namespace } = own.nats
      const stream = Subjects.jobsStream(namespace, 0)
      yield* Api.call(connection, `STREAM.DELETE.${stream}`, undefined, "deleting")
      const lost = yield* until(own, "streamLost")
      assert.deepEqual([lost.live, lost.ready], [true, false])
      assert.ok(lost.reasons[0]?.message.includes(stream))
    }))

  effect(
    "tells of actors that have crashed and aren't back, and of the end of all",
    () =>
      Effect.gen(function* () {
        const context = yield* Layer.build(Wire.layer.pipe(Layer.provide(nats.layer())))
        const wire = Context.get(context, Wire.Wire)
        const durability = yield* wire.durability
        const isolation = new Isolation()
        const monitor = yield* Health.make({
          wire,
          durability,
          findings: new Findings(),
          isolation,
          pools: new Map(),
          expected: [],
        })
        const mail = { supervisor: "server/queues/mail", at: 0 } as const
        const fetcher = { ...mail, child: "fetcher", type: "worker" } as const
        const crash = {
          ...fetcher,
          _tag: "ChildTerminated",
          exit: Exit.void,
          restart: true,
        } as const
        monitor.onReport(crash)
        assert.deepEqual(codesOf(monitor.now()), [], "it is given a moment to come back")
        const down = yield* eventually(monitor.health, ({ ready }) => !ready)
        assert.deepEqual([down.live, codesOf(down)], [true, ["actorDown"]])
        assert.match(down.reasons[0]?.message ?? "", /^server\/queues\/mail\/fetcher has crashed/)
        monitor.onReport({ ...fetcher, _tag: "ChildRestarted", because: "fetcher" })
        assert.deepEqual(codesOf(yield* monitor.health), [])
        monitor.onReport(crash)
        monitor.onReport({ ...mail, _tag: "SupervisorStopped", reason: "intensityExceeded" })
        monitor.ends("stopped", "its actors crashed")
        monitor.ends("stopping")
        const { live, reasons } = yield* monitor.health
        assert.deepEqual([live, reasons.length, reasons[0]?.code], [false, 1, "stopped"])
      }),
  )

  promised("is told to code with promises, also after the end", async () => {
    const portfire = await connect({
      servers: await nats.url(),
      authentication: nats.credentials,
      namespace: freshNamespace(),
      streams: { durability: "standard", syncInterval: "1 second" },
    })
    const handlers = [job("quick").handler(async () => {})]
    const server = await portfire.serve({ queues: { default: 1 }, handlers })
    const { durability, live, ready } = await server.health()
    assert.deepEqual([live, ready, durability.level, durability.stated], [
      true,
      true,
      "standard",
      true,
    ])
    await portfire.close()
    assert.deepEqual((await server.health()).reasons.map(({ code }) => code), ["stopped"])
  })
})

describe("the health of a server whose NATS", () => {
  const nats = testServer()

  effect(
    "hangs, dies and comes back follows it, and the server lives on",
    () =>
      Effect.gen(function* () {
        const own = yield* serve(nats.layer(), Layer.mergeAll(QuickLive))
        yield* untilReady(own)
        yield* nats.signalServer("SIGSTOP")
        const silent = yield* until(own, "jetStreamSilent")
        assert.deepEqual([silent.live, silent.ready], [true, false])
        yield* nats.signalServer("SIGCONT")
        assert.deepEqual(codesOf(yield* untilReady(own)), [])

        yield* nats.killServer
        const apart = yield* until(own, "natsDisconnected")
        assert.deepEqual([apart.live, apart.ready], [true, false])
        yield* nats.restartServer
        assert.deepEqual(codesOf(yield* untilReady(own)), [])
        yield* own.record(yield* own.provide(Quick.enqueue()))
      }),
  )
})
