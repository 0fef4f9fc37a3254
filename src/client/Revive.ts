/**
 * Lets jobs wait again that were cancelled because of how a job ended that has been requeued since.
 * Nothing keeps a list of them: they are looked for among the cancelled records, which takes as long
 * as there are many, and happens only when somebody asks for it.
 *
 * All of them wait again before the first one is linked to its parents: nothing can release it until
 * then, so whoever goes on where somebody died finds the whole chain again.
 */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Lists from "../nats/Lists.ts"
import type { JobMessage } from "../nats/Records.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Continuations from "./Continuations.ts"
import type { Engine } from "./Engine.ts"
import * as Moves from "./Moves.ts"

const pageSize = 1_000

/** What a child waited for, with parents that wait or run again; `undefined` if that changes nothing. */
const reopened = (
  { envelope }: JobMessage,
  parents: ReadonlySet<string>,
): Waits.Waits | undefined => {
  const { waits } = envelope.progress
  // One that was released has had its turn.
  if (waits === undefined || Waits.decide(waits)._tag !== "Cancel") return undefined
  const next = {
    ...waits,
    parents: waits.parents.map((one) => parents.has(one.id) ? { id: one.id } : one),
  }
  return Waits.decide(next)._tag === "Cancel" ? undefined : next
}

/** Revives what followed a job, and what followed that. Can be repeated. */
export const revive: (
  wire: Wire,
  engine: Engine,
  parent: string,
  patience: number,
) => Effect.Effect<void, NatsError> = Effect.fnUntraced(function* (wire, engine, parent, patience) {
  /** Links a child to all that it waits for, or tells it how these have ended in the meantime. */
  const connect = Effect.fnUntraced(function* (child: Subjects.Address) {
    const view = yield* JobView.at(wire, child)
    if (view === undefined || Records.stateOf(view.current) !== "awaiting") return
    const parents = Waits.open(view.current.envelope.progress.waits)
    const { ended, missing } = yield* Continuations.linkAll(wire, child, parents, patience)
    for (const [parent, outcome] of ended) {
      const record = yield* engine.strikeOff(child, parent, outcome)
      if (record !== undefined) yield* engine.finish(record)
    }
    for (const parent of missing) yield* engine.cancelFor(child, parent)
  })

  /** Gives whether the job waits again; `undefined` when somebody has moved it meanwhile. */
  const reviveNow = Effect.fnUntraced(function* (
    view: JobView.JobView,
    waits: Waits.Waits,
  ): Effect.fn.Return<boolean | undefined, NatsError> {
    const record = view.current.stored.sequence
    const { progress } = view.current.envelope
    const next = { ...progress, waits, after: record }
    const move = Moves.awaiting(wire.subjects, view.current, next, Moves.never)
    if ((yield* Moves.write(wire, view, move, patience)) === undefined) return undefined
    for (const sequence of [record, ...view.stale]) {
      yield* Conditional.remove(wire, view.address.partition, sequence)
    }
    return true
  })

  /** Gives whether the job waits again. */
  const reviveOne = Effect.fnUntraced(function* (
    { subject }: JobMessage,
    parents: ReadonlySet<string>,
  ): Effect.fn.Return<boolean, NatsError> {
    while (true) {
      const view = yield* JobView.at(wire, subject)
      if (view === undefined || view.current.subject.state !== "cancelled") return false
      const waits = reopened(view.current, parents)
      if (waits === undefined) return false
      const now = reviveNow(view, waits)
      // Its batch mustn't end, or must be open again, before it lives.
      const revived = yield* subject.group === Subjects.noGroup
        ? now
        : engine.batches.holding(subject.group, now, false)
      if (revived !== undefined) return revived
    }
  })

  /** Goes through the jobs in a state that wait, or have waited, for others. */
  const each = Effect.fnUntraced(function* (
    state: WireState,
    act: (message: JobMessage) => Effect.Effect<void, NatsError>,
  ) {
    for (let partition = 0; partition < wire.partitions; partition++) {
      for (let from: number | undefined = 1; from !== undefined;) {
        const page: Lists.Scanned = yield* Lists.scan(wire, partition, { state }, {
          from,
          limit: pageSize,
        })
        for (const message of Records.parse(wire.subjects, page.messages.map((m) => m.stored))) {
          if (message.envelope.progress.waits !== undefined) yield* act(message)
        }
        from = page.next
      }
    }
  })

  // A job is cancelled before those that follow it, so going through the records once finds whole
  // chains; only those that lead through several partitions may take further rounds.
  const revived = new Set<string>()
  /** A job that lives again has opened its batches again: what followed their ends may, too. */
  const add = Effect.fnUntraced(function* (id: string) {
    for (let next = id; next !== Subjects.noGroup && !revived.has(next);) {
      revived.add(next)
      const view: JobView.JobView | undefined = yield* JobView.find(wire, next)
      next = view?.address.group ?? Subjects.noGroup
    }
  })
  yield* add(parent)
  for (let before = 0; before < revived.size;) {
    before = revived.size
    yield* each(
      "await",
      ({ envelope: { progress: { after, waits } }, subject: { id } }) =>
        after > 0 && Waits.open(waits).some((open) => revived.has(open)) ? add(id) : Effect.void,
    )
    yield* each("cancelled", (message) => {
      const { waits } = message.envelope.progress
      return waits?.parents.some(({ id }) => revived.has(id)) !== true
        ? Effect.void
        : Effect.flatMap(
          reviveOne(message, revived),
          (waits) => waits ? add(message.subject.id) : Effect.void,
        )
    })
  }
  // Also those that somebody has revived who died before linking them; linking twice does nothing.
  yield* each(
    "await",
    ({ envelope: { progress: { after } }, subject }) => after > 0 ? connect(subject) : Effect.void,
  )
})
