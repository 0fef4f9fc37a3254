/**
 * How much an acknowledged write survives, as named levels: what is asked for, what the servers were
 * found to do, and whether the one gives the other. Pure; `DurabilityFacts.ts` reads the servers.
 *
 * What can't be known counts as unknown, never as good. Where a server doesn't tell, an operator may
 * state it; that is recorded as stated, and a server that tells otherwise is believed instead.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import { InvalidOptions } from "../core/errors.ts"
import { show } from "../core/Names.ts"
import { millisOf } from "../core/Time.ts"
import type { Storage } from "./TopologyPlan.ts"

/**
 * - `memory`: a restart of the servers loses everything; for tests.
 * - `standard`: on disk, with two copies or more, or on one server that syncs at least each second.
 * - `powerSafe`: on disk, three copies or more in separate failure domains, each on a server that
 *   syncs every write before it counts.
 */
export type DurabilityLevel = "memory" | "standard" | "powerSafe"

/** How often a server brings to its disk what it has written: every write, or each so many ms. */
export type SyncInterval = "always" | number

/** What is asked of the servers, and what an operator states of them. */
export interface DurabilityOptions {
  /**
   * The level that must be given, or nothing starts. Left out: nothing is asked, only reported.
   * `memory` and `powerSafe` also decide how streams are made: in memory, and with three copies.
   */
  readonly durability?: DurabilityLevel | undefined
  /**
   * What `sync_interval` the servers are set to, where they don't tell: `"always"`, or a duration. It
   * is the operator's word, and recorded as such.
   */
  readonly syncInterval?: "always" | Duration.Input | undefined
  /** That the copies are in separate failure domains, where the servers don't tell. As above. */
  readonly failureDomains?: "separate" | undefined
}

/** A server that holds copies, as far as it tells. */
export interface DurabilityServer {
  /** Its name. */
  readonly name: string
  /** For example `2.14.0`; absent when it didn't tell. */
  readonly version?: string | undefined
  /** What it was configured with; absent when it didn't tell. */
  readonly syncInterval?: SyncInterval | undefined
  /** Its failure domain: its tag that begins with its `unique_tag`; absent when it has none. */
  readonly failureDomain?: string | undefined
}

/** What the servers were found to do. Plain values. */
export interface Durability {
  /** The level asked for; absent when none was. */
  readonly asked?: DurabilityLevel | undefined
  /** The level given. `unknown`: it depends on what isn't known; at least a killed process is safe. */
  readonly level: DurabilityLevel | "belowStandard" | "unknown"
  /** Whether the level rests on the operator's word, in part at least. */
  readonly stated: boolean
  /** Where the streams are kept. */
  readonly storage: Storage
  /** Copies of the stream that has the fewest, counted by where they lie. */
  readonly copies: number
  /** The slowest sync among the servers that hold copies. */
  readonly syncInterval: SyncInterval | "unknown"
  /** Where the copies lie; `single` for one copy. */
  readonly failureDomains: "separate" | "shared" | "single" | "unknown"
  /** The servers that hold copies. */
  readonly servers: ReadonlyArray<DurabilityServer>
  /** One line for people. */
  readonly summary: string
}

/** What keeps the servers from giving a level. */
export interface DurabilityGap {
  /** What it is about. */
  readonly code: "storage" | "copies" | "sync" | "failureDomains"
  /** False: whether it is so can't be told. */
  readonly known: boolean
  /** What was found, and what is needed. */
  readonly found: string
  /** How to get it. */
  readonly remedy: string
}

/** The servers don't give the durability that was asked for, or don't show that they do. */
export class DurabilityNotMet extends Data.Error<{
  /** What was asked for. */
  readonly asked: DurabilityLevel
  /** What was found; absent when NATS refused to keep the streams that way. */
  readonly found: Durability | undefined
  /** What is missing, each with what helps. */
  readonly gaps: ReadonlyArray<DurabilityGap>
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "DurabilityNotMet"
  /** Name in stack traces. */
  override readonly name = "DurabilityNotMet"
  /** False: the servers or the options have to be changed first. */
  readonly retryable = false
  /** One line per gap, each with what can be done. */
  override get message(): string {
    const sure = this.gaps.some(({ known }) => known)
    const found = this.found === undefined ? "" : `\n  found: ${this.found.summary}`
    return `durability ${this.asked} was asked for, and NATS ` +
      `${sure ? "doesn't give it" : "doesn't tell whether it gives it"}:\n${
        this.gaps.map(({ found, remedy }) => `  ${found}; ${remedy}`).join("\n")
      }${found}`
  }
}

/** Where the copies of one stream lie. */
export interface StreamFacts {
  readonly name: string
  readonly storage: Storage
  /** Names of the servers that hold a copy. */
  readonly servers: ReadonlyArray<string>
}

/** What was read. */
export interface Facts {
  readonly streams: ReadonlyArray<StreamFacts>
  /** What servers told, by name. */
  readonly servers: ReadonlyMap<string, DurabilityServer>
}

/** Options after checking. */
export interface Asked {
  readonly level: DurabilityLevel | undefined
  readonly syncInterval: SyncInterval | undefined
  readonly separate: boolean
}

const levels: ReadonlyArray<unknown> = ["memory", "standard", "powerSafe"]
/** Slowest sync with which one copy counts as `standard`. */
const standardSyncMillis = 1_000
/** Copies of which a majority is left when one is lost. */
const safeCopies = 3

const refuse = (field: string, value: unknown, reason: string): InvalidOptions =>
  new InvalidOptions({ field, value: show(value), reason })

/** Checks the options. */
export const resolve = (options: DurabilityOptions): Asked | InvalidOptions => {
  const { durability, failureDomains, syncInterval } = options
  if (durability !== undefined && !levels.includes(durability)) {
    return refuse("durability", durability, `it is one of ${levels.join(", ")}`)
  }
  if (failureDomains !== undefined && failureDomains !== "separate") {
    return refuse("failureDomains", failureDomains, 'it is "separate", or left out')
  }
  const millis = syncInterval === undefined || syncInterval === "always"
    ? syncInterval
    : millisOf("syncInterval", syncInterval)
  if (millis instanceof InvalidOptions) return millis
  return { level: durability, syncInterval: millis, separate: failureDomains === "separate" }
}

/** The storage and copies that a level needs, where the options leave them open. */
export const planned = (
  level: DurabilityLevel | undefined,
  options: { readonly storage?: Storage | undefined; readonly replicas?: number | undefined },
): { storage: Storage; replicas: number | undefined } | InvalidOptions => {
  const wanted: Storage = level === "memory" ? "memory" : "file"
  const { replicas, storage = wanted } = options
  if (level !== undefined && storage !== wanted) {
    return refuse("storage", storage, `durability ${level} needs ${wanted}`)
  }
  if (level !== "powerSafe") return { storage, replicas }
  return replicas === undefined || replicas >= safeCopies
    ? { storage, replicas: replicas ?? safeCopies }
    : refuse("replicas", replicas, `durability powerSafe needs ${safeCopies} or more`)
}

const slowest = (intervals: ReadonlyArray<SyncInterval | undefined>): Durability["syncInterval"] =>
  intervals.reduce<Durability["syncInterval"]>(
    (worst, interval) =>
      worst === "unknown" || interval === undefined
        ? "unknown"
        : worst === "always"
        ? interval
        : interval === "always"
        ? worst
        : Math.max(worst, interval),
    "always",
  )

const domainsOf = (
  { servers, streams }: Facts,
  stated: boolean,
): Durability["failureDomains"] => {
  if (streams.some((stream) => stream.servers.length === 1)) return "single"
  const domains = streams.map((stream) =>
    stream.servers.map((name) => servers.get(name)?.failureDomain)
  )
  const shared = domains.some((names) => {
    const known = names.filter((name) => name !== undefined)
    return new Set(known).size < known.length
  })
  if (shared) return "shared"
  return stated || !domains.flat().includes(undefined) ? "separate" : "unknown"
}

type Found = Omit<Durability, "level" | "summary" | "stated" | "asked">

const find = (facts: Facts, { separate, syncInterval }: Omit<Asked, "level">): Found => {
  const names = [...new Set(facts.streams.flatMap(({ servers }) => servers))].sort()
  const servers = names.map((name) => facts.servers.get(name) ?? { name })
  return {
    storage: facts.streams.some(({ storage }) => storage === "memory") ? "memory" : "file",
    copies: Math.min(...facts.streams.map(({ servers }) => servers.length)),
    syncInterval: slowest(servers.map((server) => server.syncInterval ?? syncInterval)),
    failureDomains: domainsOf(facts, separate),
    servers,
  }
}

const isAtLeastEachSecond = (interval: Found["syncInterval"]): boolean =>
  interval === "always" || typeof interval === "number" && interval <= standardSyncMillis

const levelOf = ({ copies, failureDomains, storage, syncInterval }: Found): Durability["level"] => {
  if (storage === "memory") return "memory"
  if (copies >= safeCopies && syncInterval === "always" && failureDomains === "separate") {
    return "powerSafe"
  }
  if (copies > 1 || isAtLeastEachSecond(syncInterval)) return "standard"
  return syncInterval === "unknown" ? "unknown" : "belowStandard"
}

const every = (interval: SyncInterval): string =>
  interval === "always" ? "every write" : `every ${interval / 1_000} s`

const summaryOf = (found: Found, level: Durability["level"], stated: boolean): string => {
  const { copies, failureDomains, servers, storage, syncInterval } = found
  const basis = stated ? " (stated, not verified)" : ""
  const where = copies === 1 ? "1 copy" : `${copies} copies`
  const domains = copies === 1 ? "" : `, failure domains ${failureDomains}`
  const sync = storage === "memory"
    ? ""
    : syncInterval === "unknown"
    ? ", sync interval unknown"
    : `, synced ${every(syncInterval)}`
  const versions = [...new Set(servers.flatMap(({ version }) => version ?? []))].sort()
  const by = versions.length === 0 ? "" : `, nats-server ${versions.join(", ")}`
  const inWords = level === "belowStandard" ? "below standard" : level
  return `durability ${inWords}${basis}: ${where} ` +
    `${storage === "file" ? "on disk" : "in memory"}${domains}${sync}${by}`
}

/** What the facts amount to. */
export const assess = (facts: Facts, asked: Asked): Durability => {
  const found = find(facts, asked)
  const level = levelOf(found)
  const verified = find(facts, { separate: false, syncInterval: undefined })
  const stated = levelOf(verified) !== level
  return {
    ...(asked.level === undefined ? {} : { asked: asked.level }),
    level,
    stated,
    ...found,
    summary: summaryOf(found, level, stated),
  }
}

const tellSync =
  "let its account import $SYS.REQ.SERVER.PING.JSZ so that it tells, or state it by " +
  "the option syncInterval (docs/durability.md)"

const syncGaps = (
  servers: Durability["servers"],
  stated: SyncInterval | undefined,
  isEnough: (interval: SyncInterval) => boolean,
  needed: string,
): ReadonlyArray<DurabilityGap> =>
  servers.flatMap(({ name, syncInterval = stated }): ReadonlyArray<DurabilityGap> =>
    syncInterval === undefined
      ? [{
        code: "sync",
        known: false,
        found: `server ${name} doesn't tell how often it syncs`,
        remedy: tellSync,
      }]
      : isEnough(syncInterval)
      ? []
      : [{
        code: "sync",
        known: true,
        found: `server ${name} syncs ${every(syncInterval)}`,
        remedy: `set sync_interval: ${needed} in its jetstream block and restart it`,
      }]
  )

const threeServers = "run three servers as a cluster, in different racks or zones; of an " +
  "embedded server there is only one"

const copiesGap = (copies: number): DurabilityGap => ({
  code: "copies",
  known: true,
  found: `the streams have ${copies === 1 ? "one copy" : `${copies} copies`}, needed are ` +
    `${safeCopies}: on one machine a disk that is lost takes everything with it`,
  remedy: threeServers,
})

const domainGap = (domains: Durability["failureDomains"]): ReadonlyArray<DurabilityGap> =>
  domains === "separate" || domains === "single" ? [] : [{
    code: "failureDomains",
    known: domains === "shared",
    found: domains === "shared"
      ? "two copies lie in one failure domain"
      : "the servers don't tell whether the copies lie in separate failure domains",
    remedy: domains === "shared"
      ? "spread the servers over as many domains as there are copies, and move the copies"
      : 'give the servers tags and unique_tag, or state it by failureDomains: "separate" ' +
        "(docs/durability.md)",
  }]

/** Why the level asked for isn't given; nothing when it is. */
export const gapsOf = (found: Durability, asked: Asked): ReadonlyArray<DurabilityGap> => {
  if (asked.level === undefined) return []
  const { copies, failureDomains, servers, storage } = found
  if (asked.level === "memory") return []
  if (storage === "memory") {
    return [{
      code: "storage",
      known: true,
      found: "the streams are kept in memory",
      remedy: "use another namespace, whose streams are then made on disk",
    }]
  }
  if (asked.level === "standard") {
    return found.level === "standard" || found.level === "powerSafe" ? [] : syncGaps(
      servers,
      asked.syncInterval,
      isAtLeastEachSecond,
      '"1s"',
    )
  }
  return [
    ...(copies >= safeCopies ? [] : [copiesGap(copies)]),
    ...syncGaps(servers, asked.syncInterval, (interval) => interval === "always", "always"),
    ...domainGap(failureDomains),
  ]
}

/** The cluster is too small for the copies that a level needs, by its own word. */
export const refusedCopies = (asked: DurabilityLevel, description: string): DurabilityNotMet =>
  new DurabilityNotMet({
    asked,
    found: undefined,
    gaps: [{
      code: "copies",
      known: true,
      found: `NATS can't keep that many copies: ${description}`,
      remedy: threeServers,
    }],
  })
