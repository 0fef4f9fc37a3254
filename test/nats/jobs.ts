/** Messages of jobs, put into a stream as the engine would, without the engine. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobId from "../../src/core/JobId.ts"
import type { WireState } from "../../src/core/JobState.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import type { Wire } from "../../src/nats/Wire.ts"

const nextId = JobId.makeGenerator()

/** What a test says of a job; the rest is ordinary. */
export interface JobParts {
  readonly id?: string | undefined
  readonly queue?: string | undefined
  readonly name?: string | undefined
  readonly group?: string | undefined
  readonly partition?: number | undefined
  readonly lane?: number | undefined
  readonly payload?: Uint8Array | undefined
  /** Sequence of the final record that a requeue left behind. */
  readonly after?: number | undefined
}

/** An id of a partition. */
export const newId = (partition = 0): string => nextId(partition)

/** Publishes to a subject as it is, and gives the sequence. */
export const put = (
  { publisher }: Wire,
  subject: string,
  payload: Uint8Array,
  headers?: string,
): Effect.Effect<number> =>
  Effect.callback((resume) =>
    publisher.publish(
      { subject, payload, expected: undefined, filter: subject, headers },
      (ack) =>
        resume(
          ack._tag === "Stored"
            ? Effect.succeed(ack.sequence)
            : Effect.die(new Error(JSON.stringify(ack))),
        ),
    )
  )

/** Subject and bytes of a job's message in a state. */
export const messageOf = (
  { subjects }: Wire,
  state: WireState,
  { after = 0, group = "_", lane = 3, name = "work", partition = 0, queue = "q", ...rest }:
    JobParts,
): { readonly subject: string; readonly bytes: Uint8Array; readonly job: Subjects.Address } => {
  const { id = nextId(partition), payload = Uint8Array.of(0xc0) } = rest
  const job = { partition, group, id }
  const progress = { ...Envelope.untouched, after }
  const parts = { name, queue, lane, options: {}, created: Date.now(), payload, progress }
  const envelope = Envelope.make(parts)
  return state === "succeeded" || state === "failed" || state === "cancelled"
    ? {
      job,
      subject: subjects.final(state, envelope, job),
      bytes: Envelope.final(envelope, progress, { ended: Date.now() }),
    }
    : {
      job,
      subject: subjects.live(state, queue, lane, job),
      bytes: Envelope.live(envelope, progress),
    }
}

/** Stores a job's message; with `due` as a schedule. */
export const store = (
  wire: Wire,
  state: WireState,
  parts: JobParts & { readonly due?: number | undefined } = {},
): Effect.Effect<{ readonly id: string; readonly sequence: number; readonly subject: string }> => {
  const { bytes, job, subject } = messageOf(wire, state, parts)
  const target = wire.subjects.live("ready", parts.queue ?? "q", parts.lane ?? 3, job)
  assert.ok(parts.due === undefined || subject !== target)
  const headers = parts.due === undefined ? undefined : Subjects.scheduleLines(parts.due, target)
  return Effect.map(
    put(wire, subject, bytes, headers),
    (sequence) => ({ id: job.id, sequence, subject }),
  )
}
