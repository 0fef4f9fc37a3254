/** What random runs of recurring entries have found, made to happen. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { type Client, Job, type Nats, Recurring } from "../../mod.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import { newestAtLeader } from "../../src/nats/Reader.ts"
import { produce, publishRaw, Subjects } from "../actors/harness.ts"
import { effect, freshNamespace, testServer } from "../harness.ts"

const Tick = Job.make("tick", { payload: Schema.Number, queue: "nobody" })

const declare = (payload: number) =>
  Recurring.upsert("entry", { job: Tick, payload, schedule: { every: "1 hour" } })

/** Lets the alarm of an entry fire that was on its way as something else was stored. */
const fireLate = Effect.fnUntraced(function* (
  { connection, namespace }: Nats.Nats,
  change: Effect.Effect<unknown, unknown>,
) {
  const subjects = Subjects.make(namespace)
  const address = EntryMessage.addressOf("entry")
  const stream = Subjects.jobsStream(namespace, 0)
  const before = yield* newestAtLeader(connection, stream, subjects.job(address))
  assert.ok(before)
  yield* change
  yield* publishRaw(
    { connection, namespace } as Nats.Nats,
    subjects.live("ready", Subjects.engineQueue, 2, address),
    before.data,
    `Nats-Scheduler: ${before.subject}\r\nNats-Schedule-Next: purge\r\n`,
  )
})

describe("A recurring entry whose alarm fires as it is changed", () => {
  const server = testServer()

  const changes: ReadonlyArray<
    readonly [
      what: string,
      change: Effect.Effect<unknown, unknown, Client.Client>,
      expected: (record: Recurring.RecurringRecord | undefined) => boolean,
    ]
  > = [
    ["is what it was declared to be", declare(2), (record) => record?.payload === 2],
    ["is paused", Recurring.pause("entry"), (record) => record?.state === "paused"],
    ["is removed", Recurring.remove("entry"), (record) => record === undefined],
  ]
  for (const [what, change, expected] of changes) {
    effect(`${what} all the same`, () =>
      Effect.gen(function* () {
        const { nats, provide } = yield* produce(server.layer(freshNamespace()))
        yield* provide(declare(1))
        yield* fireLate(nats, provide(change))
        const record = yield* provide(Recurring.get("entry")).pipe(
          Effect.catchTag("RecurringNotFound", () => Effect.succeed(undefined)),
        )
        assert.ok(expected(record), JSON.stringify(record))
      }))
  }
})
