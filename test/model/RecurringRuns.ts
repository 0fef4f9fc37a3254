/** Runs of recurring entries, as their messages tell of them. */
import type * as Envelope from "../../src/core/Envelope.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Records from "../../src/nats/Records.ts"
import type * as History from "./History.ts"
import type { World } from "./RecurringWorld.ts"

/** Clocks are read in several places, and what is stored is heard of a moment later, in ms. */
export const toleranceMillis = 300

/** A run, by its first message and what became of it. */
export interface Run {
  readonly id: string
  readonly entry: string
  readonly at: number
  readonly byHand: boolean
  readonly created: number
  readonly messages: ReadonlyArray<History.Stored>
  /** Sequence of its first message. */
  readonly first: number
  /** Sequence at which it began to count as active rather than waiting. */
  readonly activated: number
  /** Sequence of its record. */
  readonly ended: number
}

/** The number of what was declared, by the payload of its runs. */
export const payloadOf = (envelope: Envelope.Envelope): number =>
  (MessagePack.decode(envelope.payload) as { readonly n: number }).n

/** All runs, in the order in which they were made. */
export const runsIn = ({ history, told }: World): ReadonlyArray<Run> => {
  const triggered = new Set(told.flatMap(({ what }) => what.op === "trigger" ? [what.id] : []))
  return [...history.jobs].flatMap(([id, messages]): ReadonlyArray<Run> => {
    const first = messages[0]
    const origin = first?.envelope.options.recurring
    if (first === undefined || origin === undefined) return []
    const [entry, at] = origin
    const sequenceOf = (is: (state: JobState.JobState) => boolean) =>
      messages.find((message) => is(Records.stateOf(message)))?.stored.sequence ?? Infinity
    return [{
      ...{ id, entry, at, messages },
      byHand: triggered.has(id) || id !== EntryId.runId(entry, at),
      created: first.envelope.created,
      first: first.stored.sequence,
      activated: sequenceOf((state) => state !== "awaiting"),
      ended: sequenceOf(JobState.isFinal),
    }]
  }).sort((a, b) => a.first - b.first)
}
