/**
 * A recurring entry: what it is (its plan) and where it stands. Both lie in one message, which is the
 * entry's state, its lock and its alarm.
 *
 * Every change makes a new revision. The server may let a schedule fire that has just been replaced,
 * so the newest message isn't always the one that counts: the highest revision is.
 */
import * as Bytes from "./Bytes.ts"
import * as Envelope from "./Envelope.ts"
import { partition } from "./EntryId.ts"
import { isEngineId, type JobId, partitionOf } from "./JobId.ts"
import { maxDelayMillis, maxInstantMillis } from "./Limits.ts"
import * as MessagePack from "./MessagePack.ts"
import type { Recurrence } from "./Recurrence.ts"

/** What becomes of times that were missed, because no server was up for instance. */
export type Misfire =
  /** One run for all of them, when the oldest is later than `tolerance` ms. */
  | { readonly policy: "once"; readonly tolerance: number }
  /** Each of them runs, of many the last `cap`. */
  | { readonly policy: "all"; readonly cap: number }
  /** None of those runs that are later than `tolerance` ms. */
  | { readonly policy: "skip"; readonly tolerance: number }

/** What becomes of a time at which an earlier run hasn't ended. */
export type Overlap = "allow" | "skip" | "queueOne"

/** What an entry is: what its author has declared. */
export interface Plan {
  /** The entry's id, as its author knows it. */
  readonly id: string
  readonly recurrence: Recurrence
  readonly misfire: Misfire
  readonly overlap: Overlap
  /** Most time in ms by which a run is put off, by another share each time. */
  readonly jitter: number
  /** No nominal time before this instant, in ms since 1970. */
  readonly from?: number | undefined
  /** No nominal time after this instant. */
  readonly until?: number | undefined
  /** How many runs there will be; those by hand don't count. */
  readonly limit?: number | undefined
  /** The declared set that it belongs to. */
  readonly set?: string | undefined
  /** What people are told about it. */
  readonly description?: string | undefined
  /** The message of a run, of which only the creation and the nominal time are missing. */
  readonly job: Envelope.Envelope
}

/** One run, which is a job. */
export interface Run {
  /** Id of the job. */
  readonly id: JobId
  /** The nominal time, in ms since 1970. */
  readonly at: number
  /** Whether somebody asked for it, who isn't the clock. */
  readonly byHand: boolean
  /** Whether it is known to have ended. */
  readonly ended: boolean
}

/** Nominal times at which no job was made. */
export interface Skipped {
  /** How many, since the entry was made; of a long outage not each one is counted. */
  readonly count: number
  /** The last of them, in ms since 1970. */
  readonly at: number
  readonly reason: "overlap" | "misfire"
}

/** Why an entry could not be seen to when it was due. */
export interface Trouble {
  readonly message: string
  /** When, in ms since 1970. */
  readonly at: number
  /** How often in a row. */
  readonly tries: number
}

/** Where an entry stands. */
export interface State {
  /** Counts its changes. */
  readonly revision: number
  /** Nominal times up to this instant (ms since 1970) have been seen to. */
  readonly cursor: number
  /** When it was last declared anew, in ms since 1970. */
  readonly changed: number
  /** Since when it is paused. */
  readonly paused?: number | undefined
  /** When it was removed: it is kept for a moment, lest a late alarm bring it back. */
  readonly removed?: number | undefined
  /** Runs that the clock made. */
  readonly runs: number
  /** Runs that somebody asked for, and that aren't stored yet. */
  readonly asked: ReadonlyArray<Run>
  /** The last runs, oldest first. */
  readonly history: ReadonlyArray<Run>
  readonly skipped?: Skipped | undefined
  readonly trouble?: Trouble | undefined
}

/** Runs that an entry remembers. */
export const rememberedRuns = 20

/** Runs beyond these that it remembers where it matters that they haven't ended. */
const rememberedLive = 100

/** Runs by hand that may wait to be stored. */
export const maxAsked = 100

/** Tries in a row after which an entry that is in trouble is disabled. */
export const maxTries = 5

/** The state of a new entry, whose first nominal time comes after `cursor`. */
export const fresh = (cursor: number, now: number): State => ({
  revision: 1,
  cursor,
  changed: now,
  runs: 0,
  asked: [],
  history: [],
})

/** The version of both forms that this engine writes and reads. */
const version = 1

/** What can't be read: of a newer engine, which is left alone, or no entry at all. */
export type Unreadable = "newer" | "broken"

const recurrenceToWire = (recurrence: Recurrence): ReadonlyArray<unknown> => {
  switch (recurrence._tag) {
    case "Cron":
      return ["cron", recurrence.pattern, recurrence.zone]
    case "Every":
      return ["every", recurrence.millis, recurrence.anchor]
    case "At":
      return ["at", recurrence.instants]
  }
}

const misfireToWire = (misfire: Misfire): ReadonlyArray<unknown> => [
  misfire.policy,
  misfire.policy === "all" ? misfire.cap : misfire.tolerance,
]

/** The bytes of a plan; the same plan gives the same bytes. */
export const planToWire = (plan: Plan): Uint8Array<ArrayBuffer> => {
  const { description, from, id, jitter, job, limit, misfire, overlap, recurrence, set, until } =
    plan
  const message = Envelope.fresh(
    Envelope.template(job.name, job.queue, job.lane, job.options),
    0,
    job.payload,
  )
  return MessagePack.encode([
    version,
    id,
    recurrenceToWire(recurrence),
    misfireToWire(misfire),
    overlap,
    jitter,
    [from, until, limit, set, description].map((value) => value ?? null),
    message,
  ])
}

/** Whether two plans have the same nominal times. */
export const sameTimes = (one: Plan, other: Plan): boolean =>
  one.from === other.from &&
  Bytes.same(
    MessagePack.encode(recurrenceToWire(one.recurrence)),
    MessagePack.encode(recurrenceToWire(other.recurrence)),
  )

const isInstant = (value: unknown): value is number =>
  typeof value === "number" && Math.abs(value) <= maxInstantMillis

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0

const recurrenceFrom = (value: unknown): Recurrence | undefined => {
  if (!Array.isArray(value)) return undefined
  const [kind, first, second] = value as Array<unknown>
  if (kind === "cron" && typeof first === "string" && typeof second === "string") {
    return { _tag: "Cron", pattern: first, zone: second }
  }
  if (kind === "every" && isInstant(first) && isInstant(second)) {
    return { _tag: "Every", millis: first, anchor: second }
  }
  return kind === "at" && Array.isArray(first) && first.every(isInstant)
    ? { _tag: "At", instants: first }
    : undefined
}

const misfireFrom = (value: unknown): Misfire | undefined => {
  if (!Array.isArray(value)) return undefined
  const [policy, number] = value as Array<unknown>
  if (!isCount(number)) return undefined
  if (policy === "all") return { policy, cap: number }
  return policy === "once" || policy === "skip" ? { policy, tolerance: number } : undefined
}

const isOverlap = (value: unknown): value is Overlap =>
  value === "allow" || value === "skip" || value === "queueOne"

const isOptional = <A>(value: unknown, is: (value: unknown) => value is A): value is A | null =>
  value === null || is(value)

const isText = (value: unknown): value is string => typeof value === "string"

/** The parts of what may be one of ours: an array that begins with its version. */
const partsOf = (bytes: Uint8Array): ReadonlyArray<unknown> | Unreadable => {
  const parts = MessagePack.decodeOrNothing(bytes)
  if (!Array.isArray(parts) || !isCount(parts[0])) return "broken"
  return parts[0] > version ? "newer" : parts[0] === version ? parts : "broken"
}

/** Reads a plan. */
export const planFrom = (bytes: Uint8Array): Plan | Unreadable => {
  const parts = partsOf(bytes)
  if (typeof parts === "string") return parts
  const [, id, schedule, rule, overlap, jitter, more, message] = parts
  const recurrence = recurrenceFrom(schedule)
  const misfire = misfireFrom(rule)
  if (!isText(id) || recurrence === undefined || misfire === undefined) return "broken"
  if (!isOverlap(overlap) || !Array.isArray(more)) return "broken"
  if (!isCount(jitter) || jitter > maxDelayMillis) return "broken"
  if (!(message instanceof Uint8Array)) return "broken"
  const [from, until, limit, set, description] = more as Array<unknown>
  if (!isOptional(from, isInstant) || !isOptional(until, isInstant)) return "broken"
  if (!isOptional(limit, isCount) || !isOptional(set, isText)) return "broken"
  if (!isOptional(description, isText)) return "broken"
  const job = Envelope.decode(message)
  if (!Envelope.isEnvelope(job)) return job.newer ? "newer" : "broken"
  return {
    id,
    recurrence,
    misfire,
    overlap,
    jitter,
    from: from ?? undefined,
    until: until ?? undefined,
    limit: limit ?? undefined,
    set: set ?? undefined,
    description: description ?? undefined,
    job,
  }
}

const runToWire = ({ at, byHand, ended, id }: Run): ReadonlyArray<unknown> => [
  id,
  at,
  (byHand ? 1 : 0) + (ended ? 2 : 0),
]

const runFrom = (value: unknown): Run | undefined => {
  if (!Array.isArray(value)) return undefined
  const [id, at, flags] = value as Array<unknown>
  return isText(id) && isEngineId(id) && partitionOf(id) === partition && isInstant(at) &&
      isCount(flags)
    ? { id, at, byHand: (flags & 1) > 0, ended: (flags & 2) > 0 }
    : undefined
}

/** The bytes of a state. */
export const stateToWire = (state: State): Uint8Array<ArrayBuffer> => {
  const { asked, changed, cursor, history, paused, removed, revision, runs, skipped, trouble } =
    state
  return MessagePack.encode([
    version,
    revision,
    cursor,
    changed,
    paused ?? null,
    removed ?? null,
    runs,
    asked.map(runToWire),
    history.map(runToWire),
    skipped === undefined ? null : [skipped.count, skipped.at, skipped.reason],
    trouble === undefined ? null : [trouble.message, trouble.at, trouble.tries],
  ])
}

const runsFrom = (value: unknown): ReadonlyArray<Run> =>
  Array.isArray(value) ? value.map(runFrom).filter((run) => run !== undefined) : []

const skippedFrom = (value: unknown): Skipped | undefined => {
  if (!Array.isArray(value)) return undefined
  const [count, at, reason] = value as Array<unknown>
  return isCount(count) && isInstant(at) && (reason === "overlap" || reason === "misfire")
    ? { count, at, reason }
    : undefined
}

const troubleFrom = (value: unknown): Trouble | undefined => {
  if (!Array.isArray(value)) return undefined
  const [message, at, tries] = value as Array<unknown>
  return isText(message) && isInstant(at) && isCount(tries) ? { message, at, tries } : undefined
}

/** Reads a state. */
export const stateFrom = (bytes: Uint8Array): State | Unreadable => {
  const parts = partsOf(bytes)
  if (typeof parts === "string") return parts
  const [, revision, cursor, changed, paused, removed, runs, asked, history, skipped, trouble] =
    parts
  if (!isCount(revision) || !isInstant(cursor) || !isInstant(changed)) return "broken"
  if (!isOptional(paused, isInstant) || !isOptional(removed, isInstant)) return "broken"
  if (!isCount(runs)) return "broken"
  return {
    revision,
    cursor,
    changed,
    paused: paused ?? undefined,
    removed: removed ?? undefined,
    runs,
    asked: runsFrom(asked),
    history: runsFrom(history),
    skipped: skippedFrom(skipped),
    trouble: troubleFrom(trouble),
  }
}

/** Whether something could be read. */
export const isReadable = <A extends object>(value: A | Unreadable): value is A =>
  typeof value !== "string"

/** Whether it has failed too often to be tried again. */
export const isDisabled = ({ trouble }: State): boolean => (trouble?.tries ?? 0) >= maxTries

/**
 * With further runs at the end of what is remembered. Where `overlap` asks for them, older ones that
 * aren't known to have ended are kept, too.
 */
export const remember = (
  history: ReadonlyArray<Run>,
  runs: ReadonlyArray<Run>,
  overlap: Overlap,
): ReadonlyArray<Run> => {
  const all = [...history, ...runs]
  const last = all.slice(-rememberedRuns)
  if (overlap === "allow") return last
  const live = all.slice(0, -rememberedRuns).filter(({ ended }) => !ended)
  return [...live.slice(-rememberedLive), ...last]
}
