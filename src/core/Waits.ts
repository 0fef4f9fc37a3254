/**
 * What a job waits for whose turn comes after other jobs: a continuation. Pure: parents are struck
 * off one by one as they end, and the job is released, or cancelled, once that is decided.
 */
import { type FinalState, finalStates as finals } from "./JobState.ts"
import { maxDelayMillis } from "./Limits.ts"

/** How a parent ended. */
export interface ParentOutcome {
  readonly state: FinalState
  /** Its result in the bytes of its success schema; absent when it has none, or none that fits. */
  readonly result?: Uint8Array | undefined
}

/** A parent, in the order in which they were named. */
export interface Parent {
  readonly id: string
  /** How it ended; absent while it hasn't. */
  readonly outcome?: ParentOutcome | undefined
}

/** What a job waits for. */
export interface Waits {
  /** Not built yet: nothing may release it, whatever its parents do. */
  readonly staged: boolean
  /** Whether all parents have to end well enough, or any of them. */
  readonly need: "all" | "any"
  /** Endings of a parent that count. */
  readonly on: ReadonlyArray<FinalState>
  /** Time from the release to the first attempt, in ms. */
  readonly delay: number
  readonly parents: ReadonlyArray<Parent>
}

/** What is decided about a waiting job. */
export type Decision =
  | { readonly _tag: "Wait" }
  | { readonly _tag: "Release" }
  | { readonly _tag: "Cancel"; readonly reason: string }

/** Strikes a parent off. The first outcome of a parent counts. */
export const strike = (waits: Waits, id: string, outcome: ParentOutcome): Waits => ({
  ...waits,
  parents: waits.parents.map((parent) =>
    parent.id === id && parent.outcome === undefined ? { id, outcome } : parent
  ),
})

/** Ids of the parents that haven't ended. */
export const open = (waits: Waits | undefined): ReadonlyArray<string> =>
  (waits?.parents ?? []).filter(({ outcome }) => outcome === undefined).map(({ id }) => id)

/** Whether a job still waits for this parent. */
export const waitsFor = (waits: Waits, id: string): boolean =>
  waits.parents.some((parent) => parent.id === id && parent.outcome === undefined)

const wait: Decision = { _tag: "Wait" }
const release: Decision = { _tag: "Release" }

/** What follows from what has ended so far; nothing, while the job is staged. */
export const decide = ({ need, on, parents, staged }: Waits): Decision => {
  if (staged) return wait
  let open = 0
  let met = 0
  let unmet: Parent | undefined
  for (const parent of parents) {
    if (parent.outcome === undefined) open++
    else if (on.includes(parent.outcome.state)) met++
    else unmet ??= parent
  }
  if (need === "any" ? met > 0 : met === parents.length) return release
  // With all needed, one that can't be had any more decides; with any, the last one does.
  if (unmet === undefined || (need === "any" && open > 0)) return wait
  return {
    _tag: "Cancel",
    reason: `job ${unmet.id}, which it waited for, ended as ${unmet.outcome?.state}; ` +
      `it was to follow ${need === "any" ? "one of its parents" : "it"} on ${on.join(" or ")}`,
  }
}

/** The form on the wire. */
export const toWire = ({ delay, need, on, parents, staged }: Waits): ReadonlyArray<unknown> => [
  staged,
  need === "any",
  on.reduce((bits, state) => bits | (1 << finals.indexOf(state)), 0),
  delay,
  parents.map(({ id, outcome }) =>
    outcome === undefined
      ? [id]
      : outcome.result === undefined
      ? [id, finals.indexOf(outcome.state)]
      : [id, finals.indexOf(outcome.state), outcome.result]
  ),
]

const legalId = /^[\w~-]{1,64}$/

const parentFrom = (value: unknown): Parent | undefined => {
  if (!Array.isArray(value) || typeof value[0] !== "string") return undefined
  const [id, index, result] = value as [string, unknown, unknown]
  if (!legalId.test(id)) return undefined
  if (index === undefined) return { id }
  const state = typeof index === "number" ? finals[index] : undefined
  return state === undefined
    ? undefined
    : { id, outcome: { state, result: result instanceof Uint8Array ? result : undefined } }
}

const isMask = (bits: unknown): bits is number =>
  Number.isInteger(bits) && (bits as number) >= 0 && (bits as number) < 1 << finals.length

/** From the wire; `undefined` for what isn't that. */
export const fromWire = (value: unknown): Waits | undefined => {
  if (!Array.isArray(value)) return undefined
  const [staged, any, bits, delay, list] = value as Array<unknown>
  if (
    typeof staged !== "boolean" || typeof any !== "boolean" || !isMask(bits) ||
    typeof delay !== "number" || !(delay >= 0 && delay <= maxDelayMillis) || !Array.isArray(list)
  ) {
    return undefined
  }
  const parents = list.map(parentFrom)
  return parents.some((parent) => parent === undefined) ? undefined : {
    staged,
    need: any ? "any" : "all",
    on: finals.filter((_, index) => (bits & (1 << index)) !== 0),
    delay,
    parents: parents as ReadonlyArray<Parent>,
  }
}
