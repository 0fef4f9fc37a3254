import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import { type Client, Job, Operation, Recurring, Retry } from "../../mod.ts"
import type * as BatchState from "../../src/core/BatchState.ts"
import * as Entry from "../../src/core/Entry.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import type * as Waits from "../../src/core/Waits.ts"
import { rawHeaders } from "../../src/nats/Publisher.ts"
import {
  ended,
  heldIn,
  is,
  serve,
  Subjects,
  subjectsIn,
  type TestServer,
} from "../actors/harness.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { Random } from "../model/Random.ts"
import * as Hostile from "./hostile/Hostile.ts"

const setting = (name: string, otherwise: number): number =>
  Number(process.env[`PORTFIRE_FUZZ_${name}`] ?? otherwise)
const rounds = setting("ROUNDS", 1_500)
const seed = setting("SEED", Math.floor(Math.random() * 1e9))

const Honest = Job.make("honest", { payload: Schema.String, success: Schema.String })
const now = Date.now()

const plain = (bytes: Uint8Array): unknown => MessagePack.decode(bytes)

const waits: Waits.Waits = {
  staged: false,
  need: "all",
  on: ["succeeded"],
  delay: 0,
  parents: [{ id: "p1", outcome: { state: "succeeded", result: MessagePack.encode([1, 2]) } }, {
    id: "p2",
  }],
}

const progress = (more: Partial<Envelope.Progress>): Envelope.Progress => ({
  ...Envelope.untouched,
  attempts: 1,
  since: now,
  requeued: now,
  earlier: 1,
  history: [{
    number: 1,
    server: "s",
    started: now,
    ended: now,
    ending: "failed",
    message: "m",
    error: MessagePack.encode("e"),
  }],
  ...more,
})

const batch: BatchState.BatchState = {
  phase: "open",
  total: 2,
  generation: 1,
  heldUntil: now,
  holders: 1,
}

const job = (name: string, payload: unknown, more: Partial<Envelope.Progress> | null = null) => {
  const template = Envelope.template(name, name.startsWith("_") ? "_engine" : "default", 3, {
    deadline: 3_600_000,
    ttl: 3_600_000,
    timeout: 5_000,
    context: { tenant: "a" },
    nonce: "n",
    retry: { kind: "fixed", attempts: 2, delay: 0, jitter: 0 },
    recurring: ["e", now],
  })
  const bytes = MessagePack.encode(payload)
  return more === null
    ? Envelope.fresh(template, now, bytes)
    : Envelope.freshWith(template, now, bytes, progress(more))
}

const run = Envelope.decode(job("honest", "-1")) as Envelope.Envelope
const plan: Entry.Plan = {
  id: "entry",
  recurrence: { _tag: "Every", millis: 3_600_000, anchor: 0 },
  misfire: { policy: "once", tolerance: 5_000 },
  overlap: "allow",
  jitter: 0,
  job: run,
}
const entry = Envelope.freshWith(
  Envelope.template("_recurring", "_recurring", 3, {}),
  now,
  Entry.planToWire(plan),
  { ...Envelope.untouched, entry: Entry.stateToWire(Entry.fresh(now, now)) },
)

const fan = { job: job("nobody", null), queue: "elsewhere", lane: 3, batch: "b1", group: "_" }
const where = [{ _tag: "cancel" }, { states: ["enqueued"], queue: "elsewhere" }, [1e9], now]

/** Every kind of message that lies in a stream, or is told on a control subject. */
const ours: ReadonlyArray<unknown> = [
  job("honest", "-1"),
  job("honest", "-1", {}),
  job("honest", "-1", { place: { queue: "other", lane: 2 } }),
  job("honest", "-1", { claim: { hash: "abc", sequence: 7, until: "finished" } }),
  job("honest", "-1", { waits }),
  job("honest", "-1", { batch }),
  Envelope.final(run, progress({}), { ended: now, result: MessagePack.encode(1), reason: "r" }),
  entry,
  job("_finish", [0, "_", "p1"]),
  job("_revive", [0, "_", "p1"]),
  job("_where", where),
  job("_fan", fan, { waits }),
  job("_gather", { queue: "elsewhere", batch: "b1" }, { waits }),
  job("_join", { layout: [0, { a: 0 }] }, { waits }),
].map(plain)

const links: ReadonlyArray<unknown> = [[0, "_", "child"], ["id", "nonce", 1]]
const journals: ReadonlyArray<unknown> = [
  [now, "Info", "text", 1, { a: "b" }],
  [now, 0.5, 1, 2, "note", 1],
]
const settings: ReadonlyArray<unknown> = [
  { age: 1e12, count: 1e9, name: "x" },
  {
    id: "s",
    host: "h",
    pid: 1,
    runtime: "bun",
    started: now,
    pools: [{ queues: ["default"], slots: 1 }],
    jobs: ["a"],
  },
  { matched: 1, changed: 1, conflicts: 0 },
]
const controls: ReadonlyArray<unknown> = [
  ["client", ["id1", "id2"]],
  ["id1", "id2"],
  [0, [1e12, 2e12]],
  "id1",
  100,
]

interface Shot {
  readonly subject: string
  readonly data: Uint8Array
  readonly headers?: string
  readonly reply?: string
}

/** One message that is nobody's. */
const shot = (random: Random, prefix: string): Shot => {
  const token = () => Hostile.token(random)
  const lane = random.between(0, 4)
  const queue = random.pick(["default", "default", "_engine"])
  const group = random.chance(0.85) ? "_" : token()
  const more = random.chance(0.05) ? `.${token()}` : ""
  const jobSubject = (state: string, id: string) =>
    `${prefix}0.${state}.${queue}.${lane}.${group}.${id}${more}`
  // Most have an address of their own: what was there before would stand in their way.
  const id = random.chance(0.7) ? `h${random.between(0, 1e9)}` : token()
  const data = Hostile.message(random, ours)
  switch (random.between(0, 12)) {
    case 0: {
      const target = random.pick([
        jobSubject("ready", id),
        jobSubject("ready", token()),
        jobSubject("succeeded", id),
        `${prefix}0.ready.${token()}.${lane}._.${id}`,
      ])
      const due = random.pick(["@at 2020-01-01T00:00:00Z", "@at 2199-01-01T00:00:00Z"])
      const headers = `Nats-Schedule: ${due}\r\nNats-Schedule-Target: ${target}\r\n`
      return { subject: jobSubject(random.pick(["later", "retry", "await"]), id), data, headers }
    }
    case 1:
      return {
        subject: jobSubject(random.pick(["later", "retry", "await", token()]), id),
        data,
      }
    case 2:
      return {
        subject: `${prefix}0.${random.pick(["succeeded", "failed", "cancelled"])}.${queue}.` +
          `${random.pick(["_", token()])}.${group}.${id}${more}`,
        data,
      }
    case 3:
      return {
        subject: random.chance(0.5)
          ? `${prefix}0.link.-.-.-.${id}.${token()}`
          : `${prefix}0.claim.-.-.-.-.${id}`,
        data: Hostile.message(random, links),
      }
    case 4:
      return {
        subject: `${prefix}log.${id}${random.pick(["", ".progress", `.${token()}`])}`,
        data: Hostile.message(random, journals),
      }
    case 5:
      return {
        subject: `${prefix}state.${random.pick(["retention", "server", "where", token()])}.${id}`,
        data: Hostile.message(random, settings),
      }
    case 6:
    case 7: {
      const name = random.pick(["find", "describe", "void", "interest", "ended", token()])
      const reply = random.pick([
        "nobody.hears",
        `${prefix}0.ready.default.3._.reply${random.between(0, 1e6)}`,
        "$JS.API.STREAM.LIST",
      ])
      return { subject: `${prefix}ctl.${name}`, data: Hostile.message(random, controls), reply }
    }
    default: {
      const headers = random.chance(0.1)
        ? random.pick(["Nats-TTL: 1s\r\n", "Nats-Batch-Id: x\r\n", "Portfire: \xff\r\n"])
        : undefined
      return { subject: jobSubject("ready", id), data, ...(headers ? { headers } : {}) }
    }
  }
}

/** What a server's actors must not do for anything that comes from outside. */
const trouble = ({ events }: TestServer): ReadonlyArray<string> =>
  events.filter(is("Supervision")).filter(({ report }) => report._tag !== "ChildStarted")
    .map(({ report }) => `${report._tag} ${JSON.stringify(report)}`)

/** Whether something failed in a way that its type doesn't tell. */
const crash = (exit: Exit.Exit<unknown, unknown>): string | undefined =>
  Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? Cause.pretty(exit.cause) : undefined

describe(`hostile messages (seed ${seed})`, () => {
  const server = testServer()

  effect(
    "leave servers and clients as they are, and the jobs between them run once",
    () =>
      Effect.gen(function* () {
        const random = new Random(seed)
        // What is guessed must not be taken for a job of ours.
        const secret = crypto.randomUUID()
        const runs = new Map<string, number>()
        const handler = Honest.toLayer((n) => {
          if (n.startsWith(secret)) runs.set(n, (runs.get(n) ?? 0) + 1)
          return Effect.succeed(n)
        })
        const world = yield* serve(server.layer(), handler, { queues: { default: 20 } })
        const { client, nats: { connection, namespace } } = world
        const honest: Array<string> = []
        const fired: Array<Shot> = []
        const heap = process.memoryUsage().heapUsed
        for (let round = 0; round < rounds; round++) {
          const next = shot(random, `pf.${namespace}.`)
          fired.push(next)
          const { data, headers, reply, subject } = next
          connection.publish(subject, data, {
            ...(headers === undefined ? {} : { headers: rawHeaders(headers) }),
            ...(reply === undefined ? {} : { reply }),
          })
          if (round % 10 === 0) {
            honest.push(yield* world.provide(Honest.enqueue(`${secret}${honest.length}`)))
          }
        }
        yield* world.until(
          (event): event is Extract<typeof event, { _tag: "JobMoved" }> =>
            ended()(event) && honest.includes(event.id),
          { count: honest.length, timeout: 20_000 },
        )
        // The last one comes after all that was before it.
        yield* eventually(client.queues(), (queues) => queues.every((q) => q.enqueued <= 200))
        assert.deepEqual(trouble(world), [])
        assert.deepEqual([...runs].filter(([, times]) => times !== 1), [])
        assert.equal(runs.size, honest.length)
        for (const id of honest) assert.equal((yield* client.get(id)).state, "succeeded")
        yield* assertReadable(client, fired)
        for (const queue of ["default", "_engine"]) {
          yield* eventually(heldIn(world.nats, queue), (held) => held === 0)
        }
        // Nothing comes again and again.
        assert(world.events.length < 12 * rounds, `${world.events.length} events`)
        assert(process.memoryUsage().heapUsed - heap < 500 * 2 ** 20)
        assert.deepEqual(trouble(world), [])
      }),
    { timeout: 60_000 },
  )
})

/** Everything that reads what lies there gives it, or fails with an error of its type. */
const assertReadable = Effect.fnUntraced(function* (
  client: Client.Client,
  fired: ReadonlyArray<Shot>,
) {
  const ids = new Set(fired.map(({ subject }) => subject.split(".").at(-1) ?? ""))
  const crashes: Array<string> = []
  const reads: Array<readonly [string, Effect.Effect<unknown, unknown>]> = [
    ["counts", client.counts()],
    ["queues", client.queues()],
    ["servers", client.servers],
    ["recurring", client.recurring.list()],
  ]
  for (const state of ["enqueued", "scheduled", "retrying", "awaiting", "succeeded", "failed"]) {
    reads.push([state, client.list({ state } as never)])
  }
  for (const id of [...ids].slice(0, 150)) {
    reads.push(
      [`get ${id}`, client.get(id)],
      [`logs ${id}`, client.logs(id)],
      [`progress ${id}`, client.progress(id)],
      [`batch ${id}`, client.batches.get(id)],
    )
  }
  for (const [what, read] of reads) {
    const found = crash(yield* Effect.exit(Effect.timeoutOption(read, "5 seconds")))
    if (found !== undefined) crashes.push(`${what}: ${found}`)
  }
  assert.deepEqual(crashes, [])
})

const accepted = (exit: Exit.Exit<unknown, unknown>, what: string): boolean => {
  const found = crash(exit)
  assert.equal(found, undefined, `${what}: ${found}`)
  return Exit.isSuccess(exit)
}

describe("a control message", () => {
  const server = testServer()

  effect(
    "that nobody can read ends no connection, and its answer goes into no stream",
    () =>
      Effect.gen(function* () {
        const { client, nats } = yield* serve(server.layer(), Honest.toLayer(Effect.succeed))
        const { connection, namespace } = nats
        const control = (name: string) => `pf.${namespace}.ctl.${name}`
        let reconnects = 0
        const stop = nats.onReconnect(() => reconnects++)
        const noNumber = { toString: 1, valueOf: 1 }
        for (const content of [[0, [noNumber]], [noNumber, [1]], [0, [null, 1e300]], noNumber]) {
          for (const name of ["void", "find", "describe", "interest", "ended"]) {
            connection.publish(control(name), MessagePack.encode(content))
          }
        }
        const reply = `pf.${namespace}.0.ready.default.3._.answer`
        connection.publish(control("describe"), MessagePack.encode(5), { reply })
        // Answered after all of these, on the same connection.
        assert.equal((yield* client.servers)[0]?.runningCount, 0)
        yield* Effect.promise(() => connection.flush())
        assert.deepEqual(yield* subjectsIn(nats), [])
        assert.equal(reconnects, 0)
        stop()
      }),
  )
})

describe("a client that is given hostile texts", () => {
  const server = testServer()

  effect(
    "refuses them with a typed error, or stores them as they are",
    () =>
      Effect.gen(function* () {
        const Logs = Job.make("logs", {
          payload: Schema.String,
          success: Schema.String,
          logs: true,
          retry: Retry.none,
        })
        const handler = Logs.toLayer((text) =>
          Effect.gen(function* () {
            yield* Effect.log(text)
            yield* Job.progress({ fraction: 0.5, note: text })
            return yield* text.startsWith("y") ? Effect.succeed(text) : Effect.die(new Error(text))
          })
        ).pipe(Layer.provide(Logger.layer([])))
        const { client, nats, provide, record } = yield* serve(server.layer(), handler)
        const subjects = Subjects.make(nats.namespace)
        const isOurs = (subject: string) =>
          subjects.parse(subject) !== undefined || /\.claim(\.-){4}\.[0-9a-f]{32}$/.test(subject)
        for (const text of Hostile.texts.filter((text) => !/^[A-Za-z0-9][\w-]{0,63}$/.test(text))) {
          const what = JSON.stringify(text.slice(0, 80))
          const refused = (name: string, self: Effect.Effect<unknown, unknown>) =>
            Effect.map(Effect.exit(self), (exit) => {
              assert(!accepted(exit, `${name} ${what}`), `${name} took ${what}`)
            })
          const queue = text
          for (const options of [{ queue: text }, { id: text }, { priority: text }]) {
            yield* refused(
              Object.keys(options)[0] ?? "",
              provide(Logs.enqueue("x", options as never)),
            )
          }
          assert.throws(() => Job.make("legal", { queue }), { name: "InvalidOptions" })
          if (!/^[A-Za-z0-9][\w/-]*$/.test(text) || text.length > 64) {
            assert.throws(() => Job.make(text), { name: "InvalidOptions" })
          }
          assert.throws(() => Operation.move({ queue }), { name: "InvalidOptions" })
          yield* refused("get", client.get(text))
          yield* refused("logs", client.logs(text))
          yield* refused("operate", client.operate(text, Operation.cancel()))
          yield* refused("batch", client.batches.get(text))
          yield* refused("parent", provide(Logs.enqueueAfter([text], "x")))
          yield* refused("list", client.list({ queue, name: text } as never))
          yield* refused("where", client.operateWhere({ queue }, Operation.cancel()))
          const entry = { job: Logs, payload: text, schedule: { every: "1 hour" } } as const
          yield* refused(
            "time zone",
            provide(Recurring.upsert("e", {
              job: Logs,
              payload: "x",
              schedule: { cron: "* * * * *" },
              timeZone: text,
            } as never)),
          )
          const described = { ...entry, description: text }
          for (const id of [text, "legal"]) {
            const exit = yield* Effect.exit(provide(Recurring.upsert(id, described)))
            if (!accepted(exit, `entry ${what}`)) continue
            const found = yield* provide(Recurring.get(id))
            assert.deepEqual([found.id, found.payload, found.description], [id, text, text])
          }
          // What is no name may be anything.
          const id = yield* provide(Logs.enqueue(text, text === "" ? {} : { unique: { key: "k" } }))
          const done = yield* record(id)
          assert.equal(done.payload, text)
          assert.equal(text.startsWith("y") ? done.result : done.reason, reasonOf(text))
          const { lines } = yield* eventually(client.logs(id), ({ lines }) => lines.length > 0)
          assert.equal(lines[0]?.text, text.length > 2_000 ? `${text.slice(0, 1_999)}\u2026` : text)
          const late = yield* provide(Logs.schedule(text, { delay: "1 hour" }))
          yield* client.operate(late, Operation.cancel({ reason: text }))
          assert.equal((yield* client.get(late)).reason, text.slice(0, 500))
        }
        assert.deepEqual((yield* subjectsIn(nats)).filter((subject) => !isOurs(subject)), [])
      }),
  )
})

/** As an error's message: without one its name stands there. */
const reasonOf = (text: string): string => text === "" ? "Error" : text.slice(0, 5_000)
