/**
 * A process that uses an embedded server. Says what it sees, one line each, and ends as it is told:
 * SIGTERM closes its scope first; `HOW` says how it ends by itself after `ready`.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { rmSync } from "node:fs"
import process from "node:process"
import * as Nats from "../../../src/nats/Nats.ts"

const say = (line: string) => console.log(line)

const program = Effect.gen(function* () {
  const nats = yield* Nats.Nats
  say(`ready ${nats.server().id} ${nats.connection.getServer()}`)
  nats.onReconnect(() => say(`again ${nats.server().id} ${nats.connection.getServer()}`))
  yield* Effect.forkScoped(Stream.runForEach(nats.status, (status) =>
    Effect.sync(() => {
      say(`status ${status.state}`)
    })))
  if (process.env.HOW === "exit without folder") {
    rmSync(process.env.DATA_DIR ?? "", { recursive: true })
    process.exit(0)
  }
  if (process.env.HOW === "exit") process.exit(0)
  if (process.env.HOW === "throw") {
    setTimeout(() => {
      throw new Error("thrown on purpose")
    })
  }
  return yield* Effect.never
})

const fiber = Effect.runFork(
  Effect.scoped(
    Effect.flatMap(
      Layer.build(Nats.layerEmbedded({ dataDir: process.env.DATA_DIR ?? "" })),
      (context) => Effect.provide(program, context),
    ),
  ),
)
fiber.addObserver((exit) => {
  if (exit._tag === "Failure" && process.env.STOPPING === undefined) {
    say(`failed ${exit.cause}`)
  }
})
process.once("SIGTERM", () => {
  process.env.STOPPING = "yes"
  void Effect.runPromise(Fiber.interrupt(fiber)).then(() => {
    say("left")
    process.exit(0)
  })
})
