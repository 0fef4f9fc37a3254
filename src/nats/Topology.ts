/**
 * Brings the streams and consumers of a namespace to the server: read, compare, apply what is
 * missing. What an operator set by hand is left alone where the engine can live with it, and refused
 * with a typed error where it can't.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { NatsConnection } from "nats"
import { InvalidOptions } from "../core/errors.ts"
import * as Api from "./Api.ts"
import { Code, type NatsError, type Rejected } from "./errors.ts"
import { type Actual, type Diff, diff, type FieldChange, keyOf, withField } from "./TopologyDiff.ts"
import {
  type Config,
  consumersOf,
  isPartitionCount,
  maxPartitions,
  partitionsOf,
  plan,
  type PlanOptions,
  type QueueOptions,
  type Resource,
} from "./TopologyPlan.ts"

const describe = (change: FieldChange): string => {
  const wanted = change.wanted === undefined ? "unset" : JSON.stringify(change.wanted)
  const actual = change.actual === undefined ? "unset" : JSON.stringify(change.actual)
  const remedy = change.forceable
    ? "apply with force to set it"
    : change.resource.kind === "consumer"
    ? "it can't be changed: delete the consumer, it is made again and no job is lost"
    : "it can't be changed, force included"
  return `${keyOf(change.resource)}: ${change.field} is ${actual}, needed is ${wanted} ` +
    `(${change.why}); ${remedy}`
}

/** The server has streams or consumers that the engine can't work with. Nothing was written. */
export class TopologyConflict extends Data.Error<{
  /** Every field in the way, with its wanted and its actual value. */
  readonly conflicts: ReadonlyArray<FieldChange>
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "TopologyConflict"
  /** Name in stack traces. */
  override readonly name = "TopologyConflict"
  /** False: somebody has to decide. */
  readonly retryable = false
  /** One line per conflict, each with what can be done. */
  override get message(): string {
    return `NATS holds something else than this engine needs:\n${
      this.conflicts.map((conflict) => `  ${describe(conflict)}`).join("\n")
    }`
  }
}

/** How far an apply may go. */
export interface ApplyOptions {
  /** Also set what an operator set otherwise, where the server can; false by default. */
  readonly force?: boolean | undefined
}

const readOne = (
  connection: NatsConnection,
  resource: Resource,
): Effect.Effect<readonly [string, Config] | undefined, NatsError> =>
  Api.call<{ readonly config: Config }>(
    connection,
    resource.kind === "stream"
      ? `STREAM.INFO.${resource.name}`
      : `CONSUMER.INFO.${resource.stream}.${resource.name}`,
    undefined,
    `reading ${keyOf(resource)}`,
  ).pipe(
    Effect.map(({ config }) => [keyOf(resource), config] as const),
    Effect.catchIf(
      (error): error is Rejected =>
        error._tag === "Rejected" &&
        (error.code === Code.streamNotFound || error.code === Code.consumerNotFound),
      () => Effect.succeed(undefined),
    ),
  )

/** Reads which of the wanted streams and consumers exist, all at once. */
export const read = (
  connection: NatsConnection,
  wanted: ReadonlyArray<Resource>,
): Effect.Effect<Actual, NatsError> =>
  Effect.map(
    Effect.forEach(wanted, (resource) => readOne(connection, resource), {
      concurrency: "unbounded",
    }),
    (found) => new Map(found.filter((entry) => entry !== undefined)),
  )

const write = (
  connection: NatsConnection,
  resource: Resource,
  action: "create" | "update",
  config: Config,
): Effect.Effect<readonly [string, Config], NatsError> =>
  Effect.map(
    Api.call<{ readonly config: Config }>(
      connection,
      resource.kind === "stream"
        ? `STREAM.${action.toUpperCase()}.${resource.name}`
        : `CONSUMER.CREATE.${resource.stream}.${resource.name}.${config.filter_subject}`,
      resource.kind === "stream" ? config : { stream_name: resource.stream, action, config },
      `${action === "create" ? "creating" : "updating"} ${keyOf(resource)}`,
    ),
    (answer) => [keyOf(resource), answer.config] as const,
  )

/**
 * Applies a diff and gives what exists then. Creates what is missing, updates what may be updated;
 * sets conflicting fields only with `force`. A conflict that stays fails with `TopologyConflict`
 * before anything is written. Safe to repeat, and to run from several processes at once.
 */
export const apply: (
  connection: NatsConnection,
  difference: Diff,
  options?: ApplyOptions,
) => Effect.Effect<Actual, NatsError | TopologyConflict> = Effect.fnUntraced(
  function* (connection, { changes, actual }, { force = false } = {}) {
    const creations: Array<Resource> = []
    const updates = new Map<Resource, Config>()
    const conflicts: Array<FieldChange> = []
    for (const change of changes) {
      if (change.kind === "create") creations.push(change.resource)
      else if (change.kind === "update" || (force && change.forceable)) {
        const { field, resource, wanted } = change
        const config = updates.get(resource) ?? actual.get(keyOf(resource)) ?? resource.config
        updates.set(resource, withField(config, field, wanted))
      } else if (change.kind === "conflict") conflicts.push(change)
    }
    if (conflicts.length > 0) return yield* new TopologyConflict({ conflicts })

    const [first, ...others] = creations.filter(({ kind }) => kind === "stream")
    const create = (resource: Resource) => write(connection, resource, "create", resource.config)
    // The first stream alone: it fixes the number of partitions, and whoever comes second with
    // another number fails here, before it has made streams that nobody would serve.
    const made = first === undefined ? [] : [yield* create(first)]
    const more = yield* Effect.forEach(others, create, { concurrency: "unbounded" })
    const changed = yield* Effect.forEach(
      updates,
      ([resource, config]) => write(connection, resource, "update", config),
      { concurrency: "unbounded" },
    )
    const consumers = yield* Effect.forEach(
      creations.filter(({ kind }) => kind === "consumer"),
      create,
      { concurrency: "unbounded" },
    )
    return new Map([...actual, ...made, ...more, ...changed, ...consumers])
  },
)

const streamNameInUse = 10058
const consumerExists = 10148

/** Somebody else made it in between, with another configuration: what exists must be read again. */
const isOvertaken = (error: NatsError | TopologyConflict): boolean =>
  error._tag === "Rejected" && (error.code === streamNameInUse || error.code === consumerExists)

/** A cluster refuses the second creation some time before it shows what the first one made. */
const readAgain = {
  while: isOvertaken,
  times: 6,
  schedule: Schedule.exponential("20 millis"),
}

/** What {@link ensure} makes sure of. */
export interface EnsureOptions extends PlanOptions, ApplyOptions {}

/** The streams of a namespace as they are now. */
export interface Topology {
  /** The namespace. */
  readonly namespace: string
  /** Number of job streams: the one the namespace was made with. */
  readonly partitions: number
  /** Most copies that one of its streams has. */
  readonly replicas: number
  /** Fields an operator set otherwise, and that were left so. */
  readonly kept: ReadonlyArray<FieldChange>
}

const keptOf = ({ changes }: Diff): ReadonlyArray<FieldChange> =>
  changes.filter((change): change is FieldChange => change.kind === "kept")

/**
 * Makes sure that the streams of a namespace exist. One round trip when they do, three when they
 * don't; nothing is written when nothing is missing.
 *
 * A namespace that exists keeps its number of partitions: without the option the stored number
 * counts, with another one it fails with `TopologyConflict`, as with everything else that the engine
 * can't work with.
 */
export const ensure = (
  connection: NatsConnection,
  options: EnsureOptions,
): Effect.Effect<Topology, NatsError | TopologyConflict | InvalidOptions> => {
  if (options.partitions !== undefined && !isPartitionCount(options.partitions)) {
    return Effect.fail(
      new InvalidOptions({
        field: "partitions",
        value: String(options.partitions),
        reason: `it is a whole number from 1 to ${maxPartitions}`,
      }),
    )
  }
  const once = Effect.gen(function* () {
    const asked = plan(options)
    let planned = asked
    let actual = yield* read(connection, asked.streams)
    const stored = asked.streams.map(({ name }) => partitionsOf(actual.get(`stream ${name}`)))
      .find((count) => count !== undefined)
    if (options.partitions === undefined && stored !== undefined && stored !== asked.partitions) {
      planned = plan({ ...options, partitions: stored })
      actual = yield* read(connection, planned.streams)
    }
    const difference = diff(planned.streams, actual)
    const now = yield* apply(connection, difference, options)
    const { namespace, partitions } = planned
    const replicas = Math.max(
      ...planned.streams.map(({ name }) => Number(now.get(`stream ${name}`)?.num_replicas ?? 1)),
    )
    return { namespace, partitions, replicas, kept: keptOf(difference) }
  })
  return Effect.retry(once, readAgain)
}

/** What {@link ensureQueue} makes sure of. */
export interface EnsureQueueOptions extends QueueOptions, ApplyOptions {}

/** A consumer of a queue as it is now. */
export interface QueueConsumer {
  /** 0 is the engine's own, 1 (critical) to 4 (low). */
  readonly priority: number
  /** Its stream. */
  readonly stream: string
  /** Its name. */
  readonly name: string
  /** How long a delivered job stays with its worker without a sign of life, in milliseconds. */
  readonly ackWaitMillis: number
  /** Jobs that may be out at workers at once. */
  readonly maxAckPending: number
}

/**
 * Makes sure that the consumers of a queue exist in one partition, and gives them, most urgent
 * first, with the limits that hold on the server. One round trip when they exist, two when they
 * don't. The namespace must exist. When several processes ask for different limits in the same
 * instant, one of them wins; a later call raises them.
 *
 * They are read first and never simply created again: below server 2.14.6 a refused creation of a
 * consumer that exists loses what the consumer knows about deliveries.
 */
export const ensureQueue = (
  connection: NatsConnection,
  options: EnsureQueueOptions,
): Effect.Effect<ReadonlyArray<QueueConsumer>, NatsError | TopologyConflict> => {
  const planned = consumersOf(options)
  // Who asks for no limit takes the one that is there: a producer must not undo a server's.
  const unasked = [
    ...(options.ackWaitMillis === undefined ? ["ack_wait"] : []),
    ...(options.maxAckPending === undefined ? ["max_ack_pending"] : []),
  ]
  const once = Effect.gen(function* () {
    const found = yield* read(connection, planned)
    const wanted = planned.map((resource): Resource => {
      const config = found.get(keyOf(resource))
      return config === undefined ? resource : {
        ...resource,
        config: unasked.reduce(
          (all, field) => withField(all, field, config[field]),
          resource.config,
        ),
      }
    })
    const actual = yield* apply(connection, diff(wanted, found), options)
    return wanted.map((resource, priority): QueueConsumer => {
      const config = actual.get(keyOf(resource)) ?? resource.config
      return {
        priority,
        stream: resource.stream,
        name: resource.name,
        ackWaitMillis: Number(config.ack_wait) / 1_000_000,
        maxAckPending: Number(config.max_ack_pending),
      }
    })
  })
  return Effect.retry(once, readAgain)
}
