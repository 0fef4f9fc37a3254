import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Job, type Server } from "../../mod.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"
import { ended, heldIn, is, produce, serve } from "./harness.ts"

/** Starts of a job after its final record was stored, over the events of several servers. */
const startsAfterEnd = (events: ReadonlyArray<Server.Event>): ReadonlyArray<JobId> => {
  const over = new Set<JobId>()
  return events.flatMap((event) => {
    if (ended()(event)) over.add(event.id)
    return event._tag === "AttemptStarted" && over.has(event.id) ? [event.id] : []
  })
}

describe("A stop", () => {
  const nats = testServer()

  effect(
    "gives back at once all that doesn't end in time; nothing is lost or run twice",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const events: Array<Server.Event> = []
        let stopping = true
        const interrupted: Array<JobId> = []
        const Quick = Job.make("quick")
        const Slow = Job.make("slow")
        const Endless = Job.make("endless")
        const handlers = Layer.mergeAll(
          Quick.toLayer(() => Effect.void),
          Slow.toLayer(() => Effect.sleep("300 millis")),
          Endless.toLayer(() =>
            Effect.flatMap(Job.current, ({ id }) =>
              stopping
                ? Effect.onInterrupt(
                  Effect.never,
                  () => Effect.sync(() => interrupted.push(id)),
                )
                : Effect.void)
          ),
        )
        const onEvent = (event: Server.Event) => events.push(event)
        const options = { queues: { default: 12 }, gracePeriod: "1 second", onEvent } as const
        const first = yield* serve(layer, handlers, options)
        const ids: Array<JobId> = []
        for (let i = 0; i < 50; i++) {
          const job = i % 5 === 0 ? Endless : i % 5 === 1 ? Slow : Quick
          ids.push(yield* first.provide(job.enqueue()))
        }
        // Ten endless jobs and two slow ones fill the slots; the stop meets the rest on its way.
        yield* first.until(ended(), { count: 5 })
        yield* first.stop
        const [drain] = first.events.filter(is("DrainStarted"))
        assert.ok((drain?.running ?? 0) > 0)
        assert.ok(interrupted.length > 0)
        const { nats: watcher } = yield* produce(layer)
        assert.equal(yield* heldIn(watcher, "default"), 0)

        stopping = false
        const begun = performance.now()
        const second = yield* serve(layer, handlers, options)
        const left = ids.length - first.events.filter(ended()).length
        yield* second.until(ended(), { count: left })
        // The ack wait is 30 seconds: nothing had to wait for it.
        assert.ok(performance.now() - begun < 5_000)
        assert.deepEqual(startsAfterEnd(events), [])
        const outcomes = events.filter(ended())
        assert.deepEqual(outcomes.map(({ id }) => id).sort(), [...ids].sort())
        for (const id of ids) {
          const { attemptCount, attempts, lost, state } = yield* second.client.get(id)
          assert.deepEqual([state, attemptCount, attempts.length, lost], ["succeeded", 1, 1, 0])
        }
        assert.equal(yield* heldIn(watcher, "default"), 0)
      }),
  )

  effect(
    "waits for running attempts as long as the grace period says",
    () =>
      Effect.gen(function* () {
        const Slow = Job.make("slow")
        const server = yield* serve(nats.layer(), Slow.toLayer(() => Effect.sleep("400 millis")))
        yield* server.provide(Slow.enqueueMany([undefined, undefined]))
        yield* server.until(is("AttemptStarted"), { count: 2 })
        yield* server.stop
        assert.equal(server.events.filter(ended()).length, 2)
      }),
  )

  effect("is over at once when nothing runs", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), Layer.empty, { queues: { a: 1, b: 1, c: 1 } })
      const begun = performance.now()
      yield* server.stop
      assert.ok(performance.now() - begun < 1_000)
    }))

  effect(
    "lets the finalizers of an interrupted attempt run, and does not count it",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        const log: Array<string> = []
        const Endless = Job.make("endless")
        const EndlessLive = Endless.toLayer(() =>
          Effect.gen(function* () {
            yield* Effect.addFinalizer(() =>
              Effect.andThen(Effect.sleep("200 millis"), Effect.sync(() => log.push("released")))
            )
            return yield* Effect.never
          })
        )
        const server = yield* serve(layer, EndlessLive, {
          gracePeriod: 0,
          onEvent: (event) => event._tag === "JobMoved" && log.push(event.to),
        })
        const id = yield* server.provide(Endless.enqueue())
        yield* server.until(is("AttemptStarted"))
        yield* server.stop
        assert.deepEqual(log, ["released", "returned"])
        const { client } = yield* produce(layer)
        const { attemptCount, attempts, state } = yield* client.get(id)
        assert.deepEqual([state, attemptCount, attempts], ["enqueued", 0, []])
      }),
  )

  effect("ends in time while NATS is gone", () =>
    Effect.gen(function* () {
      const layer = nats.layer(freshNamespace())
      const Slow = Job.make("slow")
      const options = { gracePeriod: "500 millis", ackWaitMillis: 1_000 } as const
      const SlowLive = Slow.toLayer(() => Effect.sleep("100 millis"))
      const server = yield* serve(layer, SlowLive, options)
      const id = yield* server.provide(Slow.enqueue())
      yield* server.until(is("AttemptStarted"))
      yield* nats.killServer
      const begun = performance.now()
      yield* server.stop
      const took = performance.now() - begun
      assert.ok(took < 12_000, `${took} ms`)
      yield* nats.restartServer
      const next = yield* serve(layer, SlowLive, options)
      assert.equal((yield* next.record(id)).state, "succeeded")
    }))
})
