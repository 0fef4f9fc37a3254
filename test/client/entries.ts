/** Recurring entries in tests: their time is set by hand, and so is the look that a server has. */
import * as Effect from "effect/Effect"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as EntryStep from "../../src/client/EntryStep.ts"
import type { Transition } from "../../src/client/Middleware.ts"
import * as Entry from "../../src/core/Entry.ts"
import type * as Envelope from "../../src/core/Envelope.ts"
import * as Api from "../../src/nats/Api.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { messageOf, stored } from "./world.ts"

/** What lies in the stream for an entry. */
export const viewOf = Effect.fnUntraced(function* (id: string) {
  const view = yield* EntryMessage.at(yield* Wire.Wire, EntryMessage.addressOf(id))
  if (view === undefined) return yield* Effect.die(new Error(`no entry ${id}`))
  return view
})

/** The same of one that can be read. */
export const entryOf = Effect.fnUntraced(function* (id: string) {
  const { plan, state, ...view } = yield* viewOf(id)
  if (!Entry.isReadable(plan) || !Entry.isReadable(state)) {
    return yield* Effect.die(new Error(`${id} can't be read`))
  }
  return { ...view, plan, state }
})

/** Changes where an entry stands, and what it is, as if its alarm had just fired. */
export const wake = Effect.fnUntraced(function* (
  id: string,
  state: Partial<Entry.State> = {},
  plan: Partial<Entry.Plan> = {},
) {
  const wire = yield* Wire.Wire
  const view = yield* entryOf(id)
  const next = { ...view.state, ...state, revision: view.state.revision + 1 }
  const bytes = Object.keys(plan).length === 0
    ? EntryMessage.bytesIn(view, next)
    : EntryMessage.bytesOf({ ...view.plan, ...plan }, next, view.current.envelope.created)
  const message = EntryMessage.looked(wire, view, bytes)
  const sequence = yield* EntryMessage.write(wire, view.address, message, view.newest, 5_000)
  if (sequence === undefined) return yield* Effect.die(new Error("somebody was faster"))
  return sequence
})

/** Does what a server does when an alarm has fired; gives what observers were told. */
export const tick = Effect.fnUntraced(function* (
  id: string,
  change: (wire: Wire.Wire) => Wire.Wire = (wire) => wire,
) {
  const wire = change(yield* Wire.Wire)
  const told: Array<Transition> = []
  const step = EntryStep.make(wire, 5_000, {
    created: (transition) => told.push(transition),
    queued: () => Effect.void,
  })
  yield* step(EntryMessage.addressOf(id))
  return told
})

/** Makes an entry look as if all servers had been down since an instant, and lets one start. */
export const tickSince = (id: string, cursor: number, plan: Partial<Entry.Plan> = {}) =>
  Effect.andThen(wake(id, { cursor }, plan), tick(id))

/** The runs that lie in the stream, oldest nominal time first, each with its nominal time. */
export const runsOf = Effect.fnUntraced(function* (id: string) {
  const { subjects } = yield* stored
  const runs: Array<{ id: string; at: number; state: string; envelope: Envelope.Envelope }> = []
  for (const subject of subjects) {
    const [, , , state = "", queue = "", , , job = ""] = subject.split(".")
    if (queue.startsWith("_") || queue === "-") continue
    const { envelope } = yield* messageOf(job)
    const [entry, at] = envelope.options.recurring ?? []
    if (entry === id && at !== undefined) runs.push({ id: job, at, state, envelope })
  }
  return runs.sort((a, b) => a.at - b.at)
})

/** Nominal times of the runs in the stream. */
export const timesOf = (id: string) => Effect.map(runsOf(id), (runs) => runs.map(({ at }) => at))

/** Newest sequence of the first partition's stream. */
export const lastSequence = Effect.flatMap(
  Wire.Wire,
  ({ nats: { connection, namespace } }) =>
    Effect.map(
      Api.call<{ readonly state: { readonly last_seq: number } }>(
        connection,
        `STREAM.INFO.${jobsStream(namespace, 0)}`,
        undefined,
        "asking for the newest sequence",
      ),
      ({ state }) => state.last_seq,
    ),
)
