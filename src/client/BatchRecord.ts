/** A batch as it can be read: where it stands, and its members by state. */
import * as Effect from "effect/Effect"
import type { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { JobState, WireState } from "../core/JobState.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { checkName } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Peek from "../nats/Peek.ts"
import * as Records from "../nats/Records.ts"
import { countFrom } from "../nats/Retention.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Summary } from "./Batches.ts"
import { JobNotFound } from "./JobRecord.ts"
import * as Moves from "./Moves.ts"

/**
 * State of a batch. `completed` has ended like `succeeded`, but some of its members failed or were
 * cancelled; jobs that follow it on `failed` do so then.
 */
export type BatchState = "started" | "succeeded" | "completed" | "cancelled"

/** Members by state; those that run count as `enqueued`. */
export type MemberCounts = Readonly<Record<Exclude<JobState, "processing">, number>>

/** What is known of a batch. */
export interface BatchRecord {
  /** Its id. */
  readonly id: JobId
  /** Where it stands. */
  readonly state: BatchState
  /** What it was given for people. */
  readonly description: string | undefined
  /** When it was created. */
  readonly created: Date
  /** When it ended. */
  readonly ended: Date | undefined
  /** Why it was cancelled, or what has not succeeded of it. */
  readonly reason: string | undefined
  /** Members that were added, each nested batch counting as one. */
  readonly total: number
  /**
   * Members by state. Of a batch that has ended, as it was when it did; until then, without those
   * whose records are past their retention.
   */
  readonly members: MemberCounts
  /** The batch that it is a member of. */
  readonly batch: JobId | undefined
}

const states: ReadonlyArray<readonly [keyof MemberCounts, WireState]> = [
  ["awaiting", "await"],
  ["scheduled", "later"],
  ["enqueued", "ready"],
  ["retrying", "retry"],
  ["succeeded", "succeeded"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
]

const stateOf = ({ subject }: Records.JobMessage): BatchState =>
  subject.state === "succeeded"
    ? "succeeded"
    : subject.state === "failed"
    ? "completed"
    : subject.state === "cancelled"
    ? "cancelled"
    : "started"

const count = (
  wire: Wire,
  { partition }: Subjects.Address,
  filter: string,
): Effect.Effect<number, NatsError> => {
  const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
  return Effect.flatMap(
    Peek.count(wire, stream, [filter]),
    (count) => Number.isFinite(count) ? Effect.succeed(count) : countFrom(wire, stream, filter, 1),
  )
}

const decode = <A>(bytes: Uint8Array | undefined): Partial<A> => {
  try {
    return bytes === undefined ? {} : MessagePack.decode(bytes) as Partial<A>
  } catch {
    return {}
  }
}

/** Reads a batch. */
export const get: (
  wire: Wire,
  id: JobId,
) => Effect.Effect<BatchRecord, JobNotFound | InvalidOptions | NatsError> = Effect.fnUntraced(
  function* (wire, id) {
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    const view = yield* JobView.find(wire, id)
    const batch = view?.current.envelope.progress.batch
    if (view === undefined || batch === undefined || Records.isHidden(view.current)) {
      return yield* new JobNotFound({ id })
    }
    const { address, current } = view
    const { created, outcome, payload } = current.envelope
    const summary = decode<Summary>(outcome?.result)
    const counts = yield* Effect.forEach(
      states,
      ([name, state]) =>
        Effect.map(
          count(wire, address, wire.subjects.members(address.partition, state, address.id)),
          (number) => [name, number],
        ),
      { concurrency: "unbounded" },
    )
    const all = Object.fromEntries(counts) as MemberCounts
    // Those that somebody is adding aren't there yet.
    const staged = batch.phase === "adding"
      ? yield* count(wire, address, Moves.stagedIn(wire.subjects, address))
      : 0
    const now = { ...all, awaiting: Math.max(0, all.awaiting - staged) }
    return {
      id,
      state: stateOf(current),
      description: decode<{ description: string }>(payload).description ?? undefined,
      created: new Date(created),
      ended: outcome === undefined ? undefined : new Date(outcome.ended),
      reason: outcome?.reason,
      total: batch.total,
      members: { ...now, ...pick(summary) },
      batch: address.group === Subjects.noGroup ? undefined : address.group,
    }
  },
)

/** What a summary tells, without what it doesn't. */
const pick = ({ cancelled, failed, succeeded }: Partial<Summary>): Partial<MemberCounts> =>
  succeeded === undefined || failed === undefined || cancelled === undefined
    ? {}
    : { succeeded, failed, cancelled }
