/** Holds everything that was ever stored of recurring entries against what was promised. */
import * as Effect from "effect/Effect"
import * as Entry from "../../src/core/Entry.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as JobView from "../../src/nats/JobView.ts"
import type { StoredMessage } from "../../src/nats/Reader.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import { Recurring } from "../../mod.ts"
import * as History from "./History.ts"
import { wrongPromises } from "./RecurringPromises.ts"
import { type Counts, examine } from "./RecurringRules.ts"
import { payloadOf, runsIn } from "./RecurringRuns.ts"
import type { World } from "./RecurringWorld.ts"

/** A problem, and the entry or job that it is about. */
export type Wrong = readonly [id: string, text: string]

/** What a run of the model has shown. */
export interface Verdict {
  readonly wrong: ReadonlyArray<Wrong>
  readonly runs: number
  readonly byHand: number
  readonly skipped: number
  readonly ticks: number
  readonly late: number
  /** Runs that waited for an earlier one. */
  readonly waited: number
}

/** What lies in the streams. */
const readAll = ({ wire }: World) =>
  Effect.gen(function* () {
    const all: Array<Records.JobMessage> = []
    const others: Array<StoredMessage> = []
    for (let partition = 0; partition < wire.partitions; partition++) {
      const stream = Subjects.jobsStream(wire.subjects.namespace, partition)
      for (let sequence = 1;;) {
        const from = { sequence, count: 1_000, bytes: 8_000_000 }
        const { messages } = yield* wire.reader.page(stream, ">", from)
        const last = messages.at(-1)
        if (last === undefined) break
        sequence = last.sequence + 1
        const parsed = Records.parse(wire.subjects, messages)
        const jobs = new Set(parsed.map(({ stored }) => stored.sequence))
        others.push(...messages.filter((message) => !jobs.has(message.sequence)))
        all.push(...parsed)
      }
    }
    return { all, others }
  })

/** Waits until each entry waits for an alarm to come; gives those that don't, after `within` ms. */
export const alive = (
  { stamps, wire }: World,
  names: ReadonlyArray<string>,
  within: number,
): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.gen(function* () {
    const left = new Set(names)
    const end = performance.now() + within
    while (left.size > 0 && performance.now() < end) {
      yield* Effect.forEach(left, (name) =>
        Effect.map(JobView.messagesAt(wire, EntryMessage.addressOf(name)), (found) => {
          const [one] = found
          const isGone = found.length === 0
          const isWaiting = one !== undefined && found.length === 1 &&
            wire.subjects.parse(one.subject)?.state === "await" &&
            (stamps.get(one.sequence)?.alarm ?? 0) > Date.now()
          if (isGone || isWaiting) {
            left.delete(name)
          }
        }), { concurrency: 8, discard: true })
      if (left.size > 0) {
        yield* Effect.sleep("50 millis")
      }
    }
    return [...left]
  })

/** Waits until nothing is left but entries that are paused and the records of runs. */
export const settle = (
  world: World,
  within: number,
): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.gen(function* () {
    const end = performance.now() + within
    while (true) {
      const { all, others } = yield* readAll(world)
      const seen = new Set<string>()
      const live = all.filter(({ envelope: { progress }, subject: { id, state } }) => {
        const isFirst = !seen.has(id)
        seen.add(id)
        const isEntry = progress.entry !== undefined && state === "await"
        return !(isFirst && (isEntry || JobState.isFinal(JobState.fromWire(state))))
      })
      const left = [...others, ...live.map(({ stored }) => stored)]
      if (left.length === 0 || performance.now() > end) {
        return left.map(({ sequence, subject }) => `${subject} at ${sequence}`)
      }
      yield* Effect.sleep("50 millis")
    }
  })

/** Looks at everything, once it has settled. */
export const check: (
  world: World,
  names: ReadonlyArray<string>,
) => Effect.Effect<Verdict, unknown> = Effect.fnUntraced(function* (world, names) {
  const { attempts, history, problems, wire } = world
  const wrong: Array<Wrong> = problems.map((text) => [/^entry \d+/.exec(text)?.[0] ?? "", text])
  if (!(yield* History.complete(history, wire))) wrong.push(["", "not all of it was heard"])
  const runs = runsIn(world)
  const byEntry = Map.groupBy(runs, ({ entry }) => entry)
  const counts: Counts = { skipped: 0, ticks: 0, late: 0 }
  const endings = (id: string): ReadonlySet<string> =>
    new Set((history.jobs.get(id) ?? []).map(Records.stateOf).filter(JobState.isFinal))
  for (const { ended, entry, id, messages } of runs) {
    const own = attempts.filter((attempt) => attempt.id === id)
    const found = History.examine(messages, { runs: own, mayBeNew: false, endings })
    // What lost its lease on a busy machine may begin once more, as it ends.
    const first = own.filter(({ delivery }) => delivery === 1)
    const texts = [...found.wrong, ...History.wrongRuns(messages, first)]
    if (ended === Infinity) texts.push("has not ended")
    if (new Set(messages.map(({ envelope }) => envelope.created)).size > 1) texts.push("made twice")
    for (const text of texts) wrong.push([entry, `${id}: ${text}`])
  }
  const { all } = yield* readAll(world)
  const there = Map.groupBy(all, ({ subject }) => subject.id)
  const { provide } = world.clients[0] as World["clients"][number]
  for (const name of names) {
    const own = byEntry.get(name) ?? []
    const { last, wrong: found } = examine(world, name, own, counts)
    for (const text of [...found, ...wrongPromises(world, name, own)]) wrong.push([name, text])
    const messages = there.get(EntryId.messageId(name)) ?? []
    if (last === undefined) continue
    const { spec, state } = last
    if (state.removed === undefined && messages[0]?.stored.sequence !== last.sequence) {
      wrong.push([name, `${last.sequence} is not there`])
    }
    const record = yield* provide(Recurring.get(name)).pipe(
      Effect.catchTag("RecurringNotFound", () => Effect.succeed(undefined)),
    )
    if ((record === undefined) !== (state.removed !== undefined)) wrong.push([name, "reads wrong"])
    if (record === undefined) continue
    const { revision, runs } = record
    if (revision !== state.revision || runs !== state.runs || record.paused === undefined) {
      wrong.push([name, `reads as ${JSON.stringify(record)} of ${spec.n}`])
    }
  }
  for (const { entry, id } of runs) {
    if (!names.includes(entry)) wrong.push([entry, `${id} is a run of nothing`])
  }
  return {
    ...{ wrong, ...counts },
    runs: runs.length,
    byHand: runs.filter((run) => run.byHand).length,
    waited: runs.filter(({ activated, first }) => activated > first).length,
  }
})

/** All that is known of an entry, in the order in which it was heard of. */
export const story = (world: World, name: string): string => {
  const { attempts, comings, history, specs, stamps, told } = world
  const base = performance.timeOrigin
  const lines: Array<readonly [number, string]> = [...comings]
  for (const message of history.jobs.get(EntryId.messageId(name)) ?? []) {
    const { heard, stored: { sequence }, subject: { state } } = message
    const said = EntryMessage.read(message)
    if (said === undefined || !Entry.isReadable(said.plan) || !Entry.isReadable(said.state)) {
      continue
    }
    const { asked, cursor, history: past, paused, removed, revision, runs, skipped } = said.state
    const more = { cursor, paused, removed, runs, skipped: skipped?.count }
    const alarm = stamps.get(sequence)?.alarm
    lines.push([
      heard + base,
      `${sequence} ${state} revision ${revision} of ${payloadOf(said.plan.job)} ` +
      `${JSON.stringify(more)} asked ${asked.map(({ id }) => id)} ` +
      `past ${past.length} alarm ${alarm}`,
    ])
  }
  for (const { at, byHand, id, messages } of runsIn(world).filter(({ entry }) => entry === name)) {
    for (const [heard, text] of History.trail(messages)) {
      lines.push([heard + base, `  ${id}${byHand ? " by hand" : ""} for ${at}: ${text}`])
    }
  }
  for (const { at, attempt, delivery, entry, id, server } of attempts) {
    if (entry === name) lines.push([at, `  ${id} attempt ${attempt} on ${server}, ${delivery}`])
  }
  const declared = new Set<number>()
  for (const { called, client, entry, returned, what } of told) {
    if (entry !== name) continue
    if (what.op === "upsert") declared.add(what.n)
    lines.push([returned, `told client ${client} since ${called}: ${JSON.stringify(what)}`])
  }
  return [
    ...[...declared].map((n) => `      ${JSON.stringify(specs.get(n))}`),
    ...lines.toSorted(([a], [b]) => a - b).map(([at, text]) => `      ${at.toFixed(0)} ${text}`),
  ].join("\n")
}
