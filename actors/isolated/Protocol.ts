/**
 * What a server and an isolated worker say to each other: plain values that structured cloning takes,
 * with everything that has a schema in bytes.
 */
import type { LogLevel } from "effect/LogLevel"
import type { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { Ending } from "../../src/core/Attempt.ts"
import type { ProgressInput } from "../../src/core/Journal.ts"

/** Where a handler runs: in a thread of the server's process, or in a process of its own. */
export type Kind = "thread" | "process"

/** What a handler can know of its job, without what it can do with it. */
export type JobFacts = Omit<CurrentJob, "report">

/** One attempt. */
export interface Order {
  /** The payload as it lies in the job's message. */
  readonly payload: Uint8Array
  /** Version of the payload. */
  readonly version: number
  readonly job: JobFacts
  /** Largest message that NATS takes, in bytes. */
  readonly maxPayload: number
  /** Least level that the server's program logs. */
  readonly level: LogLevel
  /** The span of the attempt as `traceparent`, if it has one. */
  readonly trace: string | undefined
}

/** From the server. */
export type ToWorker =
  | { readonly _tag: "Run"; readonly run: number; readonly order: Order }
  | { readonly _tag: "Interrupt"; readonly run: number }
  | { readonly _tag: "Close" }

/** How a run ended. */
export interface End {
  readonly ending: Ending
  readonly message?: string | undefined
  readonly stack?: string | undefined
  /** The result, in bytes. */
  readonly result?: Uint8Array | undefined
  /** The typed error, in bytes. */
  readonly error?: Uint8Array | undefined
  /** When a snoozed job wants to run again, in ms from now. */
  readonly snooze?: number | undefined
}

/** Levels of lines that a handler logs. */
export type Level = Exclude<LogLevel, "All" | "None">

/** A line that a handler logs. */
export interface Line {
  readonly level: Level
  readonly text: string
  readonly annotations: Readonly<Record<string, string>>
}

/** Why a worker is no more. */
export interface Death {
  readonly message: string
  readonly stack?: string | undefined
}

/** From the worker. */
export type FromWorker =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "NotReady"; readonly message: string }
  | { readonly _tag: "Dying"; readonly death: Death }
  | { readonly _tag: "Progress"; readonly run: number; readonly value: ProgressInput }
  | { readonly _tag: "Line"; readonly run: number; readonly line: Line }
  | { readonly _tag: "Ended"; readonly run: number; readonly end: End }

/** What a worker is told when it is started. */
export interface Role {
  /** The job whose handler it is to run. */
  readonly job: string
  /** Id of the server's process. */
  readonly server: number
}

/** The variable that tells a process its role. */
export const variable = "PORTFIRE_ISOLATED"

/** The field of a thread's data that tells it the same. */
export const field = "portfireIsolated"

/** Bytes without those around them in their buffer, all of which cloning would copy. */
export const compact = (bytes: Uint8Array): Uint8Array =>
  bytes.byteLength === bytes.buffer.byteLength ? bytes : Uint8Array.from(bytes)
