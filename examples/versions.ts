/**
 * A payload whose form has changed: a job of the old form, enqueued by a program that is not deployed
 * yet, is run by a server that already knows the new one.
 *
 *     bun examples/versions.ts    deno run -A examples/versions.ts    node examples/versions.ts
 */
import { Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** As it was: one text for the whole name. */
const GreetV1 = Job.make("greet", {
  payload: Schema.Struct({ name: Schema.String }),
  success: Schema.String,
})

/** As it is: the name in parts, and how a payload that waits becomes one. */
const Greet = Job.make("greet", {
  version: 2,
  payload: Schema.Struct({ first: Schema.String, last: Schema.String }),
  success: Schema.String,
  migrations: {
    1: (old) => {
      const { name } = old as { readonly name: string }
      const space = name.lastIndexOf(" ")
      return { first: name.slice(0, Math.max(0, space)), last: name.slice(space + 1) }
    },
  },
})

const GreetLive = Greet.toLayer(({ first, last }) => Effect.succeed(`Dear ${first} ${last}`))

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(GreetLive),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  console.log(yield* Greet.execute({ first: "Grace", last: "Hopper" }))
  const id = yield* GreetV1.enqueue({ name: "Ada Lovelace" })
  console.log(yield* Greet.await(id))
  const { payload, version } = yield* Greet.get(id)
  console.log(`enqueued as version ${version}, read as ${JSON.stringify(payload)}`)
})

await Effect.runPromise(Effect.provide(program, Live))
