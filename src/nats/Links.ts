/**
 * Links from a job to those that follow it, beside the job in its stream. A link is published on the
 * condition that its parent hasn't moved since it was seen alive; whoever ends a job looks for links
 * afterwards. So either the look finds the link, or the link's author finds the end (W17, W18).
 */
import * as Effect from "effect/Effect"
import * as MessagePack from "../core/MessagePack.ts"
import * as Conditional from "./Conditional.ts"
import type { NatsError } from "./errors.ts"
import type { JobView } from "./JobView.ts"
import { newestAtLeader, nextAtLeader, type StoredMessage } from "./Reader.ts"
import * as Peek from "./Peek.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** A link from a job to one that follows it. */
export interface Link {
  readonly sequence: number
  readonly child: Subjects.Address
}

/** How often replicas are asked that lag behind. */
const readsOfReplicas = 50

/** Jobs whose links one read asks for. */
const jobsPerRead = 200

/** Links to a job that is alive. Gives false when it has moved on since it was viewed. */
export const add = (
  wire: Wire,
  { address: parent, newest }: JobView,
  child: Subjects.Address,
  patience: number,
): Effect.Effect<boolean, NatsError> =>
  Effect.map(
    Conditional.publish(wire, parent.partition, {
      subject: wire.subjects.link(parent.partition, parent.id, child.id),
      payload: MessagePack.encode([child.partition, child.group, child.id]),
      expected: newest,
      filter: wire.subjects.job(parent),
      patience,
    }),
    (sequence) => sequence !== undefined,
  )

/** Removes the link from a job, wherever that is, to one that follows it. */
export const removeOne: (
  wire: Wire,
  parent: string,
  child: Subjects.Address,
) => Effect.Effect<void, NatsError> = Effect.fnUntraced(function* (wire, parent, child) {
  const { nats: { connection }, partitions, subjects } = wire
  const { partition } = Subjects.addressOf(parent, partitions)
  if (partition >= partitions) return
  const link = subjects.link(partition, parent, child.id)
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const found = yield* newestAtLeader(connection, stream, link)
  if (found !== undefined) yield* Conditional.remove(wire, partition, found.sequence)
})

const linkIn = ({ data, sequence }: StoredMessage): ReadonlyArray<Link> => {
  try {
    const child = Subjects.addressIn(MessagePack.decode(data))
    return child === undefined ? [] : [{ sequence, child }]
  } catch {
    return []
  }
}

/** All links from a job, oldest first, read at the leader. */
export const from: (
  wire: Wire,
  parent: Subjects.Address,
) => Effect.Effect<ReadonlyArray<Link>, NatsError> = Effect.fnUntraced(function* (wire, parent) {
  const stream = Subjects.jobsStream(wire.subjects.namespace, parent.partition)
  const filter = wire.subjects.linksFrom(parent.partition, parent.id)
  const links: Array<Link> = []
  for (let seq = 1;;) {
    const found = yield* (wire.replicated
      ? nextOf(wire, stream, filter, seq)
      : pageOf(wire, stream, filter, seq))
    links.push(...found.flatMap(linkIn))
    const last = found.at(-1)
    if (last === undefined) {
      return links
    }
    seq = last.sequence + 1
  }
})

/** The leader gives one at a time. */
const nextOf = ({ nats }: Wire, stream: string, filter: string, seq: number) =>
  Effect.map(
    nextAtLeader(nats.connection, stream, filter, { seq }),
    (found) => found === undefined ? [] : [found],
  )

const pageOf = ({ reader }: Wire, stream: string, filter: string, sequence: number) =>
  Effect.map(
    reader.page(stream, filter, { sequence, count: 1_000, bytes: 1024 * 1024 }),
    ({ messages }) => messages,
  )

/** A job that has just ended. */
export interface Ended {
  readonly id: string
  /** Subject and sequence of its record. */
  readonly subject: string
  readonly sequence: number
}

/**
 * Which of some jobs of one partition, whose records are stored, have links. Costs next to nothing
 * while the partition has no link at all, as in an installation that knows no continuations.
 */
export const parentsAmong: (
  wire: Wire,
  partition: number,
  jobs: ReadonlyArray<Ended>,
) => Effect.Effect<ReadonlySet<string>, NatsError> = Effect.fnUntraced(
  function* (wire, partition, jobs) {
    const { replicated, subjects } = wire
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    if (!replicated && (yield* Peek.count(wire, stream, [subjects.links(partition)])) === 0) {
      return new Set<string>()
    }
    const parents = new Set<string>()
    for (let at = 0; at < jobs.length; at += jobsPerRead) {
      const some = jobs.slice(at, at + jobsPerRead)
      for (const id of yield* parentsOf(wire, partition, stream, some)) parents.add(id)
    }
    return parents
  },
)

/** Reads the links of some jobs; of many links one by one, for a read of many has a bound. */
const parentsOf = Effect.fnUntraced(function* (
  { reader, replicated, subjects }: Wire,
  partition: number,
  stream: string,
  jobs: ReadonlyArray<Ended>,
): Effect.fn.Return<ReadonlyArray<string>, NatsError> {
  const filters = jobs.map(({ id }) => subjects.linksFrom(partition, id))
  // A replica that lags behind may not know a link, but it knows its lag: it lacks our own record too.
  const canary = jobs.reduce((a, b) => a.sequence > b.sequence ? a : b)
  const asked = replicated ? [...filters, canary.subject] : filters
  const parent = (subject: string) => subject.split(".").at(-2) as string
  for (let reads = 0; reads < readsOfReplicas; reads++) {
    const found = yield* Effect.catchTag(
      reader.newest(stream, asked),
      "Rejected",
      (error) => error.status === 413 ? Effect.succeed(undefined) : Effect.fail(error),
    )
    // So many links that it can't tell: all of them may have some.
    if (found === undefined) return jobs.map(({ id }) => id)
    const sawCanary = found.some(({ sequence, subject }) =>
      subject === canary.subject && sequence >= canary.sequence
    )
    if (replicated && !sawCanary) {
      yield* Effect.sleep("20 millis")
      continue
    }
    const links = found.filter(({ subject }) => subject !== canary.subject)
    return links.map(({ subject }) => parent(subject))
  }
  // The newest record may be gone again, because its job was requeued: each is looked at by itself.
  return jobs.map(({ id }) => id)
})
