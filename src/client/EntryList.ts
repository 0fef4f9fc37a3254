/**
 * Lists recurring entries in pages. They lie in the order of their last changes and are shown in that
 * of their ids, so each page goes through all of them; what is kept meanwhile is the page.
 */
import * as Effect from "effect/Effect"
import * as Entry from "../core/Entry.ts"
import * as EntryId from "../core/EntryId.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import { checkKeys, show } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Lists from "../nats/Lists.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as EntryMessage from "./EntryMessage.ts"
import { checkToken } from "./InspectList.ts"
import { fromParts, type RecurringRecord, type RecurringState, stateOf } from "./RecurringRecord.ts"

/** Which entries to list; what isn't said may be anything. */
export interface RecurringListOptions {
  /** The state that they are in. */
  readonly state?: RecurringState | undefined
  /** Name of the job's definition. */
  readonly job?: string | undefined
  /** The declared set that they belong to. */
  readonly set?: string | undefined
  /** A text in the id, the description or the name of the job; upper case or lower. */
  readonly search?: string | undefined
  /** Most entries of the page, 1 to 1,000; default 50. */
  readonly limit?: number | undefined
  /** Where the page begins: the `cursor` of the page before. */
  readonly cursor?: string | undefined
}

/** A page of entries. */
export interface RecurringPage {
  /** Sorted by their ids, as texts in JavaScript are compared. */
  readonly entries: ReadonlyArray<RecurringRecord>
  /**
   * Where the next page begins; absent after the last one. A page may have fewer entries than its
   * limit while there is one.
   */
  readonly cursor?: string | undefined
  /**
   * How many entries of the namespace can't be read, so whether they are meant isn't known: a newer
   * version made them, or their bytes are damaged. They are left alone.
   */
  readonly unreadable: number
}

const states: ReadonlyArray<RecurringState> = [
  "active",
  "paused",
  "finished",
  "failing",
  "disabled",
]
const keys: ReadonlyArray<string> = ["state", "job", "set", "search", "limit", "cursor"]
const defaultLimit = 50
const maxLimit = 1_000
const maxSearch = 200

const refuse = (field: string, value: unknown, reason: string) =>
  new InvalidOptions({ field, value: show(value), reason })

const check = (options: RecurringListOptions): InvalidOptions | undefined => {
  const unknown = checkKeys("options", options, keys)
  if (unknown !== undefined) return unknown
  const { job, limit = defaultLimit, search, set, state } = options
  if (state !== undefined && !states.includes(state)) {
    return refuse("state", state, `it is one of ${states.join(", ")}`)
  }
  if (!Number.isInteger(limit) || limit < 1 || limit > maxLimit) {
    return refuse("limit", limit, `it is a whole number from 1 to ${maxLimit}`)
  }
  if (search !== undefined && !(typeof search === "string" && search.length <= maxSearch)) {
    return refuse("search", search, `it is a text of at most ${maxSearch} characters`)
  }
  return checkToken("job", job, "name") ?? checkToken("set", set)
}

/** The last id of a page, as text that is safe in a URL. */
const encodeCursor = (id: string): string =>
  btoa(String.fromCharCode(...new TextEncoder().encode(id)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")

const decodeCursor = (cursor: unknown): string | undefined | InvalidOptions => {
  if (cursor === undefined) return undefined
  const malformed = refuse("cursor", cursor, "it is no cursor that a page gave")
  if (typeof cursor !== "string" || !/^[\w-]{1,2000}$/.test(cursor)) return malformed
  try {
    const text = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"))
    const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0))
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    return malformed
  }
}

/** Whether an entry is asked for. */
const matcher = ({ job, search, set, state }: RecurringListOptions) => {
  const wanted = search?.toLowerCase()
  return (plan: Entry.Plan, stands: Entry.State): boolean =>
    stands.removed === undefined &&
    (job === undefined || plan.job.name === job) &&
    (set === undefined || plan.set === set) &&
    (wanted === undefined ||
      [plan.id, plan.description, plan.job.name].some((text) =>
        text?.toLowerCase().includes(wanted)
      )) &&
    (state === undefined || stateOf(plan, stands) === state)
}

/** Keeps the first ids after one, however many come by. */
const firstIds = (after: string | undefined, count: number) => {
  const ids = new Set<string>()
  let last: string | undefined
  const first = () => [...ids].sort((one, other) => one < other ? -1 : 1).slice(0, count)
  return {
    first,
    isWanted: (id: string): boolean =>
      (after === undefined || id > after) && (last === undefined || id <= last),
    add: (id: string): void => {
      ids.add(id)
      if (ids.size < 2 * count + 100) return
      const kept = first()
      ids.clear()
      for (const id of kept) ids.add(id)
      last = kept.at(-1)
    },
  }
}

/** Messages that are read at once. */
const scannedAtOnce = 1_000

/** Entries of a page that are read at once. */
const readAtOnce = 100

/** Bytes of entries after which a page ends, full or not. */
const maxPageBytes = 16 * 1_024 * 1_024

const group = Subjects.noGroup
const waiting: Subjects.JobFilter = { state: "await", queue: Subjects.entryQueue, group }
const due: Subjects.JobFilter = { state: "ready", queue: Subjects.engineQueue, group }
const leftAlone: Subjects.JobFilter = { state: "later", queue: Subjects.engineQueue, group }

/** Shows the messages of entries under a filter, from a sequence on; gives where to go on. */
const scan = Effect.fnUntraced(function* (
  wire: Wire,
  filter: Subjects.JobFilter,
  from: number,
  seen: (found: Lists.Found) => void,
): Effect.fn.Return<number, NatsError> {
  let next: number | undefined = from
  let end = from
  while (next !== undefined) {
    const read: Lists.Scanned = yield* Lists.scan(wire, EntryId.partition, filter, {
      from: next,
      limit: scannedAtOnce,
    })
    for (const found of read.messages) {
      end = found.stored.sequence + 1
      seen(found)
    }
    next = read.next
  }
  return end
})

/** The entries with ids, as they are now. */
const readAll = Effect.fnUntraced(function* (
  { reader, subjects }: Wire,
  ids: ReadonlyArray<string>,
): Effect.fn.Return<ReadonlyArray<EntryMessage.EntryView>, NatsError> {
  const stream = Subjects.jobsStream(subjects.namespace, EntryId.partition)
  const addresses = ids.map(EntryMessage.addressOf)
  const found = new Map<string, Array<StoredMessage>>()
  for (const stored of yield* reader.newest(stream, addresses.map(subjects.job))) {
    // The last token, whatever the others are.
    const id = stored.subject.slice(stored.subject.lastIndexOf(".") + 1)
    found.set(id, [...found.get(id) ?? [], stored])
  }
  return addresses.flatMap((address) =>
    EntryMessage.viewIn(subjects, address, found.get(address.id) ?? []) ?? []
  )
})

/** One page of entries. */
export const list: (
  wire: Wire,
  options?: RecurringListOptions,
) => Effect.Effect<RecurringPage, InvalidOptions | NatsError> = Effect.fnUntraced(
  function* (wire, options = {}) {
    const refused = check(options)
    if (refused !== undefined) return yield* refused
    const after = decodeCursor(options.cursor)
    if (after instanceof InvalidOptions) return yield* after
    const { limit = defaultLimit } = options
    const matches = matcher(options)
    // One more tells whether there is a next page.
    const ids = firstIds(after, limit + 1)
    const unreadable = new Set<string>()
    const look = ({ stored, subject }: Lists.Found): void => {
      const envelope = Envelope.decode(stored.data)
      const said = Envelope.isEnvelope(envelope)
        ? EntryMessage.read({ subject, stored, envelope })
        : undefined
      if (said === undefined) {
        if (subject.queue === Subjects.entryQueue) unreadable.add(subject.id)
        return
      }
      const { plan, state } = said
      if (!Entry.isReadable(plan) || !Entry.isReadable(state)) {
        unreadable.add(subject.id)
      } else if (ids.isWanted(plan.id) && matches(plan, state)) {
        ids.add(plan.id)
      }
    }
    // One that was due while the first were read lies in the queue then, or behind them again.
    const end = yield* scan(wire, waiting, 1, look)
    yield* scan(wire, due, 1, look)
    yield* scan(wire, waiting, end, look)
    yield* scan(wire, leftAlone, 1, look)

    const first = ids.first()
    const page = first.slice(0, limit)
    const entries: Array<RecurringRecord> = []
    let size = 0
    let shown = 0
    while (shown < page.length && size < maxPageBytes) {
      const some = page.slice(shown, shown + readAtOnce)
      shown += some.length
      for (const { current, plan, state } of yield* readAll(wire, some)) {
        if (!Entry.isReadable(plan) || !Entry.isReadable(state) || !matches(plan, state)) continue
        size += current.stored.data.length
        entries.push(fromParts(plan, state))
      }
    }
    const last = page[shown - 1]
    const cursor = last === undefined || shown === first.length ? undefined : encodeCursor(last)
    return { entries, cursor, unreadable: unreadable.size }
  },
)
