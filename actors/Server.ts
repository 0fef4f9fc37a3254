/**
 * A server: one process that runs queues, as the root of a supervision tree.
 *
 *     server            oneForOne
 *     ├─ presence       says that it is there
 *     ├─ controller     answers questions
 *     ├─ interest       knows who waits for which job
 *     ├─ services       oneForOne: janitor, watchdog
 *     └─ queues         oneForOne, generous budget
 *         └─ <pool>     restForOne: workers · lease · committer · fetcher · drainer
 *
 * It stops from the bottom up: queues drain first, and its presence goes last.
 *
 * @module
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import { hostname } from "node:os"
import process from "node:process"
import { Client, layer as clientLayer } from "../src/client/Client.ts"
import * as Interception from "../src/client/Interception.ts"
import { Engine, layer as engineLayer } from "../src/client/Engine.ts"
import * as Operate from "../src/client/Operate.ts"
import * as Writer from "../src/client/Writer.ts"
import { handlersIn } from "../src/client/Handler.ts"
import { DuplicateJob, InvalidOptions } from "../src/core/errors.ts"
import type { Nats } from "../src/nats/Nats.ts"
import * as Notices from "../src/nats/Notices.ts"
import * as Wire from "../src/nats/Wire.ts"
import * as Subjects from "../src/nats/Subjects.ts"
import { defaultAckWaitMillis } from "../src/nats/TopologyPlan.ts"
import * as Auditor from "./Auditor.ts"
import * as Controller from "./Controller.ts"
import * as EngineHandlers from "./EngineHandlers.ts"
import type { Emit } from "./Event.ts"
import * as Health from "./Health.ts"
import * as Interest from "./Interest.ts"
import { Isolation } from "./Isolation.ts"
import * as Janitor from "./Janitor.ts"
import { withLogger } from "./JobLogger.ts"
import type { IntensityExceeded, StartFailed } from "./kit/errors.ts"
import * as Report from "./kit/Report.ts"
import * as Supervisor from "./kit/Supervisor.ts"
import * as Observing from "./Observing.ts"
import type { Pool, ReadyHandler } from "./Pool.ts"
import * as Presence from "./Presence.ts"
import * as QueueSupervisor from "./QueueSupervisor.ts"
import * as Watchdog from "./Watchdog.ts"
import { type PoolSpec, resolve, type ServerOptions } from "./ServerOptions.ts"

export type { Event } from "./Event.ts"
export type { Health, HealthCode, HealthReason } from "./Health.ts"
export type { ServerOptions } from "./ServerOptions.ts"

/** A running server. */
export interface Server {
  /** Its id, unique among all servers: name, process id and a random part. */
  readonly id: string
  /**
   * Waits for the end of the server: succeeds when it was stopped, fails when its actors crashed more
   * often than their supervisors allow.
   */
  readonly awaitExit: Effect.Effect<void, IntensityExceeded>
  /** Attempts that run now. */
  readonly running: () => number
  /**
   * Whether it lives and can do its work, and what isn't as it should be. Never fails, also after the
   * end of the server. It asks NATS at most once a second and waits for it up to a second.
   */
  readonly health: Effect.Effect<Health.Health>
}

/** The server as a service. */
export const Server: Context.Service<Server, Server> = Context.Service<Server>(
  "portfire/actors/Server",
)

/** Why a server doesn't start. */
export type ServerError = InvalidOptions | DuplicateJob | StartFailed | Wire.WireError

/**
 * Every server works on what the engine has to do: little, and mostly waiting for answers. Entries that
 * are due at once are stored together, as many as there are slots.
 */
const enginePool: PoolSpec = {
  name: Subjects.engineQueue,
  queues: [Subjects.engineQueue],
  slots: 64,
}

const idOf = (name: string | undefined): string => {
  const host = (name ?? hostname()).replace(/[^A-Za-z0-9_-]/g, "-").slice(0, 40)
  return `${host === "" ? "server" : host}-${process.pid}-${randomBytes(3).toString("hex")}`
}

const runtime = (): string => {
  const { bun, deno, node } = process.versions as Readonly<Record<string, string | undefined>>
  return bun !== undefined ? `bun ${bun}` : deno !== undefined ? `deno ${deno}` : `node ${node}`
}

const readyHandlers = (
  context: Context.Context<never>,
  client: Client,
  interception: Interception.Interception,
): ReadonlyMap<string, ReadyHandler> | DuplicateJob => {
  const handlers = new Map<string, ReadyHandler>()
  for (const { context: services, definition, run } of handlersIn(context)) {
    if (handlers.has(definition.name)) return new DuplicateJob({ job: definition.name })
    const own = Context.add(services, Client, client) as Context.Context<never>
    const handler = { definition, run, context: withLogger(own, definition) }
    handlers.set(definition.name, Observing.observed(handler, interception, context))
  }
  return handlers
}

/** An observer that throws is logged, and can't hurt the actor that told it something. */
const harmless = (onEvent: Emit | undefined, context: Context.Context<never>): Emit =>
  onEvent === undefined ? () => {} : (event) => {
    try {
      onEvent(event)
    } catch (defect) {
      const text = `onEvent threw on ${event._tag}`
      Effect.runForkWith(context)(Effect.logWarning(text, Cause.die(defect)))
    }
  }

const make = Effect.fnUntraced(function* (options: ServerOptions) {
  const resolved = resolve(options)
  if (resolved instanceof InvalidOptions) return yield* resolved
  const wire = yield* Wire.Wire
  const client = yield* Client
  const interception = yield* Interception.Interception
  const handlers = readyHandlers(yield* Effect.context<never>(), client, interception)
  if (handlers instanceof DuplicateJob) return yield* handlers
  const id = idOf(resolved.name)
  if (handlers.size === 0) {
    yield* Effect.logWarning(
      "this server was given no handlers, so it passes every job on; provide it with the layers " +
        "that job.toLayer makes",
    )
  }
  const engine = yield* Engine
  const runnable = new Map(handlers)
  const patience = yield* Writer.Patience
  const operating: Operate.Context = {
    wire,
    engine,
    patience,
    ensureQueue: Writer.make(wire, patience).ensureQueue,
    notify: (view, answer) => {
      const transition = Operate.transitionOf(view, answer)
      interception.notify(transition, handlers.get(transition.name)?.definition)
    },
  }
  for (const command of EngineHandlers.make(operating)) {
    runnable.set(command.definition.name, command)
  }
  const pools = new Map<string, Pool>()
  const isolation = new Isolation()
  const interest = new Interest.Interest((client, ids) => Notices.notify(wire, client, ids))
  const context = yield* Effect.context<never>()
  const observer = harmless(resolved.onEvent, context)
  const tell = Observing.tellTransitions(interception, handlers)
  const emit: Emit = (event) => {
    tell(event)
    observer(event)
  }
  const onReport: Report.Observer = (report) => {
    monitor.onReport(report)
    emit({ _tag: "Supervision", report })
    if (Report.isTrouble(report)) {
      const cause = "exit" in report && report.exit._tag === "Failure" ? [report.exit.cause] : []
      Effect.runForkWith(context)(Effect.logWarning(Report.format(report), ...cause))
    }
  }
  const durability = yield* wire.durability
  yield* (durability.level === "belowStandard"
    ? Effect.logWarning
    : durability.asked === undefined
    ? Effect.logDebug
    : Effect.logInfo)(durability.summary)
  const findings = new Auditor.Findings()
  const monitor = yield* Health.make({
    wire,
    findings,
    durability,
    isolation,
    pools,
    expected: [enginePool, ...resolved.pools].map(({ name }) => name),
  })
  const description: Presence.Description = {
    id,
    host: hostname(),
    pid: process.pid,
    runtime: runtime(),
    started: Date.now(),
    pools: resolved.pools.map(({ queues, slots }) => ({ queues, slots })),
    jobs: [...handlers.keys()],
  }
  const retentions = new Map<string, { name: string; ageMillis: number; count: number }>()
  if (resolved.retention !== undefined) {
    retentions.set(Subjects.commonRetention, { name: "", ...resolved.retention })
  }
  for (const { definition: { name, retention, retentionClass } } of runnable.values()) {
    if (retention !== undefined && retentionClass !== undefined) {
      retentions.set(retentionClass, { name, ...retention })
    }
  }
  const [consumer] = yield* wire.ensureQueue(resolved.pools[0]?.queues[0] ?? "default", 0)
  const ackWaitMillis = consumer?.ackWaitMillis ?? defaultAckWaitMillis
  const services = Supervisor.childSpec({
    id: "services",
    strategy: "oneForOne",
    intensity: 5,
    period: "1 minute",
    children: [
      { id: "janitor", start: Janitor.start({ wire, emit, retentions, ackWaitMillis }) },
      {
        id: "watchdog",
        start: Watchdog.start({
          wire,
          emit,
          queues: [...resolved.pools, enginePool].flatMap(({ queues }) => queues),
        }),
      },
      { id: "auditor", start: Auditor.start({ wire, emit, findings }) },
    ],
  })
  const queues = Supervisor.childSpec({
    id: "queues",
    strategy: "oneForOne",
    intensity: 20,
    period: "1 minute",
    stopOrder: "concurrent",
    children: [enginePool, ...resolved.pools].map((pool) =>
      QueueSupervisor.childSpec(
        {
          ...pool,
          graceMillis: resolved.graceMillis,
          ackWaitMillis,
          server: id,
          wire,
          engine,
          handlers: runnable,
          isolation,
          interest,
          emit,
        },
        (made) => pools.set(pool.name, made),
      )
    ),
  })
  // Runs after the supervisor has stopped, since it is added before it is started.
  yield* Effect.addFinalizer(() => Effect.sync(() => monitor.ends("stopped")))
  const supervisor = yield* Supervisor.start({
    id: "server",
    strategy: "oneForOne",
    intensity: 5,
    period: "1 minute",
    onReport,
    children: [
      { id: "presence", start: Presence.start(wire, description) },
      { id: "controller", start: Controller.start(wire, id, pools, monitor.now) },
      { id: "interest", start: Interest.start(interest, wire) },
      services,
      queues,
    ],
  })
  // Runs before anything is stopped.
  yield* Effect.addFinalizer(() => Effect.sync(() => monitor.ends("stopping")))
  yield* Effect.forkScoped(Effect.onExit(
    supervisor.awaitExit,
    (exit) =>
      Effect.sync(() =>
        Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
          ? monitor.ends("stopped", "its actors crashed more often than their supervisors allow")
          : undefined
      ),
  ))
  return Server.of({
    id,
    awaitExit: supervisor.awaitExit,
    health: monitor.health,
    running: () => {
      let sum = 0
      for (const pool of pools.values()) sum += pool.running
      return sum
    },
  })
})

/**
 * Runs a server for as long as the layer lives, and provides the client beside it. Handlers are found
 * among the services the layer is given:
 *
 * @example
 * ```ts
 * import { Job, Nats, Server } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * const Hello = Job.make("hello")
 * const HelloLive = Hello.toLayer(() => Effect.log("hello"))
 *
 * const live = Server.layer({ queues: { default: 20 } }).pipe(
 *   Layer.provide(HelloLive),
 *   Layer.provide(Nats.layerEmbedded()),
 * )
 * ```
 *
 * Closing it is a graceful stop: nothing new starts, running attempts get the grace period, then are
 * interrupted and given back; no job waits for its lease to run out.
 */
export const layer = (
  options: ServerOptions,
): Layer.Layer<Server | Client, ServerError, Nats> =>
  Layer.effect(Server, make(options)).pipe(
    Layer.provideMerge(clientLayer),
    Layer.provide(Interception.layer),
    Layer.provide(engineLayer),
    Layer.provide(Wire.layer),
  )
