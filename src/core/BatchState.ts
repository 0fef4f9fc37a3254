/**
 * Where a batch stands, as its own message keeps it. A batch is a job of the engine that waits for its
 * members: it awaits while they live, and ends as succeeded, failed (some member did not succeed) or
 * cancelled, so whatever follows a job may follow a batch.
 */

/**
 * `building`: nobody but its builder knows it. `releasing`: it is committed, and its members are on
 * their way to their queues. `open`: all members are where they belong; it ends when none lives.
 */
export type Phase = "building" | "releasing" | "open"

/** What a batch's message says. */
export interface BatchState {
  readonly phase: Phase
  /** Members that were added to it, nested batches included. */
  readonly total: number
  /** Counts how often it was built on: once, and once for each addition. */
  readonly generation: number
  /** It doesn't end before this instant (ms since 1970), because somebody adds to it; 0 for none. */
  readonly heldUntil: number
}

const phases: ReadonlyArray<Phase> = ["building", "releasing", "open"]

/** The form on the wire. */
export const toWire = (batch: BatchState): ReadonlyArray<number> => [
  phases.indexOf(batch.phase),
  batch.total,
  batch.generation,
  batch.heldUntil,
]

/** From the wire; `undefined` for what isn't that. */
export const fromWire = (value: unknown): BatchState | undefined => {
  if (!Array.isArray(value) || !value.every((item) => typeof item === "number")) return undefined
  const [index = -1, total = 0, generation = 0, heldUntil = 0] = value as Array<number>
  const phase = phases[index]
  return phase === undefined ? undefined : { phase, total, generation, heldUntil }
}
