/** One run of a handler for a job, as it is kept in the job's history. */
import { keptAttempts, maxInstantMillis, maxMessageLength, maxStackLength } from "./Limits.ts"

/**
 * How an attempt ended: `failed` with the handler's typed error, `timedOut`, `crashed` by a defect or
 * by a value that doesn't match its schema, `discarded` and `snoozed` by the handler's own word,
 * `vetoed` by a middleware's.
 */
export type Ending =
  | "succeeded"
  | "failed"
  | "timedOut"
  | "crashed"
  | "discarded"
  | "snoozed"
  | "vetoed"

/** What is kept of an attempt. Times are milliseconds since 1970. */
export interface Attempt {
  /** Counts from 1; a snoozed attempt and the one after it have the same number. */
  readonly number: number
  /** Id of the server that ran it. */
  readonly server: string
  /** When the handler began. */
  readonly started: number
  /** When it ended. */
  readonly ended: number
  /** How it ended. */
  readonly ending: Ending
  /** The error's message, cut to 2,000 characters. */
  readonly message?: string | undefined
  /** The error's stack, cut to 4,000 characters. */
  readonly stack?: string | undefined
  /** The handler's typed error in the bytes of the definition's error schema. */
  readonly error?: Uint8Array | undefined
}

const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`

/** Message and stack of anything that can be thrown, cut to what is kept. */
export const describe = (
  error: unknown,
): { readonly message: string; readonly stack?: string | undefined } => {
  // Reading an error runs code of the program that threw it.
  try {
    if (error instanceof Error) {
      const { message, name, stack }: { readonly [key in keyof Error]: unknown } = error
      return {
        message: cut(String(message === "" ? name : message), maxMessageLength),
        stack: typeof stack === "string" ? cut(stack, maxStackLength) : undefined,
      }
    }
    const text = typeof error === "string" ? error : JSON.stringify(error) ?? String(error)
    return { message: cut(text, maxMessageLength) }
  } catch {
    return { message: "what was thrown can't be read" }
  }
}

/** Appends an attempt; of a long history the first five and the last five are kept. */
export const append = (
  history: ReadonlyArray<Attempt>,
  attempt: Attempt,
): ReadonlyArray<Attempt> => {
  const all = [...history, attempt]
  return all.length <= 2 * keptAttempts
    ? all
    : [...all.slice(0, keptAttempts), ...all.slice(-keptAttempts)]
}

/** The same attempt without its stack and error, and with a short message. */
export const withoutDetails = ({ error: _, message, stack: __, ...rest }: Attempt): Attempt =>
  message === undefined ? rest : { ...rest, message: cut(message, 200) }

/** The form on the wire: an array, so that the names of its fields take no room. */
export const toWire = (attempt: Attempt): ReadonlyArray<unknown> => [
  attempt.number,
  attempt.server,
  attempt.started,
  attempt.ended,
  attempt.ending,
  attempt.message,
  attempt.stack,
  attempt.error,
]

const endings: ReadonlySet<unknown> = new Set<Ending>([
  "succeeded",
  "failed",
  "timedOut",
  "crashed",
  "discarded",
  "snoozed",
  "vetoed",
])

const isInstant = (value: unknown): value is number =>
  typeof value === "number" && value >= 0 && value < maxInstantMillis

const textOr = (value: unknown): string | undefined => typeof value === "string" ? value : undefined

/** From the wire; `undefined` for what isn't an attempt. */
export const fromWire = (value: unknown): Attempt | undefined => {
  if (!Array.isArray(value) || !endings.has(value[4])) return undefined
  const [number, server, started, ended, ending, message, stack, error] = value as Array<unknown>
  if (
    typeof number !== "number" || !isInstant(started) || !isInstant(ended) ||
    typeof server !== "string"
  ) {
    return undefined
  }
  return {
    number,
    server,
    started,
    ended,
    ending: ending as Ending,
    message: textOr(message),
    stack: textOr(stack),
    error: error instanceof Uint8Array ? error : undefined,
  }
}
