/** The runs of recurring entries: which of them live, and the messages of new ones. */
import * as Effect from "effect/Effect"
import type * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as EntryTick from "../core/EntryTick.ts"
import * as Envelope from "../core/Envelope.ts"
import type { JobId } from "../core/JobId.ts"
import type { WireState } from "../core/JobState.ts"
import { finalStates } from "../core/JobState.ts"
import type * as Waits from "../core/Waits.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** A run that hasn't ended. */
export interface Active {
  readonly id: JobId
  /** Whether it waits for an earlier one. */
  readonly isQueued: boolean
}

/** What a run is, by the message that counts. */
const activeIn = (current: Records.JobMessage | undefined): ReadonlyArray<Active> =>
  current === undefined || Records.isRecord(current.subject)
    ? []
    : [{ id: current.subject.id, isQueued: Records.stateOf(current) === "awaiting" }]

/** Those that live again of runs that had ended: somebody has requeued them. */
const requeuedOf = (
  { reader, subjects }: Wire,
  ended: ReadonlyArray<Entry.Run>,
): Effect.Effect<ReadonlyArray<Active>, NatsError> => {
  if (ended.length === 0) return Effect.succeed([])
  const stream = Subjects.jobsStream(subjects.namespace, EntryId.partition)
  const filters = ended.map(({ id }) => subjects.job(Subjects.addressOf(id)))
  return Effect.map(reader.newest(stream, filters), (found) => {
    const messages = Records.parse(subjects, found)
    return ended.flatMap((run) =>
      activeIn(Records.current(messages.filter(({ subject }) => subject.id === run.id)))
    )
  })
}

/** Those of the runs that haven't ended, or live again; one whose record is gone has ended. */
export const activeOf = (
  wire: Wire,
  runs: ReadonlyArray<Entry.Run>,
): Effect.Effect<ReadonlyArray<Active>, NatsError> =>
  Effect.zipWith(
    Effect.forEach(
      runs.filter(({ ended }) => !ended),
      ({ id }) => Effect.map(JobView.find(wire, id), (view) => activeIn(view?.current)),
      { concurrency: 16 },
    ),
    requeuedOf(wire, runs.filter(({ ended }) => ended)),
    (living, requeued) => [...living.flat(), ...requeued],
  )

/** What a nominal time leads to, beside runs that live: a run, one that waits for them, or nothing. */
export const decide = (
  overlap: Entry.Overlap,
  active: ReadonlyArray<Active>,
): "run" | "queue" | "skip" => {
  if (overlap === "allow" || active.length === 0) return "run"
  return overlap === "skip" || active.some(({ isQueued }) => isQueued) ? "skip" : "queue"
}

/** A new run, as it is to be stored. */
export interface NewRun extends Entry.Run {
  /** Runs that it waits for. */
  readonly after: ReadonlyArray<JobId>
}

/** The message of a new run. */
export interface RunMessage {
  readonly id: JobId
  readonly state: WireState
  /** When it starts, where that is later. */
  readonly due: number | undefined
  readonly subject: string
  readonly payload: Uint8Array
  readonly headers: string
}

/** The message of a run, made at `now` (ms since 1970). */
export const messageOf = (
  { alarmMillis, subjects }: Wire,
  plan: Entry.Plan,
  { after, at, byHand, id }: NewRun,
  now: number,
): RunMessage => {
  const { lane, name, options, payload, queue } = plan.job
  const address: Subjects.Address = Subjects.addressOf(id)
  const template = Envelope.template(name, queue, lane, { ...options, recurring: [plan.id, at] })
  const start = byHand ? now : EntryTick.startOfRun(plan, at)
  const ready = subjects.live("ready", queue, lane, address)
  if (after.length > 0) {
    const waits: Waits.Waits = {
      staged: true,
      need: "all",
      on: finalStates,
      delay: 0,
      parents: after.map((parent) => ({ id: parent })),
    }
    return {
      id,
      state: "await",
      due: undefined,
      subject: subjects.live("await", queue, lane, address),
      payload: Envelope.freshWith(template, now, payload, {
        ...Envelope.untouched,
        // Should its turn come before it was to start.
        since: start > now ? start : undefined,
        waits,
      }),
      headers: Moves.awaitLines(subjects, address, now + alarmMillis),
    }
  }
  if (start <= now) {
    const message = Envelope.fresh(template, now, payload)
    return { id, state: "ready", due: undefined, subject: ready, payload: message, headers: "" }
  }
  return {
    id,
    state: "later",
    due: start,
    subject: subjects.live("later", queue, lane, address),
    payload: Envelope.freshWith(template, now, payload, { ...Envelope.untouched, since: start }),
    headers: Subjects.scheduleLines(start, ready),
  }
}
