/**
 * One conditional write, as an effect: how everybody but a server's committer moves a job on (W1).
 */
import * as Effect from "effect/Effect"
import * as Api from "./Api.ts"
import { Code, type NatsError, Rejected, Unavailable } from "./errors.ts"
import type { Publication } from "./Publisher.ts"
import { newestAtLeader } from "./Reader.ts"
import { jobsStream } from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** Header lines by which a publish removes the schedule that it supersedes, in one write (W3). */
export const supersedeLines = (subject: string): string =>
  `Nats-Schedule-Next: purge\r\nNats-Scheduler: ${subject}\r\n`

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

/**
 * Publishes under a condition. Gives the sequence it is stored at, or `undefined` when somebody else
 * has written under the filter since. A conflict after a try whose answer got lost is looked at: the
 * newest message may be that try.
 */
export const publish = (
  wire: Wire,
  partition: number,
  publication: Publication & { readonly expected: number },
): Effect.Effect<number | undefined, NatsError> =>
  Effect.flatMap(
    Effect.callback<Effect.Effect<number | undefined, NatsError>>((resume) => {
      const { subject } = publication
      wire.publisher.publish(publication, (ack) => {
        switch (ack._tag) {
          case "Stored":
            return resume(Effect.succeed(Effect.succeed(ack.sequence)))
          case "Conflict":
            return resume(Effect.succeed(
              ack.repeated ? ownSequence(wire, partition, publication) : Effect.succeed(undefined),
            ))
          case "Refused": {
            const { code, description } = ack
            const operation = `writing ${subject}`
            const refusal = new Rejected({ operation, code, status: 0, description })
            return resume(Effect.succeed(Effect.fail(refusal)))
          }
          case "Unknown":
            return resume(Effect.succeed(
              Effect.fail(new Unavailable({ operation: `writing ${subject}` })),
            ))
        }
      })
    }),
    (answer) => answer,
  )

const ownSequence = (
  { nats, subjects }: Wire,
  partition: number,
  { filter, payload, subject }: Publication,
): Effect.Effect<number | undefined, NatsError> =>
  Effect.map(
    newestAtLeader(nats.connection, jobsStream(subjects.namespace, partition), filter),
    (newest) =>
      newest !== undefined && newest.subject === subject && sameBytes(newest.data, payload)
        ? newest.sequence
        : undefined,
  )

/** Deletes one message; that it is gone already is as good. */
export const remove = (
  { nats, subjects }: Wire,
  partition: number,
  sequence: number,
): Effect.Effect<void, NatsError> =>
  Api.call(
    nats.connection,
    `STREAM.MSG.DELETE.${jobsStream(subjects.namespace, partition)}`,
    { seq: sequence, no_erase: true },
    `deleting message ${sequence}`,
  ).pipe(
    Effect.asVoid,
    Effect.catchTag("Rejected", (error) =>
      error.code === Code.sequenceNotFound ? Effect.void : Effect.fail(error)),
  )
