/**
 * A batch: jobs that become real together, whose end is one event. It grows while it runs, is followed
 * by a job, and opens again when a member that failed is requeued.
 *
 *     bun examples/batches.ts    deno run -A examples/batches.ts    node examples/batches.ts
 */
import { Batch, Client, Job, Nats, Operation, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** Imports a file, and adds a job for each of its parts to the batch that it is a member of. */
const Import = Job.make("import", {
  payload: Schema.Struct({ batch: Schema.String, file: Schema.String }),
})
const Part = Job.make("part", { payload: Schema.String, retry: Retry.none })
const Report = Job.make("report", { payload: Schema.String, success: Schema.String })

let isBroken = true

const handlers = Layer.mergeAll(
  Import.toLayer(({ batch, file }) =>
    Effect.orDie(Batch.attach(batch, (more) => more.addMany(Part, [`${file}/1`, `${file}/2`])))
  ),
  Part.toLayer((part) =>
    part === "b.csv/2" && isBroken ? Effect.die(new Error("a bad line")) : Effect.void
  ),
  Report.toLayer((text) => Effect.succeed(`report: ${text}`)),
)

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layerEmbedded()),
)

const show = ({ description, members, state, total }: Batch.BatchRecord): void =>
  console.log(`${description}: ${state}, ${members.succeeded} of ${total} members succeeded`)

const program = Effect.gen(function* () {
  const files = ["a.csv", "b.csv"]
  const batch = yield* Batch.create(
    { description: "import" },
    (batch) => batch.addMany(Import, files.map((file) => ({ batch: batch.id, file }))),
  )
  const failed = yield* Report.enqueueAfter(batch, "something failed", { on: "failed" })
  show(yield* Batch.await(batch, { within: "1 minute" }))
  console.log(yield* Report.await(failed))

  isBroken = false
  const client = yield* Client.Client
  yield* client.operateWhere({ state: "failed", group: batch }, Operation.requeue())
  show(yield* Batch.await(batch, { within: "1 minute" }))

  // When the building fails, nothing of it was ever there.
  let id = ""
  const half = yield* Effect.exit(Batch.create({}, (batch) => {
    id = batch.id
    return Effect.andThen(batch.addMany(Part, ["x", "y", "z"]), Effect.fail("changed my mind"))
  }))
  const gone = yield* Effect.flip(Batch.get(id))
  console.log(`${half._tag}: ${gone._tag}`)
})

await Effect.runPromise(Effect.provide(program, Live))
