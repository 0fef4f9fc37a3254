/**
 * Claims: the message by which a job holds a unique key. There is at most one per key, since a claim is
 * stored on the condition that its subject is empty, or holds exactly the claim that it replaces.
 *
 * A claim says whom it is for, so a claim whose job has ended, or was never stored, is nothing but a
 * message that somebody died before deleting: whoever wants the key next takes it over.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Claim, Envelope } from "../core/Envelope.ts"
import type { JobId } from "../core/JobId.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Conditional from "./Conditional.ts"
import type { NatsError } from "./errors.ts"
import * as JobView from "./JobView.ts"
import { newestAtLeader } from "./Reader.ts"
import * as Records from "./Records.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** Where a claim lies. */
export interface Key {
  readonly partition: number
  /** Hash of the unique key. */
  readonly hash: string
}

/** What a claim says. */
export interface ClaimBody {
  /** The job it is for. */
  readonly id: JobId
  /** Tells one write from another. */
  readonly nonce: string
  readonly until: Claim["until"]
}

/** A claim as it lies in the stream. */
export interface StoredClaim extends ClaimBody {
  readonly sequence: number
  /** When it was stored, by the server's clock; ms since 1970. */
  readonly time: number
}

/**
 * How long after a claim its job may still be on its way, in milliseconds. Before that a claim without
 * a job is waited for, after it the claim is taken over, and the late job is refused.
 */
export const ClaimGrace: Context.Reference<number> = Context.Reference<number>(
  "portfire/nats/ClaimGrace",
  { defaultValue: () => 10_000 },
)

const encoder = new TextEncoder()

/** Hash of a unique key within the jobs of one name: 32 hex digits of SHA-256. */
export const hashOf = (name: string, key: string): Effect.Effect<string> =>
  Effect.map(
    Effect.promise(() => crypto.subtle.digest("SHA-256", encoder.encode(`${name}\0${key}`))),
    (digest) =>
      Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, "0"))
        .join(""),
  )

/** Where the claim on a key lies, and with it the job. */
export const keyOf = (hash: string, partitions: number): Key => ({
  hash,
  partition: Number.parseInt(hash.slice(0, 8), 16) % partitions,
})

const untils: ReadonlyArray<Claim["until"]> = ["started", "finished", "expired"]

/** The bytes of a claim. */
export const encode = ({ id, nonce, until }: ClaimBody): Uint8Array =>
  MessagePack.encode([id, nonce, untils.indexOf(until)])

const decode = (bytes: Uint8Array): ClaimBody | undefined => {
  try {
    const [id, nonce, index] = MessagePack.decode(bytes) as ReadonlyArray<unknown>
    const until = typeof index === "number" ? untils[index] : undefined
    return Subjects.isToken(id) && typeof nonce === "string" && until !== undefined
      ? { id, nonce, until }
      : undefined
  } catch {
    return undefined
  }
}

/** Nobody's: what takes the place of a claim whose bytes say nothing. */
const nobody: ClaimBody = { id: "", nonce: "", until: "finished" }

/** The claim on a key, read at the stream's leader. */
export const read = (
  { nats, subjects }: Wire,
  { hash, partition }: Key,
): Effect.Effect<StoredClaim | undefined, NatsError> =>
  Effect.map(
    newestAtLeader(
      nats.connection,
      Subjects.jobsStream(subjects.namespace, partition),
      subjects.claim(partition, hash),
    ),
    (message) =>
      message === undefined ? undefined : {
        ...decode(message.data) ?? nobody,
        sequence: message.sequence,
        time: message.time,
      },
  )

/**
 * Stores a claim where `expected` is the newest on the key, 0 for none. Gives its sequence, `undefined`
 * when somebody else was faster.
 */
export const put = (
  wire: Wire,
  { hash, partition }: Key,
  body: ClaimBody,
  expected: number,
  patience: number,
): Effect.Effect<number | undefined, NatsError> => {
  const subject = wire.subjects.claim(partition, hash)
  const payload = encode(body)
  return Conditional.publish(wire, partition, {
    subject,
    payload,
    filter: subject,
    expected,
    patience,
  })
}

/** How a claim stands: who has it, and how it is with that job. */
export type Standing =
  /** The job waits or runs, or the claim holds until it expires. */
  | { readonly _tag: "Held"; readonly job: JobView.JobView | undefined }
  /** There is no such job yet: whoever made the claim may be about to store it. */
  | { readonly _tag: "Coming" }
  /** The claim is left over: the job has ended or was never stored. */
  | { readonly _tag: "Stale"; readonly job: JobView.JobView | undefined }

/** Whether an attempt of the job has begun, as far as its message tells. */
const hasBegun = ({ attempts, lost, snoozes }: Envelope["progress"]): boolean =>
  attempts > 0 || snoozes > 0 || lost > 0

/** Looks after the job that a claim is for. */
export const standingOf = (
  wire: Wire,
  claim: StoredClaim,
  graceMillis: number,
): Effect.Effect<Standing, NatsError> =>
  Effect.map(
    claim.id === ""
      ? Effect.succeed(undefined)
      : JobView.at(wire, Subjects.addressOf(claim.id, wire.partitions)),
    (job): Standing => {
      if (claim.until === "expired") return { _tag: "Held", job }
      const young = wire.clock.now() - claim.time < graceMillis
      if (job === undefined) return young ? { _tag: "Coming" } : { _tag: "Stale", job }
      const { envelope, stored, subject } = job.current
      if (Records.isRecord(subject)) {
        // A claim that is newer than the record was made again, by a requeue that is under way.
        return young && claim.sequence > stored.sequence
          ? { _tag: "Coming" }
          : { _tag: "Stale", job }
      }
      const released = claim.until === "started" && envelope.progress.claim !== undefined &&
        claim.sequence < stored.sequence && hasBegun(envelope.progress)
      return released ? { _tag: "Stale", job } : { _tag: "Held", job }
    },
  )

/** Deletes a claim; repeated a few times, since the claim that stays costs the next one a look. */
const patiently = Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 10 }))

/**
 * Releases the claim of a job. Never fails: a claim that could not be deleted is taken over by whoever
 * wants the key next, for its job is over. One that meanwhile belongs to somebody else stays.
 */
export const releaseClaim = (
  wire: Wire,
  { id, partition }: Pick<Subjects.Address, "id" | "partition">,
  claim: Claim,
): Effect.Effect<void> => {
  if (claim.until === "expired") return Effect.void
  const release = claim.sequence > 0
    ? Conditional.remove(wire, partition, claim.sequence)
    // Stored together with its job, which therefore could not know its sequence.
    : Effect.flatMap(
      read(wire, { hash: claim.hash, partition }),
      (stored) =>
        stored?.id === id ? Conditional.remove(wire, partition, stored.sequence) : Effect.void,
    )
  return Effect.ignore(
    Effect.retry(release, { while: ({ retryable }) => retryable, schedule: patiently }),
  )
}

/** Whether a job that is to run once more has its key. */
export type Reclaimed =
  /** It has; its next message carries this claim. `undefined` for a job without one. */
  | { readonly _tag: "Kept"; readonly claim: Claim | undefined }
  /** Another job has it. */
  | { readonly _tag: "Taken"; readonly by: JobId }

/** Tries to claim while others do the same; each failed one means that another one succeeded. */
const tries = 20

/**
 * Claims the key of a job that has ended again, before it is requeued. The requeue must be written
 * within {@link ClaimGrace} and carry the claim that this gives in its progress.
 */
export const reclaim: (
  wire: Wire,
  address: Subjects.Address,
  envelope: Envelope,
  patience?: number,
) => Effect.Effect<Reclaimed, NatsError> = Effect.fnUntraced(
  function* (wire, { id, partition }, { progress: { claim } }, patience = 5_000) {
    // What expires belongs to nobody's life; a requeue is no further enqueue.
    if (claim === undefined || claim.until === "expired") return { _tag: "Kept", claim }
    const { hash, until } = claim
    const key = { hash, partition }
    const grace = yield* ClaimGrace
    let by = id
    for (let n = 0; n < tries; n++) {
      const found = yield* read(wire, key)
      if (found !== undefined && found.id !== id) {
        by = found.id
        const standing = yield* standingOf(wire, found, grace)
        if (standing._tag !== "Stale") return { _tag: "Taken", by }
      }
      const body = { id, nonce: crypto.randomUUID(), until }
      const sequence = yield* put(wire, key, body, found?.sequence ?? 0, patience)
      if (sequence !== undefined) return { _tag: "Kept", claim: { hash, sequence, until } }
    }
    return { _tag: "Taken", by }
  },
)
