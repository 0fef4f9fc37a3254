import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import * as Nats from "../../src/nats/Nats.ts"
import { effect, temporaryFolder, testServer } from "../harness.ts"

describe("Nats.layer", () => {
  const server = testServer()

  effect("connects and describes the server", () =>
    Effect.gen(function* () {
      const nats = yield* Nats.Nats
      assert.equal(nats.namespace, "a")
      assert.match(nats.server().version, /^2\.\d+/)
      assert.equal(nats.server().maxPayload, 1024 * 1024)
    }).pipe(Effect.provide(server.layer("a"))))

  effect("calls back after a reconnect to a killed server", () =>
    Effect.gen(function* () {
      const nats = yield* Nats.Nats
      const before = nats.server().id
      const back = Effect.callback<void>((resume) => {
        nats.onReconnect(() => resume(Effect.void))
      })
      yield* Effect.all([back, server.restartServer], { concurrency: 2 })
      assert.notEqual(nats.server().id, before)
    }).pipe(Effect.provide(server.layer())))
})

describe("Nats.layerEmbedded", () => {
  effect("starts a server and connects", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryFolder
      const context = yield* Layer.build(Nats.layerEmbedded({ dataDir }))
      const nats = yield* Effect.provide(Nats.Nats, context)
      assert.match(nats.server().version, /^2\.\d+/)
    }))
})
