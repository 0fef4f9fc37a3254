/**
 * The topology as data: which streams and consumers a namespace has, and who owns which field of
 * them. Pure; `Topology.ts` reads the server and writes to it.
 */
import { lanes } from "../core/Priority.ts"
import * as Subjects from "./Subjects.ts"

/** Layout of streams, subjects and messages. An engine refuses a namespace whose layout is newer. */
export const layout = "1"

/** Version of Portfire, noted on the streams that it makes. Told to people, never compared. */
export const engineVersion = "0.1.0"

/** Most partitions of a namespace: the last character of an id names one, and it has 32 values. */
export const maxPartitions = 32

/** How long a delivered job stays with its worker without a sign of life, in milliseconds. */
export const defaultAckWaitMillis = 30_000

/** Jobs that may be out at workers at once, per queue and priority. The server's default is 1,000. */
export const defaultMaxAckPending = 10_000

/**
 * Pull requests that may wait on one consumer. It can't be changed later, and the server's default
 * of 512 is soon reached by many processes. The bound itself costs the server nothing, a waiting
 * request about 0.5 KiB.
 */
export const maxWaiting = 65_536

/**
 * How long the server remembers message ids, in milliseconds. Only atomic batches carry ids: one
 * that timed out is repeated with the same ones, so the window outlasts a few request time-outs. An
 * id takes about 255 bytes of the server's memory while it is remembered.
 */
export const duplicateWindowMillis = 30_000

/** How long the server keeps what jobs wrote, in milliseconds: 7 days. */
export const logsMaxAgeMillis: number = 7 * 86_400_000

/** Lines kept of one job, the newest ones. */
export const maxLinesPerJob = 1_000

/**
 * Lines kept of all jobs, the newest ones; about 200 MB of ordinary ones. A limit in bytes would be
 * reserved as a whole when the stream is made, and be refused where there isn't so much room.
 */
export const maxLines = 1_000_000

const nanos = (millis: number): number => millis * 1_000_000

/** A configuration as the JetStream API spells it. */
export type Config = Readonly<Record<string, unknown>>

/** One stream or consumer that is to exist. */
export interface Resource {
  /** What it is. */
  readonly kind: "stream" | "consumer"
  /** Name of the stream; of a consumer, the stream it belongs to. */
  readonly stream: string
  /** Its own name. */
  readonly name: string
  /** What it is created with. */
  readonly config: Config
  /** The table that says who owns its fields, where it isn't that of its kind. */
  readonly table?: "logs"
}

/** Where stream data is kept. */
export type Storage = "file" | "memory"

/** What the streams of a namespace are made from. */
export interface PlanOptions {
  /** The namespace. */
  readonly namespace: string
  /** Number of job streams, 1 (default) to 32. Fixed when the namespace is made. */
  readonly partitions?: number | undefined
  /** Copies of each stream in a cluster; 1 by default. Raised on streams that have fewer. */
  readonly replicas?: number | undefined
  /** `file` by default. */
  readonly storage?: Storage | undefined
}

/** The streams of a namespace. */
export interface Plan {
  /** The namespace. */
  readonly namespace: string
  /** Number of job streams. */
  readonly partitions: number
  /** The streams; the one that fixes the number of partitions comes first. */
  readonly streams: ReadonlyArray<Resource>
}

const layoutKey = "portfire.layout"
const partitionsKey = "portfire.partitions"

/** Whether a namespace may have that many partitions. */
export const isPartitionCount = (count: number): boolean =>
  Number.isInteger(count) && count >= 1 && count <= maxPartitions

/** The number of partitions that a stream says its namespace was made with. */
export const partitionsOf = (config: Config | undefined): number | undefined => {
  const metadata = config?.metadata as Readonly<Record<string, string>> | undefined
  const count = Number(metadata?.[partitionsKey])
  return isPartitionCount(count) ? count : undefined
}

/** The streams that a namespace has. */
export const plan = (options: PlanOptions): Plan => {
  const { namespace, partitions = 1, replicas = 1, storage = "file" } = options
  const subjects = Subjects.make(namespace)
  const common = {
    storage,
    num_replicas: replicas,
    max_msgs: -1,
    max_bytes: -1,
    max_age: 0,
    max_msg_size: -1,
    max_consumers: -1,
    max_msgs_per_subject: 1,
    discard: "old",
    allow_direct: true,
    allow_msg_ttl: true,
    deny_delete: false,
    deny_purge: false,
    duplicate_window: nanos(duplicateWindowMillis),
    metadata: {
      [layoutKey]: layout,
      [partitionsKey]: String(partitions),
      "portfire.version": engineVersion,
    },
  }
  const stream = (name: string, config: Config): Resource => ({
    kind: "stream",
    stream: name,
    name,
    config: { ...common, name, ...config },
  })
  const state = stream(Subjects.stateStream(namespace), {
    description: `Portfire, namespace ${namespace}: settings and presence`,
    subjects: [subjects.state(">")],
    retention: "limits",
  })
  const jobs = Array.from(
    { length: partitions },
    (_, partition) =>
      stream(Subjects.jobsStream(namespace, partition), {
        description: `Portfire, namespace ${namespace}: jobs of partition ${partition}`,
        subjects: [subjects.partition(partition)],
        retention: "workqueue",
        allow_msg_schedules: true,
        allow_atomic: true,
      }),
  )
  const logs: Resource = {
    ...stream(Subjects.logsStream(namespace), {
      description: `Portfire, namespace ${namespace}: what jobs wrote`,
      subjects: [subjects.log(">")],
      retention: "limits",
      allow_msg_ttl: false,
      allow_rollup_hdrs: true,
      max_age: nanos(logsMaxAgeMillis),
      max_msgs: maxLines,
      max_msgs_per_subject: maxLinesPerJob,
    }),
    table: "logs",
  }
  return { namespace, partitions, streams: [state, ...jobs, logs] }
}

/** What the consumers of a queue are made from. */
export interface QueueOptions {
  /** The namespace. */
  readonly namespace: string
  /** The partition. */
  readonly partition: number
  /** The queue. */
  readonly queue: string
  /** See {@link defaultAckWaitMillis}. Raised on consumers that have less. */
  readonly ackWaitMillis?: number | undefined
  /** See {@link defaultMaxAckPending}. Raised on consumers that have less. */
  readonly maxAckPending?: number | undefined
}

/** The consumers of a queue in one partition: one per priority, most urgent first. */
export const consumersOf = (options: QueueOptions): ReadonlyArray<Resource> => {
  const { namespace, partition, queue } = options
  const stream = Subjects.jobsStream(namespace, partition)
  const subjects = Subjects.make(namespace)
  return lanes.map((priority): Resource => {
    const name = Subjects.consumerName(queue, priority)
    return {
      kind: "consumer",
      stream,
      name,
      config: {
        name,
        durable_name: name,
        description: `Portfire, namespace ${namespace}: ready jobs of queue ${queue}, ` +
          `priority ${priority}`,
        filter_subject: subjects.lane(partition, queue, priority),
        deliver_policy: "all",
        replay_policy: "instant",
        ack_policy: "explicit",
        ack_wait: nanos(options.ackWaitMillis ?? defaultAckWaitMillis),
        max_deliver: -1,
        max_ack_pending: options.maxAckPending ?? defaultMaxAckPending,
        max_waiting: maxWaiting,
        metadata: { [layoutKey]: layout },
      },
    }
  })
}

/**
 * What is done about a field whose value is another than the wanted one.
 *
 * - `update`: set without asking; it can only help.
 * - `keep`: left as it is, whatever is asked.
 * - `prefer`: left as it is, set when told to.
 * - `refuse`: the engine would break with it, so it doesn't start; set when told to.
 * - `fixed`: the same, but the server can't change it.
 */
export type Outcome = "update" | "keep" | "prefer" | "refuse" | "fixed"

/** Who owns a field, and why. Fields without a rule are the operator's and never looked at. */
export interface Rule {
  /** The field; `metadata.<key>` for one key of the metadata. */
  readonly field: string
  /** What is done about another value than the wanted one. */
  readonly otherwise: Outcome
  /** What is done when the value is smaller, or off instead of on; else as `otherwise`. */
  readonly lower?: Outcome
  /** What is done when the field isn't there; else as `otherwise`. */
  readonly absent?: Outcome
  /** What the field is needed for. */
  readonly why: string
}

const layoutRule: Rule = {
  field: `metadata.${layoutKey}`,
  otherwise: "fixed",
  absent: "update",
  why: "another version of Portfire made it; run that version, or use another namespace",
}

const streamRules: ReadonlyArray<Rule> = [
  layoutRule,
  {
    field: `metadata.${partitionsKey}`,
    otherwise: "fixed",
    absent: "update",
    why: "the number of partitions is fixed when a namespace is made, because ids lead to them",
  },
  { field: "retention", otherwise: "fixed", why: "it decides when messages leave the stream" },
  { field: "storage", otherwise: "fixed", why: "it decides what survives a restart of the server" },
  { field: "mirror", otherwise: "fixed", why: "a mirror takes no messages" },
  { field: "sealed", otherwise: "fixed", why: "a sealed stream takes no messages" },
  { field: "persist_mode", otherwise: "fixed", why: "a stored message must survive a crash" },
  { field: "allow_msg_counter", otherwise: "fixed", why: "counters exclude conditional writes" },
  { field: "deny_delete", otherwise: "fixed", why: "superseded messages are deleted" },
  { field: "deny_purge", otherwise: "fixed", why: "old records are purged" },
  { field: "sources", otherwise: "refuse", why: "every message must come from the engine" },
  { field: "subjects", otherwise: "refuse", why: "the subject of a message is its index" },
  { field: "subject_transform", otherwise: "refuse", why: "the subject of a message is its index" },
  { field: "max_msgs_per_subject", otherwise: "refuse", why: "a subject holds its newest message" },
  { field: "max_msgs", otherwise: "refuse", why: "the oldest messages would be dropped silently" },
  { field: "max_age", otherwise: "refuse", why: "old messages would be dropped silently" },
  // Accounts may demand a size, so a stream made by hand may have one.
  { field: "max_bytes", otherwise: "keep", why: "the oldest messages are dropped when it is full" },
  { field: "discard", otherwise: "refuse", why: "schedules can't fire on a stream that refuses" },
  { field: "no_ack", otherwise: "refuse", why: "every write is confirmed" },
  {
    field: "allow_direct",
    otherwise: "keep",
    lower: "refuse",
    why: "jobs are looked up by direct reads",
  },
  { field: "allow_msg_ttl", otherwise: "keep", lower: "refuse", why: "presence expires by itself" },
  {
    field: "allow_msg_schedules",
    otherwise: "keep",
    lower: "refuse",
    why: "delays and retries are schedules",
  },
  {
    field: "allow_atomic",
    otherwise: "keep",
    lower: "refuse",
    why: "some transitions are atomic batches",
  },
  {
    field: "duplicate_window",
    otherwise: "keep",
    lower: "update",
    why: "a batch that timed out is repeated with its ids",
  },
  {
    field: "num_replicas",
    otherwise: "keep",
    lower: "update",
    why: "copies asked for by an option",
  },
]

const logLimits: ReadonlySet<string> = new Set([
  "max_age",
  "max_bytes",
  "max_msgs",
  "max_msgs_per_subject",
  "discard",
])

/** Nothing breaks when fewer lines stay, or more: how many is for the operator to say. */
const logRules: ReadonlyArray<Rule> = [
  ...streamRules.map((rule): Rule =>
    logLimits.has(rule.field)
      ? { field: rule.field, otherwise: "keep", why: "it bounds what is kept of jobs' lines" }
      : rule
  ),
  {
    field: "allow_rollup_hdrs",
    otherwise: "keep",
    lower: "refuse",
    why: "the newest progress of a job replaces the one before",
  },
]

const consumerRules: ReadonlyArray<Rule> = [
  layoutRule,
  { field: "filter_subject", otherwise: "fixed", why: "it serves one queue and priority" },
  { field: "filter_subjects", otherwise: "fixed", why: "it serves one queue and priority" },
  { field: "deliver_subject", otherwise: "fixed", why: "jobs are pulled" },
  { field: "deliver_policy", otherwise: "fixed", why: "every ready job is delivered" },
  { field: "replay_policy", otherwise: "fixed", why: "ready jobs are delivered at once" },
  { field: "ack_policy", otherwise: "fixed", why: "every job is acknowledged by itself" },
  { field: "priority_policy", otherwise: "fixed", why: "every worker may pull" },
  {
    field: "max_waiting",
    otherwise: "keep",
    lower: "fixed",
    why: "with fewer waiting pulls the requests of some servers would be refused",
  },
  {
    field: "inactive_threshold",
    otherwise: "refuse",
    why: "the consumer would vanish while nobody pulls",
  },
  { field: "headers_only", otherwise: "refuse", why: "jobs have a body" },
  {
    field: "max_deliver",
    otherwise: "refuse",
    why: "the server would strand a job that lost its worker that often",
  },
  { field: "backoff", otherwise: "refuse", why: "it replaces the ack wait" },
  {
    field: "ack_wait",
    otherwise: "prefer",
    lower: "update",
    why: "a longer one delays jobs whose worker died, a shorter one loses leases",
  },
  {
    field: "max_ack_pending",
    otherwise: "keep",
    lower: "update",
    why: "it bounds the jobs that run at once",
  },
]

/** The tables of ownership. */
export const rules: {
  readonly [table in Resource["kind"] | "logs"]: ReadonlyArray<Rule>
} = {
  stream: streamRules,
  logs: logRules,
  consumer: consumerRules,
}

/** The rule that comes before all others: where the layout is another, nothing else is compared. */
export const isLayout = (rule: Rule): boolean => rule === layoutRule
