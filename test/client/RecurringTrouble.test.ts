import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { type Client, Job, Recurring } from "../../mod.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as Entry from "../../src/core/Entry.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import type { Recurrence } from "../../src/core/Recurrence.ts"
import * as Api from "../../src/nats/Api.ts"
import { Rejected } from "../../src/nats/errors.ts"
import * as JobView from "../../src/nats/JobView.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import { TopologyConflict } from "../../src/nats/Topology.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { is, serve, type TestServer } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { entryOf, lastSequence, tick, viewOf, wake } from "./entries.ts"
import { type World, worldOf, worldTest } from "./world.ts"

const hour = 3_600_000
const Report = Job.make("report", { payload: Schema.String })
/** Half an hour ago there was a nominal time. */
const offset = (Date.now() - hour / 2) % hour
const hourly = { job: Report, payload: "x", schedule: { every: hour, offset } } as const

const mars: Recurrence = { _tag: "Cron", pattern: "* * * * *", zone: "Mars/Olympus" }
const soon: Recurrence = { _tag: "Cron", pattern: "soon", zone: "UTC" }

describe("a recurring entry that can't be seen to", () => {
  const server = testServer()
  const test = worldTest(server)

  test("is shown with its error, tried again after a pause, and disabled after five tries", () =>
    Effect.gen(function* () {
      for (const recurrence of [mars, soon]) {
        yield* Recurring.upsert("report", { ...hourly, queue: String(recurrence._tag) })
        for (let tries = 1; tries <= Entry.maxTries; tries++) {
          yield* wake("report", {}, { recurrence })
          yield* tick("report")
          const { error, next, state } = yield* Recurring.get("report")
          const isLast = tries === Entry.maxTries
          assert.deepEqual([state, error?.tries], [isLast ? "disabled" : "failing", tries])
          assert.match(error?.message ?? "", recurrence === mars ? /Mars\/Olympus/ : /soon/)
          assert.equal(next, undefined)
          const { current: { stored } } = yield* entryOf("report")
          const wait = (stored.due ?? 0) - stored.time
          if (isLast) assert.equal(stored.due, Date.UTC(2200, 0, 1))
          else assert(wait > 14_000 && wait < 15_500, `${wait}`)
        }
        // Runs by hand need no schedule.
        const id = yield* Recurring.trigger("report")
        assert.equal((yield* Report.get(id)).state, "enqueued")
        assert.equal((yield* Recurring.get("report")).state, "disabled")
        const resumed = yield* Recurring.resume("report")
        assert.deepEqual([resumed.state, resumed.error?.tries], ["failing", 0])
        const again = yield* Recurring.upsert("report", hourly)
        assert.deepEqual([again.change, again.entry.state, again.entry.error], [
          "changed",
          "active",
          undefined,
        ])
      }
    }))

  test("is enabled by the declaration that it had, and counts from now then", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      const trouble = { message: "full", at: 5, tries: Entry.maxTries }
      yield* wake("report", { cursor: Date.now() - 5 * hour, trouble })
      assert.equal((yield* Recurring.get("report")).state, "disabled")
      const { change, entry } = yield* Recurring.upsert("report", { ...hourly, misfire: "all" })
      assert.deepEqual([change, entry.state], ["changed", "active"])
      yield* wake("report")
      assert.deepEqual(yield* tick("report"), [])
    }))

  test("because of NATS is tried again, and makes its runs when that has changed", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", hourly)
      const small = (wire: Wire.Wire): Wire.Wire => {
        const info = wire.nats.server()
        return { ...wire, nats: { ...wire.nats, server: () => ({ ...info, maxPayload: 1_030 }) } }
      }
      const rejected = new Rejected({
        operation: "making a consumer",
        ...{ code: 10_026, status: 400, description: "maximum consumers limit reached" },
      })
      const full = (wire: Wire.Wire): Wire.Wire => ({
        ...wire,
        ensureQueue: () => Effect.fail(rejected),
      })
      const odd = (wire: Wire.Wire): Wire.Wire => ({
        ...wire,
        ensureQueue: () => Effect.die(new Error("never heard of it")),
      })
      const cursor = Date.now() - hour
      for (
        const [change, reason] of [
          [small, /a run takes \d+ bytes/],
          [full, /maximum consumers/],
          [odd, /never heard of it/],
        ] as const
      ) {
        yield* wake("report", { cursor })
        assert.deepEqual(yield* tick("report", change), [])
        const { error, runs, state } = yield* Recurring.get("report")
        assert.deepEqual([state, runs], ["failing", 0])
        assert.match(error?.message ?? "", reason)
      }
      yield* wake("report")
      assert.equal((yield* tick("report")).length, 1)
      const { error, state } = yield* Recurring.get("report")
      assert.deepEqual([state, error], ["active", undefined])
    }))

  test("but for consumers that somebody has changed makes its runs, which wait in their queue", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", hourly)
      const conflict = new TopologyConflict({ conflicts: [] })
      yield* wake("report", { cursor: Date.now() - hour })
      const [run] = yield* tick("report", (wire) => ({
        ...wire,
        ensureQueue: () => Effect.fail(conflict),
      }))
      assert.equal((yield* Report.get(run?.id ?? "")).state, "enqueued")
      assert.equal((yield* Recurring.get("report")).state, "active")
    }))

  test("keeps what was asked for, and is not tried without a pause for that", () =>
    Effect.gen(function* () {
      yield* Recurring.upsert("report", hourly)
      const odd = (wire: Wire.Wire): Wire.Wire => ({
        ...wire,
        ensureQueue: () => Effect.die(new Error("never heard of it")),
      })
      const [first] = yield* Effect.andThen(
        wake("report", { cursor: Date.now() - hour }),
        tick("report"),
      )
      assert(first !== undefined)
      const run = { id: first.id.slice(0, -2) + "Z0", at: Date.now(), byHand: true, ended: false }
      yield* wake("report", { asked: [run] })
      yield* tick("report", odd)
      const { current: { stored }, state } = yield* entryOf("report")
      assert.deepEqual(state.asked, [run])
      assert((stored.due ?? 0) - stored.time > 14_000)
      yield* wake("report")
      const told = yield* tick("report")
      assert.deepEqual(told.map(({ id }) => id), [run.id])
    }))
})

/** Stores bytes at an entry's address, where they wake a server, or wait for one. */
const put = Effect.fnUntraced(function* (
  id: string,
  state: "ready" | "await",
  change: (bytes: Uint8Array) => Uint8Array,
  due = Date.now() - 1_000,
) {
  const wire = yield* Wire.Wire
  const view = yield* entryOf(id)
  const bytes = change(EntryMessage.bytesIn(view, { ...view.state, revision: 50 }))
  const message = state === "ready"
    ? EntryMessage.looked(wire, view, bytes)
    : EntryMessage.waiting(wire, view, bytes, due)
  const sequence = yield* EntryMessage.write(wire, view.address, message, view.newest, 5_000)
  assert(sequence !== undefined)
  return bytes
})

const parts = (bytes: Uint8Array) => MessagePack.decode(bytes) as Array<unknown>

/** Makes an entry's message one of a newer format: all of it, its plan, or its state. */
const newer = {
  envelope: (bytes: Uint8Array) => MessagePack.encode([2, ...parts(bytes).slice(1), "more"]),
  plan: (bytes: Uint8Array) => {
    const all = parts(bytes)
    all[6] = MessagePack.encode([2, ...parts(all[6] as Uint8Array).slice(1)])
    return MessagePack.encode(all)
  },
  state: (bytes: Uint8Array) => {
    const all = parts(bytes)
    const progress = all[7] as Array<unknown>
    const more = progress[6] as Record<string, unknown>
    more["entry"] = MessagePack.encode([2, ...parts(more["entry"] as Uint8Array).slice(1)])
    return MessagePack.encode(all)
  },
}

const hostile: ReadonlyArray<Uint8Array> = [
  new Uint8Array(0),
  Uint8Array.of(0xc1),
  Uint8Array.of(0x98, 1),
  new TextEncoder().encode("not MessagePack at all"),
  new Uint8Array(10_000).fill(0x91),
  MessagePack.encode([1, "_recurring", "_recurring", 3, null, 0, new Uint8Array(3), null]),
  MessagePack.encode([
    1,
    ...["_recurring", "_recurring", 3, null, 0, new Uint8Array(3)],
    [0, 0, 0, 0, 0, [], { entry: new Uint8Array(2) }],
  ]),
]

const messagesOf = Effect.fnUntraced(function* (id: string) {
  return yield* JobView.messagesAt(yield* Wire.Wire, EntryMessage.addressOf(id))
})

describe("what a server can't read of a recurring entry", () => {
  const server = testServer()
  const Ping = Job.make("ping")

  /** A server, and a client beside it. */
  const both = (
    name: string,
    body: (
      start: Effect.Effect<TestServer, unknown>,
    ) => Effect.Effect<unknown, unknown, World>,
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        const scope = yield* Effect.scope
        const context = yield* Layer.build(worldOf(server, { namespace, alarmMillis: 600 }))
        const alarm = Layer.succeed(Wire.AlarmMillis, 600)
        const start = serve(
          server.layer(namespace).pipe(Layer.merge(alarm)),
          Ping.toLayer(() => Effect.void),
        )
        yield* Effect.provide(
          body(Effect.provideService(start, Scope.Scope, scope)),
          context,
        )
      }))

  both(
    "because it knows no such time zone is disabled in the end, beside others",
    (start) =>
      Effect.gen(function* () {
        yield* Recurring.upsert("broken", { job: Ping, schedule: "@hourly" })
        yield* Recurring.upsert("ping", { job: Ping, schedule: { every: "1 second" } })
        yield* wake("broken", {}, { recurrence: mars })
        const running = yield* start
        const { error, revision, state } = yield* eventually(
          Recurring.get("broken"),
          ({ error }) => error?.tries === Entry.maxTries,
        )
        assert.deepEqual([state, revision], ["disabled", 2 + Entry.maxTries])
        assert.match(error?.message ?? "", /Mars/)
        yield* running.until(is("AttemptStarted"), { count: 3 })
        const { history } = (yield* entryOf("ping")).state
        const first = history[0]?.at ?? 0
        assert.deepEqual(history.map(({ at }) => at), history.map((_, n) => first + n * 1_000))
        assert.equal((yield* Recurring.get("broken")).revision, revision)
      }),
  )

  for (const [what, change] of Object.entries(newer)) {
    both(
      `because its ${what} is newer is left alone, byte for byte, ever more rarely`,
      (start) =>
        Effect.gen(function* () {
          yield* Recurring.upsert("ping", { job: Ping, schedule: "@hourly" })
          const bytes = yield* put("ping", "await", change)
          const before = yield* lastSequence
          const running = yield* start
          // It fires, is put off for a second, fires, and is put off for two.
          yield* eventually(lastSequence, (sequence) => sequence >= before + 4)
          yield* eventually(messagesOf("ping"), (found) => {
            const due = found.find(({ due }) => due !== undefined)
            return due?.due !== undefined && due.due - due.time > 1_500
          })
          const found = yield* messagesOf("ping")
          assert.equal(found.length, 1)
          assert.deepEqual(Uint8Array.from(found[0]?.data ?? []), bytes)
          assert((yield* lastSequence) < before + 8)
          for (
            const attempt of [
              Recurring.get("ping"),
              Recurring.pause("ping"),
              Recurring.trigger("ping"),
              Recurring.remove("ping"),
              Recurring.upsert("ping", { job: Ping, schedule: "@daily" }),
            ] as ReadonlyArray<Effect.Effect<unknown, Error, Client.Client>>
          ) assert.match((yield* Effect.flip(attempt)).message, /newer version/)
          assert.deepEqual(Uint8Array.from((yield* messagesOf("ping"))[0]?.data ?? []), bytes)
          assert.deepEqual(running.events.filter(is("AttemptStarted")), [])
        }),
    )
  }

  both(
    "because its bytes are damaged harms nobody, and goes with a new declaration",
    (start) =>
      Effect.gen(function* () {
        const ids = hostile.map((_, index) => `ping ${index}`)
        for (const [index, id] of ids.entries()) {
          yield* Recurring.upsert(id, { job: Ping, schedule: "@hourly" })
          yield* put(id, index % 2 === 0 ? "ready" : "await", () => hostile[index] as Uint8Array)
        }
        const running = yield* start
        const soon = { at: [Date.now() + 500] }
        yield* Recurring.upsert("healthy", { job: Ping, schedule: soon })
        yield* running.until(is("AttemptStarted"))
        // Each lies still: as a record of what can't be read, or waiting for nothing.
        for (const id of ids) {
          yield* eventually(viewOf(id), ({ current: { subject } }) => subject.state !== "ready")
          assert.match((yield* Effect.flip(Recurring.get(id))).message, /damaged/)
        }
        const before = yield* lastSequence
        yield* Effect.sleep("300 millis")
        assert.equal(yield* lastSequence, before)
        for (const id of ids) {
          const at = Date.now() + 400
          yield* Recurring.upsert(id, { job: Ping, schedule: { at: [at] } })
        }
        yield* running.until(is("AttemptStarted"), { count: ids.length + 1 })
        for (const id of ids) assert.equal((yield* Recurring.get(id)).runs, 1)
      }),
  )

  both(
    "or write holds up no other, and is seen to when that is possible again",
    (start) =>
      Effect.gen(function* () {
        const { nats: { connection, namespace } } = yield* Wire.Wire
        const Large = Job.make("ping", { payload: Schema.String })
        const count = 20
        for (let n = 0; n < count; n++) {
          yield* Recurring.upsert(`large ${n}`, {
            ...{ job: Large, payload: "x".repeat(5_000), schedule: { every: hour, offset } },
          })
          yield* wake(`large ${n}`, { cursor: Date.now() - hour })
        }
        const stream = jobsStream(namespace, 0)
        const { config } = yield* Api.call<{ readonly config: object }>(
          ...[connection, `STREAM.INFO.${stream}`, undefined, "reading"] as const,
        )
        const limit = (max_msg_size: number) =>
          Api.call(connection, `STREAM.UPDATE.${stream}`, { ...config, max_msg_size }, "limiting")
        yield* limit(4_000)
        const running = yield* start
        const at = Date.now() + 500
        yield* Recurring.upsert("small", { job: Ping, schedule: { at: [at] } })
        yield* running.until(is("AttemptStarted"), { timeout: 4_000 })
        assert.equal((yield* Recurring.get("small")).runs, 1)
        yield* limit(-1)
        yield* running.until(is("AttemptStarted"), { count: count + 1 })
      }),
  )
})
