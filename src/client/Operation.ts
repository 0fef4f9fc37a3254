/**
 * Operations on jobs as values: what can be asked for one job, for several, or for all that match a
 * filter, and what it is answered with.
 *
 * Each is one conditional write, so it is done for the job as it was seen or not at all. It states in
 * which states it can be done; in any other it changes nothing and answers with that state.
 *
 * @example
 * ```ts
 * import { Client, Operation } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 *
 * const program = Effect.gen(function* () {
 *   const client = yield* Client.Client
 *   const one = yield* client.operate("01J9ZQ6Y3NM2D4V8T7K5R0B1C0", Operation.cancel())
 *   const all = yield* client.operateWhere({ state: "failed", queue: "mail" }, Operation.requeue())
 *   return [one._tag, all.changed]
 * })
 * ```
 *
 * @module
 */
import type * as Duration from "effect/Duration"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { JobState, OperationName } from "../core/JobState.ts"
import { maxDelayMillis } from "../core/Limits.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import * as Priority from "../core/Priority.ts"
import { type Instant, instantOf, millisOf } from "../core/Time.ts"

/** Ends a job that hasn't ended. An attempt that runs is interrupted wherever it runs. */
export interface Cancel {
  readonly _tag: "cancel"
  /** Kept in the record. */
  readonly reason: string
}

/** Runs a job again that has ended, as if its attempts had not been; they stay in its history. */
export interface Requeue {
  readonly _tag: "requeue"
  /** Whether jobs that were cancelled because of how it ended wait for it again. */
  readonly revive: boolean
}

/** Lets a job run at once that waits for a time. */
export interface RunNow {
  readonly _tag: "runNow"
}

/** Lets a job run at another time. */
export interface Reschedule {
  readonly _tag: "reschedule"
  /** Delay in ms from when the operation is done. */
  readonly delay?: number | undefined
  /** Instant in ms since 1970. */
  readonly at?: number | undefined
}

/** Lets a job wait in another queue, or with another priority. */
export interface Move {
  readonly _tag: "move"
  readonly queue?: string | undefined
  /** 1 critical to 4 low. */
  readonly lane?: number | undefined
}

/** Removes the record of a job that has ended. */
export interface Remove {
  readonly _tag: "remove"
}

/** What can be asked for a job. */
export type Operation = Cancel | Requeue | RunNow | Reschedule | Move | Remove

/** What became of an operation on one job. */
export type Answer =
  /** It is done. */
  | { readonly _tag: "changed"; readonly id: JobId; readonly from: JobState; readonly to: JobState }
  /** There is no such job, or not any more. */
  | { readonly _tag: "notFound"; readonly id: JobId }
  /** The job is in a state that doesn't allow it, or in another one than was expected. */
  | { readonly _tag: "conflict"; readonly id: JobId; readonly state: JobState }

/** What a caller has seen of a job: when it has moved since, the operation is not done. */
export interface Expected {
  /** States in which it is to be done. */
  readonly ifState?: JobState | ReadonlyArray<JobState> | undefined
  /** `revision` of the record that the caller has read: nothing may have been written since. */
  readonly ifRevision?: number | undefined
}

/** Names of the options of {@link Expected}. */
export const expectedKeys: ReadonlyArray<string> = ["ifState", "ifRevision"]

/** Throws what can't be accepted: a mistake in the program itself. */
const orThrow = <A>(value: A | InvalidOptions): A => {
  if (value instanceof InvalidOptions) throw value
  return value
}

const maxReason = 500

/** See {@link Cancel}. Throws `InvalidOptions` for a reason that isn't a text. */
export const cancel = (options: { readonly reason?: string | undefined } = {}): Cancel => {
  orThrow(checkKeys("options", options, ["reason"]))
  const { reason = "cancelled by request" } = options
  if (typeof reason !== "string") {
    const why = "it is a text"
    throw new InvalidOptions({ field: "reason", value: show(reason), reason: why })
  }
  return { _tag: "cancel", reason: reason.slice(0, maxReason) }
}

/** See {@link Requeue}. */
export const requeue = (options: { readonly revive?: boolean | undefined } = {}): Requeue => {
  orThrow(checkKeys("options", options, ["revive"]))
  return { _tag: "requeue", revive: options.revive === true }
}

/** See {@link RunNow}. */
export const runNow = (): RunNow => ({ _tag: "runNow" })

/** See {@link Reschedule}. Throws `InvalidOptions` unless it is given a delay or an instant. */
export const reschedule = (
  options: { readonly delay: Duration.Input } | { readonly at: Instant },
): Reschedule => {
  orThrow(checkKeys("options", options, ["delay", "at"]))
  const { at, delay } = options as { readonly delay?: Duration.Input; readonly at?: Instant }
  if ((at === undefined) === (delay === undefined)) {
    const reason = "reschedule needs either a delay or an instant (at)"
    throw new InvalidOptions({ field: "delay", value: show(delay), reason })
  }
  return at === undefined
    ? {
      _tag: "reschedule",
      delay: orThrow(millisOf("delay", delay as Duration.Input, maxDelayMillis)),
    }
    : { _tag: "reschedule", at: orThrow(instantOf("at", at)) }
}

/** See {@link Move}. Throws `InvalidOptions` unless it is given a queue, a priority or both. */
export const move = (
  options: {
    readonly queue?: string | undefined
    readonly priority?: Priority.Priority | undefined
  },
): Move => {
  orThrow(checkKeys("options", options, ["queue", "priority"]))
  const { priority, queue } = options
  if (queue === undefined && priority === undefined) {
    const reason = "a job moves to another queue, another priority or both"
    throw new InvalidOptions({ field: "queue", value: "undefined", reason })
  }
  if (queue !== undefined) orThrow(checkName("queue", queue))
  if (priority !== undefined && !Priority.all.includes(priority)) {
    const reason = `it is one of ${Priority.all.join(", ")}`
    throw new InvalidOptions({ field: "priority", value: show(priority), reason })
  }
  return {
    _tag: "move",
    queue,
    lane: priority === undefined ? undefined : Priority.toLane(priority),
  }
}

/** See {@link Remove}. */
export const remove = (): Remove => ({ _tag: "remove" })

/** Name of an operation, as in the table of the states that it accepts. */
export const nameOf = ({ _tag }: Operation): OperationName => _tag
