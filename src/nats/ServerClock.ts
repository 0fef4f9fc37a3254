/**
 * The server's time on this machine. Delays and alarms are kept by the server, so the instants we
 * write must be the server's, however wrong the clock of this machine is.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { NatsConnection, QueuedIterator, Status } from "nats"
import * as Api from "./Api.ts"
import type { NatsError } from "./errors.ts"

/** The server's time. */
export interface ServerClock {
  /** The server's time in Unix milliseconds, as good as half a round trip. */
  readonly now: () => number
  /** How many milliseconds the server's clock is ahead of this machine's; negative when behind. */
  readonly aheadMillis: () => number
}

/** Time between two measurements, beside those after a reconnect. */
const interval = "10 minutes"

/** A measurement whose round trip took longer than this many milliseconds is tried again. */
const goodRoundTrip = 20
const tries = 3

interface Measurement {
  readonly ahead: number
  readonly roundTrip: number
}

const measure = Effect.fnUntraced(function* (
  connection: NatsConnection,
  stream: string,
  clock: Clock.Clock,
): Effect.fn.Return<Measurement, NatsError> {
  const sent = clock.monotonicTimeNanosUnsafe()
  const { ts } = yield* Api.call<{ readonly ts: string }>(
    connection,
    `STREAM.INFO.${stream}`,
    undefined,
    "asking the server for its time",
  )
  const roundTrip = Number(clock.monotonicTimeNanosUnsafe() - sent) / 1_000_000
  return { ahead: Date.parse(ts) + roundTrip / 2 - clock.currentTimeMillisUnsafe(), roundTrip }
})

/** The best of a few measurements: a pause of either side shows as a long round trip. */
const measureWell = Effect.fnUntraced(function* (
  connection: NatsConnection,
  stream: string,
  clock: Clock.Clock,
): Effect.fn.Return<number, NatsError> {
  let best = yield* measure(connection, stream, clock)
  for (let i = 1; i < tries && best.roundTrip > goodRoundTrip; i++) {
    const next = yield* measure(connection, stream, clock)
    if (next.roundTrip < best.roundTrip) best = next
  }
  return best.ahead
})

/**
 * Measures the server's clock against ours by the time in the stream's info: now, after each
 * reconnect and every ten minutes, until the scope closes. Fails only when the first measurement
 * does; a later one that fails is repeated each second, and the last good one counts meanwhile.
 */
export const make: (
  connection: NatsConnection,
  stream: string,
) => Effect.Effect<ServerClock, NatsError, Scope.Scope> = Effect.fnUntraced(
  function* (connection, stream) {
    const clock = yield* Clock.Clock
    // Before the first measurement, so that no reconnect after it is missed.
    const status = yield* Effect.acquireRelease(
      Effect.sync(() => connection.status() as QueuedIterator<Status>),
      (iterator) => Effect.sync(() => iterator.stop()),
    )
    let ahead = yield* measureWell(connection, stream, clock)
    const again = Effect.map(
      Effect.retry(measureWell(connection, stream, clock), Schedule.spaced("1 second")),
      (measured) => void (ahead = measured),
    )
    const events = status[Symbol.asyncIterator]()
    const onReconnect = Effect.gen(function* () {
      while (true) {
        const { done, value } = yield* Effect.promise(() => events.next())
        if (done === true) return
        if (value.type === "reconnect") yield* again
      }
    })
    yield* Effect.forkScoped(onReconnect)
    yield* Effect.forkScoped(Effect.forever(Effect.delay(again, interval)))
    return {
      now: () => Math.round(clock.currentTimeMillisUnsafe() + ahead),
      aheadMillis: () => ahead,
    }
  },
)
