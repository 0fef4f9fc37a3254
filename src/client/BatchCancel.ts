/** What the cancellation of a batch means for its members: those that live end with it. */
import * as Effect from "effect/Effect"
import * as Api from "../nats/Api.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Links from "../nats/Links.ts"
import * as Lists from "../nats/Lists.ts"
import * as Peek from "../nats/Peek.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { type BatchMembers, liveStates, type Moved } from "./BatchMembers.ts"
import { type BatchStaged, isOpen } from "./BatchStaged.ts"
import type { Finish } from "./Finish.ts"
import * as Moves from "./Moves.ts"

/** Fewer superseded messages are deleted one by one: a purge makes the stream stand still. */
const worthPurging = 200

/** How often a cancelled batch is gone through for members that moved to and fro meanwhile. */
const cancelRounds = 3

/** Cancels the members of batches. */
export interface BatchCancel {
  /** Cancels what lives of a batch that was cancelled. */
  readonly cancelMembers: (record: Records.JobMessage) => Effect.Effect<void, NatsError>
  /** Sees to what follows from the ends of members that were cancelled, by whom ever. */
  readonly followCancelled: (batch: Subjects.Address) => Effect.Effect<void, NatsError>
}

/** What cancelling needs to know of batches. */
interface Parts {
  readonly members: BatchMembers
  readonly staged: BatchStaged
  /** Sees to what follows from the end of a member. */
  readonly finish: () => Finish
}

/** Makes it for a namespace. */
export const make = (wire: Wire, { finish, members, staged: { purge } }: Parts): BatchCancel => {
  const { clock, nats, subjects } = wire
  const { announce, eachPage, liveFilters, moveAll } = members
  const streamOf = (partition: number) => Subjects.jobsStream(subjects.namespace, partition)

  const followCancelled: BatchCancel["followCancelled"] = (batch) =>
    eachPage(
      batch.partition,
      subjects.members(batch.partition, "cancelled", batch.id),
      Effect.fnUntraced(function* (page) {
        const parents = yield* Links.parentsAmong(
          wire,
          batch.partition,
          page.map(({ stored, subject }) => ({
            id: subject.id,
            subject: stored.subject,
            sequence: stored.sequence,
          })),
        )
        yield* Effect.forEach(
          page.filter(({ envelope, subject }) =>
            parents.has(subject.id) || envelope.progress.batch !== undefined
          ),
          ({ subject }) => finish().meet(subject),
          { concurrency: 16, discard: true },
        )
      }),
    )

  /**
   * Removes the ready messages of members of one page, all that lie there before them included: they
   * were read before, and are superseded too.
   */
  const removeSuperseded = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    moved: ReadonlyArray<Moved>,
  ) {
    const places = new Map<string, Array<number>>()
    for (const { member: { stored } } of moved) {
      const place = `${stored.subject.slice(0, stored.subject.lastIndexOf("."))}.*`
      const sequences = places.get(place)
      if (sequences === undefined) places.set(place, [stored.sequence])
      else sequences.push(stored.sequence)
    }
    for (const [filter, sequences] of places) {
      if (sequences.length >= worthPurging) {
        const seq = Math.max(...sequences) + 1
        const operation = `purging ${filter} below ${seq}`
        const request = `STREAM.PURGE.${streamOf(batch.partition)}`
        yield* Api.call(nats.connection, request, { filter, seq }, operation)
        continue
      }
      yield* Effect.forEach(
        sequences,
        (sequence) => Conditional.remove(wire, batch.partition, sequence),
        { concurrency: 64, discard: true },
      )
    }
  })

  const cancelMembers: BatchCancel["cancelMembers"] = Effect.fnUntraced(function* (record) {
    const batch: Subjects.Address = record.subject
    const reason = `its batch ${batch.id} was cancelled`
    // What somebody was still adding has never been seen.
    const isSecret = record.envelope.progress.batch?.phase === "adding"
      ? Records.isHidden
      : undefined
    const cancel = (member: Records.JobMessage): Moves.Move | undefined => {
      if (isSecret?.(member) === true) return undefined
      const { progress } = member.envelope
      const phase = progress.batch?.phase === "building" ? "releasing" : progress.batch?.phase
      const next = progress.batch === undefined || phase === undefined
        ? progress
        : { ...progress, batch: { ...progress.batch, phase } }
      return Moves.ended(subjects, member, "cancelled", { ended: clock.now(), reason }, next)
    }
    for (let round = 1; round <= cancelRounds; round++) {
      for (const state of liveStates) {
        yield* eachPage(
          batch.partition,
          subjects.members(batch.partition, state, batch.id),
          Effect.fnUntraced(function* (page) {
            // A schedule may have fired when its job was about to end: what it made is ready too.
            const alive = state === "ready" ? yield* Lists.onlyCurrent(wire, page) : page
            const moved = yield* moveAll(alive, cancel)
            announce(moved)
            // Whoever requeued one of them may have died before deleting its record of then.
            yield* Effect.forEach(
              moved.map(({ member }) => member.envelope.progress.after).filter((old) => old > 0),
              (old) => Conditional.remove(wire, batch.partition, old),
              { concurrency: 64, discard: true },
            )
            if (state !== "ready") return
            Conditional.announceVoid(
              wire,
              batch.partition,
              moved.map(({ member }) => member.stored.sequence),
            )
            yield* removeSuperseded(batch, moved)
          }),
        )
      }
      // One that moved back meanwhile, from its queue to a retry, was passed by.
      if ((yield* Peek.count(wire, streamOf(batch.partition), liveFilters(batch))) === 0) break
    }
    if (isSecret !== undefined) yield* purge(batch, isOpen)
    // Also those of somebody who did this before and died.
    yield* followCancelled(batch)
  })

  return { cancelMembers, followCancelled }
}
