/** A client with its connection, for code with promises. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as ClientService from "../../src/client/Client.ts"
import * as Middleware from "../../src/client/Middleware.ts"
import * as Encryption from "../../src/core/Encryption.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import { show } from "../../src/core/Names.ts"
import type { EmbeddedOptions } from "../../src/nats/EmbeddedOptions.ts"
import * as Nats from "../../src/nats/Nats.ts"
import type { NatsOptions } from "../../src/nats/NatsOptions.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { onSignals } from "../signals.ts"
import { type Client, makeClient } from "./Client.ts"
import { type CallOptions, ClientClosed, type Run, settle } from "./run.ts"
import { type ServeOptions, type Server, start } from "./Server.ts"

/** What both kinds of connection take. */
export interface CommonOptions extends CallOptions {
  /** Middleware around all jobs of the client and its servers, outermost first; default none. */
  readonly middleware?: ReadonlyArray<Middleware.Middleware> | undefined
  /**
   * Keys with which what jobs are given and what they give is encrypted, or a function that gets them;
   * default none.
   */
  readonly encryption?:
    | Encryption.EncryptionOptions
    | (() => Promise<Encryption.EncryptionOptions>)
    | undefined
  /** How the streams of the namespace are made when they don't exist yet. */
  readonly streams?: Wire.StreamOptions | undefined
}

/**
 * Where NATS is: the options of `Nats.layer`, for a server that is there; or `embedded`, for one that
 * this process starts and stops, with the options of `Nats.layerEmbedded` or `true` for none.
 */
export type ConnectOptions =
  | CommonOptions & NatsOptions & { readonly embedded?: undefined }
  | CommonOptions & { readonly embedded: true | EmbeddedOptions }

/** A connected client, which can run servers too. */
export interface Portfire extends Client {
  /**
   * Starts a server in this process, on the connection of the client. Resolves when it works; rejects
   * with `InvalidOptions`, or with `DuplicateJob` for two handlers of one name.
   */
  serve(options: ServeOptions): Promise<Server>
  /** Runs an Effect that needs the client or the connection: for programs with both styles. */
  run<A, E>(
    effect: Effect.Effect<A, E, ClientService.Client | Nats.Nats>,
    options?: CallOptions,
  ): Promise<A>
  /**
   * Stops its servers gracefully, then closes the connection, and stops the embedded NATS server if it
   * has one. Calls that wait reject with `ClientClosed`. A second call waits too.
   */
  close(): Promise<void>
  /** The same as {@link Portfire.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

type Live = Layer.Layer<
  ClientService.Client | Nats.Nats,
  Layer.Error<typeof ClientService.layer> | Layer.Error<ReturnType<typeof Nats.layerEmbedded>>
>

const liveOf = (options: ConnectOptions): Live => {
  const { embedded, encryption, middleware = [], signal: _, streams = {}, ...rest } = options as
    & CommonOptions
    & NatsOptions
    & { readonly embedded?: true | EmbeddedOptions }
  const surplus = embedded === undefined ? [] : Object.keys(rest)
  if (surplus.length > 0) {
    throw new InvalidOptions({
      field: surplus.join(", "),
      value: show(embedded),
      reason: "an embedded server takes its options in `embedded`",
    })
  }
  const nats: Layer.Layer<Nats.Nats, Layer.Error<ReturnType<typeof Nats.layerEmbedded>>> =
    embedded === undefined
      ? Nats.layer(rest)
      : Nats.layerEmbedded(embedded === true ? {} : embedded)
  return ClientService.layer.pipe(
    Layer.provideMerge(nats),
    Layer.provideMerge(Middleware.layer(middleware)),
    Layer.provideMerge(Layer.succeed(Wire.StreamSettings, streams)),
    Layer.provideMerge(
      encryption === undefined ? Layer.succeed(Encryption.Encryption, undefined) : Encryption.layer(
        typeof encryption === "function" ? Effect.promise(encryption) : encryption,
      ),
    ),
  )
}

/**
 * Connects to NATS and gives the client. Without options it takes what the environment says, as
 * `Nats.layer` does.
 *
 * Rejects when no server answers (`Unavailable`), it refuses our credentials
 * (`AuthenticationFailed`), it is too old or without JetStream (`UnsupportedServer`), or an option has
 * a bad value (`InvalidNatsOptions`, `InvalidOptions`). Once connected, it never gives up.
 *
 * @example
 * ```ts
 * import { connect, job } from "@portfire/portfire/promise"
 *
 * const Hello = job("hello")
 *
 * const portfire = await connect({ embedded: true })
 * await portfire.serve({
 *   queues: { default: 20 },
 *   handlers: [Hello.handler((_, { id }) => console.log("hello from", id))],
 * })
 * await portfire.execute(Hello)
 * await portfire.close()
 * ```
 */
export const connect = async (options: ConnectOptions = {}): Promise<Portfire> => {
  const runtime = ManagedRuntime.make(liveOf(options))
  const stops = new Set<() => Promise<void>>()
  let closing: Promise<void> | undefined

  const run: Portfire["run"] = (effect, options) =>
    settle((run) => {
      if (closing !== undefined) throw new ClientClosed()
      return runtime.runPromiseExit(effect, run)
    }, options?.signal)

  let ignoreSignals: (() => void) | undefined
  const close = async () => {
    await Promise.all([...stops].map((stop) => stop()))
    await runtime.dispose()
    ignoreSignals?.()
  }

  const serve: Portfire["serve"] = async ({ handlers, signal, signals, ...options }) => {
    if (!Array.isArray(handlers)) {
      const reason = "a list of handlers is expected, like [Hello.handler(async () => {})]"
      throw new InvalidOptions({ field: "handlers", value: show(handlers), reason })
    }
    const { server, stop: end } = await run(start(handlers, options), { signal })
    const stop = async () => {
      await end()
      stops.delete(stop)
    }
    stops.add(stop)
    if (signals === true) ignoreSignals ??= onSignals(() => void portfire.close())
    return {
      id: server.id,
      running: server.running,
      // Not by the runtime of the client: it answers after the client was closed, too.
      health: () => Effect.runPromise(server.health),
      stop,
      awaitExit: (options) => run(server.awaitExit, options),
      [Symbol.asyncDispose]: stop,
    }
  }
  try {
    // What the layers fail with is the failure of the first effect that needs them.
    await run(Effect.void, options)
  } catch (error) {
    await runtime.dispose()
    throw error
  }
  const portfire: Portfire = {
    ...makeClient(run as Run),
    serve,
    run,
    close: () => closing ??= close(),
    [Symbol.asyncDispose]: () => portfire.close(),
  }
  return portfire
}
