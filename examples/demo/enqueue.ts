/**
 * Gives files to a demonstration that was started with `--keep`, and shows what becomes of them.
 *
 *     PORTFIRE_DATA_DIR=<its data> bun examples/demo/enqueue.ts <file>…
 */
import { Client, Nats } from "../../mod.ts"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import process from "node:process"
import { isFinal } from "./account.ts"
import { Fingerprint, shortLeases } from "./jobs.ts"

const files = process.argv.slice(2)
const dataDir = process.env["PORTFIRE_DATA_DIR"] ?? ""

const program = Effect.gen(function* () {
  const ids = yield* Fingerprint.enqueueMany(
    files.map((file) => ({ path: resolve(file), pauseMillis: 0, stumbles: 0 })),
  )
  for (const [index, id] of ids.entries()) {
    const { attempts, reason, result, state } = yield* Effect.repeat(Fingerprint.get(id), {
      until: isFinal,
      schedule: Schedule.spaced("20 millis"),
    })
    console.log(`${files[index]}: ${state} after ${attempts.length} attempt(s)`, result ?? reason)
  }
})

const impatient = Effect.timeoutOrElse(program, {
  duration: "1 minute",
  orElse: () => Effect.die("no server has run it within a minute; does the demonstration run?"),
})

if (files.length === 0 || !existsSync(dataDir)) {
  console.error(
    "Name files to read, and in PORTFIRE_DATA_DIR the data of a demonstration that runs with --keep.",
  )
  process.exitCode = 2
} else {
  const live = Client.layer.pipe(
    Layer.provide(Nats.layerEmbedded({ dataDir })),
    Layer.provide(shortLeases),
  )
  const fiber = Effect.runFork(Effect.provide(impatient, live))
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => fiber.interruptUnsafe())
  fiber.addObserver((exit) => {
    if (exit._tag === "Success") process.exit()
    if (Cause.hasInterruptsOnly(exit.cause)) process.exit(130)
    console.error(Cause.pretty(exit.cause))
    process.exit(1)
  })
}
