/** Lists of jobs by state, in pages. */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import type { JobState, WireState } from "../core/JobState.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { maxNameLength } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import * as Lists from "../nats/Lists.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Servers from "./InspectServers.ts"
import * as JobRecord from "./JobRecord.ts"
import { unlock } from "./Unlock.ts"

/** Which jobs to list. */
export interface ListOptions {
  /** The state that they are in. */
  readonly state: JobState
  /** The queue: of waiting jobs the one they wait in, of ended ones the one they were created for. */
  readonly queue?: string | undefined
  /** Name of the definition. */
  readonly name?: string | undefined
  /** The batch that they belong to. */
  readonly group?: string | undefined
  /** Most jobs of the page, 1 to 1,000; default 50. */
  readonly limit?: number | undefined
  /** Where the page begins: the `cursor` of the page before. The other options stay the same. */
  readonly cursor?: string | undefined
}

/** Jobs in one state. */
export interface JobPage {
  /** Waiting ones oldest first, ended ones newest first. */
  readonly jobs: ReadonlyArray<JobRecord.JobRecord>
  /** Where the next page begins; absent after the last one. */
  readonly cursor?: string | undefined
}

const wireStates: Readonly<Record<JobState, WireState>> = {
  awaiting: "await",
  scheduled: "later",
  enqueued: "ready",
  processing: "ready",
  retrying: "retry",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
}

const listKeys: ReadonlyArray<string> = ["state", "queue", "name", "group", "limit", "cursor"]
const maxLimit = 1_000
const legal: Readonly<Record<"token" | "name", RegExp>> = {
  token: /^[A-Za-z0-9_-]+$/,
  name: /^[A-Za-z0-9_/-]+$/,
}

/** Checks a name that may be one of the engine's own. */
export const checkToken = (
  field: string,
  value: unknown,
  kind: keyof typeof legal = "token",
): InvalidOptions | undefined =>
  value === undefined ||
    typeof value === "string" && value.length <= maxNameLength && legal[kind].test(value)
    ? undefined
    : new InvalidOptions({
      field,
      value: show(value),
      reason: `a name has 1 to ${maxNameLength} letters, digits, "_"` +
        `${kind === "name" ? ', "/"' : ""} and "-"`,
    })

const check = (options: ListOptions): InvalidOptions | undefined => {
  const { group, limit = 50, name, queue, state } = options
  if (!Object.hasOwn(wireStates, state)) {
    const reason = `it is one of ${Object.keys(wireStates).join(", ")}`
    return new InvalidOptions({ field: "state", value: show(state), reason })
  }
  if (!Number.isInteger(limit) || limit < 1 || limit > maxLimit) {
    const reason = `it is a whole number from 1 to ${maxLimit}`
    return new InvalidOptions({ field: "limit", value: show(limit), reason })
  }
  return checkToken("queue", queue) ?? checkToken("group", group) ??
    checkToken("name", name, "name")
}

/** The state, and where each partition goes on, as text that is safe in a URL. */
const encodeCursor = (state: JobState, positions: ReadonlyArray<number>): string =>
  btoa(String.fromCharCode(...MessagePack.encode([state, ...positions])))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")

const decodeCursor = (
  { cursor, state }: ListOptions,
  partitions: number,
): ReadonlyArray<number> | undefined | InvalidOptions => {
  if (cursor === undefined) return undefined
  const refuse = (reason: string) =>
    new InvalidOptions({ field: "cursor", value: show(cursor), reason })
  const malformed = refuse("it is no cursor that a page gave")
  if (typeof cursor !== "string" || !/^[\w-]{1,1000}$/.test(cursor)) return malformed
  try {
    const text = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"))
    const value = MessagePack.decode(Uint8Array.from(text, (char) => char.charCodeAt(0)))
    if (!Array.isArray(value)) return malformed
    const [of, ...positions] = value as Array<unknown>
    if (of !== state) return refuse("it belongs to the list of another state")
    return positions.length === partitions &&
        positions.every((one) => Number.isSafeInteger(one) && Number(one) >= 0)
      ? positions as Array<number>
      : malformed
  } catch {
    return malformed
  }
}

/** Whether a job is the engine's own, and not asked for. */
const isHidden = (options: ListOptions, queue: string, name: string): boolean =>
  (queue.startsWith("_") || name.startsWith("_")) &&
  !options.queue?.startsWith("_") && !options.name?.startsWith("_")

/** What servers say they run. */
const running = (wire: Wire): Effect.Effect<ReadonlyArray<Servers.Located>, NatsError> =>
  Effect.flatMap(
    Servers.present(wire),
    ({ length }) =>
      Effect.map(
        Servers.describe(wire, length),
        (answers) => [...answers.values()].flatMap(({ jobs }) => jobs),
      ),
  )

/** The record without schemas; `undefined` for one that can't be read even so. */
const recordOf = (
  { encryption }: Wire,
  message: Records.JobMessage,
): Effect.Effect<JobRecord.JobRecord | undefined> =>
  Effect.flatMap(
    unlock(encryption, message),
    (it) =>
      Effect.catchTag(
        JobRecord.fromMessage(it, JobRecord.plainDecoders),
        "UnreadableRecord",
        () => Effect.succeed(undefined),
      ),
  )

/** Jobs that are looked up at once. */
const lookedUp = 100

/** A page of what servers run, by the sequences of the jobs' messages. */
const processing = Effect.fnUntraced(function* (
  wire: Wire,
  options: ListOptions,
  from: ReadonlyArray<number> | undefined,
) {
  const { partitions, reader, subjects } = wire
  const { group, limit = 50, name, queue } = options
  // The lowest sequences of every partition, merged by when their attempts began.
  const lanes = Array.from({ length: partitions }, (): Array<Servers.Located> => [])
  for (const job of yield* running(wire)) {
    const matches = job.sequence >= (from?.[job.partition] ?? 0) &&
      (from === undefined || (from[job.partition] ?? 0) > 0) &&
      (queue === undefined || job.queue === queue) &&
      (group === undefined || job.group === group) &&
      (name === undefined || job.name === name) && !isHidden(options, job.queue, job.name)
    if (matches) lanes[job.partition]?.push(job)
  }
  for (const lane of lanes) lane.sort((a, b) => b.sequence - a.sequence)
  const chosen: Array<Servers.Located> = []
  while (chosen.length < limit) {
    const next = lanes.reduce<Array<Servers.Located> | undefined>((best, lane) => {
      const [head, other] = [lane.at(-1)?.started, best?.at(-1)?.started]
      return head !== undefined && (other === undefined || head < other) ? lane : best
    }, undefined)
    const job = next?.pop()
    if (job === undefined) break
    chosen.push(job)
  }
  const messages = new Map<string, Array<Records.JobMessage>>()
  for (let partition = 0; partition < partitions; partition++) {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const here = chosen.filter((job) => job.partition === partition)
    for (let at = 0; at < here.length; at += lookedUp) {
      const filters = here.slice(at, at + lookedUp).map(subjects.job)
      for (const message of Records.parse(subjects, yield* reader.newest(stream, filters))) {
        const key = Lists.keyOf(message.subject)
        messages.set(key, [...messages.get(key) ?? [], message])
      }
    }
  }
  const jobs: Array<JobRecord.JobRecord> = []
  for (const { attempt: number, server, started, ...job } of chosen) {
    const message = Records.current(messages.get(Lists.keyOf(job)) ?? [])
    // It has ended since the server spoke.
    if (message === undefined || message.subject.state !== "ready") continue
    const record = yield* recordOf(wire, message)
    if (record === undefined) continue
    jobs.push({ ...record, state: "processing", running: { number, server, started } })
  }
  const next = lanes.map((lane) => lane.at(-1)?.sequence ?? 0)
  return { jobs, next: next.some((sequence) => sequence > 0) ? next : undefined }
})

/** A page of any other state. */
const resting = Effect.fnUntraced(function* (
  wire: Wire,
  options: ListOptions,
  from: ReadonlyArray<number> | undefined,
) {
  const { group, limit = 50, name, queue, state } = options
  const runs = new Set(state === "enqueued" ? (yield* running(wire)).map(Lists.keyOf) : [])
  const { messages, next } = yield* Lists.list(wire, {
    ...{ state: wireStates[state], queue, group, limit, from },
    accepts: (message) => {
      const { envelope, subject } = message
      return (name === undefined || envelope.name === name) && !runs.has(Lists.keyOf(subject)) &&
        !isHidden(options, subject.queue, envelope.name) && !Records.isHidden(message)
    },
  })
  const jobs = yield* Effect.forEach(messages, (message) => recordOf(wire, message))
  return { jobs: jobs.filter((job) => job !== undefined), next }
})

/** One page of the jobs in a state. */
export const list = (
  wire: Wire,
  options: ListOptions,
): Effect.Effect<JobPage, InvalidOptions | NatsError> =>
  Effect.suspend((): Effect.Effect<JobPage, InvalidOptions | NatsError> => {
    const refused = checkKeys("options", options, listKeys) ?? check(options)
    if (refused !== undefined) return Effect.fail(refused)
    const from = decodeCursor(options, wire.partitions)
    if (from instanceof InvalidOptions) return Effect.fail(from)
    return Effect.map(
      options.state === "processing"
        ? processing(wire, options, from)
        : resting(wire, options, from),
      ({ jobs, next }): JobPage => ({
        jobs,
        cursor: next && encodeCursor(options.state, next),
      }),
    )
  })
