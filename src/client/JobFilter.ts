/** Which jobs an operation is for, when it is for more than can be named. */
import type * as Duration from "effect/Duration"
import { InvalidOptions } from "../core/errors.ts"
import * as JobState from "../core/JobState.ts"
import { checkJobName, checkKeys, checkName, show } from "../core/Names.ts"
import { millisOf } from "../core/Time.ts"
import * as Records from "../nats/Records.ts"
import { checkToken } from "./InspectList.ts"
import type { Operation } from "./Operation.ts"

/**
 * Which jobs: those that fulfil everything that is said. At least one thing has to be said; `all` says
 * that really every job is meant. Jobs of the engine itself, batches among them, are never meant.
 */
export interface JobFilter {
  /** States they are in; default all in which the operation can be done. */
  readonly state?: JobState.JobState | ReadonlyArray<JobState.JobState> | undefined
  /** The queue: of waiting jobs the one they wait in, of ended ones the one they were created for. */
  readonly queue?: string | undefined
  /** Name of the definition. */
  readonly name?: string | undefined
  /** The batch that they belong to. */
  readonly group?: string | undefined
  /** Created longer ago than this. */
  readonly olderThan?: Duration.Input | undefined
  /** Created within this time. */
  readonly newerThan?: Duration.Input | undefined
  /** Text in the reason of their end or in the message of their last attempt, in any case. */
  readonly error?: string | undefined
  /** That nothing else need be said. */
  readonly all?: true | undefined
}

/** A filter with its values checked and its times as instants; it can travel. */
export interface ResolvedFilter {
  readonly states: ReadonlyArray<JobState.JobState>
  readonly queue?: string | undefined
  readonly name?: string | undefined
  readonly group?: string | undefined
  /** Created before this instant, in ms since 1970. */
  readonly before?: number | undefined
  /** Created at this instant or after it. */
  readonly since?: number | undefined
  /** In lower case. */
  readonly error?: string | undefined
}

const filterKeys: ReadonlyArray<string> = [
  "state",
  "queue",
  "name",
  "group",
  "olderThan",
  "newerThan",
  "error",
  "all",
]

const refuse = (field: string, value: unknown, reason: string) =>
  new InvalidOptions({ field, value: show(value), reason })

const statesOf = (
  state: JobFilter["state"],
  accepted: ReadonlyArray<JobState.JobState>,
  operation: string,
): ReadonlyArray<JobState.JobState> | InvalidOptions => {
  if (state === undefined) return accepted
  const states: ReadonlyArray<unknown> = Array.isArray(state) ? state : [state]
  const reason = `${operation} can be done in ${accepted.join(", ")}`
  if (states.length === 0) return refuse("state", "an empty list", reason)
  for (const one of states) {
    if (!accepted.includes(one as JobState.JobState)) return refuse("state", one, reason)
  }
  return states as ReadonlyArray<JobState.JobState>
}

const checked = (
  check: (field: string, value: unknown) => InvalidOptions | undefined,
  field: string,
  value: unknown,
): InvalidOptions | undefined => value === undefined ? undefined : check(field, value)

/** Checks a filter; `now` in ms since 1970 is what ages count from. */
export const resolve = (
  filter: JobFilter,
  operation: Operation,
  now: number,
): ResolvedFilter | InvalidOptions => {
  const unknown = checkKeys("filter", filter, filterKeys)
  if (unknown !== undefined) return unknown
  const { all, error, group, name, newerThan, olderThan, queue, state } = filter
  if (all !== undefined && all !== true) return refuse("all", all, "it is true or left out")
  if (Object.values(filter).every((value) => value === undefined)) {
    const reason = "a filter that says nothing means every job; say `all: true` for that"
    return refuse("filter", "nothing", reason)
  }
  const illegal = checked(checkName, "queue", queue) ?? checked(checkJobName, "name", name) ??
    checkToken("group", group)
  if (illegal !== undefined) return illegal
  if (error !== undefined && (typeof error !== "string" || error === "")) {
    return refuse("error", error, "it is a text of at least one character")
  }
  const states = statesOf(state, JobState.accepts[operation._tag], operation._tag)
  if (states instanceof InvalidOptions) return states
  const older = olderThan === undefined ? undefined : millisOf("olderThan", olderThan)
  if (older instanceof InvalidOptions) return older
  const newer = newerThan === undefined ? undefined : millisOf("newerThan", newerThan)
  if (newer instanceof InvalidOptions) return newer
  return {
    states,
    queue,
    name,
    group,
    before: older === undefined ? undefined : now - older,
    since: newer === undefined ? undefined : now - newer,
    error: error?.toLowerCase(),
  }
}

const isOne = (value: unknown, is: (value: unknown) => boolean): boolean =>
  value === undefined || is(value)

const isNumber = (value: unknown): boolean => typeof value === "number"

/** Whether a value that was read is a filter: what isn't understood must not mean every job. */
export const isResolved = (value: unknown): value is ResolvedFilter => {
  if (typeof value !== "object" || value === null) return false
  const { before, error, group, name, queue, since, states, ...rest } = value as Readonly<
    Record<string, unknown>
  >
  return Object.keys(rest).length === 0 && Array.isArray(states) &&
    isOne(queue, (queue) => checkName("queue", queue) === undefined) &&
    isOne(name, (name) => checkJobName("name", name) === undefined) &&
    isOne(group, (group) => checkToken("group", group as string) === undefined) &&
    isOne(before, isNumber) && isOne(since, isNumber) &&
    isOne(error, (error) => typeof error === "string")
}

/** States of messages in which such jobs can be, in the order in which jobs move on. */
export const wireStates = ({ states }: ResolvedFilter): ReadonlyArray<JobState.WireState> =>
  ordered.filter((wire) =>
    states.includes(JobState.fromWire(wire)) || wire === "ready" && states.includes("processing")
  )

const ordered: ReadonlyArray<JobState.WireState> = [
  "await",
  "later",
  "retry",
  "ready",
  "succeeded",
  "failed",
  "cancelled",
]

const mentions = (text: string | undefined, part: string): boolean =>
  text !== undefined && text.toLowerCase().includes(part)

/**
 * Whether a message that lies under the filter's subjects is that of a job that is meant. Of a ready
 * one only servers know whether it runs.
 */
export const matches = (
  { before, error, name, since }: ResolvedFilter,
  message: Records.JobMessage,
): boolean => {
  const { envelope, subject } = message
  const { created, outcome, progress } = envelope
  return !envelope.name.startsWith("_") && !subject.queue.startsWith("_") &&
    !Records.isHidden(message) &&
    (name === undefined || envelope.name === name) &&
    (before === undefined || created < before) && (since === undefined || created >= since) &&
    (error === undefined || mentions(outcome?.reason, error) ||
      mentions(progress.history.at(-1)?.message, error))
}
