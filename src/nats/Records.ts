/** What a job's messages say about it, read by one rule everywhere (W5). */
import { isSecret } from "../core/BatchState.ts"
import * as Envelope from "../core/Envelope.ts"
import { isFinal } from "../core/JobState.ts"
import * as JobState from "../core/JobState.ts"
import type { StoredMessage } from "./Reader.ts"
import { engineQueue, type JobSubject, noGroup, type Subjects } from "./Subjects.ts"

/** One message of a job. */
export interface JobMessage {
  readonly subject: JobSubject
  readonly stored: StoredMessage
  readonly envelope: Envelope.Envelope
}

/** Whether a message is the record of a job that has ended. */
export const isRecord = (subject: JobSubject): boolean => isFinal(JobState.fromWire(subject.state))

/** Parses what was read; messages that aren't a job's, or can't be decoded, are left out. */
export const parse = (
  subjects: Subjects,
  messages: ReadonlyArray<StoredMessage>,
): ReadonlyArray<JobMessage> =>
  messages.flatMap((stored) => {
    const subject = subjects.parse(stored.subject)
    const envelope = subject === undefined ? undefined : Envelope.decode(stored.data)
    return subject === undefined || envelope === undefined || !Envelope.isEnvelope(envelope)
      ? []
      : [{ subject, stored, envelope }]
  })

/** State of a job as its message tells it; whether one that is ready runs, the servers know. */
export const stateOf = ({ envelope: { progress }, subject }: JobMessage): JobState.JobState => {
  const awaits = progress.waits !== undefined || progress.batch !== undefined ||
    progress.entry !== undefined
  // Its alarm has fired, and a server is about to look after it.
  const isLookedAfter = subject.state === "ready" && subject.queue === engineQueue && awaits
  return isLookedAfter ? "awaiting" : JobState.fromWire(subject.state)
}

/**
 * Whether it is nobody's business as a job: a member of a batch before its commit, of which only its
 * author knows, and a recurring entry, which has operations of its own.
 */
export const isHidden = (
  { envelope: { progress: { batch, entry, waits } }, subject }: JobMessage,
): boolean =>
  entry !== undefined || (batch !== undefined && isSecret(batch)) ||
  (waits?.staged === true && subject.group !== noGroup && !isRecord(subject))

const newestOf = (messages: ReadonlyArray<JobMessage>): JobMessage | undefined =>
  messages.reduce<JobMessage | undefined>(
    (newest, message) =>
      newest === undefined || message.stored.sequence > newest.stored.sequence ? message : newest,
    undefined,
  )

/**
 * The message that counts among those of one job: a final one wins over every other, whatever is
 * newer, except over those that a requeue made after it; else the newest.
 */
export const current = (messages: ReadonlyArray<JobMessage>): JobMessage | undefined => {
  const final = newestOf(messages.filter(({ subject }) => isRecord(subject)))
  return final === undefined ? newestOf(messages) : newestOf(
    messages.filter(({ envelope }) => envelope.progress.after >= final.stored.sequence),
  ) ?? final
}
