import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { nkeys } from "nats"
import assert from "node:assert/strict"
import { readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { describe } from "node:test"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { Client, Job, Nats, Roles } from "../../mod.ts"
import { produce, serve } from "../actors/harness.ts"
import { effect, spawnProgram, temporaryFolder, type TestServer, testServer } from "../harness.ts"
import { makeOperator } from "./jwt.ts"

const Double = Job.make("double", { payload: Schema.Number, success: Schema.Number })
const handlers = Double.toLayer((n) => Effect.succeed(n * 2))

const pem = (name: string) => fileURLToPath(new URL(`../nats/tls/${name}`, import.meta.url))
const serverTls = `ca_file: "${pem("ca.pem")}", cert_file: "${pem("server.pem")}",
  key_file: "${pem("server.key")}"`
const clientTls: Nats.Tls = { ca: pem("ca.pem"), cert: pem("client.pem"), key: pem("client.key") }

const seedOf = (user: nkeys.KeyPair) => new TextDecoder().decode(user.getSeed())

const layerOf = (server: TestServer, options: Nats.NatsOptions) =>
  Layer.unwrap(Effect.map(
    Effect.promise(server.url),
    (servers) => Nats.layer({ servers, ...options }),
  ))

/** Makes the streams, as who may. */
const setUp = (server: TestServer, options: Nats.NatsOptions) =>
  Effect.scoped(Layer.build(Layer.provide(Client.layer, layerOf(server, options))))

/** A server takes a job from a producer, and the producer gets its result. */
const works = (server: TestServer, worker: Nats.NatsOptions, producer: Nats.NatsOptions = worker) =>
  Effect.gen(function* () {
    yield* serve(layerOf(server, worker), handlers)
    const client = yield* produce(layerOf(server, producer))
    assert.equal(yield* client.provide(Double.execute(4, { within: "10 seconds" })), 8)
  })

const isRefused = (server: TestServer, options: Nats.NatsOptions) =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(Effect.scoped(Layer.build(layerOf(server, options))))
    assert.equal(error._tag, "AuthenticationFailed")
  })

describe("A token", () => {
  const token = "a-long-enough-token"
  const server = testServer({ config: `jetstream {}, authorization { token: ${token} }` })

  effect("lets servers and producers in, another one doesn't", () =>
    Effect.gen(function* () {
      yield* works(server, { authentication: { token: Redacted.make(token) } })
      yield* isRefused(server, { authentication: { token: "another" } })
      yield* isRefused(server, {})
    }))
})

describe("nkeys", () => {
  const [setup, worker, producer] = [nkeys.createUser(), nkeys.createUser(), nkeys.createUser()]
  const user = (key: nkeys.KeyPair, role: Roles.Role) =>
    `{ nkey: ${key.getPublicKey()}, permissions: ${Roles.render(Roles.permissionsOf(role))} }`
  const server = testServer({
    config: `jetstream {}, authorization { users: [
      ${user(setup, "setup")}, ${user(worker, "worker")}, ${user(producer, "producer")}
    ] }`,
  })
  const options = (key: nkeys.KeyPair, role: Roles.Role): Nats.NatsOptions => ({
    authentication: { nkeySeed: seedOf(key) },
    inboxPrefix: `_INBOX_${role}`,
  })

  effect("carry the permissions of roles", () =>
    Effect.gen(function* () {
      yield* setUp(server, options(setup, "setup"))
      yield* works(server, options(worker, "worker"), options(producer, "producer"))
      yield* isRefused(server, options(nkeys.createUser(), "worker"))
    }))
})

describe("Credentials of an operator", () => {
  const operator = makeOperator()
  const server = testServer({ config: operator.config })
  const credentials = (role: Roles.Role) => operator.credentials(Roles.permissionsOf(role))
  const options = (role: Roles.Role, given = credentials(role)): Nats.NatsOptions => ({
    authentication: { credentials: given },
    inboxPrefix: `_INBOX_${role}`,
  })

  effect("carry the permissions of roles, by contents and by path", () =>
    Effect.gen(function* () {
      yield* setUp(server, options("setup"))
      const path = join(yield* temporaryFolder, "producer.creds")
      writeFileSync(path, credentials("producer"))
      yield* works(server, options("worker"), options("producer", path))
      const stranger = makeOperator().credentials(Roles.permissionsOf("worker"))
      yield* isRefused(server, options("worker", stranger))
    }))
})

describe("TLS with a password", () => {
  const server = testServer({
    config: `jetstream {}, tls { ${serverTls} }, authorization { user: u, password: p }`,
  })
  const authentication = { user: "u", password: "p" }

  effect(
    "lets servers and producers in that know the server's certificate",
    () =>
      Effect.gen(function* () {
        yield* works(server, { authentication, tls: { ca: pem("ca.pem") } })
        yield* isRefused(server, {
          authentication: { user: "u", password: "q" },
          tls: { ca: pem("ca.pem") },
        })
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(layerOf(server, { authentication, tls: true }))),
        )
        assert.match(error.message, /certificate/i)
      }),
  )
})

describe("A certificate that is the user", () => {
  const permissions = Roles.render(
    Roles.permissionsOf(["setup", "worker", "producer"], { inboxPrefix: "_INBOX_client" }),
  )
  const server = testServer({
    config: `jetstream {}, tls { ${serverTls}, verify_and_map: true }
      authorization { users: [{ user: "CN=client", permissions: ${permissions} }] }`,
  })

  effect("has its permissions", () =>
    Effect.gen(function* () {
      yield* works(server, { tls: clientTls, inboxPrefix: "_INBOX_client" })
      const wrong = { ...clientTls, cert: pem("server.pem"), key: pem("server.key") }
      yield* isRefused(server, { tls: wrong, inboxPrefix: "_INBOX_client" })
    }))
})

describe("Credentials that are refused for a while", () => {
  const config = (password: string) =>
    `jetstream {}, authorization { user: u, password: ${password} }`
  const options = { config: config("p") }
  const server = testServer(options)

  effect("end no connection, and no process", () =>
    Effect.gen(function* () {
      const program = yield* spawnProgram(
        new URL("./programs/outlast.ts", import.meta.url),
        {
          env: {
            NATS_URL: yield* Effect.promise(server.url),
            NATS_USER: "u",
            NATS_PASSWORD: "p",
          },
        },
      )
      yield* program.waitForLine("connected")
      options.config = config("q")
      yield* server.restartServer
      yield* program.waitForLine("refused")
      options.config = config("p")
      yield* server.restartServer
      yield* program.waitForLine("back")
      assert.equal(yield* program.exited, 0)
    }))
})

describe("tls://", () => {
  const server = testServer({ config: "jetstream {}" })

  effect("never falls back to plain text", () =>
    Effect.gen(function* () {
      const servers = `tls://${yield* Effect.promise(server.url)}`
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Nats.layer({ servers }))))
      assert.equal(error._tag, "Unavailable")
    }))
})

describe("A secret", () => {
  const password = "pässword-9b1deb4d"
  const token = "token-3b7d4bad"
  const seed = seedOf(nkeys.createUser())
  const creds = makeOperator().credentials(Roles.permissionsOf("worker"))
  const credsSeed = /SU[A-Z0-9]{56}/.exec(creds)?.[0] ?? ""
  const key = readFileSync(pem("client.key"), "utf8")
  const keyLine = key.split("\n")[1] ?? ""
  const server = testServer({ config: `jetstream {}, authorization { user: u, password: p }` })
  const demanding = testServer({
    config: `jetstream {}, tls { ${serverTls}, verify: true }
      authorization { user: u, password: p }`,
  })

  effect(
    "shows in nothing that a program prints which can't connect",
    () =>
      Effect.gen(function* () {
        const address = yield* Effect.promise(server.url)
        const encrypted = yield* Effect.promise(demanding.url)
        const nobody = `127.0.0.1:${yield* freePort}`
        const ways: ReadonlyArray<Nats.NatsOptions> = [
          { authentication: { user: "u", password } },
          { authentication: { token } },
          { authentication: { nkeySeed: seed } },
          { authentication: { nkeySeed: `${seed}X` } },
          { authentication: { credentials: creds } },
          { authentication: { credentials: creds.replaceAll("-----", "--") } },
          { authentication: { credentials: creds.slice(0, -80) } },
          { authentication: { user: "u", password }, tls: { cert: pem("client.pem"), key } },
          { authentication: { user: "u", password }, tls: { cert: pem("ca.pem"), key } },
          {
            authentication: { user: "u", password },
            tls: { cert: pem("client.pem"), key: keyLine },
          },
        ]
        const encoded = encodeURIComponent(password)
        const attempts = [
          ...[address, nobody, encrypted].flatMap((servers) => [
            ...ways.map((way) => ({ ...way, servers })),
            { servers: `nats://u:${encoded}@${servers}` },
            { servers: `nats://${token}@${servers}` },
            { servers: `nats://u:${encoded}@${servers}/no path/` },
          ]),
        ]
        const program = yield* spawnProgram(
          new URL("./programs/refused.ts", import.meta.url),
          { env: { ATTEMPTS: JSON.stringify(attempts) } },
        )
        assert.equal(yield* program.exited, 0, program.stderr())
        const output = program.lines.join("\n") + program.stderr()
        const count = (text: string) => output.split(text).length - 1
        assert.equal(count("=== tried "), attempts.length)
        assert.equal(count("succeeded"), 0)
        assert.ok(count("AuthenticationFailed") > 0 && count("waiting for NATS") > 0)
        for (
          const secret of [password, encoded, token, seed, seed.slice(2, 40), credsSeed, keyLine]
        ) {
          const at = output.indexOf(secret)
          assert.equal(at, -1, `…${output.slice(Math.max(0, at - 300), at)}`)
        }
      }),
    { timeout: 60_000 },
  )

  effect(
    "shows in nothing that a server of jobs prints which can't connect",
    () =>
      Effect.gen(function* () {
        const program = yield* spawnProgram(
          new URL("./programs/server.ts", import.meta.url),
          {
            env: {
              NATS_URL: yield* Effect.promise(server.url),
              NATS_USER: "u",
              NATS_PASSWORD: password,
            },
          },
        )
        assert.notEqual(yield* program.exited, 0)
        const output = program.lines.join("\n") + program.stderr()
        assert.match(output, /refused the user u/)
        assert.ok(!output.includes(password))
      }),
  )

  effect("shows in no picture of a connection", () =>
    Effect.gen(function* () {
      const [nats] = yield* Effect.map(
        Layer.build(layerOf(demanding, {
          authentication: { user: "u", password: "p" },
          tls: { ...clientTls, key },
        })),
        (context) => [...context.mapUnsafe.values()] as ReadonlyArray<object>,
      )
      assert.ok(nats !== undefined && "namespace" in nats)
      assert.ok(!inspect(nats, { depth: 12 }).includes(keyLine))
      assert.ok(!JSON.stringify(nats).includes(keyLine))
    }))
})

/** A port where nobody listens. */
const freePort = Effect.callback<number>((resume) => {
  const listener = createServer().listen(0, "127.0.0.1", () => {
    const address = listener.address()
    listener.close(() =>
      resume(Effect.succeed(typeof address === "object" ? address?.port ?? 1 : 1))
    )
  })
})
