/**
 * The message of a recurring entry, which is its state, its lock and its alarm: every change is one
 * write on the condition that nobody else has changed it since it was read.
 */
import * as Effect from "effect/Effect"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as Envelope from "../core/Envelope.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import type * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** Name of the engine's jobs that are recurring entries. */
export const entryName = "_recurring"

/** Lane that their messages name; it means nothing where nobody pulls. */
const lane = 3

/**
 * Lane of the engine's queue on which one lies that is to be looked at at once. Alarms fire to another
 * one: one that is replaced as it fires would take the place of what has replaced it.
 */
const lookLane = 1

/** What there is of an entry. */
export interface EntryView {
  readonly address: Subjects.Address
  /** The message that counts. */
  readonly current: Records.JobMessage
  /** The newest sequence: the condition of the next change (W1). */
  readonly newest: number
  /** Sequences of the other messages at its address, which don't count. */
  readonly stale: ReadonlyArray<number>
  readonly plan: Entry.Plan | Entry.Unreadable
  readonly state: Entry.State | Entry.Unreadable
}

/** Where the message of an entry lies. */
export const addressOf = (entry: string): Subjects.Address => ({
  partition: EntryId.partition,
  group: Subjects.noGroup,
  id: EntryId.messageId(entry),
})

/** A message at the address of an entry; one that can't be read has a stand-in for its envelope. */
export interface FoundMessage extends Records.JobMessage {
  /** Why it can't be read. */
  readonly unreadable?: Entry.Unreadable | undefined
}

const standInFor = (payload: Uint8Array): Envelope.Envelope =>
  Envelope.make({
    ...{ name: entryName, queue: Subjects.entryQueue, lane, options: {}, created: 0, payload },
    progress: Envelope.untouched,
  })

/** What lies at the address of an entry, whether this engine can read it or not. */
const parse = (
  subjects: Subjects.Subjects,
  address: Subjects.Address,
  found: ReadonlyArray<StoredMessage>,
): ReadonlyArray<FoundMessage> =>
  found.map((stored): FoundMessage => {
    const subject = subjects.parse(stored.subject)
    const envelope = Envelope.decode(stored.data)
    if (subject !== undefined && Envelope.isEnvelope(envelope)) {
      return { subject, stored, envelope }
    }
    return {
      // Only a newer engine knows of other states: it is at work there.
      subject: subject ??
        { ...address, state: "part", queue: Subjects.entryQueue, lane: `${lane}` },
      stored,
      envelope: standInFor(stored.data),
      unreadable: subject === undefined || ("newer" in envelope && envelope.newer)
        ? "newer"
        : "broken",
    }
  })

/** What a message says of an entry; `undefined` for one that says nothing of one. */
export const read = (
  { envelope, unreadable }: FoundMessage,
): Pick<EntryView, "plan" | "state"> | undefined => {
  if (unreadable !== undefined) return { plan: unreadable, state: unreadable }
  const { payload, progress: { entry } } = envelope
  if (entry === undefined) return undefined
  return { plan: Entry.planFrom(payload), state: Entry.stateFrom(entry) }
}

/** Of two messages the one that counts: a newer engine knows best, else the later revision. */
const rank = ({ plan, state }: Pick<EntryView, "plan" | "state">): number =>
  state === "newer" || plan === "newer"
    ? Number.POSITIVE_INFINITY
    : Entry.isReadable(state)
    ? state.revision
    : -1

/**
 * The entry among the messages at its address. What lies there and is none, such as the record of one
 * whose bytes nobody could read, counts as one that can't be read.
 */
export const viewOf = (
  address: Subjects.Address,
  messages: ReadonlyArray<FoundMessage>,
): EntryView | undefined => {
  let best: EntryView | undefined
  let newest = 0
  for (const current of messages) {
    newest = Math.max(newest, current.stored.sequence)
    const said = read(current) ?? { plan: "broken", state: "broken" }
    const ahead = best === undefined ? 1 : rank(said) - rank(best)
    if (
      ahead > 0 || (!(ahead < 0) && current.stored.sequence > (best?.current.stored.sequence ?? 0))
    ) {
      best = { address, current, newest, stale: [], ...said }
    }
  }
  if (best === undefined) return undefined
  const { sequence: counts } = best.current.stored
  const stale = messages.map(({ stored: { sequence } }) => sequence)
    .filter((sequence) => sequence !== counts)
  return { ...best, newest, stale }
}

/** What there is of the entry at an address; `undefined` for nothing. */
export const at = (
  wire: Wire,
  address: Subjects.Address,
): Effect.Effect<EntryView | undefined, NatsError> =>
  Effect.map(
    JobView.messagesAt(wire, address),
    (found) => viewIn(wire.subjects, address, found),
  )

/** The same for what was read already. */
export const viewIn = (
  subjects: Subjects.Subjects,
  address: Subjects.Address,
  found: ReadonlyArray<StoredMessage>,
): EntryView | undefined => viewOf(address, parse(subjects, address, found))

/** Whether what lies at an address is a recurring entry, or was one. */
export const isAt = (messages: ReadonlyArray<Records.JobMessage>): boolean =>
  messages.some(({ envelope: { progress } }) => progress.entry !== undefined)

/** A message of an entry, as it is to be stored. */
export interface Message {
  readonly subject: string
  readonly payload: Uint8Array
  readonly headers: string
}

/** Where an entry is, for a change of it: nothing yet, or what was read. */
export type Place = Pick<EntryView, "address" | "newest"> & Partial<Pick<EntryView, "current">>

/** States in which a message waits for its time. */
const scheduled: ReadonlySet<string> = new Set(["await", "later"])

/** Lines that remove the alarm that was, in the same write. */
const supersedeOf = ({ current }: Partial<Pick<EntryView, "current">>): string =>
  current !== undefined && scheduled.has(current.subject.state)
    ? Conditional.supersedeLines(current.stored.subject)
    : ""

/**
 * Puts it to wait until a server is to look at it, at an instant in ms since 1970.
 *
 * A schedule that fires removes whatever lies under its own subject, even if it was replaced a moment
 * before: the change would be lost. So no two of an entry have the same subject. What was newest
 * before tells them apart, for only one change can follow it.
 */
export const waiting = (
  { subjects }: Wire,
  place: Place,
  payload: Uint8Array,
  look: number | undefined,
): Message => ({
  subject: subjects.live("await", Subjects.entryQueue, place.newest, place.address),
  payload,
  headers: supersedeOf(place) +
    Moves.awaitLines(subjects, place.address, look ?? Moves.never),
})

/** The bytes of a new entry. */
export const bytesOf = (plan: Entry.Plan, state: Entry.State, created: number): Uint8Array =>
  Envelope.freshWith(
    Envelope.template(entryName, Subjects.entryQueue, lane, {}),
    created,
    Entry.planToWire(plan),
    { ...Envelope.untouched, entry: Entry.stateToWire(state) },
  )

/** The bytes of an entry that stands elsewhere now. */
export const bytesIn = (
  { current: { envelope } }: Pick<EntryView, "current">,
  state: Entry.State,
): Uint8Array => Envelope.live(envelope, { ...Envelope.untouched, entry: Entry.stateToWire(state) })

/**
 * Puts one that this engine can't read off for a newer one, byte for byte. It never takes the place
 * of what that waits with.
 */
export const leftAlone = (
  { subjects }: Wire,
  { address, current: { stored: { data } } }: Pick<EntryView, "address" | "current">,
  due: number,
): Message => ({
  subject: subjects.live("later", Subjects.engineQueue, Moves.tickLane, address),
  payload: data,
  headers: Subjects.scheduleLines(
    due,
    subjects.live("ready", Subjects.engineQueue, Moves.tickLane, address),
  ),
})

/** Has a server look at it at once: its alarm goes with the same write. */
export const looked = (
  { subjects }: Wire,
  view: Pick<EntryView, "address" | "current">,
  payload: Uint8Array,
): Message => ({
  subject: subjects.live("ready", Subjects.engineQueue, lookLane, view.address),
  payload,
  headers: supersedeOf(view),
})

/**
 * Stores a message on the condition that nothing was written for the entry since a sequence, 0 for
 * none. Gives the sequence, `undefined` when somebody was faster.
 */
export const write = (
  wire: Wire,
  address: Subjects.Address,
  message: Message,
  expected: number,
  patience: number,
): Effect.Effect<number | undefined, NatsError> =>
  Conditional.publish(wire, address.partition, {
    ...message,
    filter: wire.subjects.job(address),
    expected,
    patience,
  })
