/**
 * A job that says how far it is and what it does, followed live from outside.
 *
 *     bun examples/progress.ts    deno run -A examples/progress.ts    node examples/progress.ts
 */
import { Client, Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const Import = Job.make("import", {
  payload: Schema.Array(Schema.String),
  success: Schema.Number,
  logs: true,
})

const ImportLive = Import.toLayer((files) =>
  Effect.gen(function* () {
    for (const [done, note] of files.entries()) {
      yield* Job.progress({ done, total: files.length, note })
      yield* Effect.log(`reading ${note}`)
      yield* Effect.sleep("300 millis")
    }
    yield* Effect.logWarning("the last file was empty")
    yield* Job.progress(1)
    return files.length
  })
).pipe(
  // What it logs is kept with the job; the console stays free for the reader.
  Layer.provide(Logger.layer([])),
)

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(ImportLive),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  const id = yield* Import.enqueue(["a.csv", "b.csv", "c.csv"])
  yield* Stream.runForEach(client.follow(id), (news) =>
    Effect.sync(() => {
      if (news._tag === "Line") console.log(`${news.level}: ${news.text}`)
      else console.log(`${Math.round(100 * (news.fraction ?? 0))} % ${news.note ?? ""}`.trimEnd())
    }))
  const { lines } = yield* client.logs(id)
  console.log(`ended with ${lines.length} lines`)
})

await Effect.runPromise(Effect.provide(program, Live))
