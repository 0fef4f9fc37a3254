/**
 * A server in a process of its own. What it does goes line by line to stdout, and as `started`,
 * `done` and `stored` to a ledger that all processes of a test append to.
 *
 * CRASH_AT (`<event>` or `JobMoved:<to>`) kills the process in the midst of telling of such an event:
 * what the engine has sent to NATS until then in the same turn has not left the process yet.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { appendFileSync } from "node:fs"
import process from "node:process"
import { Job, Nats, runMain, Server, StreamSettings } from "../../../mod.ts"
import { Doomed, Poison, Step } from "./jobs.ts"

const env = (name: string): string => process.env[name] ?? ""

const note = (what: string, id: string) =>
  appendFileSync(env("LEDGER"), `${what} ${id} ${process.pid} ${Date.now()}\n`)

const snoozed = new Map<string, number>()

const handlers = Layer.mergeAll(
  Step.toLayer(({ failures = 0, millis, snoozes = 0 }) =>
    Effect.gen(function* () {
      const { attempt, id } = yield* Job.current
      note("started", id)
      yield* Effect.sleep(millis)
      const before = snoozed.get(id) ?? 0
      if (before < snoozes) {
        snoozed.set(id, before + 1)
        yield* Job.snooze("300 millis")
      }
      if (attempt <= failures) return yield* Effect.die(new Error(`attempt ${attempt} fails`))
      note("done", id)
      return `attempt ${attempt}`
    })
  ),
  Doomed.toLayer(() => Effect.die("doomed")),
  Poison.toLayer(() =>
    Effect.flatMap(Job.current, ({ id }) =>
      Effect.sync(() => {
        note("started", id)
        process.exit(7)
      }))
  ),
)

const final = new Set(["succeeded", "failed", "cancelled"])

const onEvent = (event: Server.Event) => {
  const kind = event._tag === "JobMoved" ? `JobMoved:${event.to}` : event._tag
  if ("id" in event) {
    if (event._tag === "JobMoved" && final.has(event.to)) note("stored", event.id)
    console.log(`${kind} ${event.id}`)
  } else if (event._tag !== "Supervision") console.log(kind)
  if (kind === env("CRASH_AT")) process.kill(process.pid, "SIGKILL")
}

const live = Server.layer({
  queues: { default: Number(env("SLOTS") || 5) },
  gracePeriod: Number(env("GRACE") || 30_000),
  onEvent,
}).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layer({
    servers: env("SERVERS"),
    namespace: env("NAMESPACE"),
    authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  })),
  Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis: Number(env("ACK_WAIT")) })),
)

runMain(Layer.tap(live, () => Effect.sync(() => console.log("ready"))))
