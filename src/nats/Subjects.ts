/**
 * The one module that builds and parses subjects.
 *
 *     pf.<ns>.<p>.<state>.<queue>.<lane>.<group>.<id>   a job, in every state
 *     pf.<ns>.<p>.link.-.-.-.<parent>.<child>           a job that follows another one
 *     pf.<ns>.<p>.claim.-.-.-.-.<hash>                  a unique key that a job holds
 *     pf.<ns>.state.…                                   settings and presence
 *     pf.<ns>.log.<id>[.progress]                       what a job wrote while it ran
 *     pf.<ns>.ctl.…                                     actor messages on core NATS
 *
 * Links and claims differ from any job's subject where that has its group, or the server would go
 * through all of them for every condition on a job, whose filter is wild before the group.
 */
import type { Envelope } from "../core/Envelope.ts"
import * as JobId from "../core/JobId.ts"
import { type FinalState, isWireState, type WireState } from "../core/JobState.ts"
import { rfc3339 } from "../core/Time.ts"

/** Group of jobs that belong to no batch. */
export const noGroup = "_"

/** Queue of the engine itself: commands, batches, and jobs that need a step before they can run. */
export const engineQueue = "_engine"

/** Queue in which members of batches lie that nobody sees yet; nobody pulls from it. */
export const stagedQueue = "_staged"

/** Queue in which recurring entries wait for their alarms; nobody pulls from it. */
export const entryQueue = "_recurring"

/** Retention class of records that have no other. */
export const commonRetention = "_"

/** Name of the stream that holds a partition's jobs. */
export const jobsStream = (namespace: string, partition: number): string =>
  `PF_${namespace}_JOBS_${partition}`

/** Name of the stream that holds settings and presence. */
export const stateStream = (namespace: string): string => `PF_${namespace}_STATE`

/** Name of the stream that holds what jobs wrote while they ran. */
export const logsStream = (namespace: string): string => `PF_${namespace}_LOGS`

/** Name of the durable consumer of a queue's lane. */
export const consumerName = (queue: string, lane: number): string => `ready_${queue}_${lane}`

/** How many lanes there are on which a message waits in place of one that it replaces. */
const otherLanes = 4

/**
 * The lane on which a message waits that replaces one on `lane`; the next one is back on `lane`. NATS may bring a
 * message back after a crash that was replaced under its own subject and whose replacement is gone;
 * what was removed by name stays away.
 */
export const otherLane = (lane: number): number => lane + otherLanes

/** The lane of a message, on whichever of its two it waits. */
export const laneOf = ({ lane }: JobSubject): number =>
  Number(lane) > otherLanes ? Number(lane) - otherLanes : Number(lane)

/** What stays the same in all subjects of one job. */
export interface Address {
  /** Partition. */
  readonly partition: number
  /** Batch, or `_`. */
  readonly group: string
  /** The job's id. */
  readonly id: string
}

/** A parsed subject of a job. */
export interface JobSubject extends Address {
  readonly state: WireState
  readonly queue: string
  /** Lane (0 to 4) of a live message; retention class of a final one. */
  readonly lane: string
}

/** Which jobs' messages are meant; what isn't named may be anything. */
export interface JobFilter {
  readonly state?: WireState | undefined
  readonly queue?: string | undefined
  /** Batch, or `_` for jobs outside of batches. */
  readonly group?: string | undefined
}

/** The subjects of one namespace. */
export interface Subjects {
  readonly namespace: string
  /** A live message of a job. */
  readonly live: (state: WireState, queue: string, lane: number, job: Address) => string
  /** The final record of a job, which every copy of its message can name. */
  readonly final: (state: FinalState, envelope: Envelope, job: Address) => string
  /** Everything of one job; also the string of every condition on it (W1). */
  readonly job: (job: Address) => string
  /** Everything of the job with an id, whatever batch it belongs to. */
  readonly inAnyGroup: (partition: number, id: string) => string
  /** All members of a batch that are in a state. */
  readonly members: (partition: number, state: WireState, group: string) => string
  /** The record of a batch that was cancelled. */
  readonly cancelledBatch: (partition: number, batch: string) => string
  /** The link from a job to one that follows it. */
  readonly link: (partition: number, parent: string, child: string) => string
  /** All links from a job. */
  readonly linksFrom: (partition: number, parent: string) => string
  /** All links in a partition. */
  readonly links: (partition: number) => string
  /** The claim on a unique key. */
  readonly claim: (partition: number, hash: string) => string
  /** All final records of a state and retention class. */
  readonly finals: (partition: number, state: FinalState, retention: string) => string
  /** All records of the engine's own jobs, batches among them, that failed. */
  readonly failedOfEngine: (partition: number, retention: string) => string
  /** All ready messages of a partition. */
  readonly ready: (partition: number) => string
  /** The ready messages of one queue and lane: what a consumer hands out. */
  readonly lane: (partition: number, queue: string, lane: number) => string
  /** The messages of all jobs, or of some. */
  readonly jobs: (partition: number, filter: JobFilter) => string
  /** Everything in a partition's stream. */
  readonly partition: (partition: number) => string
  /** Parses a job's subject; `undefined` for any other. */
  readonly parse: (subject: string) => JobSubject | undefined
  /** A subject in the STATE stream. */
  readonly state: (kind: string, ...tokens: ReadonlyArray<string>) => string
  /** A subject in the LOGS stream: the lines of a job, or with a token what else it writes. */
  readonly log: (...tokens: ReadonlyArray<string>) => string
  /** A subject for actor messages. */
  readonly control: (...tokens: ReadonlyArray<string>) => string
}

/** Anything else, such as a wildcard, would make filters and conditions mean something else. */
const legalNames = /^[\w~-]{1,64}(\.[\w~-]{1,64}){3}$/
const legalName = /^[\w~-]{1,64}$/

/** Whether a value that was read may be one token of a subject: a queue, a group or an id. */
export const isToken = (value: unknown): value is string =>
  typeof value === "string" && legalName.test(value)

/** Most partitions: an id names its own in one character of 32. */
const maxPartitions = 32

/** Reads `[partition, group, id]`; `undefined` for what is no address. */
export const addressIn = (value: unknown): Address | undefined => {
  if (!Array.isArray(value)) return undefined
  const [partition, group, id] = value as Array<unknown>
  const isPartition = Number.isInteger(partition) && Number(partition) >= 0 &&
    Number(partition) < maxPartitions
  return isPartition && isToken(group) && isToken(id)
    ? { partition: Number(partition), group, id }
    : undefined
}

/** Makes the subjects of a namespace. */
export const make = (namespace: string): Subjects => {
  const prefix = `pf.${namespace}.`
  const count = prefix.split(".").length - 1
  return {
    namespace,
    live: (state, queue, lane, job) =>
      `${prefix}${job.partition}.${state}.${queue}.${lane}.${job.group}.${job.id}`,
    final: (state, envelope, job) =>
      `${prefix}${job.partition}.${state}.${envelope.queue}.` +
      `${envelope.options.retention ?? commonRetention}.${job.group}.${job.id}`,
    job: (job) => `${prefix}${job.partition}.*.*.*.${job.group}.${job.id}`,
    inAnyGroup: (partition, id) => `${prefix}${partition}.*.*.*.*.${id}`,
    members: (partition, state, group) => `${prefix}${partition}.${state}.*.*.${group}.*`,
    cancelledBatch: (partition, batch) =>
      `${prefix}${partition}.cancelled.${engineQueue}.*.*.${batch}`,
    link: (partition, parent, child) => `${prefix}${partition}.link.-.-.-.${parent}.${child}`,
    linksFrom: (partition, parent) => `${prefix}${partition}.link.-.-.-.${parent}.*`,
    links: (partition) => `${prefix}${partition}.link.>`,
    // Else every filter with wildcards before a job's id would go through all claims: the server
    // leaves a branch at the first token that doesn't match.
    claim: (partition, hash) => `${prefix}${partition}.claim.-.-.-.-.${hash}`,
    finals: (partition, state, retention) => `${prefix}${partition}.${state}.*.${retention}.*.*`,
    failedOfEngine: (partition, retention) =>
      `${prefix}${partition}.failed.${engineQueue}.${retention}.*.*`,
    ready: (partition) => `${prefix}${partition}.ready.>`,
    lane: (partition, queue, lane) => `${prefix}${partition}.ready.${queue}.${lane}.>`,
    jobs: (partition, { group = "*", queue = "*", state = "*" }) =>
      `${prefix}${partition}.${state}.${queue}.*.${group}.*`,
    partition: (partition) => `${prefix}${partition}.>`,
    parse: (subject) => {
      if (!subject.startsWith(prefix)) return undefined
      const tokens = subject.split(".")
      if (tokens.length !== count + 6) return undefined
      const [partition, state, queue, lane, group, id] = tokens.slice(count) as [
        string,
        string,
        string,
        string,
        string,
        string,
      ]
      if (!isWireState(state) || !/^\d+$/.test(partition)) return undefined
      if (!legalNames.test(`${queue}.${lane}.${group}.${id}`)) return undefined
      return { partition: Number(partition), state, queue, lane, group, id }
    },
    state: (kind, ...tokens) => [`${prefix}state.${kind}`, ...tokens].join("."),
    log: (...tokens) => [`${prefix}log`, ...tokens].join("."),
    control: (...tokens) => [`${prefix}ctl`, ...tokens].join("."),
  }
}

/** Address of a job that belongs to no batch, in a namespace of that many partitions. */
export const addressOf = (id: string, partitions: number = 1): Address => ({
  partition: JobId.partitionIn(id, partitions),
  group: noGroup,
  id,
})

/** Header lines of a message that the server publishes on `target` at an instant (ms since 1970). */
export const scheduleLines = (due: number, target: string): string =>
  `Nats-Schedule: @at ${rfc3339(due)}\r\nNats-Schedule-Target: ${target}\r\n`
