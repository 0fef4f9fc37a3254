/**
 * The caller's mistakes as typed errors. Each is raised before anything is written, names the field,
 * and says what to do.
 *
 * @module
 */
import * as Data from "effect/Data"

/** An option, name, delay or instant that can't be accepted. */
export class InvalidOptions extends Data.Error<{
  /** Which option, for example `queue` or `delay`. */
  readonly field: string
  /** The value that was given, shortened for display. */
  readonly value: string
  /** Why it can't be accepted and what would be. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "InvalidOptions"
  /** Name in stack traces. */
  override readonly name = "InvalidOptions"
  /** One sentence a person can act on. */
  override get message(): string {
    return `${this.field}: ${this.value} is not accepted: ${this.reason}`
  }
}

/** A payload that doesn't match the schema of its job. */
export class InvalidPayload extends Data.Error<{
  /** Name of the job definition. */
  readonly job: string
  /** Path of the field, for example `payload.to`; with several payloads `payload[3].to`. */
  readonly field: string
  /** What the schema said. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "InvalidPayload"
  /** Name in stack traces. */
  override readonly name = "InvalidPayload"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.job}: ${this.field} does not match its schema: ${this.reason}`
  }
}

/** A payload larger than what the NATS server accepts for a job. */
export class PayloadTooLarge extends Data.Error<{
  /** Name of the job definition. */
  readonly job: string
  /** `payload`, or `payload[3]` when several were given. */
  readonly field: string
  /** Bytes of the encoded payload. */
  readonly size: number
  /** Most bytes accepted: half of the server's `max_payload` less 64 KiB. */
  readonly limit: number
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "PayloadTooLarge"
  /** Name in stack traces. */
  override readonly name = "PayloadTooLarge"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.job}: ${this.field} takes ${this.size} bytes, the limit is ${this.limit}. ` +
      "Store large data elsewhere and pass a reference, or raise max_payload of the NATS server."
  }
}

/** Two definitions or two handlers with one name on one server. */
export class DuplicateJob extends Data.Error<{
  /** The name that stands twice. */
  readonly job: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "DuplicateJob"
  /** Name in stack traces. */
  override readonly name = "DuplicateJob"
  /** One sentence a person can act on. */
  override get message(): string {
    return `two handlers are registered for the job name "${this.job}" on one server; ` +
      "rename one of the definitions or remove one of the handlers"
  }
}
