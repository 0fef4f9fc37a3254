/**
 * Does an operation on the jobs of one state in one partition: most of a page in one pipeline, by
 * itself what needs more than one write or has moved on meanwhile.
 */
import * as Effect from "effect/Effect"
import * as JobState from "../core/JobState.ts"
import * as Claims from "../nats/Claims.ts"
import * as Conditional from "../nats/Conditional.ts"
import * as JobView from "../nats/JobView.ts"
import type * as Links from "../nats/Links.ts"
import { announceEnded } from "../nats/Notices.ts"
import type * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import * as Sweep from "../nats/Sweep.ts"
import { matches } from "./JobFilter.ts"
import * as Operate from "./Operate.ts"
import { choose, type Range, type Request, type Running } from "./OperateChoice.ts"
import { concurrency, finishAll, removeCopies } from "./OperateEnds.ts"
import { type Page, scan } from "./OperatePages.ts"
import { type Moved, publish } from "./OperatePublish.ts"
import type { Memory, Tally } from "./OperateTally.ts"
import type { Operation } from "./Operation.ts"
import { moveOf, type Moving, placeAfter } from "./OperationMove.ts"

/** A request that is being done. */
export interface Doing {
  readonly context: Operate.Context
  readonly request: Request
  readonly running: Running
  readonly tally: Tally
  readonly keep: Memory["keep"]
}

const viewOf = (message: Records.JobMessage): JobView.JobView => ({
  address: message.subject,
  current: message,
  newest: message.stored.sequence,
  stale: [],
})

const endedBy = ({ message, move, sequence }: Moved): Subjects.Address & Links.Ended => {
  const { group, id, partition } = message.subject
  return { partition, group, id, subject: move.subject, sequence }
}

/** Whether what a job needs is more than one write, so that it is done by itself. */
const isSingle = (operation: Operation, { envelope, subject }: Records.JobMessage): boolean =>
  operation._tag === "requeue" &&
  (operation.revive || envelope.progress.claim !== undefined || subject.group !== Subjects.noGroup)

/** Does the request for the jobs of a range. */
export const runRange: (
  doing: Doing,
  range: Range,
) => Effect.Effect<void, Operate.OperateError> = Effect.fnUntraced(function* (
  { context, keep, request, running, tally },
  range,
): Effect.fn.Return<void, Operate.OperateError> {
  const { patience, wire } = context
  const { filter, operation } = request
  const { partition, sequences, state } = range
  const { group, queue } = filter
  const cutoff = request.cutoffs[partition] ?? 0
  const whole = group === undefined && sequences[0] === 1
  const sweep = Sweep.make(wire, partition, whole)

  /** Of a job that has moved on: it is meant only if it still matches, and isn't one of ours. */
  const stillMeant = (view: JobView.JobView | undefined) => {
    if (view === undefined) return undefined
    const { stored, subject } = view.current
    const newer = stored.sequence > cutoff && operation._tag !== "cancel"
    const elsewhere = queue !== undefined && subject.queue !== queue
    return newer || elsewhere || !matches(filter, view.current) ? undefined : view
  }
  const one = Effect.fnUntraced(function* ({ subject }: Records.JobMessage) {
    const look = Effect.map(JobView.at(wire, subject), stillMeant)
    const expected = { ifState: filter.states }
    const { _tag } = yield* Operate.operate(context, subject.id, look, operation, expected)
    if (_tag === "changed") tally.changed++
    else tally.conflicts++
  })
  const changed = ({ message, move }: Moved) => {
    tally.changed++
    const { id } = message.subject
    const from = JobState.fromWire(state)
    const to = JobState.fromWire(move.to)
    context.notify(viewOf(message), { _tag: "changed", id, from, to })
  }

  const moveAll = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<Records.JobMessage>,
    operation: Moving,
    superseded: Set<number>,
  ) {
    const now = wire.clock.now()
    const queues = new Set(jobs.map(({ envelope }) => placeAfter(envelope, operation).queue))
    if (operation._tag !== "cancel") {
      yield* Effect.forEach(queues, context.ensureQueue, { discard: true })
    }
    const moves = jobs.flatMap((message) => {
      const move = moveOf(wire, message, operation, now)
      return move === undefined ? [] : [{ message, move }]
    })
    const { lost, moved } = yield* publish(wire, moves, patience)
    for (const { message, move } of moved) {
      // A move onto the same subject has taken the old message's place, a schedule's is gone.
      const stays = state === "ready" || operation._tag === "requeue"
      if (stays && move.subject !== message.stored.subject) superseded.add(message.stored.sequence)
    }
    if (state === "ready") Conditional.announceVoid(wire, partition, [...superseded])
    if (operation._tag === "cancel") {
      announceEnded(wire, moved.map(({ message }) => message.subject.id))
      yield* Effect.forEach(
        moved,
        ({ message: { envelope: { progress: { claim } }, subject } }) =>
          claim === undefined ? Effect.void : Claims.releaseClaim(wire, subject, claim),
        { concurrency, discard: true },
      )
      yield* finishAll(context, partition, moved.map(endedBy))
      // Whoever requeued some of them may have died before deleting their records of then.
      yield* Effect.forEach(
        moved.map(({ message }) => message.envelope.progress.after).filter((after) => after > 0),
        (after) => Conditional.remove(wire, partition, after),
        { concurrency, discard: true },
      )
    }
    for (const one of moved) changed(one)
    return lost
  })

  const removeRecords = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<Records.JobMessage>,
    superseded: Set<number>,
  ) {
    const ended = jobs.map(({ stored: { sequence, subject: text }, subject }) => {
      const { group, id, partition } = subject
      return { partition, group, id, subject: text, sequence }
    })
    yield* finishAll(context, partition, ended)
    yield* removeCopies(wire, partition, jobs)
    for (const { stored } of jobs) superseded.add(stored.sequence)
    for (const message of jobs) {
      tally.changed++
      const { id } = message.subject
      const from = JobState.fromWire(state)
      context.notify(viewOf(message), { _tag: "changed", id, from, to: from })
    }
  })

  const page = Effect.fnUntraced(function* ({ jobs, read }: Page) {
    const { chosen, leftovers } = yield* choose(wire, request, range, running, jobs)
    tally.matched += chosen.length
    const superseded = new Set(leftovers)
    const single = chosen.filter((message) => isSingle(operation, message))
    const many = chosen.filter((message) => !isSingle(operation, message))
    if (operation._tag === "remove") yield* removeRecords(many, superseded)
    else single.push(...yield* moveAll(many, operation, superseded))
    yield* sweep.page(read, superseded)
    yield* Effect.forEach(single, one, { concurrency, discard: true })
    if (chosen.length > 0) keep(tally)
  })

  yield* scan(wire, partition, { state, queue, group }, sequences, page)
  yield* sweep.end
})
