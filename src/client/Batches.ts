/**
 * What the engine does with batches. A batch is a job of the engine, `_batch`, that awaits its
 * members; its message is its state, its lock and its alarm: every change is one conditional write,
 * and a server looks after it when its alarm fires. Members are jobs whose group is the batch's id.
 *
 * It ends when no member lives. Whoever ends members looks soon afterwards, and the alarm looks again
 * and again in case that somebody died in between (W19).
 */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import * as Envelope from "../core/Envelope.ts"
import type { FinalState, WireState } from "../core/JobState.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import * as Peek from "../nats/Peek.ts"
import * as Records from "../nats/Records.ts"
import { countFrom } from "../nats/Retention.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Finish } from "./Finish.ts"
import * as Moves from "./Moves.ts"

/** Name of the engine's jobs that are batches. */
export const batchName = "_batch"

/** Reason in the record of a batch that was never committed; nobody has ever seen it. */
const abandoned = "abandoned"

/** Members of which it is verified one by one whether they live. */
const verified = 64

/** Members that are moved in one page. */
const pageSize = 1_000
const pageBytes = 8 * 1024 * 1024

/** In the order in which members move on, so that who goes through them meets those that do. */
const liveStates: ReadonlyArray<WireState> = ["await", "later", "retry", "ready", "part"]

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
    change: (state: BatchState.BatchState) => BatchState.BatchState | undefined,
  ) => Effect.Effect<BatchState.BatchState | undefined, NatsError>
  /**
   * Sends all staged members on their way, those of nested batches too, and opens the batch. `again`
   * where somebody may have died while doing it.
   */
  readonly release: (
    batch: Subjects.Address,
    again?: boolean,
  ) => Effect.Effect<void, NatsError>
  /** Ends a batch, if none of its members lives. Gives whether it is worth looking again soon. */
  readonly look: (batch: Subjects.Address) => Effect.Effect<boolean, NatsError>
  /** What a server does when the alarm of a batch has fired. */
  readonly tick: (batch: Subjects.Address) => Effect.Effect<void, NatsError>
  /** Cancels what lives of a batch that was cancelled. */
  readonly cancelMembers: (record: Records.JobMessage) => Effect.Effect<void, NatsError>
  /** Opens a batch that has ended, so that members can be added or requeued. Gives its address. */
  readonly hold: (batch: JobView.JobView, millis: number) => Effect.Effect<boolean, NatsError>
}

/** Makes it for a namespace; `finish` is asked for when it is needed, for the two know each other. */
export const make = (wire: Wire, patience: number, finish: () => Finish): Batches => {
  const { alarmMillis, clock, publisher, reader, subjects } = wire
  const streamOf = (partition: number) => Subjects.jobsStream(subjects.namespace, partition)

  const withState = (view: JobView.JobView, batch: BatchState.BatchState, tick: number) =>
    Moves.awaiting(
      subjects,
      view.current,
      { ...view.current.envelope.progress, batch },
      tick,
    )

  const tickOf = ({ heldUntil, phase }: BatchState.BatchState, group: string): number =>
    // A nested batch that is being built is looked after by the one that it is part of.
    phase === "building" && group !== Subjects.noGroup
      ? Moves.never
      : Math.max(heldUntil, clock.now() + alarmMillis)

  const create: Batches["create"] = Effect.fnUntraced(
    function* (address, description, retention) {
      const batch: BatchState.BatchState = {
        phase: "building",
        total: 0,
        generation: 0,
        heldUntil: clock.now() + alarmMillis,
      }
      const template = Envelope.template(batchName, Subjects.engineQueue, 3, { retention })
      const payload = MessagePack.encode(description)
      yield* Conditional.publish(wire, address.partition, {
        subject: subjects.live("await", Subjects.engineQueue, 3, address),
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
      const move = withState(view, next, tickOf(next, batch.group))
      if ((yield* Moves.write(wire, view, move, patience)) !== undefined) return state
    }
  })

  /**
   * Goes through the members in a state, page by page, and makes the move for each that `moveOf`
   * gives. Whoever was faster is left alone, or looked at again by `lost`.
   */
  const moveMembers = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    state: WireState,
    moveOf: (member: Records.JobMessage) => Moves.Move | undefined,
    done: (
      moved: ReadonlyArray<{ readonly member: Records.JobMessage; readonly sequence: number }>,
    ) => Effect.Effect<void, NatsError>,
  ) {
    const stream = streamOf(batch.partition)
    const filter = subjects.members(batch.partition, state, batch.id)
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(stream, filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last === undefined) return
      sequence = last.sequence + 1
      const moved: Array<{ member: Records.JobMessage; sequence: number }> = []
      yield* Effect.callback<void, NatsError>((resume) => {
        let left = 1
        let failure: Effect.Effect<void, NatsError> = Effect.void
        const oneLess = () => {
          if (--left === 0) resume(failure)
        }
        for (const member of Records.parse(subjects, messages)) {
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
            if (ack._tag === "Stored") moved.push({ member, sequence: ack.sequence })
            else failure = Conditional.failureOf(ack, move.subject) ?? failure
            oneLess()
          })
        }
        oneLess()
      })
      yield* done(moved)
    }
  })

  const release: Batches["release"] = Effect.fnUntraced(function* (batch, again = false) {
    const nested: Array<Subjects.Address> = []
    yield* moveMembers(batch, "await", (member) => {
      const { progress } = member.envelope
      if (progress.batch !== undefined) {
        if (progress.batch.phase !== "open") nested.push(member.subject)
        return undefined
      }
      return progress.waits?.staged === true
        ? Moves.settled(wire, member, { ...progress.waits, staged: false }, clock.now())
        : undefined
    }, (moved) =>
      // Those that are cancelled at once have jobs that follow them, too.
      Effect.forEach(
        moved.filter(({ member }) => member.envelope.progress.waits?.parents.length !== 0),
        ({ member }) => finish().meet(member.subject),
        { concurrency: 16, discard: true },
      ))
    for (const inner of nested) {
      yield* update(
        inner,
        (state) => state.phase === "building" ? { ...state, phase: "releasing" } : undefined,
      )
      yield* release(inner, again)
    }
    // A member that somebody else was about to move stays staged: once more, until none is left.
    const left = yield* stagedIn(batch)
    if (left) return yield* release(batch, again)
    if (again) yield* followCancelled(batch)
    yield* update(
      batch,
      (state) =>
        state.phase === "releasing" ? { ...state, phase: "open", heldUntil: 0 } : undefined,
    )
    yield* look(batch)
  })

  /** Whether a member is staged still. */
  const stagedIn = Effect.fnUntraced(function* (batch: Subjects.Address) {
    const filter = subjects.members(batch.partition, "await", batch.id)
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(streamOf(batch.partition), filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last === undefined) return false
      sequence = last.sequence + 1
      for (const { envelope } of Records.parse(subjects, messages)) {
        if (envelope.progress.waits?.staged === true) return true
      }
    }
  })

  /** Members under some subjects that are found to live: those without a record that counts. */
  const livesAny = Effect.fnUntraced(function* (batch: Subjects.Address) {
    const stream = streamOf(batch.partition)
    const found = yield* reader.newest(
      stream,
      liveStates.map((state) => subjects.members(batch.partition, state, batch.id)),
    )
    if (found.length === 0) return false
    for (const { subject } of Records.parse(subjects, found)) {
      const view = yield* JobView.at(wire, subject)
      if (view !== undefined && isLive(view)) return true
    }
    return false
  })

  const countOf = (batch: Subjects.Address, state: FinalState) =>
    countFrom(
      wire,
      streamOf(batch.partition),
      subjects.members(batch.partition, state, batch.id),
      1,
    )

  /**
   * Ends a batch. Its alarm stays until all that follows from the end is done: should we die before
   * that, it leads a server to the record.
   */
  const end = Effect.fnUntraced(function* (
    view: JobView.JobView,
    move: Moves.Move,
    follow: (record: Records.JobMessage) => Effect.Effect<void, NatsError>,
  ) {
    const alone = { ...move, headers: "" }
    const sequence = yield* Moves.write(wire, view, alone, patience)
    if (sequence === undefined) return false
    yield* follow(Moves.storedAs(wire, view, alone, sequence, clock.now()))
    const { stored, subject } = view.current
    if (subject.state === "await") {
      yield* Conditional.remove(wire, subject.partition, stored.sequence)
    }
    return true
  })

  const look: Batches["look"] = Effect.fnUntraced(function* (batch) {
    while (true) {
      // What is seen here is the condition of the end: whoever adds to the batch changes it first.
      const view = yield* JobView.at(wire, batch)
      if (view === undefined || !isLive(view)) return false
      const state = stateOf(view)
      const now = clock.now()
      if (state === undefined || state.phase !== "open" || state.heldUntil > now) return false
      const alive = yield* Peek.count(
        wire,
        streamOf(batch.partition),
        liveStates.map((live) => subjects.members(batch.partition, live, batch.id)),
      )
      if (alive > verified) return true
      if (alive > 0 && (yield* livesAny(batch))) return false
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
      if (yield* end(view, move, (record) => finish().finish(record))) return false
    }
  })

  /** Removes what a builder has left behind that nobody has seen. */
  const purge = Effect.fnUntraced(function* (batch: Subjects.Address): Effect.fn.Return<
    void,
    NatsError
  > {
    const filter = subjects.members(batch.partition, "await", batch.id)
    const stream = streamOf(batch.partition)
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(stream, filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last === undefined) return
      sequence = last.sequence + 1
      const hidden = Records.parse(subjects, messages).filter(({ envelope: { progress } }) =>
        progress.batch?.phase === "building" || progress.waits?.staged === true
      )
      if (hidden.length === 0) continue
      const parents = yield* Links.parentsAmong(
        wire,
        batch.partition,
        hidden.map(({ stored, subject: { id } }) => ({
          id,
          subject: stored.subject,
          sequence: stored.sequence,
        })),
      )
      yield* Effect.forEach(
        hidden,
        Effect.fnUntraced(function* ({ envelope, stored, subject }) {
          if (envelope.progress.batch !== undefined) yield* purge(subject)
          // Nobody would come back to a link from a job that is gone.
          const links = parents.has(subject.id) ? yield* Links.from(wire, subject) : []
          for (const link of links) {
            yield* Conditional.remove(wire, subject.partition, link.sequence)
          }
          yield* Conditional.remove(wire, subject.partition, stored.sequence)
        }),
        { concurrency: 64, discard: true },
      )
    }
  })

  const abandon = Effect.fnUntraced(function* (view: JobView.JobView) {
    const now = clock.now()
    const move = Moves.ended(subjects, view.current, "cancelled", { ended: now, reason: abandoned })
    yield* end(view, move, cancelMembers)
  })

  const tick: Batches["tick"] = Effect.fnUntraced(function* (batch) {
    const view = yield* JobView.at(wire, batch)
    if (view === undefined) return
    if (!isLive(view)) return yield* finish().finish(view.current)
    const state = stateOf(view)
    if (state === undefined) return
    const held = state.heldUntil > clock.now()
    if (state.phase === "building" && !held) return yield* abandon(view)
    // Somebody stopped in the middle of adding to it: what it has staged was never seen.
    if (state.phase === "open" && !held && state.heldUntil > 0) {
      yield* update(batch, (now) => now.heldUntil > 0 ? { ...now, heldUntil: 0 } : undefined)
      yield* purge(batch)
    }
    if (state.phase === "releasing") return yield* release(batch, true)
    yield* look(batch)
    // Its alarm again, for it may live on.
    yield* update(batch, (now) => now)
  })

  const cancelMembers: Batches["cancelMembers"] = Effect.fnUntraced(function* (record) {
    const batch: Subjects.Address = record.subject
    if (record.envelope.outcome?.reason === abandoned) {
      yield* purge(batch)
      return yield* Conditional.remove(wire, batch.partition, record.stored.sequence)
    }
    const reason = `its batch ${batch.id} was cancelled`
    for (const state of liveStates) {
      const superseded: Array<number> = []
      yield* moveMembers(
        batch,
        state,
        (member) => Moves.ended(subjects, member, "cancelled", { ended: clock.now(), reason }),
        (moved) =>
          Effect.gen(function* () {
            if (state === "ready") {
              for (const { member } of moved) superseded.push(member.stored.sequence)
            }
            const ended = moved.map(({ member, sequence }) => ({
              id: member.subject.id,
              subject: subjects.final("cancelled", member.envelope, member.subject),
              sequence,
            }))
            if (ended.length > 0) yield* follow(batch, ended)
            for (const { member } of moved) {
              const { after, batch: inner } = member.envelope.progress
              if (inner !== undefined || after > 0) {
                yield* finish().meet(member.subject)
              }
            }
          }),
      )
      if (superseded.length > 0) {
        Conditional.announceVoid(wire, batch.partition, superseded)
        yield* Effect.forEach(
          superseded,
          (sequence) => Conditional.remove(wire, batch.partition, sequence),
          { concurrency: 64, discard: true },
        )
      }
    }
    yield* followCancelled(batch)
  })

  /** Finishes what the ends of members began. */
  const follow = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    members: ReadonlyArray<Links.Ended>,
  ) {
    const parents = yield* Links.parentsAmong(wire, batch.partition, members)
    for (const id of parents) {
      yield* finish().meet({ partition: batch.partition, group: batch.id, id })
    }
  })

  /** Who cancelled members and died may have left some whose own followers wait. */
  const followCancelled = Effect.fnUntraced(function* (batch: Subjects.Address) {
    const filter = subjects.members(batch.partition, "cancelled", batch.id)
    for (let sequence = 1;;) {
      const { messages } = yield* reader.page(streamOf(batch.partition), filter, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const last = messages.at(-1)
      if (last === undefined) return
      sequence = last.sequence + 1
      yield* follow(
        batch,
        messages.map(({ sequence, subject }) => ({
          id: subject.slice(subject.lastIndexOf(".") + 1),
          subject,
          sequence,
        })),
      )
    }
  })

  const hold: Batches["hold"] = Effect.fnUntraced(function* (view, millis) {
    const { progress } = view.current.envelope
    const state = stateOf(view)
    if (state === undefined) return false
    const heldUntil = clock.now() + millis
    if (isLive(view)) {
      if (state.phase !== "open") return false
      const move = withState(view, { ...state, heldUntil }, heldUntil)
      return (yield* Moves.write(wire, view, move, patience)) !== undefined
    }
    const record = view.current.stored.sequence
    const reopened = Moves.awaiting(subjects, view.current, {
      ...progress,
      after: record,
      batch: { ...state, phase: "open", generation: state.generation + 1, heldUntil },
    }, heldUntil)
    if ((yield* Moves.write(wire, view, reopened, patience)) === undefined) return false
    yield* Conditional.remove(wire, view.address.partition, record)
    return true
  })

  return { create, update, release, look, tick, cancelMembers, hold }
}
