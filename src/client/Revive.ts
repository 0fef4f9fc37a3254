/**
 * Lets jobs wait again that were cancelled because of how a job ended that has been requeued since.
 * Nothing keeps a list of them: they are looked for among the cancelled records, which takes as long
 * as there are many, and happens only when somebody asks for it.
 */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import * as Lists from "../nats/Lists.ts"
import { isRecord, type JobMessage } from "../nats/Records.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Engine } from "./Engine.ts"
import { outcomeOf } from "./Finish.ts"
import * as Moves from "./Moves.ts"

const pageSize = 1_000

/** What a child waited for, with one parent not ended yet; `undefined` if that changes nothing. */
const reopened = ({ envelope }: JobMessage, parent: string): Waits.Waits | undefined => {
  const { waits } = envelope.progress
  const found = waits?.parents.find(({ id }) => id === parent)
  // One that was released has had its turn.
  if (waits === undefined || found?.outcome === undefined) return undefined
  if (Waits.decide(waits)._tag !== "Cancel") return undefined
  const next = {
    ...waits,
    parents: waits.parents.map((one) => one.id === parent ? { id: parent } : one),
  }
  return Waits.decide(next)._tag === "Cancel" ? undefined : next
}

/** Revives what followed a job, and what followed that. Can be repeated. */
export const revive = (
  wire: Wire,
  engine: Engine,
  parent: string,
  patience: number,
): Effect.Effect<void, NatsError> => {
  /** Links a child that awaits to its parent, or tells it how that has ended in the meantime. */
  const link = Effect.fnUntraced(function* (child: Subjects.Address, parent: string) {
    while (true) {
      const view = yield* JobView.find(wire, parent)
      if (view === undefined) return
      if (isRecord(view.current.subject)) {
        const ended = yield* engine.strikeOff(child, parent, outcomeOf(view.current))
        return ended === undefined ? undefined : yield* engine.finish(ended)
      }
      if (yield* Links.add(wire, view, child, patience)) return
    }
  })

  const reviveOne = Effect.fnUntraced(function* (
    message: JobMessage,
    parent: string,
  ): Effect.fn.Return<void, NatsError> {
    const { group, id } = message.subject
    const batch = group === Subjects.noGroup ? undefined : yield* JobView.find(wire, group)
    while (true) {
      if (batch !== undefined && !(yield* engine.batches.hold(batch, wire.alarmMillis))) return
      const view = yield* JobView.at(wire, message.subject)
      if (view === undefined || view.current.subject.state !== "cancelled") return
      const waits = reopened(view.current, parent)
      if (waits === undefined) return
      const record = view.current.stored.sequence
      const { progress } = view.current.envelope
      const move = Moves.awaiting(wire.subjects, view.current, {
        ...progress,
        waits,
        after: record,
      }, Moves.never)
      if ((yield* Moves.write(wire, view, move, patience)) === undefined) continue
      yield* link(view.address, parent)
      yield* Conditional.remove(wire, view.address.partition, record)
      if (batch !== undefined) {
        yield* engine.batches.update(batch.address, (state) => ({ ...state, heldUntil: 0 }))
      }
      return yield* reviveAll(id)
    }
  })

  /** Goes through all jobs in a state that know the parent. */
  const each = Effect.fnUntraced(function* (
    state: WireState,
    parent: string,
    act: (message: JobMessage) => Effect.Effect<void, NatsError>,
  ): Effect.fn.Return<void, NatsError> {
    for (let partition = 0; partition < wire.partitions; partition++) {
      for (let from: number | undefined = 1; from !== undefined;) {
        const page: Lists.Scanned = yield* Lists.scan(wire, partition, { state }, {
          from,
          limit: pageSize,
        })
        for (const message of Records.parse(wire.subjects, page.messages.map((m) => m.stored))) {
          const parents = message.envelope.progress.waits?.parents ?? []
          if (parents.some(({ id }) => id === parent)) yield* act(message)
        }
        from = page.next
      }
    }
  })

  const reviveAll = Effect.fnUntraced(function* (parent: string): Effect.fn.Return<
    void,
    NatsError
  > {
    yield* each("cancelled", parent, (message) => reviveOne(message, parent))
    // Who did this before and died may have left some without their link.
    yield* each("await", parent, (message) => {
      const { waits } = message.envelope.progress
      return waits !== undefined && !waits.staged && Waits.waitsFor(waits, parent)
        ? link(message.subject, parent)
        : Effect.void
    })
  })

  return reviveAll(parent)
}
