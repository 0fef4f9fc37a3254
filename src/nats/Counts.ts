/**
 * How many jobs there are, without reading any of them.
 *
 * Ready jobs are counted by the consumers that hand them out. The jobs of every other state are
 * counted by consumers of their own, one per state and queue, that nobody pulls from: the server
 * keeps their `num_pending` up to date with every write, at a cost that could not be measured with
 * 120 of them. They are made when somebody first asks, about 7 ms where 150,000 messages match, and
 * the server removes them ten minutes later, so that nothing stays behind where nobody looks.
 *
 * Such a consumer can't take anything away: it is paused until after all schedules, so it hands out
 * nothing even when pulled from, and what isn't handed out can't be acknowledged. Its subjects are
 * those of no other consumer, as a work queue demands, and never those of ready jobs.
 *
 * Checked on nats-server 2.14.0: the counts are right with publishes, replaced messages, schedules
 * that fire, superseded schedules, deletes, expiry, atomic batches, clean and unclean restarts, and
 * purges, with one exception: a purge by a filter with wildcards that removes exactly one message is
 * not counted. Ending with their consumer is what limits such a mistake to ten minutes.
 * With three replicas they were right before and after one server was killed.
 */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import { lanes } from "../core/Priority.ts"
import * as Api from "./Api.ts"
import { Code, type NatsError } from "./errors.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** States that have consumers of their own to count them. */
export type CountedState = Exclude<WireState, "ready" | "part">

/** See {@link CountedState}. */
export const countedStates: ReadonlyArray<CountedState> = [
  "later",
  "retry",
  "await",
  "succeeded",
  "failed",
  "cancelled",
]

/** The ready jobs of a queue's lane in one partition. */
export interface LaneCount {
  readonly partition: number
  readonly lane: number
  /** Not yet handed out. */
  readonly pending: number
  /** Handed out to servers, and not acknowledged. */
  readonly held: number
  /** Sequence below which nothing is left to hand out or to acknowledge. */
  readonly floor: number
  /** Newest sequence that was handed out. */
  readonly delivered: number
}

/** The jobs of a queue. */
export interface QueueCount {
  readonly queue: string
  readonly lanes: ReadonlyArray<LaneCount>
  readonly states: Readonly<Record<CountedState, number>>
}

/** How long a counting consumer lives; asking it doesn't prolong that. */
export const livesForMillis: number = 10 * 60_000

interface ConsumerInfo {
  readonly name: string
  readonly num_pending: number
  readonly num_ack_pending: number
  readonly ack_floor: { readonly stream_seq: number }
  readonly delivered: { readonly stream_seq: number }
}

const counterName = (state: CountedState, queue: string): string => `count_${state}_${queue}`

const infoOf = (
  { nats: { connection } }: Wire,
  stream: string,
  name: string,
): Effect.Effect<ConsumerInfo | undefined, NatsError> =>
  Effect.catchTag(
    Api.call<ConsumerInfo>(
      connection,
      `CONSUMER.INFO.${stream}.${name}`,
      undefined,
      `reading the consumer ${name}`,
    ),
    "Rejected",
    (error) =>
      error.code === Code.consumerNotFound ? Effect.succeed(undefined) : Effect.fail(error),
  )

const createCounter = (
  { nats: { connection }, subjects }: Wire,
  partition: number,
  state: CountedState,
  queue: string,
): Effect.Effect<ConsumerInfo, NatsError> => {
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const name = counterName(state, queue)
  const filter = subjects.jobs(partition, { state, queue })
  return Api.call(
    connection,
    // With the filter in the subject, so that permissions can tell counting from taking jobs.
    `CONSUMER.CREATE.${stream}.${name}.${filter}`,
    {
      stream_name: stream,
      config: {
        name,
        durable_name: name,
        description: `Portfire, namespace ${subjects.namespace}: counts ${state} of ${queue}`,
        filter_subject: filter,
        deliver_policy: "all",
        ack_policy: "explicit",
        pause_until: "2262-01-01T00:00:00Z",
        max_waiting: 1,
        mem_storage: true,
        inactive_threshold: livesForMillis * 1_000_000,
      },
    },
    `counting ${state} of ${queue}`,
  )
}

/** All consumers of a partition by name, as many in one request as the server gives. */
const allOf = Effect.fnUntraced(function* (
  wire: Wire,
  stream: string,
): Effect.fn.Return<Map<string, ConsumerInfo>, NatsError> {
  const infos = new Map<string, ConsumerInfo>()
  for (let offset = 0;;) {
    const { consumers, missing, total } = yield* Api.call<{
      readonly total: number
      readonly consumers?: ReadonlyArray<ConsumerInfo> | null
      readonly missing?: ReadonlyArray<string> | null
    }>(
      wire.nats.connection,
      `CONSUMER.LIST.${stream}`,
      { offset },
      `listing the consumers of ${stream}`,
    )
    for (const info of consumers ?? []) infos.set(info.name, info)
    // In a cluster, those whose leader did not answer for the list.
    for (const name of missing ?? []) {
      const info = yield* infoOf(wire, stream, name)
      if (info !== undefined) infos.set(name, info)
    }
    const step = (consumers?.length ?? 0) + (missing?.length ?? 0)
    offset += step
    if (step === 0 || offset >= total) return infos
  }
})

const someOf = (
  wire: Wire,
  stream: string,
  queue: string,
): Effect.Effect<Map<string, ConsumerInfo>, NatsError> =>
  Effect.map(
    Effect.forEach(
      [
        ...lanes.map((lane) => Subjects.consumerName(queue, lane)),
        ...countedStates.map((state) => counterName(state, queue)),
      ],
      (name) => infoOf(wire, stream, name),
      { concurrency: "unbounded" },
    ),
    (infos) =>
      new Map(infos.flatMap((info) => info === undefined ? [] : [[info.name, info] as const])),
  )

const laneName = /^ready_([\w-]+)_(\d)$/

/**
 * Counts the jobs of one queue, or of all queues that have ever been enqueued to. One request per
 * partition and 256 consumers, of which a queue has eleven; or eleven small ones for one queue.
 *
 * The numbers are read one after the other: a job that moves meanwhile may count twice or not at all.
 */
export const count: (
  wire: Wire,
  queue?: string,
) => Effect.Effect<ReadonlyArray<QueueCount>, NatsError> = Effect.fnUntraced(
  function* (wire, queue) {
    const queues = new Map<string, {
      readonly queue: string
      readonly lanes: Array<LaneCount>
      readonly states: Record<CountedState, number>
    }>()
    for (let partition = 0; partition < wire.partitions; partition++) {
      const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
      const infos = yield* queue === undefined ? allOf(wire, stream) : someOf(wire, stream, queue)
      const here = new Set<string>()
      for (const [name, info] of infos) {
        const [, of, lane] = laneName.exec(name) ?? []
        if (of === undefined) continue
        here.add(of)
        const entry = queues.get(of) ?? {
          queue: of,
          lanes: [],
          states: { later: 0, retry: 0, await: 0, succeeded: 0, failed: 0, cancelled: 0 },
        }
        queues.set(of, entry)
        entry.lanes.push({
          partition,
          lane: Number(lane),
          pending: info.num_pending,
          held: info.num_ack_pending,
          floor: info.ack_floor.stream_seq,
          delivered: info.delivered.stream_seq,
        })
      }
      yield* Effect.forEach(
        [...here].flatMap((queue) => countedStates.map((state) => ({ queue, state }))),
        Effect.fnUntraced(function* ({ queue, state }) {
          const info = infos.get(counterName(state, queue)) ??
            (yield* createCounter(wire, partition, state, queue))
          const entry = queues.get(queue)
          if (entry !== undefined) entry.states[state] += info.num_pending
        }),
        { concurrency: 16, discard: true },
      )
    }
    return [...queues.values()].sort((a, b) => a.queue < b.queue ? -1 : 1)
  },
)
