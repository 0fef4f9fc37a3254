/**
 * Payloads, results and errors encrypted with keys that NATS never sees: who lacks the key sees that
 * there is a job and nothing of what it is about; a new key takes over while old jobs are still there.
 *
 *     bun examples/encryption.ts    deno run -A examples/encryption.ts    node examples/encryption.ts
 */
import { Client, Encryption, Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const Pay = Job.make("pay", {
  payload: Schema.Struct({ card: Schema.String }),
  success: Schema.Struct({ receipt: Schema.String }),
})

const PayLive = Pay.toLayer(({ card }) => Effect.succeed({ receipt: `for ${card.slice(-4)}` }))

/** In earnest from a secret store; a key is made once, with `openssl rand -base64 32`. */
const newKey = () => Redacted.make(crypto.getRandomValues(new Uint8Array(32)))
const january = newKey()
const february = newKey()

const before = Encryption.layer({ current: "january", keys: { january } })
const after = Encryption.layer({ current: "february", keys: { january, february } })

const program = Effect.gen(function* () {
  const producer = yield* Effect.provide(
    Effect.gen(function* () {
      const id = yield* Pay.enqueue({ card: "4111 1111 1111 1111" })
      console.log("with the key:", (yield* Pay.get(id)).payload.card)
      return id
    }),
    Client.layer.pipe(Layer.provide(before)),
  )

  yield* Effect.provide(
    Effect.gen(function* () {
      const { get } = yield* Client.Client
      const { payload } = yield* get(producer)
      if (payload instanceof Encryption.Encrypted) console.log("without it:", payload.keyId)
      const error = yield* Effect.flip(Pay.get(producer))
      console.log("typed:", error._tag)
    }),
    Client.layer,
  )

  // All processes have both keys before one of them writes with the new one.
  yield* Effect.provide(
    Effect.gen(function* () {
      console.log("after the rotation:", (yield* Pay.await(producer)).receipt)
      console.log("and from now on:", (yield* Pay.execute({ card: "4242" })).receipt)
    }),
    Server.layer({ queues: { default: 5 } }).pipe(Layer.provide(PayLive), Layer.provide(after)),
  )
})

await Effect.runPromise(Effect.provide(program, Nats.layerEmbedded()))
