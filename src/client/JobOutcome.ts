/**
 * What comes of waiting for a job: its result, its handler's typed error, or one of the errors here.
 *
 * @module
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { Mismatch } from "../core/Codec.ts"
import type { JobId } from "../core/JobId.ts"
import * as MessagePack from "../core/MessagePack.ts"
import type { JobMessage } from "../nats/Records.ts"
import * as JobRecord from "./JobRecord.ts"
import { whyNot } from "./Unlock.ts"

/**
 * The job has failed, and not with a typed error of its handler in its last attempt: it crashed, took
 * too long, was discarded, or killed the servers that ran it; or the typed error was too large to be
 * kept, or doesn't match the schema it is read with.
 */
export class JobFailed extends Data.Error<{
  /** The job. */
  readonly id: JobId
  /** Why, as recorded. */
  readonly reason: string
  /** The whole record with all attempts, as plain data. */
  readonly record: JobRecord.JobRecord
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "JobFailed"
  /** Name in stack traces. */
  override readonly name = "JobFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.id} (${this.record.name}) failed: ${this.reason}`
  }
}

/** The job was cancelled. */
export class JobCancelled extends Data.Error<{
  /** The job. */
  readonly id: JobId
  /** Why, as recorded. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "JobCancelled"
  /** Name in stack traces. */
  override readonly name = "JobCancelled"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.id} was cancelled: ${this.reason}`
  }
}

/** The job has not ended in time. It goes on all the same, and can be awaited again. */
export class AwaitTimedOut extends Data.Error<{
  /** The job. */
  readonly id: JobId
  /** How long it was waited for, in milliseconds. */
  readonly within: number
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "AwaitTimedOut"
  /** Name in stack traces. */
  override readonly name = "AwaitTimedOut"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.id} has not ended within ${this.within} ms. It is still there: ` +
      "await it again, or check that a server runs its queue."
  }
}

const unrecorded = "no reason was recorded"

/** The bytes of no value: what a job without a result gives. */
const nothing: Uint8Array = MessagePack.encode(undefined)

/** Turns the final message of a job into its result, or its failure into an error. */
export const fromMessage = <A, E>(
  message: JobMessage,
  decoders: Pick<JobRecord.Decoders<unknown, A, E>, "success" | "error">,
): Effect.Effect<A, E | JobFailed | JobCancelled | JobRecord.UnreadableRecord> => {
  const { envelope: { outcome, progress }, subject: { id, state } } = message
  const reason = outcome?.reason ?? unrecorded
  if (state === "succeeded") {
    const bytes = outcome?.result ?? nothing
    return Effect.mapError(decoders.success.decode(bytes), (mismatch: Mismatch) => {
      const { path, reason } = whyNot(bytes, mismatch)
      return new JobRecord.UnreadableRecord({ id, field: `result${path}`, reason })
    })
  }
  if (state === "cancelled") return Effect.fail(new JobCancelled({ id, reason }))
  const failed = Effect.flatMap(
    JobRecord.fromMessage(message, JobRecord.plainDecoders),
    (record) => Effect.fail(new JobFailed({ id, reason, record })),
  )
  const last = progress.history.at(-1)
  // An attempt before may have failed with a typed error, and the job for another reason later.
  return last?.ending === "failed" && last.error !== undefined && last.ended === outcome?.ended
    ? Effect.matchEffect(decoders.error.decode(last.error), {
      onFailure: () => failed,
      onSuccess: (error) => Effect.fail(error),
    })
    : failed
}
