/** Keeps what a handler logs in the journal of its attempt, where its definition asks for it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Formatter from "effect/Formatter"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { CurrentLogAnnotations } from "effect/References"
import { CurrentJob } from "../src/client/CurrentJob.ts"
import type { Definition } from "../src/client/Definition.ts"
import type { LogLimits } from "../src/client/LogOptions.ts"
import { RunningJob } from "./RunningJob.ts"

/** What was logged, as one text. */
export const textOf = (message: unknown, cause: Cause.Cause<unknown>): string => {
  // Showing a value runs code of the program that logs it.
  try {
    const parts = (Array.isArray(message) ? message : [message]).map((part: unknown) =>
      typeof part === "string" ? part : Formatter.format(part)
    )
    if (cause.reasons.length > 0) parts.push(Cause.pretty(cause))
    return parts.join(" ")
  } catch {
    return "what was logged can't be read"
  }
}

const loggerOf = ({ level: least }: LogLimits): Logger.Logger<unknown, void> =>
  Logger.make(({ cause, date, fiber, logLevel, message }) => {
    if (logLevel === "All" || logLevel === "None") return
    if (LogLevel.isLessThan(logLevel, least)) return
    const job = Context.getOrUndefined(fiber.context, CurrentJob)
    if (!(job instanceof RunningJob)) return
    const annotations = fiber.getRef(CurrentLogAnnotations)
    job.journal?.line(date, logLevel, () => textOf(message, cause), annotations)
  })

/**
 * The services of a handler, with a logger beside those it has where its definition keeps lines. One
 * logger serves all its attempts: it finds the job among the services of the fiber that logs.
 */
export const withLogger = (
  context: Context.Context<never>,
  { logs }: Definition,
): Context.Context<never> =>
  logs === undefined ? context : Context.add(
    context,
    Logger.CurrentLoggers,
    new Set([...Context.get(context, Logger.CurrentLoggers), loggerOf(logs)]),
  )
