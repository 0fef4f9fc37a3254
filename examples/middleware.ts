/**
 * Middleware: a tenant travels from the caller to the handler, a tenant that was closed gets nothing
 * more, and what becomes of every job is written down.
 *
 *     bun examples/middleware.ts    deno run -A examples/middleware.ts    node examples/middleware.ts
 */
import { Job, Middleware, Nats, Server } from "../mod.ts"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const Tenant: Context.Reference<string> = Context.Reference("example/Tenant", {
  defaultValue: () => "nobody",
})

const Tenants = Middleware.make("tenants", {
  enqueue: (request, next) =>
    Effect.flatMap(
      Tenant,
      (tenant) =>
        tenant === "closed"
          ? Middleware.veto("the account is closed")
          : next({ ...request, context: { ...request.context, tenant } }),
    ),
  attempt: (attempt, next) =>
    Effect.provideService(next, Tenant, attempt.context["tenant"] ?? "nobody"),
})

const Audit = Middleware.make("audit", {
  transition: ({ name, to }) => Effect.sync(() => console.log(`${name} is ${to}`)),
})

const Report = Job.make("report", { payload: Schema.String, success: Schema.String })

const ReportLive = Report.toLayer((month) =>
  Effect.map(Tenant, (tenant) => `${month} for ${tenant}`)
)

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide(ReportLive),
  Layer.provide(Middleware.layer([Tenants, Audit])),
  Layer.provide(Nats.layerEmbedded()),
)

const program = Effect.gen(function* () {
  const result = yield* Report.execute("May").pipe(Effect.provideService(Tenant, "acme"))
  console.log(result)
  const refused = yield* Effect.flip(Report.enqueue("May")).pipe(
    Effect.provideService(Tenant, "closed"),
  )
  console.log(refused.message)
})

await Effect.runPromise(Effect.provide(program, Live))
