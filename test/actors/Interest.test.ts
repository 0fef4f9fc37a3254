import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Interest } from "../../actors/Interest.ts"
import { Job, Retry } from "../../mod.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Notices from "../../src/nats/Notices.ts"
import { effect, testServer } from "../harness.ts"
import { ended, Envelope, publishRaw, serve, Subjects, type TestServer } from "./harness.ts"

const Twice = Job.make("twice", { retry: Retry.fixed({ attempts: 2, delay: 0 }) })

/** Fails once, so that there is a transition which is no end. */
const TwiceLive = Twice.toLayer(() =>
  Effect.flatMap(Job.current, ({ attempt }) => attempt === 1 ? Effect.die("once") : Effect.void)
)

const placeOf = ({ nats }: TestServer): Notices.Place => ({
  nats,
  subjects: Subjects.make(nats.namespace),
})

/** Everything that is said on the control subjects. */
const overhear = ({ nats }: TestServer) => {
  const heard: Array<readonly [string, unknown]> = []
  const prefix = Subjects.make(nats.namespace).control("")
  nats.connection.subscribe(`${prefix}>`, {
    callback: (_, message) => {
      heard.push([message.subject.slice(prefix.length), MessagePack.decode(message.data)])
    },
  })
  return { heard, flush: Effect.promise(() => nats.connection.flush()) }
}

describe("A server", () => {
  const nats = testServer()

  effect("says nothing of jobs that nobody waits for", () =>
    Effect.gen(function* () {
      const server = yield* serve(nats.layer(), TwiceLive)
      const { flush, heard } = overhear(server)
      yield* flush
      const ids = yield* server.provide(Twice.enqueueMany(Array.from({ length: 20 })))
      yield* server.until(ended(), { count: ids.length })
      yield* flush
      assert.deepEqual(heard, [])
    }))

  effect(
    "tells each client of the end of what it waits for, once, when it can be read",
    () =>
      Effect.gen(function* () {
        const server = yield* serve(nats.layer(), TwiceLive)
        const place = placeOf(server)
        const id = "waited-for"
        Notices.announceInterest(place, "one", [id])
        Notices.announceInterest(place, "two", [id])
        Notices.announceInterest(place, "one", [id, "other"])
        Notices.announceInterest(place, "nasty.name", [id])
        server.nats.connection.publish(place.subjects.control("interest"), Uint8Array.of(0xc1))
        server.nats.connection.publish(
          place.subjects.control("interest"),
          MessagePack.encode(["three", [5]]),
        )
        yield* Effect.promise(() => server.nats.connection.flush())
        const { flush, heard } = overhear(server)
        const read = Effect.callback<string>((resume) => {
          Notices.onEnded(place, "one", ([ended]) => {
            resume(Effect.map(Effect.orDie(server.client.get(ended ?? "")), ({ state }) => state))
          })
        })
        const bytes = Envelope.fresh(Twice.definition.template, 0, MessagePack.encode(null))
        const at = place.subjects.live("ready", "default", 3, Subjects.addressOf(id))
        const [state] = yield* Effect.all([read, publishRaw(server.nats, at, bytes)], {
          concurrency: 2,
        })
        assert.equal(state, "succeeded")
        yield* flush
        const notices = heard.filter(([subject]) => subject.startsWith("ended"))
        assert.deepEqual(notices.sort(), [["ended.one", [id]], ["ended.two", [id]]])
      }),
  )
})

describe("Interest", () => {
  const told: Array<readonly [string, ReadonlyArray<string>]> = []
  const make = () => {
    told.length = 0
    return new Interest((client, ids) => told.push([client, ids]))
  }
  const settle = () => new Promise<void>((done) => queueMicrotask(done))

  it("is told together of what ends together, and then over", async () => {
    const interest = make()
    interest.add("one", ["a", "b"])
    interest.add("two", ["b"])
    for (const id of ["a", "b", "c", "a"]) interest.ended(id)
    await settle()
    assert.deepEqual(told, [["one", ["a", "b"]], ["two", ["b"]]])
    assert.equal(interest.size, 0)
    interest.ended("a")
    await settle()
    assert.equal(told.length, 2)
  })

  it("ends when it is not renewed", async () => {
    const interest = make()
    interest.add("one", ["a", "b"], 0)
    interest.add("two", ["a"], 1)
    interest.add("one", ["b"], Notices.interestMillis)
    interest.expire(Notices.interestMillis + 1)
    assert.equal(interest.size, 1)
    interest.ended("a")
    interest.ended("b")
    await settle()
    assert.deepEqual(told, [["one", ["b"]]])
  })

  it("is kept for a bounded number of jobs, the latest", async () => {
    const interest = make()
    for (let page = 0; page < 210; page++) {
      interest.add("one", Array.from({ length: 500 }, (_, n) => `${page * 500 + n}`), page)
    }
    assert.equal(interest.size, 100_000)
    for (const id of ["0", "4999", "5000", "104999"]) interest.ended(id)
    await settle()
    assert.deepEqual(told, [["one", ["5000", "104999"]]])
  })
})
