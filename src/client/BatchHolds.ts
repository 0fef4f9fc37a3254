/**
 * Holds batches open while somebody adds to them, or gives them a member that lives again. A batch
 * that has ended is opened again for it, and with it those that it is part of.
 */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { type BatchMessage, type Change, isLive, stateOf } from "./BatchMessage.ts"
import type { BatchStaged } from "./BatchStaged.ts"
import * as Moves from "./Moves.ts"

/** Keeps batches from ending. */
export interface BatchHolds {
  /** Whether it can't live again: it was cancelled, or what it is part of was. */
  readonly isCancelled: (batch: JobView.JobView) => Effect.Effect<boolean, NatsError>
  /**
   * Begins to add to a batch, which is opened again if it has ended. Gives the generation to commit
   * with; `undefined` when somebody was faster, or the batch can't be added to now.
   */
  readonly adopt: (batch: JobView.JobView) => Effect.Effect<number | undefined, NatsError>
  /**
   * Does something that gives a batch a member that lives: the batch doesn't end meanwhile, and is
   * opened again if it has ended. Gives `refused` for one that was cancelled.
   */
  readonly holding: <A, E>(
    batch: string,
    use: Effect.Effect<A, E>,
    refused: A,
  ) => Effect.Effect<A, E | NatsError>
}

/** What holding needs to know of batches. */
interface Parts {
  readonly message: BatchMessage
  readonly staged: BatchStaged
  /** A member of a batch may have ended: its batch is looked at soon. */
  readonly memberEnded: (partition: number, batch: string) => void
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  patience: number,
  { memberEnded, message: { tickOf, update, withState }, staged: { purge } }: Parts,
): BatchHolds => {
  const { alarmMillis, clock, subjects } = wire

  /** Writes a change of a batch that may have ended, which opens it again. Gives whether it did. */
  const reopen = Effect.fnUntraced(function* (
    view: JobView.JobView,
    change: Change,
  ): Effect.fn.Return<boolean, NatsError> {
    const { address, current } = view
    const state = stateOf(view)
    const next = state === undefined
      ? undefined
      : change(isLive(view) ? state : { ...state, phase: "open", holders: 0, heldUntil: 0 })
    if (next === undefined || current.subject.state === "cancelled") return false
    if (isLive(view)) {
      return (yield* Moves.write(wire, view, withState(view, next), patience)) !== undefined
    }
    const record = current.stored.sequence
    const reopened = Effect.gen(function* () {
      const move = Moves.awaiting(
        subjects,
        current,
        { ...current.envelope.progress, after: record, batch: next },
        tickOf(next, address.group),
      )
      if ((yield* Moves.write(wire, view, move, patience)) === undefined) return false
      for (const sequence of [...view.stale, record]) {
        yield* Conditional.remove(wire, address.partition, sequence)
      }
      return true
    })
    // What it is part of lives again with it.
    return yield* address.group === Subjects.noGroup
      ? reopened
      : holding(address.group, reopened, false)
  })

  const adopt: BatchHolds["adopt"] = Effect.fnUntraced(function* (view) {
    const until = clock.now() + alarmMillis
    const isAdopted = yield* reopen(
      view,
      (state) => state.phase === "open" ? BatchState.adopted(state, until) : undefined,
    )
    if (!isAdopted) return undefined
    const generation = (stateOf(view)?.generation ?? 0) + 1
    // Somebody who was given up, and noticed late, may have left something behind.
    yield* purge(view.address, (state) => state.generation === generation)
    return generation
  })

  /** Holds a batch open. Gives false for one that was cancelled, or whose outer one was. */
  const hold = Effect.fnUntraced(function* (batch: Subjects.Address) {
    while (true) {
      const view = yield* JobView.at(wire, batch)
      if (view === undefined) return true
      if (yield* isCancelled(view)) return false
      const until = clock.now() + alarmMillis
      if (yield* reopen(view, (state) => BatchState.held(state, until))) return true
    }
  })

  const isCancelled: BatchHolds["isCancelled"] = Effect.fnUntraced(function* (
    view,
  ): Effect.fn.Return<boolean, NatsError> {
    if (view.current.subject.state === "cancelled") return true
    if (isLive(view) || view.address.group === Subjects.noGroup) return false
    const outer = yield* JobView.find(wire, view.address.group)
    return outer !== undefined && (yield* isCancelled(outer))
  })

  /** Lets it end again. One that has ended although it was held, for that took long, opens again. */
  const unhold = Effect.fnUntraced(function* (batch: Subjects.Address) {
    while ((yield* update(batch, BatchState.released)) === undefined) {
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !(yield* hold(batch))) return
    }
    memberEnded(batch.partition, batch.id)
  })

  const holding: BatchHolds["holding"] = Effect.fnUntraced(function* (batch, use, refused) {
    const address = (yield* JobView.find(wire, batch))?.address
    if (address === undefined) return yield* use
    return yield* Effect.acquireUseRelease(
      hold(address),
      (isHeld) => isHeld ? use : Effect.succeed(refused),
      // Should that fail, the alarm of the batch sees to it.
      (isHeld) => isHeld ? Effect.ignore(unhold(address)) : Effect.void,
    )
  })

  return { isCancelled, adopt, holding }
}
