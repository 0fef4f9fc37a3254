/** The end of a batch, or of an addition to one, that was begun and is never committed. */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import type { NatsError } from "../nats/errors.ts"
import type * as Subjects from "../nats/Subjects.ts"
import type { Look } from "./BatchEnd.ts"
import type { BatchMessage } from "./BatchMessage.ts"
import type { BatchStaged } from "./BatchStaged.ts"

/** Gives up what was begun with batches. */
export interface BatchGiveUp {
  /** Gives up a batch that was never committed, or what is staged of one that is added to. */
  readonly giveUp: (batch: Subjects.Address, generation: number) => Effect.Effect<void, NatsError>
  /** Removes what is staged of an addition, and lets others add then. */
  readonly giveUpAddition: (
    batch: Subjects.Address,
    generation: number,
  ) => Effect.Effect<void, NatsError>
}

/** Makes it for a namespace. */
export const make = (
  { update }: BatchMessage,
  { purge, removeAbandoned }: BatchStaged,
  look: Look,
): BatchGiveUp => {
  const giveUpAddition: BatchGiveUp["giveUpAddition"] = Effect.fnUntraced(
    function* (batch, generation) {
      const isOurs = (state: BatchState.BatchState) =>
        state.phase === "open" || (state.phase === "adding" && state.generation === generation)
      yield* purge(batch, isOurs)
      yield* update(
        batch,
        (state) =>
          state.phase === "adding" && isOurs(state) ? BatchState.inPhase(state, "open") : undefined,
      )
      yield* look(batch)
    },
  )

  const giveUp: BatchGiveUp["giveUp"] = Effect.fnUntraced(function* (batch, generation) {
    const before = yield* update(
      batch,
      (state) => state.phase === "building" ? BatchState.givenUp(state) : undefined,
    )
    yield* before === undefined || BatchState.isSecret(before)
      ? removeAbandoned(batch)
      : giveUpAddition(batch, generation)
  })

  return { giveUp, giveUpAddition }
}
