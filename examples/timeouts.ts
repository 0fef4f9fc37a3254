/**
 * Three limits: for an attempt, for the job as a whole, and for how late it may begin.
 *
 *     bun examples/timeouts.ts    deno run -A examples/timeouts.ts    node examples/timeouts.ts
 */
import { Client, Job, Nats, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** An attempt may take 100 ms; after one that takes longer there is another. */
const Fetch = Job.make("fetch", {
  success: Schema.String,
  timeout: "100 millis",
  retry: Retry.fixed({ attempts: 2, delay: "10 millis" }),
})

/** The job may take half a second, with all its attempts and what lies between them. */
const Report = Job.make("report", { deadline: "500 millis" })

/** Of no use to anybody who has had to wait for more than half a second. */
const Hint = Job.make("hint", { ttl: "500 millis", queue: "hints" })

const handlers = Layer.mergeAll(
  Fetch.toLayer(() =>
    Effect.flatMap(
      Job.current,
      ({ attempt }) => attempt === 1 ? Effect.never : Effect.succeed(`attempt ${attempt}`),
    )
  ),
  Report.toLayer(() => Effect.never),
  Hint.toLayer(() => Effect.sleep("700 millis")),
)

// One slot, so that the second hint waits for the first.
const Live = Server.layer({ queues: { default: 20, hints: 1 } }).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  console.log("fetch:", yield* Fetch.execute())
  const report = yield* Effect.flip(Report.execute())
  console.log("report:", report._tag)
  const first = yield* Hint.enqueue()
  const second = yield* Hint.enqueue()
  for (const id of [first, second]) {
    yield* Effect.exit(Hint.await(id))
    const { reason, state } = yield* client.get(id)
    console.log("hint:", state, reason?.slice(reason.indexOf("not begun")) ?? "")
  }
})

await Effect.runPromise(Effect.provide(program, Live))
