/** What the connection to NATS is doing: the current state and every change of it. */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import type { NatsConnection } from "nats"

/**
 * - `connected`: requests are answered.
 * - `disconnected`: the connection was just lost.
 * - `reconnecting`: a server is being dialled; lasts until `connected` or `closed`.
 * - `closed`: the owner closed it; final.
 */
export interface ConnectionStatus {
  /** The state since `time`. */
  readonly state: "connected" | "disconnected" | "reconnecting" | "closed"
  /** `host:port` of the server connected to, lost, or dialled. */
  readonly server: string
  /** When the state began, by this machine's clock. */
  readonly time: Date
}

/** Follows one connection and tells whoever listens. */
export interface Tracker {
  /** Current first, then each change; ends after `closed`. A slow reader misses the oldest changes. */
  readonly changes: Stream.Stream<ConnectionStatus>
  /** The state now. */
  readonly current: () => ConnectionStatus
  /** Calls back after each reconnect; returns the unsubscribe. */
  readonly onReconnect: (callback: () => void) => () => void
}

/** How many changes a slow reader may lag behind before the oldest are dropped. */
const lag = 64

/** Starts following a connection that has just been made. Stops by itself when it closes. */
export const track = (connection: NatsConnection): Effect.Effect<Tracker> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const server = () => connection.getServer()
    const make = (state: ConnectionStatus["state"]): ConnectionStatus => ({
      state,
      server: server(),
      time: new Date(),
    })
    const pubsub = yield* PubSub.sliding<ConnectionStatus>({ capacity: lag, replay: 1 })
    let current = make("connected")
    yield* PubSub.publish(pubsub, current)
    const callbacks = new Set<() => void>()

    const change = (state: ConnectionStatus["state"]) => {
      if (current.state === state && current.server === server()) return
      current = make(state)
      Effect.runSync(PubSub.publish(pubsub, current))
    }

    const notify = (callback: () => void) => {
      try {
        callback()
      } catch (cause) {
        Effect.runForkWith(context)(Effect.logError("a reconnect callback threw", cause))
      }
    }

    const follow = async () => {
      for await (const event of connection.status()) {
        switch (event.type) {
          case "disconnect":
            change("disconnected")
            break
          case "reconnecting":
            change("reconnecting")
            break
          case "reconnect":
            change("connected")
            callbacks.forEach(notify)
            break
        }
      }
    }
    void follow()
    void connection.closed().then(() => {
      change("closed")
      callbacks.clear()
    })

    return {
      changes: Stream.takeUntil(Stream.fromPubSub(pubsub), (status) => status.state === "closed"),
      current: () => current,
      onReconnect: (callback) => {
        const entry = () => callback()
        callbacks.add(entry)
        return () => {
          callbacks.delete(entry)
        }
      },
    }
  })
