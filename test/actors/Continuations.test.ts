import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Client, Job, Middleware, Retry } from "../../mod.ts"
import * as Operation from "../../src/client/Operation.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Moves from "../../src/client/Moves.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { worldOf } from "../client/world.ts"
import {
  ended,
  Envelope,
  gate,
  is,
  publishRaw,
  serve,
  Subjects,
  subjectsIn,
  type TestServer,
} from "./harness.ts"

const once = Retry.fixed({ attempts: 1, delay: 0 })
const texts = { payload: Schema.String, success: Schema.String, error: Schema.String, retry: once }

/** Gives its text, or fails with it where that begins with "no". */
const Say = Job.make("say", texts)
const SayLive = Say.toLayer((text) =>
  text.startsWith("no") ? Effect.fail(text) : Effect.succeed(text)
)

/** Succeeds when it is tried a second time. */
const Flaky = Job.make("flaky", { ...texts, retry: Retry.fixed({ attempts: 2, delay: 300 }) })
const FlakyLive = Flaky.toLayer((text) =>
  Effect.flatMap(
    Job.current,
    ({ attempt }) => attempt === 1 ? Effect.fail("not yet") : Effect.succeed(text),
  )
)

/** Succeeds when it is requeued a second time. */
const Turning = Job.make("turning", texts)
const TurningLive = Turning.toLayer((text) =>
  Effect.flatMap(
    Job.current,
    ({ attempt }) => attempt < 3 ? Effect.fail("not yet") : Effect.succeed(text),
  )
)

/** Follows: says what it is given, what its parents have said, and how they ended. */
const Then = Job.make("then", texts)
const ThenLive = Then.toLayer((text) =>
  Effect.gen(function* () {
    const { parents } = yield* Job.current
    const given = yield* Say.parentResults
    return [text, ...given, ...parents.map(({ outcome }) => outcome?.state ?? "open")].join(" ")
  })
)

const Join = Job.make("join", {
  payload: Schema.Array(Schema.String),
  success: Schema.String,
  retry: once,
})
const JoinLive = Join.toLayer((texts) => Effect.succeed(texts.join(" ")))

const gates = new Map<string, Effect.Effect<void>>()

/** Waits for the gate that is named. */
const Wait = Job.make("wait", texts)
const WaitLive = Wait.toLayer((name) => Effect.as(gates.get(name) ?? Effect.never, name))

/** A gate that {@link Wait} knows by a name. */
const gateNamed = (name: string) => {
  const made = gate()
  gates.set(name, made.wait)
  return made.open
}

const handlers = Layer.mergeAll(SayLive, ThenLive, JoinLive, WaitLive, FlakyLive, TurningLive)

const within = { within: "20 seconds" } as const
const scheduled = (text: string) => Say.schedule(text, { delay: "1 hour" })

/** Ends a scheduled job. */
const endAs = Effect.fnUntraced(function* (id: JobId.JobId, how: "run" | "cancel") {
  const client = yield* Client.Client
  const answer = yield* client.operate(
    id,
    how === "run" ? Operation.runNow() : Operation.cancel(),
  )
  assert.equal(answer._tag, "changed")
})

const record = (id: JobId.JobId) =>
  Effect.flatMap(Client.Client, (client) => client.awaitRecord(id, within))

/** How often attempts of a job began. */
const runs = ({ events }: TestServer, id: JobId.JobId): number =>
  events.filter(is("AttemptStarted", id)).length

describe("a continuation", () => {
  const server = testServer()

  /** A test with a server of its own namespace, whose client is provided. */
  const test = (
    name: string,
    body: (world: TestServer) => Effect.Effect<unknown, unknown, Client.Client>,
    options: { readonly namespace?: () => Effect.Effect<string, unknown> } = {},
  ) =>
    effect(name, () =>
      Effect.gen(function* () {
        const namespace = yield* options.namespace?.() ?? Effect.sync(freshNamespace)
        const world = yield* serve(server.layer(namespace), handlers)
        yield* world.provide(body(world))
        // Links go when they have served; the last thing that is done for a parent.
        yield* eventually(subjectsIn(world.nats, "link.>"), (links) => links.length === 0)
        assert.deepEqual(world.events.filter(is("OutcomeLost")), [])
      }))

  test("runs after the job that it follows, and takes its result", (world) =>
    Effect.gen(function* () {
      const parent = yield* Say.schedule("hello", { delay: "300 millis" })
      const id = yield* Then.enqueueAfter(parent, Job.parentResult)
      assert.equal(yield* Then.await(id, within), "hello hello succeeded")
      const again = yield* Then.enqueueAfter(parent, Job.parentResult)
      assert.equal(yield* Then.await(again, within), "hello hello succeeded")
      const { parents, payload, state } = yield* Then.get(id)
      assert.deepEqual([state, payload], ["succeeded", "hello"])
      assert.deepEqual(parents, [{ id: parent, state: "succeeded" }])
      assert.equal(runs(world, id), 1)
    }))

  test("takes the results of several in the order in which they were named", () =>
    Effect.gen(function* () {
      const parents = [yield* scheduled("a"), yield* Say.enqueue("b"), yield* scheduled("c")]
      const join = yield* Join.enqueueAfter(parents, Job.parentResults)
      const then = yield* Then.enqueueAfter(parents, "own")
      yield* endAs(parents[2] as JobId.JobId, "run")
      yield* record(parents[2] as JobId.JobId)
      assert.equal((yield* Join.get(join)).state, "awaiting")
      yield* endAs(parents[0] as JobId.JobId, "run")
      assert.equal(yield* Join.await(join, within), "a b c")
      const ends = "succeeded succeeded succeeded"
      assert.equal(yield* Then.await(then, within), `own a b c ${ends}`)
    }))

  test("follows each ending that it asks for, and is cancelled by every other", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const states = ["succeeded", "failed", "cancelled"] as const
      const wishes = [...states, "any", ["failed", "cancelled"]] as const
      const seen: Array<string> = []
      for (const state of states) {
        const parent = yield* scheduled(state === "failed" ? "no" : "yes")
        const before = yield* Effect.forEach(wishes, (on) => Then.enqueueAfter(parent, "", { on }))
        yield* endAs(parent, state === "cancelled" ? "cancel" : "run")
        assert.equal((yield* record(parent)).state, state)
        const after = yield* Effect.forEach(wishes, (on) => Then.enqueueAfter(parent, "", { on }))
        for (const [index, on] of [...wishes, ...wishes].entries()) {
          const { reason, state: end } = yield* record([...before, ...after][index] as JobId.JobId)
          const wanted = on === "any" || [on].flat().includes(state)
          assert.equal(end, wanted ? "succeeded" : "cancelled", `${on} after ${state}`)
          if (!wanted) assert.match(reason ?? "", new RegExp(`${parent}.* ended as ${state}`))
          seen.push(end)
        }
      }
      const { total: counts } = yield* client.counts()
      const good = seen.filter((end) => end === "succeeded").length + 1
      assert.deepEqual([counts.succeeded, counts.awaiting, counts.enqueued], [good, 0, 0])
    }))

  test("that needs any of its parents runs once, whatever becomes of the others", (world) =>
    Effect.gen(function* () {
      const [first, bad] = [yield* scheduled("a"), yield* scheduled("no")]
      const last = yield* scheduled("c")
      const parents = [first, bad, last]
      const open = gateNamed("any")
      const id = yield* Wait.enqueueAfter(parents, "any", { need: "any" })
      yield* endAs(bad, "run")
      yield* record(bad)
      assert.equal((yield* Wait.get(id)).state, "awaiting")
      yield* endAs(last, "run")
      yield* world.until(is("AttemptStarted", id))
      // While it runs, and once it has run.
      yield* endAs(first, "run")
      yield* record(first)
      open()
      assert.equal((yield* record(id)).state, "succeeded")
      const never = yield* Then.enqueueAfter([bad, bad], "", { need: "any" })
      assert.equal((yield* record(never)).state, "cancelled")
      assert.equal(runs(world, id), 1)
    }))

  test("with a delay waits for it from its release on", () =>
    Effect.gen(function* () {
      const parent = yield* scheduled("a")
      const id = yield* Then.enqueueAfter(parent, "late", { delay: "700 millis" })
      yield* endAs(parent, "run")
      const { ended } = yield* record(parent)
      yield* eventually(Then.get(id), ({ state }) => state !== "awaiting")
      assert.equal((yield* Then.get(id)).state, "scheduled")
      const { attempts: [attempt], state } = yield* record(id)
      assert.equal(state, "succeeded")
      const waited = (attempt?.started.getTime() ?? 0) - (ended?.getTime() ?? 0)
      assert(waited >= 690, `${waited} ms`)
    }))

  test("that can't come true takes all with it that follow it, however many", () =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const first = yield* scheduled("no")
      const chain = [first]
      for (let i = 0; i < 50; i++) chain.push(yield* Then.enqueueAfter(chain[i] as JobId.JobId, ""))
      const last = yield* Then.enqueueAfter(chain[50] as JobId.JobId, "told", { on: "cancelled" })
      yield* endAs(first, "run")
      assert.equal(yield* Then.await(last, within), "told cancelled")
      for (let i = 1; i <= 50; i++) {
        const { reason, state } = yield* client.get(chain[i] as JobId.JobId)
        assert.equal(state, "cancelled")
        assert.match(reason ?? "", new RegExp(`job ${chain[i - 1]}`))
      }
    }))

  test("fails with the reason when results are too large to be passed on", () =>
    Effect.gen(function* () {
      const text = "x".repeat(300_000)
      const parents = [yield* Say.enqueue(text), yield* Say.enqueue(text)]
      const one = yield* Join.enqueueAfter(parents.slice(1), Job.parentResults)
      assert.equal((yield* Join.await(one, within)).length, text.length)
      const both = yield* Join.enqueueAfter(parents, Job.parentResults)
      const { reason, state } = yield* record(both)
      assert.equal(state, "failed")
      assert.match(reason ?? "", /too large to pass on/)
      // Without them it runs, and is told how they ended.
      const told = yield* Then.enqueueAfter(parents, "")
      assert.match(yield* Then.await(told, within), / succeeded succeeded$/)
    }))

  test("waits for a parent that is tried again, and follows one whose id was chosen", (world) =>
    Effect.gen(function* () {
      const parent = yield* Flaky.enqueue("second time", { id: "order-17" })
      assert.equal(parent, "order-17")
      const id = yield* Then.enqueueAfter("order-17", "after")
      const flaky = yield* record(parent)
      assert.deepEqual([flaky.state, flaky.attemptCount], ["succeeded", 2])
      assert.equal((yield* record(id)).state, "succeeded")
      const order = world.events.filter(is("AttemptStarted")).map(({ id }) => id)
      assert.deepEqual(order, [parent, parent, id])
    }))

  test("hears of a parent that is cancelled while it runs", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const parent = yield* Wait.enqueue("for ever")
      const id = yield* Then.enqueueAfter(parent, "told", { on: "cancelled" })
      const other = yield* Then.enqueueAfter(parent, "", { on: ["succeeded", "failed"] })
      yield* world.until(is("AttemptStarted", parent))
      yield* client.operate(parent, Operation.cancel())
      assert.equal(yield* Then.await(id, within), "told cancelled")
      assert.equal((yield* record(other)).state, "cancelled")
    }))

  test("is cancelled for good by a request, whatever its parents do later", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const parent = yield* scheduled("a")
      const id = yield* Then.enqueueAfter(parent, "")
      const next = yield* Then.enqueueAfter(id, "", { on: "any" })
      yield* client.operate(id, Operation.cancel({ reason: "changed my mind" }))
      assert.equal((yield* record(next)).state, "succeeded")
      yield* endAs(parent, "run")
      yield* record(parent)
      const { reason, state } = yield* client.get(id)
      assert.deepEqual([state, reason, runs(world, id)], ["cancelled", "changed my mind", 0])
    }))

  test("that is requeued doesn't wait any more, and isn't released once more", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const open = gateNamed("requeued")
      const parent = yield* scheduled("a")
      const id = yield* Wait.enqueueAfter(parent, "requeued")
      yield* client.operate(id, Operation.cancel())
      yield* client.operate(id, Operation.requeue())
      yield* world.until(is("AttemptStarted", id))
      yield* endAs(parent, "run")
      yield* record(parent)
      yield* eventually(subjectsIn(world.nats, "link.>"), (links) => links.length === 0)
      open()
      assert.equal((yield* record(id)).state, "succeeded")
      assert.equal(runs(world, id), 1)
    }))

  test("stays cancelled when its parent is requeued, unless that revives it", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const [parent, other] = [yield* Turning.enqueue("a"), yield* scheduled("b")]
      const id = yield* Then.enqueueAfter([parent, other], "child")
      const next = yield* Then.enqueueAfter(id, "grandchild")
      const failed = yield* Then.enqueueAfter(parent, "had its turn", { on: "failed" })
      assert.equal((yield* record(next)).state, "cancelled")
      assert.equal((yield* record(failed)).state, "succeeded")
      // The other one ends while the child is cancelled: nobody strikes it off then.
      yield* endAs(other, "run")
      yield* record(other)

      yield* client.operate(parent, Operation.requeue())
      yield* world.until(ended(parent), { count: 2 })
      assert.equal((yield* client.get(next)).state, "cancelled")
      assert.equal((yield* client.get(parent)).state, "failed")

      yield* client.operate(parent, Operation.requeue({ revive: true }))
      yield* world.until(ended(parent), { count: 3 })
      yield* world.until(ended(next))
      assert.equal((yield* client.get(parent)).state, "succeeded")
      assert.equal(yield* Then.await(id, within), "child a b succeeded succeeded")
      assert.equal((yield* record(next)).state, "succeeded")
      assert.deepEqual([runs(world, id), runs(world, next), runs(world, failed)], [1, 1, 1])
    }))

  test("of one job can be a thousand, and of a thousand jobs one", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const parent = yield* scheduled("a")
      const children = yield* Effect.forEach(
        Array.from({ length: 1_000 }),
        () => Then.enqueueAfter(parent, "x"),
        { concurrency: 32 },
      )
      const last = yield* Then.enqueueAfter(children, "y")
      yield* endAs(parent, "run")
      const told = yield* Then.await(last, within)
      assert.equal(told.match(/succeeded/g)?.length, 2_000)
      const { total: counts } = yield* client.counts()
      assert.deepEqual([counts.succeeded, counts.awaiting], [1_002, 0])
      const begun = world.events.filter(is("AttemptStarted")).map(({ id }) => id)
      assert.deepEqual([begun.length, new Set(begun).size], [1_002, 1_002])
    }))

  test("whose author died before it was linked is looked after by a server", (world) =>
    Effect.gen(function* () {
      const client = yield* Client.Client
      const subjects = Subjects.make(world.nats.namespace)
      /** Stores a child as its author does first, and nothing else. */
      const stage = Effect.fnUntraced(function* (...parents: ReadonlyArray<string>) {
        const address = Subjects.addressOf(JobId.makeGenerator()(0))
        const progress: Envelope.Progress = {
          ...Envelope.untouched,
          waits: {
            staged: true,
            need: "all",
            on: ["succeeded"],
            delay: 0,
            parents: parents.map((id) => ({ id })),
          },
        }
        yield* publishRaw(
          world.nats,
          subjects.live("await", "default", 3, address),
          Envelope.freshWith(
            Envelope.template("then", "default", 3, {}),
            Date.now(),
            MessagePack.encode("x"),
            progress,
          ),
          Moves.awaitLines(subjects, address, Date.now() + 100),
        )
        return address.id
      })
      const [parent, over, bad] = [
        yield* scheduled("a"),
        yield* Say.enqueue("b"),
        yield* Say.enqueue("no"),
      ]
      yield* record(over)
      yield* record(bad)
      const waiting = yield* stage(parent, over)
      const ready = yield* stage(over)
      const hopeless = yield* stage(parent, bad)
      const orphan = yield* stage(over, "nobody")
      assert.equal(yield* Then.await(ready, within), "x b succeeded")
      assert.equal((yield* record(hopeless)).state, "cancelled")
      const { reason, state } = yield* record(orphan)
      assert.equal(state, "cancelled")
      assert.match(reason ?? "", /job nobody, .* does not exist/)
      assert.equal((yield* client.get(waiting)).state, "awaiting")
      yield* endAs(parent, "run")
      assert.equal(yield* Then.await(waiting, within), "x a b succeeded succeeded")
    }))

  test("follows jobs of other partitions", (world) =>
    Effect.gen(function* () {
      const parents = yield* Effect.forEach(Array.from({ length: 8 }), () => scheduled("a"))
      const children = yield* Effect.forEach(
        parents,
        (first) => Then.enqueueAfter([first, ...parents], "x"),
      )
      const any = yield* Then.enqueueAfter(parents, "any", { need: "any" })
      yield* Effect.forEach(parents, (id) => endAs(id, "run"), { concurrency: 8 })
      for (const id of [...children, any]) assert.equal((yield* record(id)).state, "succeeded")
      for (const id of [...children, any]) assert.equal(runs(world, id), 1)
    }), {
    namespace: () =>
      Effect.gen(function* () {
        const namespace = freshNamespace()
        yield* Effect.provide(Client.Client, worldOf(server, { namespace, partitions: 4 }))
        return namespace
      }),
  })
})

describe("middleware", () => {
  const server = testServer()

  effect("observes what becomes of jobs that follow others", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const Watch = Middleware.make("watch", {
        transition: ({ from, name, to }) =>
          Effect.sync(() => {
            if (name === "then") seen.push(`${from ?? "new"} ${to}`)
          }),
      })
      const live = Layer.provideMerge(handlers, Middleware.layer([Watch]))
      const { provide } = yield* serve(server.layer(), live)
      yield* provide(Effect.gen(function* () {
        const parent = yield* scheduled("a")
        const id = yield* Then.enqueueAfter(parent, "", { on: "cancelled" })
        yield* endAs(parent, "cancel")
        yield* record(id)
        const never = yield* Then.enqueueAfter(parent, "")
        assert.equal((yield* record(never)).state, "cancelled")
      }))
      assert.deepEqual(seen, [
        "new awaiting",
        "awaiting enqueued",
        "enqueued processing",
        "processing succeeded",
        "new awaiting",
        "awaiting cancelled",
      ])
    }))
})
