import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Job } from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as Expiry from "../../src/core/Expiry.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import { publishRaw, serve, Subjects } from "../actors/harness.ts"
import { effect, testServer } from "../harness.ts"

const Honest = Job.make("honest", { payload: Schema.String, success: Schema.String })
const now = Date.now()

describe("a message that nobody of ours writes", () => {
  const decode = (parts: ReadonlyArray<unknown>) => Envelope.decode(MessagePack.encode(parts))
  const parts = (more: object, queue = "default") => [
    ...[1, "x", queue, 3, { ttl: 5, deadline: 5 }, now, new Uint8Array(1)],
    [0, 0, 0, 0, 1, [], more],
  ]

  it("has no time that no clock can show, and nothing that isn't part of a subject", () => {
    for (const time of [9e15, -1, NaN, Infinity, "1"]) {
      const envelope = decode(parts({ since: time, requeued: time }))
      assert(Envelope.isEnvelope(envelope))
      assert.equal(Expiry.deadlineOf(envelope), now + 5)
      assert.equal(envelope.progress.since, undefined)
      assert(!Envelope.isEnvelope(decode(parts({ batch: [2, 1, 0, time, 0] }, "_engine"))))
    }
    for (const hash of ["a.b", "*", "a\r\nb", "", 5]) {
      const envelope = decode(parts({ claim: [hash, 1, "finished"] }))
      assert(Envelope.isEnvelope(envelope))
      assert.equal(envelope.progress.claim, undefined)
    }
    for (const address of [[0, "_", "a.b"], [-1, "_", "a"], [0.5, "_", "a"], [0, ">", "a"], null]) {
      assert.equal(Subjects.addressIn(address), undefined)
    }
  })

  it("is no batch where jobs wait", () => {
    const batch = [2, 1, 0, now, 0]
    assert(Envelope.isEnvelope(decode(parts({ batch }, "_engine"))))
    assert(!Envelope.isEnvelope(decode(parts({ batch }))))
    assert(!Envelope.isEnvelope(decode(parts({ batch, place: ["default", 1] }, "_engine"))))
    assert(!Envelope.isEnvelope(decode(parts({ entry: new Uint8Array(1) }))))
  })
})

describe("a command that is none", () => {
  const server = testServer()

  effect("changes no job, and is done with at once", () =>
    Effect.gen(function* () {
      const { client, nats, provide, record } = yield* serve(
        server.layer(),
        Honest.toLayer(Effect.succeed),
      )
      const subjects = Subjects.make(nats.namespace)
      const id = yield* provide(Honest.schedule("x", { delay: "1 hour" }))
      const command = (name: string, payload: unknown, given: unknown = null) => ({
        name,
        message: Envelope.freshWith(
          Envelope.template(name, Subjects.engineQueue, 3, {}),
          now,
          MessagePack.encode(payload),
          {
            ...Envelope.untouched,
            waits: {
              staged: false,
              need: "all",
              on: ["succeeded"],
              delay: 0,
              parents: [{
                id: "p",
                outcome: { state: "succeeded", result: MessagePack.encode(given) },
              }],
            },
          },
        ),
      })
      const where = (operation: unknown, filter: unknown, cutoffs: unknown = [1e9]) =>
        command("_where", [operation, filter, cutoffs, 9e12])
      const cancel = { _tag: "cancel", reason: "r" }
      const all = { states: ["scheduled"] }
      const fan = {
        job: Envelope.fresh(Envelope.template("x", "default", 3, {}), now, new Uint8Array(1)),
        queue: "default",
        lane: 3,
        batch: "b",
        group: "_",
      }
      const commands = [
        where(cancel, { ...all, queue: "*" }),
        where(cancel, { ...all, group: "*" }),
        where(cancel, { ...all, other: 1 }),
        where(cancel, { ...all, name: {} }),
        where(cancel, { states: "scheduled" }),
        where(cancel, all, ["9"]),
        where({ _tag: "move", queue: "a.b" }, all),
        where({ _tag: "move", lane: 9 }, all),
        where({ _tag: "reschedule", at: 9e15 }, all),
        command("_fan", { ...fan, queue: "a\r\nb" }, [1]),
        command("_fan", { ...fan, lane: "x" }, [1]),
        command("_fan", { ...fan, job: new Uint8Array(3) }, [1]),
        command("_fan", fan, { no: "list" }),
        command("_gather", { queue: "default", batch: "b" }, 2 ** 31),
        command("_gather", { queue: ">", batch: "b" }, 1),
        command("_join", { layout: [null] }, 1),
        command("_join", null, 1),
      ]
      for (const [index, { message, name }] of commands.entries()) {
        const address = Subjects.addressOf(`c${index}`)
        yield* publishRaw(nats, subjects.live("ready", Subjects.engineQueue, 3, address), message)
        const { attempts, result, state } = yield* record(address.id)
        if (name === "_where") {
          assert.deepEqual([state, result], ["succeeded", { matched: 0, changed: 0, conflicts: 0 }])
        } else assert.deepEqual([state, attempts.at(-1)?.ending], ["failed", "discarded"], name)
      }
      assert.equal((yield* client.get(id)).state, "scheduled")
    }))
})
