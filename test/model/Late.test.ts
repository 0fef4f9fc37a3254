/** What random runs have found, each made to happen. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, Job, Middleware, Retry } from "../../mod.ts"
import * as Operation from "../../src/client/Operation.ts"
import { newestAtLeader } from "../../src/nats/Reader.ts"
import { produce, publishRaw, serve, Subjects, subjectsIn } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"

const Break = Job.make("break", { error: Schema.String, retry: Retry.none })
const Follow = Job.make("follow", { retry: Retry.none })
const Wait = Job.make("wait", { queue: "nobody" })

/** Makes what a schedule makes that fires although its job has moved on. */
const lateCopy = Effect.fnUntraced(function* (
  nats: Effect.Success<ReturnType<typeof produce>>["nats"],
  id: string,
  act: Effect.Effect<unknown, unknown>,
) {
  const { connection, namespace } = nats
  const subjects = Subjects.make(namespace)
  const filter = subjects.inAnyGroup(0, id)
  const before = yield* newestAtLeader(connection, Subjects.jobsStream(namespace, 0), filter)
  yield* act
  const { data = new Uint8Array(), subject = "" } = before ?? {}
  yield* publishRaw(nats, subject.replace(".later.", ".ready."), data)
})

const of = (all: ReadonlyArray<string>, id: string) => all.filter((one) => one.endsWith(`.${id}`))

describe("a job that has ended", () => {
  const server = testServer()

  effect(
    "keeps its record when its batch is cancelled and its schedule fires late",
    () =>
      Effect.gen(function* () {
        const { client, nats, provide } = yield* produce(server.layer(freshNamespace()))
        let id = ""
        const batch = yield* provide(Batch.create({}, (members) =>
          Effect.gen(function* () {
            id = yield* members.add(Wait, undefined, { delay: "1 hour" })
            yield* members.add(Wait, undefined, { delay: "1 hour" })
          })))
        const cancel = client.operate(id, Operation.cancel({ reason: "mine" }))
        yield* lateCopy(nats, id, cancel)
        const { revision } = yield* client.get(id)
        yield* client.operate(batch, Operation.cancel())
        const { reason, revision: after } = yield* client.get(id)
        assert.deepEqual([reason, after], ["mine", revision])
        assert.equal((yield* provide(Batch.get(batch))).members.cancelled, 2)
      }),
  )

  effect("is removed with all that its schedule makes late", () =>
    Effect.gen(function* () {
      const { client, nats, provide } = yield* produce(server.layer(freshNamespace()))
      const id = yield* provide(Wait.schedule(undefined, { delay: "1 hour" }))
      yield* lateCopy(nats, id, client.operate(id, Operation.cancel()))
      assert.equal(of(yield* subjectsIn(nats), id).length, 2)
      yield* client.operate(id, Operation.remove())
      assert.deepEqual(of(yield* subjectsIn(nats), id), [])

      const other = yield* provide(Wait.schedule(undefined, { delay: "1 hour" }))
      yield* lateCopy(nats, other, client.operate(other, Operation.cancel()))
      yield* client.operateWhere({ queue: "nobody" }, Operation.remove())
      assert.deepEqual(of(yield* subjectsIn(nats), other), [])
    }))

  effect(
    "is removed or requeued, never both, when both are asked for at once",
    () =>
      Effect.gen(function* () {
        const nats = server.layer(freshNamespace())
        const [one, two] = [yield* produce(nats), yield* produce(nats)]
        for (let round = 0; round < 60; round++) {
          const id = yield* one.provide(Wait.enqueue())
          yield* one.client.operate(id, Operation.cancel())
          const [removed, requeued] = yield* Effect.all([
            Effect.andThen(
              Effect.sleep(round % 6),
              one.client.operate(id, Operation.remove()),
            ),
            two.client.operate(id, Operation.requeue()),
          ], { concurrency: 2 })
          assert.notEqual(removed._tag, requeued._tag)
          const left = of(yield* subjectsIn(one.nats), id).map((subject) => subject.split(".")[3])
          assert.deepEqual(left, requeued._tag === "changed" ? ["ready"] : [])
        }
      }),
  )

  effect("is told of as deleted when its record is removed", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const observing = Middleware.layer([
        Middleware.make("observing", {
          transition: ({ from, to }) => Effect.sync(() => told.push(`${from} ${to}`)),
        }),
      ])
      const nats = Layer.merge(server.layer(freshNamespace()), observing)
      const { client, provide } = yield* produce(nats)
      const id = yield* provide(Wait.enqueue())
      yield* client.operate(id, Operation.cancel())
      yield* client.operate(id, Operation.remove())
      assert.deepEqual(told, ["undefined enqueued", "enqueued cancelled", "cancelled deleted"])
    }))

  effect(
    "leaves no command behind when what followed it is revived",
    () =>
      Effect.gen(function* () {
        let broken = true
        const handlers = Layer.mergeAll(
          Break.toLayer(() => broken ? Effect.fail("broken") : Effect.void),
          Follow.toLayer(() => Effect.void),
        )
        const { client, nats, provide, record } = yield* serve(
          server.layer(freshNamespace()),
          handlers,
        )
        const parent = yield* provide(Break.enqueue())
        const child = yield* provide(Follow.enqueueAfter(parent, undefined))
        assert.equal((yield* client.awaitRecord(child)).state, "cancelled")
        broken = false
        yield* client.operate(parent, Operation.requeue({ revive: true }))
        assert.equal((yield* Effect.andThen(record(child), client.awaitRecord(child))).id, child)
        yield* eventually(client.get(child), ({ state }) => state === "succeeded")
        yield* eventually(subjectsIn(nats, "*._engine.>"), ({ length }) => length === 0)
      }),
  )
})
