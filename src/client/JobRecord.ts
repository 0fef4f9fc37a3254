/**
 * A job as it can be read at any time: what it is, where it stands, and all its attempts.
 *
 * @module
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { Codec, Mismatch } from "../core/Codec.ts"
import type { Ending } from "../core/Attempt.ts"
import type { JobId } from "../core/JobId.ts"
import type * as JobState from "../core/JobState.ts"
import { Encrypted } from "../core/Encryption.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Priority from "../core/Priority.ts"
import { type JobMessage, stateOf } from "../nats/Records.ts"
import { noGroup } from "../nats/Subjects.ts"
import { inputOf, type Options, placeOf } from "../core/Envelope.ts"
import { deadlineOf } from "../core/Expiry.ts"
import * as Sealed from "../core/Sealed.ts"
import { whyNot } from "./Unlock.ts"
import type { PayloadCodec } from "./Versions.ts"

/** One attempt of a job. */
export interface AttemptRecord<out E = unknown> {
  /** Counts from 1. */
  readonly number: number
  /** Id of the server that ran it. */
  readonly server: string
  /** When the handler began. */
  readonly started: Date
  /** When it ended. */
  readonly ended: Date
  /** How it ended. */
  readonly ending: Ending
  /** The handler's typed error. */
  readonly error?: E | undefined
  /** Message of the error or defect, cut to 2,000 characters. */
  readonly message?: string | undefined
  /** Its stack, cut to 4,000 characters. */
  readonly stack?: string | undefined
}

/** What is known of a job. */
export interface JobRecord<out P = unknown, out A = unknown, out E = unknown> {
  /** Its id. */
  readonly id: JobId
  /** Name of its definition. */
  readonly name: string
  /** Where it stands. */
  readonly state: JobState.JobState
  /** Changes with everything that happens to it: what a page has seen is told by it. */
  readonly revision: number
  /** Queue it waits in, or waited in last. */
  readonly queue: string
  /** Priority in its queue. */
  readonly priority: Priority.Priority
  /** When it was created, by the NATS server's clock like all times here. */
  readonly created: Date
  /** When it has to be finished, of a job with a deadline. */
  readonly deadline?: Date | undefined
  /** Version of its payload; `Job.get` gives a payload of the definition's version all the same. */
  readonly version: number
  /** What it was given. */
  readonly payload: P
  /** When it is to run, for a scheduled or retrying job. */
  readonly due?: Date | undefined
  /** When it ended. */
  readonly ended?: Date | undefined
  /** The handler's result, for a job that succeeded. */
  readonly result?: A | undefined
  /** Why, for a job that failed or was cancelled. */
  readonly reason?: string | undefined
  /** The attempts; of more than ten the first five and the last five. */
  readonly attempts: ReadonlyArray<AttemptRecord<E>>
  /** Attempts that count towards the retry policy. */
  readonly attemptCount: number
  /** How often the handler snoozed it. */
  readonly snoozes: number
  /** How often a server was lost while it ran it. */
  readonly lost: number
  /** The jobs that it follows, and how those ended that have. */
  readonly parents: ReadonlyArray<ParentRecord>
  /** Id of the batch that it is a member of. */
  readonly batch?: JobId | undefined
  /** The recurring entry that it is a run of. */
  readonly recurring?: RecurringOrigin | undefined
  /** Who runs it now, for a job that is processing. */
  readonly running?: RunningAttempt | undefined
}

/** Where a run of a recurring entry comes from. */
export interface RecurringOrigin {
  /** Id of the entry. */
  readonly entry: string
  /** The nominal time; of a run by hand when it was asked for. */
  readonly at: Date
}

/** The recurring entry that a job is a run of; `undefined` for any other job. */
export const originOf = ({ recurring }: Options): RecurringOrigin | undefined =>
  recurring && { entry: recurring[0], at: new Date(recurring[1]) }

/** A job that another one follows. */
export interface ParentRecord {
  /** Its id. */
  readonly id: JobId
  /** How it ended; absent while it hasn't. */
  readonly state?: JobState.FinalState | undefined
}

/** An attempt that is under way. */
export interface RunningAttempt {
  /** Number of the attempt. */
  readonly number: number
  /** Id of the server. */
  readonly server: string
  /** When it began. */
  readonly started: Date
}

/** No job has this id: it never existed, or its record has reached the end of its retention. */
export class JobNotFound extends Data.Error<{
  /** The id that was asked for. */
  readonly id: JobId
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "JobNotFound"
  /** Name in stack traces. */
  override readonly name = "JobNotFound"
  /** One sentence a person can act on. */
  override get message(): string {
    return `no job has the id ${this.id}: it never existed, or its record is past its retention`
  }
}

/** A record doesn't match the schemas of the definition it is read with. */
export class UnreadableRecord extends Data.Error<{
  /** The job. */
  readonly id: JobId
  /** Which part, for example `payload.to`. */
  readonly field: string
  /** What the schema said. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "UnreadableRecord"
  /** Name in stack traces. */
  override readonly name = "UnreadableRecord"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.id}: ${this.field} can't be read with its schema: ` +
      `${this.reason}. Client.get reads it without schemas.`
  }
}

/** How the parts of a record are decoded. */
export interface Decoders<P, A, E> {
  readonly payload: Pick<PayloadCodec<P>, "decode">
  readonly success: Pick<Codec<A>, "decode">
  readonly error: Pick<Codec<E>, "decode">
}

/** What bytes say without a schema: a plain value, or the bytes themselves where they hold none. */
export const plainOf = (bytes: Uint8Array): unknown => {
  try {
    return Sealed.replaced(MessagePack.decode(bytes), ({ keyId }) => new Encrypted(keyId))
  } catch {
    return bytes
  }
}

const plain: Pick<Codec<unknown>, "decode"> = {
  decode: (bytes) => Effect.succeed(plainOf(bytes)),
}

/**
 * Decoders that need no schema: MessagePack's plain values, bytes for what isn't that, and
 * `Encrypted` for what is still encrypted.
 */
export const plainDecoders: Decoders<unknown, unknown, unknown> = {
  payload: plain,
  success: plain,
  error: plain,
}

/** Builds the record from the message that counts. */
export const fromMessage: <P, A, E>(
  message: JobMessage,
  decoders: Decoders<P, A, E>,
) => Effect.Effect<JobRecord<P, A, E>, UnreadableRecord> = Effect.fnUntraced(
  function* <P, A, E>(message: JobMessage, decoders: Decoders<P, A, E>) {
    const { envelope, stored, subject } = message
    const { outcome, progress } = envelope
    const place = placeOf(envelope)
    const input = inputOf(envelope)
    const part = <B>(
      field: string,
      codec: Pick<Codec<B>, "decode">,
      bytes: Uint8Array,
    ): Effect.Effect<B, UnreadableRecord> =>
      Effect.mapError(
        codec.decode(bytes),
        (mismatch: Mismatch) => {
          const { path, reason } = whyNot(bytes, mismatch)
          return new UnreadableRecord({ id: subject.id, field: field + path, reason })
        },
      )
    // No payload takes no bytes: this is a record that would not have fitted with its input.
    if (envelope.payload.length === 0 && decoders !== plainDecoders) {
      const reason = "the record was too large to keep its input"
      return yield* new UnreadableRecord({ id: subject.id, field: "payload", reason })
    }
    const { version = 1 } = envelope.options
    const deadline = deadlineOf(envelope)
    const attempts: Array<AttemptRecord<E>> = []
    for (const [index, attempt] of progress.history.entries()) {
      attempts.push({
        number: attempt.number,
        server: attempt.server,
        started: new Date(attempt.started),
        ended: new Date(attempt.ended),
        ending: attempt.ending,
        message: attempt.message,
        stack: attempt.stack,
        error: attempt.error === undefined
          ? undefined
          : yield* part(`attempts[${index}].error`, decoders.error, attempt.error),
      })
    }
    const record: JobRecord<P, A, E> = {
      id: subject.id,
      name: envelope.name,
      state: stateOf(message),
      revision: stored.sequence,
      queue: place.queue,
      priority: Priority.fromLane(place.lane),
      created: new Date(envelope.created),
      deadline: deadline === undefined ? undefined : new Date(deadline),
      version,
      // What it takes from its parents isn't there before they have ended.
      payload: input === undefined ? undefined as P : yield* part(
        "payload",
        { decode: (bytes) => decoders.payload.decode(bytes, version) },
        input,
      ),
      due: stored.due === undefined ? undefined : new Date(stored.due),
      ended: outcome === undefined ? undefined : new Date(outcome.ended),
      result: outcome?.result === undefined
        ? undefined
        : yield* part("result", decoders.success, outcome.result),
      reason: outcome?.reason,
      attempts,
      attemptCount: progress.attempts,
      snoozes: progress.snoozes,
      lost: progress.lost,
      parents: (progress.waits?.parents ?? []).map(({ id, outcome }) => ({
        id,
        state: outcome?.state,
      })),
      batch: subject.group === noGroup ? undefined : subject.group,
      recurring: originOf(envelope.options),
    }
    return record
  },
)
