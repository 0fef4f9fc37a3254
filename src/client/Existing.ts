/**
 * What becomes of an enqueue that meets a job which exists: by the same chosen id, or with the same
 * unique key.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import type { JobId } from "../core/JobId.ts"
import * as JobState from "../core/JobState.ts"
import * as Conditional from "../nats/Conditional.ts"
import { type NatsError, Unavailable } from "../nats/errors.ts"
import type { JobView } from "../nats/JobView.ts"
import type { Publication } from "../nats/Publisher.ts"
import * as Records from "../nats/Records.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Route } from "./Definition.ts"
import * as Moves from "./Moves.ts"
import { findRunning } from "./Running.ts"

/** What an enqueue has done. */
export interface Submitted {
  /** The job: a new one, or the one that was there. */
  readonly id: JobId
  /** Whether it is new. */
  readonly created: boolean
}

/** There is a job already with the chosen id or the unique key, and the caller asked to be told. */
export class JobExists extends Data.Error<{
  /** The job that is there. */
  readonly id: JobId
  /** Where it stands; `undefined` when its record is gone and only its key is still held. */
  readonly state: JobState.JobState | undefined
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "JobExists"
  /** Name in stack traces. */
  override readonly name = "JobExists"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.id} is there already (${this.state ?? "its record is gone"}); ` +
      `with onConflict: "ignore" its id is the answer`
  }
}

/** A job that is to be stored. */
export interface NewJob {
  readonly route: Route
  /** Its message, which knows nothing of an id or a claim yet. */
  readonly message: Uint8Array
  /** When it is due by the server's clock, in ms since 1970; `undefined` for now. */
  readonly due: number | undefined
  /** How to store it under an id. */
  readonly publication: (id: JobId, message: Uint8Array) => Publication
}

/** One write of an enqueue that takes several. */
export type Write =
  /** The claim is stored, its job is not. */
  | "claimed"
  /** The job is stored. */
  | "stored"
  /** The new message of a waiting job is stored, the one it replaces may still be there. */
  | "replaced"

/** Told of each write as soon as it is known to be stored. */
export const OnWrite: Context.Reference<(write: Write) => void> = Context.Reference<
  (write: Write) => void
>("portfire/client/OnWrite", { defaultValue: () => () => {} })

/** Reads what was made here a moment ago. */
export const envelopeOf = (message: Uint8Array): Envelope.Envelope => {
  const envelope = Envelope.decode(message)
  if (!Envelope.isEnvelope(envelope)) throw new Error(envelope.reason)
  return envelope
}

/** The error for a job that is there. */
export const jobExists = (
  wire: Wire,
  { address: { id }, current: { subject } }: JobView,
): Effect.Effect<never, JobExists> => {
  const state = JobState.fromWire(subject.state)
  return state === "enqueued"
    ? Effect.flatMap(
      findRunning(wire, id),
      (running) =>
        Effect.fail(new JobExists({ id, state: running === undefined ? state : "processing" })),
    )
    : Effect.fail(new JobExists({ id, state }))
}

/** What became of an attempt to replace: `busy` when the job runs, has ended or waits for others. */
export type Replacement = "replaced" | "busy" | "changed"

const waiting: ReadonlySet<string> = new Set(["ready", "later", "retry"])

/**
 * Gives a waiting job the payload, options and time of a new one, in one conditional write. It keeps
 * its id, its history and its claim; attempts count anew.
 */
export const replaceWaiting: (
  wire: Wire,
  view: JobView,
  job: NewJob,
  patience: number,
) => Effect.Effect<Replacement, NatsError> = Effect.fnUntraced(
  function* (wire, view, { due, message, route }, patience) {
    const { address, current } = view
    const { state } = current.subject
    if (!waiting.has(state) || Records.isRecord(current.subject)) return "busy"
    if (state === "ready" && (yield* findRunning(wire, address.id)) !== undefined) return "busy"
    const before = current.envelope
    const { created, options, payload } = envelopeOf(message)
    const { attempts, earlier = 0, after, claim, history } = before.progress
    const { lane, queue } = route
    const progress: Envelope.Progress = {
      ...Envelope.untouched,
      history,
      after,
      claim,
      earlier: earlier + attempts,
      since: Math.ceil(due ?? wire.clock.now()),
      place: queue === before.queue && lane === before.lane ? undefined : { queue, lane },
    }
    const envelope = Envelope.make({
      ...before,
      // A deadline counts from what is asked for now.
      created,
      payload,
      progress,
      // Where its outcome lies must not change: older copies of its message look there.
      options: { ...options, retention: before.options.retention, nonce: before.options.nonce },
    })
    const next = { ...current, envelope }
    const move = due === undefined
      ? Moves.ready(wire.subjects, next, progress)
      : Moves.later(wire.subjects, next, progress, due, state === "retry" ? "retry" : "later")
    if ((yield* Moves.write(wire, view, move, patience)) === undefined) return "changed"
    const onWrite = yield* OnWrite
    onWrite("replaced")
    if (state === "ready" && move.subject !== current.stored.subject) {
      // A server that meets it first drops it.
      Conditional.announceVoid(wire, address.partition, [current.stored.sequence])
      yield* Effect.ignore(Conditional.remove(wire, address.partition, current.stored.sequence))
    }
    return "replaced"
  },
)

/** How long to wait before a question is put to NATS again, in milliseconds. */
const pauseMillis = 200

/**
 * Decides again and again until there is a decision; `undefined` is none, because somebody else has
 * written in the meantime. Gives up with `Unavailable` when the caller's patience ends.
 */
export const decide = <A, E, R>(
  operation: string,
  patience: number,
  attempt: (left: number) => Effect.Effect<A | undefined, E | NatsError, R>,
): Effect.Effect<A, E | NatsError, R> => {
  const end = performance.now() + patience
  const loop = (last: Unavailable): Effect.Effect<A, E | NatsError, R> =>
    Effect.suspend(() => {
      const left = end - performance.now()
      if (left <= 0) return Effect.fail(last)
      return Effect.matchEffect(attempt(left), {
        onFailure: (error) =>
          error instanceof Unavailable
            ? Effect.andThen(Effect.sleep(pauseMillis), loop(error))
            : Effect.fail(error),
        onSuccess: (decided) => decided === undefined ? loop(last) : Effect.succeed(decided),
      })
    })
  return loop(new Unavailable({ operation }))
}
