import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { nkeys } from "nats"
import assert from "node:assert/strict"
import { mkdirSync, writeFileSync } from "node:fs"
import { createServer, type Server } from "node:net"
import { join } from "node:path"
import { describe } from "node:test"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import * as Nats from "../../src/nats/Nats.ts"
import { resolve } from "../../src/nats/NatsOptions.ts"
import { effect, temporaryFolder, testServer } from "../harness.ts"

const connect = (options: Nats.NatsOptions) =>
  Effect.flatMap(
    Layer.build(Nats.layer(options)),
    (context) => Effect.provide(Nats.Nats, Layer.succeedContext(context)),
  )

/** Listens on a free port; `greet` gets each connection. */
const listener = (greet: (socket: import("node:net").Socket) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ server: Server; sockets: Set<import("node:net").Socket> }>((resume) => {
        const sockets = new Set<import("node:net").Socket>()
        const server = createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          greet(socket)
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
      }),
      ({ server, sockets }) =>
        Effect.sync(() => {
          server.close()
          sockets.forEach((socket) => socket.destroy())
        }),
    ),
    ({ server }) => {
      const address = server.address()
      return typeof address === "object" ? address?.port ?? 0 : 0
    },
  )

/** A port where nobody listens. */
const freePort = Effect.scoped(listener(() => {}))

const changed = (nats: Nats.Nats, state: Nats.ConnectionStatus["state"]) =>
  Stream.runHead(Stream.filter(nats.status, (status) => status.state === state))

describe("Nats.layer", () => {
  const server = testServer()

  effect(
    "connects, describes the server and works in its namespace",
    () =>
      Effect.gen(function* () {
        const nats = yield* Nats.Nats
        assert.equal(nats.namespace, "a")
        assert.match(nats.server().version, /^2\.\d+/)
        assert.match(nats.server().id, /^N[A-Z0-9]{55}$/)
        assert.equal(nats.server().maxPayload, 1024 * 1024)
      }).pipe(Effect.provide(server.layer("a"))),
  )

  effect(
    "shares one connection between all that are given one layer",
    () =>
      Effect.gen(function* () {
        const layer = server.layer()
        const user = (tag: string) =>
          Layer.effectDiscard(Effect.map(Nats.Nats, (nats) => seen.set(tag, nats)))
        const seen = new Map<string, Nats.Nats>()
        yield* Layer.build(
          Layer.mergeAll(Layer.provide(user("a"), layer), Layer.provide(user("b"), layer)),
        )
        assert.equal(seen.size, 2)
        assert.equal(seen.get("a")?.connection, seen.get("b")?.connection)
      }),
  )

  effect(
    "reconnects to a killed server, calls back and knows the new one",
    () =>
      Effect.gen(function* () {
        const nats = yield* Nats.Nats
        const before = nats.server().id
        let unwanted = 0
        nats.onReconnect(() => unwanted++)()
        nats.onReconnect(() => {
          throw new Error("not to be heard")
        })
        const back = Effect.callback<void>((resume) => {
          nats.onReconnect(() => resume(Effect.void))
        })
        yield* Effect.all([back, server.restartServer], { concurrency: 2 })
        assert.notEqual(nats.server().id, before)
        assert.equal(unwanted, 0)
        yield* Effect.promise(() => nats.connection.flush())
      }).pipe(Effect.provide(server.layer())),
  )

  effect(
    "tells every reader the current state first, then each change, until it is closed",
    () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(server.layer(), scope)
        const nats = yield* Effect.provide(Nats.Nats, Layer.succeedContext(context))
        const first = yield* Effect.forkChild(Stream.runCollect(nats.status))
        yield* changed(nats, "connected")
        yield* server.killServer
        yield* changed(nats, "reconnecting")
        const late = yield* Effect.forkChild(Stream.runCollect(nats.status))
        yield* Effect.all([changed(nats, "connected"), server.restartServer], { concurrency: 2 })
        yield* Scope.close(scope, Exit.void)

        const all = yield* Fiber.join(first)
        assert.deepEqual(all.map(({ state }) => state), [
          "connected",
          "disconnected",
          "reconnecting",
          "connected",
          "closed",
        ])
        const address = yield* Effect.promise(server.url)
        for (const status of all) {
          assert.equal(status.server, address)
          assert.ok(Math.abs(Date.now() - status.time.getTime()) < 30_000)
        }
        assert.deepEqual((yield* Fiber.join(late)).map(({ state }) => state), [
          "reconnecting",
          "connected",
          "closed",
        ])
        assert.deepEqual((yield* Stream.runCollect(nats.status)).map(({ state }) => state), [
          "closed",
        ])
      }),
  )

  effect("sends what was written before it closes with its scope", () =>
    Effect.gen(function* () {
      const listening = yield* Nats.Nats
      const subscription = listening.connection.subscribe("last.words", { max: 100 })
      yield* Effect.promise(() => listening.connection.flush())
      yield* Effect.gen(function* () {
        const { connection } = yield* Nats.Nats
        const words = new Uint8Array(256 * 1024)
        for (let i = 0; i < 100; i++) connection.publish("last.words", words)
      }).pipe(Effect.provide(server.layer()))
      const heard = yield* Effect.promise(async () => {
        let count = 0
        for await (const _ of subscription) count++
        return count
      })
      assert.equal(heard, 100)
    }).pipe(Effect.provide(server.layer())))

  effect("closes with its scope at once when the server is gone", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(server.layer(), scope)
      const nats = yield* Effect.provide(Nats.Nats, Layer.succeedContext(context))
      yield* Effect.all([changed(nats, "reconnecting"), server.killServer], { concurrency: 2 })
      const begun = performance.now()
      yield* Scope.close(scope, Exit.void)
      assert.ok(performance.now() - begun < 1_000)
      assert.equal(nats.connection.isClosed(), true)
      yield* server.restartServer
    }))

  effect(
    "says that the credentials were refused, without showing them",
    () =>
      Effect.gen(function* () {
        const servers = yield* Effect.promise(server.url)
        const wrong: ReadonlyArray<Nats.NatsOptions> = [
          { servers, authentication: { user: "test", password: "s3cret" } },
          { servers, authentication: { user: "test", password: Redacted.make("s3cret") } },
          { servers, authentication: { token: "s3cret" } },
          { servers: `nats://test:s3cret@${servers}` },
          { servers: `nats://s3cret@${servers}` },
          { servers },
          // Waiting for a server is no reason to go on being refused.
          { servers, authentication: { token: "s3cret" }, waitOnFirstConnect: true },
        ]
        for (const options of wrong) {
          const error = yield* Effect.flip(connect(options))
          assert.equal(error._tag, "AuthenticationFailed")
          assert.match(error.message, /refused/)
          assert.doesNotMatch(inspect(error, { depth: 9 }) + JSON.stringify(error), /s3cret/)
        }
      }),
  )

  effect("takes user and password from the server's address", () =>
    Effect.gen(function* () {
      const { user, password } = server.credentials
      const address = yield* Effect.promise(server.url)
      const nats = yield* connect({ servers: `nats://${user}:${password}@${address}` })
      assert.equal(nats.connection.getServer(), address)
    }))

  effect("says where nobody answered", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const error = yield* Effect.flip(connect({ servers: `127.0.0.1:${port}` }))
      assert.equal(error._tag, "Unavailable")
      assert.match(error.message, new RegExp(`connecting to 127.0.0.1:${port}: connection refused`))
    }))

  effect("waits for a server that isn't there yet when asked to", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      yield* server.killServer
      const options = { servers, authentication: server.credentials, waitOnFirstConnect: true }
      const waiting = yield* Effect.forkChild(connect(options))
      yield* Effect.flip(connect({ ...options, waitOnFirstConnect: false }))
      yield* server.restartServer
      assert.equal((yield* Fiber.join(waiting)).connection.getServer(), servers)
    }))

  effect("can be interrupted while it waits", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const waiting = yield* Effect.forkChild(
        connect({ servers: `127.0.0.1:${port}`, waitOnFirstConnect: true }),
      )
      yield* Fiber.interrupt(waiting)
    }))

  effect("refuses a server that is too old", () =>
    Effect.gen(function* () {
      const info = { server_id: "N", version: "2.11.9", max_payload: 1, proto: 1, headers: true }
      const port = yield* listener((socket) => {
        socket.write(`INFO ${JSON.stringify(info)}\r\n`)
        socket.on("data", (data) => {
          if (String(data).includes("PING")) socket.write("PONG\r\n")
        })
      })
      const error = yield* Effect.flip(connect({ servers: `127.0.0.1:${port}` }))
      assert.equal(error._tag, "UnsupportedServer")
      assert.match(error.message, /2\.11\.9.*2\.12.*Upgrade/)
    }))
})

describe("Nats.layer without JetStream", () => {
  const server = testServer({ config: "debug: false" })

  effect("refuses the server and says how to start one", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      const error = yield* Effect.flip(connect({ servers }))
      assert.equal(error._tag, "UnsupportedServer")
      assert.match(error.message, /JetStream is not enabled.*nats-server -js/)
    }))
})

describe("Nats.layer with an account without JetStream", () => {
  const server = testServer({
    config: "jetstream {}, accounts { A { users: [{ user: a, password: a }] } }",
  })

  effect("refuses the account", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      const authentication = { user: "a", password: "a" }
      const error = yield* Effect.flip(connect({ servers, authentication }))
      assert.equal(error._tag, "UnsupportedServer")
    }))
})

describe("Nats.layer for a user that may not ask for JetStream", () => {
  const server = testServer({
    config: `jetstream {}, authorization { users: [{
      user: a, password: a, permissions: { publish: ["pf.>"], subscribe: ["_INBOX.>"] } }] }`,
  })

  effect("connects", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      yield* connect({ servers, authentication: { user: "a", password: "a" } })
    }))
})

describe("Nats.layer with an nkey", () => {
  const key = nkeys.createUser()
  const seed = new TextDecoder().decode(key.getSeed())
  const server = testServer({
    config: `jetstream {}, authorization { users: [{ nkey: ${key.getPublicKey()} }] }`,
  })

  effect("is let in by its seed, and by no other", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      yield* connect({ servers, authentication: { nkeySeed: Redacted.make(seed) } })
      const other = new TextDecoder().decode(nkeys.createUser().getSeed())
      const error = yield* Effect.flip(connect({ servers, authentication: { nkeySeed: other } }))
      assert.equal(error._tag, "AuthenticationFailed")
    }))
})

describe("Nats.layer with TLS", () => {
  const pem = (name: string) => fileURLToPath(new URL(`./tls/${name}`, import.meta.url))
  const server = testServer({
    config: `jetstream {}, tls { verify: true, ca_file: "${pem("ca.pem")}",
      cert_file: "${pem("server.pem")}", key_file: "${pem("server.key")}" }`,
  })
  const tls = { ca: pem("ca.pem"), cert: pem("client.pem"), key: pem("client.key") }

  effect("shows its own certificate and checks the server's", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      const nats = yield* connect({ servers, tls })
      assert.equal(nats.connection.info?.tls_required, true)
      const stranger = yield* Effect.flip(connect({ servers, tls: true }))
      assert.equal(stranger._tag, "Unavailable")
      assert.match(stranger.message, /certificate/i)
    }))

  effect("refuses to do without when the server asks for it", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.promise(server.url)
      const error = yield* Effect.flip(connect({ servers, tls: false }))
      assert.equal(error._tag, "InvalidNatsOptions")
      assert.match(error.message, /tls: is false, but 127.0.0.1:\d+ asks for it/)
    }))
})

describe("NatsOptions.resolve", () => {
  effect(
    "prefers options to the environment, and the environment to the defaults",
    () =>
      Effect.gen(function* () {
        const environment = { NATS_URL: "nats://a:1,nats://b:2", PORTFIRE_NAMESPACE: "env" }
        assert.deepEqual((yield* resolve({}, {})).servers, ["127.0.0.1:4222"])
        assert.equal((yield* resolve({}, {})).namespace, "portfire")
        assert.deepEqual((yield* resolve({}, environment)).servers, ["a:1", "b:2"])
        assert.equal((yield* resolve({}, environment)).namespace, "env")
        const both = { ...environment, PORTFIRE_NATS_URL: "c" }
        assert.deepEqual((yield* resolve({}, both)).servers, ["c"])
        const given = yield* resolve({ servers: ["d", "[::1]:4"], namespace: "opt" }, both)
        assert.deepEqual(given.servers, ["d", "[::1]:4"])
        assert.equal(given.namespace, "opt")
      }),
  )

  effect("reads every way to authenticate from the environment", () =>
    Effect.gen(function* () {
      const shown = (environment: Record<string, string>) =>
        Effect.map(resolve({}, environment), ({ authenticator }) => authenticator?.("nonce"))
      assert.equal(yield* shown({}), undefined)
      assert.deepEqual(yield* shown({ NATS_USER: "u", NATS_PASSWORD: "p" }), {
        user: "u",
        pass: "p",
      })
      assert.deepEqual(yield* shown({ PORTFIRE_NATS_TOKEN: "t" }), { auth_token: "t" })
      assert.deepEqual(yield* shown({ NATS_URL: "nats://u:p%40:x@h" }), { user: "u", pass: "p@:x" })

      const key = nkeys.createUser()
      const seed = new TextDecoder().decode(key.getSeed())
      const signed = yield* shown({ NATS_NKEY: seed })
      assert.equal(signed && "nkey" in signed && signed.nkey, key.getPublicKey())

      const path = join(yield* temporaryFolder, "user.creds")
      const creds = (jwt: string) =>
        `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n\n` +
        `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`
      writeFileSync(path, creds("one"))
      const { authenticator } = yield* resolve({}, { NATS_CREDS: path })
      const jwt = () => (authenticator?.("nonce") as { readonly jwt?: string }).jwt
      assert.equal(jwt(), "one")
      writeFileSync(path, creds("two"))
      assert.equal(jwt(), "two")
      writeFileSync(path, "half written")
      assert.equal(jwt(), "two")
    }))

  effect("reads certificates from files and from text", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const ca = join(folder, "ca.pem")
      writeFileSync(ca, "-----BEGIN CERTIFICATE-----")
      const tls = (options: Nats.NatsOptions, environment = {}) =>
        Effect.map(resolve(options, environment), (resolved) => resolved.tls)
      assert.equal(yield* tls({}), undefined)
      assert.deepEqual(yield* tls({ tls: true }), {})
      assert.equal(yield* tls({ tls: false }), null)
      assert.deepEqual(yield* tls({ servers: "tls://h" }), {})
      assert.deepEqual(yield* tls({ tls: { ca } }), { ca: "-----BEGIN CERTIFICATE-----" })
      assert.deepEqual(yield* tls({}, { NATS_TLS_CA: ca }), { ca: "-----BEGIN CERTIFICATE-----" })
      const pem = "-----BEGIN X"
      assert.deepEqual(
        yield* tls({ tls: { cert: pem, key: Redacted.make(pem), handshakeFirst: true } }),
        { cert: pem, key: pem, handshakeFirst: true },
      )
    }))

  effect(
    "refuses what can't be used, by the name of its field and without secrets",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        mkdirSync(join(folder, "s3cret"))
        const bad: ReadonlyArray<[string, object, Record<string, string>?]> = [
          ["server", { server: "a" }],
          ["servers", { servers: [] }],
          ["servers", { servers: "ws://a" }],
          ["servers", { servers: "a:0" }],
          ["servers", { servers: "a b" }],
          ["servers", { servers: 4222 }],
          ["NATS_URL", {}, { NATS_URL: "http://s3cret@a" }],
          ["namespace", { namespace: "" }],
          ["namespace", { namespace: "x".repeat(65) }],
          ["PORTFIRE_NAMESPACE", {}, { PORTFIRE_NAMESPACE: "a b" }],
          ["name", { name: "" }],
          ["waitOnFirstConnect", { waitOnFirstConnect: "yes" }],
          ["authentication", { authentication: {} }],
          ["authentication", { authentication: { token: "s3cret", nkeySeed: "s3cret" } }],
          ["authentication.pass", { authentication: { user: "a", pass: "s3cret" } }],
          ["authentication.password", { authentication: { user: "a" } }],
          ["authentication.user", { authentication: { token: "t", password: "s3cret" } }],
          ["authentication.nkeySeed", { authentication: { nkeySeed: "s3cret" } }],
          ["authentication.credentials", { authentication: { credentials: join(folder, "none") } }],
          ["authentication.credentials", { authentication: { credentials: "-----BEGIN s3cret" } }],
          ["NATS_USER", {}, { NATS_USER: "a" }],
          ["NATS_PASSWORD", {}, { NATS_PASSWORD: "s3cret" }],
          ["NATS_TOKEN, NATS_NKEY", {}, { NATS_TOKEN: "s3cret", NATS_NKEY: "s3cret" }],
          ["tls", { servers: "tls://a", tls: false }],
          ["tls.cert", { tls: { key: "s3cret" } }],
          ["tls.key", { tls: { cert: "a" } }],
          ["tls.ca", { tls: { ca: join(folder, "none") } }],
          ["tls.verify", { tls: { verify: false } }],
        ]
        for (const [field, options, environment] of bad) {
          const error = yield* Effect.flip(resolve(options, environment ?? {}))
          assert.equal(error._tag, "InvalidNatsOptions")
          assert.equal(error.field, field)
          assert.doesNotMatch(error.message, /s3cret/)
        }
      }),
  )
})
