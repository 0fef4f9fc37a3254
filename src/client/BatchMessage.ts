/**
 * The message of a batch, which is its state, its lock and its alarm: every change is one write on the
 * condition that nobody else has changed it since it was read.
 */
import * as Effect from "effect/Effect"
import type * as BatchState from "../core/BatchState.ts"
import * as Envelope from "../core/Envelope.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** Name of the engine's jobs that are batches. */
const batchName = "_batch"

/** What a batch was given. */
export interface Description {
  readonly description?: string | undefined
}

/** Whether a batch hasn't ended. */
export const isLive = ({ current }: JobView.JobView): boolean => !Records.isRecord(current.subject)

/** What the message of a batch says; `undefined` for a job that is none. */
export const stateOf = (view: JobView.JobView): BatchState.BatchState | undefined =>
  view.current.envelope.progress.batch

/** The next state of a batch, made from the one it has; `undefined` when there is nothing to write. */
export type Change = (state: BatchState.BatchState) => BatchState.BatchState | undefined

/** The messages of batches that live. */
export interface BatchMessage {
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
  /** The move that gives a batch another state, and its alarm with it. */
  readonly withState: (view: JobView.JobView, batch: BatchState.BatchState) => Moves.Move
  /** When the alarm of a batch in this state fires, in ms since 1970. */
  readonly tickOf: (batch: BatchState.BatchState, group: string) => number
}

/** Makes it for a namespace. */
export const make = (wire: Wire, patience: number): BatchMessage => {
  const { alarmMillis, clock, subjects } = wire

  const tickOf: BatchMessage["tickOf"] = ({ heldUntil, phase }, group) =>
    // A nested batch that is being built is looked after by the one that it is part of.
    phase === "building" && group !== Subjects.noGroup
      ? Moves.never
      : Math.max(heldUntil, clock.now() + alarmMillis)

  const withState: BatchMessage["withState"] = (view, batch) =>
    Moves.awaiting(
      subjects,
      view.current,
      { ...view.current.envelope.progress, batch },
      tickOf(batch, view.address.group),
    )

  const create: BatchMessage["create"] = Effect.fnUntraced(
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

  const update: BatchMessage["update"] = Effect.fnUntraced(function* (batch, change) {
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

  return { create, update, withState, tickOf }
}
