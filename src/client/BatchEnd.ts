/**
 * The end of a batch, which comes when none of its members lives. Looking for one that does costs
 * little while the first that is met lives.
 */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { announceEnded } from "../nats/Notices.ts"
import { nextAtLeader } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { BatchMembers } from "./BatchMembers.ts"
import { isLive, stateOf } from "./BatchMessage.ts"
import type { Finish } from "./Finish.ts"
import * as Moves from "./Moves.ts"

/** Members of which it is verified one by one whether they live. */
const verified = 64

/** In the order in which most members wait. */
const firstStates: ReadonlyArray<WireState> = ["ready", "later", "retry", "await", "part"]

/** What the record of a batch tells of its members. */
export interface Summary {
  readonly total: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
}

/** What is found at a look. */
export interface Looked {
  /** Whether the batch is worth looking at again soon. */
  readonly again: boolean
  /** Members of a batch that hasn't ended: the more, the more a look costs. */
  readonly total: number
}

/** Ends a batch, if none of its members lives. */
export type Look = (batch: Subjects.Address) => Effect.Effect<Looked, NatsError>

const over: Looked = { again: false, total: 0 }

/** Makes it for a namespace; `finish` sees to what follows from the end. */
export const make = (
  wire: Wire,
  patience: number,
  { countOf, liveFilters }: BatchMembers,
  finish: () => Finish,
): Look => {
  const { clock, nats, reader, replicated, subjects } = wire
  const streamOf = (partition: number) => Subjects.jobsStream(subjects.namespace, partition)

  /** Whether the job of a message lives: has no record that counts, and is not left behind staged. */
  const livesStill = ({ subject }: Records.JobMessage) =>
    Effect.map(
      JobView.at(wire, subject),
      (view) => view !== undefined && isLive(view) && !Records.isHidden(view.current),
    )

  /**
   * Whether one of the first members that are met lives. Costs the server a tenth of finding all of
   * them, where they are many.
   */
  const livesFirst = Effect.fnUntraced(function* (batch: Subjects.Address) {
    const stream = streamOf(batch.partition)
    for (const state of firstStates) {
      const filter = subjects.members(batch.partition, state, batch.id)
      const first = yield* nextAtLeader(nats.connection, stream, filter, { seq: 1 })
      const [message] = Records.parse(subjects, first === undefined ? [] : [first])
      if (message !== undefined && (yield* livesStill(message))) return true
    }
    return false
  })

  /**
   * All members that may live, read in one go, or how it failed: there are too many of them, or a
   * replica has answered that lags behind the batch.
   */
  const mayLive = Effect.fnUntraced(function* (batch: Subjects.Address, newest: number) {
    const filters = [...liveFilters(batch), subjects.job(batch)]
    const found = yield* Effect.catchTag(
      reader.newest(streamOf(batch.partition), filters),
      "Rejected",
      (error) => error.status === 413 ? Effect.succeed("many" as const) : Effect.fail(error),
    )
    if (found === "many") return found
    if (replicated && !found.some(({ sequence }) => sequence >= newest)) return "behind" as const
    const messages = found.filter(({ subject }) => subjects.parse(subject)?.id !== batch.id)
    const members = Records.parse(subjects, messages)
    // One that only a newer engine can read lives.
    const isUnclear = members.length > verified || members.length < messages.length
    return isUnclear ? "many" as const : members
  })

  const look: Look = Effect.fnUntraced(function* (batch): Effect.fn.Return<
    Looked,
    NatsError
  > {
    while (true) {
      // What is seen here is the condition of the end: whoever adds to the batch changes it first.
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !isLive(view)) return over
      const state = stateOf(view)
      const now = clock.now()
      if (state === undefined || state.phase !== "open" || state.heldUntil > now) return over
      const { total } = state
      // Whoever ends that one looks again.
      if (yield* livesFirst(batch)) return { again: false, total }
      const members = yield* mayLive(batch, view.newest)
      if (members === "many") return { again: true, total }
      if (members === "behind") {
        yield* Effect.sleep("20 millis")
        continue
      }
      const alive = yield* Effect.filter(members, livesStill, { concurrency: 16 })
      if (alive.length > 0) return { again: false, total }
      if (view.current.subject.state !== "ready") {
        // From here on a message lies in the engine's queue, by which a server meets the end that
        // follows should we die.
        const wake = Moves.ready(subjects, view.current, view.current.envelope.progress)
        yield* Moves.write(wire, view, wake, patience)
        continue
      }
      const failed = yield* countOf(batch, "failed")
      const cancelled = yield* countOf(batch, "cancelled")
      const succeeded = Math.max(0, state.total - failed - cancelled)
      const summary: Summary = { total: state.total, succeeded, failed, cancelled }
      const move = Moves.ended(
        subjects,
        view.current,
        failed + cancelled > 0 ? "failed" : "succeeded",
        {
          ended: now,
          result: MessagePack.encode(summary),
          reason: failed + cancelled === 0 ? undefined : `of ${state.total} members ` +
            `${failed} failed and ${cancelled} were cancelled`,
        },
      )
      const sequence = yield* Moves.write(wire, view, move, patience)
      if (sequence === undefined) continue
      announceEnded(wire, [batch.id])
      yield* finish().finish(Moves.storedAs(wire, view, move, sequence, now))
      yield* Conditional.remove(wire, batch.partition, view.current.stored.sequence)
      return over
    }
  })

  return look
}
