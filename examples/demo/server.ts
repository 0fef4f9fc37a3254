/**
 * One of the demonstration's server processes.
 *
 *     server.ts <name> <data folder> <ledger>
 *
 * It ends with whoever started it: when the pipe to its standard input closes, it stops like after a
 * SIGTERM, and so does the NATS server if nobody else uses it.
 */
import { Nats, runMain, Server } from "../../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { concurrency, fingerprintLive, queue, shortLeases } from "./jobs.ts"
import { Ledger } from "./ledger.ts"

const [name = "server", dataDir = "", file = ""] = process.argv.slice(2)
const ledger = new Ledger(file)

const ready = Layer.effectDiscard(
  Effect.map(Server.Server, (server) => ledger.ready(server.id)),
)

runMain(
  ready.pipe(
    Layer.provideMerge(Server.layer({
      name,
      queues: { [queue]: concurrency },
      gracePeriod: "1 second",
      onEvent: (event) => {
        if (event._tag === "JobMoved") ledger.moved(event.id, event.to)
      },
    })),
    Layer.provide(fingerprintLive(ledger)),
    Layer.provide(Nats.layerEmbedded({ dataDir })),
    Layer.provide(shortLeases),
  ),
)

const parent = process.ppid
/** The pipe closes a moment before its writer is dead, and as long as it lives it uses NATS. */
const parentDiesWithinMillis = 2_000

let orphaned = false
const stop = () => {
  if (orphaned) return
  orphaned = true
  const closed = performance.now()
  const watch = setInterval(() => {
    const isDying = process.ppid === parent && performance.now() - closed < parentDiesWithinMillis
    if (isDying) return
    clearInterval(watch)
    process.kill(process.pid, "SIGTERM")
  }, 10)
}
process.stdin.on("end", stop).on("close", stop).on("error", stop).resume()
