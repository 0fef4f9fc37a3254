/**
 * The server's time on this machine. Delays and alarms are kept by the server, so the instants we
 * write must be the server's, however wrong the clock of this machine is, and whenever it is set.
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

/** Time between two looks at whether the clock of this machine was set, or the machine slept. */
const watchInterval = "1 second"

/** Milliseconds by which the two clocks of this machine may drift apart between two measurements. */
const drift = 200

interface Measurement {
  /** What the server's time is ahead of the monotonic clock, in ms. */
  readonly ahead: number
  readonly roundTrip: number
}

const monotonicMillis = (clock: Clock.Clock): number =>
  Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

const measure = Effect.fnUntraced(function* (
  connection: NatsConnection,
  stream: string,
  clock: Clock.Clock,
): Effect.fn.Return<Measurement, NatsError> {
  const sent = monotonicMillis(clock)
  const { ts } = yield* Api.call<{ readonly ts: string }>(
    connection,
    `STREAM.INFO.${stream}`,
    undefined,
    "asking the server for its time",
  )
  const received = monotonicMillis(clock)
  const roundTrip = received - sent
  return { ahead: Date.parse(ts) + roundTrip / 2 - received, roundTrip }
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
 * Measures the server's clock against the monotonic one of this machine by the time in the stream's
 * info: now, after each reconnect, every ten minutes, and when the two clocks of this machine have
 * moved apart, which says that one was set or the machine has slept. Goes on until the scope closes.
 * Fails only when the first measurement does; a later one that fails is repeated each second, and the
 * last good one counts meanwhile.
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
    const apart = () => clock.currentTimeMillisUnsafe() - monotonicMillis(clock)
    let wasApart = apart()
    let ahead = yield* measureWell(connection, stream, clock)
    const again = Effect.suspend(() => {
      // Before the measurement: what is set during it is seen by the next look.
      const isApart = apart()
      return Effect.map(
        Effect.retry(measureWell(connection, stream, clock), Schedule.spaced("1 second")),
        (measured) => {
          ahead = measured
          wasApart = isApart
        },
      )
    })
    const watch = Effect.suspend(() => Math.abs(apart() - wasApart) > drift ? again : Effect.void)
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
    yield* Effect.forkScoped(Effect.forever(Effect.delay(watch, watchInterval)))
    const now = () => monotonicMillis(clock) + ahead
    return {
      now: () => Math.round(now()),
      aheadMillis: () => now() - clock.currentTimeMillisUnsafe(),
    }
  },
)
