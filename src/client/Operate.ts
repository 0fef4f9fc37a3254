/**
 * Does operations on single jobs. Each is a loop of look, decide and write, of which the write is
 * conditional on the look; what has to follow is found by whoever meets the result, should we die.
 */
import * as Effect from "effect/Effect"
import type * as Envelope from "../core/Envelope.ts"
import type { InvalidOptions } from "../core/errors.ts"
import * as JobState from "../core/JobState.ts"
import * as AtomicBatch from "../nats/AtomicBatch.ts"
import * as Claims from "../nats/Claims.ts"
import * as Conditional from "../nats/Conditional.ts"
import { Code, type NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { announceEnded } from "../nats/Notices.ts"
import { conditionLines } from "../nats/Publisher.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { TopologyConflict } from "../nats/Topology.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Command from "./Command.ts"
import type { Engine } from "./Engine.ts"
import type { Transition } from "./Middleware.ts"
import * as Moves from "./Moves.ts"
import type {
  Answer,
  Cancel,
  Expected,
  Move,
  Operation,
  Requeue,
  Reschedule,
  RunNow,
} from "./Operation.ts"
import { moveOf, placeAfter } from "./OperationMove.ts"
import { findRunning } from "./Running.ts"

/** Why an operation couldn't be done. */
export type OperateError = NatsError | TopologyConflict | InvalidOptions

/** What doing an operation needs. */
export interface Context {
  readonly wire: Wire
  readonly engine: Engine
  readonly patience: number
  readonly ensureQueue: (queue: string) => Effect.Effect<void, OperateError>
  /** Told of every change. */
  readonly notify: (view: JobView.JobView, answer: Answer & { readonly _tag: "changed" }) => void
}

/** What observers are told of a change. */
export const transitionOf = (
  { current: { envelope: { name } } }: JobView.JobView,
  { from, id, to }: Answer & { readonly _tag: "changed" },
): Transition => {
  // What leaves a job as it ended has removed its record.
  const isRemoved = JobState.isFinal(from) && from === to
  return { id, name, from, to: isRemoved ? "deleted" : to }
}

/** State of a job as its message tells it. */
export const stateOf = ({ current }: JobView.JobView): JobState.JobState => Records.stateOf(current)

const isExpected = (
  view: JobView.JobView,
  state: JobState.JobState,
  { ifRevision, ifState }: Expected,
): boolean =>
  (ifState === undefined || ifState === state ||
    (Array.isArray(ifState) && ifState.includes(state))) &&
  (ifRevision === undefined || ifRevision === view.current.stored.sequence)

/** Does an operation on the job that `look` finds. */
export const operate: (
  context: Context,
  id: string,
  look: Effect.Effect<JobView.JobView | undefined, NatsError>,
  operation: Operation,
  expected?: Expected,
) => Effect.Effect<Answer, OperateError> = Effect.fnUntraced(
  function* (context, id, look, operation, expected = {}) {
    const accepted = JobState.accepts[operation._tag]
    while (true) {
      const view = yield* look
      if (view === undefined || Records.isHidden(view.current)) return { _tag: "notFound", id }
      let from = stateOf(view)
      // Only the servers know.
      if (from === "enqueued") {
        if ((yield* findRunning(context.wire, view.address.id)) !== undefined) from = "processing"
      }
      if (!accepted.includes(from) || !isExpected(view, from, expected)) {
        return { _tag: "conflict", id, state: from }
      }
      const done = yield* attempt(context, view, operation)
      if (done === undefined) continue
      if (typeof done === "object") return { _tag: "conflict", id, state: from }
      const answer = { _tag: "changed", id, from, to: done } as const
      context.notify(view, answer)
      return answer
    }
  },
)

/** The state that the job is in now; `undefined` when somebody was faster, `{}` when it can't be. */
type Done = JobState.JobState | undefined | { readonly refused: true }

const attempt = (
  context: Context,
  view: JobView.JobView,
  operation: Operation,
): Effect.Effect<Done, OperateError> => {
  switch (operation._tag) {
    case "cancel":
      return cancel(context, view, operation)
    case "requeue":
      return requeue(context, view, operation)
    case "remove":
      return remove(context, view)
    default:
      return relocate(context, view, operation)
  }
}

/**
 * Writes a move together with the command that finishes what it begins. What waits for a time leaves
 * no message behind by which anybody would meet its end.
 */
const writeWithCommand = (
  { patience, wire }: Context,
  { address, newest }: JobView.JobView,
  { headers, payload, subject }: Moves.Move,
  name: `_${string}`,
  content: unknown,
): Effect.Effect<boolean, NatsError> => {
  const command = Command.message(wire, address.partition, name, content)
  return AtomicBatch.publish(
    wire.nats.connection,
    [
      {
        subject,
        payload,
        messageId: `${command.id}-0`,
        headers: headers + conditionLines(newest, wire.subjects.job(address)),
      },
      { subject: command.subject, payload: command.payload, messageId: `${command.id}-1` },
    ],
    patience,
  ).pipe(
    Effect.as(true),
    Effect.catchTag(
      "Rejected",
      (error) => error.code === Code.wrongLastSequence ? Effect.succeed(false) : Effect.fail(error),
    ),
  )
}

const addressParts = ({ group, id, partition }: Subjects.Address) => [partition, group, id]

/** The state that a move leads to. */
const stateAfter = ({ to }: Moves.Move): JobState.JobState => JobState.fromWire(to)

const cancel = Effect.fnUntraced(function* (
  context: Context,
  view: JobView.JobView,
  operation: Cancel,
): Effect.fn.Return<Done, OperateError> {
  const { engine, patience, wire } = context
  const { address, current } = view
  const end = moveOf(wire, current, operation, wire.clock.now())
  if (end === undefined) return undefined
  const isReady = current.subject.state === "ready"
  if (isReady) {
    if ((yield* Moves.write(wire, view, end, patience)) === undefined) return undefined
    Conditional.announceVoid(wire, address.partition, [current.stored.sequence])
  } else {
    yield* context.ensureQueue(Subjects.engineQueue)
    const parts = addressParts(address)
    if (!(yield* writeWithCommand(context, view, end, Command.finishName, parts))) return undefined
  }
  const { claim } = current.envelope.progress
  if (claim !== undefined) yield* Claims.releaseClaim(wire, address, claim)
  announceEnded(wire, [address.id])
  // From here on a server would do the same, who meets the message or runs the command.
  yield* engine.meet(address)
  if (isReady) yield* Conditional.remove(wire, address.partition, current.stored.sequence)
  return stateAfter(end)
})

const requeue = Effect.fnUntraced(function* (
  context: Context,
  view: JobView.JobView,
  operation: Requeue,
): Effect.fn.Return<Done, OperateError> {
  const { engine, patience, wire } = context
  const { address, current } = view
  // A batch opens again when something is added to it.
  if (current.envelope.progress.batch !== undefined) return { refused: true }
  const claimed = yield* Claims.reclaim(wire, address, current.envelope, patience)
  if (claimed._tag === "Taken") return { refused: true }
  const again = requeueNow(context, view, operation, claimed.claim)
  // Its batch mustn't end, or must be open again, before it lives.
  return yield* address.group === Subjects.noGroup
    ? again
    : engine.batches.holding(address.group, again, { refused: true })
})

const requeueNow = Effect.fnUntraced(function* (
  context: Context,
  view: JobView.JobView,
  operation: Requeue,
  claim: Envelope.Claim | undefined,
): Effect.fn.Return<Done, OperateError> {
  const { patience, wire } = context
  const { address, current } = view
  const record = current.stored.sequence
  yield* context.ensureQueue(placeAfter(current.envelope, operation).queue)
  const again = moveOf(wire, current, operation, wire.clock.now(), claim)
  if (again === undefined) return undefined
  if (operation.revive) {
    yield* context.ensureQueue(Subjects.engineQueue)
    const content = [...addressParts(address), record]
    if (!(yield* writeWithCommand(context, view, again, Command.reviveName, content))) {
      return undefined
    }
  } else if ((yield* Moves.write(wire, view, again, patience)) === undefined) return undefined
  for (const sequence of [record, ...view.stale]) {
    yield* Conditional.remove(wire, address.partition, sequence)
  }
  return stateAfter(again)
})

/** Lets a job that hasn't ended wait elsewhere, or until another time. */
const relocate = Effect.fnUntraced(function* (
  context: Context,
  view: JobView.JobView,
  operation: RunNow | Reschedule | Move,
): Effect.fn.Return<Done, OperateError> {
  const { patience, wire } = context
  const { address, current } = view
  // A batch waits in no queue.
  if (current.envelope.progress.batch !== undefined) return { refused: true }
  yield* context.ensureQueue(placeAfter(current.envelope, operation).queue)
  const move = moveOf(wire, current, operation, wire.clock.now())
  if (move === undefined) return stateOf(view)
  if ((yield* Moves.write(wire, view, move, patience)) === undefined) return undefined
  if (current.subject.state === "ready") {
    Conditional.announceVoid(wire, address.partition, [current.stored.sequence])
    yield* Conditional.remove(wire, address.partition, current.stored.sequence)
  }
  return stateAfter(move)
})

const remove = Effect.fnUntraced(function* (
  { engine, wire }: Context,
  { address, current: { stored, subject }, stale }: JobView.JobView,
): Effect.fn.Return<Done, OperateError> {
  // Nobody can finish what its end began once the record is gone.
  yield* engine.meet(address)
  // Copies of its messages first: without the record one of them would make it run again.
  for (const sequence of stale) yield* Conditional.remove(wire, address.partition, sequence)
  if (!(yield* Conditional.take(wire, address.partition, stored.sequence))) return undefined
  // A requeue that was faster has left the record for whoever deletes it first.
  const now = yield* JobView.at(wire, address)
  const isRequeued = now !== undefined && now.current.envelope.progress.after >= stored.sequence
  return isRequeued ? undefined : JobState.fromWire(subject.state)
})
