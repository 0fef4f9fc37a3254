/**
 * The typed failures of supervisors and actors.
 *
 * @module
 */
import * as Data from "effect/Data"
import type { Status } from "./Child.ts"

const because = (cause: unknown): string => cause instanceof Error ? `: ${cause.message}` : ""

/** A child ended while it initialised. What had been started before it is stopped again. */
export class StartFailed extends Data.Error<{
  /** Path of the supervisor. */
  readonly supervisor: string
  /** Id of the child. */
  readonly child: string
  /** What the child failed or died with. */
  readonly cause: unknown
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "StartFailed"
  /** Name in stack traces. */
  override readonly name = "StartFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `child "${this.child}" of supervisor "${this.supervisor}" failed to start` +
      because(this.cause)
  }
}

/** Children needed more restarts than the supervisor allows, so that it stopped them all and itself. */
export class IntensityExceeded extends Data.Error<{
  /** Path of the supervisor. */
  readonly supervisor: string
  /** Id of the child that needed one restart too many. */
  readonly child: string
  /** Restarts allowed in the period. */
  readonly intensity: number
  /** The period in milliseconds. */
  readonly period: number
  /** What that child last failed or died with; undefined if it had ended normally. */
  readonly cause: unknown
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "IntensityExceeded"
  /** Name in stack traces. */
  override readonly name = "IntensityExceeded"
  /** One sentence a person can act on. */
  override get message(): string {
    return `supervisor "${this.supervisor}" gave up: child "${this.child}" needed more than ` +
      `${this.intensity} restarts in ${this.period} ms${because(this.cause)}`
  }
}

/** The supervisor has ended or is stopping, and takes no requests. */
export class SupervisorStopped extends Data.Error<{
  /** Path of the supervisor. */
  readonly supervisor: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "SupervisorStopped"
  /** Name in stack traces. */
  override readonly name = "SupervisorStopped"
  /** One sentence a person can act on. */
  override get message(): string {
    return `supervisor "${this.supervisor}" has stopped`
  }
}

/** No child has this id. */
export class ChildNotFound extends Data.Error<{
  /** Path of the supervisor. */
  readonly supervisor: string
  /** Id that was asked for. */
  readonly child: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "ChildNotFound"
  /** Name in stack traces. */
  override readonly name = "ChildNotFound"
  /** One sentence a person can act on. */
  override get message(): string {
    return `supervisor "${this.supervisor}" has no child "${this.child}"`
  }
}

/** What was asked for can't be done while the child is in this state. */
export class ChildConflict extends Data.Error<{
  /** Path of the supervisor. */
  readonly supervisor: string
  /** Id of the child. */
  readonly child: string
  /** The state that is in the way. */
  readonly status: Status
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "ChildConflict"
  /** Name in stack traces. */
  override readonly name = "ChildConflict"
  /** One sentence a person can act on. */
  override get message(): string {
    return `child "${this.child}" of supervisor "${this.supervisor}" exists and is ${this.status}`
  }
}

/** The actor is not running, or ended before it replied. */
export class ActorStopped extends Data.Error<{
  /** Id of the actor. */
  readonly actor: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "ActorStopped"
  /** Name in stack traces. */
  override readonly name = "ActorStopped"
  /** One sentence a person can act on. */
  override get message(): string {
    return `actor "${this.actor}" is not running`
  }
}

/** The actor did not reply in time. It may still act on the message. */
export class AskTimedOut extends Data.Error<{
  /** Id of the actor. */
  readonly actor: string
  /** Milliseconds waited. */
  readonly waited: number
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "AskTimedOut"
  /** Name in stack traces. */
  override readonly name = "AskTimedOut"
  /** One sentence a person can act on. */
  override get message(): string {
    return `actor "${this.actor}" did not reply within ${this.waited} ms`
  }
}
