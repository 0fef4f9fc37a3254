/**
 * Looks whether NATS still has what it has acknowledged: that streams are the same and only grow, and
 * that jobs which were stored a moment ago are there. What is found can't be undone; it tells people
 * that a disk, a backup or a colleague has taken jobs away, before they are missed.
 */
import * as Effect from "effect/Effect"
import type { Sample } from "./Acknowledged.ts"
import { streamInfo } from "./DurabilityFacts.ts"
import { Code, type NatsError } from "./errors.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** What was found. The codes are stable. */
export interface Finding {
  readonly code:
    /** The stream isn't the one that was there: somebody has deleted and made it. */
    | "streamRecreated"
    /** The stream ends before what it has acknowledged. */
    | "streamRolledBack"
    /** Jobs that were acknowledged are neither waiting nor recorded. */
    | "jobsMissing"
  readonly stream: string
  /** What it is and what to do, for people. */
  readonly message: string
}

/** Looks once more; gives what is found since the look before. */
export type Look = Effect.Effect<ReadonlyArray<Finding>, NatsError>

/** Samples whose fate is remembered. */
const remembered = 16

/** Of so many samples half must be missing: one job may have been removed by hand. */
const leastMissing = 3

interface Seen {
  readonly created: string
  readonly last: number
}

const consequence = "jobs that were acknowledged may be gone: compare with a backup, and look at " +
  "the disk, the sync setting and the log of the NATS servers"

/** Makes the look of one process. */
export const make = (wire: Wire): Look => {
  const { nats, partitions, publisher, reader, subjects } = wire
  const { acknowledged } = publisher
  const seen = new Map<number, Seen>()
  /** Whether the last samples were there. */
  let fates: ReadonlyArray<boolean> = []

  const read = (stream: string): Effect.Effect<Seen | undefined, NatsError> =>
    streamInfo(nats.connection, stream).pipe(
      Effect.map(({ created, state }) => ({ created, last: state.last_seq })),
      // Its loss is a matter of health.
      Effect.catchTag(
        "Rejected",
        (error) => error.code === Code.streamNotFound ? Effect.undefined : Effect.fail(error),
      ),
    )

  const lookAt = Effect.fnUntraced(function* (
    partition: number,
  ): Effect.fn.Return<ReadonlyArray<Finding>, NatsError> {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    // Before the stream is asked: what is acknowledged later is no measure of its answer.
    const highest = acknowledged.highest(partition)
    const before = seen.get(partition)
    const state = yield* read(stream)
    if (state === undefined) return []
    const { created, last } = state
    seen.set(partition, { created, last })
    // The time alone says nothing: up to 2.14.0 at least, a server that is restarted after the settings
    // of a stream were changed tells another one. A stream made anew begins at its beginning.
    if (before !== undefined && before.created !== created && last < before.last) {
      acknowledged.forget(partition)
      const message = `stream ${stream} was made anew at ${created}: ${consequence}`
      return [{ code: "streamRecreated", stream, message }]
    }
    const known = Math.max(highest, before?.last ?? 0)
    if (last >= known) return []
    acknowledged.forget(partition)
    const message = `stream ${stream} ends at ${last}, though it had acknowledged ${known}: ` +
      `${known - last} messages are lost; ${consequence}`
    return [{ code: "streamRolledBack", stream, message }]
  })

  /** Jobs of users; those of the engine may leave no record. */
  const addressOf = ({ subject }: Sample): Subjects.JobSubject | undefined => {
    const parsed = subjects.parse(subject)
    const isJob = parsed !== undefined && !parsed.queue.startsWith("_") &&
      (parsed.state === "ready" || parsed.state === "later")
    return isJob ? parsed : undefined
  }

  const lookForJobs = Effect.fnUntraced(function* (
    partition: number,
    jobs: ReadonlyArray<Subjects.JobSubject>,
  ): Effect.fn.Return<ReadonlyArray<Finding>, NatsError> {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const found = yield* reader.newest(stream, jobs.map(subjects.job))
    const there = new Set(found.map(({ subject }) => subjects.parse(subject)?.id))
    fates = [...fates, ...jobs.map(({ id }) => there.has(id))].slice(-remembered)
    const missing = fates.filter((isThere) => !isThere).length
    if (missing < leastMissing || missing * 2 < fates.length) return []
    fates = []
    const message = `of the last ${jobs.length} jobs of stream ${stream} that were looked for, ` +
      `${missing} are neither waiting nor recorded: somebody has purged them, or ${consequence}`
    return [{ code: "jobsMissing", stream, message }]
  })

  return Effect.gen(function* () {
    const findings: Array<Finding> = []
    const samples = acknowledged.take().map(addressOf).filter((job) => job !== undefined)
    for (let partition = 0; partition < partitions; partition++) {
      const found = yield* lookAt(partition)
      findings.push(...found)
      const jobs = samples.filter((job) => job.partition === partition)
      // What a stream that has lost its end lacks is told.
      if (found.length === 0 && jobs.length > 0) {
        findings.push(...yield* lookForJobs(partition, jobs))
      }
    }
    return findings
  })
}
