/**
 * Jobs that follow other jobs. A child is stored first, as one that awaits, then a link from each of
 * its parents, each on the condition that the parent is alive and hasn't moved since it was seen; a
 * parent that has ended is struck off in the child's own message at once. Until all of that is done
 * the child is staged and looked after by the servers, should its author die (W18).
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import * as JobId from "../core/JobId.ts"
import type { FinalState } from "../core/JobState.ts"
import { maxDelayMillis, maxParents } from "../core/Limits.ts"
import { checkName, show } from "../core/Names.ts"
import { millisOf } from "../core/Time.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import { isRecord } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { outcomeOf, struck } from "./Finish.ts"
import { JobNotFound } from "./JobRecord.ts"
import * as Moves from "./Moves.ts"

/** When a job follows its parents. */
export interface Following {
  /** Endings of a parent that count: one, several, or `any`; default `succeeded`. */
  readonly on?: FinalState | "any" | ReadonlyArray<FinalState> | undefined
  /** Whether all parents have to end so, or any one of them; default `all`. */
  readonly need?: "all" | "any" | undefined
  /** Time between its release and its first attempt; default none. */
  readonly delay?: Duration.Input | undefined
}

/** Names of the options that {@link waitsOf} understands. */
export const followingKeys: ReadonlyArray<string> = ["on", "need", "delay"]

/** The other options of a child. */
export const withoutFollowing = <O extends Following>(
  { delay: _, need: __, on: ___, ...rest }: O,
): Omit<O, keyof Following> => rest

const finals: ReadonlyArray<FinalState> = ["succeeded", "failed", "cancelled"]

const invalid = (field: string, value: unknown, reason: string) =>
  new InvalidOptions({ field, value: show(value), reason })

const onOf = (on: Following["on"] = "succeeded"): ReadonlyArray<FinalState> | InvalidOptions => {
  if (on === "any") return finals
  const list: ReadonlyArray<unknown> = typeof on === "string" ? [on] : Array.isArray(on) ? on : []
  return list.length > 0 && list.every((state) => finals.includes(state as FinalState))
    ? list as ReadonlyArray<FinalState>
    : invalid("on", on, `it is one or several of ${finals.join(", ")}, or any`)
}

/** What a child waits for, checked; staged until its parents are linked. */
export const waitsOf = (
  parents: JobId.JobId | ReadonlyArray<JobId.JobId>,
  { delay, need = "all", on }: Following,
): Waits.Waits | InvalidOptions => {
  const ids = [...new Set(typeof parents === "string" ? [parents] : parents)]
  if (!Array.isArray(parents) && typeof parents !== "string") {
    return invalid("parents", parents, "it is the id of a job, or a list of them")
  }
  if (ids.length === 0 || ids.length > maxParents) {
    return invalid("parents", `${ids.length} ids`, `a job follows 1 to ${maxParents} others`)
  }
  for (const id of ids) {
    const illegal = checkName("parents", id)
    if (illegal !== undefined) return illegal
  }
  const states = onOf(on)
  if (states instanceof InvalidOptions) return states
  if (need !== "all" && need !== "any") return invalid("need", need, "it is all or any")
  const millis = delay === undefined ? 0 : millisOf("delay", delay, maxDelayMillis)
  if (typeof millis !== "number") return millis
  return { staged: true, need, on: states, delay: millis, parents: ids.map((id) => ({ id })) }
}

/** Links a child to its parents; what is found of each. */
interface Linked {
  readonly ended: ReadonlyMap<string, Waits.ParentOutcome>
  readonly missing: ReadonlyArray<string>
}

const linkAll = (
  wire: Wire,
  child: Subjects.Address,
  parents: ReadonlyArray<string>,
  patience: number,
): Effect.Effect<Linked, NatsError> => {
  const ended = new Map<string, Waits.ParentOutcome>()
  const missing: Array<string> = []
  const link = Effect.fnUntraced(function* (parent: string) {
    while (true) {
      const view = yield* JobView.find(wire, parent)
      const staged = view?.current.envelope.progress.waits?.staged === true &&
        view.address.group !== Subjects.noGroup && view.address.group !== child.group
      if (view === undefined || staged) return missing.push(parent)
      if (isRecord(view.current.subject)) return ended.set(parent, outcomeOf(view.current))
      if (yield* Links.add(wire, view, child, patience)) return
    }
  })
  return Effect.as(
    Effect.forEach(parents, link, { concurrency: 16, discard: true }),
    { ended, missing },
  )
}

/**
 * Links a staged child to those of its parents that it isn't linked to, and lets it go. May be done
 * by its author and by a server at once, and repeated. Parents that don't exist are given back; the
 * child is then left as it was.
 */
export const settle: (
  wire: Wire,
  child: Subjects.Address,
  patience: number,
) => Effect.Effect<ReadonlyArray<string>, NatsError> = Effect.fnUntraced(
  function* (wire, child, patience) {
    const first = yield* JobView.at(wire, child)
    const open = first?.current.envelope.progress.waits?.parents
      .filter(({ outcome }) => outcome === undefined).map(({ id }) => id) ?? []
    const { ended, missing } = yield* linkAll(wire, child, open, patience)
    if (missing.length > 0) return missing
    const isMember = child.group !== Subjects.noGroup
    if (isMember && ended.size === 0) return []
    while (true) {
      const view = yield* JobView.at(wire, child)
      if (view === undefined || isRecord(view.current.subject)) return []
      const { waits } = view.current.envelope.progress
      if (waits === undefined || !waits.staged) return []
      const { maxPayload } = wire.nats.server()
      let next: Waits.Waits = { ...waits, staged: isMember }
      for (const [parent, outcome] of ended) next = struck(next, parent, outcome, maxPayload)
      const move = Moves.settled(wire, view.current, next, wire.clock.now())
      if ((yield* Moves.write(wire, view, move, patience)) !== undefined) return []
    }
  },
)

/** Stores a child and links it. Members of a batch stay staged until their batch is committed. */
export const store: (
  wire: Wire,
  child: {
    readonly address: Subjects.Address
    readonly queue: string
    readonly lane: number
    /** The message of the job, as one that waits for nothing. */
    readonly message: Uint8Array
    readonly waits: Waits.Waits
  },
  patience: number,
) => Effect.Effect<void, NatsError | JobNotFound> = Effect.fnUntraced(
  function* (wire, { address, lane, message, queue, waits }, patience) {
    const { clock, subjects } = wire
    const tick = address.group === Subjects.noGroup ? clock.now() + wire.alarmMillis : Moves.never
    const sequence = yield* Conditional.publish(wire, address.partition, {
      subject: subjects.live("await", queue, lane, address),
      payload: Envelope.withProgress(message, { ...Envelope.untouched, waits }),
      headers: Moves.awaitLines(subjects, address, tick),
      expected: 0,
      filter: subjects.job(address),
      patience,
    })
    const [missing] = yield* settle(wire, address, patience)
    if (missing === undefined) return
    if (sequence !== undefined) yield* Conditional.remove(wire, address.partition, sequence)
    return yield* new JobNotFound({ id: missing })
  },
)
