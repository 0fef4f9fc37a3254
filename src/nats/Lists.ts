/**
 * Reads the jobs of a state in pages, oldest or newest first, from the messages themselves.
 *
 * A page is read by sequence. Forwards the server does it; backwards it can't, so windows of sequences
 * below the cursor are read, wider where little lies in them and narrower where much does. Several
 * partitions are merged by the time of their messages. Nothing is held but the page and what was
 * read of the next one.
 */
import * as Effect from "effect/Effect"
import { finalStates, fromWire, isFinal, type WireState } from "../core/JobState.ts"
import type { NatsError } from "./errors.ts"
import { newestAtLeader, type StoredMessage } from "./Reader.ts"
import * as Records from "./Records.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** A stored message of a job, not decoded. */
export interface Found {
  readonly subject: Subjects.JobSubject
  readonly stored: StoredMessage
}

/** Part of what lies under a filter. */
export interface Scanned {
  /** In the order in which they were asked for. */
  readonly messages: ReadonlyArray<Found>
  /** Where to go on; `undefined` at the end. */
  readonly next: number | undefined
}

/** Most bytes of messages that one read asks for; a single message may be larger. */
const maxBytes = 8 * 1_024 * 1_024

const parse = (subjects: Subjects.Subjects, messages: ReadonlyArray<StoredMessage>) =>
  messages.flatMap((stored): ReadonlyArray<Found> => {
    const subject = subjects.parse(stored.subject)
    return subject === undefined ? [] : [{ subject, stored }]
  })

/**
 * The messages of a partition under a filter from a sequence on, lowest first: at most `limit`, and
 * fewer where they are large. What isn't a job's message is left out, and doesn't end the reading:
 * only a missing `next` does.
 *
 * Every page costs the server a count of what follows it, so larger ones are better: 100,000 messages
 * of 1 KB took 1.4 s in pages of 4,000 and 2.3 s in pages of 1,000, in 50 MB of memory either way.
 */
export const scan: (
  wire: Wire,
  partition: number,
  filter: Subjects.JobFilter,
  from: { readonly from: number; readonly limit: number; readonly bytes?: number | undefined },
) => Effect.Effect<Scanned, NatsError> = Effect.fnUntraced(
  function* ({ reader, subjects }, partition, filter, { bytes = maxBytes, from, limit }) {
    const { messages, pending } = yield* reader.page(
      Subjects.jobsStream(subjects.namespace, partition),
      subjects.jobs(partition, filter),
      { sequence: from, count: limit, bytes },
    )
    const last = messages.at(-1)
    return {
      messages: parse(subjects, messages),
      next: last === undefined || pending === 0 ? undefined : last.sequence + 1,
    }
  },
)

/** How much wider a window may be than the one before. */
const growth = 8

/** What {@link scanBack} gives: the width of its last window helps the next call. */
export interface ScannedBack extends Scanned {
  readonly window: number
}

/**
 * The messages of a partition under a filter below a sequence, highest first: at least `limit` unless
 * the end is near or they are large, at most about twice as many.
 */
export const scanBack: (
  wire: Wire,
  partition: number,
  filter: Subjects.JobFilter,
  from: {
    readonly below: number
    readonly limit: number
    readonly bytes?: number | undefined
    readonly window?: number | undefined
  },
) => Effect.Effect<ScannedBack, NatsError> = Effect.fnUntraced(
  function* ({ reader, subjects }, partition, filter, { bytes = maxBytes, limit, ...from }) {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const text = subjects.jobs(partition, filter)
    const messages: Array<Found> = []
    let { below, window = limit } = from
    let seen = 0
    let size = 0
    while (seen < limit && size < bytes && below > 1) {
      const low = Math.max(1, below - window)
      const page = yield* reader.page(stream, text, { sequence: low, count: limit + 1, bytes })
      const inside = page.messages.filter(({ sequence }) => sequence < below)
      const reached = page.pending === 0 || inside.length < page.messages.length ||
        inside.at(-1)?.sequence === below - 1
      // A single sequence holds a single message, so this ends.
      if (!reached) {
        window = Math.max(1, Math.floor(window / 4))
        continue
      }
      seen += inside.length
      for (const { data } of inside) size += data.length
      messages.push(...parse(subjects, inside).reverse())
      below = low
      const fitting = Math.ceil(window * (limit - seen) / Math.max(1, inside.length))
      window = inside.length > 0 && seen < limit
        ? Math.max(1, Math.min(window * growth, fitting))
        : inside.length > 0
        ? window
        : window * growth
    }
    return { messages, next: below > 1 ? below : undefined, window }
  },
)

/** Most subjects that are looked up at once. */
const maxLiterals = 1_000

const liveStates: ReadonlyArray<WireState> = ["ready", "later", "retry", "await"]

/** Every subject that another message of the job may lie on. */
const subjectsOf = (
  subjects: Subjects.Subjects,
  { envelope, stored, subject }: Records.JobMessage,
): ReadonlyArray<string> => {
  const { lane, queue } = Records.isRecord(subject)
    ? envelope
    : { queue: subject.queue, lane: Subjects.laneOf(subject) }
  const place = envelope.progress.place ?? { queue, lane }
  const others = new Set([
    ...finalStates.map((state) => subjects.final(state, envelope, subject)),
    ...liveStates.map((state) => subjects.live(state, queue, lane, subject)),
    ...liveStates.map((state) => subjects.live(state, place.queue, place.lane, subject)),
    subjects.live("ready", queue, 0, subject),
  ])
  others.delete(stored.subject)
  return [...others]
}

/** A job among those of all partitions and groups. */
export const keyOf = ({ group, id, partition }: Subjects.Address): string =>
  `${partition}.${group}.${id}`

/**
 * Those messages that say how their job stands: not a live one that its job's end has left behind,
 * nor one that a newer one supersedes (W5). Looks the jobs up, as many at once as the server allows.
 */
export const onlyCurrent: (
  wire: Wire,
  messages: ReadonlyArray<Records.JobMessage>,
) => Effect.Effect<ReadonlyArray<Records.JobMessage>, NatsError> = Effect.fnUntraced(
  function* ({ reader, subjects }, messages) {
    const ofJob = new Map<string, Array<Records.JobMessage>>()
    for (const message of messages) ofJob.set(keyOf(message.subject), [message])
    const lookUp = Effect.fnUntraced(function* (partition: number, filters: ReadonlyArray<string>) {
      const stream = Subjects.jobsStream(subjects.namespace, partition)
      const found = yield* reader.newest(stream, filters)
      for (const message of Records.parse(subjects, found)) {
        ofJob.get(keyOf(message.subject))?.push(message)
      }
    })
    const waiting = new Map<number, Array<string>>()
    for (const message of messages) {
      const { partition } = message.subject
      const others = subjectsOf(subjects, message)
      const filters = waiting.get(partition) ?? []
      if (filters.length + others.length > maxLiterals) {
        yield* lookUp(partition, filters)
        filters.length = 0
      }
      filters.push(...others)
      waiting.set(partition, filters)
    }
    for (const [partition, filters] of waiting) yield* lookUp(partition, filters)
    return messages.filter((message) => {
      const current = Records.current(ofJob.get(keyOf(message.subject)) ?? [])
      return current?.stored.sequence === message.stored.sequence
    })
  },
)

/** What is to be listed. */
export interface Query {
  readonly state: WireState
  readonly queue?: string | undefined
  readonly group?: string | undefined
  /** Which of the messages, by their content. */
  readonly accepts: (message: Records.JobMessage) => boolean
  /** Most jobs of the page. */
  readonly limit: number
  /** Where each partition goes on, from the page before; 0 for one that has ended. */
  readonly from?: ReadonlyArray<number> | undefined
}

/** One page. */
export interface Listed {
  readonly messages: ReadonlyArray<Records.JobMessage>
  /** Where each partition goes on; `undefined` when all have ended. */
  readonly next: ReadonlyArray<number> | undefined
}

/** Messages that one call reads at most; a page ends there, full or not. */
const maxScanned = 20_000

/** Most messages that are read at once where few of them are accepted. */
const maxRead = 4_000

/** Bytes of messages after which a page ends, full or not. */
const maxPageBytes = 16 * 1_024 * 1_024

/** One partition while a page is made. */
interface Source {
  readonly partition: number
  /** What was read and is not on the page, the next one last. */
  buffer: Array<Records.JobMessage>
  /** Where the next read begins; `undefined` when there is nothing left. */
  next: number | undefined
  /** Messages to read at once. */
  limit: number
  window: number | undefined
}

/**
 * One page of the jobs in a state: waiting ones oldest first, ended ones newest first. It may have
 * fewer jobs than `limit`, even none, while there is a `next`: when most of what was read isn't
 * accepted, or when the jobs are large.
 */
export const list: (wire: Wire, query: Query) => Effect.Effect<Listed, NatsError> = Effect
  .fnUntraced(function* (wire, { accepts, from, limit, ...filter }) {
    const { nats, partitions, subjects } = wire
    const backwards = isFinal(fromWire(filter.state))
    const newestOf = (partition: number) =>
      Effect.map(
        newestAtLeader(
          nats.connection,
          Subjects.jobsStream(subjects.namespace, partition),
          subjects.jobs(partition, filter),
        ),
        (newest) => newest === undefined ? undefined : newest.sequence + 1,
      )
    const bytes = Math.ceil(maxBytes / partitions)
    const sources = yield* Effect.forEach(
      Array.from({ length: partitions }, (_, partition) => partition),
      Effect.fnUntraced(function* (partition) {
        const next = from !== undefined
          ? from[partition] || undefined
          : backwards
          ? yield* newestOf(partition)
          : 1
        const share = Math.ceil(limit / partitions) + 16
        const source: Source = { partition, buffer: [], next, limit: share, window: undefined }
        return source
      }),
      { concurrency: 8 },
    )
    let scanned = 0
    const refill = Effect.fnUntraced(function* (source: Source) {
      while (source.buffer.length === 0 && source.next !== undefined && scanned < maxScanned) {
        const { limit, next: begin, partition, window } = source
        const read: Scanned & { readonly window?: number } = yield* backwards
          ? scanBack(wire, partition, filter, { below: begin, limit, bytes, window })
          : scan(wire, partition, filter, { from: begin, limit, bytes })
        // Also an empty read counts, so that many of them end.
        scanned += Math.max(limit, read.messages.length)
        source.next = read.next
        source.window = read.window
        const accepted = Records.parse(subjects, read.messages.map(({ stored }) => stored))
          .filter(accepts)
        if (accepted.length < limit / 4) source.limit = Math.min(maxRead, limit * 2)
        if (accepted.length > 0) source.buffer = [...yield* onlyCurrent(wire, accepted)].reverse()
      }
    })
    const page: Array<Records.JobMessage> = []
    const shown = new Set<string>()
    let size = 0
    while (page.length < limit && size < maxPageBytes) {
      yield* Effect.forEach(sources, refill, { concurrency: 8, discard: true })
      // Beyond a partition that was not read to its next job nothing can be said of the order.
      if (sources.some(({ buffer, next }) => buffer.length === 0 && next !== undefined)) break
      const first = sources.reduce<Source | undefined>((best, source) => {
        const head = source.buffer.at(-1)?.stored.time
        const other = best?.buffer.at(-1)?.stored.time
        if (head === undefined) return best
        return other === undefined || (backwards ? head > other : head < other) ? source : best
      }, undefined)
      const message = first?.buffer.pop()
      if (message === undefined) break
      const key = keyOf(message.subject)
      if (shown.has(key)) continue
      shown.add(key)
      size += message.stored.data.length
      page.push(message)
    }
    const next = sources.map(({ buffer, next = 0 }) => {
      const head = buffer.at(-1)?.stored.sequence
      return head === undefined ? next : backwards ? head + 1 : head
    })
    return { messages: page, next: next.some((sequence) => sequence > 0) ? next : undefined }
  })
