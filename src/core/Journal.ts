/**
 * What a job writes while it runs, and its bytes: MessagePack arrays.
 *
 *     line      [time in ms since 1970, level, text, number of the attempt, annotations or nil]
 *     progress  [time, fraction or nil, done or nil, total or nil, note or nil, number of the attempt]
 */
import * as LogLevel from "effect/LogLevel"
import * as MessagePack from "./MessagePack.ts"

/** Longest text of a line, in characters; the rest is cut off. */
export const maxTextLength = 2_000

/** Longest note of a progress, in characters. */
export const maxNoteLength = 500

/** Most annotations of a line, and the longest name and value of one in characters. */
const maxAnnotations = 16
const maxAnnotationName = 64
const maxAnnotationLength = 200

/** One line that a job wrote. */
export interface Line {
  /** When, in ms since 1970 by the clock of the server that ran it. */
  readonly time: number
  /** How serious it is. */
  readonly level: LogLevel.Severity
  readonly text: string
  /** Number of the attempt that wrote it. */
  readonly attempt: number
  readonly annotations: Readonly<Record<string, string>>
}

/** How far a job is. */
export interface Progress {
  /** When it said so, in ms since 1970. */
  readonly time: number
  /** From 0 to 1. */
  readonly fraction?: number | undefined
  readonly done?: number | undefined
  readonly total?: number | undefined
  readonly note?: string | undefined
  /** Number of the attempt that said so. */
  readonly attempt: number
}

/**
 * What a handler says of how far it is: a fraction from 0 to 1, or how many parts are done of how
 * many, either with a note.
 */
export type ProgressInput =
  | number
  | { readonly fraction: number; readonly note?: string | undefined }
  | {
    /** Parts that are done. */
    readonly done: number
    /** Parts there are; left out while nobody knows. */
    readonly total?: number | undefined
    readonly note?: string | undefined
  }

/** A text of at most that many characters, in which every surrogate has its other half. */
const cut = (text: string, length: number): string =>
  (text.length <= length ? text : `${text.slice(0, length - 1)}…`)
    .replace(/\p{Surrogate}/gu, "\ufffd")

const show = (value: unknown): string => {
  if (typeof value === "string") return value
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return "?"
  }
}

const shortAnnotations = (
  annotations: Readonly<Record<string, unknown>>,
): Readonly<Record<string, string>> | undefined => {
  const entries = Object.entries(annotations).filter(([name]) => name !== "__proto__")
  return entries.length === 0 ? undefined : Object.fromEntries(
    entries.slice(0, maxAnnotations).map(([name, value]) => [
      cut(name, maxAnnotationName),
      cut(show(value), maxAnnotationLength),
    ]),
  )
}

/** The bytes of a line; what is too long is cut. */
export const encodeLine = (
  line: Omit<Line, "annotations"> & { readonly annotations: Readonly<Record<string, unknown>> },
): Uint8Array =>
  MessagePack.encode([
    line.time,
    line.level,
    cut(line.text, maxTextLength),
    line.attempt,
    shortAnnotations(line.annotations),
  ])

const within = (value: unknown, highest: number): number | undefined =>
  typeof value !== "number" || Number.isNaN(value)
    ? undefined
    : Math.min(highest, Math.max(0, value))

const fractionOf = (done: number | undefined, total: number | undefined): number | undefined =>
  done === undefined || total === undefined ? undefined : within(done / total, 1)

/**
 * A progress as it was meant: below 0 is 0, above its bound is the bound, and what is no number is
 * unknown. A handler must not fail for the division that it reports.
 */
export const progressOf = (input: ProgressInput, time: number, attempt: number): Progress => {
  const { done, fraction, note, total } = (typeof input === "object" && input !== null ? input : {
    fraction: input,
  }) as {
    readonly [field in "done" | "fraction" | "note" | "total"]?: unknown
  }
  const parts = within(done, Number.MAX_SAFE_INTEGER)
  const all = within(total, Number.MAX_SAFE_INTEGER)
  return {
    time,
    fraction: within(fraction, 1) ?? fractionOf(parts, all),
    done: parts,
    total: all,
    note: typeof note === "string" ? cut(note, maxNoteLength) : undefined,
    attempt,
  }
}

/** The bytes of a progress. */
export const encodeProgress = (progress: Progress): Uint8Array => {
  const { attempt, done, fraction, note, time, total } = progress
  return MessagePack.encode([time, fraction, done, total, note, attempt])
}

const arrayIn = (bytes: Uint8Array): ReadonlyArray<unknown> => {
  try {
    const value = MessagePack.decode(bytes)
    return Array.isArray(value) ? value : []
  } catch {
    return []
  }
}

const levels: ReadonlySet<unknown> = new Set(LogLevel.values)

const textsIn = (value: unknown): Readonly<Record<string, string>> =>
  typeof value !== "object" || value === null
    ? {}
    : Object.fromEntries(Object.entries(value).map(([name, text]) => [name, show(text)]))

/** Reads a line; `undefined` for what isn't one. */
export const decodeLine = (bytes: Uint8Array): Line | undefined => {
  const [time, level, text, attempt, annotations] = arrayIn(bytes)
  if (typeof time !== "number" || typeof text !== "string" || typeof attempt !== "number") {
    return undefined
  }
  return {
    time,
    level: levels.has(level) ? level as LogLevel.Severity : "Info",
    text,
    attempt,
    annotations: textsIn(annotations),
  }
}

/** Reads a progress; `undefined` for what isn't one. */
export const decodeProgress = (bytes: Uint8Array): Progress | undefined => {
  const [time, fraction, done, total, note, attempt] = arrayIn(bytes)
  return typeof time !== "number" ? undefined : {
    time,
    fraction: within(fraction, 1),
    done: within(done, Number.MAX_SAFE_INTEGER),
    total: within(total, Number.MAX_SAFE_INTEGER),
    note: typeof note === "string" ? note : undefined,
    attempt: typeof attempt === "number" ? attempt : 1,
  }
}
