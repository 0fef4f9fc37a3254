/**
 * Reads what decides how much a write survives: where the copies of each stream lie, and what the
 * servers that hold them tell of themselves.
 *
 * A server tells its sync interval, its tags and its version in answer to `JSZ`, a request of the
 * system account. Another account gets that answer where an operator lets it import the request; else
 * nobody answers, and it is unknown.
 */
import * as Effect from "effect/Effect"
import type { NatsConnection } from "nats"
import * as Api from "./Api.ts"
import type {
  Asked,
  Durability,
  DurabilityServer,
  Facts,
  StreamFacts,
  SyncInterval,
} from "./Durability.ts"
import { assess, DurabilityNotMet, gapsOf, refusedCopies } from "./Durability.ts"
import type { NatsError } from "./errors.ts"
import type { Nats } from "./Nats.ts"
import { plan, type Storage } from "./TopologyPlan.ts"
import { violationIn } from "./Violations.ts"

/** What a stream's information says about its copies. Of a server without a cluster there is none. */
export interface StreamInfo {
  readonly created: string
  readonly state: { readonly last_seq: number }
  readonly config: { readonly name: string; readonly storage: Storage }
  readonly cluster?: {
    readonly leader?: string
    readonly replicas?: ReadonlyArray<{
      readonly name: string
      readonly current: boolean
      readonly offline?: boolean
      /** Nanoseconds since the leader last heard of it. */
      readonly active: number
    }>
  }
}

/** Asks for a stream. */
export const streamInfo = (
  connection: NatsConnection,
  stream: string,
  timeoutMillis?: number,
): Effect.Effect<StreamInfo, NatsError> =>
  Api.call<StreamInfo>(
    connection,
    `STREAM.INFO.${stream}`,
    undefined,
    `asking for stream ${stream}`,
    timeoutMillis,
  )

/** The streams whose loss would lose jobs; what jobs wrote isn't among them. */
export const streamsOf = (namespace: string, partitions: number): ReadonlyArray<string> =>
  plan({ namespace, partitions }).streams
    .filter(({ table }) => table !== "logs")
    .map(({ name }) => name)

/**
 * Where copies really lie. The configured number is no answer: a server without a cluster takes an
 * update to three replicas and keeps one.
 */
const copiesOf = ({ cluster, config }: StreamInfo, server: string): StreamFacts => ({
  name: config.name,
  storage: config.storage,
  servers: cluster === undefined ? [server] : [
    ...(cluster.leader === undefined || cluster.leader === "" ? [] : [cluster.leader]),
    ...(cluster.replicas ?? []).map(({ name }) => name),
  ],
})

interface ServerReport {
  readonly server: {
    readonly name: string
    readonly ver?: string
    readonly tags?: ReadonlyArray<string>
  }
  readonly data?: {
    readonly config?: {
      readonly sync_interval?: number
      readonly sync_always?: boolean
      readonly unique_tag?: string
    }
  }
}

const serverOf = ({ data, server }: ServerReport): DurabilityServer => {
  const { sync_always, sync_interval, unique_tag = "" } = data?.config ?? {}
  const syncInterval: SyncInterval | undefined = sync_always === true
    ? "always"
    : typeof sync_interval === "number" && sync_interval > 0
    ? sync_interval / 1_000_000
    : undefined
  return {
    name: server.name,
    version: server.ver,
    syncInterval,
    failureDomain: unique_tag === ""
      ? undefined
      : server.tags?.find((tag) => tag.startsWith(unique_tag)),
  }
}

/** How long to wait for servers that don't answer, while others do. */
const tellWithinMillis = 1_000

/** Connections that may not ask; asking again would only fill the server's log. */
const refused = new WeakSet<NatsConnection>()

/** What servers tell, by name. Never fails: who doesn't answer, or may not, has told nothing. */
const ask = (
  connection: NatsConnection,
  wanted: ReadonlySet<string>,
): Effect.Effect<Map<string, DurabilityServer>> =>
  Effect.promise(async () => {
    const told = new Map<string, DurabilityServer>()
    if (refused.has(connection)) return told
    const waiting = new Set(wanted)
    try {
      const answers = await connection.requestMany("$SYS.REQ.SERVER.PING.JSZ", "", {
        maxWait: tellWithinMillis,
      })
      for await (const answer of answers) {
        const server = serverOf(answer.json<ServerReport>())
        told.set(server.name, server)
        waiting.delete(server.name)
        if (waiting.size === 0) break
      }
    } catch (cause) {
      // Nobody answers this account, or it may not ask.
      if (violationIn(cause) !== undefined) refused.add(connection)
    }
    return told
  })

/** Reads all facts. What this process knows of its own embedded server needs no asking. */
const read = (nats: Nats, partitions: number): Effect.Effect<Facts, NatsError> =>
  Effect.gen(function* () {
    const { connection, namespace } = nats
    const own = connection.info?.server_name ?? "unnamed"
    const streams = yield* Effect.forEach(
      streamsOf(namespace, partitions),
      (stream) => Effect.map(streamInfo(connection, stream), (info) => copiesOf(info, own)),
      { concurrency: "unbounded" },
    )
    const syncInterval = nats.knownSyncInterval()
    const servers = syncInterval === undefined
      ? yield* ask(connection, new Set(streams.flatMap(({ servers }) => servers)))
      : new Map<string, DurabilityServer>([[own, { name: own, syncInterval }]])
    const { version } = nats.server()
    const known = servers.get(own)
    servers.set(own, { ...known, name: own, version: known?.version ?? version })
    return { streams, servers }
  })

/** What the servers do now. */
export const look = (
  nats: Nats,
  partitions: number,
  asked: Asked,
): Effect.Effect<Durability, NatsError> =>
  Effect.map(read(nats, partitions), (facts) => assess(facts, asked))

/** What the servers do now; fails when that isn't what was asked for. */
export const ensure = (
  nats: Nats,
  partitions: number,
  asked: Asked,
): Effect.Effect<Durability, NatsError | DurabilityNotMet> =>
  Effect.flatMap(look(nats, partitions, asked), (found) => {
    const gaps = gapsOf(found, asked)
    return asked.level === undefined || gaps.length === 0
      ? Effect.succeed(found)
      : Effect.fail(new DurabilityNotMet({ asked: asked.level, found, gaps }))
  })

/** Codes of a server that can't keep so many copies: no cluster, or one with too few peers. */
const tooFewServers: ReadonlySet<number> = new Set([10_074, 10_005])

/** Names what NATS refuses when streams are made with more copies than there are servers. */
export const explain =
  <E>(asked: Asked) => (error: E | NatsError): E | NatsError | DurabilityNotMet => {
    const refused = error as NatsError
    return asked.level !== undefined && refused._tag === "Rejected" &&
        tooFewServers.has(refused.code)
      ? refusedCopies(asked.level, refused.description)
      : error
  }
