/**
 * Everything that was ever stored in a namespace, in its order: NATS republishes each message of the
 * job streams once it is stored, also those that its own schedules make. Nothing can hide from it.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as Waits from "../../src/core/Waits.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import type { Wire } from "../../src/nats/Wire.ts"

/** A message of a job, and when it was heard of on the monotonic clock. */
export interface Stored extends Records.JobMessage {
  readonly heard: number
}

/** One attempt of a handler, as the handler saw it. */
export interface Run {
  readonly id: string
  readonly server: string
  readonly attempt: number
  readonly began: number
}

/** What was stored. */
export interface History {
  /** Messages by job, in the order of their sequences. */
  readonly jobs: Map<string, Array<Stored>>
  /** How many messages of any kind each partition has stored. */
  readonly heard: Map<number, number>
}

/** Listens to a namespace that has just been made. */
export const listen: (wire: Wire) => Effect.Effect<History, unknown, Scope.Scope> = Effect
  .fnUntraced(function* ({ nats: { connection, namespace }, partitions, subjects }) {
    const history: History = { jobs: new Map(), heard: new Map() }
    const prefix = `heard.${namespace}`
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        connection.subscribe(`${prefix}.>`, {
          callback: (_, { data, headers }) => {
            const text = headers?.get("Nats-Subject") ?? ""
            const partition = Number(text.split(".")[2])
            history.heard.set(partition, (history.heard.get(partition) ?? 0) + 1)
            const subject = subjects.parse(text)
            const bytes = Uint8Array.from(data)
            const envelope = Envelope.decode(bytes)
            if (subject === undefined || !Envelope.isEnvelope(envelope)) return
            const sequence = Number(headers?.get("Nats-Sequence"))
            const stored = { subject: text, sequence, time: 0, data: bytes }
            const messages = history.jobs.get(subject.id) ?? []
            history.jobs.set(subject.id, messages)
            messages.push({ subject, stored, envelope, heard: performance.now() })
          },
        })
      ),
      (subscription) => Effect.sync(() => subscription.unsubscribe()),
    )
    for (let partition = 0; partition < partitions; partition++) {
      const stream = Subjects.jobsStream(namespace, partition)
      const { config } = yield* Api.call<{ readonly config: object }>(
        connection,
        `STREAM.INFO.${stream}`,
        undefined,
        "reading",
      )
      const republish = { src: ">", dest: `${prefix}.>` }
      yield* Api.call(connection, `STREAM.UPDATE.${stream}`, { ...config, republish }, "listening")
    }
    return history
  })

/** Waits until all that the streams have stored was heard; gives whether that came true. */
export const complete: (
  history: History,
  wire: Wire,
) => Effect.Effect<boolean, unknown> = Effect.fnUntraced(
  function* (history, { nats: { connection, namespace }, partitions }) {
    for (let looks = 0; looks < 40; looks++) {
      let all = true
      for (let partition = 0; partition < partitions; partition++) {
        const { state } = yield* Api.call<{ readonly state: { readonly last_seq: number } }>(
          connection,
          `STREAM.INFO.${Subjects.jobsStream(namespace, partition)}`,
          undefined,
          "reading",
        )
        all &&= (history.heard.get(partition) ?? 0) === state.last_seq
      }
      if (all) return true
      yield* Effect.sleep("50 millis")
    }
    return false
  },
)

/** An arrow of the table, as text. */
export type Arrow = `${JobState.JobState} → ${JobState.JobState}`

/** The arrow between two states. */
export const arrow = (from: JobState.JobState, to: JobState.JobState): Arrow => `${from} → ${to}`

/** All arrows of the table. */
export const allArrows: ReadonlyArray<Arrow> = Object.entries(JobState.next)
  .flatMap(([from, states]) => states.map((to) => arrow(from as JobState.JobState, to)))

/** What was found out about a job. */
export interface Findings {
  readonly arrows: ReadonlySet<Arrow>
  /** What is wrong. */
  readonly wrong: ReadonlyArray<string>
  /** How often it went from its end to its queue. */
  readonly requeued: number
}

const lastAttempt = ({ envelope: { progress } }: Stored): string => {
  const last = progress.history.at(-1)
  return last === undefined ? "" : `${last.number} ${last.server} ${last.started}`
}

/** Whether a child's next message is what its parents decided; says what is wrong otherwise. */
const wrongRelease = (
  before: Stored,
  after: Stored,
  endings: (id: string) => ReadonlySet<string>,
): string | undefined => {
  const { waits } = after.envelope.progress
  const state = Records.stateOf(after)
  for (const { id, outcome } of waits?.parents ?? []) {
    if (outcome !== undefined && !endings(id).has(outcome.state)) {
      return `struck ${id} off as ${outcome.state}, which it never was`
    }
  }
  if (waits === undefined || state === "awaiting") return undefined
  const decision = Waits.decide({ ...waits, staged: false })
  const staged = before.envelope.progress.waits?.staged === true && waits.staged
  if (state === "cancelled") {
    const own = (after.envelope.outcome?.reason ?? "").startsWith("job ")
    return own && decision._tag !== "Cancel" ? "was cancelled for no reason" : undefined
  }
  return decision._tag !== "Release" || staged ? `was released to ${state} too early` : undefined
}

const schedules: ReadonlySet<string> = new Set(["later", "retry", "await"])

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

/**
 * What a schedule of the server has made although its job had moved on: it fires by itself, also at the
 * very moment at which somebody takes its message away. Its bytes are those of the schedule.
 */
const isLate = (messages: ReadonlyArray<Stored>, index: number): boolean => {
  const { stored, subject } = messages[index] as Stored
  // On lane 0 lies what a server has given back as it was.
  if (subject.state !== "ready" || subject.lane === "0") return false
  const made = messages.slice(0, index).findLastIndex((before) =>
    schedules.has(before.subject.state) && sameBytes(before.stored.data, stored.data)
  )
  return made >= 0 && made < index - 1
}

/** Leaves out what came late of jobs that had ended: the record counts, and the copy is dropped (W5). */
export const withoutLate = (messages: ReadonlyArray<Stored>): ReadonlyArray<Stored> => {
  let ended = false
  return messages.filter((message, index) => {
    if (ended && isLate(messages, index)) return false
    ended = JobState.isFinal(Records.stateOf(message))
    return true
  })
}

/** How many messages schedules of the server made of jobs that had moved on. */
export const lateIn = (messages: ReadonlyArray<Stored>): number =>
  messages.filter((_, index) => isLate(messages, index)).length

/** Goes through the messages of one job. */
export const examine = (
  messages: ReadonlyArray<Stored>,
  options: {
    readonly runs: ReadonlyArray<Run>
    /** Whether it may have been removed and stored again under the same id. */
    readonly mayBeNew: boolean
    readonly endings: (id: string) => ReadonlySet<string>
  },
): Findings => {
  const arrows = new Set<Arrow>()
  const wrong: Array<string> = []
  let requeued = 0
  const counting = withoutLate(messages)
  for (const [index, after] of counting.entries()) {
    const before = counting[index - 1]
    if (before === undefined) continue
    const [from, to] = [Records.stateOf(before), Records.stateOf(after)]
    const { sequence } = after.stored
    if (sequence <= before.stored.sequence) wrong.push(`${sequence} came late`)
    if (JobState.isFinal(from)) {
      const returns = after.envelope.progress.after >= before.stored.sequence
      if (!returns && options.mayBeNew && index > 0 && after.envelope.progress.after === 0) continue
      if (JobState.isFinal(to)) wrong.push(`${sequence} is a second outcome`)
      else if (!returns) wrong.push(`${sequence} lives on after its end`)
      if (to === "enqueued") requeued++
    }
    if (from === "awaiting") {
      const reason = wrongRelease(before, after, options.endings)
      if (reason !== undefined) wrong.push(`${sequence} ${reason}`)
    }
    const ended = lastAttempt(before) !== lastAttempt(after)
    const began = options.runs.some((run) => run.began > before.heard && run.began < after.heard)
    const steps: Array<Arrow> = from === "enqueued" && (ended || (began && to !== "scheduled"))
      ? [arrow("enqueued", "processing"), arrow("processing", to)]
      : [arrow(from, to)]
    for (const step of steps) {
      arrows.add(step)
      if (!allArrows.includes(step)) wrong.push(`${sequence} went ${step}`)
    }
  }
  return { arrows, wrong, requeued }
}

/** Longest time after which a server may begin what was moved on behind its back, in ms. */
const tolerance = 1_000

/**
 * Runs that should not have begun: their job had ended, or moved on long ago. What is heard of a
 * message may come a little later than the attempt that runs for it.
 */
export const wrongRuns = (
  all: ReadonlyArray<Stored>,
  runs: ReadonlyArray<Run>,
): ReadonlyArray<string> => {
  const messages = withoutLate(all)
  // Beside one that came late the job may run twice; one of the two outcomes counts.
  const copied = all.find((_, index) => isLate(all, index))?.heard ?? Infinity
  return runs.flatMap(({ attempt, began, server }) => {
    if (copied < began) return []
    const next = messages.findIndex(({ heard }) => heard >= began)
    const last = messages.at(next < 0 ? -1 : next - 1)
    const after = messages[next]
    if (next === 0 || last === undefined || Records.stateOf(last) === "enqueued") return []
    if (after !== undefined && Records.stateOf(after) === "enqueued") {
      if (after.heard - began < tolerance) return []
    }
    const state = Records.stateOf(last)
    const before = messages[messages.indexOf(last) - 1]
    const committed = (state === "succeeded" || state === "failed") && before !== undefined &&
      lastAttempt(before) !== lastAttempt(last)
    // A server that holds the message which a move superseded may begin before it hears of that.
    const moved = messages.some((message, index) =>
      index > 0 && message.subject.state === "ready" &&
      messages[index - 1]?.subject.state === "ready"
    )
    const late = began - last.heard
    return (committed && !moved) || late > tolerance
      ? [`attempt ${attempt} began on ${server} ${late.toFixed(1)} ms after ${state}`]
      : []
  })
}

/** The messages of a job as lines. */
export const trail = (messages: ReadonlyArray<Stored>): ReadonlyArray<readonly [number, string]> =>
  messages.map(({ envelope: { outcome, progress }, heard, stored, subject }) => {
    const { after, batch, claim, waits } = progress
    const parents = waits?.parents.map(({ id, outcome }) => `${id}:${outcome?.state ?? "-"}`)
    const more = [
      after > 0 ? `after ${after}` : "",
      waits === undefined ? "" : `${waits.staged ? "staged " : ""}${waits.need} of ${parents}`,
      batch === undefined ? "" : JSON.stringify(batch),
      claim === undefined ? "" : `claim ${claim.sequence} ${claim.until}`,
      outcome?.reason ?? progress.history.at(-1)?.message ?? "",
    ].filter((text) => text !== "")
    const { group, lane, partition, queue, state } = subject
    return [
      heard,
      `${partition}:${stored.sequence} ${state} ${queue} ${lane} ${group} ${more.join("; ")}`,
    ]
  })
