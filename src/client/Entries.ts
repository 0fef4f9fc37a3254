/** What a client does with recurring entries: each change is one conditional write. */
import * as Effect from "effect/Effect"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { show } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as EntryDeclare from "./EntryDeclare.ts"
import type { Declared, Upserted } from "./EntryDeclare.ts"
import { type EntryError, type Standing, standing } from "./EntryFind.ts"
import { list, type RecurringListOptions, type RecurringPage } from "./EntryList.ts"
import * as EntryMessage from "./EntryMessage.ts"
import type { EntryStep } from "./EntryStep.ts"
import * as EntrySync from "./EntrySync.ts"
import type { Declaration, Synced, SyncOptions } from "./EntrySync.ts"
import { upcoming } from "./EntryTimes.ts"
import type * as JobRecord from "./JobRecord.ts"
import type * as Prepare from "./Prepare.ts"
import {
  fromParts,
  type RecurringNotFound,
  type RecurringRecord,
  type RecurringRun,
  runsOf,
} from "./RecurringRecord.ts"
import type { EnqueueError, Writer } from "./Writer.ts"

/** What the client can do with recurring entries. */
export interface Entries {
  /** Makes an entry, or declares it anew. */
  readonly upsert: (id: string, declared: Declared) => Effect.Effect<Upserted, EnqueueError>
  /** Makes or changes all that is declared, and removes what isn't any more if that is asked for. */
  readonly sync: (
    declarations: ReadonlyArray<Declaration>,
    options?: SyncOptions,
  ) => Effect.Effect<Synced, EnqueueError>
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
  /** One page of the entries, sorted by their ids. */
  readonly list: (
    options?: RecurringListOptions,
  ) => Effect.Effect<RecurringPage, InvalidOptions | NatsError>
  /** The last runs, newest first, with their jobs. */
  readonly history: (id: string) => Effect.Effect<ReadonlyArray<PastRun>, EntryError>
  /** The next nominal times; of an entry that is still those after it would go on now. */
  readonly next: (
    id: string,
    count?: number,
  ) => Effect.Effect<ReadonlyArray<Date>, EntryError>
}

/** One run of an entry, and what became of it. */
export interface PastRun extends RecurringRun {
  /** Its job; absent where the record has reached the end of its retention, or can't be read. */
  readonly job?: JobRecord.JobRecord | undefined
}

/** Runs that are read at once. */
const readAtOnce = 8

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
  prepare: ReturnType<typeof Prepare.make>,
  step: EntryStep,
  readJob: (id: JobId) => Effect.Effect<
    JobRecord.JobRecord,
    JobRecord.JobNotFound | JobRecord.UnreadableRecord | InvalidOptions | NatsError
  >,
): Entries => {
  const { clock } = wire
  const { patience } = writer
  const declare = EntryDeclare.make(wire, writer, prepare)

  /** Changes where an entry stands; `change` gives `undefined` when there is nothing to write. */
  const update = Effect.fnUntraced(function* (
    id: string,
    change: (standing: Standing, now: number) => Entry.State | undefined,
  ): Effect.fn.Return<RecurringRecord, EntryError> {
    while (true) {
      const view = yield* standing(wire, id)
      const { address, newest, plan, state } = view
      const now = clock.now()
      const changed = change(view, now)
      if (changed === undefined) return fromParts(plan, state)
      const next = { ...changed, revision: state.revision + 1 }
      const message = EntryMessage.waiting(
        wire,
        view,
        EntryMessage.bytesIn(view, next),
        EntryDeclare.lookOf(wire, plan, next, now),
      )
      const stored = yield* EntryMessage.write(wire, address, message, newest, patience)
      if (stored !== undefined) return fromParts(plan, next)
    }
  })

  const upsert: Entries["upsert"] = (id, declared) =>
    Effect.flatMap(declare.check(id, declared), (checked) => declare.store(checked, true))

  const remove: Entries["remove"] = (id) =>
    update(id, ({ state }, now) => ({ ...state, asked: [], removed: now })).pipe(
      Effect.as(true),
      Effect.catchTag("RecurringNotFound", () => Effect.succeed(false)),
    )

  const removeFrom = Effect.fnUntraced(function* (
    set: string,
    id: string,
  ): Effect.fn.Return<boolean, Exclude<EntryError, RecurringNotFound>> {
    let was = false
    const removed = update(id, ({ plan, state }, now) => {
      was = plan.set === set
      return was ? { ...state, asked: [], removed: now } : undefined
    })
    yield* Effect.catchTag(removed, "RecurringNotFound", () => Effect.sync(() => was = false))
    return was
  })

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
      const view = yield* standing(wire, id)
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

  const history: Entries["history"] = Effect.fnUntraced(function* (id) {
    const { state } = yield* standing(wire, id)
    const notThere = () => Effect.succeed(undefined)
    return yield* Effect.forEach(
      runsOf(state),
      (run) =>
        readJob(run.id).pipe(
          Effect.catchTags({ JobNotFound: notThere, UnreadableRecord: notThere }),
          Effect.map((job): PastRun => ({ ...run, job })),
        ),
      { concurrency: readAtOnce },
    )
  })

  return {
    upsert,
    sync: EntrySync.make(declare, (options) => list(wire, options), removeFrom),
    remove,
    pause,
    resume,
    trigger,
    get: (id) => Effect.map(standing(wire, id), ({ plan, state }) => fromParts(plan, state)),
    list: (options) => list(wire, options),
    history,
    next: (id, count) =>
      Effect.flatMap(
        standing(wire, id),
        ({ plan, state }) => upcoming(plan, state, clock.now(), count),
      ),
  }
}
