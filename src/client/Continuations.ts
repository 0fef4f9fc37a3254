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
import type * as JobId from "../core/JobId.ts"
import { type FinalState, finalStates as finals } from "../core/JobState.ts"
import { maxDelayMillis, maxParents } from "../core/Limits.ts"
import { checkName, show } from "../core/Names.ts"
import { millisOf } from "../core/Time.ts"
import * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import { isHidden, isRecord, stateOf } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { outcomeOf, struck } from "./Finish.ts"
import { JobNotFound } from "./JobRecord.ts"
import * as Moves from "./Moves.ts"
import { parentResult, parentResults } from "./Prepare.ts"

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

const invalid = (field: string, value: unknown, reason: string) =>
  new InvalidOptions({ field, value: show(value), reason })

const onOf = (on: Following["on"] = "succeeded"): ReadonlyArray<FinalState> | InvalidOptions => {
  if (on === "any") return finals
  const list: ReadonlyArray<unknown> = typeof on === "string" ? [on] : Array.isArray(on) ? on : []
  return list.length > 0 && list.every((state) => finals.includes(state as FinalState))
    ? list as ReadonlyArray<FinalState>
    : invalid("on", on, `it is one or several of ${finals.join(", ")}, or any`)
}

/** Refuses a child that takes from its parents what they can't all give. */
const checkInput = (
  payload: unknown,
  parents: number,
  need: "all" | "any",
  on: ReadonlyArray<FinalState>,
): InvalidOptions | undefined => {
  if (payload !== parentResult && payload !== parentResults) return undefined
  const refuse = (reason: string) => invalid("payload", payload, reason)
  if (!on.includes("succeeded")) return refuse("only a parent that succeeded gives a result")
  if (payload === parentResults) {
    return need === "all"
      ? undefined
      : refuse("with need: any, only parentResult is sure to be there")
  }
  return need === "any" || parents === 1
    ? undefined
    : refuse("it follows several jobs: parentResults are what all of them give")
}

/** What a child waits for, checked; staged until its parents are linked. */
export const waitsOf = (
  parents: JobId.JobId | ReadonlyArray<JobId.JobId>,
  { delay, need = "all", on }: Following,
  payload?: unknown,
): Waits.Waits | InvalidOptions => {
  const list: unknown = typeof parents === "string" ? [parents] : parents
  if (!Array.isArray(list)) {
    return invalid("parents", parents, "it is the id of a job, or a list of them")
  }
  const ids: ReadonlyArray<string> = [...new Set(list)]
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
  const impossible = checkInput(payload, ids.length, need, states)
  if (impossible !== undefined) return impossible
  return { staged: true, need, on: states, delay: millis, parents: ids.map((id) => ({ id })) }
}

/** A child that can be stored: all that it follows is there. */
export interface Child {
  readonly address: Subjects.Address
  readonly queue: string
  readonly lane: number
  /** The message of the job, as one that waits for nothing. */
  readonly message: Uint8Array
  readonly waits: Waits.Waits
}

/** What has become of a staged child. */
export interface Settled {
  /** Parents that don't exist; the child is left as it was then. */
  readonly missing: ReadonlyArray<string>
  /** What it was given as its next message, if anything. */
  readonly move?: Moves.Move | undefined
}

/** What is found of parents, each linked unless it has ended. */
interface Linked {
  readonly ended: ReadonlyMap<string, Waits.ParentOutcome>
  readonly missing: ReadonlyArray<string>
}

type Views = ReadonlyMap<string, JobView.JobView>

/** Parents of one child that are seen to at once. */
const concurrency = 64

/** Whether nobody who stores this child may know of that job. */
const isHiddenFrom = (child: Subjects.Address, { address, current }: JobView.JobView): boolean =>
  isHidden(current) &&
  (address.group !== child.group || current.envelope.progress.entry !== undefined)

/**
 * Links a child to parents that live, and tells how the others have ended. `seen` is what is known
 * of them: the first try of each goes by it.
 */
export const linkAll = (
  wire: Wire,
  child: Subjects.Address,
  parents: ReadonlyArray<string>,
  patience: number,
  seen: Views = new Map(),
): Effect.Effect<Linked, NatsError> => {
  const ended = new Map<string, Waits.ParentOutcome>()
  const missing: Array<string> = []
  const link = Effect.fnUntraced(function* (
    parent: string,
  ): Effect.fn.Return<unknown, NatsError> {
    for (let view = seen.get(parent);; view = undefined) {
      view ??= yield* JobView.find(wire, parent)
      if (view === undefined || isHiddenFrom(child, view)) return missing.push(parent)
      if (isRecord(view.current.subject)) return ended.set(parent, outcomeOf(view.current))
      if (isStaged(view)) {
        // It may turn out that it is cancelled, which nobody looks for links after. So it is let go
        // first, whoever is at it already.
        const parents = yield* settle(wire, view.address, patience)
        if (parents.missing.length > 0) return missing.push(parent)
      } else if (yield* Links.add(wire, view, child, patience)) return
    }
  })
  return Effect.as(
    Effect.forEach(parents, link, { concurrency, discard: true }),
    { ended, missing },
  )
}

/** Whether it is stored, but not linked to all its parents; members wait for their batch so. */
const isStaged = ({ address, current }: JobView.JobView): boolean =>
  address.group === Subjects.noGroup && current.envelope.progress.waits?.staged === true &&
  stateOf(current) === "awaiting"

const settleSeen: (
  wire: Wire,
  child: Subjects.Address,
  parents: ReadonlyArray<string>,
  patience: number,
  seen?: Views,
) => Effect.Effect<Settled, NatsError> = Effect.fnUntraced(
  function* (wire, child, parents, patience, seen) {
    const { ended, missing } = yield* linkAll(wire, child, parents, patience, seen)
    const isMember = child.group !== Subjects.noGroup
    if (missing.length > 0 || (isMember && ended.size === 0)) return { missing }
    while (true) {
      const view = yield* JobView.at(wire, child)
      // Who has ended, or was requeued after that, waits for nobody.
      if (view === undefined || stateOf(view.current) !== "awaiting") return { missing }
      const { waits } = view.current.envelope.progress
      if (waits === undefined || !waits.staged) return { missing }
      const { maxPayload } = wire.nats.server()
      let next: Waits.Waits = { ...waits, staged: isMember }
      for (const [parent, outcome] of ended) next = struck(next, parent, outcome, maxPayload)
      const move = Moves.settled(wire, view.current, next, wire.clock.now())
      if ((yield* Moves.write(wire, view, move, patience)) !== undefined) return { missing, move }
    }
  },
)

/**
 * Links a staged child to those of its parents that it isn't linked to, and lets it go. May be done
 * by its author and by a server at once, and repeated.
 */
export const settle = (
  wire: Wire,
  child: Subjects.Address,
  patience: number,
): Effect.Effect<Settled, NatsError> =>
  Effect.flatMap(
    JobView.at(wire, child),
    (view) =>
      view === undefined ? Effect.succeed({ missing: [] }) : settleSeen(
        wire,
        child,
        Waits.open(view.current.envelope.progress.waits),
        patience,
      ),
  )

/**
 * Stores a child and links it; with a parent that isn't there nothing is stored. Members of a batch
 * stay staged until their batch is committed. Gives what the child was given as its next message.
 */
export const store: (
  wire: Wire,
  child: Child,
  patience: number,
) => Effect.Effect<Moves.Move | undefined, NatsError | JobNotFound> = Effect.fnUntraced(
  function* (wire, { address, lane, message, queue, waits }, patience) {
    const { alarmMillis, clock, subjects } = wire
    const parents = waits.parents.map(({ id }) => id)
    const seen = new Map<string, JobView.JobView>()
    yield* Effect.forEach(
      parents,
      Effect.fnUntraced(function* (id) {
        const view = yield* JobView.find(wire, id)
        if (view === undefined || isHiddenFrom(address, view)) return yield* new JobNotFound({ id })
        seen.set(id, view)
      }),
      { concurrency, discard: true },
    )
    const tick = address.group === Subjects.noGroup ? clock.now() + alarmMillis : Moves.never
    const sequence = yield* Conditional.publish(wire, address.partition, {
      subject: address.group === Subjects.noGroup
        ? subjects.live("await", queue, lane, address)
        : Moves.staged(subjects, address),
      payload: Envelope.withProgress(message, { ...Envelope.untouched, waits }),
      headers: Moves.awaitLines(subjects, address, tick),
      expected: 0,
      filter: subjects.job(address),
      patience,
    })
    const { missing: [missing], move } = yield* settleSeen(wire, address, parents, patience, seen)
    if (missing === undefined) return move
    // Its record was removed since it was seen.
    if (sequence !== undefined) yield* Conditional.remove(wire, address.partition, sequence)
    return yield* new JobNotFound({ id: missing })
  },
)
