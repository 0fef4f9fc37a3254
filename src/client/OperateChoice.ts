/** Which jobs of a page an operation is meant for. */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import * as JobState from "../core/JobState.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Lists from "../nats/Lists.ts"
import type * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Servers from "./InspectServers.ts"
import { matches, type ResolvedFilter } from "./JobFilter.ts"
import type { Operation } from "./Operation.ts"

/** Jobs whose final records one read asks for. */
const lookedUp = 300

/** How long the answer of servers to what they run is used, in ms. */
const freshMillis = 1_000

/** What is to be done. */
export interface Request {
  readonly operation: Operation
  readonly filter: ResolvedFilter
  /** The newest sequence of each partition when it was asked for: what is newer isn't meant. */
  readonly cutoffs: ReadonlyArray<number>
  /** When it was asked for, in ms since 1970. */
  readonly asked: number
}

/** Jobs of one state in one partition. */
export interface Range {
  readonly partition: number
  readonly state: WireState
  /** The first and the last sequence. */
  readonly sequences: readonly [number, number]
}

/** Keys of the jobs that run, as far as servers tell. */
export type Running = Effect.Effect<ReadonlySet<string>, NatsError>

/** Asks now and then which jobs run, so that each page needn't wait for the answers. */
export const makeRunning = (wire: Wire): Running => {
  let asked = Number.NEGATIVE_INFINITY
  let known: ReadonlySet<string> = new Set()
  return Effect.gen(function* () {
    if (performance.now() - asked < freshMillis) return known
    const { length } = yield* Servers.present(wire)
    const answers = yield* Servers.describe(wire, length)
    known = new Set([...answers.values()].flatMap(({ jobs }) => jobs.map(Lists.keyOf)))
    asked = performance.now()
    return known
  })
}

/** The newest final records of those jobs that have one which counts more than their message (W5). */
const endedAmong = Effect.fnUntraced(function* (
  { reader, subjects }: Wire,
  partition: number,
  jobs: ReadonlyArray<Records.JobMessage>,
) {
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const ended = new Map<string, Subjects.JobSubject & { readonly sequence: number }>()
  for (let at = 0; at < jobs.length; at += lookedUp) {
    const some = jobs.slice(at, at + lookedUp)
    const filters = some.flatMap(({ envelope, subject }) =>
      JobState.finalStates.map((state) => subjects.final(state, envelope, subject))
    )
    const found = yield* reader.newest(stream, filters)
    if (found.length === 0) continue
    const after = new Map(
      some.map(({ envelope, subject }) => [Lists.keyOf(subject), envelope.progress.after]),
    )
    for (const { sequence, subject: text } of found) {
      const subject = subjects.parse(text)
      if (subject === undefined) continue
      const key = Lists.keyOf(subject)
      if (sequence > (after.get(key) ?? 0)) ended.set(key, { ...subject, sequence })
    }
  }
  return ended
})

/** What is chosen of a page. */
export interface Choice {
  readonly chosen: ReadonlyArray<Records.JobMessage>
  /** Sequences of what an earlier run of the same request has left behind. */
  readonly leftovers: ReadonlyArray<number>
}

/** What matches of a page, with what was left behind by an earlier run of the same request. */
export const choose: (
  wire: Wire,
  request: Request,
  range: Range,
  running: Running,
  jobs: ReadonlyArray<Records.JobMessage>,
) => Effect.Effect<Choice, NatsError> = Effect.fnUntraced(function* (
  wire,
  { asked, cutoffs, filter },
  { partition, state },
  running,
  jobs,
) {
  const cutoff = cutoffs[partition] ?? 0
  const matching = jobs.filter((message) =>
    matches(filter, message) &&
    // What is newer may be a job that was there and has moved on.
    (message.stored.sequence <= cutoff || message.envelope.created < asked)
  )
  const leftovers: Array<number> = []
  if (JobState.isFinal(JobState.fromWire(state)) || matching.length === 0) {
    return { chosen: matching, leftovers }
  }
  const ended = yield* endedAmong(wire, partition, matching)
  const { states } = filter
  const either = state === "ready" && states.includes("enqueued") !== states.includes("processing")
  const runs: ReadonlySet<string> = either ? yield* running : new Set()
  const chosen = matching.filter(({ stored, subject }) => {
    const key = Lists.keyOf(subject)
    const record = ended.get(key)
    if (record !== undefined) {
      const ours = record.state === "cancelled" && record.sequence > cutoff
      if (ours && state === "ready") leftovers.push(stored.sequence)
      return false
    }
    return !either || runs.has(key) === states.includes("processing")
  })
  return { chosen, leftovers }
})
