/** Members of batches that nobody was to see yet, and will not: they are removed again. */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import type * as Records from "../nats/Records.ts"
import type * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { BatchMembers } from "./BatchMembers.ts"
import { type BatchMessage, isLive, stateOf } from "./BatchMessage.ts"
import * as Moves from "./Moves.ts"

/** Removes staged members, with all that is there because of them. */
export interface BatchStaged {
  /**
   * Removes staged members, as long as the state says that they are nobody's or ours to remove.
   * Whoever adds to a batch says so in its state before anything is staged, so what was read before
   * the state was somebody's who was there before.
   */
  readonly purge: (
    batch: Subjects.Address,
    isOurs: (state: BatchState.BatchState) => boolean,
  ) => Effect.Effect<void, NatsError>
  /** Removes a batch that was never committed. */
  readonly removeAbandoned: (batch: Subjects.Address) => Effect.Effect<void, NatsError>
}

/** Whether nobody adds to a batch, so that what is staged of it is nobody's. */
export const isOpen = ({ phase }: BatchState.BatchState): boolean => phase === "open"

const isAbandoned = ({ phase }: BatchState.BatchState): boolean => phase === "abandoned"

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  { update }: BatchMessage,
  { eachPage }: BatchMembers,
): BatchStaged => {
  const purge: BatchStaged["purge"] = Effect.fnUntraced(function* (
    batch,
    isOurs,
  ): Effect.fn.Return<void, NatsError> {
    yield* eachPage(
      batch.partition,
      Moves.stagedIn(wire.subjects, batch),
      Effect.fnUntraced(function* (page) {
        const view = yield* JobView.at(wire, batch)
        const state = view === undefined || !isLive(view) ? undefined : stateOf(view)
        if (state !== undefined && !isOurs(state)) return
        yield* Effect.forEach(page, removeStaged, { concurrency: 64, discard: true })
      }),
    )
  })

  /** Removes a staged member with all that is there because of it, itself last. */
  const removeStaged: (member: Records.JobMessage) => Effect.Effect<void, NatsError> = Effect
    .fnUntraced(function* ({ envelope, stored, subject }) {
      const { batch, waits } = envelope.progress
      if (batch !== undefined) {
        yield* update(subject, BatchState.givenUp)
        yield* purge(subject, isAbandoned)
        const left = yield* JobView.at(wire, subject)
        if (left !== undefined) {
          yield* Conditional.remove(wire, subject.partition, left.current.stored.sequence)
        }
        return
      }
      for (const parent of Waits.open(waits)) yield* Links.removeOne(wire, parent, subject)
      yield* Conditional.remove(wire, subject.partition, stored.sequence)
    })

  const removeAbandoned: BatchStaged["removeAbandoned"] = Effect.fnUntraced(function* (batch) {
    yield* purge(batch, isAbandoned)
    const view = yield* JobView.at(wire, batch)
    if (view === undefined || stateOf(view)?.phase !== "abandoned") return
    for (const sequence of [...view.stale, view.current.stored.sequence]) {
      yield* Conditional.remove(wire, batch.partition, sequence)
    }
  })

  return { purge, removeAbandoned }
}
