/**
 * How long a job may take and how long it may wait: pure functions of its message and of the time by
 * the NATS server's clock, which all instants here are of.
 */
import type { Envelope } from "./Envelope.ts"
import { rfc3339 } from "./Time.ts"

/** The instant at which the job has to be finished, in ms since 1970. */
export const deadlineOf = ({ created, options, progress }: Envelope): number | undefined => {
  if (options.deadline === undefined) return undefined
  // `since` of a job that was never requeued is when it became ready, not what a deadline counts from.
  const from = progress.after > 0 ? progress.requeued ?? progress.since ?? created : created
  return from + options.deadline
}

/** Whether an attempt of the job has begun, or may have: its server was lost. */
const mayHaveBegun = ({ progress }: Envelope, lost: number): boolean =>
  progress.attempts > 0 || progress.snoozes > 0 || lost > 0 || progress.begun === true

/** What the time has done to a job. */
export interface Expired {
  /** How it ends: late for its deadline it has failed, late to begin it is cancelled. */
  readonly state: "failed" | "cancelled"
  /** Why, for people. */
  readonly reason: string
}

/** Why the job must not be run any more, if so; `lost` is how often a server was lost that held it. */
export const expiredAt = (
  envelope: Envelope,
  clock: { readonly now: () => number },
  lost: number,
): Expired | undefined => {
  const { created, options: { deadline, ttl }, progress } = envelope
  // Most jobs never expire, and then the time isn't asked for.
  if (deadline === undefined && ttl === undefined) return undefined
  const now = clock.now()
  if (deadline !== undefined) {
    const end = deadlineOf(envelope) as number
    if (now >= end) {
      const last = progress.history.at(-1)?.message
      return {
        state: "failed",
        reason: `its deadline passed at ${rfc3339(end)} while it waited` +
          (last === undefined ? "" : `; its last attempt said: ${last}`),
      }
    }
  }
  if (ttl === undefined || mayHaveBegun(envelope, lost)) return undefined
  const ready = progress.since ?? created
  return now <= ready + ttl ? undefined : {
    state: "cancelled",
    reason: `it was ready at ${rfc3339(ready)} and not begun within its time to live of ${ttl} ms`,
  }
}

/** Why a job fails whose next attempt would begin too late; the last error comes with it. */
export const tooLateAgain = (deadline: number, last: string | undefined): string =>
  `its next attempt would begin after its deadline, ${rfc3339(deadline)}` +
  (last === undefined ? "" : `; the last one said: ${last}`)
