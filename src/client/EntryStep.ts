/**
 * What a server does when the alarm of a recurring entry has fired: the runs that are due and the
 * entry's next message are one atomic batch, on the condition that nobody has changed the entry since.
 * So whoever comes first makes the runs, and each nominal time is seen to once, whoever dies when.
 *
 * On nats-server before 2.14.3 a schedule that is replaced inside an atomic batch leaves two. So runs
 * are only made of an entry whose alarm has fired: its message lies in the engine's queue then, and
 * the one that the batch stores replaces nothing.
 */
import * as Effect from "effect/Effect"
import * as Bounces from "../core/Bounces.ts"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as EntryTick from "../core/EntryTick.ts"
import { InvalidOptions } from "../core/errors.ts"
import * as JobId from "../core/JobId.ts"
import { fromWire } from "../core/JobState.ts"
import { type BatchMessage, publish } from "../nats/AtomicBatch.ts"
import * as BatchGatherer from "../nats/BatchGatherer.ts"
import * as Conditional from "../nats/Conditional.ts"
import { Code, type NatsError } from "../nats/errors.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as EntryMessage from "./EntryMessage.ts"
import * as EntryRuns from "./EntryRuns.ts"
import type { Transition } from "./Middleware.ts"

/** Most bytes of runs that are stored at once; the next ones follow a moment later. */
const maxBytes = 4 * 1_024 * 1_024

/** Most runs that are stored at once. */
const maxRuns = 500

/** Room for the headers of a message, in bytes: what is larger without them doesn't fit. */
const headerReserve = 1_024

/** Looks after the entry at an address, of which `found` was just read. */
export type EntryStep = (
  address: Subjects.Address,
  found?: ReadonlyArray<StoredMessage>,
) => Effect.Effect<void, NatsError>

/** What becomes of a run. */
export interface Hooks {
  /** It was stored. */
  readonly created: (transition: Transition) => void
  /** It waits for earlier ones, to which it isn't linked yet. */
  readonly queued: (run: Subjects.Address) => Effect.Effect<void, NatsError>
}

const nextMessageId = JobId.makeGenerator()

/** What has become of a try. */
type Tried = "done" | "faster" | { readonly trouble: string }

/** What is due, or why that can't be told. */
const dueOf = (
  plan: Entry.Plan,
  state: Entry.State,
  now: number,
): EntryTick.Due & { readonly trouble?: string } => {
  try {
    return EntryTick.due(plan, state, now)
  } catch (error) {
    if (!(error instanceof InvalidOptions)) throw error
    const { cursor } = state
    return { times: [], missed: undefined, left: 0, cursor, trouble: error.message }
  }
}

const tooLarge = (what: string, size: number, limit: number): Tried => ({
  trouble: `${what} takes ${size} bytes, and NATS takes ${limit}`,
})

/** The nominal times without a run, with those of now. */
const skippedOf = (
  { skipped }: Entry.State,
  missed: number | undefined,
  overlapped: ReadonlyArray<number>,
): Entry.Skipped | undefined => {
  const at = overlapped.at(-1) ?? missed
  if (at === undefined) return skipped
  const now = overlapped.length + (missed === undefined ? 0 : 1)
  const reason = overlapped.length > 0 ? "overlap" : "misfire"
  return { count: (skipped?.count ?? 0) + now, at, reason }
}

/** Makes it for a namespace. */
export const make = (wire: Wire, patience: number, { created, queued }: Hooks): EntryStep => {
  const { alarmMillis, clock, nats, subjects } = wire
  const pause = EntryTick.pauseMillis(alarmMillis)
  const bounced = Bounces.make()
  // With replicas NATS has nothing on its disk for a batch, and small ones cost it little.
  const store: BatchGatherer.Store = wire.replicated
    ? (messages) => publish(nats.connection, messages, patience)
    : BatchGatherer.make(nats.connection, patience)

  const putAside = (view: EntryMessage.EntryView, message: EntryMessage.Message) =>
    EntryMessage.write(wire, view.address, message, view.newest, patience)

  /** It stays for a newer engine. */
  const leaveAlone = (view: EntryMessage.EntryView) => {
    const due = clock.now() + bounced(view.address.id, view.current.stored.data)
    return putAside(view, EntryMessage.leftAlone(wire, view, due))
  }

  /** It stays for people to see; nobody can tell when it would be due. */
  const leaveBroken = (view: EntryMessage.EntryView) => {
    const { stored: { data } } = view.current
    return putAside(view, EntryMessage.waiting(wire, view, data, undefined))
  }

  const putTroubled = (
    view: EntryMessage.EntryView,
    plan: Entry.Plan,
    state: Entry.State,
    message: string,
    now: number,
  ) => {
    const tries = (state.trouble?.tries ?? 0) + 1
    const next: Entry.State = {
      ...state,
      revision: state.revision + 1,
      trouble: { message, at: now, tries },
    }
    const look = EntryTick.nextLook(plan, next, now, pause)
    const bytes = EntryMessage.bytesIn(view, next)
    return putAside(view, EntryMessage.waiting(wire, view, bytes, look))
  }

  /** The runs of what is due, with what is known of earlier ones. */
  const runsOf = Effect.fnUntraced(function* (
    { id, overlap }: Entry.Plan,
    { asked, history }: Entry.State,
    { left, times }: EntryTick.Due,
  ): Effect.fn.Return<{
    readonly runs: ReadonlyArray<EntryRuns.NewRun>
    readonly history: ReadonlyArray<Entry.Run>
    readonly overlapped: ReadonlyArray<number>
  }, NatsError> {
    const looks = overlap !== "allow" && times.length > 0
    const found = looks ? yield* EntryRuns.activeOf(wire, history) : []
    const active: Array<EntryRuns.Active> = [
      ...found,
      ...asked.map((run) => ({ id: run.id, isQueued: false })),
    ]
    const runs: Array<EntryRuns.NewRun> = []
    const overlapped: Array<number> = []
    for (const at of times) {
      if (runs.length === left) break
      const decision = EntryRuns.decide(overlap, active)
      if (decision === "skip") {
        overlapped.push(at)
        continue
      }
      const after = decision === "queue" ? active.map((run) => run.id) : []
      const run = { id: EntryId.runId(id, at), at, byHand: false, ended: false, after }
      runs.push(run)
      active.push({ id: run.id, isQueued: after.length > 0 })
    }
    const known = looks
      ? history.map((run) => ({ ...run, ended: !found.some(({ id }) => id === run.id) }))
      : history
    return { runs, history: known, overlapped }
  })

  const storeAll = (
    messages: ReadonlyArray<Omit<BatchMessage, "messageId">>,
  ): Effect.Effect<Tried, NatsError> =>
    Effect.catchTag(
      Effect.as<Tried>("done")(store(
        messages.map((message) => ({ ...message, messageId: nextMessageId(EntryId.partition) })),
      )),
      "Rejected",
      ({ code, message }) =>
        Effect.succeed<Tried>(code === Code.wrongLastSequence ? "faster" : { trouble: message }),
    )

  const tryOnce = Effect.fnUntraced(function* (
    view: EntryMessage.EntryView,
    plan: Entry.Plan,
    state: Entry.State,
    now: number,
  ): Effect.fn.Return<Tried, NatsError> {
    const due = dueOf(plan, state, now)
    // Runs that somebody asked for don't depend on a schedule that can't be followed.
    if (due.trouble !== undefined && state.asked.length === 0) return { trouble: due.trouble }
    const { history, overlapped, runs: timed } = yield* runsOf(plan, state, due)
    const byHand = state.asked.map((run): EntryRuns.NewRun => ({ ...run, after: [] }))
    const limit = nats.server().maxPayload - headerReserve
    const messages: Array<EntryRuns.RunMessage> = []
    const taken: Array<EntryRuns.NewRun> = []
    let size = 0
    for (const run of [...byHand, ...timed]) {
      const message = EntryRuns.messageOf(wire, plan, run, now)
      if (message.payload.length > limit) return tooLarge("a run", message.payload.length, limit)
      size += message.payload.length
      if (messages.length > 0 && (size > maxBytes || messages.length >= maxRuns)) break
      messages.push(message)
      taken.push(run)
    }
    const isWhole = taken.length === byHand.length + timed.length
    const lastTaken = taken.findLast((run) => !run.byHand)?.at
    const cursor = isWhole ? due.cursor : lastTaken ?? state.cursor
    const { missed } = due
    const misfired = missed !== undefined && missed <= cursor ? missed : undefined
    const left = overlapped.filter((at) => at <= cursor)
    const next: Entry.State = {
      ...state,
      revision: state.revision + 1,
      cursor,
      runs: state.runs + taken.filter((run) => !run.byHand).length,
      asked: state.asked.filter(({ id }) => !taken.some((run) => run.id === id)),
      history: Entry.remember(history, taken.map(({ after: _, ...run }) => run), plan.overlap),
      skipped: skippedOf(state, misfired, left),
      trouble: due.trouble !== undefined
        ? state.trouble ?? { message: due.trouble, at: now, tries: 1 }
        : Entry.isDisabled(state)
        ? state.trouble
        : undefined,
    }
    const look = isWhole ? EntryTick.nextLook(plan, next, now, pause) : now
    const bytes = EntryMessage.bytesIn(view, next)
    const waiting = EntryMessage.waiting(wire, view, bytes, look)
    if (messages.length === 0) {
      return (yield* putAside(view, waiting)) === undefined ? "faster" : "done"
    }
    if (bytes.length > limit) return tooLarge("the entry", bytes.length, limit)
    const refused = yield* wire.ensureQueue(plan.job.queue, view.address.partition).pipe(
      Effect.as(undefined),
      Effect.catchTags({
        // Its consumers were changed by hand; the messages lie there until they are right again.
        TopologyConflict: () => Effect.undefined,
        Rejected: ({ message }) => Effect.succeed(message),
      }),
    )
    if (refused !== undefined) return { trouble: refused }
    const condition = { expected: view.newest, filter: subjects.job(view.address) }
    const stored = yield* storeAll([
      ...messages.map(({ headers, payload, subject }) => ({ subject, payload, headers })),
      { ...waiting, condition },
    ])
    if (stored !== "done") return stored
    const { name, queue } = plan.job
    for (const { due, id, state } of messages) {
      created({
        ...{ id, name, queue, to: fromWire(state) },
        due: due === undefined ? undefined : new Date(due),
      })
    }
    for (const { after, id } of taken) {
      if (after.length > 0) yield* queued(Subjects.addressOf(id))
    }
    return "done"
  })

  const step: EntryStep = Effect.fnUntraced(function* (address, found) {
    let seen = found
    while (true) {
      const view = seen === undefined
        ? yield* EntryMessage.at(wire, address)
        : EntryMessage.viewIn(subjects, address, seen)
      seen = undefined
      // What waits has its alarm; this one came late.
      if (view === undefined || view.current.subject.state !== "ready") return
      const { current, plan, state } = view
      if (plan === "newer" || state === "newer") {
        if ((yield* leaveAlone(view)) !== undefined) return
        continue
      }
      if (!Entry.isReadable(plan) || !Entry.isReadable(state)) {
        if ((yield* leaveBroken(view)) !== undefined) return
        continue
      }
      // Nothing of what doesn't count may outlive what does.
      for (const sequence of view.stale) {
        yield* Conditional.remove(wire, address.partition, sequence)
      }
      // It has been away for long enough.
      if (state.removed !== undefined) return
      // The clock that fired the alarm is the server's; ours may be a little behind.
      const now = Math.max(clock.now(), current.stored.time)
      const tried = yield* Effect.catchDefect(
        tryOnce(view, plan, state, now),
        (defect) => Effect.succeed<Tried>({ trouble: String(defect) }),
      )
      if (tried === "done") return
      if (tried === "faster") continue
      const put = yield* putTroubled(view, plan, state, tried.trouble, now)
      if (put !== undefined) return
    }
  })

  return step
}
