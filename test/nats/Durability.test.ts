import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Server } from "../../mod.ts"
import * as Api from "../../src/nats/Api.ts"
import { assess, type Durability, type Facts, gapsOf, resolve } from "../../src/nats/Durability.ts"
import * as Nats from "../../src/nats/Nats.ts"
import { stateStream } from "../../src/nats/Subjects.ts"
import { judge } from "../../src/nats/StreamHealth.ts"
import * as Violations from "../../src/nats/Violations.ts"
import * as Wire from "../../src/nats/Wire.ts"
import {
  effect,
  eventually,
  freshNamespace,
  temporaryFolder,
  type TestServer,
  testServer,
} from "../harness.ts"
import { accounts, cluster, credentials, type Node } from "./cluster.ts"

/** What is found by who asks for that. */
const found = <E>(
  nats: Layer.Layer<Nats.Nats, E>,
  settings: Wire.StreamOptions = {},
): Effect.Effect<Durability, E | Wire.WireError> =>
  Effect.scoped(Effect.flatMap(
    Layer.build(Wire.layer.pipe(
      Layer.provide(Layer.succeed(Wire.StreamSettings, settings)),
      Layer.provide(nats),
    )),
    (context) => Context.get(context, Wire.Wire).durability,
  ))

const to = (server: TestServer, namespace = freshNamespace()) =>
  Layer.unwrap(Effect.map(
    Effect.promise(server.url),
    (servers) => Nats.layer({ servers, authentication: credentials, namespace }),
  ))

describe("durability of a server that syncs every two minutes", () => {
  const server = testServer({ config: `jetstream {}, ${accounts()}` })

  effect(
    "is below standard, and refused where standard is asked for",
    () =>
      Effect.gen(function* () {
        const durability = yield* found(to(server))
        assert.equal(durability.level, "belowStandard")
        assert.equal(durability.syncInterval, 120_000)
        assert.match(
          durability.summary,
          /^durability below standard: 1 copy on disk, synced every 120 s, nats-server 2\./,
        )
        const error = yield* Effect.flip(found(to(server), { durability: "standard" }))
        assert.ok(error._tag === "DurabilityNotMet")
        assert.deepEqual(error.gaps.map(({ code, known }) => [code, known]), [["sync", true]])
        assert.match(
          error.message,
          /doesn't give it:\n.* syncs every 120 s; set sync_interval: "1s"/,
        )
      }),
  )

  effect("is what the server tells, whatever is stated", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        found(to(server), { durability: "standard", syncInterval: "always" }),
      )
      assert.equal(error._tag, "DurabilityNotMet")
      assert.equal((yield* found(to(server), { syncInterval: "always" })).syncInterval, 120_000)
    }))

  effect(
    "is counted in copies that are there, not in the number that is configured",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const { connection } = Context.get(yield* Layer.build(to(server, namespace)), Nats.Nats)
        yield* found(to(server, namespace))
        const name = stateStream(namespace)
        const info = (verb: string, body?: unknown) =>
          Api.call<{ readonly config: Readonly<Record<string, unknown>> }>(
            connection,
            `STREAM.${verb}.${name}`,
            body,
            "changing a stream",
          )
        const { config } = yield* info("INFO")
        assert.equal((yield* info("UPDATE", { ...config, num_replicas: 3 })).config.num_replicas, 3)
        assert.equal((yield* found(to(server, namespace))).copies, 1)
      }),
  )
})

describe("durability of a server that tells nothing", () => {
  const server = testServer({ config: `jetstream {}, ${accounts(false)}` })

  effect("is unknown, and doesn't count as good", () =>
    Effect.gen(function* () {
      const durability = yield* found(to(server))
      assert.equal(durability.level, "unknown")
      assert.equal(durability.syncInterval, "unknown")
      const error = yield* Effect.flip(found(to(server), { durability: "standard" }))
      assert.ok(error._tag === "DurabilityNotMet")
      assert.deepEqual(error.gaps.map(({ code, known }) => [code, known]), [["sync", false]])
      assert.match(error.message, /doesn't tell whether it gives it:\n.*syncInterval/)
    }))

  effect("is unknown to a user who may not ask, who asks once", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      yield* found(to(server, namespace))
      const servers = yield* Effect.promise(server.url)
      const authentication = { user: "narrow", password: "narrow" }
      const nats = yield* Layer.build(Nats.layer({ servers, authentication, namespace }))
      const violations: Array<string> = []
      const { connection } = Context.get(nats, Nats.Nats)
      Violations.listen(connection, ({ subject }) => violations.push(subject))
      const look = found(Layer.succeedContext(nats))
      assert.equal((yield* look).level, "unknown")
      assert.equal((yield* look).level, "unknown")
      assert.deepEqual(violations, ["$SYS.REQ.SERVER.PING.JSZ"])
    }))

  effect("is what an operator states, and recorded as stated", () =>
    Effect.gen(function* () {
      const stated = { durability: "standard", syncInterval: "1 second" } as const
      const durability = yield* found(to(server), stated)
      assert.deepEqual([durability.level, durability.stated], ["standard", true])
      assert.match(durability.summary, /^durability standard \(stated, not verified\): /)
      const tooSlow = yield* Effect.flip(found(to(server), { ...stated, syncInterval: 1_001 }))
      assert.equal(tooSlow._tag, "DurabilityNotMet")
    }))

  effect(
    "makes streams in memory for tests, and never turns one kind into the other",
    () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const durability = yield* found(to(server, namespace), { durability: "memory" })
        assert.deepEqual([durability.level, durability.storage], ["memory", "memory"])
        const error = yield* Effect.flip(
          found(to(server, namespace), { durability: "standard", syncInterval: "always" }),
        )
        assert.equal(error._tag, "TopologyConflict")
      }),
  )

  effect("refuses options that contradict each other by name", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [string, Wire.StreamOptions]> = [
        ["storage", { durability: "standard", storage: "memory" }],
        ["storage", { durability: "memory", storage: "file" }],
        ["replicas", { durability: "powerSafe", replicas: 2 }],
        ["durability", { durability: "always" as "memory" }],
        ["syncInterval", { syncInterval: -1 }],
        ["failureDomains", { failureDomains: "shared" as "separate" }],
      ]
      for (const [field, settings] of cases) {
        const error = yield* Effect.flip(found(to(server), settings))
        assert.ok(error._tag === "InvalidOptions")
        assert.equal(error.field, field)
      }
    }))
})

describe("durability of one server that syncs every write", () => {
  const server = testServer({ config: `jetstream { sync_interval: always }, ${accounts()}` })

  effect("is standard and no more, since it has one disk", () =>
    Effect.gen(function* () {
      const durability = yield* found(to(server), { durability: "standard" })
      assert.deepEqual([durability.level, durability.stated], ["standard", false])
      assert.equal(durability.syncInterval, "always")
      const error = yield* Effect.flip(found(to(server), { durability: "powerSafe" }))
      assert.ok(error._tag === "DurabilityNotMet")
      assert.deepEqual(error.gaps.map(({ code }) => code), ["copies"])
      // On streams that are there it accepts three copies, and keeps one.
      const namespace = freshNamespace()
      yield* found(to(server, namespace))
      const again = yield* Effect.flip(found(to(server, namespace), { durability: "powerSafe" }))
      assert.ok(again._tag === "DurabilityNotMet")
      assert.deepEqual([again.found?.copies, again.gaps.map(({ code }) => code)], [1, ["copies"]])
    }))
})

describe("durability of an embedded server", () => {
  effect("is standard by its own configuration", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryFolder
      const durability = yield* found(Nats.layerEmbedded({ dataDir }), { durability: "standard" })
      assert.deepEqual([durability.level, durability.stated], ["standard", false])
      assert.equal(durability.syncInterval, 1_000)
    }))
})

describe("durability of a cluster", () => {
  const node = (zone: string, sync = "always"): Node => ({ zone, sync })
  /** A cluster that was just formed may refuse streams for a moment. */
  const patiently = { schedule: Schedule.spaced("100 millis"), times: 50 }

  effect(
    "is power safe where each server syncs every write, in a zone of its own",
    () =>
      Effect.gen(function* () {
        const options = yield* cluster([node("a"), node("b"), node("c")])
        const nats = Nats.layer(options(freshNamespace()))
        const settings = { durability: "powerSafe" } as const
        const durability = yield* Effect.retry(found(nats, settings), patiently)
        assert.deepEqual([durability.level, durability.stated], ["powerSafe", false])
        assert.deepEqual([durability.copies, durability.failureDomains], [3, "separate"])
        assert.deepEqual(durability.servers.map(({ failureDomain }) => failureDomain), [
          "zone:a",
          "zone:b",
          "zone:c",
        ])
        const context = yield* Layer.build(
          Server.layer({ queues: { default: 1 } }).pipe(
            Layer.provide(nats),
            Layer.provide(Layer.succeed(Wire.StreamSettings, settings)),
          ),
        )
        const { health } = Context.get(context, Server.Server)
        assert.equal(
          (yield* eventually(health, ({ ready }) => ready)).durability.level,
          "powerSafe",
        )
      }),
    { timeout: 60_000 },
  )
})

describe("the level that facts amount to", () => {
  const facts = (
    servers: ReadonlyArray<
      readonly [sync: "always" | number | undefined, domain?: string | undefined]
    >,
  ): Facts => ({
    streams: [{ name: "S", storage: "file", servers: servers.map((_, index) => `n${index}`) }],
    servers: new Map(servers.map(([syncInterval, failureDomain], index) => [
      `n${index}`,
      { name: `n${index}`, syncInterval, failureDomain },
    ])),
  })
  const three = (sync?: "always" | number, domains: ReadonlyArray<string | undefined> = []) =>
    facts([0, 1, 2].map((index) => [sync, domains[index]] as const))

  it("takes the slowest sync and the closest two copies, and trusts nothing untold", () => {
    const cases: ReadonlyArray<readonly [Facts, Parameters<typeof resolve>[0], string, string[]]> =
      [
        [three("always", ["a", "b", "c"]), {}, "powerSafe", []],
        [three("always", ["a", "b", "a"]), {}, "standard", ["failureDomains"]],
        [three("always", ["a", "b"]), {}, "standard", ["failureDomains"]],
        [three("always", ["a", "b"]), { failureDomains: "separate" }, "powerSafe", []],
        [three("always", ["a", "a"]), { failureDomains: "separate" }, "standard", [
          "failureDomains",
        ]],
        [three(undefined, ["a", "b", "c"]), {}, "standard", ["sync", "sync", "sync"]],
        [three(undefined, ["a", "b", "c"]), { syncInterval: "always" }, "powerSafe", []],
        [facts([["always", "a"], [1, "b"], ["always", "c"]]), {}, "standard", ["sync"]],
        [facts([["always"]]), {}, "standard", ["copies"]],
        [facts([[1_000]]), {}, "standard", ["copies", "sync"]],
        [facts([[1_001]]), {}, "belowStandard", ["copies", "sync"]],
      ]
    for (const [given, options, level, gaps] of cases) {
      const asked = resolve({ ...options, durability: "powerSafe" })
      assert.ok(!("_tag" in asked))
      const durability = assess(given, asked)
      assert.equal(durability.level, level, durability.summary)
      assert.deepEqual(gapsOf(durability, asked).map(({ code }) => code), gaps)
    }
  })
})

describe("a stream with copies", () => {
  const copy = (seconds: number, more: { current?: boolean; offline?: boolean } = {}) => ({
    name: `n${seconds}`,
    current: true,
    active: seconds * 1e9,
    ...more,
  })
  const stateOf = (cluster?: Parameters<typeof judge>[1]["cluster"]) =>
    judge("S", { config: { name: "S", storage: "file" }, ...(cluster && { cluster }) }).state

  it("has lost its majority before its leader says so", () => {
    assert.equal(stateOf(), "good")
    assert.equal(stateOf({ leader: "n0", replicas: [copy(1), copy(2)] }), "good")
    assert.equal(stateOf({ leader: "n0", replicas: [copy(1), copy(6)] }), "degraded")
    assert.equal(
      stateOf({ leader: "n0", replicas: [copy(1), copy(2, { offline: true })] }),
      "degraded",
    )
    assert.equal(stateOf({ leader: "n0", replicas: [copy(7), copy(6)] }), "withoutQuorum")
    assert.equal(
      stateOf({ leader: "n0", replicas: [copy(1, { current: false }), copy(6)] }),
      "withoutQuorum",
    )
    assert.equal(stateOf({ replicas: [copy(1), copy(1), copy(1)] }), "withoutQuorum")
  })
})
