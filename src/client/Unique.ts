/**
 * Unique jobs: while one job holds a key, an enqueue with the same key stores no other.
 *
 * The key is claimed first, by a message of its own, and the job is stored on the condition that this
 * very claim is still there. Where it is taken over from a job that is over, or is to expire, claim and
 * job are one atomic batch.
 */
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { checkKeys } from "../core/Names.ts"
import * as AtomicBatch from "../nats/AtomicBatch.ts"
import * as Claims from "../nats/Claims.ts"
import { Code, type NatsError, Rejected } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { type Ack, conditionLines } from "../nats/Publisher.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Existing from "./Existing.ts"
import * as Identity from "./Identity.ts"

/** A job's key and rules. */
export interface Request extends Identity.Rules {
  readonly key: Claims.Key
}

/** The key and the rules of a unique job. */
export const requestOf = (
  wire: Wire,
  definition: Identity.Unique,
  option: Identity.UniqueJob | undefined,
  payload: unknown,
): Effect.Effect<Request, InvalidOptions> => {
  const refused = option === undefined
    ? undefined
    : checkKeys("unique", option, ["key", "until", "onConflict"])
  if (refused !== undefined) return Effect.fail(refused)
  const rules = Identity.rulesOf(option ?? {}, definition.unique ?? Identity.common)
  if (rules instanceof InvalidOptions) return Effect.fail(rules)
  const key = Identity.keyOf(definition, option?.key, payload)
  if (key instanceof InvalidOptions) return Effect.fail(key)
  return Effect.map(
    Claims.hashOf(definition.name, key),
    (hash) => ({ ...rules, key: Claims.keyOf(hash, wire.partitions) }),
  )
}

/** Pauses between looks at a claim whose job is on its way, in milliseconds: each twice the last. */
const shortestPause = 5
const longestPause = 100

/** Stores a job unless another one holds its key. `id` names the key's partition. */
export const submit: (
  wire: Wire,
  request: Request,
  id: JobId,
  job: Existing.NewJob,
  patience: number,
) => Effect.Effect<Existing.Submitted, Existing.JobExists | NatsError> = Effect.fnUntraced(
  function* (wire, { key, onConflict, seconds, until }, id, job, patience) {
    const { nats, publisher, subjects } = wire
    const { hash, partition } = key
    const grace = yield* Claims.ClaimGrace
    const onWrite = yield* Existing.OnWrite
    const address = { partition, group: Subjects.noGroup, id }
    const nonce = crypto.randomUUID()
    const body: Claims.ClaimBody = { id, nonce, until }
    const claimSubject = subjects.claim(partition, hash)
    const envelope = Existing.envelopeOf(job.message)
    const created: Existing.Submitted = { id, created: true }
    let pause = shortestPause

    /** The job's message, holding the claim at a sequence. */
    const holding = (sequence: number) =>
      Envelope.live(envelope, { ...envelope.progress, claim: { hash, sequence, until } })

    /**
     * Stores claim and job together: the claim in place of the one at `replacing`, the job on the
     * condition that nothing was written for `other` after `newest`.
     */
    const storeTogether = (
      replacing: number,
      other: Subjects.Address,
      newest: number,
      left: number,
    ): Effect.Effect<Existing.Submitted | undefined, NatsError> => {
      // The job can't know the claim's sequence then; its release looks it up.
      const { headers = "", payload, subject } = job.publication(id, holding(0))
      const messageId = crypto.randomUUID()
      const batch = [
        {
          subject: claimSubject,
          payload: Claims.encode(body),
          messageId: `${messageId}-0`,
          headers: conditionLines(replacing) +
            (seconds === undefined ? "" : `Nats-TTL: ${seconds}\r\n`),
        },
        {
          subject,
          payload,
          messageId: `${messageId}-1`,
          headers: conditionLines(newest, subjects.job(other)) + headers,
        },
      ]
      return AtomicBatch.publish(nats.connection, batch, left).pipe(
        Effect.map(() => {
          onWrite("stored")
          return created
        }),
        Effect.catchTag(
          "Rejected",
          (error) =>
            error.code === Code.wrongLastSequence ? Effect.succeed(undefined) : Effect.fail(error),
        ),
      )
    }

    /** Stores the job under its claim; sent once only, since it may have run when the answer is lost. */
    const storeUnder = (sequence: number, left: number): Effect.Effect<Ack> =>
      Effect.callback((resume) =>
        publisher.publish({
          ...job.publication(id, holding(sequence)),
          expected: sequence,
          filter: claimSubject,
          patience: left,
          once: true,
        }, (ack) => resume(Effect.succeed(ack)))
      )

    const takeOver = (
      claim: Claims.StoredClaim,
      other: JobView.JobView | undefined,
      left: number,
    ) => {
      const from = other?.address ??
        (claim.id === "" ? address : Subjects.addressOf(claim.id, wire.partitions))
      return storeTogether(claim.sequence, from, other?.newest ?? 0, left)
    }

    const duplicate = Effect.fnUntraced(function* (
      claim: Claims.StoredClaim,
      other: JobView.JobView | undefined,
      left: number,
    ) {
      const existing: Existing.Submitted = { id: claim.id, created: false }
      if (onConflict === "ignore") return existing
      if (onConflict === "fail") {
        if (other !== undefined) return yield* Existing.jobExists(wire, other)
        return yield* new Existing.JobExists({ id: claim.id, state: undefined })
      }
      if (other === undefined) return existing
      const result = yield* Existing.replaceWaiting(wire, other, job, left)
      if (result === "changed") return undefined
      // Within its time, a key that expires makes room for nothing else.
      return result === "replaced" || claim.until === "expired"
        ? existing
        : yield* takeOver(claim, other, left)
    })

    /** Decides by the claim that is there; `undefined` when there is none, or not the same any more. */
    const look = Effect.fnUntraced(function* (left: number) {
      const claim = yield* Claims.read(wire, key)
      if (claim === undefined) return undefined
      if (claim.id === id) {
        // An earlier try of this very call.
        const stored = until === "expired" || (yield* JobView.at(wire, address)) !== undefined
        return stored ? created : yield* takeOver(claim, undefined, left)
      }
      const standing = yield* Claims.standingOf(wire, claim, grace)
      switch (standing._tag) {
        case "Held":
          return yield* duplicate(claim, standing.job, left)
        case "Stale":
          return yield* takeOver(claim, standing.job, left)
        case "Coming":
          yield* Effect.sleep(pause)
          pause = Math.min(longestPause, pause * 2)
          return undefined
      }
    })

    const claimAndStore = Effect.fnUntraced(function* (left: number) {
      const sequence = yield* Claims.put(wire, key, body, 0, left)
      if (sequence === undefined) return yield* look(left)
      onWrite("claimed")
      const ack = yield* storeUnder(sequence, left)
      switch (ack._tag) {
        case "Stored":
          onWrite("stored")
          return created
        case "Conflict":
          return undefined
        case "Unknown":
          return yield* look(left)
        case "Refused": {
          yield* Claims.releaseClaim(wire, address, { hash, sequence, until })
          const { code, description } = ack
          return yield* new Rejected({
            operation: "storing a unique job",
            code,
            status: 0,
            description,
          })
        }
      }
    })

    const lookOrStoreTogether = Effect.fnUntraced(function* (left: number) {
      return (yield* look(left)) ?? (yield* storeTogether(0, address, 0, left))
    })

    return yield* Existing.decide(
      `storing a unique job (claim ${hash})`,
      patience,
      seconds === undefined ? claimAndStore : lookOrStoreTogether,
    )
  },
)
