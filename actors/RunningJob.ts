/** The current job of an attempt, as its handler sees it. */
import type { CurrentJob } from "../src/client/CurrentJob.ts"
import { originOf } from "../src/client/JobRecord.ts"
import type { Definition } from "../src/client/Definition.ts"
import { type Envelope, inputOf } from "../src/core/Envelope.ts"
import type { ProgressInput } from "../src/core/Journal.ts"
import { fromLane, type Priority } from "../src/core/Priority.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Delivery } from "./Delivery.ts"
import { Journal } from "./Journal.ts"

const noContext: CurrentJob["context"] = {}

/** Opens the attempt's journal when something is written: what says nothing costs nothing. */
export class RunningJob implements CurrentJob {
  readonly id: string
  readonly name: string
  readonly attempt: number
  readonly delivery: number
  readonly queue: string
  readonly priority: Priority
  readonly created: Date
  readonly context: Readonly<Record<string, string>>
  readonly started: Date
  readonly server: string
  readonly #delivery: Delivery
  readonly #wire: Wire
  readonly #definition: Definition
  #waited = 0
  #waits: number | undefined

  constructor(delivery: Delivery, definition: Definition, server: string, wire: Wire) {
    const { envelope, message, subject } = delivery
    this.id = subject.id
    this.name = envelope.name
    this.attempt = delivery.attempt
    this.delivery = message.deliveries
    this.queue = subject.queue
    this.priority = fromLane(envelope.lane)
    this.created = new Date(envelope.created)
    this.context = envelope.options.context ?? noContext
    this.started = new Date(delivery.started)
    this.server = server
    this.#delivery = delivery
    this.#definition = definition
    this.#wire = wire
  }

  get #envelope(): Envelope {
    return this.#delivery.unlocked ?? this.#delivery.envelope
  }

  get parents(): CurrentJob["parents"] {
    return this.#envelope.progress.waits?.parents ?? []
  }

  get recurring(): CurrentJob["recurring"] {
    return originOf(this.#delivery.envelope.options)
  }

  /** Its payload as it lies in its message, with the version that it has. */
  get input(): { readonly payload: Uint8Array | undefined; readonly version: number } {
    const envelope = this.#envelope
    return { payload: inputOf(envelope), version: envelope.options.version ?? 1 }
  }

  /** Largest message that NATS takes, in bytes. */
  get maxPayload(): number {
    return this.#wire.nats.server().maxPayload
  }

  /** How long it has waited for a worker of its own, in ms. */
  get waitedMillis(): number {
    return this.#waited + (this.#waits === undefined ? 0 : performance.now() - this.#waits)
  }

  /** It begins, or ends, to wait for a worker of its own. */
  waits(now: boolean): void {
    this.#waited = this.waitedMillis
    this.#waits = now ? performance.now() : undefined
  }

  /** The journal of the attempt; none once it has ended. */
  get journal(): Journal | undefined {
    if (this.#delivery.phase !== "running") return undefined
    const lines = this.#definition.logs?.lines ?? 0
    return this.#delivery.journal ??= new Journal(this.#wire, this, lines)
  }

  report(progress: ProgressInput): void {
    this.journal?.report(progress)
  }
}
