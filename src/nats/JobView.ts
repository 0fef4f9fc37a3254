/**
 * Everything that lies in the streams for one job, read so that a decision can rest on it: what its
 * author saw as newest is the condition of the transition that follows.
 */
import * as Effect from "effect/Effect"
import { type NatsError, Rejected } from "./errors.ts"
import { newestAtLeader, type StoredMessage } from "./Reader.ts"
import * as Records from "./Records.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** What there is of a job. */
export interface JobView {
  readonly address: Subjects.Address
  /** The message that counts. */
  readonly current: Records.JobMessage
  /** The newest sequence: the condition of the next transition (W1). */
  readonly newest: number
  /** Sequences of messages that don't count any more and can be deleted. */
  readonly stale: ReadonlyArray<number>
}

/** How often a replica that lags behind is asked before that counts as trouble. */
const readsOfReplicas = 50

/** All messages under a filter; at least as new as what the leader knew when this began. */
const readAll = Effect.fnUntraced(function* (
  { nats, reader, replicated }: Wire,
  stream: string,
  filter: string,
): Effect.fn.Return<ReadonlyArray<StoredMessage>, NatsError> {
  if (!replicated) return yield* reader.newest(stream, [filter])
  const newest = yield* newestAtLeader(nats.connection, stream, filter)
  if (newest === undefined) return []
  for (let reads = 0; reads < readsOfReplicas; reads++) {
    const found = yield* reader.newest(stream, [filter])
    if (found.some(({ sequence }) => sequence >= newest.sequence)) return found
    const still = yield* newestAtLeader(nats.connection, stream, filter)
    if (still === undefined) return []
    yield* Effect.sleep("20 millis")
  }
  return yield* new Rejected({
    operation: `reading ${filter}`,
    code: 0,
    status: 0,
    description: "no replica has what the leader has",
  })
})

/**
 * All messages of the job with an id. Most jobs belong to no batch, so that is looked up first: the
 * server finds a job whose group it knows without going through the batches.
 */
export const messagesOf: (
  wire: Wire,
  id: string,
) => Effect.Effect<ReadonlyArray<StoredMessage>, NatsError> = Effect.fnUntraced(
  function* (wire, id) {
    const address = Subjects.addressOf(id, wire.partitions)
    const { partition } = address
    // An id from elsewhere may look like one of ours in a partition that isn't there.
    if (partition >= wire.partitions) return []
    const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
    const alone = yield* readAll(wire, stream, wire.subjects.job(address))
    return alone.length > 0
      ? alone
      : yield* readAll(wire, stream, wire.subjects.inAnyGroup(partition, id))
  },
)

/** The job among the messages that were read at its address. */
export const viewIn = (
  subjects: Subjects.Subjects,
  found: ReadonlyArray<StoredMessage>,
): JobView | undefined => {
  const current = Records.current(Records.parse(subjects, found))
  if (current === undefined) return undefined
  const { group, id, partition } = current.subject
  return {
    address: { partition, group, id },
    current,
    newest: Math.max(...found.map(({ sequence }) => sequence)),
    stale: found.map(({ sequence }) => sequence)
      .filter((sequence) => sequence !== current.stored.sequence),
  }
}

/** All messages of the job at an address. */
export const messagesAt = (
  wire: Wire,
  address: Subjects.Address,
): Effect.Effect<ReadonlyArray<StoredMessage>, NatsError> => {
  const { partition } = address
  // An id from elsewhere may look like one of ours in a partition that isn't there.
  if (partition >= wire.partitions) return Effect.succeed([])
  const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
  return readAll(wire, stream, wire.subjects.job(address))
}

/** What there is of the job at an address; `undefined` for nothing that can be read. */
export const at = (
  wire: Wire,
  address: Subjects.Address,
): Effect.Effect<JobView | undefined, NatsError> =>
  Effect.map(messagesAt(wire, address), (found) => viewIn(wire.subjects, found))

/** What there is of the job with an id. */
export const find = (wire: Wire, id: string): Effect.Effect<JobView | undefined, NatsError> =>
  Effect.map(messagesOf(wire, id), (found) => viewIn(wire.subjects, found))
