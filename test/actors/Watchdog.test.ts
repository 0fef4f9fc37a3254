import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Watchdog from "../../actors/Watchdog.ts"
import * as Job from "../../src/client/Job.ts"
import * as Api from "../../src/nats/Api.ts"
import { layer as wireLayer, Wire } from "../../src/nats/Wire.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { ended, is, produce, serve, subjectsIn, watch } from "./harness.ts"

const Quick = Job.make("quick")
const Slow = Job.make("slow")

/** Makes the consumer of ordinary jobs take all that is stored so far for done. */
const skipAll = (connection: Wire["nats"]["connection"], namespace: string) =>
  Effect.gen(function* () {
    const stream = `PF_${namespace}_JOBS_0`
    const { state } = yield* Api.call<{ readonly state: { readonly last_seq: number } }>(
      connection,
      `STREAM.INFO.${stream}`,
      undefined,
      "reading",
    )
    yield* Api.call(
      connection,
      `CONSUMER.RESET.${stream}.ready_default_3`,
      { seq: state.last_seq + 1 },
      "resetting",
    )
  })

describe("The watchdog", () => {
  const server = testServer()

  effect(
    "puts back jobs that their consumer would never hand out, and no others",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const nats = server.layer(namespace)
        const producer = yield* produce(nats)
        const lost = yield* producer.provide(Quick.enqueueMany([undefined, undefined, undefined]))
        yield* skipAll(producer.nats.connection, namespace)
        const waiting = yield* producer.provide(Quick.enqueue())
        const log = watch()
        yield* Effect.gen(function* () {
          const wire = yield* Wire
          const options = { wire, emit: log.onEvent, queues: ["default"], interval: 30 }
          yield* Effect.forkScoped(yield* Watchdog.start(options))
          const rescued = yield* log.until(is("JobRescued"), { count: 3 })
          assert.deepEqual(rescued.map(({ id }) => id).sort(), [...lost].sort())
        }).pipe(Effect.provide(Layer.provide(wireLayer, nats)))
        const left = yield* eventually(subjectsIn(producer.nats), ({ length }) => length === 4)
        assert.deepEqual(
          [...left].sort(),
          [
            ...lost.map((id) => `pf.${namespace}.0.ready.default.0._.${id}`),
            `pf.${namespace}.0.ready.default.3._.${waiting}`,
          ].sort(),
        )
        const working = yield* serve(nats, Quick.toLayer(() => Effect.void))
        const moved = yield* working.until(ended(), { count: 4 })
        assert.equal(new Set(moved.map(({ id }) => id)).size, 4)
        assert.ok(moved.every(({ to }) => to === "succeeded"))
      }),
  )

  effect("leaves alone what is held by a server", () =>
    Effect.gen(function* () {
      const nats = server.layer(freshNamespace())
      let finish = (): void => {}
      const done = new Promise<void>((resolve) => finish = resolve)
      const handlers = Layer.merge(
        Quick.toLayer(() => Effect.void),
        Slow.toLayer(() => Effect.promise(() => done)),
      )
      const working = yield* serve(nats, handlers)
      const slow = yield* working.provide(Slow.enqueue())
      yield* working.until(is("AttemptStarted", slow))
      const log = watch()
      yield* Effect.gen(function* () {
        const wire = yield* Wire
        const options = { wire, emit: log.onEvent, queues: ["default"], interval: 10 }
        yield* Effect.forkScoped(yield* Watchdog.start(options))
        for (let i = 0; i < 50; i++) yield* working.record(yield* working.provide(Quick.enqueue()))
      }).pipe(Effect.provide(Layer.provide(wireLayer, nats)))
      finish()
      assert.equal((yield* working.record(slow)).state, "succeeded")
      assert.deepEqual(log.events, [])
    }))
})
