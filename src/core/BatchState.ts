/**
 * Where a batch stands, as its own message keeps it. A batch is a job of the engine that waits for its
 * members: it awaits while they live, and ends as succeeded, failed (some member did not succeed) or
 * cancelled, so whatever follows a job may follow a batch.
 */
import { maxInstantMillis } from "./Limits.ts"

/**
 * `building`: nobody but its builder knows it. `releasing`: it is committed, and its members are on
 * their way to their queues. `open`: all members are where they belong; it ends when none lives.
 * `adding`: as open, and somebody stores further members that nobody sees yet. `abandoned`: it was
 * never committed and is being removed.
 */
export type Phase = "building" | "releasing" | "open" | "adding" | "abandoned"

/** What a batch's message says. */
export interface BatchState {
  readonly phase: Phase
  /** Members that were added to it, nested batches included. */
  readonly total: number
  /** Counts how often somebody began to add to it, so that who was given up can tell. */
  readonly generation: number
  /**
   * Until when (ms since 1970) those may take who add to it or hold it open, before a server gives
   * them up; 0 while there are none.
   */
  readonly heldUntil: number
  /** How many hold it open, because they requeue members: it doesn't end meanwhile. */
  readonly holders: number
}

const phases: ReadonlyArray<Phase> = ["building", "releasing", "open", "adding", "abandoned"]

/** Whether nobody but its builder knows of it. */
export const isSecret = ({ phase }: BatchState): boolean =>
  phase === "building" || phase === "abandoned"

/** Held open by one more, until an instant at least. */
export const held = (batch: BatchState, until: number): BatchState => ({
  ...batch,
  holders: batch.holders + 1,
  heldUntil: Math.max(batch.heldUntil, until),
})

/** Held open by one less. */
export const released = (batch: BatchState): BatchState => {
  const holders = Math.max(0, batch.holders - 1)
  return { ...batch, holders, heldUntil: holders > 0 || isBuiltOn(batch) ? batch.heldUntil : 0 }
}

/** In another phase, in which nobody adds to it. */
export const inPhase = (batch: BatchState, phase: "releasing" | "open"): BatchState => ({
  ...batch,
  phase,
  heldUntil: batch.holders > 0 ? batch.heldUntil : 0,
})

/** Added to by one who says so first, and is known by the generation. */
export const adopted = (batch: BatchState, until: number): BatchState => ({
  ...batch,
  phase: "adding",
  generation: batch.generation + 1,
  heldUntil: Math.max(batch.heldUntil, until),
})

/** Without those who have been silent for too long. What was being added to it is no one's. */
export const givenUp = (batch: BatchState): BatchState => ({
  ...batch,
  phase: batch.phase === "building" ? "abandoned" : batch.phase,
  holders: 0,
  heldUntil: 0,
})

/** Whether somebody stores members of it. */
export const isBuiltOn = ({ phase }: BatchState): boolean =>
  phase === "building" || phase === "adding"

/** The form on the wire. */
export const toWire = (batch: BatchState): ReadonlyArray<number> => [
  phases.indexOf(batch.phase),
  batch.total,
  batch.generation,
  batch.heldUntil,
  batch.holders,
]

/** From the wire; `undefined` for what isn't that. */
export const fromWire = (value: unknown): BatchState | undefined => {
  if (!Array.isArray(value)) return undefined
  if (!value.every((item) => Number.isFinite(item) && item >= 0)) return undefined
  if (!(Number(value[3] ?? 0) < maxInstantMillis)) return undefined
  const [index = -1, total = 0, generation = 0, heldUntil = 0, holders = 0] = value as Array<number>
  const phase = phases[index]
  return phase === undefined ? undefined : { phase, total, generation, heldUntil, holders }
}
