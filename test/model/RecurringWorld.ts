/** Clients and servers of one namespace, its recurring entries, and what people were told of them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { type Client, Job, Nats, Retry, StreamSettings } from "../../mod.ts"
import { Patience } from "../../src/client/Writer.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { produce, serve } from "../actors/harness.ts"
import { freshNamespace, type TestServer } from "../harness.ts"
import * as History from "./History.ts"
import type { Spec } from "./RecurringTimes.ts"

/** What each run is. */
export const Tick = Job.make("tick", {
  payload: Schema.Struct({
    n: Schema.Number,
    steps: Schema.Array(Schema.String),
    millis: Schema.Number,
  }),
  success: Schema.Number,
  error: Schema.String,
  queue: "a",
  retry: Retry.fixed({ attempts: 3, delay: "60 millis" }),
})

/** Queues of runs. */
export const queues: ReadonlyArray<string> = ["a", "b"]

/** What somebody was told; instants in ms since 1970. */
export interface Told {
  readonly entry: string
  readonly client: number
  readonly called: number
  readonly returned: number
  readonly what:
    | {
      readonly op: "upsert"
      readonly n: number
      readonly change: string
      /** Which a sync doesn't tell. */
      readonly revision?: number | undefined
    }
    | { readonly op: "pause" | "resume" | "get"; readonly revision: number }
    | { readonly op: "trigger"; readonly id: string }
    | { readonly op: "remove"; readonly was: boolean }
    | { readonly op: "none"; readonly tried: string }
}

/** An attempt, and of which entry and time its handler was told. */
export interface Attempt extends History.Run {
  /** In ms since 1970. */
  readonly at: number
  /** How often its message was delivered. */
  readonly delivery: number
  readonly entry: string
  readonly nominal: number
}

/** What NATS says of a message beside its bytes. */
export interface Stamp {
  /** When its schedule fires, in ms since 1970. */
  readonly alarm: number | undefined
  /** When it was heard of, in ms since 1970. */
  readonly heard: number
}

/** A server that runs. */
export interface Running {
  /** Lets it end what it does. */
  readonly stop: Effect.Effect<void>
  /** Takes its connection away, and all that it does with it. */
  readonly cut: Effect.Effect<void>
}

/** Everything that takes part. */
export interface World {
  readonly wire: Wire.Wire
  readonly history: History.History
  /** By sequence, of partition 0. */
  readonly stamps: Map<number, Stamp>
  readonly clients: ReadonlyArray<{
    readonly client: Client.Client
    readonly provide: <A, E>(self: Effect.Effect<A, E, Client.Client>) => Effect.Effect<A, E>
  }>
  /** What was declared, by its number. */
  readonly specs: Map<number, Spec>
  readonly told: Array<Told>
  readonly attempts: Array<Attempt>
  readonly problems: Array<string>
  readonly comings: Array<readonly [at: number, text: string]>
  readonly start: (name: string) => Effect.Effect<Running, unknown, Scope.Scope>
}

/** Time in ms after which what a lost server held goes to another one. */
const ackWaitMillis = 1_000
const alarmMillis = 800
const patienceMillis = 3_000

/** Attempts after the first one are shorter, in ms: what is tried again is soon over. */
const longestAgain = 50

/** Makes it, with clients and without servers. */
export const make: (
  server: TestServer,
  options: { readonly clients: number; readonly partitions: number },
) => Effect.Effect<World, unknown, Scope.Scope> = Effect.fnUntraced(function* (server, options) {
  const nats = server.layer(freshNamespace())
  const around = Layer.mergeAll(
    nats,
    Layer.succeed(Wire.AlarmMillis, alarmMillis),
    Layer.succeed(Patience, patienceMillis),
    // Of a server that is cut off a lot is said that nobody needs to read.
    Logger.layer([]),
  )
  const settings = { partitions: options.partitions, ackWaitMillis }
  const wired = yield* Layer.build(
    Wire.layer.pipe(
      Layer.provideMerge(around),
      Layer.provide(Layer.succeed(StreamSettings, settings)),
    ),
  )
  const wire = yield* Effect.provide(Wire.Wire, wired)
  const history = yield* History.listen(wire)
  const { connection, namespace } = Context.get(wired, Nats.Nats)
  const stamps = new Map<number, Stamp>()
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(`heard.${namespace}.pf.${namespace}.0.>`, {
        callback: (_, { headers }) => {
          const schedule = /^@at (.*)$/.exec(headers?.get("Nats-Schedule") ?? "")?.[1]
          stamps.set(Number(headers?.get("Nats-Sequence")), {
            alarm: schedule === undefined ? undefined : Date.parse(schedule),
            heard: Date.now(),
          })
        },
      })
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  const attempts: Array<Attempt> = []
  const counts = new Map<string, number>()
  const problems: Array<string> = []
  const comings: Array<readonly [number, string]> = []
  const note = (text: string) => Effect.sync(() => void comings.push([Date.now(), text]))

  const handlers = (server: string) =>
    Tick.toLayer(({ millis, steps }) =>
      Effect.gen(function* () {
        const { attempt, delivery, id, recurring } = yield* Job.current
        const count = counts.get(id) ?? 0
        counts.set(id, count + 1)
        attempts.push({
          ...{ id, server, attempt, began: performance.now(), at: Date.now() },
          delivery,
          entry: recurring?.entry ?? "",
          nominal: Number(recurring?.at),
        })
        yield* Effect.sleep(count === 0 ? millis : Math.min(millis, longestAgain))
        switch (steps[count] ?? "succeed") {
          case "fail":
            return yield* Effect.fail("as planned")
          case "crash":
            return yield* Effect.die(new Error("as planned"))
          default:
            return millis
        }
      })
    )

  const worldScope = yield* Effect.scope
  const start: World["start"] = Effect.fnUntraced(function* (name) {
    let isCut = false
    // Everything of it ends with it, so that a long test doesn't gather what is over.
    const scope = yield* Effect.acquireRelease(
      Scope.make(),
      (scope) => Scope.close(scope, Exit.void),
    )
    const { nats: { connection } } = yield* serve(around, handlers(name), {
      queues: { a: 12, b: 6 },
      gracePeriod: "30 millis",
      ackWaitMillis,
      name,
      onEvent: (event) => {
        if (isCut) return
        if (event._tag === "CommitRefused") problems.push(`refused: ${event.description}`)
        if (event._tag === "Supervision" && /restart|crash|fail/i.test(event.report._tag)) {
          problems.push(`${name}: ${JSON.stringify(event.report)}`)
        }
      },
    }).pipe(Effect.provideService(Scope.Scope, scope))
    yield* note(`server ${name} is there`)
    return {
      stop: note(`server ${name} stops`).pipe(
        Effect.andThen(Scope.close(scope, Exit.void)),
        Effect.andThen(note(`server ${name} has stopped`)),
      ),
      cut: Effect.gen(function* () {
        isCut = true
        yield* note(`server ${name} is cut off`)
        void connection.close()
        yield* Effect.forkIn(Scope.close(scope, Exit.void), worldScope)
      }),
    }
  })

  return {
    ...{ wire, history, stamps, attempts, problems, comings, start },
    specs: new Map(),
    told: [],
    clients: yield* Effect.forEach(
      Array.from({ length: options.clients }),
      () => produce(around, { ackWaitMillis }),
    ),
  }
})
