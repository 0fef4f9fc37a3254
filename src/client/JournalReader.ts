/** Reads what jobs wrote: in pages, and live. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
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
import type { Line, Lines, LogsOptions, Progress } from "./Journal.ts"

/** Reads what jobs wrote. */
export interface JournalReader<E> {
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
): JournalReader<E> => {
  const { reader, subjects } = wire
  const stream = logsStream(subjects.namespace)

  const logs: JournalReader<E>["logs"] = Effect.fnUntraced(function* (id, options = {}) {
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

  const progress: JournalReader<E>["progress"] = (id) => {
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
