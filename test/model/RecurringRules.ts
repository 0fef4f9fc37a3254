/**
 * The rules of recurring entries, written once more in the plainest way. Only where an entry says it
 * stands is taken from its messages, and each step of that is checked.
 */
import * as Entry from "../../src/core/Entry.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import type * as History from "./History.ts"
import { payloadOf, type Run, toleranceMillis } from "./RecurringRuns.ts"
import { nextAfter, sameWhen, type Spec, timesBetween } from "./RecurringTimes.ts"
import type { Told, World } from "./RecurringWorld.ts"

/** On a busy machine what was stored may be heard of much later. */
const heardMillis = 3_000
/** Longest time for which a removed entry leaves a marker. */
const markerMillis = 15_000
/** What comes at most as much later is never skipped as missed. */
const neverTooLate = 5_000
/** An alarm that nobody wants: it fires after all of us. */
const never = Date.UTC(2100, 0, 1)

const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

/** What an entry's current message says. */
export interface Standing {
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

/** What was met on the way. */
export interface Counts {
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
export const examine = (
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
