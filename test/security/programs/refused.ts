/** Tries to connect in ways that fail, and prints all there is to print about it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import process from "node:process"
import { inspect } from "node:util"
import { Client, Nats } from "../../../mod.ts"

const attempts: ReadonlyArray<Nats.NatsOptions> = JSON.parse(process.env.ATTEMPTS ?? "[]")
delete process.env.ATTEMPTS

// On Deno the reset of a connection that was refused can come when the client no longer listens.
process.on("uncaughtException", (error) => console.log(inspect(error, { depth: 12 })))

const attempt = (options: Nats.NatsOptions) =>
  Effect.gen(function* () {
    const layer = Client.layer.pipe(Layer.provide(Nats.layer(options)))
    const exit = yield* Effect.exit(Effect.scoped(Layer.build(layer)))
    if (Exit.isSuccess(exit)) return console.log("succeeded")
    const error = Cause.squash(exit.cause)
    console.log("=== tried", inspect(exit, { depth: 12, showHidden: true }))
    console.log(inspect(error, { depth: 12, showHidden: true }))
    console.log(JSON.stringify(exit), Cause.pretty(exit.cause), String(error))
    yield* Effect.logError("refused", exit.cause, error)
  })

await Effect.runPromise(Effect.forEach(attempts, attempt, { concurrency: 8, discard: true }))

// One that waits for a server that isn't there tells so in the log.
const waiting = attempts.filter(({ servers }) => servers === attempts[13]?.servers).map((options) =>
  Effect.ignore(Effect.scoped(Layer.build(Nats.layer({ ...options, waitOnFirstConnect: true }))))
    .pipe(Effect.timeoutOption("1500 millis"))
)
await Effect.runPromise(Effect.all(waiting, { concurrency: "unbounded", discard: true }))
process.exit(0)
