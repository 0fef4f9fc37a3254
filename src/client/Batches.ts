/**
 * What the engine does with batches. A batch is a job of the engine, `_batch`, that awaits its
 * members; its message is its state, its lock and its alarm: every change is one conditional write,
 * and a server looks after it when its alarm fires. Members are jobs whose group is the batch's id;
 * those that nobody is to see yet lie on subjects of their own (`Moves.staged`).
 *
 * It ends when no member lives. Whoever ends members looks soon afterwards, and the alarm looks again
 * and again in case that somebody died in between (W19).
 */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import * as Envelope from "../core/Envelope.ts"
import type { FinalState, WireState } from "../core/JobState.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Waits from "../core/Waits.ts"
import * as Api from "../nats/Api.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import * as Lists from "../nats/Lists.ts"
import { announceEnded } from "../nats/Notices.ts"
import * as Peek from "../nats/Peek.ts"
import { nextAtLeader } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import { countFrom } from "../nats/Retention.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Finish } from "./Finish.ts"
import * as Moves from "./Moves.ts"

/** Name of the engine's jobs that are batches. */
export const batchName = "_batch"

/** Members of which it is verified one by one whether they live. */
const verified = 64

/** Members that are moved in one page. */
const pageSize = 1_000
const pageBytes = 8 * 1024 * 1024

/** In the order in which members move on, so that who goes through them meets those that do. */
const liveStates: ReadonlyArray<WireState> = ["await", "later", "retry", "ready", "part"]

/** In the order in which most members wait. */
const firstStates: ReadonlyArray<WireState> = ["ready", "later", "retry", "await", "part"]

/** Fewer superseded messages are deleted one by one: a purge makes the stream stand still. */
const worthPurging = 200

/** How often a cancelled batch is gone through for members that moved to and fro meanwhile. */
const cancelRounds = 3

/** What the record of a batch tells of its members. */
export interface Summary {
  readonly total: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
}

/** What a batch was given. */
export interface Description {
  readonly description?: string | undefined
}

/** Whether a batch hasn't ended. */
const isLive = ({ current }: JobView.JobView): boolean => !Records.isRecord(current.subject)

const stateOf = (view: JobView.JobView): BatchState.BatchState | undefined =>
  view.current.envelope.progress.batch

type Change = (state: BatchState.BatchState) => BatchState.BatchState | undefined

/** What is found at a look. */
export interface Looked {
  /** Whether the batch is worth looking at again soon. */
  readonly again: boolean
  /** Members of a batch that hasn't ended: the more, the more a look costs. */
  readonly total: number
}

/** The engine's part of batches in a namespace. */
export interface Batches {
  /** Stores a batch that is being built; in a group, as part of another one that is. */
  readonly create: (
    address: Subjects.Address,
    description: Description,
    retention: string | undefined,
  ) => Effect.Effect<void, NatsError>
  /**
   * Changes the state of a batch that lives by compare and set. Gives the batch as it was, or
   * `undefined` when it has ended or is gone; `change` may say that there is nothing to write.
   */
  readonly update: (
    batch: Subjects.Address,
    change: Change,
  ) => Effect.Effect<BatchState.BatchState | undefined, NatsError>
  /** Sends all staged members on their way, those of nested batches too, and opens the batch. */
  readonly release: (batch: Subjects.Address) => Effect.Effect<void, NatsError>
  /** Ends a batch, if none of its members lives. */
  readonly look: (batch: Subjects.Address) => Effect.Effect<Looked, NatsError>
  /** What a server does when the alarm of a batch has fired. */
  readonly tick: (batch: Subjects.Address) => Effect.Effect<void, NatsError>
  /** Cancels what lives of a batch that was cancelled. */
  readonly cancelMembers: (record: Records.JobMessage) => Effect.Effect<void, NatsError>
  /** Whether it can't live again: it was cancelled, or what it is part of was. */
  readonly isCancelled: (batch: JobView.JobView) => Effect.Effect<boolean, NatsError>
  /**
   * Begins to add to a batch, which is opened again if it has ended. Gives the generation to commit
   * with; `undefined` when somebody was faster, or the batch can't be added to now.
   */
  readonly adopt: (batch: JobView.JobView) => Effect.Effect<number | undefined, NatsError>
  /** Gives up a batch that was never committed, or what is staged of one that is added to. */
  readonly giveUp: (batch: Subjects.Address, generation: number) => Effect.Effect<void, NatsError>
  /**
   * Does something that gives a batch a member that lives: the batch doesn't end meanwhile, and is
   * opened again if it has ended. Gives `refused` for one that was cancelled.
   */
  readonly holding: <A, E>(
    batch: string,
    use: Effect.Effect<A, E>,
    refused: A,
  ) => Effect.Effect<A, E | NatsError>
}

/** What batches need of the engine around them. */
export interface Around {
  /** Asked for when it is needed, for the two know each other. */
  readonly finish: () => Finish
  /** A member of a batch may have ended: its batch is looked at soon. */
  readonly memberEnded: (partition: number, batch: string) => void
}

/** Makes it for a namespace. */
export const make = (wire: Wire, patience: number, { finish, memberEnded }: Around): Batches => {
  const { alarmMillis, clock, nats, publisher, reader, replicated, subjects } = wire
  const streamOf = (partition: number) => Subjects.jobsStream(subjects.namespace, partition)

  const tickOf = ({ heldUntil, phase }: BatchState.BatchState, group: string): number =>
    // A nested batch that is being built is looked after by the one that it is part of.
    phase === "building" && group !== Subjects.noGroup
      ? Moves.never
      : Math.max(heldUntil, clock.now() + alarmMillis)

  const withState = (view: JobView.JobView, batch: BatchState.BatchState) =>
    Moves.awaiting(
      subjects,
      view.current,
      { ...view.current.envelope.progress, batch },
      tickOf(batch, view.address.group),
    )

  const create: Batches["create"] = Effect.fnUntraced(
    function* (address, description, retention) {
      const batch: BatchState.BatchState = {
        phase: "building",
        total: 0,
        generation: 0,
        heldUntil: clock.now() + alarmMillis,
        holders: 0,
      }
      const template = Envelope.template(batchName, Subjects.engineQueue, 3, { retention })
      const payload = MessagePack.encode(description)
      yield* Conditional.publish(wire, address.partition, {
        subject: address.group === Subjects.noGroup
          ? subjects.live("await", Subjects.engineQueue, 3, address)
          : Moves.staged(subjects, address),
        payload: Envelope.freshWith(template, clock.now(), payload, {
          ...Envelope.untouched,
          batch,
        }),
        headers: Moves.awaitLines(subjects, address, tickOf(batch, address.group)),
        expected: 0,
        filter: subjects.job(address),
        patience,
      })
    },
  )

  const update: Batches["update"] = Effect.fnUntraced(function* (batch, change) {
    while (true) {
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !isLive(view)) return undefined
      const state = stateOf(view)
      if (state === undefined) return undefined
      const next = change(state)
      if (next === undefined) return state
      if ((yield* Moves.write(wire, view, withState(view, next), patience)) !== undefined) {
        return state
      }
    }
  })

  /** Goes through messages page by page until none is left that nobody has met. */
  const eachPage = Effect.fnUntraced(function* (
    partition: number,
    filter: string,
    use: (page: ReadonlyArray<Records.JobMessage>) => Effect.Effect<void, NatsError>,
  ): Effect.fn.Return<void, NatsError> {
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(streamOf(partition), filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last !== undefined) {
        sequence = last.sequence + 1
        yield* use(Records.parse(subjects, messages))
        continue
      }
      if (!replicated) return
      // A replica that lags behind doesn't know the end.
      const from = { seq: sequence }
      const next = yield* nextAtLeader(nats.connection, streamOf(partition), filter, from)
      if (next === undefined) return
      yield* Effect.sleep("20 millis")
    }
  })

  interface Moved {
    readonly member: Records.JobMessage
    readonly move: Moves.Move
  }

  /** Makes a move for each member that has one. Gives those where nobody was faster. */
  const moveAll = (
    page: ReadonlyArray<Records.JobMessage>,
    moveOf: (member: Records.JobMessage) => Moves.Move | undefined,
  ): Effect.Effect<ReadonlyArray<Moved>, NatsError> =>
    Effect.callback((resume) => {
      const moved: Array<Moved> = []
      let left = 1
      let failure: Effect.Effect<never, NatsError> | undefined
      const oneLess = () => {
        if (--left === 0) resume(failure ?? Effect.succeed(moved))
      }
      for (const member of page) {
        const move = moveOf(member)
        if (move === undefined) continue
        left++
        publisher.publish({
          subject: move.subject,
          payload: move.payload,
          headers: move.headers,
          expected: member.stored.sequence,
          filter: subjects.job(member.subject),
          patience,
        }, (ack) => {
          if (ack._tag === "Stored") moved.push({ member, move })
          else failure = Conditional.failureOf(ack, move.subject) ?? failure
          oneLess()
        })
      }
      oneLess()
    })

  const announce = (moved: ReadonlyArray<Moved>): void => {
    const ended = moved.filter(({ move }) => move.to === "cancelled")
    if (ended.length > 0) announceEnded(wire, ended.map(({ member }) => member.subject.id))
  }

  /** Sees to what follows from the ends of members that were cancelled, by whom ever. */
  const followCancelled = (batch: Subjects.Address): Effect.Effect<void, NatsError> =>
    eachPage(
      batch.partition,
      subjects.members(batch.partition, "cancelled", batch.id),
      Effect.fnUntraced(function* (page) {
        const parents = yield* Links.parentsAmong(
          wire,
          batch.partition,
          page.map(({ stored, subject }) => ({
            id: subject.id,
            subject: stored.subject,
            sequence: stored.sequence,
          })),
        )
        yield* Effect.forEach(
          page.filter(({ envelope, subject }) =>
            parents.has(subject.id) || envelope.progress.batch !== undefined
          ),
          ({ subject }) => finish().meet(subject),
          { concurrency: 16, discard: true },
        )
      }),
    )

  /** A member that is let go: to its queue, to wait for others, or, if that is decided, to its end. */
  const letGo = (member: Records.JobMessage): Moves.Move | undefined => {
    const { waits } = member.envelope.progress
    return waits?.staged === true
      ? Moves.settled(wire, member, { ...waits, staged: false }, clock.now())
      : undefined
  }

  const release: Batches["release"] = Effect.fnUntraced(function* (batch) {
    let anyCancelled = false
    // A member that somebody else was about to move stays staged: once more, until none is left.
    for (let seen = 1; seen > 0;) {
      seen = 0
      yield* eachPage(
        batch.partition,
        Moves.stagedIn(subjects, batch),
        Effect.fnUntraced(function* (page) {
          seen += page.length
          const moved = yield* moveAll(page, letGo)
          announce(moved)
          anyCancelled ||= moved.some(({ move }) => move.to === "cancelled")
          for (const { envelope, subject } of page) {
            if (envelope.progress.batch === undefined) continue
            yield* update(
              subject,
              (state) =>
                state.phase === "building" ? BatchState.inPhase(state, "releasing") : undefined,
            )
            yield* release(subject)
          }
        }),
      )
    }
    if (anyCancelled || (yield* countOf(batch, "cancelled")) > 0) yield* followCancelled(batch)
    yield* update(
      batch,
      (state) => state.phase === "releasing" ? BatchState.inPhase(state, "open") : undefined,
    )
    yield* look(batch)
  })

  const liveFilters = (batch: Subjects.Address) =>
    liveStates.map((state) => subjects.members(batch.partition, state, batch.id))

  /** Whether the job of a message lives: has no record that counts, and is not left behind staged. */
  const livesStill = ({ subject }: Records.JobMessage) =>
    Effect.map(
      JobView.at(wire, subject),
      (view) => view !== undefined && isLive(view) && !Records.isHidden(view.current),
    )

  /**
   * Whether one of the first members that are met lives. Costs the server a tenth of finding all of
   * them, where they are many.
   */
  const livesFirst = Effect.fnUntraced(function* (batch: Subjects.Address) {
    const stream = streamOf(batch.partition)
    for (const state of firstStates) {
      const filter = subjects.members(batch.partition, state, batch.id)
      const first = yield* nextAtLeader(nats.connection, stream, filter, { seq: 1 })
      const [message] = Records.parse(subjects, first === undefined ? [] : [first])
      if (message !== undefined && (yield* livesStill(message))) return true
    }
    return false
  })

  /**
   * All members that may live, read in one go, or how it failed: there are too many of them, or a
   * replica has answered that lags behind the batch.
   */
  const mayLive = Effect.fnUntraced(function* (batch: Subjects.Address, newest: number) {
    const filters = [...liveFilters(batch), subjects.job(batch)]
    const found = yield* Effect.catchTag(
      reader.newest(streamOf(batch.partition), filters),
      "Rejected",
      (error) => error.status === 413 ? Effect.succeed("many" as const) : Effect.fail(error),
    )
    if (found === "many") return found
    if (replicated && !found.some(({ sequence }) => sequence >= newest)) return "behind" as const
    const messages = found.filter(({ subject }) => subjects.parse(subject)?.id !== batch.id)
    const members = Records.parse(subjects, messages)
    // One that only a newer engine can read lives.
    const isUnclear = members.length > verified || members.length < messages.length
    return isUnclear ? "many" as const : members
  })

  const countOf = (batch: Subjects.Address, state: FinalState) =>
    countFrom(
      wire,
      streamOf(batch.partition),
      subjects.members(batch.partition, state, batch.id),
      1,
    )

  const over: Looked = { again: false, total: 0 }

  const look: Batches["look"] = Effect.fnUntraced(function* (batch): Effect.fn.Return<
    Looked,
    NatsError
  > {
    while (true) {
      // What is seen here is the condition of the end: whoever adds to the batch changes it first.
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !isLive(view)) return over
      const state = stateOf(view)
      const now = clock.now()
      if (state === undefined || state.phase !== "open" || state.heldUntil > now) return over
      const { total } = state
      // Whoever ends that one looks again.
      if (yield* livesFirst(batch)) return { again: false, total }
      const members = yield* mayLive(batch, view.newest)
      if (members === "many") return { again: true, total }
      if (members === "behind") {
        yield* Effect.sleep("20 millis")
        continue
      }
      const alive = yield* Effect.filter(members, livesStill, { concurrency: 16 })
      if (alive.length > 0) return { again: false, total }
      if (view.current.subject.state !== "ready") {
        // From here on a message lies in the engine's queue, by which a server meets the end that
        // follows should we die.
        const wake = Moves.ready(subjects, view.current, view.current.envelope.progress)
        yield* Moves.write(wire, view, wake, patience)
        continue
      }
      const failed = yield* countOf(batch, "failed")
      const cancelled = yield* countOf(batch, "cancelled")
      const succeeded = Math.max(0, state.total - failed - cancelled)
      const summary: Summary = { total: state.total, succeeded, failed, cancelled }
      const move = Moves.ended(
        subjects,
        view.current,
        failed + cancelled > 0 ? "failed" : "succeeded",
        {
          ended: now,
          result: MessagePack.encode(summary),
          reason: failed + cancelled === 0 ? undefined : `of ${state.total} members ` +
            `${failed} failed and ${cancelled} were cancelled`,
        },
      )
      const sequence = yield* Moves.write(wire, view, move, patience)
      if (sequence === undefined) continue
      announceEnded(wire, [batch.id])
      yield* finish().finish(Moves.storedAs(wire, view, move, sequence, now))
      yield* Conditional.remove(wire, batch.partition, view.current.stored.sequence)
      return over
    }
  })

  /**
   * Removes staged members, as long as the state says that they are nobody's or ours to remove.
   * Whoever adds to a batch says so in its state before anything is staged, so what was read before
   * the state was somebody's who was there before.
   */
  const purge = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    isOurs: (state: BatchState.BatchState) => boolean,
  ): Effect.fn.Return<void, NatsError> {
    yield* eachPage(
      batch.partition,
      Moves.stagedIn(subjects, batch),
      Effect.fnUntraced(function* (page) {
        const view = yield* JobView.at(wire, batch)
        const state = view === undefined || !isLive(view) ? undefined : stateOf(view)
        if (state !== undefined && !isOurs(state)) return
        yield* Effect.forEach(page, removeStaged, { concurrency: 64, discard: true })
      }),
    )
  })

  const isOpen = ({ phase }: BatchState.BatchState): boolean => phase === "open"
  const isAbandoned = ({ phase }: BatchState.BatchState): boolean => phase === "abandoned"

  /** Removes a staged member with all that is there because of it, itself last. */
  const removeStaged: (member: Records.JobMessage) => Effect.Effect<void, NatsError> = Effect
    .fnUntraced(function* ({ envelope, stored, subject }) {
      const { batch, waits } = envelope.progress
      if (batch !== undefined) {
        yield* update(subject, BatchState.givenUp)
        yield* purge(subject, isAbandoned)
        const left = yield* JobView.at(wire, subject)
        if (left !== undefined) {
          yield* Conditional.remove(wire, subject.partition, left.current.stored.sequence)
        }
        return
      }
      for (const parent of Waits.open(waits)) yield* Links.removeOne(wire, parent, subject)
      yield* Conditional.remove(wire, subject.partition, stored.sequence)
    })

  /** Removes a batch that was never committed. */
  const removeAbandoned = Effect.fnUntraced(function* (batch: Subjects.Address) {
    yield* purge(batch, isAbandoned)
    const view = yield* JobView.at(wire, batch)
    if (view === undefined || stateOf(view)?.phase !== "abandoned") return
    for (const sequence of [...view.stale, view.current.stored.sequence]) {
      yield* Conditional.remove(wire, batch.partition, sequence)
    }
  })

  /** Removes what is staged of an addition, and lets others add then. */
  const giveUpAddition = Effect.fnUntraced(function* (batch: Subjects.Address, generation: number) {
    const isOurs = (state: BatchState.BatchState) =>
      state.phase === "open" || (state.phase === "adding" && state.generation === generation)
    yield* purge(batch, isOurs)
    yield* update(
      batch,
      (state) =>
        state.phase === "adding" && isOurs(state) ? BatchState.inPhase(state, "open") : undefined,
    )
    yield* look(batch)
  })

  const giveUp: Batches["giveUp"] = Effect.fnUntraced(function* (batch, generation) {
    const before = yield* update(
      batch,
      (state) => state.phase === "building" ? BatchState.givenUp(state) : undefined,
    )
    yield* before === undefined || BatchState.isSecret(before)
      ? removeAbandoned(batch)
      : giveUpAddition(batch, generation)
  })

  const tick: Batches["tick"] = Effect.fnUntraced(function* (batch) {
    const view = yield* JobView.at(wire, batch)
    if (view === undefined) return
    if (!isLive(view)) return yield* finish().finish(view.current)
    // Whoever added to it, or held it open, has been silent for too long.
    let taken: number | undefined
    yield* update(batch, (state) => {
      const now = clock.now()
      taken = undefined
      if (state.heldUntil > now) return undefined
      if (state.phase === "adding") {
        taken = state.generation + 1
        return BatchState.adopted(BatchState.givenUp(state), now + alarmMillis)
      }
      return state.phase === "building" || state.heldUntil > 0
        ? BatchState.givenUp(state)
        : undefined
    })
    const now = yield* JobView.at(wire, batch)
    const state = now === undefined || !isLive(now) ? undefined : stateOf(now)
    if (state === undefined) return
    if (state.phase === "abandoned") return yield* removeAbandoned(batch)
    if (state.phase === "releasing") return yield* release(batch)
    if (taken !== undefined) yield* giveUpAddition(batch, taken)
    if (state.phase === "open") {
      yield* purge(batch, isOpen)
      yield* look(batch)
    }
    // Its alarm again, for it may live on.
    yield* update(batch, (state) => state)
  })

  /**
   * Removes the ready messages of members of one page, all that lie there before them included: they
   * were read before, and are superseded too.
   */
  const removeSuperseded = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    moved: ReadonlyArray<Moved>,
  ) {
    const places = new Map<string, Array<number>>()
    for (const { member: { stored } } of moved) {
      const place = `${stored.subject.slice(0, stored.subject.lastIndexOf("."))}.*`
      const sequences = places.get(place)
      if (sequences === undefined) places.set(place, [stored.sequence])
      else sequences.push(stored.sequence)
    }
    for (const [filter, sequences] of places) {
      if (sequences.length >= worthPurging) {
        const seq = Math.max(...sequences) + 1
        const operation = `purging ${filter} below ${seq}`
        const request = `STREAM.PURGE.${streamOf(batch.partition)}`
        yield* Api.call(nats.connection, request, { filter, seq }, operation)
        continue
      }
      yield* Effect.forEach(
        sequences,
        (sequence) => Conditional.remove(wire, batch.partition, sequence),
        { concurrency: 64, discard: true },
      )
    }
  })

  const cancelMembers: Batches["cancelMembers"] = Effect.fnUntraced(function* (record) {
    const batch: Subjects.Address = record.subject
    const reason = `its batch ${batch.id} was cancelled`
    // What somebody was still adding has never been seen.
    const isSecret = record.envelope.progress.batch?.phase === "adding"
      ? Records.isHidden
      : undefined
    const cancel = (member: Records.JobMessage): Moves.Move | undefined => {
      if (isSecret?.(member) === true) return undefined
      const { progress } = member.envelope
      const phase = progress.batch?.phase === "building" ? "releasing" : progress.batch?.phase
      const next = progress.batch === undefined || phase === undefined
        ? progress
        : { ...progress, batch: { ...progress.batch, phase } }
      return Moves.ended(subjects, member, "cancelled", { ended: clock.now(), reason }, next)
    }
    for (let round = 1; round <= cancelRounds; round++) {
      for (const state of liveStates) {
        yield* eachPage(
          batch.partition,
          subjects.members(batch.partition, state, batch.id),
          Effect.fnUntraced(function* (page) {
            // A schedule may have fired when its job was about to end: what it made is ready too.
            const alive = state === "ready" ? yield* Lists.onlyCurrent(wire, page) : page
            const moved = yield* moveAll(alive, cancel)
            announce(moved)
            // Whoever requeued one of them may have died before deleting its record of then.
            yield* Effect.forEach(
              moved.map(({ member }) => member.envelope.progress.after).filter((old) => old > 0),
              (old) => Conditional.remove(wire, batch.partition, old),
              { concurrency: 64, discard: true },
            )
            if (state !== "ready") return
            Conditional.announceVoid(
              wire,
              batch.partition,
              moved.map(({ member }) => member.stored.sequence),
            )
            yield* removeSuperseded(batch, moved)
          }),
        )
      }
      // One that moved back meanwhile, from its queue to a retry, was passed by.
      if ((yield* Peek.count(wire, streamOf(batch.partition), liveFilters(batch))) === 0) break
    }
    if (isSecret !== undefined) yield* purge(batch, isOpen)
    // Also those of somebody who did this before and died.
    yield* followCancelled(batch)
  })

  /** Writes a change of a batch that may have ended, which opens it again. Gives whether it did. */
  const reopen = Effect.fnUntraced(function* (
    view: JobView.JobView,
    change: Change,
  ): Effect.fn.Return<boolean, NatsError> {
    const { address, current } = view
    const state = stateOf(view)
    const next = state === undefined
      ? undefined
      : change(isLive(view) ? state : { ...state, phase: "open", holders: 0, heldUntil: 0 })
    if (next === undefined || current.subject.state === "cancelled") return false
    if (isLive(view)) {
      return (yield* Moves.write(wire, view, withState(view, next), patience)) !== undefined
    }
    const record = current.stored.sequence
    const reopened = Effect.gen(function* () {
      const move = Moves.awaiting(
        subjects,
        current,
        { ...current.envelope.progress, after: record, batch: next },
        tickOf(next, address.group),
      )
      if ((yield* Moves.write(wire, view, move, patience)) === undefined) return false
      for (const sequence of [...view.stale, record]) {
        yield* Conditional.remove(wire, address.partition, sequence)
      }
      return true
    })
    // What it is part of lives again with it.
    return yield* address.group === Subjects.noGroup
      ? reopened
      : holding(address.group, reopened, false)
  })

  const adopt: Batches["adopt"] = Effect.fnUntraced(function* (view) {
    const until = clock.now() + alarmMillis
    const isAdopted = yield* reopen(
      view,
      (state) => state.phase === "open" ? BatchState.adopted(state, until) : undefined,
    )
    if (!isAdopted) return undefined
    const generation = (stateOf(view)?.generation ?? 0) + 1
    // Somebody who was given up, and noticed late, may have left something behind.
    yield* purge(view.address, (state) => state.generation === generation)
    return generation
  })

  /** Holds a batch open. Gives false for one that was cancelled, or whose outer one was. */
  const hold = Effect.fnUntraced(function* (batch: Subjects.Address) {
    while (true) {
      const view = yield* JobView.at(wire, batch)
      if (view === undefined) return true
      if (yield* isCancelled(view)) return false
      const until = clock.now() + alarmMillis
      if (yield* reopen(view, (state) => BatchState.held(state, until))) return true
    }
  })

  const isCancelled: Batches["isCancelled"] = Effect.fnUntraced(function* (
    view,
  ): Effect.fn.Return<boolean, NatsError> {
    if (view.current.subject.state === "cancelled") return true
    if (isLive(view) || view.address.group === Subjects.noGroup) return false
    const outer = yield* JobView.find(wire, view.address.group)
    return outer !== undefined && (yield* isCancelled(outer))
  })

  /** Lets it end again. One that has ended although it was held, for that took long, opens again. */
  const unhold = Effect.fnUntraced(function* (batch: Subjects.Address) {
    while ((yield* update(batch, BatchState.released)) === undefined) {
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !(yield* hold(batch))) return
    }
    memberEnded(batch.partition, batch.id)
  })

  const holding: Batches["holding"] = Effect.fnUntraced(function* (batch, use, refused) {
    const address = (yield* JobView.find(wire, batch))?.address
    if (address === undefined) return yield* use
    return yield* Effect.acquireUseRelease(
      hold(address),
      (isHeld) => isHeld ? use : Effect.succeed(refused),
      // Should that fail, the alarm of the batch sees to it.
      (isHeld) => isHeld ? Effect.ignore(unhold(address)) : Effect.void,
    )
  })

  return {
    create,
    update,
    release,
    look,
    tick,
    cancelMembers,
    isCancelled,
    adopt,
    giveUp,
    holding,
  }
}
