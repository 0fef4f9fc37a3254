import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { cpSync, rmSync } from "node:fs"
import { describe } from "node:test"
import * as Auditor from "../../actors/Auditor.ts"
import { Client, Job, Operation } from "../../mod.ts"
import { layerOnWire } from "../../src/client/Client.ts"
import * as Api from "../../src/nats/Api.ts"
import * as Audit from "../../src/nats/Audit.ts"
import { layer as wireLayer, Wire } from "../../src/nats/Wire.ts"
import { effect, testServer } from "../harness.ts"
import { is, watch } from "./harness.ts"

const Work = Job.make("work")

describe("The auditor", () => {
  const server = testServer()
  /** A client and its wire on a namespace of their own. */
  const client = () =>
    layerOnWire.pipe(Layer.provideMerge(wireLayer), Layer.provideMerge(server.layer()))

  const api = (verb: string, body?: unknown) =>
    Effect.flatMap(Wire, ({ nats, subjects: { namespace } }) =>
      Api.call<Record<string, unknown>>(
        nats.connection,
        `${verb}.PF_${namespace}_JOBS_0`,
        body,
        verb,
      ))

  effect(
    "finds nothing where jobs wait, run, end, are moved and are cancelled",
    () =>
      Effect.gen(function* () {
        const look = Audit.make(yield* Wire)
        const client = yield* Client.Client
        assert.deepEqual(yield* look, [])
        for (let round = 0; round < 4; round++) {
          const ids = yield* Work.enqueueMany([undefined, undefined, undefined, undefined])
          yield* client.operate(ids[0] ?? "", Operation.cancel())
          yield* client.operate(ids[1] ?? "", Operation.move({ queue: "other" }))
          yield* Work.schedule(undefined, { delay: "1 hour" })
          assert.deepEqual(yield* look, [])
        }
      }).pipe(Effect.provide(client())),
  )

  effect("tells that jobs were purged that NATS had acknowledged", () =>
    Effect.gen(function* () {
      const look = Audit.make(yield* Wire)
      assert.deepEqual(yield* look, [])
      yield* Work.enqueueMany([undefined, undefined, undefined, undefined])
      yield* api("STREAM.PURGE", { filter: "pf.*.0.ready.>" })
      const [finding, ...others] = yield* look
      assert.deepEqual([finding?.code, others], ["jobsMissing", []])
      assert.match(finding?.message ?? "", /of the last 4 jobs .* 4 are neither waiting nor/)
      assert.deepEqual(yield* look, [], "it is told once")
    }).pipe(Effect.provide(client())))

  effect("takes one job that isn't there for one that was removed", () =>
    Effect.gen(function* () {
      const look = Audit.make(yield* Wire)
      const client = yield* Client.Client
      const ids = yield* Work.enqueueMany([undefined, undefined, undefined])
      yield* client.operate(ids[0] ?? "", Operation.cancel())
      yield* client.operate(ids[0] ?? "", Operation.remove())
      assert.deepEqual(yield* look, [])
    }).pipe(Effect.provide(client())))

  effect("tells that a stream was made anew", () =>
    Effect.gen(function* () {
      const look = Audit.make(yield* Wire)
      yield* Work.enqueueMany([undefined, undefined])
      assert.deepEqual(yield* look, [])
      const { config } = yield* api("STREAM.INFO")
      yield* api("STREAM.DELETE")
      assert.deepEqual(yield* look, [], "that it is gone is a matter of health")
      yield* api("STREAM.CREATE", config)
      const [finding] = yield* look
      assert.equal(finding?.code, "streamRecreated")
      assert.deepEqual(yield* look, [])
    }).pipe(Effect.provide(client())))

  effect(
    "tells that a stream has lost its end, as an event and for the health of its server",
    () =>
      Effect.gen(function* () {
        const wire = yield* Wire
        yield* Work.enqueue()
        yield* server.killServer
        const copy = `${server.folder()}-copy`
        cpSync(server.folder(), copy, { recursive: true })
        yield* server.restartServer
        yield* Work.enqueueMany([undefined, undefined, undefined])
        // What a power failure takes that comes before a sync.
        yield* server.killServer
        rmSync(server.folder(), { recursive: true })
        cpSync(copy, server.folder(), { recursive: true })
        yield* server.restartServer
        const findings = new Auditor.Findings()
        const log = watch()
        const options = { wire, findings, emit: log.onEvent, interval: 50 }
        yield* Effect.forkScoped(yield* Auditor.start(options))
        const [event] = yield* log.until(is("AuditFailed"))
        assert.equal(event?.finding.code, "streamRolledBack")
        assert.match(event?.finding.message ?? "", /though it had acknowledged \d+: 3 messages/)
        assert.deepEqual(findings.lately, [event?.finding])
      }).pipe(Effect.provide(client())),
    { timeout: 40_000 },
  )
})
