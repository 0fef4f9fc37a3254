/**
 * The next message of a job that a server holds, as a value: where it goes, what it says, and what
 * has to be told about it. The committer writes it under the job's condition (W1). Moves of jobs that
 * nobody holds are in `Moves.ts`.
 */
import * as Attempt from "../core/Attempt.ts"
import * as Envelope from "../core/Envelope.ts"
import type { FinalState } from "../core/JobState.ts"
import { scheduleLines, type Subjects } from "../nats/Subjects.ts"
import type { JobSubject } from "../nats/Subjects.ts"

/** What has to be known of a held job to move it on. */
export interface Held {
  readonly subject: JobSubject
  readonly envelope: Envelope.Envelope
  /** How often a server was lost that held it. */
  readonly lost: number
}

/** What a transition means for the job. */
export type Kind =
  | FinalState
  | "retrying"
  | "snoozed"
  /** Back to the queue, for another server, without an attempt. */
  | "returned"
  /** Waits for a server that knows its name. */
  | "unknown"
  /** Back to the queue with its lost leases written down, to be run alone. */
  | "isolated"

/** A message to write. */
export interface Transition {
  readonly kind: Kind
  readonly subject: string
  readonly payload: Uint8Array
  /** Header lines beside the condition. */
  readonly headers?: string | undefined
  /** The same with less and less in it, should the server refuse the size (W15). */
  readonly smaller: ReadonlyArray<() => Uint8Array>
  /** The attempt that ended, if one did. */
  readonly attempt?: Attempt.Attempt | undefined
  /** When the job runs again, in ms since 1970. */
  readonly due?: number | undefined
  /** Why, for people. */
  readonly reason?: string | undefined
}

/** Ends the job. */
export const final = (
  subjects: Subjects,
  { envelope, lost, subject }: Held,
  state: FinalState,
  details: {
    readonly ended: number
    readonly attempt?: Attempt.Attempt | undefined
    readonly counts: boolean
    readonly result?: Uint8Array | undefined
    readonly reason?: string | undefined
  },
): Transition => {
  const { attempt, counts, ended, reason, result } = details
  const progress = advance(envelope.progress, { attempt, counts, lost })
  const outcome = { ended, result, reason }
  return {
    kind: state,
    subject: subjects.final(state, envelope, subject),
    payload: Envelope.final(envelope, progress, outcome),
    smaller: [
      () => Envelope.final(envelope, Envelope.withoutDetails(progress), outcome),
      () => {
        const less = Envelope.withoutPayload(envelope)
        return Envelope.final(less, Envelope.withoutDetails(progress), outcome)
      },
    ],
    attempt,
    reason,
  }
}

/** Lets the server's clock make the job ready again: a retry, a snooze, or an unknown name. */
export const later = (
  subjects: Subjects,
  { envelope, lost, subject }: Held,
  kind: "retrying" | "snoozed" | "unknown",
  details: { readonly due: number; readonly attempt?: Attempt.Attempt | undefined },
): Transition => {
  const { attempt, due } = details
  const { lane } = Envelope.placeOf(envelope)
  const progress = {
    ...advance(envelope.progress, { attempt, counts: kind === "retrying", lost }),
    snoozes: envelope.progress.snoozes + (kind === "snoozed" ? 1 : 0),
    unknown: envelope.progress.unknown + (kind === "unknown" ? 1 : 0),
    // Who ended an attempt by itself has survived it.
    ...(attempt === undefined ? {} : { lost: 0 }),
  }
  const state = kind === "retrying" ? "retry" : "later"
  return {
    kind,
    subject: subjects.live(state, subject.queue, lane, subject),
    payload: Envelope.live(envelope, progress),
    smaller: [() => Envelope.live(envelope, Envelope.withoutDetails(progress))],
    headers: scheduleLines(due, subjects.live("ready", subject.queue, lane, subject)),
    attempt,
    due,
    reason: attempt?.message,
  }
}

/** Gives the job back, ahead of all others of its queue (W12). */
export const giveBack = (
  subjects: Subjects,
  { envelope, lost, subject }: Held,
  kind: "returned" | "isolated",
  details: { readonly begun?: boolean } = {},
): Transition => {
  const before = envelope.progress
  const counted = lost === before.lost ? before : { ...before, lost }
  // Only a time to live asks whether an attempt has begun.
  const progress = details.begun === true && envelope.options.ttl !== undefined
    ? { ...counted, begun: true }
    : counted
  return {
    kind,
    subject: subjects.live("ready", subject.queue, 0, subject),
    payload: Envelope.live(envelope, progress),
    smaller: [() => Envelope.live(envelope, Envelope.withoutDetails(progress))],
  }
}

const advance = (
  progress: Envelope.Progress,
  { attempt, counts, lost }: {
    readonly attempt: Attempt.Attempt | undefined
    readonly counts: boolean
    readonly lost: number
  },
): Envelope.Progress => ({
  ...progress,
  lost,
  attempts: progress.attempts + (counts ? 1 : 0),
  history: attempt === undefined ? progress.history : Attempt.append(progress.history, attempt),
})
