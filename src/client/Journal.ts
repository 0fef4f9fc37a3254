/**
 * What jobs write while they run: the lines they log, where their definition keeps them, and how far
 * they are. Read with `Client.logs`, `Client.progress` and `Client.follow`.
 *
 * It is kept for seven days, the newest 1,000 lines of a job, independent of the job's record. It is
 * for people to look at: a line may get lost with a server, and in rare cases be there twice.
 *
 * @module
 */
import type * as LogLevel from "effect/LogLevel"

export type { ProgressInput } from "../core/Journal.ts"
export type { LogOptions } from "./LogOptions.ts"

/** One line that a handler logged. */
export interface Line {
  /** Tells it from a {@link Progress}. */
  readonly _tag: "Line"
  /** When, by the clock of the server that ran the job. */
  readonly time: Date
  /** How serious it is. */
  readonly level: LogLevel.Severity
  /** What was logged, cut to 2,000 characters; a cause is part of it. */
  readonly text: string
  /** Number of the attempt that logged it. */
  readonly attempt: number
  /** Annotations that were in force, as texts; at most 16. */
  readonly annotations: Readonly<Record<string, string>>
}

/** How far a job is. */
export interface Progress {
  /** Tells it from a {@link Line}. */
  readonly _tag: "Progress"
  /** When it said so, by the clock of the server that ran it. */
  readonly time: Date
  /** From 0 to 1; not there while nobody knows. */
  readonly fraction?: number | undefined
  /** Parts that are done. */
  readonly done?: number | undefined
  /** Parts there are. */
  readonly total?: number | undefined
  /** What the handler said with it, cut to 500 characters. */
  readonly note?: string | undefined
  /** Number of the attempt that said so. */
  readonly attempt: number
}

/** Which lines are read. */
export interface LogsOptions {
  /** The cursor of an earlier read, to go on from there; default the beginning. */
  readonly from?: number | undefined
  /** Most lines, 1 to 1,000; default 1,000. */
  readonly limit?: number | undefined
}

/** Lines of a job, oldest first. */
export interface Lines {
  readonly lines: ReadonlyArray<Line>
  /** Where the next read goes on; it only has a meaning for the same job. */
  readonly cursor: number
}
