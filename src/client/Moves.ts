/**
 * Moves of jobs that no server holds: the next message of a job, made from the one that counts now.
 * Each is one publish on the condition of what its author saw (W1), and takes the schedule away that
 * it supersedes in the same write (W3).
 */
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import type { FinalState } from "../core/JobState.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import type { JobView } from "../nats/JobView.ts"
import type { JobMessage } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"

/** The next message of a job. */
export interface Move {
  readonly to: "ready" | "later" | "retry" | "await" | FinalState
  readonly subject: string
  readonly payload: Uint8Array
  readonly headers: string
  /** When it becomes ready, in ms since 1970, where that is later. */
  readonly due?: number | undefined
  /** Why it has ended. */
  readonly reason?: string | undefined
}

/** When a job awaits something that no clock brings. */
export const never: number = Date.UTC(2200, 0, 1)

/** Lane of the engine's queue on which it looks after jobs that await something. */
export const tickLane = 2

const scheduled: ReadonlySet<string> = new Set(["later", "retry", "await"])

const supersede = ({ stored, subject }: JobMessage, next: string): string =>
  scheduled.has(subject.state) && stored.subject !== next
    ? Conditional.supersedeLines(stored.subject)
    : ""

/** To its queue, to run as soon as a server has a slot. */
export const ready = (
  subjects: Subjects.Subjects,
  message: JobMessage,
  progress: Envelope.Progress,
): Move => {
  const { lane, queue } = Envelope.placeOf({ ...message.envelope, progress })
  const subject = subjects.live("ready", queue, lane, message.subject)
  return {
    to: "ready",
    subject,
    payload: Envelope.live(message.envelope, progress),
    headers: supersede(message, subject),
  }
}

/** Where a message waits for its time: never under the subject of the one that it replaces. */
const waitingAt = (
  subjects: Subjects.Subjects,
  { stored, subject }: JobMessage,
  state: "later" | "retry" | "await",
  { lane, queue }: Envelope.Place,
): string => {
  const at = (lane: number) => subjects.live(state, queue, lane, subject)
  return stored.subject === at(lane) ? at(Subjects.otherLane(lane)) : at(lane)
}

/** To wait for an instant (ms since 1970), as a scheduled job or as one that retries. */
export const later = (
  subjects: Subjects.Subjects,
  message: JobMessage,
  progress: Envelope.Progress,
  due: number,
  state: "later" | "retry" = "later",
): Move => {
  const { lane, queue } = Envelope.placeOf({ ...message.envelope, progress })
  const subject = waitingAt(subjects, message, state, { queue, lane })
  return {
    to: state,
    subject,
    payload: Envelope.live(message.envelope, progress),
    headers: supersede(message, subject) +
      Subjects.scheduleLines(due, subjects.live("ready", queue, lane, message.subject)),
    due,
  }
}

/** Header lines of a job that awaits something: at `tick` a server looks after it. */
export const awaitLines = (
  subjects: Subjects.Subjects,
  job: Subjects.Address,
  tick: number,
): string =>
  Subjects.scheduleLines(tick, subjects.live("ready", Subjects.engineQueue, tickLane, job))

/** Lane that the messages of such members name; it means nothing where nobody pulls. */
const stagedLane = 0

/** Subject of a member that nobody sees before its batch is committed. */
export const staged = (subjects: Subjects.Subjects, member: Subjects.Address): string =>
  subjects.live("await", Subjects.stagedQueue, stagedLane, member)

/** All members of a batch that nobody sees yet. */
export const stagedIn = (subjects: Subjects.Subjects, batch: Subjects.Address): string =>
  subjects.jobs(batch.partition, {
    state: "await",
    queue: Subjects.stagedQueue,
    group: batch.id,
  })

/** To wait for other jobs; a server looks after it at `tick` (ms since 1970). */
export const awaiting = (
  subjects: Subjects.Subjects,
  message: JobMessage,
  progress: Envelope.Progress,
  tick: number,
): Move => {
  const { lane, queue } = Envelope.placeOf({ ...message.envelope, progress })
  const isStaged = message.subject.group !== Subjects.noGroup &&
    (progress.waits?.staged === true || progress.batch?.phase === "building")
  const place = isStaged ? { queue: Subjects.stagedQueue, lane: stagedLane } : { queue, lane }
  const subject = waitingAt(subjects, message, "await", place)
  return {
    to: "await",
    subject,
    payload: Envelope.live(message.envelope, progress),
    headers: supersede(message, subject) + awaitLines(subjects, message.subject, tick),
  }
}

/** To its end, without an attempt. */
export const ended = (
  subjects: Subjects.Subjects,
  message: JobMessage,
  state: FinalState,
  outcome: Envelope.Outcome,
  progress: Envelope.Progress = message.envelope.progress,
): Move => {
  const subject = subjects.final(state, message.envelope, message.subject)
  return {
    to: state,
    subject,
    payload: Envelope.final(message.envelope, progress, outcome),
    headers: supersede(message, subject),
    reason: outcome.reason,
  }
}

/**
 * What follows for a job from what it waits for: it stays, it is released (at once or after its
 * delay), or it is cancelled because it can't be met any more.
 */
export const settled = (
  { alarmMillis, subjects }: Pick<Wire, "alarmMillis" | "subjects">,
  message: JobMessage,
  waits: Waits.Waits,
  now: number,
): Move => {
  const decision = Waits.decide(waits)
  const { progress } = message.envelope
  // Who waits for nothing and never did has nothing to remember.
  const kept = waits.parents.length === 0 && !waits.staged ? undefined : waits
  switch (decision._tag) {
    case "Wait":
      return awaiting(
        subjects,
        message,
        { ...progress, waits },
        waits.staged && message.subject.group === Subjects.noGroup ? now + alarmMillis : never,
      )
    case "Cancel":
      return ended(subjects, message, "cancelled", { ended: now, reason: decision.reason }, {
        ...progress,
        waits,
      })
    case "Release": {
      const due = Math.max(now + waits.delay, progress.since ?? 0)
      const next = { ...progress, waits: kept, since: due }
      return due > now ? later(subjects, message, next, due) : ready(subjects, message, next)
    }
  }
}

/** How near to its time a schedule isn't replaced any more, in ms; alarms come again and again. */
const aboutToFire = (alarmMillis: number): number => Math.min(1_000, alarmMillis / 10)

/** How long after its time a schedule has fired, or will not, in ms. */
const mustHaveFired = 5_000

/** Time between two looks at a schedule that is about to fire. */
const untilFired = "100 millis"

/**
 * Whether a move would replace a schedule that is about to fire. NATS may have it on its way already,
 * and what it makes then would look newer than the replacement.
 */
export const isTooLate = (
  { alarmMillis, clock }: Pick<Wire, "alarmMillis" | "clock">,
  { stored, subject }: JobMessage,
  { to }: Move,
): boolean => {
  if (!scheduled.has(subject.state) || !scheduled.has(to) || stored.due === undefined) return false
  const left = stored.due - clock.now()
  return left < aboutToFire(alarmMillis) && left > -mustHaveFired
}

/**
 * Writes a move on the condition that nothing was written for the job since it was viewed. Gives the
 * sequence of the new message, `undefined` when somebody was faster, be it the job's own schedule.
 */
export const write = (
  wire: Wire,
  view: JobView,
  move: Move,
  patience: number,
): Effect.Effect<number | undefined, NatsError> => {
  const { address, current, newest } = view
  if (isTooLate(wire, current, move)) {
    return Effect.as(Effect.sleep(untilFired), undefined)
  }
  const { headers, payload, subject } = move
  const filter = wire.subjects.job(address)
  return Conditional.publish(wire, address.partition, {
    subject,
    payload,
    headers,
    filter,
    expected: newest,
    patience,
  })
}

/** The message that a move has stored, as a reader would meet it. */
export const storedAs = (
  { subjects }: Wire,
  { current }: JobView,
  { payload, subject, to }: Move,
  sequence: number,
  time: number,
): JobMessage => {
  const parsed = subjects.parse(subject)
  const envelope = Envelope.decode(payload)
  // Both were made here a moment ago.
  if (parsed === undefined || !Envelope.isEnvelope(envelope)) throw new Error(`no job: ${to}`)
  return {
    subject: parsed,
    stored: { ...current.stored, subject, sequence, time, data: payload },
    envelope,
  }
}
