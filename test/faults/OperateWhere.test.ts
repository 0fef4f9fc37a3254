import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Operation } from "../../mod.ts"
import { subjectsIn } from "../actors/harness.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { type World, world } from "./harness.ts"
import { Step } from "./programs/jobs.ts"

const count = 6_000
const followed = 200
/** Jobs of which a lost server may not have said that it had changed them. */
const page = 400

describe("When the server is killed that does an operation by filter", () => {
  const nats = testServer()

  /** Jobs that nobody works on, some of which others follow; a server, killed amidst them. */
  const killed = Effect.fnUntraced(function* ({ client, nats: connected, provide, spawn }: World) {
    const victim = yield* spawn()
    const payload = { millis: 0 }
    const queue = "unserved"
    const ids = yield* provide(Step.enqueueMany(new Array(count).fill(payload), { queue }))
    const children = yield* provide(Effect.forEach(
      ids.filter((_, n) => n % (count / followed) === 0),
      (id) => Step.enqueueAfter(id, payload, { queue: "children" }),
      { concurrency: 20 },
    ))
    const changing = yield* Effect.forkChild(client.operateWhere({ queue }, Operation.cancel()))
    const cancelled = subjectsIn(connected, `cancelled.>`)
    yield* eventually(cancelled, ({ length }) => length > 0)
    victim.kill("SIGKILL")
    yield* victim.exited
    const { length } = yield* cancelled
    assert.ok(length < count, "it was done before the kill")
    return { changing, children, ids }
  })

  const settled = Effect.fnUntraced(function* (
    { client, nats: connected }: World,
    { children, ids }: Effect.Success<ReturnType<typeof killed>>,
  ) {
    const subjects = yield* subjectsIn(connected, "cancelled.>")
    const cancelled = new Set(subjects.map((subject) => subject.split(".").at(-1)))
    for (const id of [...ids, ...children]) assert.ok(cancelled.has(id), id)
    assert.equal((yield* client.get(children[0] ?? "")).state, "cancelled")
    assert.deepEqual(yield* subjectsIn(connected, "link.>"), [])
    assert.deepEqual(yield* subjectsIn(connected, "await.>"), [])
  })

  effect(
    "another one goes on, and what follows the jobs is seen to",
    () =>
      Effect.gen(function* () {
        const made = yield* world(nats, 1_500)
        const left = yield* killed(made)
        yield* made.spawn()
        const changes = yield* Fiber.join(left.changing)
        assert.ok(changes.changed <= count && changes.changed >= count - page, `${changes.changed}`)
        yield* settled(made, left)
        const ready = subjectsIn(made.nats, "ready.>")
        yield* eventually(ready, ({ length }) => length === 0)
      }),
  )

  effect("and there is no other, the caller goes on", () =>
    Effect.gen(function* () {
      const made = yield* world(nats, 1_500)
      const left = yield* killed(made)
      const changes = yield* Fiber.join(left.changing)
      assert.ok(changes.changed <= count && changes.changed >= count - page, `${changes.changed}`)
      yield* settled(made, left)
      assert.deepEqual(yield* subjectsIn(made.nats, "ready.>"), [])
    }))
})
