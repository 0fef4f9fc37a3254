/** Clients and servers of one namespace, the jobs that they work on, and what is known of these. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { type Client, Job, Middleware, Retry, type Server, StreamSettings } from "../../mod.ts"
import type { Answer } from "../../src/client/Operation.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { produce, serve } from "../actors/harness.ts"
import { freshNamespace, type TestServer } from "../harness.ts"
import * as History from "./History.ts"

/** What the handler does in its attempts, one after the other; the last one again and again. */
export type Step = "succeed" | "fail" | "crash" | "snooze"

export const Work = Job.make("work", {
  payload: Schema.Struct({ steps: Schema.Array(Schema.String), millis: Schema.Number }),
  success: Schema.Number,
  error: Schema.String,
  queue: "a",
  retry: Retry.fixed({ attempts: 3, delay: "60 millis" }),
})

/** Takes what the job before has given. */
export const Take = Job.make("take", {
  payload: Schema.Number,
  success: Schema.Number,
  queue: "b",
  retry: Retry.none,
})

export const queues: ReadonlyArray<string> = ["a", "b"]

/** An answer that a client was given. */
export interface Told {
  readonly at: number
  readonly client: number
  readonly text: string
  readonly answer?: Answer | undefined
}

/** A job that somebody was told of. */
export interface Known {
  readonly id: string
  readonly kind: "plain" | "chosen" | "member" | "batch"
  /** Members that were added to it, of a batch. */
  members: number
  /** Operations that were said to be done. */
  readonly done: Record<Answer["_tag"] | "removed" | "requeued", number>
  /** Reasons for which it was cancelled. */
  readonly reasons: Array<string>
  readonly told: Array<Told>
}

/** A transition that an observer was told of. */
export type Observed = Middleware.Transition & { readonly by: string }

/** Everything that takes part. */
export interface World {
  readonly wire: Wire.Wire
  readonly history: History.History
  readonly clients: ReadonlyArray<{
    readonly client: Client.Client
    readonly provide: <A, E>(self: Effect.Effect<A, E, Client.Client>) => Effect.Effect<A, E>
  }>
  readonly known: Map<string, Known>
  readonly runs: Array<History.Run>
  readonly observed: Array<Observed>
  readonly problems: Array<string>
  /** What operations by filter were said to have done. */
  readonly wheres: { requeues: number; requeued: number; readonly cancelled: Map<string, number> }
  /** When servers came and went. */
  readonly comings: Array<readonly [at: number, text: string]>
  /** Starts a server of a name. */
  readonly start: (name: string) => Effect.Effect<
    { readonly stop: Effect.Effect<void> },
    unknown,
    Scope.Scope
  >
}

/** Makes it, with clients and without servers. */
export const make = Effect.fnUntraced(function* (
  server: TestServer,
  options: { readonly clients: number; readonly partitions: number },
) {
  const nats = server.layer(freshNamespace())
  const settings = Layer.succeed(StreamSettings, { partitions: options.partitions })
  const wired = yield* Layer.build(
    Wire.layer.pipe(Layer.provideMerge(nats), Layer.provide(settings)),
  )
  const wire = yield* Effect.provide(Wire.Wire, wired)
  const history = yield* History.listen(wire)
  const runs: Array<History.Run> = []
  const counts = new Map<string, number>()
  const observed: Array<Observed> = []
  const problems: Array<string> = []
  const comings: Array<readonly [number, string]> = []
  const observing = (by: string) =>
    Middleware.layer([
      Middleware.make("observing", {
        transition: (transition) => Effect.sync(() => observed.push({ ...transition, by })),
      }),
    ])

  const begin = (server: string) =>
    Effect.map(Job.current, ({ attempt, id }) => {
      runs.push({ id, server, attempt, began: performance.now() })
      const count = counts.get(id) ?? 0
      counts.set(id, count + 1)
      return count
    })
  const handlers = (server: string) =>
    Layer.mergeAll(
      Work.toLayer(({ millis, steps }) =>
        Effect.gen(function* () {
          const count = yield* begin(server)
          yield* Effect.sleep(millis)
          switch (steps[count] ?? steps.at(-1)?.replace("snooze", "succeed")) {
            case "fail":
              return yield* Effect.fail("as planned")
            case "crash":
              return yield* Effect.die(new Error("as planned"))
            case "snooze":
              return yield* Job.snooze("40 millis")
            default:
              return millis
          }
        })
      ),
      Take.toLayer((n) => Effect.as(begin(server), n + 1)),
    )

  const serverOptions: Server.ServerOptions = {
    queues: { a: 6, b: 4 },
    gracePeriod: "30 millis",
  }
  const world: World = {
    wire,
    history,
    known: new Map(),
    runs,
    observed,
    problems,
    comings,
    wheres: { requeues: 0, requeued: 0, cancelled: new Map() },
    clients: yield* Effect.forEach(
      Array.from({ length: options.clients }, (_, index) => `client ${index}`),
      (name) => produce(Layer.merge(nats, observing(name))),
    ),
    start: Effect.fnUntraced(function* (name) {
      // Everything of it ends with it, so that a long test doesn't gather what is over.
      const scope = yield* Effect.acquireRelease(
        Scope.make(),
        (scope) => Scope.close(scope, Exit.void),
      )
      yield* serve(nats, Layer.merge(handlers(name), observing(name)), {
        ...serverOptions,
        name,
        onEvent: (event) => {
          if (event._tag === "CommitRefused") problems.push(`refused: ${event.description}`)
          if (event._tag === "Supervision" && /restart|crash|fail/i.test(event.report._tag)) {
            problems.push(`${name}: ${JSON.stringify(event.report)}`)
          }
        },
      }).pipe(Effect.provideService(Scope.Scope, scope))
      comings.push([performance.now(), `server ${name} is there`])
      return {
        stop: Effect.suspend(() => {
          comings.push([performance.now(), `server ${name} stops`])
          return Scope.close(scope, Exit.void)
        }).pipe(
          Effect.andThen(Effect.sync(() => {
            comings.push([performance.now(), `server ${name} has stopped`])
          })),
        ),
      }
    }),
  }
  return world
})

/** Remembers a job that a client was told of. */
export const learn = (world: World, id: string, kind: Known["kind"]): Known => {
  const before = world.known.get(id)
  if (before !== undefined) return before
  const done = { changed: 0, notFound: 0, conflict: 0, removed: 0, requeued: 0 }
  const known: Known = { id, kind, members: 0, done, reasons: [], told: [] }
  world.known.set(id, known)
  return known
}
