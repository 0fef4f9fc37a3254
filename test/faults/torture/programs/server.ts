/** A server of the torture in a process of its own. Everything that it does goes to the ledger. */
import "./wrongClock.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Job, runMain, Server } from "../../../../mod.ts"
import { Bad, Element, List, Once, Sum, Tick, Work } from "../jobs.ts"
import { writer } from "../Ledger.ts"
import { env, nats, settings } from "./env.ts"

const note = writer(env("LEDGER"))

/** Runs a handler between two lines. */
const noted = <A, E, R>(
  self: Effect.Effect<A, E, R>,
): Effect.Effect<A, E, R | Job.CurrentJob> =>
  Effect.gen(function* () {
    const { attempt, delivery, id, name, recurring } = yield* Job.current
    note("began", id, name, attempt, delivery, recurring?.at.getTime() ?? "-")
    const result = yield* self
    note("ending", id, name, attempt)
    return result
  })

const step = (step: string, millis: number) =>
  Effect.gen(function* () {
    yield* Effect.sleep(millis)
    if (step === "fail") return yield* Effect.fail("as planned")
    if (step === "crash") return yield* Effect.die(new Error("as planned"))
    return millis
  })

const block = (millis: number) =>
  Effect.sync(() => {
    note("blocks", "-")
    const end = performance.now() + millis
    while (performance.now() < end);
    note("unblocks", "-")
  })

const bad = (trouble: string, millis: number): Effect.Effect<void> => {
  switch (trouble) {
    case "block":
      return block(millis)
    case "endless":
      return Effect.never
    case "stubborn":
      return Effect.uninterruptible(Effect.sleep(millis))
    case "finalizer":
      return Effect.ensuring(Effect.void, Effect.die(new Error("in a finalizer")))
    default:
      return Effect.sync(() => process.exit(7))
  }
}

const handlers = Layer.mergeAll(
  Work.toLayer(({ millis, steps }) =>
    Effect.flatMap(
      Job.current,
      ({ attempt }) => noted(step(steps[attempt - 1] ?? "succeed", millis)),
    )
  ),
  Once.toLayer(({ millis }) => noted(Effect.sleep(millis))),
  List.toLayer((count) =>
    noted(Effect.sync(() => Array.from({ length: count }, (_, index) => index)))
  ),
  Element.toLayer((n) => noted(Effect.as(Effect.sleep(5), n + 1))),
  Sum.toLayer((all) => noted(Effect.sync(() => all.reduce((a, b) => a + b, 0)))),
  Tick.toLayer(() => noted(Effect.sleep(20))),
  Bad.toLayer(({ millis, trouble }) => noted(bad(trouble, millis))),
)

const final = new Set(["succeeded", "failed", "cancelled"])

const onEvent = (event: Server.Event) => {
  switch (event._tag) {
    case "JobMoved":
      if (final.has(event.to)) note("stored", event.id, event.to)
      break
    case "OutcomeLost":
    case "JobRescued":
    case "CommitRefused":
    case "DeliveryDropped":
      note(event._tag, event.id)
      break
    case "AuditFailed":
      note("AuditFailed", "-", JSON.stringify(event.finding).replaceAll(" ", "_"))
  }
}

const live = Server.layer({
  queues: { default: Number(env("SLOTS")), other: Number(env("SLOTS")) },
  gracePeriod: Number(env("GRACE")),
  retention: { age: "7 days", count: 100_000_000 },
  name: env("NAME"),
  onEvent,
}).pipe(Layer.provide(handlers), Layer.provide(nats), Layer.provide(settings))

runMain(Layer.tap(live, () =>
  Effect.sync(() => {
    note("ready", "-")
    console.log("ready")
  })))
