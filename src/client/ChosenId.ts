/**
 * Ids that the caller chooses: an enqueue with one stores a job at most once, for as long as the job or
 * its record exists, whoever repeats it.
 */
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import * as JobId from "../core/JobId.ts"
import { checkName, show } from "../core/Names.ts"
import * as JobState from "../core/JobState.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { newestAtLeader } from "../nats/Reader.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Existing from "./Existing.ts"
import { type IdentityOptions, type OnConflict, onConflictOf, type Unique } from "./Identity.ts"

/** A chosen id, checked. */
export interface Request {
  readonly id: JobId.JobId
  readonly onConflict: OnConflict
}

/** The id that a call chose, checked; `undefined` when it chose none. */
export const requestOf = (
  options: IdentityOptions | undefined,
  definition: Unique,
): Request | undefined | InvalidOptions => {
  const { id, onConflict, unique = definition.unique } = options ?? {}
  if (id === undefined) {
    const reason = "it says what happens when a chosen id is taken; unique has its own"
    return onConflict === undefined
      ? undefined
      : new InvalidOptions({ field: "onConflict", value: show(onConflict), reason })
  }
  if (unique !== undefined) {
    const reason = "a unique job has an id that the engine makes: its key decides where it lies"
    return new InvalidOptions({ field: "id", value: show(id), reason })
  }
  const illegal = checkName("id", id)
  if (illegal !== undefined) return illegal
  if (JobId.isEngineId(id)) {
    const reason = "it has the form of the ids that the engine makes: 26 characters of base 32"
    return new InvalidOptions({ field: "id", value: show(id), reason })
  }
  const policy = onConflictOf("onConflict", onConflict)
  return policy instanceof InvalidOptions ? policy : { id, onConflict: policy }
}

/** Stores a job under the id, unless there is one. */
export const submit = (
  wire: Wire,
  { id, onConflict }: Request,
  job: Existing.NewJob,
  patience: number,
): Effect.Effect<Existing.Submitted, Existing.JobExists | NatsError> => {
  const address = Subjects.addressOf(id, wire.partitions)
  const { partition } = address
  const filter = wire.subjects.job(address)
  // A repetition after a lost answer meets its own job, and knows it by this.
  const nonce = crypto.randomUUID()
  const envelope = Existing.envelopeOf(job.message)
  const message = Envelope.live(
    Envelope.make({ ...envelope, options: { ...envelope.options, nonce } }),
    envelope.progress,
  )
  const publication = { ...job.publication(id, message), expected: 0, filter }

  const created: Existing.Submitted = { id, created: true }
  const ignored: Existing.Submitted = { id, created: false }

  const met = Effect.fnUntraced(function* (view: JobView.JobView, left: number) {
    if (view.current.envelope.options.nonce === nonce) return created
    if (onConflict === "ignore") return ignored
    if (onConflict === "fail") return yield* Existing.jobExists(wire, view)
    const result = yield* Existing.replaceWaiting(wire, view, job, left)
    // What runs or has run keeps its id.
    if (result === "busy") return yield* Existing.jobExists(wire, view)
    return result === "replaced" ? ignored : undefined
  })

  return Existing.decide(
    `storing the job ${id}`,
    patience,
    Effect.fnUntraced(function* (left: number) {
      const sequence = yield* Conditional.publish(wire, partition, {
        ...publication,
        patience: left,
      })
      if (sequence !== undefined) {
        const onWrite = yield* Existing.OnWrite
        onWrite("stored")
        return created
      }
      const view = yield* JobView.at(wire, address)
      if (view !== undefined) return yield* met(view, left)
      // Either it is gone since, or its bytes say nothing to this engine.
      const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
      const newest = yield* newestAtLeader(wire.nats.connection, stream, filter)
      const subject = newest === undefined ? undefined : wire.subjects.parse(newest.subject)
      if (subject === undefined) return undefined
      if (onConflict === "ignore") return ignored
      return yield* new Existing.JobExists({ id, state: JobState.fromWire(subject.state) })
    }),
  )
}
