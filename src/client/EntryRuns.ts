/** The runs of recurring entries: which of them live, and the messages of new ones. */
import * as Effect from "effect/Effect"
import type * as Entry from "../core/Entry.ts"
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

/** Those of the runs that haven't ended; one whose record is gone has. */
export const activeOf = (
  wire: Wire,
  runs: ReadonlyArray<Entry.Run>,
): Effect.Effect<ReadonlyArray<Active>, NatsError> =>
  Effect.map(
    Effect.forEach(
      runs.filter(({ ended }) => !ended),
      ({ id }) =>
        Effect.map(JobView.find(wire, id), (view): ReadonlyArray<Active> => {
          if (view === undefined || Records.isRecord(view.current.subject)) return []
          return [{ id, isQueued: Records.stateOf(view.current) === "awaiting" }]
        }),
      { concurrency: 16 },
    ),
    (found) => found.flat(),
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
