/** What a client does with recurring entries: each change is one conditional write. */
import * as Effect from "effect/Effect"
import * as Bytes from "../core/Bytes.ts"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as EntryTick from "../core/EntryTick.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { show } from "../core/Names.ts"
import * as TraceContext from "../core/TraceContext.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { TopologyConflict } from "../nats/Topology.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Definition } from "./Definition.ts"
import * as EntryMessage from "./EntryMessage.ts"
import type { EntryStep } from "./EntryStep.ts"
import type * as Prepare from "./Prepare.ts"
import { checkEntryId, type EntryOptions, planOf } from "./RecurringOptions.ts"
import { fromParts, RecurringNotFound, type RecurringRecord } from "./RecurringRecord.ts"
import type { EnqueueError, Writer } from "./Writer.ts"

/** What an upsert did. */
export interface Upserted {
  /** The entry as it is now. */
  readonly entry: RecurringRecord
  /** Whether it is new, was declared otherwise before, or is as it was: then nothing was written. */
  readonly change: "created" | "changed" | "unchanged"
}

/** Why an entry couldn't be read or changed. */
export type EntryError = RecurringNotFound | InvalidOptions | TopologyConflict | NatsError

/** An entry as it is declared. */
export interface Declared extends EntryOptions {
  readonly job: Definition
  readonly payload: unknown
  /** The declared set that it belongs to. */
  readonly set?: string | undefined
}

/** What the client can do with recurring entries. */
export interface Entries {
  /** Makes an entry, or declares it anew. */
  readonly upsert: (
    id: string,
    declared: Declared,
  ) => Effect.Effect<Upserted, EnqueueError>
  /** Removes an entry, and tells whether it was there. */
  readonly remove: (id: string) => Effect.Effect<boolean, EntryError>
  /** Makes no runs from here on. */
  readonly pause: (id: string) => Effect.Effect<RecurringRecord, EntryError>
  /** Makes runs again, of times from here on. */
  readonly resume: (id: string) => Effect.Effect<RecurringRecord, EntryError>
  /** Makes one run at once, and gives the id of its job. */
  readonly trigger: (id: string) => Effect.Effect<JobId, EntryError>
  /** Reads an entry. */
  readonly get: (id: string) => Effect.Effect<RecurringRecord, EntryError>
}

/** Context that doesn't travel with each run: the span of whoever declared the entry is over. */
const withoutTrace = (context: Envelope.Options["context"]): Envelope.Options["context"] => {
  const { [TraceContext.key]: _, ...rest } = context ?? {}
  return Object.keys(rest).length === 0 ? undefined : rest
}

/** An entry that can be read and is there. */
type Standing = Omit<EntryMessage.EntryView, "plan" | "state"> & {
  readonly plan: Entry.Plan
  readonly state: Entry.State
}

const unreadable = (id: string) =>
  new InvalidOptions({
    field: "id",
    value: show(id),
    reason: "this entry was made by a newer version, or its bytes are damaged, so it is left alone",
  })

/** When a server is to look; at once where this runtime can't tell, for a server may. */
const lookOf = (plan: Entry.Plan, state: Entry.State, now: number): number | undefined => {
  try {
    return EntryTick.nextLook(plan, state, now)
  } catch {
    return now
  }
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
  prepare: ReturnType<typeof Prepare.make>,
  step: EntryStep,
): Entries => {
  const { clock } = wire
  const { patience } = writer

  /** The entry with an id, and that it isn't one whose id has the same hash. */
  const find = Effect.fnUntraced(function* (
    id: string,
  ): Effect.fn.Return<EntryMessage.EntryView | undefined, InvalidOptions | NatsError> {
    const illegal = checkEntryId(id)
    if (illegal !== undefined) return yield* illegal
    const view = yield* EntryMessage.at(wire, EntryMessage.addressOf(id))
    if (view === undefined || !Entry.isReadable(view.plan) || view.plan.id === id) return view
    const reason = `its hash is that of ${show(view.plan.id)}; choose another id`
    return yield* new InvalidOptions({ field: "id", value: show(id), reason })
  })

  const standing = Effect.fnUntraced(function* (
    id: string,
  ): Effect.fn.Return<Standing, EntryError> {
    const view = yield* find(id)
    if (view === undefined) return yield* new RecurringNotFound({ id })
    const { plan, state } = view
    if (!Entry.isReadable(plan) || !Entry.isReadable(state)) return yield* unreadable(id)
    if (state.removed !== undefined) return yield* new RecurringNotFound({ id })
    return { ...view, plan, state }
  })

  /** Changes where an entry stands; `change` gives `undefined` when there is nothing to write. */
  const update = Effect.fnUntraced(function* (
    id: string,
    change: (standing: Standing, now: number) => Entry.State | undefined,
  ): Effect.fn.Return<RecurringRecord, EntryError> {
    while (true) {
      const view = yield* standing(id)
      const { address, newest, plan, state } = view
      const now = clock.now()
      const changed = change(view, now)
      if (changed === undefined) return fromParts(plan, state)
      const next = { ...changed, revision: state.revision + 1 }
      const message = EntryMessage.waiting(
        wire,
        address,
        EntryMessage.bytesIn(view, next),
        lookOf(plan, next, now),
      )
      const stored = yield* EntryMessage.write(wire, address, message, newest, patience)
      if (stored !== undefined) return fromParts(plan, next)
    }
  })

  const upsert: Entries["upsert"] = Effect.fnUntraced(function* (id, declared) {
    const { job: definition, payload, set, ...options } = declared
    const rest = planOf(id, options, set)
    if (rest instanceof InvalidOptions) return yield* rest
    const { deadline, priority, queue, retry, timeout, ttl } = options
    const jobOptions = { deadline, priority, queue, retry, timeout, ttl }
    const prepared = yield* prepare(definition, payload, jobOptions, {
      partition: EntryId.partition,
      field: "payload",
      what: "a recurring entry",
    })
    const job = Envelope.decode(prepared.message)
    // It was made here a moment ago.
    if (!Envelope.isEnvelope(job)) throw new Error(job.reason)
    const context = withoutTrace(job.options.context)
    const plan: Entry.Plan = { ...rest, job: { ...job, options: { ...job.options, context } } }
    yield* writer.ensureQueue(Subjects.engineQueue)
    const address = EntryMessage.addressOf(id)
    const bytes = Entry.planToWire(plan)
    while (true) {
      const view = yield* find(id)
      const now = clock.now()
      if (view !== undefined && (view.plan === "newer" || view.state === "newer")) {
        return yield* unreadable(id)
      }
      const before = view !== undefined && Entry.isReadable(view.state) ? view.state : undefined
      const old = view !== undefined && Entry.isReadable(view.plan) ? view.plan : undefined
      const isThere = before !== undefined && old !== undefined && before.removed === undefined
      if (isThere && view !== undefined && !Entry.isDisabled(before)) {
        const same = Bytes.same(view.current.envelope.payload, bytes)
        if (same) return { entry: fromParts(plan, before), change: "unchanged" }
      }
      const next = declaredAnew(plan, isThere ? old : undefined, before, now)
      const message = EntryMessage.waiting(
        wire,
        address,
        EntryMessage.bytesOf(plan, next, now),
        lookOf(plan, next, now),
      )
      const stored = yield* EntryMessage.write(wire, address, message, view?.newest ?? 0, patience)
      if (stored === undefined) continue
      return { entry: fromParts(plan, next), change: isThere ? "changed" : "created" }
    }
  })

  const remove: Entries["remove"] = (id) =>
    update(id, ({ state }, now) => ({ ...state, asked: [], removed: now })).pipe(
      Effect.as(true),
      Effect.catchTag("RecurringNotFound", () => Effect.succeed(false)),
    )

  const pause: Entries["pause"] = (id) =>
    update(
      id,
      ({ state }, now) => state.paused === undefined ? { ...state, paused: now } : undefined,
    )

  const resume: Entries["resume"] = (id) =>
    update(
      id,
      ({ state }, now) =>
        state.paused === undefined && !Entry.isDisabled(state) ? undefined : {
          ...state,
          cursor: Math.max(state.cursor, now),
          paused: undefined,
          trouble: undefined,
        },
    )

  const trigger: Entries["trigger"] = Effect.fnUntraced(function* (id) {
    yield* writer.ensureQueue(Subjects.engineQueue)
    const job = writer.newIdIn(EntryId.partition)
    while (true) {
      const view = yield* standing(id)
      const { address, newest, state } = view
      // An earlier try was stored, and a server was faster than its answer.
      if ([...state.asked, ...state.history].some(({ id }) => id === job)) return job
      if (state.asked.length >= Entry.maxAsked) {
        const reason = `${Entry.maxAsked} runs that were asked for wait already`
        return yield* new InvalidOptions({ field: "id", value: show(id), reason })
      }
      const run: Entry.Run = { id: job, at: clock.now(), byHand: true, ended: false }
      const next = { ...state, revision: state.revision + 1, asked: [...state.asked, run] }
      const message = EntryMessage.looked(wire, view, EntryMessage.bytesIn(view, next))
      const stored = yield* EntryMessage.write(wire, address, message, newest, patience)
      if (stored === undefined) continue
      // From here on a server would do it, too; who asked shouldn't have to wait for one.
      yield* Effect.ignore(step(address))
      return job
    }
  })

  return {
    upsert,
    remove,
    pause,
    resume,
    trigger,
    get: (id) => Effect.map(standing(id), ({ plan, state }) => fromParts(plan, state)),
  }
}

/** Where an entry stands once it is declared anew: another schedule counts from now on. */
const declaredAnew = (
  plan: Entry.Plan,
  old: Entry.Plan | undefined,
  before: Entry.State | undefined,
  now: number,
): Entry.State => {
  // What comes after a removal, or after bytes that nobody can read, has the higher revision.
  const revision = (before?.revision ?? 0) + 1
  const cursor = Math.max(before?.cursor ?? 0, now)
  if (before === undefined || old === undefined) return { ...Entry.fresh(cursor, now), revision }
  const isSameTime = Entry.sameTimes(plan, old) && !Entry.isDisabled(before)
  return {
    ...before,
    revision,
    changed: now,
    trouble: undefined,
    cursor: isSameTime ? before.cursor : cursor,
  }
}
