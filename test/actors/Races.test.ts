/**
 * Races that real use brings about rarely, again and again: what must come of each is one outcome per
 * job, none stuck and none run twice. `PORTFIRE_RACES=1000` says how many of each; default 120.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import { Client, Job, Retry } from "../../mod.ts"
import * as Operation from "../../src/client/Operation.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { heldIn, is, produce, serve, subjectsIn, type TestServer } from "./harness.ts"

const races = Number(process.env["PORTFIRE_RACES"] ?? 120)
const timeout = 60_000 + races * 200
const atOnce = 16
const once = Retry.fixed({ attempts: 1, delay: 0 })
const within = { within: "30 seconds" } as const
const random = Math.random

/** Ends after some ms as its text says: `succeed`, `fail`, or not at all. */
const Parent = Job.make("parent", {
  payload: Schema.Tuple([Schema.String, Schema.Number]),
  error: Schema.String,
  retry: once,
})
const Child = Job.make("child", { payload: Schema.Number, retry: once })

/** What handlers of {@link Slow} saw, by job. */
interface Seen {
  begun: number
  done: number
  interrupted: number
}

describe("a race", () => {
  const server = testServer()

  /** Two servers and two clients of their own; what handlers did, by job. */
  const makeWorld = Effect.fnUntraced(function* (slots: number) {
    const namespace = freshNamespace()
    const seen = new Map<JobId, Seen>()
    const ParentLive = Parent.toLayer(([how, millis]) =>
      Effect.andThen(
        how === "wait" ? Effect.never : Effect.sleep(millis),
        how === "fail" ? Effect.fail("asked to") : Effect.void,
      )
    )
    const ChildLive = Child.toLayer((millis) =>
      Effect.gen(function* () {
        const { id } = yield* Job.current
        const known = seen.get(id) ?? { begun: 0, done: 0, interrupted: 0 }
        seen.set(id, known)
        known.begun++
        yield* Effect.onInterrupt(Effect.sleep(millis), () =>
          Effect.sync(() => {
            known.interrupted++
          }))
        known.done++
      })
    )
    const handlers = Layer.merge(ParentLive, ChildLive)
    const nats = server.layer(namespace)
    const options = { queues: { default: slots } }
    const servers: ReadonlyArray<TestServer> = [
      yield* serve(nats, handlers, options),
      yield* serve(server.layer(namespace), handlers, options),
    ]
    const clients = [
      ...servers,
      yield* produce(server.layer(namespace)),
      yield* produce(server.layer(namespace)),
    ]
    const client = (clients[2] as (typeof clients)[number]).client
    /** Provides one of the clients. */
    const somewhere = <A, E>(self: Effect.Effect<A, E, Client.Client>): Effect.Effect<A, E> =>
      Effect.suspend(() =>
        (clients[Math.floor(random() * clients.length)] as (typeof clients)[number]).provide(self)
      )
    const first = servers[0] as TestServer
    /** Nothing is held, nothing lives, nothing is left of what links jobs. */
    const settled = eventually(
      Effect.all([subjectsIn(first.nats), heldIn(first.nats, "default")]),
      ([subjects, held]) =>
        held === 0 && subjects.every((subject) => /\.(succeeded|failed|cancelled)\./.test(subject)),
      { timeout: 15_000 },
    )
    return { client, seen, servers, settled, somewhere }
  })

  const many = (
    race: (index: number) => Effect.Effect<void, unknown>,
  ): Effect.Effect<void, unknown> =>
    Effect.forEach(Array.from({ length: races }, (_, i) => i), race, {
      concurrency: atOnce,
      discard: true,
    })

  const report = (name: string, figures: Readonly<Record<string, number>>) =>
    console.log(
      `${races} × ${name}: ` +
        Object.entries(figures).map(([key, value]) => `${value} ${key}`).join(", "),
    )

  effect(
    "between the end of a job and one that is to follow it leaves none stuck",
    () =>
      Effect.gen(function* () {
        const { client, seen, settled, somewhere } = yield* makeWorld(32)
        const figures = { released: 0, cancelled: 0, "created before the end": 0 }
        const started = performance.now()
        yield* many((index) =>
          Effect.gen(function* () {
            const how = (["succeed", "fail", "wait"] as const)[index % 3] as string
            const parent = yield* somewhere(Parent.enqueue([how, random() * 8]))
            // The end, and the child that may come before, while or after it happens.
            const cancel = how !== "wait" ? Effect.void : Effect.andThen(
              Effect.sleep(random() * 12),
              somewhere(
                Effect.flatMap(Client.Client, (c) => c.operate(parent, Operation.cancel())),
              ),
            )
            const on = random() < 0.5 ? "succeeded" : "any"
            const [, child] = yield* Effect.all([
              cancel,
              Effect.andThen(
                Effect.sleep(random() * 12),
                somewhere(Child.enqueueAfter(parent, 0, { on })),
              ),
            ], { concurrency: 2 })
            const ended = yield* client.awaitRecord(parent, within)
            const { created, state } = yield* client.awaitRecord(child, within)
            const wanted = on === "any" || ended.state === "succeeded"
            assert.equal(state, wanted ? "succeeded" : "cancelled")
            assert.equal(seen.get(child)?.begun ?? 0, wanted ? 1 : 0, "how often it ran")
            figures[wanted ? "released" : "cancelled"]++
            if (created < (ended.ended as Date)) figures["created before the end"]++
          })
        )
        yield* settled
        const { total } = yield* client.counts()
        const { awaiting, cancelled, enqueued, failed, scheduled, succeeded } = total
        assert.equal(awaiting + enqueued + scheduled, 0)
        assert.equal(succeeded + failed + cancelled, 2 * races)
        report("a child while its parent ends", {
          ...figures,
          ms: Math.round(performance.now() - started),
        })
      }),
    { timeout },
  )

  effect(
    "between the start of a job and its cancel gives it one outcome",
    () =>
      Effect.gen(function* () {
        const { client, seen, settled, somewhere } = yield* makeWorld(5)
        const figures = { "never begun": 0, interrupted: 0, "ended before": 0 }
        const started = performance.now()
        yield* many(() =>
          Effect.gen(function* () {
            const id = yield* somewhere(Child.enqueue(random() < 0.3 ? 2 : 10_000))
            if (random() < 0.5) yield* Effect.sleep(random() * 6)
            const answer = yield* somewhere(
              Effect.flatMap(Client.Client, (c) => c.operate(id, Operation.cancel())),
            )
            const { state } = yield* client.awaitRecord(id, within)
            const how = () => seen.get(id) ?? { begun: 0, done: 0, interrupted: 0 }
            if (answer._tag === "changed") assert.equal(state, "cancelled")
            else assert.deepEqual([answer, state], [{ ...answer, state: "succeeded" }, "succeeded"])
            // Who has begun is told to stop, at once; a short one may be done before it hears that.
            yield* eventually(
              Effect.sync(how),
              ({ begun, done, interrupted }) => begun === done + interrupted,
              { timeout: 5_000 },
            )
            const { begun, interrupted } = how()
            assert(begun <= 1, `it began ${begun} times`)
            figures[
              begun === 0 ? "never begun" : interrupted > 0 ? "interrupted" : "ended before"
            ]++
          })
        )
        yield* settled
        const { total } = yield* client.counts()
        assert.equal(total.succeeded + total.cancelled, races)
        report("a cancel while a job starts", {
          ...figures,
          ms: Math.round(performance.now() - started),
        })
      }),
    { timeout },
  )

  effect(
    "between the end of a job and its requeue runs it once for each",
    () =>
      Effect.gen(function* () {
        const { client, seen, servers, settled, somewhere } = yield* makeWorld(32)
        const figures = { requeues: 0, refused: 0 }
        const started = performance.now()
        yield* many(() =>
          Effect.gen(function* () {
            const id = yield* somewhere(Child.enqueue(random() * 4))
            let asked = 0
            // As fast as it can until it is done: the first one that finds it ended requeues it.
            while (true) {
              const answer = yield* somewhere(
                Effect.flatMap(Client.Client, (c) => c.operate(id, Operation.requeue())),
              )
              if (answer._tag === "changed") {
                asked++
                figures.requeues++
                if (asked === 2) break
              } else {
                assert.equal(answer._tag, "conflict")
                figures.refused++
              }
            }
            yield* eventually(
              Effect.sync(() => seen.get(id)?.done),
              (done) => done === 3,
              { timeout: 15_000 },
            )
            const { attemptCount, attempts, state } = yield* client.awaitRecord(id, within)
            assert.equal(state, "succeeded")
            assert.deepEqual([attempts.length, attemptCount], [3, 1])
          })
        )
        yield* settled
        const { total } = yield* client.counts()
        assert.equal(total.succeeded, races)
        for (const { begun, done } of seen.values()) assert.deepEqual([begun, done], [3, 3])
        const lost = servers.flatMap(({ events }) => events.filter(is("OutcomeLost"))).length
        report("a requeue while a job ends", {
          ...figures,
          lost,
          ms: Math.round(performance.now() - started),
        })
      }),
    { timeout },
  )
})
