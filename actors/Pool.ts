/**
 * The state that a queue supervisor's children share, and that outlives each of them: what is held,
 * what runs, what waits. No fiber of its own; the children act on it.
 *
 * A pool has a number of slots for one queue, or for several in strict order.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { RegisteredHandler } from "../src/client/Handler.ts"
import type { Definition } from "../src/client/Definition.ts"
import { type Delivered, type PullEnd, Puller } from "../src/nats/Puller.ts"
import { defaultAckWaitMillis, maxPartitions } from "../src/nats/TopologyPlan.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Engine } from "../src/client/Engine.ts"
import type { Delivery } from "./Delivery.ts"
import type { Emit } from "./Event.ts"
import type { Interest } from "./Interest.ts"
import type { Isolation } from "./Isolation.ts"
import * as Transition from "../src/client/Transition.ts"

/** A handler and the services its attempts get. */
export interface ReadyHandler {
  readonly definition: Definition
  readonly run: RegisteredHandler["run"]
  readonly context: Context.Context<never>
  /** Whether its jobs leave no record when they succeed: commands of the engine. */
  readonly silent?: boolean | undefined
}

/** What a pool is made of. */
export interface PoolOptions {
  /** Name for people and the tree: its queue, or its queues joined by `+`. */
  readonly name: string
  /** Queues in strict order. */
  readonly queues: ReadonlyArray<string>
  /** Most attempts that run at once. */
  readonly slots: number
  /** How long running attempts may go on after a stop, in ms. */
  readonly graceMillis: number
  /** The ack wait in ms that leases are kept by until the fetcher has seen its consumers. */
  readonly ackWaitMillis?: number | undefined
  /** Id of the server. */
  readonly server: string
  readonly wire: Wire
  readonly engine: Engine
  readonly handlers: ReadonlyMap<string, ReadyHandler>
  readonly isolation: Isolation
  readonly interest: Interest
  readonly emit: Emit
}

/** How the fetcher of a pool does. */
export interface Fetching {
  /** Consumers that refused or were missing when last asked. */
  readonly blocked: ReadonlyArray<string>
  /** How long there have been free slots for which nothing was asked, in milliseconds. */
  readonly stuckMillis: number
}

/** Outcomes that may wait for the committer before no more jobs are fetched. */
const uncommittedLimit = 4_096

/** How long the check of a job counts that somebody else may still run, in ms. */
const suspectMillis = 50

/** Where a message lies, as one number. */
const keyOf = ({ message, subject }: Delivery): number =>
  message.sequence * maxPartitions + subject.partition

/** Shared state of one pool. */
export class Pool {
  readonly options: PoolOptions
  /** Everything whose lease is ours. */
  readonly held: Set<Delivery> = new Set()
  /** Delivered and not yet checked; the fetcher takes them. */
  arrived: Array<Delivered> = []
  /** Checked, and waiting for a slot; most urgent first. */
  readonly waiting: Array<Delivery> = []
  /** Outcomes for the committer to take. */
  settled: Array<Delivery> = []
  /** Attempts that run. */
  running = 0
  /** True once the pool is being stopped for good, as opposed to restarted. */
  stopping = false
  /** True once nothing new may start. */
  draining = false
  /** Set by the fetcher: a pull has ended, or shows a sign of life. */
  onPull: (tag: number, pull: number, end: PullEnd | "alive", description: string) => void =
    () => {}
  /** Set by the fetcher: something has arrived. */
  onArrival: () => void = () => {}
  /** Set by the fetcher: something is to be checked once more. */
  onDoubt: (delivery: Delivery) => void = () => {}
  /** Set by the fetcher: how it does; undefined while there is none. */
  fetching: (() => Fetching) | undefined = undefined
  /** Set by the fetcher: there may be room for more. */
  onRoom: () => void = () => {}
  /** Set by the workers: something waits. */
  onWaiting: () => void = () => {}
  /** Set by the committer: something is settled. */
  onSettled: () => void = () => {}
  /** Set by the committer: a job was met that may have ended elsewhere. */
  onMet: (delivery: Delivery) => void = () => {}
  /** Set by the drainer: an attempt has ended, or a job was released. */
  onLess: () => void = () => {}
  /** The way to acknowledge and to renew leases; the fetcher's. */
  readonly puller: Puller
  /** Until then, on the monotonic clock, NATS may deliver jobs that others run. */
  suspectUntil = 0
  /** Milliseconds after which NATS gives a silent job to somebody else. */
  ackWaitMillis: number

  constructor(options: PoolOptions) {
    this.options = options
    this.ackWaitMillis = options.ackWaitMillis ?? defaultAckWaitMillis
    this.puller = new Puller(options.wire.nats.connection, {
      message: (message) => {
        this.arrived.push(message)
        this.onArrival()
      },
      end: (tag, pull, end, description) => this.onPull(tag, pull, end, description),
      beat: (tag, pull) => this.onPull(tag, pull, "alive", ""),
    })
  }

  /** Slots that neither run nor are spoken for; none while an isolated job has the process. */
  get free(): number {
    if (!this.options.isolation.open) return 0
    const arrivingOrWaiting = this.held.size - this.running - this.#uncommitted
    const backlog = Math.max(0, this.#uncommitted - uncommittedLimit)
    return this.options.slots - this.running - arrivingOrWaiting - backlog
  }

  #uncommitted = 0
  /** What is held, by where it lies. */
  readonly #bySequence = new Map<number, Delivery>()

  /**
   * Takes a job in, unless it is held already: NATS delivers it once more when it has forgotten that
   * it did, and what was begun here goes on.
   */
  hold(delivery: Delivery): boolean {
    const before = this.#bySequence.get(keyOf(delivery))
    if (before?.message.subject === delivery.message.subject) return false
    this.#bySequence.set(keyOf(delivery), delivery)
    this.held.add(delivery)
    delivery.suspect ||= performance.now() < this.suspectUntil
    this.options.isolation.hold()
    return true
  }

  /** Puts a checked job in line; gives it back when nothing starts any more. */
  wait(delivery: Delivery): void {
    if (delivery.voided) return this.meet(delivery)
    if (this.draining) return this.giveBack(delivery)
    delivery.phase = "waiting"
    let at = this.waiting.length
    while (at > 0 && (this.waiting[at - 1] as Delivery).rank > delivery.rank) at--
    this.waiting.splice(at, 0, delivery)
    this.onWaiting()
  }

  /** An outcome is known: the committer's turn. The job stays held until it is written. */
  settle(delivery: Delivery): void {
    delivery.phase = "settled"
    this.#uncommitted++
    this.settled.push(delivery)
    this.onSettled()
  }

  /**
   * The job has moved on without us. If it has ended, what its end means for others is done before it
   * is let go: whoever ended it may have died before that (W6).
   */
  meet(delivery: Delivery): void {
    this.options.isolation.forget(delivery)
    delivery.transition = undefined
    delivery.phase = "settled"
    this.#uncommitted++
    this.onMet(delivery)
  }

  /** A message is superseded: what is held for it is dropped, and an attempt for it interrupted. */
  makeVoid(partition: number, sequence: number): void {
    const delivery = this.#bySequence.get(sequence * maxPartitions + partition)
    if (delivery === undefined || delivery.phase === "settled") return
    delivery.voided = true
    delivery.fiber?.interruptUnsafe()
    if (delivery.phase !== "waiting") return
    this.waiting.splice(this.waiting.indexOf(delivery), 1)
    this.meet(delivery)
  }

  /** Gives a job that doesn't run back to the queue, for whoever is free. */
  giveBack(delivery: Delivery): void {
    this.options.isolation.forget(delivery)
    delivery.transition = Transition.giveBack(this.options.wire.subjects, delivery, "returned")
    this.settle(delivery)
  }

  /** Gives back everything that waits for a slot. */
  giveBackWaiting(): void {
    for (const delivery of this.waiting.splice(0)) this.giveBack(delivery)
  }

  /**
   * Gives back what others may start sooner. A job for which the process is being emptied stays: it
   * would come back, and ordinary jobs would start in the meantime.
   */
  giveBackSurplus(): void {
    for (const delivery of this.waiting.splice(0)) {
      if (this.options.isolation.isWanted(delivery)) this.waiting.push(delivery)
      else this.giveBack(delivery)
    }
  }

  /** Leaves all that is held to whoever gets it when its lease has run out: nobody is left to write. */
  abandon(): void {
    this.waiting.length = 0
    for (const delivery of this.held) {
      this.options.isolation.forget(delivery)
      this.options.isolation.release()
    }
    this.held.clear()
  }

  /** Whether somebody else may have ended the job since it was checked. */
  isDoubtful(delivery: Delivery): boolean {
    return this.#hasLapsed(delivery) ||
      delivery.suspect && performance.now() - delivery.checked > suspectMillis
  }

  #hasLapsed(delivery: Delivery): boolean {
    return delivery.lapsed ||= performance.now() - delivery.renewed > this.ackWaitMillis
  }

  /** Renews the lease. */
  renew(delivery: Delivery): void {
    this.#hasLapsed(delivery)
    delivery.renewed = performance.now()
    this.puller.renew(delivery.message)
  }

  /** Has a job checked once more that is in no line. */
  checkAgain(delivery: Delivery): void {
    delivery.phase = "arriving"
    this.renew(delivery)
    this.onDoubt(delivery)
  }

  /** Interrupts what runs; each job is given back once its handler's finalizers have run. */
  readonly interruptAll: Effect.Effect<void> = Effect.sync(() => {
    for (const delivery of this.held) delivery.fiber?.interruptUnsafe()
  })

  /** The job is no longer ours: its message is acknowledged. */
  release(delivery: Delivery): void {
    this.puller.acknowledge(delivery.message)
    if (!this.held.delete(delivery)) return
    if (this.#bySequence.get(keyOf(delivery)) === delivery) {
      this.#bySequence.delete(keyOf(delivery))
    }
    if (delivery.phase === "settled") this.#uncommitted--
    this.options.isolation.release()
    this.onLess()
  }
}
