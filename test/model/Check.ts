/** Holds what lies in the streams, and what clients read, against what was promised. */
import * as Effect from "effect/Effect"
import * as JobState from "../../src/core/JobState.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import type { Wire } from "../../src/nats/Wire.ts"
import type { Client } from "../../mod.ts"
import * as History from "./History.ts"
import type { Known, World } from "./World.ts"

interface Info {
  readonly state: {
    readonly last_seq: number
    readonly subjects?: Readonly<Record<string, number>>
  }
}

/** Every subject that holds a message, with how many. */
const subjectsIn = ({ nats: { connection, namespace }, partitions }: Wire) =>
  Effect.map(
    Effect.forEach(Array.from({ length: partitions }, (_, partition) => partition), (partition) =>
      Effect.gen(function* () {
        const found: Array<[string, number]> = []
        while (true) {
          const { state } = yield* Api.call<Info>(
            connection,
            `STREAM.INFO.${Subjects.jobsStream(namespace, partition)}`,
            { subjects_filter: ">", offset: found.length },
            "listing",
          )
          const page = Object.entries(state.subjects ?? {})
          found.push(...page)
          if (page.length === 0) {
            return found
          }
        }
      })),
    (all) =>
      all.flat(),
  )

/** What is left that isn't the record of a job. */
const unsettled = (wire: Wire) =>
  Effect.map(subjectsIn(wire), (found) => {
    const records = new Set<string>()
    return found.map(([subject]) => subject).filter((subject) => {
      const parsed = wire.subjects.parse(subject)
      if (parsed === undefined || !Records.isRecord(parsed)) return true
      // Two of one job: the older one is about to be removed.
      const isSecond = records.has(parsed.id)
      records.add(parsed.id)
      return isSecond
    })
  })

/** Waits until every job has ended and nothing else is left; gives what is left after `within` ms. */
export const settle = (
  { wire }: Pick<World, "wire">,
  within: number,
): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.gen(function* () {
    const end = performance.now() + within
    while (true) {
      const left = yield* unsettled(wire)
      if (left.length === 0 || performance.now() > end) return left
      yield* Effect.sleep("50 millis")
    }
  })

/** All messages of jobs. */
export const readAll = (
  wire: Wire,
): Effect.Effect<ReadonlyArray<Records.JobMessage>, unknown> =>
  Effect.gen(function* () {
    const all: Array<Records.JobMessage> = []
    for (let partition = 0; partition < wire.partitions; partition++) {
      const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
      for (let sequence = 1;;) {
        const filter = wire.subjects.partition(partition)
        const from = { sequence, count: 1_000, bytes: 8_000_000 }
        const { messages } = yield* wire.reader.page(stream, filter, from)
        const last = messages.at(-1)
        if (last === undefined) break
        sequence = last.sequence + 1
        all.push(...Records.parse(wire.subjects, messages))
      }
    }
    return all
  })

const listAll = Effect.fnUntraced(function* (client: Client.Client, state: JobState.JobState) {
  const ids: Array<string> = []
  let cursor: string | undefined
  do {
    const page: Client.JobPage = yield* client.list({ state, limit: 100, cursor })
    for (const { id } of page.jobs) ids.push(id)
    cursor = page.cursor
  } while (cursor !== undefined)
  return ids
})

/** What a run has shown. */
export interface Verdict {
  /** What is wrong, each with the job that it is about, if it is about one. */
  readonly wrong: ReadonlyArray<readonly [id: string, text: string]>
  readonly arrows: ReadonlySet<History.Arrow>
  readonly stored: number
  /** Messages that schedules of the server made of jobs that had moved on. */
  readonly late: number
}

const finals: ReadonlyArray<JobState.FinalState> = ["succeeded", "failed", "cancelled"]

/** Looks at everything, once it has settled. */
export const check: (
  world: World,
  left: ReadonlyArray<string>,
) => Effect.Effect<Verdict, unknown> = Effect.fnUntraced(function* (world, left) {
  const { history, known, observed, problems, runs, wire } = world
  const wrong: Array<readonly [string, string]> = problems.map((text) =>
    [/\b[0-9A-Z]{26}\b/.exec(text)?.[0] ?? "", text] as const
  )
  const arrows = new Set<History.Arrow>()
  for (const subject of left) {
    wrong.push([wire.subjects.parse(subject)?.id ?? "", `is left: ${subject}`])
  }
  if (!(yield* History.complete(history, wire))) wrong.push(["", "not all of it was heard"])

  // What was stored.
  const states = new Map<string, Set<string>>()
  for (const [id, messages] of history.jobs) {
    const ended = messages.map(Records.stateOf).filter(JobState.isFinal)
    states.set(id, new Set(ended))
  }
  const none: ReadonlySet<string> = new Set()
  const endings = (id: string) => states.get(id) ?? none
  const runsOf = Map.groupBy(runs, ({ id }) => id)
  const requeued = new Map<string, number>()
  let stored = 0
  let late = 0
  for (const [id, messages] of history.jobs) {
    stored += messages.length
    late += History.lateIn(messages)
    const own = runsOf.get(id) ?? []
    const mayBeNew = known.get(id)?.kind === "chosen" && (known.get(id)?.done.removed ?? 0) > 0
    const found = History.examine(messages, { runs: own, mayBeNew, endings })
    for (const one of found.arrows) arrows.add(one)
    for (const text of [...found.wrong, ...History.wrongRuns(messages, own)]) wrong.push([id, text])
    requeued.set(id, found.requeued)
  }

  // What clients were told. Of an operation by filter whose server stops, some numbers may be missing.
  let byFilter = 0
  for (const { done, id, kind, reasons, told } of known.values()) {
    const messages = history.jobs.get(id) ?? []
    if (messages.length === 0) wrong.push([id, "was never stored"])
    const times = (requeued.get(id) ?? 0) - done.requeued
    byFilter += times
    if (times < 0 || (times > 0 && world.wheres.requeues === 0)) {
      wrong.push([id, `${done.requeued} requeues were acknowledged, and ${times} more were made`])
    }
    for (const reason of reasons) {
      const records = messages.filter(({ envelope }) => envelope.outcome?.reason === reason)
      if (records.length !== 1) wrong.push([id, `${records.length} records say ${reason}`])
    }
    if (done.notFound > 0 && done.removed === 0) wrong.push([id, "was not found"])
    if (kind !== "chosen" && done.removed > 1) wrong.push([id, "was removed twice"])
    for (const { answer } of told) {
      if (answer?._tag === "changed" && answer.from !== answer.to) {
        arrows.add(History.arrow(answer.from, answer.to))
      }
    }
  }

  if (byFilter < world.wheres.requeued) {
    wrong.push(["", `${byFilter} of ${world.wheres.requeued} were requeued by filter`])
  }
  for (const [reason, changed] of world.wheres.cancelled) {
    const ended = [...history.jobs.values()].filter((messages) =>
      messages.some(({ envelope }) => envelope.outcome?.reason === reason)
    )
    if (ended.length < changed) wrong.push(["", `${ended.length} of ${changed} say ${reason}`])
  }

  // What observers were told.
  for (const { by, from, id, to } of observed) {
    if (to === "deleted") continue
    if (from !== undefined) {
      const step = History.arrow(from, to)
      arrows.add(step)
      if (!JobState.can(from, to)) wrong.push([id, `${by} observed ${step}`])
    }
    const messages = history.jobs.get(id) ?? []
    const was = to === "processing" || messages.some((message) => Records.stateOf(message) === to)
    if (!was) wrong.push([id, `${by} observed ${to}, which was never stored`])
  }

  // What is there.
  const all = yield* readAll(wire)
  const there = Map.groupBy(all, ({ subject }) => subject.id)
  for (const { done, id, kind } of known.values()) {
    const messages = there.get(id) ?? []
    const gone = done.removed > 0
    if (messages.length === 0 && !gone) wrong.push([id, "is gone"])
    if (messages.length > 0 && gone && kind !== "chosen") {
      wrong.push([id, "was removed and is there"])
    }
    if (messages.length > 1) {
      wrong.push([id, `has several messages: ${messages.map(({ stored }) => stored.sequence)}`])
    }
  }
  for (const [id, messages] of there) {
    const name = messages[0]?.envelope.name ?? ""
    if (name === "_where") continue
    const isEngine = name.startsWith("_") && name !== "_batch"
    if (isEngine || !known.has(id)) wrong.push([id, `nobody was promised this ${name}`])
  }
  wrong.push(...wrongBatches(world, all))

  // What clients read.
  const { client } = world.clients[0] as World["clients"][number]
  const shown = all.filter(({ subject }) => !subject.queue.startsWith("_"))
  const counted = yield* agreeing(client, shown)
  if (counted !== undefined) wrong.push(["", counted])
  for (const state of finals) {
    const listed = yield* listAll(client, state)
    const expected = shown.filter(({ subject }) => subject.state === state)
    if (listed.toSorted().join() !== expected.map(({ subject }) => subject.id).toSorted().join()) {
      wrong.push(["", `${listed.length} are listed as ${state}, ${expected.length} are`])
    }
  }
  yield* Effect.forEach(
    known.values(),
    Effect.fnUntraced(function* ({ id }) {
      const message = there.get(id)?.[0]
      const record = yield* Effect.orElseSucceed(client.get(id), () => undefined)
      if (record?.state !== (message && Records.stateOf(message))) {
        wrong.push([id, `reads as ${record?.state}, and is ${message?.subject.state}`])
      }
    }),
    { concurrency: 16, discard: true },
  )
  return { wrong, arrows, stored, late }
})

const countsOf = (messages: ReadonlyArray<Records.JobMessage>): string => {
  const counts = new Map<string, number>()
  for (const { subject: { queue, state } } of messages) {
    const key = `${queue} ${JobState.fromWire(state)}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return [...counts].map(([key, count]) => `${key} ${count}`).toSorted().join(", ")
}

/** Compares counts with what lies there; NATS counts a moment after it has confirmed a write. */
const agreeing = Effect.fnUntraced(function* (
  client: Client.Client,
  messages: ReadonlyArray<Records.JobMessage>,
) {
  const expected = countsOf(messages)
  let found = ""
  for (let looks = 0; looks < 20; looks++) {
    const { queues, total } = yield* client.counts()
    found = Object.entries(queues).flatMap(([queue, counts]) =>
      Object.entries(counts).filter(([, count]) => count > 0)
        .map(([state, count]) => `${queue} ${state} ${count}`)
    ).toSorted().join(", ")
    const sum = Object.values(total).reduce((a, b) => a + b)
    if (found === expected && sum === messages.length) return undefined
    yield* Effect.sleep("100 millis")
  }
  return `counted ${found}; there are ${expected}`
})

/** Summaries of batches that don't say what became of their members. */
export const wrongBatches = (
  { known }: Pick<World, "known">,
  all: ReadonlyArray<Records.JobMessage>,
): ReadonlyArray<readonly [string, string]> => {
  const groups = Map.groupBy(all, ({ subject }) => subject.group)
  return all.flatMap((
    { envelope: { outcome, progress: { batch } }, subject: { id, state } },
  ): ReadonlyArray<readonly [string, string]> => {
    if (batch === undefined) return []
    const { members = 0 }: Partial<Known> = known.get(id) ?? {}
    if (batch.total !== members) {
      return [[id, `says it has ${batch.total} members, and has ${members}`] as const]
    }
    const removed = [...known.values()].some(({ done, id: member }) =>
      done.removed > 0 && all.every(({ subject }) => subject.id !== member)
    )
    const own = groups.get(id) ?? []
    if (own.length !== members && !removed) {
      return [[id, `has ${own.length} records of ${members} members`] as const]
    }
    if (state === "cancelled" || own.length !== members) return []
    const of = (state: string) => own.filter(({ subject }) => subject.state === state).length
    const expected = {
      total: members,
      succeeded: of("succeeded"),
      failed: of("failed"),
      cancelled: of("cancelled"),
    }
    const summary = outcome?.result === undefined
      ? undefined
      : MessagePack.decode(outcome.result) as object
    const said = JSON.stringify(summary)
    const right = said === JSON.stringify(expected) &&
      (state === "succeeded") === (expected.succeeded === members)
    return right
      ? []
      : [[id, `${state}, says ${said}, its members ${JSON.stringify(expected)}`] as const]
  })
}

/** All that is known of a job, and of the members of a batch, in the order in which it was heard of. */
export const story = (world: World, id: string): string => {
  const { history, known, runs } = world
  const members = [...history.jobs.values()].filter((messages) => messages[0]?.subject.group === id)
  const own = history.jobs.get(id) ?? []
  const lines = [
    ...History.trail(own),
    ...members.flatMap((messages) =>
      History.trail(messages).map(([at, text]) =>
        [at, `  ${messages[0]?.subject.id} ${text}`] as const
      )
    ),
    ...runs.filter((run) => run.id === id)
      .map(({ attempt, began, server }) => [began, `attempt ${attempt} on ${server}`] as const),
    ...(known.get(id)?.told ?? []).map(({ answer, at, client, text }) => {
      const said = answer === undefined ? "" : JSON.stringify(answer)
      return [at, `told client ${client}: ${text} ${said}`] as const
    }),
    ...world.comings,
  ].toSorted(([a], [b]) => a - b)
  const first = own[0]?.heard ?? 0
  return lines.filter(([at]) => at > first - 1)
    .map(([at, text]) => `      ${at.toFixed(1)} ${text}`).join("\n")
}
