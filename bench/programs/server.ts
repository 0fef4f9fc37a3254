/** A server as a process of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { runMain, Server } from "../../mod.ts"
import { connectionTo, WelcomeLive } from "../portfire/engine.ts"
import { queue } from "../support/jobs.ts"

const world = {
  url: process.env.BENCH_SERVERS ?? "",
  namespace: process.env.BENCH_NAMESPACE ?? "",
}
const ready = Layer.effectDiscard(Effect.sync(() => console.log("ready")))

runMain(
  ready.pipe(
    Layer.provideMerge(Server.layer({ queues: { [queue]: 100 } })),
    Layer.provide(WelcomeLive),
    Layer.provide(connectionTo(world)),
  ),
)
