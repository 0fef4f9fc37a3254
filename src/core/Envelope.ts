/**
 * The bytes of a job's message, version 1: one MessagePack array. `docs/envelope.md` describes it for
 * clients in other languages; this file is what holds it true.
 *
 *     0  version    1
 *     1  name       of the job definition
 *     2  queue      that the job was created for
 *     3  priority   1 critical … 4 low
 *     4  options    map or nil: what the caller and the definition decided, see `Options`
 *     5  created    ms since 1970
 *     6  payload    bin: the payload's own MessagePack
 *     7  progress   array or nil: what the engine knows of earlier attempts
 *     8  outcome    array, in final records only
 *
 * Positions 0 to 6 never change in the life of a job: every later message begins with a copy of them.
 */
import * as Attempt from "./Attempt.ts"
import * as BatchState from "./BatchState.ts"
import { maxDelayMillis, maxInstantMillis } from "./Limits.ts"
import * as MessagePack from "./MessagePack.ts"
import * as Retry from "./Retry.ts"
import * as Waits from "./Waits.ts"

/** The version that this engine writes and reads. */
export const version = 1

/** What a caller decided for one job beside its definition. */
export interface Options {
  /** Replaces the definition's retry policy. */
  readonly retry?: Retry.Backoff | undefined
  /** Replaces the definition's time limit for an attempt, in ms. */
  readonly timeout?: number | undefined
  /** Retention class, part of the final record's subject; absent for the common one. */
  readonly retention?: string | undefined
  /** Time limit for the job as a whole, in ms from its creation or its last requeue. */
  readonly deadline?: number | undefined
  /** Longest wait for its first attempt, in ms from when it became ready. */
  readonly ttl?: number | undefined
  /** Version of the payload, 1 when absent. */
  readonly version?: number | undefined
  /** Context that travels with the job: trace, tenant and the like. */
  readonly context?: Readonly<Record<string, string>> | undefined
  /** Tells one call's message from another's where the id was chosen by the caller. */
  readonly nonce?: string | undefined
  /** The payload is the result of its one parent, or the list of all its parents' results. */
  readonly input?: "result" | "results" | undefined
  /** The recurring entry that it is a run of, and its nominal time in ms since 1970. */
  readonly recurring?: readonly [entry: string, at: number] | undefined
}

/** A claim on a unique key that the job holds. */
export interface Claim {
  /** Hash of the key, the last token of the claim's subject. */
  readonly hash: string
  /** Sequence of the claim: it is released by deleting exactly this message. */
  readonly sequence: number
  /** Who releases it: the first attempt, the end of the job, or nobody because it expires. */
  readonly until: "started" | "finished" | "expired"
}

/** Where a job waits that was moved after its creation. */
export interface Place {
  readonly queue: string
  readonly lane: number
}

/** What the engine has learned since the job was created. */
export interface Progress {
  /** Attempts that ended and count: failures, and the final success. */
  readonly attempts: number
  /** How often the handler asked for a later try that doesn't count. */
  readonly snoozes: number
  /** How often the job's server was lost while it ran. */
  readonly lost: number
  /** How often a server gave it back because it doesn't know the job's name. */
  readonly unknown: number
  /** Stream sequence of the final record that a requeue left behind; 0 for none. */
  readonly after: number
  /** The attempts themselves; of many, the first and the last five. */
  readonly history: ReadonlyArray<Attempt.Attempt>
  /** Attempts before the last requeue: they number later ones but don't count for the policy. */
  readonly earlier?: number | undefined
  /** When it became ready or will, in ms since 1970, where that isn't its creation. */
  readonly since?: number | undefined
  /** When it was last requeued, in ms since 1970: a new life, with a new deadline. */
  readonly requeued?: number | undefined
  /** An attempt has begun that a server gave back; known of jobs with a time to live only. */
  readonly begun?: boolean | undefined
  /** Where it waits now, if not where it was created. */
  readonly place?: Place | undefined
  /** The unique key that it holds. */
  readonly claim?: Claim | undefined
  /** What it waits for, or has waited for. */
  readonly waits?: Waits.Waits | undefined
  /** Of a batch: where it stands. */
  readonly batch?: BatchState.BatchState | undefined
  /** Of a recurring entry: where it stands, in bytes that `Entry` reads. */
  readonly entry?: Uint8Array | undefined
}

/** How a job ended. */
export interface Outcome {
  /** When, in ms since 1970. */
  readonly ended: number
  /** The handler's result in the bytes of the definition's success schema. */
  readonly result?: Uint8Array | undefined
  /** Why, for a job that failed or was cancelled. */
  readonly reason?: string | undefined
}

/** A decoded message of a job. */
export interface Envelope {
  readonly name: string
  readonly queue: string
  readonly lane: number
  readonly options: Options
  readonly created: number
  readonly payload: Uint8Array
  readonly progress: Progress
  readonly outcome?: Outcome | undefined
  /** The message's bytes of positions 0 to 6, without the array's own head. */
  readonly head: Uint8Array
}

/** Progress of a job that no server has touched. */
export const untouched: Progress = {
  attempts: 0,
  snoozes: 0,
  lost: 0,
  unknown: 0,
  after: 0,
  history: [],
}

const joined = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const { length } = parts
  const head = length < 16
    ? [0x90 + length]
    : length < 0x10000
    ? [0xdc, length >>> 8, length & 0xff]
    : [0xdd, length >>> 24, (length >>> 16) & 0xff, (length >>> 8) & 0xff, length & 0xff]
  return concat([Uint8Array.from(head), ...parts])
}

/**
 * What a handler is given, in bytes: the payload, or what its parents have given where the job takes
 * their results; `undefined` while one of these isn't there.
 */
export const inputOf = ({ options: { input }, payload, progress }: Envelope):
  | Uint8Array
  | undefined => {
  if (input === undefined) return payload
  const parents = progress.waits?.parents ?? []
  const results: Array<Uint8Array> = []
  for (const { outcome } of parents) {
    if (outcome?.result !== undefined) results.push(outcome.result)
    // Of any one parent that was needed, the first result counts; a list has all of them.
    else if (input === "results") return undefined
  }
  return input === "result" ? results[0] : joined(results)
}

/** Where a job waits when it is ready: where it was created, or where it was moved to. */
export const placeOf = ({ lane, progress, queue }: Envelope): Place =>
  progress.place ?? { queue, lane }

const arrayOf8 = 0x98
const arrayOf9 = 0x99
const nil = 0xc0

const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array<ArrayBuffer> => {
  let length = 0
  for (const part of parts) length += part.length
  const bytes = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return bytes
}

/** The bytes of positions 0 to 4, which all jobs of one definition and one set of options share. */
export const template = (
  name: string,
  queue: string,
  lane: number,
  options: Options,
): Uint8Array => {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined)
  const shown = entries.length === 0 ? null : Object.fromEntries(entries)
  return concat([version, name, queue, lane, shown].map((value) => MessagePack.encode(value)))
}

/**
 * A new job's message, of which nothing is known but what its creator decided. `payload` is copied, so
 * it may be a shared buffer.
 */
export const fresh = (
  template: Uint8Array,
  created: number,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> => {
  const size = payload.length
  const headSize = size < 0x100 ? 2 : size < 0x10000 ? 3 : 5
  let at = 1 + template.length
  const bytes = new Uint8Array(at + 9 + headSize + size + 1)
  bytes[0] = arrayOf8
  bytes.set(template, 1)
  bytes[at] = 0xcf
  at = writeUint32(bytes, at + 1, Math.floor(created / 0x100000000))
  at = writeUint32(bytes, at, created % 0x100000000)
  if (headSize === 2) {
    bytes[at++] = 0xc4
  } else if (headSize === 3) {
    bytes[at++] = 0xc5
    bytes[at++] = size >>> 8
  } else {
    bytes[at++] = 0xc6
    bytes[at++] = size >>> 24
    bytes[at++] = size >>> 16
    bytes[at++] = size >>> 8
  }
  bytes[at++] = size
  bytes.set(payload, at)
  bytes[at + size] = nil
  return bytes
}

/** The same for a job of which more is known: when it will be ready, for instance. */
export const freshWith = (
  template: Uint8Array,
  created: number,
  payload: Uint8Array,
  progress: Progress,
): Uint8Array<ArrayBuffer> =>
  concat([
    fresh(template, created, payload).subarray(0, -1),
    MessagePack.encode(progressToWire(progress)),
  ])

/** A message that {@link fresh} made, of a job of which more is known. */
export const withProgress = (made: Uint8Array, progress: Progress): Uint8Array<ArrayBuffer> =>
  concat([made.subarray(0, -1), MessagePack.encode(progressToWire(progress))])

const writeUint32 = (bytes: Uint8Array, at: number, value: number): number => {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
  return at + 4
}

const progressToWire = (progress: Progress): ReadonlyArray<unknown> | null =>
  progress === untouched ? null : [
    progress.attempts,
    progress.snoozes,
    progress.lost,
    progress.unknown,
    progress.after,
    progress.history.map(Attempt.toWire),
    ...moreToWire(progress),
  ]

/** What most jobs don't have, in one map, absent without any. */
const moreToWire = (
  { batch, begun, claim, earlier, entry, place, requeued, since, waits }: Progress,
): ReadonlyArray<unknown> => {
  const more: Record<string, unknown> = {}
  if (earlier) more["earlier"] = earlier
  if (since) more["since"] = since
  if (requeued) more["requeued"] = requeued
  if (begun) more["begun"] = true
  if (place !== undefined) more["place"] = [place.queue, place.lane]
  if (claim !== undefined) more["claim"] = [claim.hash, claim.sequence, claim.until]
  if (waits !== undefined) more["waits"] = Waits.toWire(waits)
  if (batch !== undefined) more["batch"] = BatchState.toWire(batch)
  if (entry !== undefined) more["entry"] = entry
  return Object.keys(more).length === 0 ? [] : [more]
}

/** A message that begins as the one before did; `tail` is all of what comes after, in one array. */
const following = (
  envelope: Envelope,
  first: number,
  tail: ReadonlyArray<unknown>,
): Uint8Array<ArrayBuffer> => {
  const { head } = envelope
  const packed = MessagePack.encodeShared(tail)
  const bytes = new Uint8Array(head.length + packed.length)
  bytes[0] = first
  bytes.set(head, 1)
  // Without the tail's own array head, whose place the message's has taken.
  bytes.set(packed.subarray(1), 1 + head.length)
  return bytes
}

/** The message of a job that lives on, with new progress. */
export const live = (envelope: Envelope, progress: Progress): Uint8Array<ArrayBuffer> =>
  following(envelope, arrayOf8, [progressToWire(progress)])

/** The final record of a job. */
export const final = (
  envelope: Envelope,
  progress: Progress,
  outcome: Outcome,
): Uint8Array<ArrayBuffer> =>
  following(envelope, arrayOf9, [
    progressToWire(progress),
    [outcome.ended, outcome.result, outcome.reason],
  ])

/** The same job without its payload, for a record that would not fit otherwise. */
export const withoutPayload = (envelope: Envelope): Envelope => {
  const payload = new Uint8Array(0)
  return { ...envelope, payload, head: encodeHead({ ...envelope, payload }) }
}

/** The same progress with the last attempt only and without what makes that large. */
export const withoutDetails = (progress: Progress): Progress => ({
  ...progress,
  history: progress.history.slice(-1).map(Attempt.withoutDetails),
})

const encodeHead = (envelope: Omit<Envelope, "head">): Uint8Array =>
  fresh(
    template(envelope.name, envelope.queue, envelope.lane, envelope.options),
    envelope.created,
    envelope.payload,
  ).slice(1, -1)

/** Builds an envelope from its parts, for bytes that hold none that can be read. */
export const make = (parts: Omit<Envelope, "head">): Envelope => ({
  ...parts,
  head: encodeHead(parts),
})

/** Why bytes are no envelope; `newer` when they are one of a later version. */
export interface Unreadable {
  readonly _tag: "Unreadable"
  readonly newer: boolean
  readonly reason: string
}

const unreadable = (reason: string, newer = false): Unreadable => ({
  _tag: "Unreadable",
  newer,
  reason,
})

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

const isInstant = (value: unknown): value is number =>
  typeof value === "number" && value >= 0 && value < maxInstantMillis

const isDuration = (value: unknown): value is number | undefined =>
  value === undefined || (typeof value === "number" && value > 0 && value <= maxDelayMillis)

const isText = (value: unknown): value is string | undefined =>
  value === undefined || typeof value === "string"

const isContext = (value: unknown): value is Readonly<Record<string, string>> | undefined =>
  value === undefined ||
  (typeof value === "object" && value !== null && !Array.isArray(value) &&
    Object.values(value).every((item) => typeof item === "string"))

const isRun = (value: unknown): value is Options["recurring"] =>
  value === undefined ||
  (Array.isArray(value) && typeof value[0] === "string" && isInstant(value[1]))

const readOptions = (value: unknown): Options | undefined => {
  if (value === null || value === undefined) return {}
  if (typeof value !== "object" || Array.isArray(value)) return undefined
  const { context, deadline, input, nonce, recurring, retention, retry, timeout, ttl, version } =
    value as { readonly [key: string]: unknown }
  if (retry !== undefined && !Retry.isBackoff(retry)) return undefined
  if (!isDuration(timeout) || !isDuration(deadline) || !isDuration(ttl)) return undefined
  if (
    retention !== undefined &&
    !(typeof retention === "string" && /^_[A-Za-z0-9]{1,32}$/.test(retention))
  ) {
    return undefined
  }
  if (version !== undefined && !(isCount(version) && version > 0)) return undefined
  if (!isText(nonce) || !isContext(context) || !isRun(recurring)) return undefined
  if (input !== undefined && input !== "result" && input !== "results") return undefined
  return { retry, timeout, retention, deadline, ttl, version, context, nonce, input, recurring }
}

const readPlace = (value: unknown): Place | undefined =>
  Array.isArray(value) && isQueue(value[0]) && isLane(value[1])
    ? { queue: value[0], lane: value[1] }
    : undefined

const untils: ReadonlySet<unknown> = new Set<Claim["until"]>(["started", "finished", "expired"])

/** It becomes part of a subject. */
const isHash = (value: unknown): value is string =>
  typeof value === "string" && /^[\w-]{1,64}$/.test(value)

const readClaim = (value: unknown): Claim | undefined =>
  Array.isArray(value) && isHash(value[0]) && isCount(value[1]) && untils.has(value[2])
    ? { hash: value[0], sequence: value[1], until: value[2] as Claim["until"] }
    : undefined

const isQueue = (value: unknown): value is string =>
  typeof value === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(value)

const isLane = (value: unknown): value is number => isCount(value) && value >= 1 && value <= 4

const readProgress = (value: unknown): Progress | undefined => {
  if (value === null) return untouched
  if (!Array.isArray(value) || !value.slice(0, 5).every(isCount) || !Array.isArray(value[5])) {
    return undefined
  }
  const [attempts, snoozes, lost, unknown, after] = value as Array<number>
  const history: Array<Attempt.Attempt> = []
  for (const item of value[5]) {
    const attempt = Attempt.fromWire(item)
    if (attempt !== undefined) history.push(attempt)
  }
  const progress: Progress = {
    attempts: attempts ?? 0,
    snoozes: snoozes ?? 0,
    lost: lost ?? 0,
    unknown: unknown ?? 0,
    after: after ?? 0,
    history,
  }
  const more = value[6] as { readonly [key: string]: unknown } | undefined
  if (more === undefined) return progress
  if (typeof more !== "object" || more === null) return undefined
  const waits = Waits.fromWire(more["waits"])
  const batch = BatchState.fromWire(more["batch"])
  // A job that would forget what it waits for would start too early.
  if (waits === undefined && more["waits"] !== undefined) return undefined
  if (batch === undefined && more["batch"] !== undefined) return undefined
  return {
    ...progress,
    earlier: isCount(more["earlier"]) ? more["earlier"] : undefined,
    since: isInstant(more["since"]) ? more["since"] : undefined,
    requeued: isInstant(more["requeued"]) ? more["requeued"] : undefined,
    begun: more["begun"] === true ? true : undefined,
    place: readPlace(more["place"]),
    claim: readClaim(more["claim"]),
    waits,
    batch,
    entry: more["entry"] instanceof Uint8Array ? more["entry"] : undefined,
  }
}

const readOutcome = (value: unknown): Outcome | undefined =>
  Array.isArray(value) && isInstant(value[0])
    ? {
      ended: value[0],
      result: value[1] instanceof Uint8Array ? value[1] : undefined,
      reason: typeof value[2] === "string" ? value[2] : undefined,
    }
    : undefined

/** Reads a message. Never throws: hostile bytes give `Unreadable`. */
export const decode = (bytes: Uint8Array): Envelope | Unreadable => {
  let parts: unknown
  try {
    parts = MessagePack.decode(bytes)
  } catch (error) {
    return unreadable(error instanceof Error ? error.message : String(error))
  }
  if (!Array.isArray(parts)) return unreadable("it is not a MessagePack array")
  if (typeof parts[0] === "number" && parts[0] > version) {
    return unreadable(`its format is version ${parts[0]}, this engine reads ${version}`, true)
  }
  const [format, name, queue, lane, rawOptions, created, payload, rawProgress, rawOutcome] = parts
  if (format !== version) return unreadable("its version is missing")
  if (typeof name !== "string") return unreadable("its name is not a text")
  if (!isQueue(queue)) return unreadable("its queue is not a legal name")
  if (!isLane(lane)) return unreadable("its priority is not 1 to 4")
  const options = readOptions(rawOptions)
  if (options === undefined) return unreadable("its options are not valid")
  if (!isInstant(created)) {
    return unreadable("its time of creation is not an instant")
  }
  if (!(payload instanceof Uint8Array)) return unreadable("its payload is not binary")
  const progress = readProgress(rawProgress ?? null)
  if (progress === undefined) return unreadable("its progress is not valid")
  const { batch, entry, place } = progress
  // In a queue of jobs it would be taken for one, by servers that get in each other's way then.
  if ((batch !== undefined || entry !== undefined) && !(place?.queue ?? queue).startsWith("_")) {
    return unreadable("it is of the engine, in a queue that isn't")
  }
  const outcome = parts.length > 8 ? readOutcome(rawOutcome) : undefined
  const fields = { name, queue, lane, options, created, payload, progress, outcome }
  // The payload is a view of `bytes`, so where it ends positions 0 to 6 end.
  const compact = bytes[0] === arrayOf8 || bytes[0] === arrayOf9
  const head = compact && payload.buffer === bytes.buffer
    ? bytes.subarray(1, payload.byteOffset + payload.length - bytes.byteOffset)
    : encodeHead(fields)
  return { ...fields, head }
}

/** Whether {@link decode} gave an envelope. */
export const isEnvelope = (value: Envelope | Unreadable): value is Envelope => !("_tag" in value)
