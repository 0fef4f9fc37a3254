/** Goes through the messages of jobs in the streams, page by page. */
import * as Effect from "effect/Effect"
import * as Api from "../nats/Api.ts"
import type { NatsError } from "../nats/errors.ts"
import { nextAtLeader, type StoredMessage } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"

/** Messages of one page, and most bytes in them. */
const pageSize = 400
const pageBytes = 4 * 1_024 * 1_024

/** All partitions. */
export const partitionsOf = ({ partitions }: Wire): ReadonlyArray<number> =>
  Array.from({ length: partitions }, (_, partition) => partition)

/** The newest sequence of every partition. */
export const newestSequences = (
  { nats, partitions, subjects }: Wire,
): Effect.Effect<ReadonlyArray<number>, NatsError> =>
  Effect.forEach(
    Array.from({ length: partitions }, (_, partition) => partition),
    (partition) => {
      const stream = Subjects.jobsStream(subjects.namespace, partition)
      return Effect.map(
        Api.call<{ readonly state: { readonly last_seq: number } }>(
          nats.connection,
          `STREAM.INFO.${stream}`,
          undefined,
          `reading the state of ${stream}`,
        ),
        ({ state }) => state.last_seq,
      )
    },
    { concurrency: 8 },
  )

/** Messages that were read, and the jobs they are of. */
export interface Page {
  readonly read: ReadonlyArray<StoredMessage>
  readonly jobs: ReadonlyArray<Records.JobMessage>
}

/** Goes through the messages under a filter from one sequence to another, both included. */
export const scan = <E>(
  { nats, reader, replicated, subjects }: Wire,
  partition: number,
  filter: Subjects.JobFilter,
  [from, to]: readonly [number, number],
  use: (page: Page) => Effect.Effect<void, E>,
): Effect.Effect<void, E | NatsError> =>
  Effect.gen(function* () {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const text = subjects.jobs(partition, filter)
    for (let sequence = from; sequence <= to;) {
      const page = yield* reader.page(stream, text, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const read = page.messages.filter((message) => message.sequence <= to)
      const last = page.messages.at(-1)
      if (last !== undefined) sequence = last.sequence + 1
      if (read.length > 0) yield* use({ read, jobs: Records.parse(subjects, read) })
      if (last !== undefined && page.pending > 0) continue
      // A replica that lags behind doesn't know the end.
      const next = replicated
        ? yield* nextAtLeader(nats.connection, stream, text, { seq: sequence })
        : undefined
      if (next === undefined || next.sequence > to) return
      yield* Effect.sleep("20 millis")
    }
  })
