/** Declares recurring entries: all is checked before anything is written. */
import * as Effect from "effect/Effect"
import * as Bytes from "../core/Bytes.ts"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as EntryTick from "../core/EntryTick.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import { checkKeys, show } from "../core/Names.ts"
import * as TraceContext from "../core/TraceContext.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { TopologyConflict } from "../nats/Topology.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Definition } from "./Definition.ts"
import { find, unreadable } from "./EntryFind.ts"
import * as EntryMessage from "./EntryMessage.ts"
import { timesAfter } from "./EntryTimes.ts"
import type * as Prepare from "./Prepare.ts"
import { entryKeys, type EntryOptions, planOf } from "./RecurringOptions.ts"
import { fromParts, type RecurringRecord } from "./RecurringRecord.ts"
import type { EnqueueError, Writer } from "./Writer.ts"

/** What an upsert did. */
export interface Upserted {
  /** The entry as it is now. */
  readonly entry: RecurringRecord
  /** Whether it is new, was declared otherwise before, or is as it was: then nothing was written. */
  readonly change: "created" | "changed" | "unchanged"
}

/** An entry as it is declared. */
export interface Declared extends EntryOptions {
  /** The job that each run is. */
  readonly job: Definition
  /** What each run is given. */
  readonly payload: unknown
}

/** A declaration without a mistake, and what it meets. */
export interface Checked {
  readonly id: string
  readonly plan: Entry.Plan
  /** What lies under the id. */
  readonly view: EntryMessage.EntryView | undefined
}

/** Declares entries. */
export interface Declare {
  /** Checks a declaration; `at` is put before the names of fields in errors. */
  readonly check: (
    id: string,
    declared: Declared,
    set?: string,
    at?: string,
  ) => Effect.Effect<Checked, EnqueueError>
  /**
   * Stores what was checked. With `needsTimes` an entry that has no time to come is refused if it is
   * new, or if its times are.
   */
  readonly store: (
    checked: Checked,
    needsTimes: boolean,
  ) => Effect.Effect<Upserted, InvalidOptions | TopologyConflict | NatsError>
}

const isDefinition = (value: unknown): value is Definition =>
  typeof value === "object" && value !== null &&
  (value as Partial<Definition>).template instanceof Uint8Array

const checkJob = (job: unknown): InvalidOptions | undefined => {
  const refuse = (value: string, reason: string) =>
    new InvalidOptions({ field: "job", value, reason })
  if (!isDefinition(job)) {
    return refuse(show(job), "a job definition is expected, such as Job.make gives")
  }
  return job.unique === undefined ? undefined : refuse(
    show(job.name),
    "a unique job can't recur; take a definition without `unique`, and `overlap` for runs that " +
      "aren't to run side by side",
  )
}

/** Context that doesn't travel with each run: the span of whoever declared the entry is over. */
const withoutTrace = (context: Envelope.Options["context"]): Envelope.Options["context"] => {
  const { [TraceContext.key]: _, ...rest } = context ?? {}
  return Object.keys(rest).length === 0 ? undefined : rest
}

/** When a server is to look; at once where this runtime can't tell, for a server may. */
export const lookOf = (
  { alarmMillis }: Wire,
  plan: Entry.Plan,
  state: Entry.State,
  now: number,
): number | undefined => {
  try {
    return EntryTick.nextLook(plan, state, now, EntryTick.pauseMillis(alarmMillis))
  } catch {
    return now
  }
}

const hasTimes = (plan: Entry.Plan, after: number): boolean => timesAfter(plan, after, 1).length > 0

/** Where an entry stands once it is declared anew: what has no time to come counts from now on. */
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
  const goesOn = Entry.sameTimes(plan, old) && EntryTick.nextTime(old, before) !== undefined
  return {
    ...before,
    revision,
    changed: now,
    trouble: undefined,
    cursor: goesOn ? before.cursor : cursor,
  }
}

/** Refuses an entry that would never run, unless it was like that before. */
const refuseWithoutTimes = (
  plan: Entry.Plan,
  old: Entry.Plan | undefined,
  { cursor }: Entry.State,
): InvalidOptions | undefined => {
  const isOld = old !== undefined && Entry.sameTimes(plan, old) && plan.until === old.until
  if (isOld || hasTimes(plan, cursor)) return undefined
  return hasTimes({ ...plan, until: undefined }, cursor)
    ? new InvalidOptions({
      field: "until",
      value: new Date(plan.until ?? 0).toISOString(),
      reason: "the schedule has no time between now and then",
    })
    // Cron expressions and intervals always have one.
    : new InvalidOptions({
      field: "schedule.at",
      value: `a list of ${plan.recurrence._tag === "At" ? plan.recurrence.instants.length : 0}`,
      reason: "none of these instants is yet to come",
    })
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  { ensureQueue, patience }: Writer,
  prepare: ReturnType<typeof Prepare.make>,
): Declare => {
  const { clock } = wire

  const check: Declare["check"] = Effect.fnUntraced(function* (id, declared, set, at = "") {
    const refuse = ({ field, reason, value }: InvalidOptions) =>
      new InvalidOptions({ field: `${at}${field}`, value, reason })
    const unknown = checkKeys("options", declared, entryKeys)
    if (unknown !== undefined) return yield* refuse(unknown)
    const { job: definition, payload, ...options } = declared
    const rest = planOf(id, options, set)
    if (rest instanceof InvalidOptions) return yield* refuse(rest)
    const badJob = checkJob(definition)
    if (badJob !== undefined) return yield* refuse(badJob)
    const { deadline, priority, queue, retry, timeout, ttl } = options
    const prepared = yield* Effect.catchTag(
      prepare(definition, payload, { deadline, priority, queue, retry, timeout, ttl }, {
        partition: EntryId.partition,
        field: `${at}payload`,
        // An entry that is declared as it was is left as it is.
        stable: true,
        what: "a recurring entry",
      }),
      "InvalidOptions",
      (error) => Effect.fail(refuse(error)),
    )
    const job = Envelope.decode(prepared.message)
    // It was made here a moment ago.
    if (!Envelope.isEnvelope(job)) throw new Error(job.reason)
    if (job.options.input !== undefined) {
      const reason = "runs of a recurring entry follow no job whose result they could take"
      return yield* refuse(new InvalidOptions({ field: "payload", value: show(payload), reason }))
    }
    const { deadline: limit = Number.POSITIVE_INFINITY } = job.options
    if (rest.jitter >= limit) {
      const reason = "a run may start only when its deadline has passed"
      return yield* refuse(
        new InvalidOptions({ field: "jitter", value: show(options.jitter), reason }),
      )
    }
    const context = withoutTrace(job.options.context)
    const plan: Entry.Plan = { ...rest, job: { ...job, options: { ...job.options, context } } }
    const view = yield* Effect.catchTag(
      find(wire, id),
      "InvalidOptions",
      (error) => Effect.fail(refuse(error)),
    )
    if (isNewer(view)) return yield* refuse(unreadable(id))
    return { id, plan, view }
  })

  const store: Declare["store"] = Effect.fnUntraced(function* ({ id, plan, view }, needsTimes) {
    const address = EntryMessage.addressOf(id)
    const bytes = Entry.planToWire(plan)
    for (let seen = view;; seen = yield* find(wire, id)) {
      const now = clock.now()
      if (isNewer(seen)) return yield* unreadable(id)
      const before = seen !== undefined && Entry.isReadable(seen.state) ? seen.state : undefined
      const isThere = before !== undefined && before.removed === undefined
      const old = isThere && seen !== undefined && Entry.isReadable(seen.plan)
        ? seen.plan
        : undefined
      if (seen !== undefined && before !== undefined && old !== undefined) {
        const isSame = !Entry.isDisabled(before) && Bytes.same(seen.current.envelope.payload, bytes)
        if (isSame) return { entry: fromParts(plan, before), change: "unchanged" }
      }
      const next = declaredAnew(plan, old, before, now)
      const refused = needsTimes ? refuseWithoutTimes(plan, old, next) : undefined
      if (refused !== undefined) return yield* refused
      const message = EntryMessage.waiting(
        wire,
        seen ?? { address, newest: 0 },
        EntryMessage.bytesOf(plan, next, now),
        lookOf(wire, plan, next, now),
      )
      yield* ensureQueue(Subjects.engineQueue)
      const stored = yield* EntryMessage.write(wire, address, message, seen?.newest ?? 0, patience)
      if (stored === undefined) continue
      return { entry: fromParts(plan, next), change: old === undefined ? "created" : "changed" }
    }
  })

  return { check, store }
}

/** Whether a newer engine made it, which knows best. */
const isNewer = (view: EntryMessage.EntryView | undefined): boolean =>
  view !== undefined && (view.plan === "newer" || view.state === "newer")
