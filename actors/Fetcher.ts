/**
 * Keeps the pool's slots full and holds hardly more than it can start.
 *
 * A lane is one consumer: a priority of a queue in a partition. What is known of a lane decides how
 * it is asked:
 *
 * - `dry`: nothing there when last heard of. A pull for one job waits on it; whatever comes first on
 *   any lane comes at once.
 * - `flowing`: more is there. It is asked for as many as there are free slots and as it has, in the
 *   order of the lanes, so that urgent jobs go first.
 * - `blocked`: it refused or is missing; asked again after a while, its consumer made again.
 *
 * When the slots are full the waiting pulls are called off after a moment, and what has come beyond
 * the slots and still waits after a second is given back for others. Restarts as `permanent`: the
 * pool's state outlives it, and all it loses are pulls.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { clearImmediate, setImmediate } from "node:timers"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { show } from "../src/core/Names.ts"
import { lanes as lanesOfQueue } from "../src/core/Priority.ts"
import { type PullEnd, silentAfterMillis } from "../src/nats/Puller.ts"
import { Delivery } from "./Delivery.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool } from "./Pool.ts"
import { screen } from "./Screening.ts"

interface Lane {
  readonly queue: string
  readonly lane: number
  readonly partition: number
  readonly stream: string
  readonly consumer: string
  readonly rank: number
  /** Number of the pull under way; 0 for none. */
  pull: number
  kind: "now" | "wait"
  /** Jobs that the pull may still bring. */
  asked: number
  /** Jobs known to be there. */
  pending: number
  /** When the pull was last heard of. */
  heard: number
  blocked: boolean
}

/** Largest pull; more slots are filled by the next one. */
const largestPull = 500
/** Time in which small amounts of work are gathered into one request. */
const gatherMillis = 1
const callOffAfterMillis = 50
const giveBackAfterMillis = 1_000
const watchMillis = 500
/**
 * A pull that takes what is there is answered at once. One that isn't hit a limit of the server, or
 * what it was to take was deleted in the meantime, which the server doesn't tell.
 */
const nowAnswersWithinMillis = 1_000

/** The fetcher of a pool, as a child of its supervisor. */
export const start = (pool: Pool): ChildSpec.Start => life(pool)

const life: (
  pool: Pool,
) => Effect.Effect<Effect.Effect<void, unknown>, unknown, Scope.Scope> = Effect.fnUntraced(
  function* (pool: Pool) {
    const { isolation, queues, wire } = pool.options
    const runFork = yield* FiberSet.makeRuntime<never>()
    const crashed = yield* Deferred.make<void, unknown>()
    const lanes: Array<Lane> = []
    let ackWaitMillis = Infinity
    for (const [index, queue] of queues.entries()) {
      for (let partition = 0; partition < wire.partitions; partition++) {
        const consumers = yield* Effect.retry(wire.ensureQueue(queue, partition), {
          while: ({ _tag }) => _tag === "Unavailable",
          schedule: Schedule.spaced("1 second"),
        })
        for (const lane of lanesOfQueue) {
          const consumer = consumers[lane]
          if (consumer === undefined) continue
          ackWaitMillis = Math.min(ackWaitMillis, consumer.ackWaitMillis)
          lanes.push({
            queue,
            lane,
            partition,
            stream: consumer.stream,
            consumer: consumer.name,
            rank: index * lanesOfQueue.length + lane,
            pull: 0,
            kind: "wait",
            asked: 0,
            pending: 0,
            heard: 0,
            blocked: false,
          })
        }
      }
    }
    pool.ackWaitMillis = ackWaitMillis
    lanes.sort((a, b) => a.rank - b.rank)
    const byConsumer = new Map(lanes.map((lane) => [`${lane.stream}.${lane.consumer}`, lane]))

    /** Callbacks run outside of any fiber; what they throw ends this actor. */
    const guarded =
      <Args extends ReadonlyArray<unknown>>(body: (...args: Args) => void) =>
      (...args: Args): void => {
        try {
          body(...args)
        } catch (error) {
          Deferred.doneUnsafe(crashed, Effect.die(error))
        }
      }

    /** Whether pulls may be open; the isolation counts that as something held. */
    let asking = false
    let arrivalScheduled = false
    let screening: Array<Delivery> = []
    let screenSoon: ReturnType<typeof setTimeout> | undefined
    let refillScheduled: ReturnType<typeof setImmediate> | undefined
    let refillSoon: ReturnType<typeof setTimeout> | undefined
    let callOff: ReturnType<typeof setTimeout> | undefined
    let handBack: ReturnType<typeof setTimeout> | undefined

    const requested = (): number => {
      let sum = 0
      for (const lane of lanes) if (lane.kind === "now") sum += lane.asked
      return sum
    }

    const ended = (lane: Lane) => {
      lane.pull = 0
      lane.asked = 0
    }

    /** Calls everything off while a job is to run alone, so that it takes no arrival with it. */
    const makeWay = guarded(() => {
      if (isolation.open || !asking) return
      asking = false
      for (const lane of lanes) ended(lane)
      void pool.puller.drain().then(() => isolation.release())
    })

    const ask = (lane: Lane, batch: number, kind: "now" | "wait") => {
      if (!asking) isolation.hold()
      asking = true
      lane.kind = kind
      lane.asked = batch
      lane.heard = performance.now()
      lane.pull = pool.puller.pull(lane.stream, lane.consumer, lanes.indexOf(lane), batch, kind)
    }

    const refill = guarded(() => {
      refillScheduled = undefined
      clearTimeout(refillSoon)
      refillSoon = undefined
      if (pool.draining) return
      let free = pool.free - requested()
      if (free <= 0) return saturated()
      clearTimeout(callOff)
      clearTimeout(handBack)
      callOff = handBack = undefined
      for (const lane of lanes) {
        if (lane.pull !== 0 || lane.blocked) continue
        if (lane.pending === 0) {
          ask(lane, 1, "wait")
        } else if (free > 0) {
          const batch = Math.min(free, lane.pending, largestPull)
          free -= batch
          ask(lane, batch, "now")
        }
      }
    })

    const scheduleRefill = () => {
      refillScheduled ??= setImmediate(refill)
    }

    /** Slots that become free one by one are filled together, a moment later. */
    const onRoom = () => {
      if (pool.free * 2 >= pool.options.slots) scheduleRefill()
      else refillSoon ??= setTimeout(refill, gatherMillis)
    }

    const saturated = () => {
      callOff ??= setTimeout(
        guarded(() => {
          callOff = undefined
          if (pool.free > 0 || pool.draining) return
          for (const lane of lanes) if (lane.pull !== 0 && lane.kind === "wait") ended(lane)
          void pool.puller.stopWaiting()
        }),
        callOffAfterMillis,
      )
      handBack ??= setTimeout(
        guarded(() => {
          handBack = undefined
          if (pool.free > 0 || pool.draining) return
          pool.giveBackSurplus()
        }),
        giveBackAfterMillis,
      )
    }

    const arrive = guarded(() => {
      arrivalScheduled = false
      const messages = pool.arrived
      pool.arrived = []
      for (const message of messages) {
        const lane = byConsumer.get(`${message.stream}.${message.consumer}`)
        if (lane === undefined) continue
        lane.pending = message.pending
        if (lane.pull !== 0 && --lane.asked <= 0) ended(lane)
        const subject = wire.subjects.parse(message.subject)
        if (subject === undefined) {
          // Nothing of ours puts it there, and nobody else would ever take it away.
          pool.puller.acknowledge(message)
          runFork(Effect.logWarning(`removed a message that is no job: ${show(message.subject)}`))
          continue
        }
        const delivery = new Delivery(message, subject, lane.rank)
        if (pool.hold(delivery)) screening.push(delivery)
      }
      // While a pull is bringing more, one check for all of it is cheaper than one for each part.
      if (requested() > 0) screenSoon ??= setTimeout(check, gatherMillis)
      else check()
      scheduleRefill()
    })

    const check = guarded(() => {
      clearTimeout(screenSoon)
      screenSoon = undefined
      if (screening.length === 0) return
      const deliveries = screening
      screening = []
      runFork(screen(pool, deliveries)).addObserver((exit) => {
        if (exit._tag === "Failure") Deferred.doneUnsafe(crashed, exit)
      })
    })

    const onPull = guarded(
      (tag: number, pull: number, end: PullEnd | "alive", description: string) => {
        const lane = lanes[tag]
        if (lane === undefined || lane.pull !== pull) return
        lane.heard = performance.now()
        if (end === "alive") return
        ended(lane)
        lane.pending = 0
        if (end !== "empty") repair(lane, description)
        scheduleRefill()
      },
    )

    const repairing = new Set<string>()

    /** Makes the consumers of a lane's queue again, as often as it takes; then asks them again. */
    const repair = (lane: Lane, description: string) => {
      lane.blocked = true
      const { consumer, partition, queue } = lane
      const key = `${partition}.${queue}`
      if (repairing.has(key)) return
      repairing.add(key)
      wire.forgetQueue(queue, partition)
      const why = description === "" ? "nobody answers for its stream" : description
      runFork(
        Effect.sleep("500 millis").pipe(
          Effect.andThen(Effect.logWarning(`pull on ${consumer} ended: ${why}`)),
          Effect.andThen(
            Effect.retry(wire.ensureQueue(queue, partition), Schedule.spaced("1 second")),
          ),
          Effect.andThen(Effect.sync(() => {
            repairing.delete(key)
            for (const other of lanes) {
              if (other.queue === queue && other.partition === partition) other.blocked = false
            }
            scheduleRefill()
          })),
        ),
      )
    }

    /** Forgets all pulls: their inboxes change, so that none of them can bring anything any more. */
    const reset = guarded(() => {
      // A server that was killed has forgotten who holds what.
      pool.suspectUntil = performance.now() + pool.ackWaitMillis
      // Leases can't be renewed without a connection.
      for (const delivery of pool.held) delivery.lapsed = true
      for (const lane of lanes) ended(lane)
      void pool.puller.drain()
      // What has come in since the connection was lost isn't known: look everywhere.
      for (const lane of lanes) lane.pending = Math.max(lane.pending, 1)
      scheduleRefill()
    })

    /** When it was last seen that all is asked for that may be. */
    let inOrder = performance.now()
    const isInOrder = (): boolean =>
      pool.draining || pool.free - requested() <= 0 ||
      lanes.every((lane) => lane.pull !== 0 || lane.blocked)

    const watch = guarded(() => {
      const now = performance.now()
      if (isInOrder()) inOrder = now
      for (const lane of lanes) {
        const limit = lane.kind === "now" ? nowAnswersWithinMillis : silentAfterMillis
        if (lane.pull !== 0 && now - lane.heard > limit) {
          ended(lane)
          lane.pending = 0
        }
      }
      scheduleRefill()
    })

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        pool.fetching = () => ({
          blocked: lanes.filter(({ blocked }) => blocked).map(({ consumer }) => consumer),
          stuckMillis: performance.now() - inOrder,
        })
        pool.onPull = onPull
        pool.onRoom = onRoom
        pool.onDoubt = (delivery) => {
          screening.push(delivery)
          check()
        }
        pool.onArrival = () => {
          if (arrivalScheduled) return
          arrivalScheduled = true
          queueMicrotask(arrive)
        }
        const watcher = setInterval(watch, watchMillis)
        const forgets = [wire.nats.onReconnect(reset), isolation.onChange(makeWay)]
        return { watcher, forgets }
      }),
      ({ forgets, watcher }) =>
        Effect.promise(async () => {
          clearInterval(watcher)
          clearTimeout(callOff)
          clearTimeout(handBack)
          clearTimeout(refillSoon)
          if (refillScheduled !== undefined) clearImmediate(refillScheduled)
          for (const forget of forgets) forget()
          pool.fetching = undefined
          pool.onPull = () => {}
          pool.onRoom = () => {}
          pool.onDoubt = () => {}
          await pool.puller.drain()
          if (asking) isolation.release()
          pool.onArrival = () => {}
          clearTimeout(screenSoon)
        }),
    )
    // A fetcher before this one may have left deliveries unchecked.
    screening = [...pool.held].filter((delivery) => delivery.phase === "arriving")
    check()
    for (const lane of lanes) lane.pending = 1
    pool.onArrival()
    scheduleRefill()
    return Deferred.await(crashed)
  },
)
