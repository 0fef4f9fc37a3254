/** Connects, and tells of refusals and of coming back; ends then. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import process from "node:process"
import { Nats } from "../../../mod.ts"

const program = Effect.gen(function* () {
  const nats = yield* Nats.Nats
  console.log("connected")
  const back = Effect.callback<void>((resume) => {
    nats.onReconnect(() => resume(Effect.void))
  })
  // Listening to the client's own events would put the reset off, so the refusals go by unseen: one
  // each 100 to 300 ms.
  const refusals = Effect.gen(function* () {
    yield* Stream.runHead(Stream.filter(nats.status, ({ state }) => state === "reconnecting"))
    yield* Effect.sleep("1500 millis")
    console.log("refused")
  })
  yield* Effect.raceFirst(back, Effect.andThen(refusals, Effect.never))
  console.log("back")
})

await Effect.runPromise(Effect.provide(program, Nats.layer()) as Effect.Effect<void, unknown>)
process.exit(0)
