import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import assert from "node:assert/strict"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { describe } from "node:test"
import * as Nats from "../../src/nats/Nats.ts"
import * as ServerClock from "../../src/nats/ServerClock.ts"
import * as Topology from "../../src/nats/Topology.ts"
import { stateStream } from "../../src/nats/Subjects.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"

const hour = 3_600_000

/** Clocks of this machine that can be wrong. */
const wrongClock = (error: { millis: number; monotonic?: number }): Clock.Clock => {
  const right = Effect.runSync(Clock.Clock)
  const now = () => right.currentTimeMillisUnsafe() + error.millis
  const monotonic = () =>
    right.monotonicTimeNanosUnsafe() + BigInt(error.monotonic ?? 0) * 1_000_000n
  return {
    currentTimeMillisUnsafe: now,
    currentTimeMillis: Effect.sync(now),
    currentTimeNanosUnsafe: () => BigInt(now()) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(now()) * 1_000_000n),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep: (duration) => right.sleep(duration),
  }
}

/** Passes everything on, each way that much later. */
const slowProxy = (target: string, delay: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly address: string; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const [host, port] = target.split(":")
      const pass = (from: Socket, to: Socket) => {
        sockets.add(from)
        from.on("data", (chunk) => setTimeout(() => to.write(chunk), delay))
        from.on("close", () => to.destroy()).on("error", () => to.destroy())
      }
      const server = createServer((near) => {
        const far = connect(Number(port), host ?? "")
        pass(near, far)
        pass(far, near)
      })
      server.listen(0, "127.0.0.1", () => {
        const close = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
        resume(Effect.succeed({ address, close }))
      })
    }),
    ({ close }) => Effect.sync(close),
  )

const isNear = (actual: number, expected: number, tolerance = 50) =>
  assert.ok(
    Math.abs(actual - expected) <= tolerance,
    `${actual} is ${actual - expected} away from ${expected}`,
  )

describe("ServerClock", () => {
  const server = testServer()

  const setUp = Effect.gen(function* () {
    const { connection, namespace } = yield* Nats.Nats
    yield* Topology.ensure(connection, { namespace })
    return { connection, stream: stateStream(namespace) }
  })

  effect("agrees with this machine when both are one", () =>
    Effect.gen(function* () {
      const { connection, stream } = yield* setUp
      const clock = yield* ServerClock.make(connection, stream)
      isNear(clock.aheadMillis(), 0)
      isNear(clock.now(), Date.now())
    }).pipe(Effect.provide(server.layer())))

  effect(
    "tells the server's time when the clock of this machine is wrong",
    () =>
      Effect.gen(function* () {
        const { connection, stream } = yield* setUp
        const clock = yield* Effect.provideService(
          ServerClock.make(connection, stream),
          Clock.Clock,
          wrongClock({ millis: -hour }),
        )
        isNear(clock.aheadMillis(), hour)
        isNear(clock.now(), Date.now())
      }).pipe(Effect.provide(server.layer())),
  )

  effect("allows for half of the round trip", () =>
    Effect.gen(function* () {
      const proxy = yield* slowProxy(yield* Effect.promise(server.url), 150)
      const slow = Nats.layer({
        servers: proxy.address,
        authentication: server.credentials,
        namespace: freshNamespace(),
      })
      yield* Effect.gen(function* () {
        const { connection, stream } = yield* setUp
        const clock = yield* ServerClock.make(connection, stream)
        isNear(clock.aheadMillis(), 0, 75)
      }).pipe(Effect.provide(slow))
    }))

  effect("measures again after a reconnect", () =>
    Effect.gen(function* () {
      const { connection, stream } = yield* setUp
      const error = { millis: 0, monotonic: 0 }
      const clock = yield* Effect.provideService(
        ServerClock.make(connection, stream),
        Clock.Clock,
        wrongClock(error),
      )
      // Both by the same, which nobody on this machine can see.
      error.millis = hour
      error.monotonic = hour
      isNear(clock.now(), Date.now() + hour)
      yield* server.restartServer
      yield* eventually(Effect.sync(clock.now), (now) => Math.abs(now - Date.now()) < 50)
      isNear(clock.aheadMillis(), -hour)
    }).pipe(Effect.provide(server.layer())))

  effect(
    "does not follow the clock of this machine when that is set",
    () =>
      Effect.gen(function* () {
        const { connection, stream } = yield* setUp
        const error = { millis: 0 }
        const clock = yield* Effect.provideService(
          ServerClock.make(connection, stream),
          Clock.Clock,
          wrongClock(error),
        )
        error.millis = hour
        isNear(clock.now(), Date.now())
        isNear(clock.aheadMillis(), -hour)
      }).pipe(Effect.provide(server.layer())),
  )

  effect("measures again after the machine has slept", () =>
    Effect.gen(function* () {
      const { connection, stream } = yield* setUp
      const error = { millis: 0, monotonic: 0 }
      const clock = yield* Effect.provideService(
        ServerClock.make(connection, stream),
        Clock.Clock,
        wrongClock(error),
      )
      error.monotonic = -hour
      isNear(clock.now(), Date.now() - hour)
      yield* eventually(Effect.sync(clock.now), (now) => Math.abs(now - Date.now()) < 50)
    }).pipe(Effect.provide(server.layer())))

  effect("measures again after ten minutes, not before", () =>
    Effect.gen(function* () {
      const { connection, stream } = yield* setUp
      yield* Effect.gen(function* () {
        const clock = yield* ServerClock.make(connection, stream)
        const minutes = 60_000
        yield* TestClock.adjust("9 minutes")
        isNear(clock.now(), Date.now() + 9 * minutes, 2_000)
        yield* TestClock.adjust("1 minute")
        yield* eventually(Effect.sync(clock.now), (now) => Math.abs(now - Date.now()) < 2_000)
      }).pipe(Effect.provide(TestClock.layer()))
    }).pipe(Effect.provide(server.layer())))

  effect("asks nothing any more when its scope is closed", () =>
    Effect.gen(function* () {
      const { connection, stream } = yield* setUp
      const { onReconnect } = yield* Nats.Nats
      let asked = 0
      connection.subscribe(`$JS.API.STREAM.INFO.${stream}`, { callback: () => void asked++ })
      const flush = Effect.promise(() => connection.flush())
      const reconnect = Effect.callback<void>((resume) => {
        onReconnect(() => resume(Effect.void))
        void connection.reconnect()
      })
      yield* Effect.gen(function* () {
        const scope = yield* Scope.make()
        const clock = yield* Scope.provide(ServerClock.make(connection, stream), scope)
        const first = clock.aheadMillis()
        yield* TestClock.adjust("10 minutes")
        yield* eventually(Effect.sync(clock.aheadMillis), (ahead) => ahead < first)
        yield* reconnect
        yield* eventually(Effect.sync(() => asked), (count) => count === 3)
        yield* Scope.close(scope, Exit.void)
        yield* flush
        const before = asked
        yield* TestClock.adjust("10 minutes")
        yield* flush
        yield* reconnect
        yield* flush
        assert.equal(asked, before)
      }).pipe(Effect.provide(TestClock.layer()))
    }).pipe(Effect.provide(server.layer())))

  effect("fails when the stream doesn't exist", () =>
    Effect.gen(function* () {
      const { connection } = yield* Nats.Nats
      const error = yield* Effect.flip(ServerClock.make(connection, "nowhere"))
      assert.equal(error._tag, "Rejected")
    }).pipe(Effect.provide(server.layer())))
})
