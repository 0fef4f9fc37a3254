/** Members of batches as they lie in their stream: gone through in pages, moved and counted. */
import * as Effect from "effect/Effect"
import type { FinalState, WireState } from "../core/JobState.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import { announceEnded } from "../nats/Notices.ts"
import { nextAtLeader } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import { countFrom } from "../nats/Retention.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type * as Moves from "./Moves.ts"

/** Members that are moved in one page. */
const pageSize = 1_000
const pageBytes = 8 * 1024 * 1024

/** In the order in which members move on, so that who goes through them meets those that do. */
export const liveStates: ReadonlyArray<WireState> = ["await", "later", "retry", "ready", "part"]

/** A member that was given another message. */
export interface Moved {
  readonly member: Records.JobMessage
  readonly move: Moves.Move
}

/** The members of batches, many at a time. */
export interface BatchMembers {
  /** Goes through messages page by page until none is left that nobody has met. */
  readonly eachPage: (
    partition: number,
    filter: string,
    use: (page: ReadonlyArray<Records.JobMessage>) => Effect.Effect<void, NatsError>,
  ) => Effect.Effect<void, NatsError>
  /** Makes a move for each member that has one. Gives those where nobody was faster. */
  readonly moveAll: (
    page: ReadonlyArray<Records.JobMessage>,
    moveOf: (member: Records.JobMessage) => Moves.Move | undefined,
  ) => Effect.Effect<ReadonlyArray<Moved>, NatsError>
  /** Tells who waits for them which of them a move has ended. */
  readonly announce: (moved: ReadonlyArray<Moved>) => void
  /** Filters of all that may live of a batch. */
  readonly liveFilters: (batch: Subjects.Address) => ReadonlyArray<string>
  /** How many members have ended so. */
  readonly countOf: (
    batch: Subjects.Address,
    state: FinalState,
  ) => Effect.Effect<number, NatsError>
}

/** Makes it for a namespace. */
export const make = (wire: Wire, patience: number): BatchMembers => {
  const { nats, publisher, reader, replicated, subjects } = wire
  const streamOf = (partition: number) => Subjects.jobsStream(subjects.namespace, partition)

  const eachPage: BatchMembers["eachPage"] = Effect.fnUntraced(function* (
    partition,
    filter,
    use,
  ): Effect.fn.Return<void, NatsError> {
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(streamOf(partition), filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last !== undefined) {
        sequence = last.sequence + 1
        yield* use(Records.parse(subjects, messages))
        continue
      }
      if (!replicated) return
      // A replica that lags behind doesn't know the end.
      const from = { seq: sequence }
      const next = yield* nextAtLeader(nats.connection, streamOf(partition), filter, from)
      if (next === undefined) return
      yield* Effect.sleep("20 millis")
    }
  })

  const moveAll: BatchMembers["moveAll"] = (page, moveOf) =>
    Effect.callback((resume) => {
      const moved: Array<Moved> = []
      let left = 1
      let failure: Effect.Effect<never, NatsError> | undefined
      const oneLess = () => {
        if (--left === 0) resume(failure ?? Effect.succeed(moved))
      }
      for (const member of page) {
        const move = moveOf(member)
        if (move === undefined) continue
        left++
        publisher.publish({
          subject: move.subject,
          payload: move.payload,
          headers: move.headers,
          expected: member.stored.sequence,
          filter: subjects.job(member.subject),
          patience,
        }, (ack) => {
          if (ack._tag === "Stored") moved.push({ member, move })
          else failure = Conditional.failureOf(ack, move.subject) ?? failure
          oneLess()
        })
      }
      oneLess()
    })

  const announce: BatchMembers["announce"] = (moved) => {
    const ended = moved.filter(({ move }) => move.to === "cancelled")
    if (ended.length > 0) announceEnded(wire, ended.map(({ member }) => member.subject.id))
  }

  const liveFilters: BatchMembers["liveFilters"] = (batch) =>
    liveStates.map((state) => subjects.members(batch.partition, state, batch.id))

  const countOf: BatchMembers["countOf"] = (batch, state) =>
    countFrom(
      wire,
      streamOf(batch.partition),
      subjects.members(batch.partition, state, batch.id),
      1,
    )

  return { eachPage, moveAll, announce, liveFilters, countOf }
}
