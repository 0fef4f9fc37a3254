/** Servers for code with promises. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Nats } from "../../src/nats/Nats.ts"
import type { Health } from "../Health.ts"
import * as EffectServer from "../Server.ts"
import type { ServerOptions } from "../ServerOptions.ts"
import type { CallOptions } from "./run.ts"

/** Options of a server. */
export interface ServeOptions extends ServerOptions, CallOptions {
  /**
   * What it can run: handlers of definitions, or any layers that provide some. Handlers of Effect
   * definitions can be among them.
   */
  readonly handlers: ReadonlyArray<Layer.Layer<never, unknown>>
  /**
   * Whether SIGINT and SIGTERM stop the server gracefully and then close the client, so that the
   * process comes to its end; a second signal stops it at once, with code 130. Default no.
   */
  readonly signals?: boolean | undefined
}

/** A running server. */
export interface Server {
  /** Its id, unique among all servers: name, process id and a random part. */
  readonly id: string
  /** Attempts that run now. */
  readonly running: () => number
  /**
   * Whether it lives and can do its work, and what isn't as it should be. Never rejects, also after
   * its end. It asks NATS at most once a second and waits for it up to a second.
   */
  health(): Promise<Health>
  /**
   * Stops it gracefully: nothing new starts, running attempts get the grace period, then their signal
   * is aborted and their jobs are given back. Resolves when it has stopped; a second call waits too.
   */
  stop(): Promise<void>
  /**
   * Waits for its end: resolves when it was stopped, rejects with `IntensityExceeded` when its actors
   * crashed more often than their supervisors allow.
   */
  awaitExit(options?: CallOptions): Promise<void>
  /** The same as {@link Server.stop}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** A server that was started: what it is, and how to stop it. */
export interface Started {
  readonly server: EffectServer.Server
  readonly stop: () => Promise<void>
}

/** Starts a server on the connection, which lives until it is stopped. */
export const start = (
  handlers: ServeOptions["handlers"],
  options: ServerOptions,
): Effect.Effect<Started, unknown, Nats> =>
  Effect.suspend(() => {
    const scope = Scope.makeUnsafe()
    const [first = Layer.empty, ...others] = handlers
    const live = Layer.provide(EffectServer.layer(options), Layer.mergeAll(first, ...others))
    let stopping: Promise<void> | undefined
    const stop = () => stopping ??= Effect.runPromise(Scope.close(scope, Exit.void))
    return Effect.onExit(
      Effect.map(Layer.buildWithScope(live, scope), (context): Started => ({
        server: Context.get(context, EffectServer.Server),
        stop,
      })),
      (exit) => Exit.isSuccess(exit) ? Effect.void : Effect.promise(stop),
    )
  })
