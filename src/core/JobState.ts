/**
 * The states of a job and the arrows between them, as one pure table. Every operation goes through
 * it: an arrow that isn't here does not exist.
 *
 * Beside Hangfire's words: its Deleted is `cancelled`; its Failed is `failed`, final here; its
 * scheduled retry is `retrying`.
 */

/** State of a job. */
export type JobState =
  | "awaiting"
  | "scheduled"
  | "enqueued"
  | "processing"
  | "retrying"
  | "succeeded"
  | "failed"
  | "cancelled"

/** Which states may follow each state. */
export const next: Readonly<Record<JobState, ReadonlyArray<JobState>>> = {
  awaiting: ["awaiting", "scheduled", "enqueued", "cancelled", "succeeded", "failed"],
  scheduled: ["scheduled", "enqueued", "cancelled"],
  enqueued: ["enqueued", "scheduled", "processing", "cancelled", "failed"],
  processing: ["enqueued", "scheduled", "retrying", "succeeded", "failed", "cancelled"],
  retrying: ["retrying", "enqueued", "cancelled"],
  succeeded: ["enqueued", "awaiting"],
  failed: ["enqueued", "awaiting"],
  cancelled: ["enqueued", "awaiting"],
}

/** What can be asked for a job. */
export type OperationName = "cancel" | "requeue" | "runNow" | "reschedule" | "move" | "remove"

/** In which states an operation can be done; in all others it is answered with the state. */
export const accepts: Readonly<Record<OperationName, ReadonlyArray<JobState>>> = {
  cancel: ["awaiting", "scheduled", "enqueued", "processing", "retrying"],
  requeue: ["succeeded", "failed", "cancelled"],
  runNow: ["scheduled", "retrying"],
  reschedule: ["scheduled", "retrying", "enqueued"],
  move: ["awaiting", "scheduled", "enqueued", "retrying"],
  remove: ["succeeded", "failed", "cancelled"],
}

/** Whether the table has an arrow from one state to the other. */
export const can = (from: JobState, to: JobState): boolean => next[from].includes(to)

/** Whether a job in this state has ended. */
export const isFinal = (state: JobState): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled"

/**
 * State as it stands in a message's subject. `ready` covers `enqueued` and `processing`: a job that
 * runs is a ready message held by a server.
 */
export type WireState =
  | "ready"
  | "later"
  | "retry"
  | "await"
  | "part"
  | "succeeded"
  | "failed"
  | "cancelled"

/** The final states, as they stand in subjects. */
export type FinalState = "succeeded" | "failed" | "cancelled"

/** All final states. Messages name them by their places in this list, so its order stays. */
export const finalStates: ReadonlyArray<FinalState> = ["succeeded", "failed", "cancelled"]

const states: Readonly<Record<WireState, JobState>> = {
  ready: "enqueued",
  later: "scheduled",
  retry: "retrying",
  await: "awaiting",
  part: "processing",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
}

/** The job's state for the state in its message's subject. */
export const fromWire = (state: WireState): JobState => states[state]

/** Whether a token of a subject is a state. */
export const isWireState = (token: string): token is WireState => Object.hasOwn(states, token)
