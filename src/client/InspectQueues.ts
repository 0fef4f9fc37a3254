/** How many jobs there are in which state, and how the queues stand. */
import * as Effect from "effect/Effect"
import type { JobId } from "../core/JobId.ts"
import type { JobState } from "../core/JobState.ts"
import * as Priority from "../core/Priority.ts"
import * as Counts from "../nats/Counts.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Lists from "../nats/Lists.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Servers from "./InspectServers.ts"

/** Number of jobs in each state. */
export type StateCounts = Readonly<Record<JobState, number>>

/** Numbers of jobs. */
export interface JobCounts {
  /** Over all queues that were counted. */
  readonly total: StateCounts
  /** By queue: waiting jobs count where they wait, ended ones where they were created. */
  readonly queues: Readonly<Record<string, StateCounts>>
}

/** The job of a queue that waits the longest. */
export interface OldestJob {
  /** Its id. */
  readonly id: JobId
  /** Since when it waits in this place, by the clock of NATS. */
  readonly since: Date
}

/** How a queue stands. */
export interface QueueSummary {
  /** Its name. */
  readonly queue: string
  /** Jobs that could run and don't. */
  readonly enqueued: number
  /** The same by priority. */
  readonly byPriority: Readonly<Record<Priority.Priority, number>>
  /** Of them, those that a server has given back: they come before all priorities. */
  readonly returned: number
  /** Jobs that servers run. */
  readonly processing: number
  /** Jobs that become ready at a given time. */
  readonly scheduled: number
  /** Failed attempts that are repeated at a given time. */
  readonly retrying: number
  /** The enqueued job that waits the longest. */
  readonly oldest?: OldestJob | undefined
  /** How long it has been waiting, in milliseconds; 0 when none waits. */
  readonly lagMillis: number
  /** Ids of the servers that serve the queue. */
  readonly servers: ReadonlyArray<string>
}

/** Whether a queue is the engine's own, and only shown when it is asked for. */
const isHidden = (queue: string): boolean => queue.startsWith("_")

type Running = ReadonlyMap<string, number>

const laneKey = (queue: string, lane: number): string => `${queue}.${lane}`

const runningIn = (answers: ReadonlyMap<string, Servers.Description>): Running => {
  const running = new Map<string, number>()
  for (const { lanes } of answers.values()) {
    for (const { count, lane, queue } of lanes) {
      const key = laneKey(queue, lane)
      running.set(key, (running.get(key) ?? 0) + count)
    }
  }
  return running
}

interface Ready {
  readonly enqueued: ReadonlyArray<number>
  readonly processing: number
}

/** What is ready, by lane: what NATS has and servers don't run. */
const readyIn = ({ lanes, queue }: Counts.QueueCount, running: Running): Ready => {
  const processing = Priority.lanes.map((lane) => running.get(laneKey(queue, lane)) ?? 0)
  return {
    enqueued: Priority.lanes.map((lane, index) => {
      const all = lanes.filter((one) => one.lane === lane)
        .reduce((sum, { held, pending }) => sum + held + pending, 0)
      return Math.max(0, all - (processing[index] ?? 0))
    }),
    processing: sum(processing),
  }
}

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((a, b) => a + b, 0)

const none: StateCounts = {
  awaiting: 0,
  scheduled: 0,
  enqueued: 0,
  processing: 0,
  retrying: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
}

const read = (
  wire: Wire,
  queue: string | undefined,
  jobs?: number,
): Effect.Effect<{
  readonly queues: ReadonlyArray<Counts.QueueCount>
  readonly servers: ReadonlyArray<Servers.ServerInfo>
  readonly answers: ReadonlyMap<string, Servers.Description>
}, NatsError> =>
  Effect.flatMap(Servers.present(wire), (servers) =>
    Effect.map(
      Effect.all([Counts.count(wire, queue), Servers.describe(wire, servers.length, jobs)], {
        concurrency: 2,
      }),
      ([all, answers]) => ({
        queues: queue === undefined ? all.filter(({ queue }) => !isHidden(queue)) : all,
        servers,
        answers,
      }),
    ))

/** Counts the jobs of one queue, or of all. */
export const counts: (wire: Wire, queue?: string) => Effect.Effect<JobCounts, NatsError> = Effect
  .fnUntraced(function* (wire, queue) {
    const { answers, queues } = yield* read(wire, queue, 0)
    const running = runningIn(answers)
    const byQueue: Record<string, StateCounts> = {}
    const total = { ...none }
    for (const one of queues) {
      const { enqueued, processing } = readyIn(one, running)
      const { await: awaiting, later: scheduled, retry: retrying, ...ended } = one.states
      const counts: StateCounts = {
        ...{ awaiting, scheduled, enqueued: sum(enqueued), processing, retrying },
        ...ended,
      }
      byQueue[one.queue] = counts
      for (const state of Object.keys(none) as Array<JobState>) total[state] += counts[state]
    }
    return { total, queues: byQueue }
  })

/** Messages of a lane that are read to find one that waits, where servers hold some of them. */
const lookedAt = 16

const maxBytes = 1_024 * 1_024

/** The longest waiting job of a lane; `undefined` for none. */
const oldestIn = Effect.fnUntraced(function* (
  wire: Wire,
  queue: string,
  { delivered, floor, held, lane, partition, pending }: Counts.LaneCount,
  isRunning: (job: Subjects.Address) => boolean,
) {
  const { reader, subjects } = wire
  const filter = subjects.lane(partition, queue, lane)
  const first = Effect.fnUntraced(function* (sequence: number, count: number) {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const { messages } = yield* reader.page(stream, filter, { sequence, count, bytes: maxBytes })
    const waiting = Records.parse(subjects, messages).filter(({ subject }) => !isRunning(subject))
    return (yield* Lists.onlyCurrent(wire, waiting))[0]
  })
  const found = held > 0 ? yield* first(floor + 1, lookedAt) : undefined
  return found ?? (pending > 0 ? yield* first(delivered + 1, 2) : undefined)
})

/** How one queue stands, or each of them. */
export const queues: (
  wire: Wire,
  queue?: string,
) => Effect.Effect<ReadonlyArray<QueueSummary>, NatsError> = Effect.fnUntraced(
  function* (wire, queue) {
    const { answers, queues, servers } = yield* read(wire, queue)
    const running = runningIn(answers)
    const jobs = new Set([...answers.values()].flatMap(({ jobs }) => jobs.map(Lists.keyOf)))
    const isRunning = (job: Subjects.Address) => jobs.has(Lists.keyOf(job))
    return yield* Effect.forEach(
      queues,
      Effect.fnUntraced(function* (one): Effect.fn.Return<QueueSummary, NatsError> {
        const { enqueued, processing } = readyIn(one, running)
        const [returned = 0, ...rest] = enqueued
        const [critical = 0, high = 0, normal = 0, low = 0] = rest
        const found = yield* Effect.forEach(
          one.lanes.filter(({ lane }) => (enqueued[lane] ?? 0) > 0),
          (lane) => oldestIn(wire, one.queue, lane, isRunning),
        )
        const oldest = found.reduce(
          (a, b) => a === undefined || b !== undefined && b.stored.time < a.stored.time ? b : a,
          undefined,
        )
        return {
          queue: one.queue,
          enqueued: sum(enqueued),
          byPriority: { critical, high, normal, low },
          returned,
          processing,
          scheduled: one.states.later,
          retrying: one.states.retry,
          oldest: oldest && { id: oldest.subject.id, since: new Date(oldest.stored.time) },
          lagMillis: oldest === undefined
            ? 0
            : Math.max(0, Math.round(wire.clock.now() - oldest.stored.time)),
          servers: servers
            .filter(({ pools }) => pools.some(({ queues }) => queues.includes(one.queue)))
            .map(({ id }) => id),
        }
      }),
      { concurrency: 8 },
    )
  },
)
