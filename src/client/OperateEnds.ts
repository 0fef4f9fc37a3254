/** What follows when many jobs have ended, or have their records removed. */
import * as Effect from "effect/Effect"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Links from "../nats/Links.ts"
import * as Lists from "../nats/Lists.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type * as Operate from "./Operate.ts"

/** Jobs all of whose messages one read asks for. */
const lookedUpWhole = 200

/** How often a replica that lags behind is asked. */
const maxReads = 10

/** Jobs that are operated on one by one at once. */
export const concurrency = 16

/** Sees to what follows from the ends of jobs whose records are stored. */
export const finishAll: (
  context: Operate.Context,
  partition: number,
  ended: ReadonlyArray<Subjects.Address & Links.Ended>,
) => Effect.Effect<void, NatsError> = Effect.fnUntraced(function* (
  { engine, wire },
  partition,
  ended,
) {
  if (ended.length === 0) return
  const parents = yield* Links.parentsAmong(wire, partition, ended)
  yield* Effect.forEach(
    ended.filter(({ id }) => parents.has(id)),
    (job) => engine.meet(job),
    { concurrency, discard: true },
  )
  const batches = new Set(ended.map(({ group }) => group))
  batches.delete(Subjects.noGroup)
  for (const batch of batches) engine.memberEnded(partition, batch)
})

/** Removes what lies of jobs beside their records, so that nothing makes them run again. */
export const removeCopies: (
  wire: Wire,
  partition: number,
  jobs: ReadonlyArray<Records.JobMessage>,
) => Effect.Effect<void, NatsError> = Effect.fnUntraced(function* (wire, partition, jobs) {
  const { reader, replicated, subjects } = wire
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const lacks = (found: ReadonlyArray<StoredMessage>, records: number) =>
    found.filter(({ subject: text }) => {
      const subject = subjects.parse(text)
      return subject !== undefined && Records.isRecord(subject)
    }).length < records
  for (let at = 0; at < jobs.length; at += lookedUpWhole) {
    const records = new Map(
      jobs.slice(at, at + lookedUpWhole)
        .map(({ stored, subject }) => [Lists.keyOf(subject), { stored, subject }]),
    )
    const filters = [...records.values()].map(({ subject }) => subjects.job(subject))
    let found = yield* reader.newest(stream, filters)
    // A replica that lags behind lacks records; what somebody else has removed stays away.
    for (let reads = 1; replicated && reads < maxReads && lacks(found, records.size); reads++) {
      yield* Effect.sleep("20 millis")
      found = yield* reader.newest(stream, filters)
    }
    // What a schedule has made of a job that was about to end is newer than its record.
    const late = new Set(
      Records.parse(subjects, found).filter(({ envelope, stored: { sequence }, subject }) => {
        const record = records.get(Lists.keyOf(subject))?.stored.sequence ?? 0
        return sequence > record && envelope.progress.after < record
      }).map(({ stored }) => stored.sequence),
    )
    const copies = found.filter(({ sequence, subject: text }) => {
      const subject = subjects.parse(text)
      const record = subject && records.get(Lists.keyOf(subject))
      return record !== undefined && (sequence < record.stored.sequence || late.has(sequence))
    })
    yield* Effect.forEach(
      copies,
      ({ sequence }) => Conditional.remove(wire, partition, sequence),
      { concurrency, discard: true },
    )
  }
})
