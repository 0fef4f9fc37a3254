import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Delivery } from "../../actors/Delivery.ts"
import { Interest } from "../../actors/Interest.ts"
import { Isolation } from "../../actors/Isolation.ts"
import { Pool } from "../../actors/Pool.ts"
import { Job } from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import type { Delivered } from "../../src/nats/Puller.ts"
import * as Engine from "../../src/client/Engine.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"

const { template } = Job.make("work").definition

describe("A pool", () => {
  const nats = testServer()

  /** A pool without actors, and deliveries to put into it. */
  const make: Effect.Effect<
    { readonly pool: Pool; readonly deliver: (delivered: Partial<Delivered>) => Delivery },
    unknown,
    Scope.Scope
  > = Effect.gen(function* () {
    const context = yield* Layer.build(
      Engine.layer.pipe(Layer.provideMerge(Wire.layer), Layer.provide(nats.layer())),
    )
    const wire = Context.get(context, Wire.Wire)
    const pool = new Pool({
      name: "default",
      queues: ["default"],
      slots: 2,
      graceMillis: 0,
      server: "server",
      wire,
      engine: Context.get(context, Engine.Engine),
      handlers: new Map(),
      isolation: new Isolation(),
      interest: new Interest(() => {}),
      emit: () => {},
    })
    const deliver = (delivered: Partial<Delivered>) => {
      const { sequence = 1 } = delivered
      const subject = wire.subjects.live("ready", "default", 3, {
        partition: 0,
        group: "_",
        id: `job-${sequence}`,
      })
      const parsed = wire.subjects.parse(subject)
      assert.ok(parsed !== undefined)
      const message: Delivered = {
        subject,
        data: Envelope.fresh(template, 0, new Uint8Array(1)),
        reply: "nobody",
        stream: "stream",
        consumer: "consumer",
        sequence,
        deliveries: 1,
        pending: 0,
        ...delivered,
      }
      return new Delivery(message, parsed, 3)
    }
    return { pool, deliver }
  })

  effect("holds a message once", () =>
    Effect.gen(function* () {
      const { deliver, pool } = yield* make
      assert.equal(pool.hold(deliver({ sequence: 5 })), true)
      assert.equal(pool.hold(deliver({ sequence: 5, deliveries: 2 })), false)
      assert.equal(pool.hold(deliver({ sequence: 6 })), true)
      assert.deepEqual([pool.held.size, pool.free], [2, 0])
      for (const delivery of [...pool.held]) pool.release(delivery)
      assert.equal(pool.hold(deliver({ sequence: 5, deliveries: 2 })), true)
      assert.deepEqual([pool.held.size, pool.free], [1, 1])
    }))

  effect(
    "doubts a job whose lease has run out, and one that others may run for a while",
    () =>
      Effect.gen(function* () {
        const { deliver, pool } = yield* make
        const now = performance.now()
        const doubts = (delivered: Partial<Delivered>, fields: Partial<Delivery>) => {
          const delivery = deliver(delivered)
          pool.hold(delivery)
          Object.assign(delivery, { checked: now - 500, ...fields })
          return pool.isDoubtful(delivery)
        }
        assert.equal(doubts({ sequence: 1 }, {}), false)
        assert.equal(doubts({ sequence: 2 }, { renewed: now - pool.ackWaitMillis - 1 }), true)
        assert.equal(doubts({ sequence: 3 }, { lapsed: true }), true)
        assert.equal(doubts({ sequence: 4, deliveries: 2 }, {}), true)
        assert.equal(doubts({ sequence: 5, deliveries: 2 }, { checked: now }), false)
        pool.suspectUntil = performance.now() + 10_000
        assert.equal(doubts({ sequence: 6 }, {}), true)
      }),
  )
})
