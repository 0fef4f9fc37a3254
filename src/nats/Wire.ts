/**
 * What everything above needs to speak with one namespace, made once per connection: its streams
 * are ensured, its server's clock is known, one publisher and one reader serve all.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Encryption, type Keyring } from "../core/Encryption.ts"
import { InvalidOptions } from "../core/errors.ts"
import * as Durability from "./Durability.ts"
import * as DurabilityFacts from "./DurabilityFacts.ts"
import type { NatsError } from "./errors.ts"
import { Nats } from "./Nats.ts"
import { Publisher } from "./Publisher.ts"
import { Reader } from "./Reader.ts"
import * as ServerClock from "./ServerClock.ts"
import * as Subjects from "./Subjects.ts"
import * as Topology from "./Topology.ts"
import { defaultAckWaitMillis, type PlanOptions } from "./TopologyPlan.ts"

/** How the streams of a namespace are made when they don't exist yet. */
export type StreamOptions =
  & Omit<PlanOptions, "namespace">
  & Topology.ApplyOptions
  & Durability.DurabilityOptions
  & {
    /** Time without a sign of life after which a job is given to another worker, in ms. */
    readonly ackWaitMillis?: number | undefined
    /** Jobs of one queue and priority that all servers together may hold. */
    readonly maxAckPending?: number | undefined
  }

/**
 * Options of the streams, read by everything that connects. The default is one partition, one
 * replica, on file.
 *
 * @example
 * ```ts
 * import { StreamSettings } from "@portfire/portfire"
 * import * as Layer from "effect/Layer"
 *
 * const threeReplicas = Layer.succeed(StreamSettings, { replicas: 3 })
 * ```
 */
export const StreamSettings: Context.Reference<StreamOptions> = Context.Reference<StreamOptions>(
  "portfire/nats/StreamSettings",
  { defaultValue: () => ({}) },
)

/**
 * How long what somebody has begun may stand still before a server looks after it, in milliseconds: a
 * batch that is being built, a job that is being linked to its parents, an open batch at which nobody
 * has looked. As long as the default ack wait; the same in all processes.
 */
export const AlarmMillis: Context.Reference<number> = Context.Reference<number>(
  "portfire/nats/AlarmMillis",
  { defaultValue: () => defaultAckWaitMillis },
)

/** The consumers of a queue in one partition, most urgent first. */
type Consumers = ReadonlyArray<Topology.QueueConsumer>
type EnsureError = NatsError | Topology.TopologyConflict

/** One namespace, ready for use. */
export interface Wire {
  readonly nats: Nats
  readonly subjects: Subjects.Subjects
  /** Number of job streams. */
  readonly partitions: number
  /** Whether the streams have replicas, so that a direct read may come from one that lags behind. */
  readonly replicated: boolean
  readonly publisher: Publisher
  readonly reader: Reader
  /** The server's clock: all delays count from it, whatever this machine's clock says (W14). */
  readonly clock: ServerClock.ServerClock
  /** The keys with which what jobs are given and what they give is encrypted; mostly there are none. */
  readonly encryption: Keyring | undefined
  /** What the servers do now for what they have acknowledged; asks them. */
  readonly durability: Effect.Effect<Durability.Durability, NatsError>
  /** Why that isn't what was asked for; nothing when it is. */
  readonly durabilityGaps: (
    found: Durability.Durability,
  ) => ReadonlyArray<Durability.DurabilityGap>
  /** See {@link AlarmMillis}. */
  readonly alarmMillis: number
  /** Makes sure that a queue has its consumers in a partition; asks the server once per process. */
  readonly ensureQueue: (
    queue: string,
    partition: number,
  ) => Effect.Effect<Consumers, EnsureError>
  /** Whether {@link ensureQueue} has succeeded for this queue before. */
  readonly knowsQueue: (queue: string, partition: number) => boolean
  /** Forgets what {@link ensureQueue} learned, after a consumer went missing. */
  readonly forgetQueue: (queue: string, partition: number) => void
}

/** The namespace as a service. */
export const Wire: Context.Service<Wire, Wire> = Context.Service<Wire>("portfire/nats/Wire")

/** Queues remembered per process; beyond it the oldest is asked for again. */
const rememberedQueues = 10_000

const make = Effect.gen(function* () {
  const nats = yield* Nats
  const settings = yield* StreamSettings
  const asked = Durability.resolve(settings)
  if (asked instanceof InvalidOptions) return yield* asked
  const planned = Durability.planned(asked.level, settings)
  if (planned instanceof InvalidOptions) return yield* planned
  const options = { ...settings, ...planned }
  const { connection, namespace } = nats
  const { partitions, replicas } = yield* Effect.mapError(
    Topology.ensure(connection, { ...options, namespace }),
    DurabilityFacts.explain(asked),
  )
  if (asked.level !== undefined) yield* DurabilityFacts.ensure(nats, partitions, asked)
  const clock = yield* ServerClock.make(connection, Subjects.jobsStream(namespace, 0))
  const publisher = yield* Effect.acquireRelease(
    Effect.sync(() => new Publisher(connection)),
    (publisher) => Effect.sync(() => publisher.close()),
  )
  const reader = yield* Effect.acquireRelease(
    Effect.sync(() => new Reader(connection)),
    (reader) => Effect.sync(() => reader.close()),
  )
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      nats.onReconnect(() => {
        publisher.reconnected()
        reader.reconnected()
      })
    ),
    (stop) => Effect.sync(stop),
  )
  const scope = yield* Effect.scope
  const known = new Map<string, Consumers>()
  const asking = new Map<string, Fiber.Fiber<Consumers, EnsureError>>()
  const keyOf = (queue: string, partition: number) => `${partition}.${queue}`
  const ask = (key: string, queue: string, partition: number) =>
    Topology.ensureQueue(connection, { ...options, namespace, partition, queue }).pipe(
      Effect.tap((consumers) =>
        Effect.sync(() => {
          known.set(key, consumers)
          const [oldest] = known.keys()
          if (known.size > rememberedQueues && oldest !== undefined) known.delete(oldest)
        })
      ),
      Effect.ensuring(Effect.sync(() => asking.delete(key))),
    )
  return Wire.of({
    nats,
    subjects: Subjects.make(namespace),
    partitions,
    replicated: replicas > 1,
    encryption: yield* Encryption,
    publisher,
    reader,
    clock,
    durability: DurabilityFacts.look(nats, partitions, asked),
    durabilityGaps: (found) => Durability.gapsOf(found, asked),
    alarmMillis: yield* AlarmMillis,
    ensureQueue: (queue, partition) =>
      Effect.suspend(() => {
        const key = keyOf(queue, partition)
        const found = known.get(key)
        if (found !== undefined) return Effect.succeed(found)
        // A thousand enqueues to a new queue ask once; whoever of them is interrupted stops no other.
        const running = asking.get(key)
        if (running !== undefined) return Fiber.join(running)
        return Effect.flatMap(Effect.forkIn(ask(key, queue, partition), scope), (fiber) => {
          asking.set(key, fiber)
          return Fiber.join(fiber)
        })
      }),
    knowsQueue: (queue, partition) => known.has(keyOf(queue, partition)),
    forgetQueue: (queue, partition) => {
      known.delete(keyOf(queue, partition))
    },
  })
})

/** What making a {@link Wire} may fail with. */
export type WireError =
  | NatsError
  | InvalidOptions
  | Topology.TopologyConflict
  | Durability.DurabilityNotMet

/** Provides the namespace of the connection. */
export const layer: Layer.Layer<Wire, WireError, Nats> = Layer.effect(Wire, make)
