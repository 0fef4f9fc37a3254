import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, it } from "node:test"
import * as Server from "../../actors/Server.ts"
import * as Job from "../../src/client/Job.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as JobId from "../../src/core/JobId.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Retry from "../../src/core/Retry.ts"
import { Nats } from "../../src/nats/Nats.ts"
import { effect, eventually, testServer } from "../harness.ts"
import { worldOf } from "./world.ts"

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8")

const envelopeText = read("envelope.md")

/** The bytes of an example: hexadecimal pairs up to the first wide gap of each line. */
const exampleBytes = (name: string): Uint8Array => {
  const [, block = ""] = new RegExp(`<!-- example: ${name} -->\\s+\`\`\`\\n([^\`]+)\`\`\``)
    .exec(envelopeText) ?? []
  const pairs = block.split("\n").flatMap((line) =>
    (line.trimStart().split(/ {2,}/)[0] ?? "").split(" ").filter((pair) => pair !== "")
  )
  assert.ok(pairs.length > 0 && pairs.every((pair) => /^[0-9a-f]{2}$/.test(pair)), pairs.join(" "))
  return Uint8Array.from(pairs, (pair) => Number.parseInt(pair, 16))
}

const created = Date.UTC(2030, 0, 31, 9)
const payload = MessagePack.encode({ to: "ada@example.org" })
const newJob = exampleBytes("new")

const Welcome = Job.make("mail/welcome", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.Struct({ messageId: Schema.String }),
  queue: "mail",
})

const decode = (bytes: Uint8Array): Envelope.Envelope => {
  const envelope = Envelope.decode(bytes)
  if (!Envelope.isEnvelope(envelope)) throw new Error(envelope.reason)
  return envelope
}

describe("the examples of the envelope", () => {
  it("are a new job as the engine writes it", () => {
    const template = Envelope.template("mail/welcome", "mail", 3, {})
    assert.deepEqual(newJob, Envelope.fresh(template, created, payload))
    assert.deepEqual(Welcome.definition.template, template)
  })

  it("are options as the engine writes them", () => {
    const retry = Retry.fixed({ attempts: 3, delay: "1 second", jitter: 0 }).backoff
    const template = Envelope.template("mail/welcome", "mail", 1, { timeout: 30_000, retry })
    const example = exampleBytes("options")
    assert.deepEqual(template.slice(-example.length), example)
    assert.equal(template.length, 1 + 13 + 5 + example.length)
  })

  it("are a record as the engine writes it", () => {
    const attempt = {
      ...{ number: 1, server: "web-7-a1b2c", ending: "succeeded" as const },
      ...{ started: created + 5, ended: created + 17 },
    }
    const record = Envelope.final(
      decode(newJob),
      { ...Envelope.untouched, attempts: 1, history: [attempt] },
      { ended: created + 17, result: MessagePack.encode({ messageId: "m-1" }) },
    )
    const example = exampleBytes("ended")
    assert.equal(record[0], 0x99)
    assert.deepEqual(record.slice(1, newJob.length - 1), newJob.slice(1, -1))
    assert.deepEqual(record.slice(newJob.length - 1), example)
  })
})

describe("the Python example", () => {
  it("makes ids that are the engine's", () => {
    const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    const time = 1_700_000_000_000
    const n = (BigInt(time) << 75n) | (2n ** 80n - 1n >> 5n)
    const digits = Array.from(
      { length: 25 },
      (_, i) => alphabet[Number(n >> BigInt(5 * (24 - i)) & 31n)],
    )
    const id = `${digits.join("")}${alphabet[3]}`
    assert.ok(JobId.isEngineId(id), id)
    assert.deepEqual([JobId.timeOf(id), JobId.partitionOf(id)], [time, 3])
  })
})

describe("the table of the standard policy", () => {
  it("has the delays of the code", () => {
    const rows = [
      ...read("jobs.md").matchAll(/^\| (\d+) +\| ([\d. mins]+?) +\| ([\d. mins]+?) +\|$/gm),
    ]
    const millis = (text = "") => {
      const [, minutes = 0, seconds] = /^(?:(\d+) min )?([\d.]+) s$/.exec(text) ?? []
      return Math.round(Number(minutes) * 60_000 + Number(seconds) * 1_000)
    }
    const { backoff } = Retry.standard
    assert.equal(rows.length, Retry.attemptsOf(backoff) - 1)
    for (const [, failure, least, most] of rows) {
      assert.equal(millis(least), Retry.delayAfter(backoff, Number(failure), 0))
      assert.equal(millis(most), Retry.delayAfter(backoff, Number(failure), 1))
    }
  })
})

describe("a client that knows nothing but the document", () => {
  const server = testServer()

  effect(
    "enqueues jobs that a server runs, now and later, and reads what became of them",
    () =>
      Effect.gen(function* () {
        const { connection, namespace } = yield* Nats
        const newId = JobId.makeGenerator()
        const subjectOf = (state: string, id: string) => `pf.${namespace}.0.${state}.mail.3._.${id}`
        const send = (subject: string, headers: ReadonlyArray<string> = []) =>
          Effect.promise(async () => {
            const lines = ["NATS/1.0", ...headers, "", ""].join("\r\n")
            const answer = await connection.request(subject, newJob, {
              timeout: 5_000,
              ...(headers.length === 0
                ? {}
                : { headers: { encode: () => new TextEncoder().encode(lines) } as never }),
            })
            return answer.json<{ readonly seq?: number; readonly error?: { err_code: number } }>()
          })
        const [now, later] = [newId(0), newId(0)]
        assert.equal((yield* send(subjectOf("ready", now))).seq, 1)
        const again = yield* send(subjectOf("ready", now), [
          "Nats-Expected-Last-Subject-Sequence: 0",
          `Nats-Expected-Last-Subject-Sequence-Subject: pf.${namespace}.0.*.*.*._.${now}`,
        ])
        assert.equal(again.error?.err_code, 10071)
        const delayed = yield* send(subjectOf("later", later), [
          `Nats-Schedule: @at ${new Date(Date.now() + 500).toISOString()}`,
          `Nats-Schedule-Target: ${subjectOf("ready", later)}`,
        ])
        assert.equal(delayed.seq, 2)

        const readAll = Effect.promise(async () => {
          const filter = `pf.${namespace}.0.*.*.*._.${now}`
          const answer = await connection.request(
            `$JS.API.STREAM.MSG.GET.PF_${namespace}_JOBS_0`,
            JSON.stringify({ last_by_subj: filter }),
          )
          return answer.json<{ message: { subject: string; data: string } }>().message
        })
        assert.equal((yield* readAll).subject, subjectOf("ready", now))

        const ran: Array<string> = []
        const live = Server.layer({ queues: { mail: 2 } }).pipe(
          Layer.provide(Welcome.toLayer(({ to }) =>
            Effect.gen(function* () {
              ran.push((yield* Job.current).id)
              return { messageId: `m-${to}` }
            })
          )),
          Layer.provide(Layer.succeed(Nats, yield* Nats)),
        )
        yield* Effect.gen(function* () {
          const record = yield* eventually(Welcome.get(now), ({ state }) => state === "succeeded")
          assert.deepEqual(record.result, { messageId: "m-ada@example.org" })
          assert.deepEqual(record.created, new Date(created))
          yield* eventually(Effect.sync(() => ran), (ran) => ran.length === 2)
          assert.deepEqual(ran, [now, later])
        }).pipe(Effect.provide(live))

        const { data, subject } = yield* readAll
        assert.equal(subject, `pf.${namespace}.0.succeeded.mail._._.${now}`)
        const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0))
        assert.equal(bytes[0], 0x99)
        assert.deepEqual(bytes.slice(1, newJob.length - 1), newJob.slice(1, -1))
      }).pipe(Effect.provide(worldOf(server))),
  )
})
