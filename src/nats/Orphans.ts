/**
 * Ready messages that their consumer will never hand out: they lie below its acknowledgement floor, so
 * it takes them for done. A server that compacts its files can lose sight of messages in this way
 * (seen on 2.14.0), and so can an operator who moves a consumer forward. They are found by comparing
 * the stream with the consumer, and put back in front of it like any job that is given back.
 */
import * as Effect from "effect/Effect"
import * as Api from "./Api.ts"
import { Code, type NatsError } from "./errors.ts"
import { newestAtLeader, nextAtLeader, type StoredMessage } from "./Reader.ts"
import * as Subjects from "./Subjects.ts"
import type { QueueConsumer } from "./Topology.ts"
import type { Wire } from "./Wire.ts"

/** Where a consumer's orphans can be. */
export interface Lane {
  readonly partition: number
  readonly queue: string
  readonly consumer: QueueConsumer
}

interface ConsumerInfo {
  readonly ack_floor: { readonly stream_seq: number }
}

/**
 * Messages of a lane below its consumer's floor, lowest first, at most `limit`. One of them may be an
 * acknowledgement that the stream is about to carry out: only what is still there at a second look is
 * an orphan. Two requests when there is none.
 */
export const find: (
  wire: Wire,
  lane: Lane,
  limit: number,
) => Effect.Effect<ReadonlyArray<StoredMessage>, NatsError> = Effect.fnUntraced(
  function* ({ nats, subjects }, { consumer, partition, queue }, limit) {
    const { name, stream } = consumer
    const filter = subjects.lane(partition, queue, consumer.priority)
    const next = (seq: number) => nextAtLeader(nats.connection, stream, filter, { seq })
    let message = yield* next(1)
    if (message === undefined) return []
    const { ack_floor } = yield* Api.call<ConsumerInfo>(
      nats.connection,
      `CONSUMER.INFO.${stream}.${name}`,
      undefined,
      `reading the consumer ${name}`,
    )
    const found: Array<StoredMessage> = []
    while (
      message !== undefined && message.sequence <= ack_floor.stream_seq && found.length < limit
    ) {
      found.push(message)
      message = yield* next(message.sequence + 1)
    }
    return found
  },
)

/**
 * Puts an orphan back onto lane 0, on the condition that it is still its job's newest message; then
 * removes it where it was. Gives whether the job was put back: one that has moved on is only removed.
 */
export const rescue: (
  wire: Wire,
  subject: Subjects.JobSubject,
  message: StoredMessage,
) => Effect.Effect<boolean, NatsError> = Effect.fnUntraced(
  function* ({ nats, publisher, subjects }, subject, message) {
    const target = subjects.live("ready", subject.queue, 0, subject)
    const publication = {
      subject: target,
      payload: message.data,
      expected: message.sequence,
      filter: subjects.job(subject),
      patience: Api.requestTimeoutMillis,
    }
    const ack = yield* Effect.callback<string>((resume) => {
      publisher.publish(publication, ({ _tag }) => resume(Effect.succeed(_tag)))
    })
    const stream = Subjects.jobsStream(subjects.namespace, subject.partition)
    // A conflict decides nothing by itself: only what is known to be superseded is removed.
    const newest = ack === "Stored" || ack === "Conflict"
      ? yield* newestAtLeader(nats.connection, stream, subjects.job(subject))
      : undefined
    // An alarm that fired late says less than what it is newer than; who is given it sees to both.
    const isLate = subject.queue === Subjects.engineQueue && newest !== undefined &&
      subjects.parse(newest.subject)?.state === "ready" && ack === "Conflict"
    if (newest !== undefined && newest.sequence > message.sequence && !isLate) {
      yield* Effect.catchTag(
        Api.call(
          nats.connection,
          `STREAM.MSG.DELETE.${stream}`,
          { seq: message.sequence, no_erase: true },
          "removing a superseded message",
        ),
        "Rejected",
        // On its own subject the new message has replaced the old one.
        (error) => error.code === Code.sequenceNotFound ? Effect.void : Effect.fail(error),
      )
    }
    return ack === "Stored"
  },
)
