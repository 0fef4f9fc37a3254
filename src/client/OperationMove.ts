/** What operations make of a job's message: pure, and the same for one job and for many. */
import type * as Envelope from "../core/Envelope.ts"
import * as Records from "../nats/Records.ts"
import { noGroup } from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"
import type { Operation } from "./Operation.ts"

/** Operations that give a job another message. */
export type Moving = Exclude<Operation, { readonly _tag: "remove" }>

/** Where an operation leaves a job to wait once it is ready. */
export const placeAfter = (
  { progress, ...envelope }: Envelope.Envelope,
  operation: Operation,
): Envelope.Place => {
  const { lane, queue } = progress.place ?? envelope
  return operation._tag === "move"
    ? { queue: operation.queue ?? queue, lane: operation.lane ?? lane }
    : { queue, lane }
}

/** One whose author is still linking it to its parents is looked after, should the author die. */
const tickOf = (
  { alarmMillis }: Pick<Wire, "alarmMillis">,
  { envelope: { progress }, subject }: Records.JobMessage,
  now: number,
): number =>
  progress.waits?.staged === true && subject.group === noGroup ? now + alarmMillis : Moves.never

/** The next message of a job; `undefined` when it is already as the operation wants it. */
export const moveOf = (
  wire: Pick<Wire, "alarmMillis" | "subjects">,
  message: Records.JobMessage,
  operation: Moving,
  now: number,
  /** Of a job that is requeued: its claim on its key, claimed again. */
  claim: Envelope.Claim | undefined = message.envelope.progress.claim,
): Moves.Move | undefined => {
  const { envelope: { progress }, envelope, stored, subject } = message
  const { subjects } = wire
  switch (operation._tag) {
    case "cancel": {
      const { reason } = operation
      return Moves.ended(subjects, message, "cancelled", { ended: now, reason })
    }
    case "requeue":
      return Moves.ready(subjects, message, {
        ...progress,
        attempts: 0,
        snoozes: 0,
        lost: 0,
        unknown: 0,
        after: stored.sequence,
        earlier: (progress.earlier ?? 0) + progress.attempts,
        since: now,
        requeued: now,
        claim,
        begun: undefined,
      })
    case "runNow":
      return Moves.ready(subjects, message, { ...progress, since: now })
    case "reschedule": {
      const due = operation.at ?? now + (operation.delay ?? 0)
      const state = subject.state === "retry" ? "retry" : "later"
      return Moves.later(subjects, message, { ...progress, since: Math.ceil(due) }, due, state)
    }
    case "move": {
      const place = placeAfter(envelope, operation)
      const next = { ...progress, place }
      if (subject.state === "later" || subject.state === "retry") {
        return Moves.later(subjects, message, next, stored.due ?? now, subject.state)
      }
      if (Records.stateOf(message) === "awaiting") {
        return Moves.awaiting(subjects, message, next, tickOf(wire, message, now))
      }
      const move = Moves.ready(subjects, message, next)
      return move.subject === stored.subject ? undefined : move
    }
  }
}
