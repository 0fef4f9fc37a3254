/**
 * One job per key: duplicates answer with the id that is there, a burst becomes one job with the newest
 * payload, and a chosen id makes an enqueue safe to repeat.
 *
 *     bun examples/unique.ts    deno run -A examples/unique.ts    node examples/unique.ts
 */
import { Job, Nats, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** While a report of an account waits or runs, there is no other one. */
const Report = Job.make("report", {
  payload: Schema.Struct({ account: Schema.String }),
  unique: { key: ({ account }) => account },
})

/** An index is rebuilt 300 ms after the last change, however many there are. */
const Reindex = Job.make("reindex", {
  payload: Schema.Struct({ page: Schema.String, revision: Schema.Number }),
  success: Schema.Number,
  unique: { key: ({ page }) => page, onConflict: "replace" },
})

const Charge = Job.make("charge", { payload: Schema.Struct({ cents: Schema.Number }) })

const handlers = Layer.mergeAll(
  Report.toLayer(() => Effect.sleep("200 millis")),
  Reindex.toLayer(({ revision }) => Effect.succeed(revision)),
  Charge.toLayer(() => Effect.void),
)

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const first = yield* Report.submit({ account: "ada" })
  const second = yield* Report.submit({ account: "ada" })
  console.log("report:", first.created, second.created, first.id === second.id)
  yield* Report.await(first.id)
  console.log("report, after its end:", (yield* Report.submit({ account: "ada" })).created)

  let id = ""
  for (const revision of [1, 2, 3]) {
    id = yield* Reindex.schedule({ page: "home", revision }, { delay: "300 millis" })
  }
  console.log("reindex: revision", yield* Reindex.await(id))

  yield* Charge.enqueue({ cents: 100 }, { id: "order-17" })
  const error = yield* Effect.flip(
    Charge.enqueue({ cents: 100 }, { id: "order-17", onConflict: "fail" }),
  )
  console.log("charge:", error._tag)

  // At most one within a minute, whatever becomes of it.
  const unique = { key: "newsletter", until: "1 minute" } as const
  const throttled = yield* Effect.forEach(
    [1, 2, 3],
    () => Charge.submit({ cents: 1 }, { unique }),
  )
  console.log("throttled:", throttled.map(({ created }) => created).join(" "))
})

await Effect.runPromise(Effect.provide(program, Live))
