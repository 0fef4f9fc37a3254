import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Flow } from "../../mod.ts"
import { produce, serve, subjectsIn } from "../actors/harness.ts"
import { effect, freshNamespace, spawnProgram, testServer } from "../harness.ts"
import { Element, List } from "./programs/flowJobs.ts"

const program = new URL("./programs/flow.ts", import.meta.url)
const ackWaitMillis = 1_000

const handlers = Layer.mergeAll(
  List.toLayer(() => Effect.die("the other server has run it")),
  Element.toLayer((n) => Effect.succeed(n + 1)),
)

describe("a flow whose server is killed", () => {
  const nats = testServer()

  /** Kills a server on the way, lets another one go on, and checks what has come of the flow. */
  const survives = Effect.fnUntraced(function* (
    crashAt: string,
    count: number,
    atDeath: (elements: number) => void,
  ) {
    const namespace = freshNamespace()
    const producer = yield* produce(nats.layer(namespace), { ackWaitMillis })
    const flow = Flow.all([Flow.job(List, count).pipe(Flow.forEach(Element))])
    const server = yield* spawnProgram(program, {
      env: {
        SERVERS: yield* Effect.promise(nats.url),
        NAMESPACE: namespace,
        NATS_USER: nats.credentials.user,
        NATS_PASSWORD: nats.credentials.password,
        ACK_WAIT: String(ackWaitMillis),
        CRASH_AT: crashAt,
      },
    })
    yield* server.waitForLine("ready")
    const handle = yield* producer.provide(Flow.enqueue(flow))
    assert.equal(yield* server.exited, "SIGKILL", server.stderr())
    atDeath((yield* subjectsIn(producer.nats, "*.default.*.*.*")).length - 1)

    const { provide } = yield* serve(nats.layer(namespace), handlers, {
      ackWaitMillis,
      queues: { default: 50 },
    })
    const [list] = yield* provide(Flow.await(flow, handle, { within: "20 seconds" }))
    assert.deepEqual(list, Array.from({ length: count }, (_, i) => i + 1))
    const records = yield* subjectsIn(producer.nats, "succeeded.default.*.*.*")
    assert.equal(records.length, count + 1)
  })

  effect(
    "while it makes jobs of a list has each of them once",
    () =>
      survives(`AttemptStarted:${Element.name}`, 5_000, (elements) => {
        assert.ok(elements > 0 && elements < 5_000, `${elements} were there`)
      }),
  )

  for (const step of ["_fan", "_gather", "_join"]) {
    effect(
      `when ${step} has ended goes on with another one`,
      () => survives(`JobMoved:${step}`, 10, () => {}),
    )
  }
})
