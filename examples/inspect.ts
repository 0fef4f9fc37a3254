/**
 * Looking at the engine: counts, queues, servers, and the jobs of a state page by page.
 *
 *     bun examples/inspect.ts    deno run -A examples/inspect.ts    node examples/inspect.ts
 */
import { Client, Job, Nats, Retry, Server } from "../mod.ts"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

const Mail = Job.make("mail", {
  payload: Schema.Struct({ to: Schema.String }),
  error: Schema.String,
  queue: "mail",
  retry: Retry.none,
})

const Report = Job.make("report", { queue: "reports" })

const written = Deferred.makeUnsafe<void>()

const handlers = Layer.mergeAll(
  Mail.toLayer(({ to }) => to.includes("@") ? Effect.void : Effect.fail("no address")),
  Report.toLayer(() => Deferred.await(written)),
)

const Live = Server.layer({ name: "office", queues: { mail: 5, reports: 1 } }).pipe(
  Layer.provide(handlers),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  for (const to of ["ada@example.org", "nobody", "alan@example.org", "somebody"]) {
    yield* Mail.enqueue({ to })
  }
  yield* Mail.schedule({ to: "grace@example.org" }, { delay: "1 hour" })
  for (let i = 0; i < 3; i++) yield* Report.enqueue()

  // Until the mails are sent, a report is being written, and two wait for it.
  const { queues } = yield* Effect.repeat(client.counts(), {
    until: ({ total }) =>
      total.succeeded + total.failed === 4 && total.processing === 1 && total.enqueued === 2,
    schedule: Schedule.spaced("20 millis"),
  })
  for (
    const [queue, { enqueued, failed, processing, scheduled, succeeded }] of Object.entries(queues)
  ) {
    console.log(
      `${queue}: ${enqueued} enqueued, ${processing} processing, ${scheduled} scheduled, ` +
        `${succeeded} succeeded, ${failed} failed`,
    )
  }

  for (const { queue, lagMillis, oldest, servers } of yield* client.queues()) {
    const waits = oldest === undefined
      ? "nothing waits"
      : `waiting since ${oldest.since.toISOString()}`
    console.log(`${queue}: ${waits} (${lagMillis} ms), served by ${servers.join(", ")}`)
  }

  for (const { host, jobs, running = [] } of yield* client.servers) {
    console.log(`a server on ${host}`)
    console.log(`knows ${jobs.join(", ")}; runs ${running.map(({ name }) => name).join(", ")}`)
  }

  let cursor: string | undefined
  do {
    const page: Client.JobPage = yield* client.list({ state: "failed", limit: 1, cursor })
    for (const { payload, reason } of page.jobs) console.log(JSON.stringify(payload), reason)
    cursor = page.cursor
  } while (cursor !== undefined)

  yield* Deferred.succeed(written, undefined)
})

await Effect.runPromise(Effect.provide(program, Live))
