/**
 * What a server and an isolated worker say to each other: plain values that structured cloning takes,
 * with everything that has a schema in bytes.
 */
import type { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { ProgressInput } from "../../src/core/Journal.ts"

/** Where a handler runs: in a thread of the server's process, or in a process of its own. */
export type Kind = "thread" | "process"

/** What a handler can know of its job, without what it can do with it. */
export type JobFacts = Omit<CurrentJob, "report">

/** From the server. */
export type ToWorker =
  | {
    readonly _tag: "Run"
    readonly run: number
    /** In the bytes of the payload's schema, at the definition's version. */
    readonly payload: Uint8Array
    readonly job: JobFacts
  }
  | { readonly _tag: "Interrupt"; readonly run: number }

/** How a run ended. */
export type End =
  | { readonly _tag: "Succeeded"; readonly result: Uint8Array }
  | { readonly _tag: "Failed"; readonly error: Uint8Array }
  | { readonly _tag: "Crashed"; readonly message: string; readonly stack?: string | undefined }
  | { readonly _tag: "Discarded"; readonly reason: string }
  | { readonly _tag: "Snoozed"; readonly millis: number }

/** Levels of lines that a handler logs. */
export type Level = "Fatal" | "Error" | "Warn" | "Info" | "Debug" | "Trace"

/** From the worker. */
export type FromWorker =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "NotReady"; readonly message: string }
  | { readonly _tag: "Progress"; readonly run: number; readonly value: ProgressInput }
  | {
    readonly _tag: "Line"
    readonly run: number
    readonly level: Level
    readonly text: string
    readonly annotations: Readonly<Record<string, string>>
  }
  | { readonly _tag: "Ended"; readonly run: number; readonly end: End }

/** The variable that tells a process which job's handler it is to run. */
export const variable = "PORTFIRE_ISOLATED"

/** The field of a thread's data that tells it the same. */
export const field = "portfireIsolated"
