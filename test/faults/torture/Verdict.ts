/** Holds what the ledger tells against what NATS keeps, once everything has settled. */
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as MessagePack from "../../../src/core/MessagePack.ts"
import * as JobState from "../../../src/core/JobState.ts"
import * as Api from "../../../src/nats/Api.ts"
import * as Records from "../../../src/nats/Records.ts"
import * as Subjects from "../../../src/nats/Subjects.ts"
import { readAll, settle, wrongBatches } from "../../model/Check.ts"
import { examine, type Stored, trail, withoutLate } from "../../model/History.ts"
import type { Known } from "../../model/World.ts"
import type { Arena } from "./Arena.ts"
import * as Chronicle from "./Chronicle.ts"
import * as Ledger from "./Ledger.ts"
import { ackWaitMillis } from "./Options.ts"

/** Something that was promised and isn't so. */
export interface Violation {
  readonly rule: string
  readonly id: string
  readonly text: string
}

/** What was found. */
export interface Verdict {
  readonly violations: ReadonlyArray<Violation>
  /** Everything that is known of the first jobs that violations are about. */
  readonly stories: ReadonlyArray<string>
  readonly numbers: Readonly<Record<string, number>>
  /** When jobs were completed, in their order. */
  readonly completions: ReadonlyArray<number>
}

/**
 * Between the check of a job and its start another server may commit, where NATS has forgotten who
 * holds what; in ms. On a busy machine the few milliseconds become more.
 */
const overlapMillis = 250

/** Time that a server takes to go on after it stood still, in ms. */
const wakeMillis = 1_000

/** Time in which servers hear that a job was moved by somebody else, in ms. */
const hintMillis = 1_000

interface Began {
  readonly at: number
  readonly pid: number
}

/** Times in which a process stood still or couldn't be reached. */
const stallsOf = ({ windows }: Arena, lines: ReadonlyArray<Ledger.Line>) => {
  const stalls = windows.filter(({ what }) => what === "stall").map((window) => ({ ...window }))
  for (const { at, pid, what } of lines) {
    if (what === "blocks") stalls.push({ what: "stall", pid, from: at, to: at + ackWaitMillis })
    const last = stalls.findLast((stall) => stall.pid === pid)
    if (what === "unblocks" && last !== undefined) last.to = Math.max(last.to, at)
  }
  return stalls
}

/** Attempts that began although their job had ended. */
const ranAgain = (
  arena: Arena,
  stalls: ReturnType<typeof stallsOf>,
  all: ReadonlyArray<Stored>,
  began: ReadonlyArray<Began>,
) => {
  const messages = withoutLate(all)
  const wrong: Array<string> = []
  let overlaps = 0
  for (const { at, pid } of began) {
    // Of one millisecond nobody knows what came first.
    const last = messages.findLast(({ heard }) => heard < at)
    if (last === undefined || !JobState.isFinal(Records.stateOf(last))) continue
    const late = at - last.heard
    const stood = stalls.some((stall) =>
      stall.pid === pid && stall.from <= last.heard && at <= stall.to + wakeMillis
    )
    const forgot = late <= overlapMillis &&
      arena.windows.some(({ from, to, what }) =>
        what === "nats" && from <= at && at <= to + 3 * ackWaitMillis
      )
    const told = last.subject.state === "cancelled" && late <= hintMillis
    if (stood || forgot || told) overlaps++
    else wrong.push(`began ${late.toFixed(0)} ms after it had ${last.subject.state} in ${pid}`)
  }
  return { overlaps, wrong }
}

/** Times in which a job lived, by sequences. */
const livesOf = (messages: ReadonlyArray<Stored>): ReadonlyArray<readonly [number, number]> => {
  const lives: Array<readonly [number, number]> = []
  let from: number | undefined
  for (const message of withoutLate(messages)) {
    const { sequence } = message.stored
    if (JobState.isFinal(Records.stateOf(message))) {
      if (from !== undefined) lives.push([from, sequence])
      from = undefined
    } else from ??= sequence
  }
  if (from !== undefined) lives.push([from, Infinity])
  return lives
}

const heldByNobody = Effect.fnUntraced(function* ({ namespace, wire }: Arena) {
  const held: Array<string> = []
  for (let partition = 0; partition < wire.partitions; partition++) {
    const { consumers } = yield* Api.call<{
      readonly consumers: ReadonlyArray<{ readonly name: string; readonly num_ack_pending: number }>
    }>(
      wire.nats.connection,
      `CONSUMER.LIST.${Subjects.jobsStream(namespace, partition)}`,
      undefined,
      "listing",
    )
    for (const { name, num_ack_pending } of consumers) {
      if (num_ack_pending > 0) held.push(`${num_ack_pending} of ${partition} ${name}`)
    }
  }
  return held
})

const known = (id: string, kind: Known["kind"], members: number): Known => ({
  id,
  kind,
  members,
  done: { changed: 0, notFound: 0, conflict: 0, removed: 0, requeued: 0 },
  reasons: [],
  told: [],
})

/** Looks at everything. */
export const reach = Effect.fnUntraced(function* (arena: Arena, kept: Chronicle.Chronicle) {
  const { options, problems, wire } = arena
  const violations: Array<Violation> = []
  const wrong = (rule: string, id: string, text: string) => violations.push({ rule, id, text })
  const began = performance.now()
  const left = yield* settle(arena, options.settleMillis)
  const settled = performance.now() - began
  const lines = Ledger.read(arena.ledger)
  const all = yield* readAll(wire)
  const chronicle = Chronicle.tell(kept, wire)
  const history = [...chronicle.jobs].flatMap(([id, messages]) =>
    trail(messages).map(([at, text]) => `${at} ${id} ${text}`)
  )
  writeFileSync(join(arena.ledger, "history.txt"), history.join("\n"))
  const there = Map.groupBy(all, ({ subject }) => subject.id)

  for (const text of problems) wrong("process", "", text)
  for (const { at, id, more, what } of lines) {
    if (what === "problem") wrong("answer", id, `${at} ${more.join(" ")}`)
    if (what === "AuditFailed") wrong("auditor", id, `${at} ${more.join(" ")}`)
  }

  // What is left, by what should have become of it.
  let claims = 0
  for (const subject of left) {
    const parsed = wire.subjects.parse(subject)
    // The next job of its key takes it over.
    if (parsed === undefined && subject.includes(".claim.")) claims++
    else {
      const rule = parsed === undefined
        ? "left"
        : { await: "hangs", later: "never fired", retry: "never fired", ready: "never ran" }[
          parsed.state as string
        ] ?? "second record"
      wrong(rule, parsed?.id ?? "", subject)
    }
  }
  if (left.length === 0) {
    for (const text of yield* heldByNobody(arena)) wrong("held by nobody", "", text)
  }

  // What was acknowledged is there.
  const acked = lines.filter(({ what }) => what === "acked")
  const batches = new Map<string, Known>()
  const keys = new Map<string, string>()
  for (const { id, more } of acked) {
    if (!there.has(id)) wrong("lost", id, more.join(" "))
    const [kind, second = "", third] = more
    if (kind === "batch") batches.set(id, known(id, "batch", Number(second)))
    if (kind === "once") keys.set(id, second)
    if (kind === "flow") {
      const message = there.get(second)?.[0]
      const state = message?.subject.state
      const { reason, result } = message?.envelope.outcome ?? {}
      const value = result === undefined ? undefined : MessagePack.decode(result)
      if (state !== "succeeded" || value !== Number(third)) {
        wrong("workflow", second, `of ${id}: ${state} ${value} ${reason}, expected ${third}`)
      }
    }
  }
  const ownBatches = all.filter(({ subject }) => batches.has(subject.id))
  const members = all.filter(({ subject }) => batches.has(subject.group))
  for (const [id, text] of wrongBatches({ known: batches }, [...ownBatches, ...members])) {
    wrong("batch", id, text)
  }

  // One outcome, and no run after it.
  const stalls = stallsOf(arena, lines)
  const begins = Map.groupBy(lines.filter(({ what }) => what === "began"), ({ id }) => id)
  let overlaps = 0
  let unjudged = 0
  const byKey = new Map<
    string,
    Array<readonly [string, ReadonlyArray<readonly [number, number]>]>
  >()
  for (const [id, messages] of chronicle.jobs) {
    const [first, last] = [messages[0], messages.at(-1)]
    if (first === undefined || last === undefined) continue
    const { partition } = first.subject
    const newest = Math.max(
      last.stored.sequence,
      ...(there.get(id) ?? []).map(({ stored }) => stored.sequence),
    )
    const { sequence } = first.stored
    if (newest > last.stored.sequence || !chronicle.isWhole(partition, sequence, newest)) {
      unjudged++
      continue
    }
    if (first.envelope.progress.entry !== undefined) continue
    const own = begins.get(id) ?? []
    const runs = own.map(({ at, more, pid }) => ({
      id,
      server: String(pid),
      attempt: Number(more[1]),
      began: at,
    }))
    const endings = (parent: string) =>
      new Set((chronicle.jobs.get(parent) ?? []).map(Records.stateOf))
    const found = examine(messages, { runs, mayBeNew: false, endings })
    const isEngine = first.envelope.name.startsWith("_")
    for (const text of found.wrong) {
      // What its parents were may be missing of a parent that isn't whole. Commands that follow jobs
      // are tried again like any job, which the table of the states of jobs doesn't have.
      if (!text.includes("struck") && !(isEngine && text.includes(" went "))) {
        wrong("history", id, text)
      }
    }
    const again = ranAgain(arena, stalls, messages, own)
    overlaps += again.overlaps
    for (const text of again.wrong) wrong("ran after its end", id, text)
    const key = keys.get(id)
    if (key !== undefined) {
      byKey.set(key, [...byKey.get(key) ?? [], [id, livesOf(messages)]])
    }
  }
  for (const [key, jobs] of byKey) {
    const lives = jobs.flatMap(([id, own]) => own.map((life) => [id, ...life] as const))
      .sort((a, b) => a[1] - b[1])
    for (const [index, [id, from]] of lives.entries()) {
      const before = lives[index - 1]
      if (before !== undefined && before[0] !== id && before[2] > from) {
        wrong("unique", id, `held ${key} beside ${before[0]}`)
      }
    }
  }

  // Each nominal time has one job.
  const ticks = Map.groupBy(
    all.filter(({ envelope }) => envelope.name === "tick"),
    ({ envelope }) => envelope.options.recurring?.[0] ?? "",
  )
  const nominal = lines.filter(({ what }) => what === "recurring")
  let times = 0
  for (const { id: entry, more: [from, to, every] } of nominal) {
    const found = new Map<number, number>()
    const records = new Set(
      (ticks.get(entry) ?? []).map(({ envelope: { options }, subject }) =>
        `${options.recurring?.[1]} ${subject.id}`
      ),
    )
    for (const record of records) {
      const at = Number(record.split(" ")[0])
      found.set(at, (found.get(at) ?? 0) + 1)
    }
    for (let at = Number(from); at <= Number(to); at += Number(every)) {
      times++
      const count = found.get(at) ?? 0
      if (count !== 1) wrong("recurring", "", `${count} jobs of ${entry} for ${at}`)
    }
  }

  const of = (what: string) => lines.filter((line) => line.what === what).length
  const told = new Set(acked.map(({ id }) => id))
  const ends = all.filter(({ subject }) => Records.isRecord(subject))
  const state = (state: string) => ends.filter(({ subject }) => subject.state === state).length
  const numbers = {
    "enqueues acknowledged": told.size,
    "jobs with a record": new Set(ends.map(({ subject }) => subject.id)).size,
    succeeded: state("succeeded"),
    failed: state("failed"),
    cancelled: state("cancelled"),
    "parked after lost servers": ends.filter(({ envelope: { outcome } }) =>
      outcome?.reason?.startsWith("its server was lost")
    )
      .length,
    "operations answered": of("operated"),
    "calls refused while NATS was hurt": of("refused"),
    "attempts begun": of("began"),
    redeliveries: lines.filter(({ more, what }) => what === "began" && Number(more[2]) > 1).length,
    "outcomes refused to stale servers": of("OutcomeLost"),
    "stale deliveries dropped": of("DeliveryDropped"),
    "jobs put back by the watchdog": of("JobRescued"),
    "commits refused for a while": of("CommitRefused"),
    "second starts within the documented limits": overlaps,
    "recurring times": times,
    "unique keys left to be taken over": claims,
    "messages stored": chronicle.messages,
    "messages the chronicle lacks": chronicle.missing,
    "jobs not judged for that": unjudged,
    "seconds to settle": Math.round(settled / 100) / 10,
    "process starts that failed": arena.counts.failedStarts,
    "processes ended by handlers": arena.counts.handlerExits,
  }
  // Some of each rule: of what goes wrong seldom nothing may be hidden by what does often.
  const byRule = Map.groupBy(violations.filter(({ id }) => id !== ""), ({ rule }) => rule)
  const ids = new Set([...byRule.values()].flatMap((some) => some.slice(0, 3).map(({ id }) => id)))
  const stories = [...ids].map((id) => {
    const messages = chronicle.jobs.get(id) ?? []
    const told = lines.filter((line) => line.id === id).map(({ at, more, pid, what }) =>
      [at, `${pid} ${what} ${more.join(" ")}`] as const
    )
    const story = [...trail(messages), ...told].toSorted(([a], [b]) => a - b)
    return [id, ...story.map(([at, text]) => `  ${at.toFixed(0)} ${text}`)].join("\n")
  })
  const completions = lines.filter(({ what }) => what === "stored").map(({ at }) => at)
  const verdict: Verdict = { violations, stories, numbers, completions }
  return verdict
})
