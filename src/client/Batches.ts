/**
 * What the engine does with batches. A batch is a job of the engine, `_batch`, that awaits its
 * members; its message is its state, its lock and its alarm: every change is one conditional write,
 * and a server looks after it when its alarm fires. Members are jobs whose group is the batch's id;
 * those that nobody is to see yet lie on subjects of their own (`Moves.staged`).
 *
 * It ends when no member lives. Whoever ends members looks soon afterwards, and the alarm looks again
 * and again in case that somebody died in between (W19).
 */
import type { Wire } from "../nats/Wire.ts"
import * as BatchAlarm from "./BatchAlarm.ts"
import * as BatchCancel from "./BatchCancel.ts"
import * as BatchEnd from "./BatchEnd.ts"
import * as BatchGiveUp from "./BatchGiveUp.ts"
import * as BatchHolds from "./BatchHolds.ts"
import * as BatchMembers from "./BatchMembers.ts"
import * as BatchMessage from "./BatchMessage.ts"
import * as BatchRelease from "./BatchRelease.ts"
import * as BatchStaged from "./BatchStaged.ts"
import type { Finish } from "./Finish.ts"

export type { Looked, Summary } from "./BatchEnd.ts"

/** The engine's part of batches in a namespace. */
export interface Batches
  extends
    Pick<BatchMessage.BatchMessage, "create" | "update">,
    BatchHolds.BatchHolds,
    Pick<BatchCancel.BatchCancel, "cancelMembers">,
    Pick<BatchGiveUp.BatchGiveUp, "giveUp"> {
  /** Sends all staged members on their way, those of nested batches too, and opens the batch. */
  readonly release: BatchRelease.Release
  /** Ends a batch, if none of its members lives. */
  readonly look: BatchEnd.Look
  /** What a server does when the alarm of a batch has fired. */
  readonly tick: BatchAlarm.Tick
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
  const message = BatchMessage.make(wire, patience)
  const members = BatchMembers.make(wire, patience)
  const staged = BatchStaged.make(wire, message, members)
  const holds = BatchHolds.make(wire, patience, { memberEnded, message, staged })
  const look = BatchEnd.make(wire, patience, members, finish)
  const { cancelMembers, followCancelled } = BatchCancel.make(wire, { finish, members, staged })
  const release = BatchRelease.make(wire, { followCancelled, look, members, message })
  const { giveUp, giveUpAddition } = BatchGiveUp.make(message, staged, look)
  const tick = BatchAlarm.make(wire, { finish, giveUpAddition, look, message, release, staged })
  const { create, update } = message
  return { ...holds, create, update, release, look, tick, cancelMembers, giveUp }
}
