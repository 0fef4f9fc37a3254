import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe } from "node:test"
import { Job, Nats, Roles } from "../../mod.ts"
import { produce, serve } from "../actors/harness.ts"
import { effect, testServer } from "../harness.ts"
import { as, namespace, setUp, violationsOf } from "./world.ts"

const page = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8")

/** The accounts of the page, with the permissions and passwords of these tests. */
const config = (/```\n(accounts \{[\s\S]*?)```/.exec(page)?.[1] ?? "")
  .replace(/\$(\w+)_PASSWORD/g, (_, name: string) => `${name.toLowerCase()}-password`)
  .replace("{ … }", Roles.render(Roles.permissionsOf("setup", { namespace })))
  .replace("{ … }", Roles.render(Roles.permissionsOf("worker", { namespace })))
  .replace(
    "{ … }",
    (() => {
      const { publish, subscribe } = Roles.permissionsOf("enqueuer", { namespace })
      return Roles.render({ publish, subscribe: [...subscribe, "enqueue.*"], answers: true })
    })(),
  )

const Order = Job.make("order", { payload: Schema.Struct({ tenant: Schema.String }) })

const Request = Schema.Struct({ item: Schema.String })

describe("An account of its own for who isn't trusted", () => {
  const server = testServer({ config: `jetstream {}\n${config}` })
  const tenant = (name: string, options: Nats.NatsOptions = {}) =>
    Effect.map(
      Effect.promise(server.url),
      (servers) =>
        Nats.layer({
          servers,
          authentication: { user: name, password: `${name}-password` },
          ...options,
        }),
    )

  effect("lets it ask the gateway, and do nothing else", () =>
    Effect.gen(function* () {
      yield* setUp(server)
      const seen: Array<string> = []
      const handlers = Order.toLayer(({ tenant }) => Effect.sync(() => void seen.push(tenant)))
      const worker = yield* serve(as(server, "worker"), handlers)
      const gateway = yield* produce(as(server, "enqueuer"))
      const refused = violationsOf(gateway.nats)
      gateway.nats.connection.subscribe("enqueue.*", {
        callback: (_, message) => {
          const tenant = message.subject.split(".")[1] ?? ""
          const decoded = Schema.decodeUnknownExit(Request)(message.json())
          if (decoded._tag === "Failure") return void message.respond("refused")
          void Effect.runPromise(gateway.provide(Order.enqueue({ tenant })))
            .then((id) => message.respond(id))
        },
      })
      yield* Effect.promise(() => gateway.nats.connection.flush())

      const connection = yield* untrusted("shop")
      const ask = (body: unknown) =>
        Effect.promise(async () =>
          (await connection.request("enqueue", JSON.stringify(body), { timeout: 5_000 })).string()
        )
      const id = yield* ask({ item: "book" })
      assert.equal((yield* worker.record(id)).state, "succeeded")
      // Who asks is told by the account, not by what the tenant says.
      assert.deepEqual(seen, ["shop"])
      assert.equal(yield* ask({ item: 5 }), "refused")
      assert.deepEqual(refused, [])

      // Its subjects and replies are those of its own account.
      const stream = `PF_${namespace}_JOBS_0`
      const before = yield* messages(worker.nats, stream)
      connection.publish(`pf.${namespace}.0.ready.default.3._.x`, "injected")
      connection.publish("enqueue", JSON.stringify({ item: 5 }), {
        reply: `pf.${namespace}.0.ready.default.3._.x`,
      })
      const asked = yield* Effect.promise(() =>
        connection.request(`$JS.API.STREAM.INFO.${stream}`, "", { timeout: 5_000 })
      )
      assert.match(asked.string(), /JetStream not enabled for account/)
      const error = yield* Effect.flip(
        Effect.tryPromise(() => connection.request("enqueue.blog", "{}", { timeout: 5_000 })),
      )
      assert.match(String(error.cause), /no responders/i)
      yield* Effect.promise(() => connection.flush())
      assert.equal(yield* messages(worker.nats, stream), before)
    }))

  effect("has no JetStream to begin with", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Layer.build(yield* tenant("shop")))
      assert.equal(error._tag, "UnsupportedServer")
    }))

  /** The connection of a tenant, without what Portfire needs of one. */
  const untrusted = Effect.fnUntraced(function* (name: string) {
    const { connect } = yield* Effect.promise(() => import("nats"))
    const servers = yield* Effect.promise(server.url)
    return yield* Effect.acquireRelease(
      Effect.promise(() => connect({ servers, user: name, pass: `${name}-password` })),
      (connection) => Effect.promise(() => connection.close()),
    )
  })
})

const messages = ({ connection }: Nats.Nats, stream: string) =>
  Effect.promise(async () => {
    const answer = await connection.request(`$JS.API.STREAM.INFO.${stream}`)
    return answer.json<{ readonly state: { readonly last_seq: number } }>().state.last_seq
  })
