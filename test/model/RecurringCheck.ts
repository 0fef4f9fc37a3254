/**
 * Holds everything that was ever stored of recurring entries against what their rules say. The rules
 * are written here once more, in the plainest way; only where an entry says it stands is taken from
 * its messages, and each step of that is checked.
 */
import * as Effect from "effect/Effect"
import * as Entry from "../../src/core/Entry.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import type * as Envelope from "../../src/core/Envelope.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as JobView from "../../src/nats/JobView.ts"
import type { StoredMessage } from "../../src/nats/Reader.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import { Recurring } from "../../mod.ts"
import * as History from "./History.ts"
import { isNominal, nextAfter, sameWhen, type Spec, timesBetween } from "./RecurringTimes.ts"
import type { Told, World } from "./RecurringWorld.ts"

/** Clocks are read in several places, and what is stored is heard of a moment later. */
const toleranceMillis = 300
/** On a busy machine what was stored may be heard of much later. */
const heardMillis = 3_000
/** Longest time for which a removed entry leaves a marker. */
const markerMillis = 15_000
/** What comes at most as much later is never skipped as missed. */
const neverTooLate = 5_000
/** An alarm that nobody wants: it fires after all of us. */
const never = Date.UTC(2100, 0, 1)

/** A run, by its first message and what became of it. */
interface Run {
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

const payloadOf = (envelope: Envelope.Envelope): number =>
  (MessagePack.decode(envelope.payload) as { readonly n: number }).n

const runsIn = ({ history, told }: World): ReadonlyArray<Run> => {
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

const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

/** What an entry's current message says. */
interface Standing {
  readonly state: Entry.State
  readonly spec: Spec
  readonly sequence: number
  readonly data: Uint8Array
  /** The bytes of what is declared. */
  readonly plan: Uint8Array
}

/** The nominal times that get a run by the rule for missed ones, of those that are due. */
const byMisfire = (
  { misfire }: Spec,
  due: ReadonlyArray<number>,
  now: number,
): ReadonlyArray<number> => {
  switch (misfire.policy) {
    case "once":
      return now - (due[0] ?? now) > misfire.tolerance ? due.slice(-1) : due
    case "all":
      return due.slice(-misfire.cap)
    case "skip":
      return due.filter((at) => now - at <= Math.max(neverTooLate, misfire.tolerance))
  }
}

interface Counts {
  skipped: number
  ticks: number
  late: number
}

/** When an entry is due next, as it stands. */
const nextOf = ({ spec, state }: Standing): number | undefined =>
  state.paused !== undefined || state.runs >= (spec.limit ?? Infinity)
    ? undefined
    : nextAfter(spec, state.cursor)

/** Goes through the messages of one entry, and the runs that were made of it. */
const examine = (
  world: World,
  entry: string,
  runs: ReadonlyArray<Run>,
  counts: Counts,
): { readonly wrong: ReadonlyArray<string>; readonly last: Standing | undefined } => {
  const { history, specs, stamps } = world
  const wrong: Array<string> = []
  const messages = history.jobs.get(EntryId.messageId(entry)) ?? []
  const told = world.told.filter((one) => one.entry === entry)
  const heardOf = (sequence: number) => stamps.get(sequence)?.heard ?? 0
  const unmatched = new Set(
    told.filter(({ what }) => what.op === "upsert" && what.change !== "unchanged"),
  )
  const removals = new Set(told.filter(({ what }) => what.op === "remove" && what.was))
  const triggers = new Set(told.filter(({ what }) => what.op === "trigger"))
  /** What was said that this change may be, at the time at which it was stored. */
  const claim = (among: Set<Told>, sequence: number, is: (what: Told["what"]) => boolean) => {
    const heard = heardOf(sequence)
    for (const one of among) {
      const { called, returned, what } = one
      if (!is(what) || heard < called - toleranceMillis || heard > returned + heardMillis) continue
      among.delete(one)
      return one
    }
    return undefined
  }

  let now: Standing | undefined
  let life: ReadonlyArray<Run> = []
  /** Sequence of the message by which its alarm fired, if nothing came since. */
  let fired: number | undefined
  let before = 0

  const tick = (next: Standing, prior: Standing, ready: number) => {
    const say = (text: string) => wrong.push(`${next.sequence} ${text}`)
    const { spec, state } = prior
    counts.ticks++
    const made = runs.filter(({ first }) => first > before && first < next.sequence)
    if (made.some(({ first }, index) => first !== next.sequence - made.length + index)) {
      say(`is not stored together with ${made.map(({ id }) => id)}`)
    }
    const timed = made.filter(({ byHand }) => !byHand)
    const byHand = made.filter((run) => run.byHand)
    const asked = state.asked.map(({ id }) => id).join()
    if (asked !== byHand.map(({ id }) => id).join()) say(`made ${byHand.map(({ id }) => id)}`)
    if (next.state.asked.length > 0) say("left runs that were asked for")
    const clock = made[0]?.created ?? next.state.cursor
    if (made.some(({ created }) => created !== clock)) say("made runs at several instants")
    if (next.state.cursor < state.cursor) say("goes back in time")
    if (clock > heardOf(next.sequence) + toleranceMillis) say(`comes ${clock} too early`)
    const isStill = state.paused !== undefined || state.removed !== undefined
    const left = (spec.limit ?? Infinity) - state.runs
    const due = isStill || left <= 0 ? [] : timesBetween(spec, state.cursor, next.state.cursor)
    const meant = byMisfire(spec, due, clock)
    const known = new Set(state.history.map(({ id }) => id))
    const earlier = life.filter(({ id }) => known.has(id))
    const skipped: Array<number> = []
    for (const at of meant) {
      const already = timed.filter((run) => run.at < at)
      if (timed.some((run) => run.at === at) || already.length >= left) continue
      skipped.push(at)
      const together = byHand.length > 0 || already.length > 0
      const reason = together ||
        earlier.some(({ activated, ended }) =>
          spec.overlap === "skip" ? ended > ready : activated > ready
        )
      if (spec.overlap === "allow" || !reason) say(`made nothing for ${at}, and had to`)
    }
    for (const { at, id } of timed) {
      if (!meant.includes(at)) say(`made ${id} for ${at}, and should for ${meant}`)
    }
    if (timed.length > Math.max(0, left)) say(`made ${timed.length} runs, and ${left} were left`)
    counts.skipped += skipped.length + due.length - meant.length
    const isSkipped = (next.state.skipped?.count ?? 0) > (state.skipped?.count ?? 0)
    if (isSkipped !== (skipped.length > 0 || meant.length < due.length)) {
      say(isSkipped ? "says that it skipped something" : "doesn't say that it skipped something")
    }
    if (next.state.runs !== state.runs + timed.length) say(`counts ${next.state.runs} runs`)
    if (made.some(({ id }, index) => next.state.history.at(index - made.length)?.id !== id)) {
      say("doesn't remember what it made")
    }
    for (const run of made) {
      const { envelope } = run.messages[0] as History.Stored
      const { n, queue } = prior.spec
      if (payloadOf(envelope) !== n || envelope.queue !== queue) {
        say(`made ${run.id} of ${payloadOf(envelope)}, and ${n} was in force`)
      }
      wrong.push(...wrongStart(world, run, spec))
    }
    for (const run of spec.overlap === "allow" ? [] : timed) {
      const others = [...life, ...made.slice(0, made.indexOf(run))]
      const active = others.filter(({ ended }) => ended > run.activated)
      if (active.length > 0) say(`made ${run.id}, which ran beside ${active.map(({ id }) => id)}`)
      const isBeside = others.some(({ ended }) => ended > run.first)
      if (spec.overlap === "skip" && isBeside) say(`made ${run.id} beside one that ran`)
      const waiting = others.filter(({ activated, ended, first }) =>
        activated > run.first && activated > first && ended > run.first
      )
      if (waiting.length > 0) say(`made ${run.id} beside one that waits`)
    }
    life = [...life, ...made]
  }

  for (const { envelope, stored, subject } of messages) {
    const { data, sequence } = stored
    if (now !== undefined && subject.state === "ready" && same(now.data, data)) {
      fired = sequence
      continue
    }
    const isCopy = messages.some((other) =>
      other.stored.sequence < sequence && same(other.stored.data, data)
    )
    if (isCopy && subject.state === "ready") {
      counts.late++
      continue
    }
    const read = EntryMessage.read({ envelope, stored, subject })
    const spec = specs.get(
      read === undefined || !Entry.isReadable(read.plan) ? -1 : payloadOf(read.plan.job),
    )
    if (read === undefined || !Entry.isReadable(read.state) || spec === undefined) {
      wrong.push(`${sequence} can't be read`)
      continue
    }
    const { state } = read
    const next: Standing = { state, spec, sequence, data, plan: envelope.payload }
    const say = (text: string) => wrong.push(`${sequence} ${text}`)
    const prior = now
    const isGone = prior?.state.removed !== undefined
    const isNew = prior === undefined ||
      (isGone && state.revision === 1 &&
        heardOf(sequence) > (stamps.get(prior.sequence)?.alarm ?? Infinity))
    if (!isNew && state.revision !== prior.state.revision + 1) {
      say(`has revision ${state.revision} after ${prior.state.revision}`)
    }
    if (state.trouble !== undefined) say(`is in trouble: ${state.trouble.message}`)
    const isDeclared = isNew || (isGone && state.removed === undefined) ||
      !same(prior.plan, envelope.payload)
    const declared = !isDeclared ? undefined : claim(
      unmatched,
      sequence,
      (what) =>
        what.op === "upsert" && what.n === spec.n &&
        (what.revision ?? state.revision) === state.revision &&
        what.change === (isNew || isGone ? "created" : "changed"),
    )
    const isStep = !isDeclared && state.removed === prior.state.removed &&
      state.paused === prior.state.paused && state.asked.length <= prior.state.asked.length
    const others = runs.filter(({ first }) => first > before && first < sequence)
    if (!isStep && others.length > 0) say(`lets ${others.map(({ id }) => id)} be made`)
    const { alarm } = stamps.get(sequence) ?? {}
    if (declared !== undefined) {
      // What has no time to come begins anew.
      const isKept = !isNew && !isGone && sameWhen(spec, prior.spec) &&
        nextOf(prior) !== undefined
      if (isKept && state.cursor !== prior.state.cursor) say("has lost where it stood")
      const isFresh = isNew || isGone
      if (!isKept) {
        const { called, returned } = declared
        const low = called - toleranceMillis
        if (state.cursor < low || state.cursor > returned + toleranceMillis) {
          say(`counts from ${state.cursor}, and was declared from ${called} to ${returned}`)
        }
      }
      if (isFresh && state.runs + state.asked.length > 0) say("has runs from before it was made")
      if (isFresh && state.paused !== undefined) say("is paused, and new")
      if (isFresh) life = []
    } else if (isDeclared) say("was declared by nobody")
    else if (isStep) {
      if (fired === undefined) say(`was not due: ${subject.state} after ${prior.sequence}`)
      else if (isGone) say("goes on after it was removed")
      else tick(next, prior, fired)
    } else if (state.removed !== prior.state.removed) {
      if (claim(removals, sequence, () => true) === undefined) say("was removed by nobody")
    } else if (state.paused !== prior.state.paused) {
      const op = state.paused === undefined ? "resume" : "pause"
      const by = told.find(({ called, what }) =>
        what.op === op && what.revision === state.revision &&
        called <= heardOf(sequence) + toleranceMillis
      )
      if (by === undefined) say(`is ${op}d by nobody`)
      if (op === "pause" && state.cursor !== prior.state.cursor) say("moves on as it is paused")
      if (op === "resume" && by !== undefined && state.cursor < by.called - toleranceMillis) {
        say(`counts from ${state.cursor}, and was resumed from ${by.called}`)
      }
    } else {
      const ids = new Set(prior.state.asked.map(({ id }) => id))
      const added = state.asked.filter(({ id }) => !ids.has(id))
      const by = claim(
        triggers,
        sequence,
        (what) => what.op === "trigger" && added.length === 1 && added[0]?.id === what.id,
      )
      if (by === undefined) say(`is asked for ${added.map(({ id }) => id)} by nobody`)
    }
    if (state.removed !== undefined) {
      if ((alarm ?? 0) < state.removed || (alarm ?? 0) > heardOf(sequence) + markerMillis) {
        say(`leaves a marker until ${alarm}`)
      }
    } else if (subject.state === "await" && state.asked.length === 0) {
      const expected = nextOf(next)
      const is = expected === undefined ? (alarm ?? 0) > never : alarm === expected
      if (!is) say(`has its alarm at ${alarm}, not at ${expected}`)
    }
    fired = subject.state === "ready" ? sequence : undefined
    before = sequence
    now = next
  }
  for (const run of runs) {
    if (run.first > before) wrong.push(`${run.id} was made after all`)
  }
  for (const { what } of [...unmatched, ...removals, ...triggers]) {
    wrong.push(`is not there: ${JSON.stringify(what)}`)
  }
  return { wrong, last: now }
}

/** Whether a run starts when its jitter says, and its handler was told what it is. */
const wrongStart = (
  { attempts, stamps }: World,
  { at, byHand, entry, first, id, messages }: Run,
  { jitter }: Spec,
): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const isLater = messages[0]?.subject.state === "later"
  const due = stamps.get(first)?.alarm
  if (isLater && (due === undefined || byHand || due < at || due > at + jitter)) {
    wrong.push(`${id} for ${at} is put off until ${due}, with a jitter of ${jitter}`)
  }
  for (const attempt of attempts.filter((one) => one.id === id)) {
    if (attempt.entry !== entry || attempt.nominal !== at) {
      wrong.push(`${id} was told that it is ${attempt.entry} at ${attempt.nominal}`)
    }
    const earliest = isLater ? due ?? 0 : at
    if (attempt.at < earliest - toleranceMillis) wrong.push(`${id} began before ${earliest}`)
  }
  return wrong
}

/** When a change that comes after another may have begun to count, at the earliest. */
const firstCall = (told: ReadonlyArray<Told>, after: Told, ops: ReadonlyArray<string>): number =>
  told.filter((other) => other !== after && other.returned >= after.called)
    .filter(({ what }) => ops.includes(what.op === "none" ? what.tried : what.op))
    .reduce((least, { called }) => Math.min(least, called), Infinity)

/** Holds runs against what clients were told, whatever the entry's messages say. */
const wrongPromises = (
  world: World,
  entry: string,
  runs: ReadonlyArray<Run>,
): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const told = world.told.filter((one) => one.entry === entry)
  const timed = runs.filter(({ byHand }) => !byHand)
  const times = new Set<number>()
  for (const { at, id } of timed) {
    if (times.has(at)) wrong.push(`${at} has two runs, one is ${id}`)
    times.add(at)
  }
  for (const one of told) {
    const { returned, what } = one
    if (what.op === "pause") {
      const end = firstCall(told, one, ["resume", "remove", "upsert"])
      const inside = timed.filter(({ at }) =>
        at > returned + toleranceMillis && at < end - toleranceMillis
      )
      if (inside.length > 0) wrong.push(`was paused from ${returned} to ${end}: ${inside[0]?.id}`)
    }
    if (what.op === "remove") {
      const end = firstCall(told, one, ["upsert"])
      const inside = runs.filter(({ created }) =>
        created > returned + toleranceMillis && created < end - toleranceMillis
      )
      if (inside.length > 0) wrong.push(`was removed from ${returned} to ${end}: ${inside[0]?.id}`)
    }
    if (what.op === "trigger") {
      const own = runs.filter(({ id }) => id === what.id)
      const mayBeGone = told.some((other) =>
        other.what.op === "remove" && other.returned >= one.called
      )
      if (own.length === 0 && !mayBeGone) wrong.push(`${what.id} was asked for, and not made`)
    }
    if (what.op === "upsert") {
      const spec = world.specs.get(what.n)
      if (spec === undefined) continue
      const end = firstCall(told, one, ["upsert", "remove", "pause"])
      const own = timed.filter(({ created }) =>
        created > returned + toleranceMillis && created < end - toleranceMillis
      )
      for (const { at, id, messages } of own) {
        if (!isNominal(spec, at)) wrong.push(`${id} for ${at} is no time of ${what.n}`)
        const n = payloadOf((messages[0] as History.Stored).envelope)
        if (n !== what.n) wrong.push(`${id} is a run of ${n}, and ${what.n} was declared`)
      }
      const wasPaused = told.some(({ called, what }) => what.op === "pause" && called < end)
      const isPlain = !wasPaused && spec.misfire.policy === "all" && spec.limit === undefined &&
        spec.overlap === "allow"
      const seen = own.reduce((last, { at }) => Math.max(last, at), 0)
      const expected = isPlain ? timesBetween(spec, returned + toleranceMillis, seen) : []
      const missing = expected.filter((at) => !times.has(at))
      // One step catches up with as many as the cap says.
      const isCapped = spec.misfire.policy === "all" && spec.misfire.cap < 100
      if (missing.length > 0 && !isCapped) wrong.push(`${missing} are missing of ${what.n}`)
    }
  }
  // Whoever reads sees what others were told before.
  const isRemoved = told.some(({ what }) => what.op === "remove" && what.was)
  // One that was removed long ago counts from the beginning.
  const revisions = isRemoved
    ? []
    : told.flatMap((one) =>
      "revision" in one.what && one.what.revision !== undefined
        ? [{ ...one, revision: one.what.revision }]
        : []
    )
  for (const one of revisions) {
    const older = revisions.find((other) =>
      other.called > one.returned && other.revision < one.revision
    )
    if (older !== undefined) wrong.push(`went from revision ${one.revision} to ${older.revision}`)
  }
  return wrong
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
