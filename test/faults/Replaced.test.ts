/**
 * NATS keeps one message per subject. After a SIGKILL it may bring one back that was replaced under its
 * own subject, and whose replacement was removed. So nothing that waits is replaced in place.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Batch, Job, type Nats, Operation } from "../../mod.ts"
import { ended, produce, serve, subjectsIn } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"

const Wait = Job.make("wait", { queue: "nobody" })
const Work = Job.make("work")

describe("When NATS is killed", () => {
  const server = testServer()
  const restart = Effect.andThen(server.killServer, server.restartServer)
  /** What is there once the connection is back. */
  const left = (nats: Nats.Nats, filter?: string) =>
    Effect.retry(subjectsIn(nats, filter), Schedule.spaced("100 millis"))

  effect("a job that was rescheduled and run at once is there once", () =>
    Effect.gen(function* () {
      const { client, nats, provide } = yield* produce(server.layer())
      const ids: Array<string> = []
      for (let jobs = 0; jobs < 20; jobs++) {
        const id = yield* provide(Wait.schedule(undefined, { delay: "1 hour" }))
        for (const delay of ["2 hours", "3 hours"] as const) {
          yield* client.operate(id, Operation.reschedule({ delay }))
        }
        yield* client.operate(id, Operation.runNow())
        ids.push(id)
      }
      yield* restart
      assert.deepEqual(
        (yield* left(nats)).map((subject) => subject.split(".").slice(3, 5).join(".")),
        ids.map(() => "ready.nobody"),
      )
    }), { timeout: 30_000 })

  effect("a batch that has ended, and what followed it, stay ended", () =>
    Effect.gen(function* () {
      const layer = server.layer(freshNamespace())
      const { nats, provide, until } = yield* serve(layer, Work.toLayer(() => Effect.void))
      const followers: Array<string> = []
      for (let batches = 0; batches < 5; batches++) {
        const batch = yield* provide(Batch.create({}, (members) =>
          Effect.gen(function* () {
            for (let jobs = 0; jobs < 3; jobs++) yield* members.add(Work, undefined)
          })))
        const other = yield* provide(Work.enqueue())
        followers.push(yield* provide(Work.enqueueAfter([batch, other], undefined)))
      }
      for (const id of followers) yield* until(ended(id))
      yield* eventually(subjectsIn(nats, "await.>"), ({ length }) => length === 0)
      yield* restart
      // What was acknowledged a moment before may be delivered once more; it is dropped then.
      yield* eventually(left(nats, "ready.>"), ({ length }) => length === 0)
      assert.deepEqual(yield* left(nats, "await.>"), [])
    }), { timeout: 30_000 })
})
