/** Which lines that handlers log are kept with their jobs. */
import type * as LogLevel from "effect/LogLevel"
import { InvalidOptions } from "../core/errors.ts"
import { checkKeys, show } from "../core/Names.ts"

/** What a definition says of the lines that its handlers log. */
export interface LogOptions {
  /** Most lines of one attempt, 1 to 1,000; default 200. */
  readonly lines?: number | undefined
  /**
   * Least serious level that is kept; default `Info`. What is below the `MinimumLogLevel` of the
   * program is never kept.
   */
  readonly level?: LogLevel.Severity | undefined
}

/** Log options with their values checked. */
export interface LogLimits {
  readonly lines: number
  readonly level: LogLevel.Severity
}

const maxLines = 1_000
const levels: ReadonlyArray<unknown> = ["Fatal", "Error", "Warn", "Info", "Debug", "Trace"]

/** Checks log options; `undefined` where no lines are kept. */
export const resolve = (
  logs: boolean | LogOptions | undefined,
): LogLimits | undefined | InvalidOptions => {
  if (logs === undefined || logs === false) return undefined
  const options = logs === true ? {} : logs
  const unknown = checkKeys("logs", options, ["lines", "level"])
  if (unknown !== undefined) return unknown
  const { level = "Info", lines = 200 } = options
  if (!(Number.isInteger(lines) && lines >= 1 && lines <= maxLines)) {
    const reason = `it is a whole number of lines from 1 to ${maxLines}`
    return new InvalidOptions({ field: "logs.lines", value: show(lines), reason })
  }
  if (!levels.includes(level)) {
    const reason = `it is one of ${levels.join(", ")}`
    return new InvalidOptions({ field: "logs.level", value: show(level), reason })
  }
  return { level, lines }
}
