/**
 * One conditional write, as an effect: how everybody but a server's committer moves a job on (W1).
 */
import * as Effect from "effect/Effect"
import * as Bytes from "../core/Bytes.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Api from "./Api.ts"
import { Code, type NatsError, Rejected, Unavailable } from "./errors.ts"
import type { Ack, Publication } from "./Publisher.ts"
import { newestAtLeader } from "./Reader.ts"
import { jobsStream } from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** Header lines by which a publish removes the schedule that it supersedes, in one write (W3). */
export const supersedeLines = (subject: string): string =>
  `Nats-Schedule-Next: purge\r\nNats-Scheduler: ${subject}\r\n`

/** What an answer to a publish means that neither stored it nor found a conflict. */
export const failureOf = (
  ack: Ack,
  subject: string,
): Effect.Effect<never, NatsError> | undefined => {
  const operation = `writing ${subject}`
  switch (ack._tag) {
    case "Refused": {
      const { code, description } = ack
      return Effect.fail(new Rejected({ operation, code, status: 0, description }))
    }
    case "Unknown":
      return Effect.fail(new Unavailable({ operation }))
    default:
      return undefined
  }
}

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
    Effect.callback<Ack>((resume) => {
      wire.publisher.publish(publication, (ack) => resume(Effect.succeed(ack)))
    }),
    (ack) =>
      failureOf(ack, publication.subject) ?? (
        ack._tag === "Stored"
          ? Effect.succeed(ack.sequence)
          : ack._tag === "Conflict" && ack.repeated
          ? ownSequence(wire, partition, publication)
          : Effect.succeed(undefined)
      ),
  )

const ownSequence = (
  { nats, subjects }: Wire,
  partition: number,
  { filter, payload, subject }: Publication,
): Effect.Effect<number | undefined, NatsError> =>
  Effect.map(
    newestAtLeader(nats.connection, jobsStream(subjects.namespace, partition), filter),
    (newest) =>
      newest !== undefined && newest.subject === subject && Bytes.same(newest.data, payload)
        ? newest.sequence
        : undefined,
  )

/** Deletes one message, and tells whether it was there. */
export const take = (
  { nats, subjects }: Wire,
  partition: number,
  sequence: number,
): Effect.Effect<boolean, NatsError> =>
  Api.call(
    nats.connection,
    `STREAM.MSG.DELETE.${jobsStream(subjects.namespace, partition)}`,
    { seq: sequence, no_erase: true },
    `deleting message ${sequence}`,
  ).pipe(
    Effect.as(true),
    Effect.catchTag("Rejected", (error) =>
      error.code === Code.sequenceNotFound || error.code === Code.messageNotDeleted
        ? Effect.succeed(false)
        : Effect.fail(error)),
  )

/** Deletes one message; that it is gone already is as good. */
export const remove = (
  wire: Wire,
  partition: number,
  sequence: number,
): Effect.Effect<void, NatsError> => Effect.asVoid(take(wire, partition, sequence))

/** Messages that one announcement names. */
const announced = 1_000

/**
 * Tells all servers that messages of ready jobs are superseded: who holds one drops it, or interrupts
 * the attempt that runs for it. A hint: whoever misses it can't write an outcome anyway.
 */
export const announceVoid = (
  { nats, subjects }: Wire,
  partition: number,
  sequences: ReadonlyArray<number>,
): void => {
  for (let at = 0; at < sequences.length; at += announced) {
    try {
      const some = sequences.slice(at, at + announced)
      nats.connection.publish(subjects.control("void"), MessagePack.encode([partition, some]))
    } catch {
      // Without a connection nobody can be told.
    }
  }
}
