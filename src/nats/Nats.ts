/**
 * The connection to NATS: one per layer and process, shared by everything that runs on it. It
 * reconnects by itself and without limit, notices a dead peer within seconds, and closes with its
 * scope. Nothing that was written is lost with it, since nothing lives only in a process.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { AuthorizationError, connect, RequestError, UserAuthenticationExpiredError } from "nats"
import type { NatsConnection, ServerInfo } from "nats"
import * as Api from "./Api.ts"
import { type ConnectionStatus, track } from "./ConnectionStatus.ts"
import type { SyncInterval } from "./Durability.ts"
import type { EmbeddedOptions } from "./EmbeddedOptions.ts"
import * as EmbeddedServer from "./EmbeddedServer.ts"
import { Unavailable, UnsupportedServer } from "./errors.ts"
import * as Inbox from "./Inbox.ts"
import {
  InvalidNatsOptions,
  type NatsOptions,
  refusing,
  resolve,
  type Resolved,
  resolveNamespace,
} from "./NatsOptions.ts"
import { ignoreLate } from "./SocketErrors.ts"
import { isSupported, wanted } from "./ServerVersion.ts"
import * as Violations from "./Violations.ts"
import process from "node:process"

export type { ConnectionStatus } from "./ConnectionStatus.ts"
export type { EmbeddedOptions }
export {
  type Authentication,
  InvalidNatsOptions,
  type NatsOptions,
  type Tls,
} from "./NatsOptions.ts"

/** The server connected to, by its own word. */
export interface ConnectedServer {
  /** Changes with every start of the server. */
  readonly id: string
  /** For example `2.14.0`. */
  readonly version: string
  /** The largest message it takes, in bytes. */
  readonly maxPayload: number
}

/** The connection, and what the floors above need to know about it. */
export interface Nats {
  /** The client library's connection. Only `src/nats` uses it. */
  readonly connection: NatsConnection
  /** Which installation inside the NATS account. */
  readonly namespace: string
  /** The server connected to now, or the last one while there is none. */
  readonly server: () => ConnectedServer
  /** The current state first, then each change; ends after `closed`. For any number of readers. */
  readonly status: Stream.Stream<ConnectionStatus>
  /** The state of the connection now. */
  readonly current: () => ConnectionStatus
  /** Calls back synchronously after each reconnect; returns the unsubscribe. */
  readonly onReconnect: (callback: () => void) => () => void
  /** How often the server syncs, where this process has configured it. */
  readonly knownSyncInterval: () => SyncInterval | undefined
}

/** The connection as a service. */
export const Nats: Context.Service<Nats, Nats> = Context.Service<Nats>("portfire/nats/Nats")

/** The server knows nobody by the credentials given, or asks for some and got none. */
export class AuthenticationFailed extends Data.Error<{
  /** Where it was tried. */
  readonly server: string
  /** What was shown, in words, for example `the user alice`. */
  readonly authenticatedBy: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "AuthenticationFailed"
  /** Name in stack traces. */
  override readonly name = "AuthenticationFailed"
  /** False: other credentials are needed. */
  readonly retryable = false
  /** One sentence a person can act on. */
  override get message(): string {
    return `the NATS server at ${this.server} refused ${this.authenticatedBy}. Check the ` +
      "authentication option, or PORTFIRE_NATS_USER and its companions in the environment."
  }
}

/** What making the connection may fail with. */
export type ConnectError =
  | Unavailable
  | UnsupportedServer
  | InvalidNatsOptions
  | AuthenticationFailed

type DialError = Unavailable | InvalidNatsOptions | AuthenticationFailed

/** How long one try to connect may take. */
const connectTimeoutMillis = 5_000
/** A peer that answers none of two pings is dead: noticed after at most 15 s. */
const pingIntervalMillis = 5_000
const reconnectWaitMillis = 100
const reconnectJitterMillis = 200
/** A question that is lost with the connection under it is asked again. */
const jetStreamTries = 2
/** How long the buffered writes may take on their way out when the scope closes. */
const drainMillis = 2_000

/** A server that isn't there yet is tried for as long as it takes. */
const firstConnectSchedule = Schedule.spaced("1 second")
/** The embedded one was there a moment ago; if it was killed since, it is back within seconds. */
const embeddedConnectSchedule = Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 50 }))

const described = (info: ServerInfo | undefined): ConnectedServer => ({
  id: info?.server_id ?? "",
  version: info?.version ?? "",
  maxPayload: info?.max_payload ?? 0,
})

/** The client's words for a dial that failed, made ours. */
const dialError = (settings: Resolved, cause: unknown): DialError => {
  const server = settings.servers.join(", ")
  if (cause instanceof AuthorizationError || cause instanceof UserAuthenticationExpiredError) {
    return new AuthenticationFailed({ server, authenticatedBy: settings.authenticatedBy })
  }
  const mustEncrypt = settings.tls === null && cause instanceof Error &&
    cause.message.includes("certFile")
  return mustEncrypt
    ? new InvalidNatsOptions({ field: "tls", problem: `is false, but ${server} asks for it` })
    : new Unavailable({ operation: `connecting to ${server}`, cause })
}

const dial = (settings: Resolved): Effect.Effect<NatsConnection, DialError> =>
  Effect.callback((resume) => {
    let abandoned = false
    connect({
      servers: settings.servers,
      name: settings.name,
      ...(settings.inboxPrefix === undefined ? {} : { inboxPrefix: settings.inboxPrefix }),
      ...(settings.authenticator === undefined ? {} : { authenticator: settings.authenticator }),
      ...(settings.tls === undefined ? {} : { tls: settings.tls }),
      timeout: connectTimeoutMillis,
      maxReconnectAttempts: -1,
      reconnectTimeWait: reconnectWaitMillis,
      reconnectJitter: reconnectJitterMillis,
      reconnectJitterTLS: reconnectJitterMillis,
      pingInterval: pingIntervalMillis,
      // Credentials that a server refuses for a while (being rotated, restarting with another
      // configuration) must not end a connection that is to last for ever.
      ignoreAuthErrorAbort: true,
    }).then(
      (connection) => {
        if (abandoned) return void connection.close()
        ignoreLate(connection)
        if (settings.inboxPrefix !== undefined) Inbox.setPrefix(connection, settings.inboxPrefix)
        resume(Effect.succeed(connection))
      },
      (cause: unknown) => resume(Effect.fail(dialError(settings, cause))),
    )
    return Effect.sync(() => {
      abandoned = true
    })
  })

/** Dials again while no server answers, as long as the schedule says; tells once of each reason. */
const dialAgain = (
  settings: Resolved,
  schedule: Schedule.Schedule<unknown>,
): Effect.Effect<NatsConnection, DialError> =>
  Effect.suspend(() => {
    let told = ""
    const tell = (error: DialError) => {
      if (error.message === told) return Effect.void
      told = error.message
      return Effect.logInfo(`waiting for NATS: ${error.message}`)
    }
    return Effect.retry(Effect.tapError(dial(settings), tell), {
      while: (error) => error._tag === "Unavailable",
      schedule,
    })
  })

/** Flushes and closes; never hangs, also when the server is gone. */
const hangUp = (connection: NatsConnection, connected: boolean): Effect.Effect<void> =>
  Effect.promise(async () => {
    if (connection.isClosed()) return
    if (connected) {
      let timer: ReturnType<typeof setTimeout> | undefined
      const limit = new Promise<void>((done) => {
        timer = setTimeout(done, drainMillis)
      })
      await Promise.race([connection.drain().catch(() => {}), limit])
      clearTimeout(timer)
    }
    await connection.close()
  })

const checkJetStream = (
  connection: NatsConnection,
  version: string,
): Effect.Effect<void, Unavailable | UnsupportedServer | InvalidNatsOptions> => {
  const off = (what: string) =>
    new UnsupportedServer({
      version,
      reason:
        `${what}. Start the server with JetStream (nats-server -js, or a jetstream block in ` +
        "its configuration), or use an account that has it.",
    })
  const operation = "asking for JetStream"
  return Effect.tryPromise({
    try: () => connection.request("$JS.API.INFO", "", { timeout: Api.requestTimeoutMillis }),
    catch: (cause) => cause,
  }).pipe(
    Effect.matchEffect({
      onSuccess: (message): Effect.Effect<void, UnsupportedServer> => {
        const { error } = message.json<Api.ApiReply>()
        return error === undefined ? Effect.void : Effect.fail(
          off(`JetStream is not usable (${error.description}, code ${error.err_code ?? 0})`),
        )
      },
      onFailure: (
        cause,
      ): Effect.Effect<void, Unavailable | UnsupportedServer | InvalidNatsOptions> => {
        const violation = Violations.violationIn(cause)
        // Who may only publish can't ask; the first publish tells.
        if (violation?.operation === "publish") return Effect.void
        if (violation !== undefined) {
          return Effect.fail(
            new InvalidNatsOptions({
              field: "inboxPrefix",
              problem: `this user may not subscribe to "${violation.subject}", where it would ` +
                "get its answers; set it to the prefix that the user's permissions allow",
            }),
          )
        }
        return cause instanceof RequestError && cause.isNoResponders()
          ? Effect.fail(off("JetStream is not enabled"))
          : Effect.fail(new Unavailable({ operation, cause }))
      },
    }),
  )
}

/** A connection that is closed with the scope, to a server that has what the engine needs. */
const make = (
  settings: Resolved,
  schedule?: Schedule.Schedule<unknown>,
  knownSyncInterval: Nats["knownSyncInterval"] = () => undefined,
): Effect.Effect<Nats, ConnectError, Scope.Scope> =>
  Effect.gen(function* () {
    const dialled = schedule === undefined ? dial(settings) : dialAgain(settings, schedule)
    const { connection, tracker } = yield* Effect.acquireRelease(
      Effect.flatMap(
        dialled,
        (connection) => Effect.map(track(connection), (tracker) => ({ connection, tracker })),
      ),
      ({ connection, tracker }) => hangUp(connection, tracker.current().state === "connected"),
      { interruptible: true },
    )
    let last = described(connection.info)
    if (!isSupported(last.version)) {
      return yield* new UnsupportedServer({
        version: last.version,
        reason: `${wanted}. Upgrade the server.`,
      })
    }
    yield* Effect.retry(checkJetStream(connection, last.version), {
      while: (error) => error._tag === "Unavailable",
      times: jetStreamTries,
    })
    const service: Omit<Nats, "connection"> = {
      namespace: settings.namespace,
      server: () => {
        if (connection.info !== undefined) last = described(connection.info)
        return last
      },
      status: tracker.changes,
      current: tracker.current,
      onReconnect: tracker.onReconnect,
      knownSyncInterval,
    }
    // The client's connection has the private key in it: nothing to be printed or serialized.
    return Object.defineProperty(service, "connection", { value: connection }) as Nats
  })

/**
 * The connection to the server that the options or the environment name.
 *
 * Fails when no server answers (`Unavailable`), it refuses our credentials (`AuthenticationFailed`),
 * it is too old or without JetStream (`UnsupportedServer`), or an option has a bad value
 * (`InvalidNatsOptions`). Once made, it never gives up.
 */
export const layer = (options: NatsOptions = {}): Layer.Layer<Nats, ConnectError> =>
  Layer.effect(
    Nats,
    Effect.flatMap(
      resolve(options),
      (settings) => make(settings, settings.waitOnFirstConnect ? firstConnectSchedule : undefined),
    ),
  )

/**
 * The connection to a NATS server that this process starts, watches and stops, or shares with other
 * processes that use the same data folder. See `EmbeddedOptions`.
 */
export const layerEmbedded = (
  options: EmbeddedOptions = {},
): Layer.Layer<Nats, ConnectError | EmbeddedServer.EmbeddedServerError> =>
  Layer.effect(
    Nats,
    Effect.gen(function* () {
      const namespace = yield* refusing(() => resolveNamespace(options.namespace, process.env))
      const server = yield* EmbeddedServer.start(options)
      const settings = yield* resolve({
        servers: server.address,
        authentication: { user: server.user, password: server.password },
        namespace,
      }, {})
      const nats = yield* make(settings, embeddedConnectSchedule, server.syncInterval)
      server.onMove((address) => nats.connection.setServers([address]))
      yield* Effect.forkScoped(Stream.runForEach(
        nats.status,
        ({ state }) => state === "disconnected" ? Effect.sync(server.look) : Effect.void,
      ))
      return nats
    }),
  )
