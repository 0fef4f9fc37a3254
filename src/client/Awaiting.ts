/**
 * Waits for jobs to end: one registry per client for all that it waits for.
 *
 * Servers are told of the interest and send a notice when a job has ended; its record is then read.
 * A notice is only a hint and may get lost, so whatever is waited for is read now and then, too: after
 * a quarter of a second at first, then less and less often, down to every five seconds.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { JobId } from "../core/JobId.ts"
import { type NatsError, Unavailable } from "../nats/errors.ts"
import * as Notices from "../nats/Notices.ts"
import * as JobView from "../nats/JobView.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { AwaitTimedOut } from "./JobOutcome.ts"
import { JobNotFound, UnreadableRecord } from "./JobRecord.ts"

export { announceEnded } from "../nats/Notices.ts"

/** Why waiting ended without a final record. */
export type AwaitingError = JobNotFound | UnreadableRecord | AwaitTimedOut | NatsError

type End = Effect.Effect<Records.JobMessage, Exclude<AwaitingError, AwaitTimedOut>>

/** Waits for jobs. */
export interface Awaiting {
  /**
   * The final message of a job, also of one that has ended before: the first one that is seen.
   * `within` in milliseconds; `undefined` for as long as it takes.
   */
  readonly ended: (
    id: JobId,
    within: number | undefined,
  ) => Effect.Effect<Records.JobMessage, AwaitingError>
  /**
   * Stores a job and waits for its end. `store` gives the id to `before` and waits for that before it
   * publishes, so that the servers know of the interest when they get the job. The time runs from when
   * the job is stored.
   */
  readonly storedAndEnded: <E>(
    store: (before: (id: JobId) => Effect.Effect<void>) => Effect.Effect<JobId, E>,
    within: number | undefined,
  ) => Effect.Effect<Records.JobMessage, E | AwaitingError>
  /** How many jobs are waited for. */
  readonly size: () => number
}

/** A job that somebody waits for. */
interface Entry {
  readonly id: JobId
  /** Where it is read; a member of a batch is found only by a search. */
  address: Subjects.Address
  /** Who is told of the end. Nothing is read while nobody is, since the job may not be stored yet. */
  readonly waiters: Set<(end: End) => void>
  /** How many have opened it and not closed it. */
  users: number
  /** Whether the servers have been told. */
  announced: boolean
  /** Whether a notice has come that no read has followed yet. */
  noticed: boolean
  /** Whether it is in line for a read, or being read. */
  reading: boolean
  /** When it is read if no notice comes, on the monotonic clock. */
  due: number
  /** How long after that it is read again. */
  delay: number
}

const firstDelayMillis = 250
const longestDelayMillis = 5_000
/** How often it is looked whether something is due. */
const tickMillis = 250
/** How often servers are told again; they forget after three times as long. */
const announceEveryMillis = Notices.interestMillis / 3
/** Jobs per read: a read may match at most 1,024 messages, and a job rarely has more than two. */
const jobsPerRead = 200
/** Reads that are under way at most: what comes meanwhile makes the next ones fuller. */
const readsAtOnce = 4

const gone = () => new Unavailable({ operation: "waiting for a job, the client was closed" })

/** Makes the registry of a client; whatever is waited for when its scope closes ends `Unavailable`. */
export const make: (wire: Wire) => Effect.Effect<Awaiting, never, Scope.Scope> = Effect.fnUntraced(
  function* (wire) {
    const { nats, reader, replicated, subjects } = wire
    const client = Notices.newClient()
    const entries = new Map<JobId, Entry>()
    const lines = Array.from({ length: wire.partitions }, (): Array<Entry> => [])
    const busy = Latch.makeUnsafe(false)
    const runFork = yield* FiberSet.makeRuntime<never>()
    let reads = 0
    let closed = false

    const finish = (entry: Entry, end: End) => {
      const waiters = [...entry.waiters]
      entry.waiters.clear()
      for (const tell of waiters) tell(end)
    }

    /** Ends the wait if the messages hold the job's final one. */
    const decides = (entry: Entry, messages: ReadonlyArray<StoredMessage>): boolean => {
      const message = Records.current(Records.parse(subjects, messages))
      if (message !== undefined) {
        const final = Records.isRecord(message.subject)
        if (final) finish(entry, Effect.succeed(message))
        return final
      }
      const final = messages.some(({ subject }) => {
        const parsed = subjects.parse(subject)
        return parsed !== undefined && Records.isRecord(parsed)
      })
      const reason = "its bytes are no job of a version that this engine reads"
      const error = new UnreadableRecord({ id: entry.id, field: "message", reason })
      if (final) finish(entry, Effect.fail(error))
      return final
    }

    /** Looks for it everywhere, as the leader knows it. */
    const search = (entry: Entry, missing: boolean): Effect.Effect<void> =>
      Effect.match(JobView.find(wire, entry.id), {
        // What NATS can't answer now is asked again with the next read.
        onFailure: () => {},
        onSuccess: (view) => {
          if (view !== undefined) {
            entry.address = view.address
            decides(entry, [view.current.stored])
          } else if (missing) finish(entry, Effect.fail(new JobNotFound({ id: entry.id })))
        },
      })

    const read = Effect.fnUntraced(function* (partition: number, some: ReadonlyArray<Entry>) {
      const stream = Subjects.jobsStream(subjects.namespace, partition)
      const lagging = new Set<Entry>()
      const missing = new Set<Entry>()
      for (const entry of some) {
        // The record is at the leader by then, but maybe not yet at the replica that answers.
        if (entry.noticed && replicated) lagging.add(entry)
        entry.noticed = false
      }
      const found = yield* reader.newest(stream, some.map(({ address }) => subjects.job(address)))
      const byId = new Map<JobId, Array<StoredMessage>>()
      for (const stored of found) {
        const id = subjects.parse(stored.subject)?.id ?? ""
        const list = byId.get(id)
        if (list === undefined) byId.set(id, [stored])
        else list.push(stored)
      }
      for (const entry of some) {
        const messages = byId.get(entry.id)
        if (messages === undefined) missing.add(entry)
        else if (decides(entry, messages)) lagging.delete(entry)
      }
      const doubtful = new Set([...lagging, ...missing])
      yield* Effect.forEach(doubtful, (entry) => search(entry, missing.has(entry)), {
        concurrency: 8,
        discard: true,
      })
    })

    const readSome = (partition: number, some: ReadonlyArray<Entry>): Effect.Effect<void> =>
      read(partition, some).pipe(
        Effect.catch((error) =>
          Effect.sync(() => {
            // What NATS can't answer now is asked again; what it refuses, it would refuse again.
            if (error._tag === "Unavailable") return
            for (const entry of some) finish(entry, Effect.fail(error))
          })
        ),
        Effect.ensuring(Effect.sync(() => {
          reads--
          for (const entry of some) {
            entry.reading = false
            entry.due = performance.now() + entry.delay
            entry.delay = Math.min(longestDelayMillis, entry.delay * 2)
            if (entry.noticed) line(entry)
          }
          pump()
        })),
      )

    const pump = () => {
      for (const [partition, waiting] of lines.entries()) {
        while (reads < readsAtOnce && waiting.length > 0) {
          const some = waiting.splice(0, jobsPerRead).filter((entry) => {
            entry.reading = entry.waiters.size > 0
            return entry.reading
          })
          if (some.length === 0) continue
          reads++
          runFork(readSome(partition, some))
        }
      }
    }

    /** What gets in line in the same turn of the event loop is read together. */
    let pumping = false
    const line = (entry: Entry) => {
      if (entry.reading || entry.waiters.size === 0) return
      const waiting = lines[entry.address.partition]
      // An id from elsewhere may look like one of ours in a partition that isn't there.
      if (waiting === undefined) {
        return finish(entry, Effect.fail(new JobNotFound({ id: entry.id })))
      }
      entry.reading = true
      waiting.push(entry)
      if (pumping) return
      pumping = true
      queueMicrotask(() => {
        pumping = false
        pump()
      })
    }

    let fresh: Array<Entry> = []
    let announced: Array<() => void> = []
    let announceAt = 0
    const announceFresh = () => {
      const known = fresh
      const told = announced
      fresh = []
      announced = []
      Notices.announceInterest(wire, client, known.map(({ id }) => id))
      for (const entry of known) entry.announced = true
      for (const tell of told) tell()
    }
    const announceAll = () => {
      announceAt = performance.now() + announceEveryMillis
      Notices.announceInterest(wire, client, [...entries.keys()])
    }

    let stopListening: (() => void) | undefined
    const noticed = (ids: ReadonlyArray<JobId>) => {
      for (const id of ids) {
        const entry = entries.get(id)
        if (entry === undefined) continue
        entry.noticed = true
        line(entry)
      }
    }

    const open = (id: JobId): Entry => {
      if (!closed) stopListening ??= Notices.onEnded(wire, client, noticed)
      let entry = entries.get(id)
      if (entry === undefined) {
        entry = {
          id,
          address: Subjects.addressOf(id, wire.partitions),
          waiters: new Set(),
          users: 0,
          announced: false,
          noticed: false,
          reading: false,
          due: 0,
          delay: firstDelayMillis,
        }
        if (entries.size === 0) {
          announceAt = performance.now() + announceEveryMillis
          busy.openUnsafe()
        }
        entries.set(id, entry)
        fresh.push(entry)
        if (fresh.length === 1) queueMicrotask(announceFresh)
      }
      entry.users++
      return entry
    }

    const close = (entry: Entry) => {
      if (--entry.users > 0) return
      entries.delete(entry.id)
      if (entries.size === 0) busy.closeUnsafe()
    }

    /** Waits until the servers have been told, for as long as it takes to send a message. */
    const hasAnnounced = (entry: Entry): Effect.Effect<void> =>
      Effect.callback((resume) => {
        if (entry.announced) resume(Effect.void)
        else announced.push(() => resume(Effect.void))
      })

    /** Waits for the end; unless the job is new, it is read at once. */
    const end = (entry: Entry, isNew: boolean): End =>
      Effect.callback((resume) => {
        if (closed) return resume(Effect.fail(gone()))
        entry.waiters.add(resume)
        if (!isNew || entry.noticed) line(entry)
        else if (entry.due === 0) entry.due = performance.now() + firstDelayMillis
        return Effect.sync(() => entry.waiters.delete(resume))
      })

    const limited = (
      entry: Entry,
      isNew: boolean,
      within: number | undefined,
    ): Effect.Effect<Records.JobMessage, AwaitingError> =>
      within === undefined ? end(entry, isNew) : Effect.timeoutOrElse(end(entry, isNew), {
        duration: within,
        orElse: () => Effect.fail(new AwaitTimedOut({ id: entry.id, within })),
      })

    const using = <A, E>(
      id: JobId,
      use: (entry: Entry) => Effect.Effect<A, E>,
    ): Effect.Effect<A, E> =>
      Effect.acquireUseRelease(
        Effect.sync(() => open(id)),
        use,
        (entry) => Effect.sync(() => close(entry)),
      )

    const ended: Awaiting["ended"] = (id, within) =>
      using(id, (entry) => Effect.andThen(hasAnnounced(entry), limited(entry, false, within)))

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        nats.onReconnect(() => {
          if (entries.size === 0) return
          announceAll()
          for (const entry of entries.values()) line(entry)
        })
      ),
      (stop) =>
        Effect.sync(() => {
          stop()
          stopListening?.()
          closed = true
          for (const entry of entries.values()) finish(entry, Effect.fail(gone()))
        }),
    )
    const tick = Effect.sync(() => {
      const now = performance.now()
      for (const entry of entries.values()) if (entry.due <= now) line(entry)
      if (announceAt <= now) announceAll()
    })
    yield* Effect.forkScoped(
      Effect.forever(Effect.andThen(busy.await, Effect.andThen(Effect.sleep(tickMillis), tick))),
    )

    return {
      ended,
      storedAndEnded: (store, within) =>
        Effect.suspend(() => {
          let opened: Entry | undefined
          const before = (id: JobId) =>
            Effect.suspend(() => {
              opened ??= open(id)
              return hasAnnounced(opened)
            })
          return Effect.ensuring(
            // Another id than that of the new job is one that was there before.
            Effect.flatMap(store(before), (id): ReturnType<Awaiting["ended"]> =>
              opened?.id === id ? limited(opened, true, within) : ended(id, within)),
            Effect.sync(() => {
              if (opened !== undefined) {
                close(opened)
              }
            }),
          )
        }),
      size: () => entries.size,
    }
  },
)
