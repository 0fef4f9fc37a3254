/**
 * What can be asked for jobs that are there already: one by one, and all that match a filter.
 *
 *     bun examples/operations.ts    deno run -A examples/operations.ts    node examples/operations.ts
 */
import { Client, Job, Nats, Operation, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const Mail = Job.make("mail", {
  payload: Schema.String,
  success: Schema.String,
  retry: Retry.fixed({ attempts: 1, delay: 0 }),
})

let mailServerIsUp = false

const MailLive = Mail.toLayer((to) =>
  mailServerIsUp ? Effect.succeed(`sent to ${to}`) : Effect.die(new Error("connection refused"))
)

// Nobody serves the queue `newsletter`.
const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(MailLive),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  const reminder = yield* Mail.schedule("ada", { delay: "1 day" })
  const { revision } = yield* client.get(reminder)
  const sooner = Operation.reschedule({ delay: "1 hour" })
  console.log("sooner:", (yield* client.operate(reminder, sooner))._tag)
  // As it was when it was read; it has been rescheduled since.
  const cancel = Operation.cancel({ reason: "no longer needed" })
  const stale = yield* client.operate(reminder, cancel, { ifRevision: revision })
  console.log("cancel as seen:", stale._tag)
  console.log("requeue:", yield* answer(client.operate(reminder, Operation.requeue())))
  console.log("cancel:", yield* answer(client.operate(reminder, cancel)))

  const ids = yield* Mail.enqueueMany(["bob", "eve", "joe"])
  for (const id of ids) yield* Effect.exit(Mail.await(id))
  mailServerIsUp = true
  const refused = { state: "failed", error: "connection refused" } as const
  const { matched } = yield* client.operateWhere(refused, Operation.requeue(), { dryRun: true })
  console.log("would requeue:", matched)
  console.log("requeued:", (yield* client.operateWhere(refused, Operation.requeue())).changed)
  for (const id of ids) console.log(yield* Mail.await(id))

  yield* Mail.enqueueMany(["ann", "tom"], { queue: "newsletter" })
  const waiting = { queue: "newsletter", state: "enqueued" } as const
  const moved = yield* client.operateWhere(waiting, Operation.move({ queue: "archive" }))
  const removed = yield* client.operateWhere({ queue: "archive" }, Operation.cancel())
  console.log("moved and cancelled:", moved.changed, removed.changed)
})

const answer = <E>(operation: Effect.Effect<Operation.Answer, E>): Effect.Effect<string, E> =>
  Effect.map(
    operation,
    (answer) =>
      answer._tag === "changed"
        ? `${answer.from} to ${answer.to}`
        : answer._tag === "conflict"
        ? `not while ${answer.state}`
        : "no such job",
  )

await Effect.runPromise(Effect.provide(program, Live))
