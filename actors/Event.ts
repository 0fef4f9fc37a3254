/** What a server tells while it works: for logs, tests and dashboards. Past tense, plain values. */
import type { Attempt } from "../src/core/Attempt.ts"
import type { JobId } from "../src/core/JobId.ts"
import type { Finding } from "../src/nats/Audit.ts"
import type { Report } from "./kit/Report.ts"
import type { Kind } from "../src/client/Transition.ts"

/** A handler has begun. */
export interface AttemptStarted {
  readonly _tag: "AttemptStarted"
  readonly id: JobId
  readonly name: string
  readonly queue: string
  readonly attempt: number
  /** How often the message was delivered; above 1 after a lost server. */
  readonly delivery: number
}

/** A transition is on JetStream. */
export interface JobMoved {
  readonly _tag: "JobMoved"
  readonly id: JobId
  readonly name: string
  readonly queue: string
  readonly to: Kind
  /** The attempt that ended, if one did. */
  readonly attempt?: Attempt | undefined
  /** When the job runs again, in ms since 1970. */
  readonly due?: number | undefined
  readonly reason?: string | undefined
}

/** Somebody else has moved the job on: our outcome was not written. */
export interface OutcomeLost {
  readonly _tag: "OutcomeLost"
  readonly id: JobId
  readonly name: string
  readonly to: Kind
}

/** A delivery turned out to be stale: the job had moved on before, so it was not run. */
export interface DeliveryDropped {
  readonly _tag: "DeliveryDropped"
  readonly id: JobId
  readonly name: string
  readonly delivery: number
}

/** NATS refused to store an outcome; it is tried again until it is stored. */
export interface CommitRefused {
  readonly _tag: "CommitRefused"
  readonly id: JobId
  readonly code: number
  readonly description: string
}

/** The server takes no new jobs and waits for those that run. */
export interface DrainStarted {
  readonly _tag: "DrainStarted"
  readonly queue: string
  readonly running: number
}

/** The janitor removed records that are past their retention. */
export interface RecordsPurged {
  readonly _tag: "RecordsPurged"
  readonly count: number
}

/** The watchdog put a job back that NATS would not have delivered any more. */
export interface JobRescued {
  readonly _tag: "JobRescued"
  readonly id: JobId
  readonly queue: string
}

/** The auditor found that NATS lacks what it has acknowledged. */
export interface AuditFailed {
  readonly _tag: "AuditFailed"
  readonly finding: Finding
}

/** A supervisor reports. */
export interface Supervision {
  readonly _tag: "Supervision"
  readonly report: Report
}

/** Everything that a server tells. */
export type Event =
  | AttemptStarted
  | JobMoved
  | OutcomeLost
  | DeliveryDropped
  | CommitRefused
  | DrainStarted
  | RecordsPurged
  | JobRescued
  | AuditFailed
  | Supervision

/** Takes events; called synchronously, so it must be quick and must not throw. */
export type Emit = (event: Event) => void
