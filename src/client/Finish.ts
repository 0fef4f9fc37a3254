/**
 * What the end of a job means for others: those that follow it are released or cancelled, and its
 * batch may be done. Every step can be repeated, and whoever meets the record of a job does them (W6),
 * so they are done however often somebody dies on the way.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { FinalState } from "../core/JobState.ts"
import { payloadLimit } from "../core/Limits.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import { announceEnded } from "../nats/Notices.ts"
import { isRecord, type JobMessage, stateOf } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** What else follows from the end of a job. */
export interface Hooks {
  /** A member of a batch has ended. */
  readonly memberEnded: (partition: number, batch: string) => void
  /** A batch has been cancelled: its members are to follow. */
  readonly batchCancelled: (record: JobMessage) => Effect.Effect<void, NatsError>
  /** A job that awaits others was given another message. */
  readonly moved: (before: JobMessage, move: Moves.Move) => void
}

/** Finishes what ends of jobs began. */
export interface Finish {
  /** All that follows from a record. */
  readonly finish: (record: JobMessage) => Effect.Effect<void, NatsError>
  /**
   * Strikes a parent off in a child's message. Gives the child's record, if it has ended. What ends
   * of several parents do to one child at once is one write: one of the callers does it for all, and
   * is given the record.
   */
  readonly strikeOff: (
    child: Subjects.Address,
    parent: string,
    outcome: Waits.ParentOutcome,
  ) => Effect.Effect<JobMessage | undefined, NatsError>
  /** Finishes whatever job lies there, if it has ended. Gives whether it has. */
  readonly meet: (job: Subjects.Address) => Effect.Effect<boolean, NatsError>
}

/** Children of one job that are seen to at once. */
const concurrency = 64

/** A parent that is to be struck off. */
interface Strike {
  readonly parent: string
  readonly outcome: Waits.ParentOutcome
  done: boolean
}

/** Parents that are to be struck off in the message of one child. */
interface Line {
  readonly strikes: Set<Strike>
  readonly turn: Semaphore.Semaphore
}

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

  const strikeAll = Effect.fnUntraced(function* (
    child: Subjects.Address,
    strikes: ReadonlyArray<Strike>,
  ): Effect.fn.Return<JobMessage | undefined, NatsError> {
    while (true) {
      const view = yield* JobView.at(wire, child)
      if (view === undefined) return undefined
      const { current } = view
      if (isRecord(current.subject)) return current
      // Who was released has its turn, be it by another parent or because somebody requeued it.
      if (stateOf(current) !== "awaiting") return undefined
      const { waits } = current.envelope.progress
      if (waits === undefined) return undefined
      const open = strikes.filter(({ parent }) => Waits.waitsFor(waits, parent))
      if (open.length === 0) return undefined
      const { maxPayload } = nats.server()
      const next = open.reduce(
        (waits, { outcome, parent }) => struck(waits, parent, outcome, maxPayload),
        waits,
      )
      const now = clock.now()
      const move = Moves.settled(wire, current, next, now)
      const sequence = yield* Moves.write(wire, view, move, patience)
      if (sequence === undefined) continue
      hooks.moved(current, move)
      if (move.to !== "cancelled") return undefined
      announceEnded(wire, [child.id])
      return Moves.storedAs(wire, view, move, sequence, now)
    }
  })

  const lines = new Map<string, Line>()

  const strikeOff: Finish["strikeOff"] = (child, parent, outcome) =>
    Effect.suspend(() => {
      const key = `${child.partition}.${child.group}.${child.id}`
      const line = lines.get(key) ?? { strikes: new Set(), turn: Semaphore.makeUnsafe(1) }
      lines.set(key, line)
      const strike: Strike = { parent, outcome, done: false }
      line.strikes.add(strike)
      return line.turn.withPermits(1)(Effect.suspend(() => {
        if (strike.done) return Effect.succeed(undefined)
        const taken = [...line.strikes].filter(({ done }) => !done)
        return Effect.tap(
          strikeAll(child, taken),
          Effect.sync(() => {
            for (const one of taken) one.done = true
          }),
        )
      })).pipe(Effect.ensuring(Effect.sync(() => {
        line.strikes.delete(strike)
        if (line.strikes.size === 0) lines.delete(key)
      })))
    })

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
    // Whoever requeued it may have died before deleting its record of then.
    const { after } = envelope.progress
    if (after > 0) yield* Conditional.remove(wire, subject.partition, after)
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
