/** What the commit of a batch means for its members: all that are staged are let go. */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import type { NatsError } from "../nats/errors.ts"
import type * as Records from "../nats/Records.ts"
import type * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { BatchCancel } from "./BatchCancel.ts"
import type { Look } from "./BatchEnd.ts"
import type { BatchMembers } from "./BatchMembers.ts"
import type { BatchMessage } from "./BatchMessage.ts"
import * as Moves from "./Moves.ts"

/** Sends all staged members on their way, those of nested batches too, and opens the batch. */
export type Release = (batch: Subjects.Address) => Effect.Effect<void, NatsError>

/** What releasing needs to know of batches. */
interface Parts {
  readonly message: BatchMessage
  readonly members: BatchMembers
  readonly followCancelled: BatchCancel["followCancelled"]
  readonly look: Look
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  { followCancelled, look, members, message: { update } }: Parts,
): Release => {
  const { clock, subjects } = wire
  const { announce, countOf, eachPage, moveAll } = members

  /** A member that is let go: to its queue, to wait for others, or, if that is decided, to its end. */
  const letGo = (member: Records.JobMessage): Moves.Move | undefined => {
    const { waits } = member.envelope.progress
    return waits?.staged === true
      ? Moves.settled(wire, member, { ...waits, staged: false }, clock.now())
      : undefined
  }

  const release: Release = Effect.fnUntraced(function* (batch) {
    let anyCancelled = false
    // A member that somebody else was about to move stays staged: once more, until none is left.
    for (let seen = 1; seen > 0;) {
      seen = 0
      yield* eachPage(
        batch.partition,
        Moves.stagedIn(subjects, batch),
        Effect.fnUntraced(function* (page) {
          seen += page.length
          const moved = yield* moveAll(page, letGo)
          announce(moved)
          anyCancelled ||= moved.some(({ move }) => move.to === "cancelled")
          for (const { envelope, subject } of page) {
            if (envelope.progress.batch === undefined) continue
            yield* update(
              subject,
              (state) =>
                state.phase === "building" ? BatchState.inPhase(state, "releasing") : undefined,
            )
            yield* release(subject)
          }
        }),
      )
    }
    if (anyCancelled || (yield* countOf(batch, "cancelled")) > 0) yield* followCancelled(batch)
    yield* update(
      batch,
      (state) => state.phase === "releasing" ? BatchState.inPhase(state, "open") : undefined,
    )
    yield* look(batch)
  })

  return release
}
