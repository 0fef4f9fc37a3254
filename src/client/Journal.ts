/**
 * What jobs write while they run: the lines they log, where their definition keeps them, and how far
 * they are. Read with `Client.logs`, `Client.progress` and `Client.follow`.
 *
 * It is kept for seven days, the newest 1,000 lines of a job, independent of the job's record. It is
 * for people to look at: a line may get lost with a server, and in rare cases be there twice.
 *
 * @module
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { InvalidOptions } from "../core/errors.ts"
import * as Form from "../core/Journal.ts"
import type { JobId } from "../core/JobId.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import type { NatsError } from "../nats/errors.ts"
import { listen } from "../nats/Journal.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import { logsStream } from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"

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

/** Reads what jobs wrote. */
export interface Journal<E> {
  readonly logs: (
    id: JobId,
    options?: LogsOptions,
  ) => Effect.Effect<Lines, InvalidOptions | NatsError>
  readonly progress: (id: JobId) => Effect.Effect<Progress | undefined, InvalidOptions | NatsError>
  readonly follow: (id: JobId) => Stream.Stream<Line | Progress, E | InvalidOptions | NatsError>
}

const maxLimit = 1_000
/** Lines that a follower reads at once. */
const pageSize = 256
/** How often a follower reads when it hears nothing: what it is told may get lost. */
const readEveryMillis = 2_000
/** A line is heard before it is stored: first and longest pause before it is looked for again. */
const firstPauseMillis = 5
const longestPauseMillis = 100
/** How long a line that was heard is looked for; the stream may have refused it. */
const searchMillis = 1_000

const lineOf = ({ data }: StoredMessage): ReadonlyArray<Line> => {
  const line = Form.decodeLine(data)
  return line === undefined ? [] : [{ _tag: "Line", ...line, time: new Date(line.time) }]
}

const progressOf = (bytes: Uint8Array): Progress | undefined => {
  const progress = Form.decodeProgress(bytes)
  return progress === undefined
    ? undefined
    : { _tag: "Progress", ...progress, time: new Date(progress.time) }
}

const isSame = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
  a !== undefined && a.length === b.length && a.every((byte, index) => byte === b[index])

const whileUnavailable = {
  while: (error: NatsError): boolean => error._tag === "Unavailable",
  schedule: Schedule.spaced("500 millis"),
}

/** Makes the reader of a namespace. `ended` waits for the end of a job. */
export const make = <E>(
  wire: Wire,
  ended: (id: JobId) => Effect.Effect<unknown, E>,
): Journal<E> => {
  const { reader, subjects } = wire
  const stream = logsStream(subjects.namespace)

  const logs: Journal<E>["logs"] = Effect.fnUntraced(function* (id, options = {}) {
    const refused = checkName("id", id) ?? checkKeys("options", options, ["from", "limit"])
    if (refused !== undefined) return yield* refused
    const { from = 0, limit = maxLimit } = options
    if (!(Number.isSafeInteger(from) && from >= 0)) {
      const reason = "it is the cursor of an earlier read"
      return yield* new InvalidOptions({ field: "from", value: show(from), reason })
    }
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= maxLimit)) {
      const reason = `it is a whole number of lines from 1 to ${maxLimit}`
      return yield* new InvalidOptions({ field: "limit", value: show(limit), reason })
    }
    const found = yield* reader.range(stream, subjects.log(id), from, limit)
    const last = found.at(-1)
    return { lines: found.flatMap(lineOf), cursor: last === undefined ? from : last.sequence + 1 }
  })

  const newestProgress = (id: JobId): Effect.Effect<Uint8Array | undefined, NatsError> =>
    Effect.map(
      reader.newest(stream, [subjects.log(id, "progress")]),
      ([message]) => message?.data,
    )

  const progress: Journal<E>["progress"] = (id) => {
    const illegal = checkName("id", id)
    return illegal !== undefined ? Effect.fail(illegal) : Effect.map(
      newestProgress(id),
      (bytes) => bytes === undefined ? undefined : progressOf(bytes),
    )
  }

  /** What is new of a job, each time it is run; `undefined` once the job has ended. */
  const follower = Effect.fnUntraced(function* (id: JobId) {
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    const wake = Latch.makeUnsafe(false)
    /** The newest line that was heard, until it is read or given up. */
    let heard: Uint8Array | undefined
    let heardAt = 0
    let nextProgress: Uint8Array | undefined
    let lastProgress: Uint8Array | undefined
    let cursor = 0
    let pause = firstPauseMillis
    let began = false
    let over = false
    let closed = false

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        listen(wire, id, {
          line: (bytes) => {
            heard = bytes.slice()
            heardAt = performance.now()
            pause = firstPauseMillis
            wake.openUnsafe()
          },
          progress: (bytes) => {
            nextProgress = bytes.slice()
            wake.openUnsafe()
          },
        })
      ),
      (stop) => Effect.sync(stop),
    )
    const end = yield* Effect.forkScoped(
      Effect.ensuring(
        ended(id),
        Effect.sync(() => {
          over = true
          wake.openUnsafe()
        }),
      ),
      { startImmediately: true },
    )

    const readLines = Effect.gen(function* () {
      const found = yield* reader.range(stream, subjects.log(id), cursor, pageSize)
      for (const { data, sequence } of found) {
        cursor = sequence + 1
        if (isSame(heard, data)) heard = undefined
      }
      return found
    })

    const readProgress = Effect.gen(function* () {
      const stored = yield* newestProgress(id)
      if (stored !== undefined) nextProgress ??= stored
    })

    const takeProgress = (): ReadonlyArray<Progress> => {
      const bytes = nextProgress
      nextProgress = undefined
      if (bytes === undefined || isSame(lastProgress, bytes)) return []
      lastProgress = bytes
      const progress = progressOf(bytes)
      return progress === undefined ? [] : [progress]
    }

    /** Waits for something to read. */
    const rest = Effect.suspend(() => {
      if (heard !== undefined && performance.now() - heardAt > searchMillis) heard = undefined
      if (heard === undefined) {
        return Effect.asVoid(Effect.timeoutOption(wake.await, readEveryMillis))
      }
      const time = pause
      pause = Math.min(longestPauseMillis, 2 * pause)
      return Effect.sleep(time)
    })

    return Effect.gen(function* () {
      while (!closed) {
        wake.closeUnsafe()
        // Read after the job has ended, what is stored is all there is.
        const last = over
        const found = yield* Effect.retry(readLines, whileUnavailable)
        if (last || !began) yield* Effect.retry(readProgress, whileUnavailable)
        began = true
        const news = [...found.flatMap(lineOf), ...takeProgress()]
        closed = last && found.length === 0 && heard === undefined
        if (isSome(news)) return news
        if (!closed) yield* rest
      }
      // The job may be none.
      yield* Fiber.join(end)
      return undefined
    })
  })

  return {
    logs,
    progress,
    follow: (id) =>
      Stream.unwrap(Effect.map(follower(id), (next) =>
        Stream.fromPull(Effect.succeed(
          Effect.flatMap(
            next,
            (news) => news === undefined ? Cause.done() : Effect.succeed(news),
          ),
        )))),
  }
}

const isSome = <A>(items: ReadonlyArray<A>): items is readonly [A, ...ReadonlyArray<A>] =>
  items.length > 0
