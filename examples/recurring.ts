/**
 * Jobs that run by the clock: declared in code, looked at, paused, triggered and removed.
 *
 *     bun examples/recurring.ts    deno run -A examples/recurring.ts    node examples/recurring.ts
 */
import { Job, Nats, Recurring, Server } from "../mod.ts"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const Digest = Job.make("digest", { payload: Schema.Struct({ team: Schema.String }) })
const Heartbeat = Job.make("heartbeat")

const twoBeats = Deferred.makeUnsafe<ReadonlyArray<Date>>()
const beats: Array<Date> = []

const HeartbeatLive = Heartbeat.toLayer(() =>
  Effect.gen(function* () {
    const { recurring } = yield* Job.current
    if (recurring !== undefined) beats.push(recurring.at)
    if (beats.length === 2) yield* Deferred.succeed(twoBeats, beats)
  })
)

const DigestLive = Digest.toLayer(({ team }) => Effect.sync(() => console.log("digest for", team)))

const ServerLive = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide([HeartbeatLive, DigestLive]),
  Layer.provide(Nats.layerEmbedded()),
)

// What the program declares is there once this is built; nothing is written where it was before.
const Live = Recurring.layer([
  Recurring.define("heartbeat", {
    job: Heartbeat,
    schedule: { every: "1 second" },
    misfire: "skip",
  }),
  Recurring.define("digest/sales", {
    job: Digest,
    payload: { team: "sales" },
    schedule: "0 9 * * MON-FRI",
    timeZone: "Europe/Berlin",
    overlap: "skip",
  }),
]).pipe(Layer.provideMerge(ServerLive))

const program = Effect.gen(function* () {
  const [first, second] = yield* Deferred.await(twoBeats)
  console.log("between two heartbeats:", Number(second) - Number(first), "ms")

  const { entries } = yield* Recurring.list()
  for (const { id, job, state } of entries) console.log(id, "runs", job, "and is", state)

  console.log("heartbeat:", (yield* Recurring.pause("heartbeat")).state)
  const byHand = yield* Recurring.trigger("digest/sales")
  yield* Digest.await(byHand)
  const [run] = yield* Recurring.history("digest/sales")
  console.log("by hand:", run?.byHand, run?.job?.state)

  const winter = { schedule: "30 2 * * *", timeZone: "Europe/Berlin" } as const
  const times = yield* Recurring.preview(winter, { count: 2, after: "2030-03-30T12:00:00Z" })
  for (const time of times) console.log("half past two, or what comes after:", time.toISOString())

  const digest = Recurring.define("digest/sales", {
    job: Digest,
    payload: { team: "sales" },
    schedule: "0 8 * * MON-FRI",
    timeZone: "Europe/Berlin",
  })
  const { changed, removed } = yield* Recurring.sync([digest], { removeOthers: true })
  console.log("changed:", ...changed, "removed:", ...removed)
})

await Effect.runPromise(Effect.provide(program, Live))
