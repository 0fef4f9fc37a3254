/**
 * What the end of a job means for others: those that follow it are released or cancelled, and its
 * batch may be done. Every step can be repeated, and whoever meets the record of a job does them (W6),
 * so they are done however often somebody dies on the way.
 */
import * as Effect from "effect/Effect"
import type { FinalState } from "../core/JobState.ts"
import { payloadLimit } from "../core/Limits.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import { isRecord, type JobMessage } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** What else follows from the end of a job. */
export interface Hooks {
  /** A member of a batch has ended. */
  readonly memberEnded: (partition: number, batch: string) => void
  /** A batch has been cancelled: its members are to follow. */
  readonly batchCancelled: (record: JobMessage) => Effect.Effect<void, NatsError>
}

/** Finishes what ends of jobs began. */
export interface Finish {
  /** All that follows from a record. */
  readonly finish: (record: JobMessage) => Effect.Effect<void, NatsError>
  /** Strikes a parent off in a child's message. Gives the child's record, if it has ended. */
  readonly strikeOff: (
    child: Subjects.Address,
    parent: string,
    outcome: Waits.ParentOutcome,
  ) => Effect.Effect<JobMessage | undefined, NatsError>
  /** Finishes whatever job lies there, if it has ended. Gives whether it has. */
  readonly meet: (job: Subjects.Address) => Effect.Effect<boolean, NatsError>
}

/** Children of one job that are seen to at once. */
const concurrency = 16

/** Strikes a parent off, with its result if there is room for it in the child's message. */
export const struck = (
  waits: Waits.Waits,
  parent: string,
  outcome: Waits.ParentOutcome,
  maxPayload: number,
): Waits.Waits => {
  const taken = waits.parents.reduce((sum, { outcome }) => sum + (outcome?.result?.length ?? 0), 0)
  const fits = taken + (outcome.result?.length ?? 0) <= payloadLimit(maxPayload)
  return Waits.strike(waits, parent, fits ? outcome : { state: outcome.state })
}

/** The outcome of a job, as those that follow it see it. */
export const outcomeOf = ({ envelope, subject }: JobMessage): Waits.ParentOutcome => ({
  state: subject.state as FinalState,
  result: envelope.outcome?.result,
})

/** Makes it for a namespace. `patience` is how long a write is repeated without an answer, in ms. */
export const make = (wire: Wire, patience: number, hooks: Hooks): Finish => {
  const { clock, nats } = wire

  const strikeOff: Finish["strikeOff"] = Effect.fnUntraced(
    function* (child, parent, outcome) {
      while (true) {
        const view = yield* JobView.at(wire, child)
        if (view === undefined) return undefined
        const { current } = view
        if (isRecord(current.subject)) return current
        const { waits } = current.envelope.progress
        if (waits === undefined || !Waits.waitsFor(waits, parent)) return undefined
        const next = struck(waits, parent, outcome, nats.server().maxPayload)
        const now = clock.now()
        const move = Moves.settled(wire, current, next, now)
        const sequence = yield* Moves.write(wire, view, move, patience)
        if (sequence === undefined) continue
        return move.to === "cancelled" ? Moves.storedAs(wire, view, move, sequence, now) : undefined
      }
    },
  )

  const finish: Finish["finish"] = Effect.fnUntraced(function* (record) {
    const { envelope, subject } = record
    const outcome = outcomeOf(record)
    // Links that are newer belong to a later life of the job, after a requeue.
    const links = (yield* Links.from(wire, subject))
      .filter(({ sequence }) => sequence < record.stored.sequence)
    yield* Effect.forEach(
      links,
      Effect.fnUntraced(function* ({ child, sequence }) {
        const ended = yield* strikeOff(child, subject.id, outcome)
        if (ended !== undefined) yield* finish(ended)
        // Last of all: as long as the link is there, somebody comes back to it.
        yield* Conditional.remove(wire, subject.partition, sequence)
      }),
      { concurrency, discard: true },
    )
    if (envelope.progress.batch !== undefined && subject.state === "cancelled") {
      yield* hooks.batchCancelled(record)
    }
    if (subject.group !== Subjects.noGroup) hooks.memberEnded(subject.partition, subject.group)
  })

  const meet: Finish["meet"] = Effect.fnUntraced(function* (job) {
    const view = yield* JobView.at(wire, job)
    if (view === undefined || !isRecord(view.current.subject)) return false
    yield* finish(view.current)
    return true
  })

  return { finish, meet, strikeOff }
}
