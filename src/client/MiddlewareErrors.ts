/** What middleware can do to a call: refuse it, or fail. */
import * as Data from "effect/Data"
import { describe } from "../core/Attempt.ts"
import type { JobId } from "../core/JobId.ts"

/** A middleware refused a job. Nothing is written. */
export class EnqueueVetoed extends Data.Error<{
  /** Name of the job definition. */
  readonly job: string
  /** `payload`, or `payload[3]` when several were given. */
  readonly field: string
  /** Name of the middleware. */
  readonly middleware: string
  /** What it said. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "EnqueueVetoed"
  /** Name in stack traces. */
  override readonly name = "EnqueueVetoed"
  /** One sentence a person can act on. */
  override get message(): string {
    const which = this.field === "payload" ? "" : ` (${this.field})`
    return `job ${this.job}${which}: the middleware ${this.middleware} refused it: ${this.reason}`
  }
}

/** A middleware threw, or broke the rules of its hook. Unless `id` is there, nothing is written. */
export class MiddlewareFailed extends Data.Error<{
  /** Name of the middleware. */
  readonly middleware: string
  /** Which of its hooks. */
  readonly hook: "enqueue" | "attempt"
  /** What it threw. */
  readonly cause: unknown
  /** The job that is stored all the same: the middleware had called `next` before it failed. */
  readonly id?: JobId | undefined
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "MiddlewareFailed"
  /** Name in stack traces. */
  override readonly name = "MiddlewareFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    const stored = this.id === undefined ? "" : `; the job ${this.id} is stored all the same`
    return `the middleware ${this.middleware} failed around an ${this.hook}: ` +
      describe(this.cause).message + stored
  }
}
