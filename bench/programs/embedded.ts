/** A server with its own NATS server in a temporary folder, as a process of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { Nats, runMain, Server } from "../../mod.ts"
import { WelcomeLive } from "../portfire/engine.ts"
import { queue } from "../support/jobs.ts"

const dataDir = mkdtempSync(join(tmpdir(), "portfire-bench-"))
process.once("exit", () => rmSync(dataDir, { recursive: true, force: true }))
const ready = Layer.effectDiscard(Effect.sync(() => console.log("ready")))

runMain(
  ready.pipe(
    Layer.provideMerge(Server.layer({ queues: { [queue]: 100 } })),
    Layer.provide(WelcomeLive),
    Layer.provide(Nats.layerEmbedded({ dataDir })),
  ),
)
