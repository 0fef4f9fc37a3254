/**
 * Whether a server lives and can do its work, for whoever decides to restart it or to send traffic:
 * an orchestrator's probes, an operator, a dashboard.
 *
 * What the process knows of itself is looked at for each call. What only NATS knows is asked for at
 * most once a second, by one request per stream, with a bound.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Finding } from "../src/nats/Audit.ts"
import type { Durability } from "../src/nats/Durability.ts"
import { streamsOf } from "../src/nats/DurabilityFacts.ts"
import * as StreamHealth from "../src/nats/StreamHealth.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Findings } from "./Auditor.ts"
import * as EventLoop from "./EventLoop.ts"
import type { Isolation } from "./Isolation.ts"
import type * as Report from "./kit/Report.ts"
import type { Pool } from "./Pool.ts"

/** What a {@link HealthReason} is about. The codes are stable. */
export type HealthCode =
  /** The server has ended, by a stop or because its actors kept crashing. */
  | "stopped"
  /** It is being stopped: nothing new starts. */
  | "stopping"
  /** An actor has crashed and isn't back yet. */
  | "actorDown"
  /** Code that doesn't give way kept everything else waiting for a second or more. */
  | "eventLoopBlocked"
  /** There is no connection to NATS. */
  | "natsDisconnected"
  /** There is a connection, but a stream doesn't answer. */
  | "jetStreamSilent"
  /** A stream was deleted. */
  | "streamLost"
  /** A stream has lost the majority of its copies: it takes no writes. */
  | "streamWithoutQuorum"
  /** A stream has lost some of its copies. */
  | "streamDegraded"
  /** A queue isn't fetched from. */
  | "notFetching"
  /** Consumers of a queue are missing, or refuse. */
  | "consumersMissing"
  /** A job that keeps losing its servers has had the whole process for a minute or more. */
  | "isolated"
  /** The servers give less durability than was asked for at the start. */
  | "durabilityLost"
  /** The auditor found within the last hour that NATS lacks what it had acknowledged. */
  | Finding["code"]

/** Something that isn't as it should be. */
export interface HealthReason {
  /** What it is, for programs. */
  readonly code: HealthCode
  /** What it takes away: nothing for a warning. */
  readonly breaks: "live" | "ready" | "nothing"
  /** What it is and what to do, for people. */
  readonly message: string
}

/** How a server is. Plain values. */
export interface Health {
  /** Whether the process is worth keeping: its supervision tree stands and its event loop answers. */
  readonly live: boolean
  /** Whether it takes jobs and can write what becomes of them. */
  readonly ready: boolean
  /** What isn't as it should be; empty when all is well. */
  readonly reasons: ReadonlyArray<HealthReason>
  /** What NATS does for what it has acknowledged, as last read. */
  readonly durability: Durability
  /** Attempts that run now. */
  readonly running: number
}

/** What health is taken from. */
export interface Options {
  readonly wire: Wire
  readonly durability: Durability
  readonly findings: Findings
  readonly isolation: Isolation
  readonly pools: ReadonlyMap<string, Pool>
  /** Names of all pools that are to be there. */
  readonly expected: ReadonlyArray<string>
}

/** The health of one server, and what it is told. */
export interface Monitor {
  /** Looks, and waits up to a second for NATS; never fails. */
  readonly health: Effect.Effect<Health>
  /** The same without waiting: of NATS it says what was last known, and asks for the next time. */
  readonly now: () => Health
  /** Takes the reports of the supervisors. */
  readonly onReport: Report.Observer
  /** The server is being stopped, or has ended. */
  readonly ends: (phase: "stopping" | "stopped", why?: string) => void
}

const cachedMillis = 1_000
/** How long a stream may take to answer before it counts as silent. */
const answerWithinMillis = 1_000
/** How much later than that the end of the time is met by a process that does nothing else. */
const busyMillis = 50
/** How long an answer counts for those who don't wait for one. */
const rememberedMillis = 30_000
const durabilityAgainMillis = 60_000
const blockedMillis = 1_000
const notFetchingMillis = 5_000
const isolatedMillis = 60_000
const actorDownMillis = 1_000

const seconds = (millis: number): string => `${(millis / 1_000).toFixed(millis < 9_500 ? 1 : 0)} s`

const streamReason = ({ detail, state, stream }: StreamHealth.StreamHealth): HealthReason[] => {
  switch (state) {
    case "good":
      return []
    case "degraded":
      return [{
        code: "streamDegraded",
        breaks: "nothing",
        message:
          `stream ${stream} goes on without its copies on ${detail}: bring these servers back`,
      }]
    case "withoutQuorum":
      return [{
        code: "streamWithoutQuorum",
        breaks: "ready",
        message: `stream ${stream} takes no writes, since most of its copies are missing ` +
          `(${detail}): bring their servers back; nothing that was stored is lost by waiting`,
      }]
    case "lost":
      return [{
        code: "streamLost",
        breaks: "ready",
        message:
          `stream ${stream} doesn't exist any more: somebody has deleted it. Restore it from ` +
          "a backup; or restart the servers, which make it anew, empty",
      }]
    case "silent":
      return [{
        code: "jetStreamSilent",
        breaks: "ready",
        message: `NATS is connected, but stream ${stream} doesn't answer within ` +
          `${seconds(answerWithinMillis)}${
            detail === "" ? "" : ` (${detail})`
          }: look at the load, ` +
          "the disk and the log of the NATS servers",
      }]
  }
}

const poolReasons = (name: string, pool: Pool | undefined): HealthReason[] => {
  const { blocked, stuckMillis } = pool?.fetching?.() ?? { blocked: [], stuckMillis: Infinity }
  if (blocked.length > 0) {
    return [{
      code: "consumersMissing",
      breaks: "ready",
      message: `NATS doesn't serve ${blocked.join(", ")} of ${name}: if it is missing it is made ` +
        "again each second; what keeps that from working is in the log of this server",
    }]
  }
  return stuckMillis < notFetchingMillis ? [] : [{
    code: "notFetching",
    breaks: "ready",
    message: `${name} has free slots and fetches nothing` +
      (stuckMillis === Infinity ? "" : ` for ${seconds(stuckMillis)}`) +
      ": it is starting or was just restarted; if that stays so, restart this server",
  }]
}

/** Follows one server. */
export const make: (options: Options) => Effect.Effect<Monitor, never, Scope.Scope> = Effect
  .fnUntraced(function* ({ expected, findings, isolation, pools, wire, durability: first }) {
    const { nats } = wire
    const scope = yield* Effect.scope
    const lag = yield* EventLoop.measure
    const streams = streamsOf(nats.namespace, wire.partitions)
    const down = new Map<string, number>()
    let phase: "running" | "stopping" | "stopped" = "running"
    let why = ""
    let durability = first
    let durabilityAt = performance.now()
    let seen: ReadonlyArray<StreamHealth.StreamHealth> = []
    let seenAt = -Infinity
    let disconnectedAt: number | undefined
    let looking: Fiber.Fiber<void> | undefined

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        nats.onReconnect(() => {
          durabilityAt = -Infinity
          seenAt = -Infinity
        })
      ),
      (stop) => Effect.sync(stop),
    )

    const readDurability = Effect.suspend(() => {
      durabilityAt = performance.now()
      return Effect.match(wire.durability, {
        onFailure: () => {},
        onSuccess: (found) => {
          durability = found
        },
      })
    })

    const look = Effect.gen(function* () {
      const check = StreamHealth.check(nats, streams, answerWithinMillis)
      let asked = performance.now()
      let found = yield* check
      // A process that was busy until the time was over has read no answer: NATS isn't to blame.
      if (performance.now() - asked > answerWithinMillis + busyMillis) {
        asked = performance.now()
        found = yield* check
      }
      seen = found
      seenAt = asked
      looking = undefined
    })

    /** Asks NATS anew when what is known is a second old; gives what to wait for. */
    const refresh = Effect.gen(function* () {
      if (phase === "stopped" || nats.current().state !== "connected") return
      const now = performance.now()
      if (now - durabilityAt > durabilityAgainMillis) yield* Effect.forkIn(readDurability, scope)
      if (looking === undefined && now - seenAt >= cachedMillis) {
        looking = yield* Effect.forkIn(look, scope)
      }
    })

    const connectionReasons = (): HealthReason[] => {
      const { server, state } = nats.current()
      if (state === "connected") {
        disconnectedAt = undefined
        const known = performance.now() - seenAt < rememberedMillis ? seen : []
        return known.flatMap(streamReason)
      }
      disconnectedAt ??= performance.now()
      const since = performance.now() - disconnectedAt
      return [{
        code: "natsDisconnected",
        breaks: "ready",
        message:
          `no connection to NATS (${server})${since < 1_000 ? "" : ` for ${seconds(since)}`}: ` +
          "check that it runs and can be reached. Jobs that run go on; their outcomes wait",
      }]
    }

    const actorReasons = (): HealthReason[] =>
      [...down].flatMap(([actor, since]): HealthReason[] => {
        const millis = performance.now() - since
        return millis < actorDownMillis ? [] : [{
          code: "actorDown",
          breaks: "ready",
          message:
            `${actor} has crashed and isn't back for ${seconds(millis)}: it is started again ` +
            "and again; why it fails is in the log of this server",
        }]
      })

    const loopReasons = (): HealthReason[] => {
      const millis = lag()
      if (millis < blockedMillis) return []
      const ackWait = Math.min(...[...pools.values()].map(({ ackWaitMillis }) => ackWaitMillis))
      const serious = millis >= ackWait / 3
      return [{
        code: "eventLoopBlocked",
        breaks: serious ? "ready" : "nothing",
        message: `a handler, or other code of this process, has blocked the event loop for ` +
          `${seconds(millis)}${
            serious ? ", so that leases of jobs may run out" : ""
          }: let it give ` +
          "way, or run such work outside of the event loop",
      }]
    }

    const isolationReasons = (): HealthReason[] =>
      isolation.closedMillis < isolatedMillis ? [] : [{
        code: "isolated",
        breaks: "ready",
        message: `a job that has lost its server again and again has this process for itself for ` +
          `${
            seconds(isolation.closedMillis)
          }, and nothing else starts here: look at that job, or ` +
          "give it a timeout",
      }]

    const durabilityReasons = (): HealthReason[] =>
      wire.durabilityGaps(durability).map(({ found, remedy }) => ({
        code: "durabilityLost",
        breaks: "nothing",
        message:
          `durability ${durability.asked} was asked for and isn't given any more: ${found}; ` +
          remedy,
      }))

    const reasonsNow = (): HealthReason[] => {
      if (phase === "stopped") {
        return [{
          code: "stopped",
          breaks: "live",
          message: `this server has ended${why === "" ? "" : `: ${why}`}; start it again`,
        }]
      }
      if (phase === "stopping" || [...pools.values()].some(({ stopping }) => stopping)) {
        return [{
          code: "stopping",
          breaks: "ready",
          message: "this server is being stopped: it starts no jobs and waits for those that run",
        }, ...loopReasons()]
      }
      const connection = connectionReasons()
      // Without NATS nobody can fetch; one reason is enough.
      const fetching = connection.some(({ breaks }) => breaks === "ready") || !isolation.open
        ? []
        : expected.flatMap((name) => poolReasons(name, pools.get(name)))
      return [
        ...connection,
        ...fetching,
        ...actorReasons(),
        ...loopReasons(),
        ...isolationReasons(),
        ...durabilityReasons(),
        ...findings.lately.map(({ code, message }) => ({
          ...{ code, message },
          breaks: "nothing" as const,
        })),
      ]
    }

    const take = (): Health => {
      const reasons = reasonsNow()
      const live = !reasons.some(({ breaks }) => breaks === "live")
      let running = 0
      for (const pool of pools.values()) running += pool.running
      return {
        live,
        ready: live && !reasons.some(({ breaks }) => breaks === "ready"),
        reasons,
        durability,
        running,
      }
    }

    const onReport: Report.Observer = (report) => {
      if (report._tag === "SupervisorStopped") {
        for (const actor of down.keys()) {
          if (actor.startsWith(`${report.supervisor}/`)) down.delete(actor)
        }
        return
      }
      const actor = `${report.supervisor}/${report.child}`
      if (report._tag === "ChildTerminated" ? report.restart : report._tag === "ChildStartFailed") {
        if (!down.has(actor)) down.set(actor, performance.now())
      } else if (report._tag === "ChildRestarted" || report._tag === "ChildStarted") {
        down.delete(actor)
      }
    }

    return {
      health: Effect.gen(function* () {
        yield* refresh
        if (looking !== undefined) yield* Fiber.await(looking)
        return take()
      }),
      now: () => {
        Effect.runFork(refresh)
        return take()
      },
      onReport,
      ends: (to, reason = "") => {
        if (phase === "stopped") return
        phase = to
        why = reason
      },
    }
  })
