/** Reads one recurring entry by its id. */
import * as Effect from "effect/Effect"
import * as Entry from "../core/Entry.ts"
import { InvalidOptions } from "../core/errors.ts"
import { show } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import type { TopologyConflict } from "../nats/Topology.ts"
import type { Wire } from "../nats/Wire.ts"
import * as EntryMessage from "./EntryMessage.ts"
import { checkEntryId } from "./RecurringOptions.ts"
import { RecurringNotFound } from "./RecurringRecord.ts"

/** Why an entry couldn't be read or changed. */
export type EntryError = RecurringNotFound | InvalidOptions | TopologyConflict | NatsError

/** An entry that can be read and is there. */
export type Standing = Omit<EntryMessage.EntryView, "plan" | "state"> & {
  readonly plan: Entry.Plan
  readonly state: Entry.State
}

/** The entry is there, but not to be touched by this engine. */
export const unreadable = (id: string): InvalidOptions =>
  new InvalidOptions({
    field: "id",
    value: show(id),
    reason: "this entry was made by a newer version, or its bytes are damaged, so it is left alone",
  })

/** What lies under an id, also what can't be read or was removed; `undefined` for nothing. */
export const find: (
  wire: Wire,
  id: string,
) => Effect.Effect<EntryMessage.EntryView | undefined, InvalidOptions | NatsError> = Effect
  .fnUntraced(function* (wire, id) {
    const illegal = checkEntryId(id)
    if (illegal !== undefined) return yield* illegal
    const view = yield* EntryMessage.at(wire, EntryMessage.addressOf(id))
    if (view === undefined || !Entry.isReadable(view.plan) || view.plan.id === id) return view
    const reason = `its hash is that of ${show(view.plan.id)}; choose another id`
    return yield* new InvalidOptions({ field: "id", value: show(id), reason })
  })

/** The entry with an id. */
export const standing: (
  wire: Wire,
  id: string,
) => Effect.Effect<Standing, RecurringNotFound | InvalidOptions | NatsError> = Effect.fnUntraced(
  function* (wire, id) {
    const view = yield* find(wire, id)
    if (view === undefined) return yield* new RecurringNotFound({ id })
    const { plan, state } = view
    if (!Entry.isReadable(plan) || !Entry.isReadable(state)) return yield* unreadable(id)
    if (state.removed !== undefined) return yield* new RecurringNotFound({ id })
    return { ...view, plan, state }
  },
)
