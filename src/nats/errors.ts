/**
 * What can go wrong between us and NATS, mapped once: from the client's classes and the server's
 * codes to three typed errors. Everything above this floor sees only these.
 *
 * @module
 */
import * as Data from "effect/Data"

/**
 * NATS did not answer in time, or there is no connection now. Whether a write was stored is not
 * known; everything the engine writes can be repeated safely.
 */
export class Unavailable extends Data.Error<{
  /** What was being done. */
  readonly operation: string
  /** What the client said. */
  readonly cause?: unknown
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "Unavailable"
  /** Name in stack traces. */
  override readonly name = "Unavailable"
  /** True: the same call may succeed later. */
  readonly retryable = true
  /** One sentence a person can act on. */
  override get message(): string {
    const why = this.cause instanceof Error ? `: ${this.cause.message}` : ""
    return `NATS did not answer while ${this.operation}${why}. ` +
      "Check that the server runs and can be reached."
  }
}

/** NATS answered, and refused. */
export class Rejected extends Data.Error<{
  /** What was being done. */
  readonly operation: string
  /** The server's error code (`err_code`), for example 10071; 0 where it gave none. */
  readonly code: number
  /** HTTP-like status, for example 503. */
  readonly status: number
  /** The server's words. */
  readonly description: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "Rejected"
  /** Name in stack traces. */
  override readonly name = "Rejected"
  /** False: the same call would be refused again. */
  readonly retryable = false
  /** One sentence a person can act on. */
  override get message(): string {
    return `NATS refused ${this.operation}: ${this.description} (code ${this.code})`
  }
}

/** The NATS server lacks what the engine needs: too old, or JetStream is off. */
export class UnsupportedServer extends Data.Error<{
  /** What is missing, and what to do. */
  readonly reason: string
  /** The version the server gave. */
  readonly version: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "UnsupportedServer"
  /** Name in stack traces. */
  override readonly name = "UnsupportedServer"
  /** False: another server is needed. */
  readonly retryable = false
  /** One sentence a person can act on. */
  override get message(): string {
    return `this NATS server (${this.version}) can't be used: ${this.reason}`
  }
}

/** What any call to NATS may fail with. */
export type NatsError = Unavailable | Rejected

/** The server's error codes that the engine acts on. */
export const Code = {
  /** Not one of the server's: the connection's user lacks a permission, which `description` names. */
  notPermitted: 403,
  /** The newest message of the subject is another one than expected. */
  wrongLastSequence: 10071,
  /** No message found. */
  noMessageFound: 10037,
  /** The message is larger than the stream allows. */
  messageTooLarge: 10054,
  /** The stream doesn't exist. */
  streamNotFound: 10059,
  /** The consumer doesn't exist. */
  consumerNotFound: 10014,
  /** A message that is to be deleted isn't there, below the newest sequence or among all. */
  messageNotDeleted: 10057,
  /** See {@link Code.messageNotDeleted}. */
  sequenceNotFound: 10043,
} as const

/**
 * Codes after which the same publish is simply repeated: nothing was stored, but nothing was decided
 * either (in-flight duplicates, in-flight subject, overflow, unknown batch, too many batches).
 */
export const repeatable: ReadonlySet<number> = new Set([10158, 10164, 10167, 10176, 10210])
