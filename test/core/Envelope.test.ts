import { Encoder } from "@msgpack/msgpack"
import fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Attempt from "../../src/core/Attempt.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import { maxInstantMillis } from "../../src/core/Limits.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import type * as Retry from "../../src/core/Retry.ts"

const read = (bytes: Uint8Array): Envelope.Envelope => {
  const result = Envelope.decode(bytes)
  if (!Envelope.isEnvelope(result)) throw new Error(result.reason)
  return result
}

const unreadable = (bytes: Uint8Array): Envelope.Unreadable => {
  const result = Envelope.decode(bytes)
  if (Envelope.isEnvelope(result)) throw new Error("it could be read")
  return result
}

const count = fc.integer({ min: 0, max: 2 ** 40 })
const text = fc.string({ unit: "grapheme", maxLength: 40 })
const plain = { noNullPrototype: true } as const
const optional = <A>(arbitrary: fc.Arbitrary<A>) => fc.option(arbitrary, { nil: undefined })
const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,20}$/)

const backoff: fc.Arbitrary<Retry.Backoff> = fc.oneof(
  fc.constant({ kind: "none" as const }),
  fc.record({
    kind: fc.constant("fixed" as const),
    attempts: fc.integer({ min: 1, max: 1_000 }),
    delay: count,
    jitter: fc.constantFrom(0, 0.1, 1),
  }, plain),
  fc.record({
    kind: fc.constant("delays" as const),
    delays: fc.array(count, { maxLength: 5 }),
    jitter: fc.constantFrom(0, 0.1, 1),
  }, plain),
  fc.record({
    kind: fc.constant("exponential" as const),
    attempts: fc.integer({ min: 1, max: 1_000 }),
    base: count,
    factor: fc.constantFrom(1, 2.5, 100),
    max: count,
    jitter: fc.constantFrom(0, 0.1, 1),
  }, plain),
)

const attempt: fc.Arbitrary<Attempt.Attempt> = fc.record({
  number: fc.integer({ min: 1, max: 2_000 }),
  server: text,
  started: count,
  ended: count,
  ending: fc.constantFrom<Attempt.Ending>("succeeded", "failed", "timedOut", "crashed", "snoozed"),
  message: optional(text),
  stack: optional(text),
  error: optional(fc.uint8Array({ maxLength: 40 })),
}, plain)

const options: fc.Arbitrary<Envelope.Options> = fc.record({
  retry: optional(backoff),
  timeout: optional(fc.integer({ min: 1, max: 2 ** 40 })),
  retention: optional(fc.stringMatching(/^_[0-9a-f]{8}$/)),
}, plain)

const progress: fc.Arbitrary<Envelope.Progress> = fc.record({
  attempts: count,
  snoozes: count,
  lost: count,
  unknown: count,
  after: count,
  history: fc.array(attempt, { maxLength: 10 }),
}, plain)

const outcome: fc.Arbitrary<Envelope.Outcome> = fc.record({
  ended: count,
  result: optional(fc.uint8Array({ maxLength: 300 })),
  reason: optional(text),
}, plain)

const job = fc.record({
  name: text,
  queue: name,
  lane: fc.integer({ min: 1, max: 4 }),
  options,
  created: fc.integer({ min: 0, max: maxInstantMillis - 1 }),
  payload: fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    // Around the borders of the three sizes of bin.
    fc.constantFrom(255, 256, 65_535, 65_536).map((size) => new Uint8Array(size).fill(size)),
  ),
}, plain)

const freshOf = (parts: Omit<Envelope.Envelope, "head" | "progress" | "outcome">) =>
  Envelope.fresh(
    Envelope.template(parts.name, parts.queue, parts.lane, parts.options),
    parts.created,
    parts.payload,
  )

/** The parts, with absent options told as undefined. */
const partsOf = (parts: Omit<Envelope.Envelope, "head">) => {
  const { created, lane, name, options, outcome, payload, progress, queue } = parts
  const { retention, retry, timeout } = options
  return {
    ...{ created, lane, name, outcome, payload, progress, queue },
    options: { retention, retry, timeout },
  }
}

const sameParts = (actual: Envelope.Envelope, expected: Omit<Envelope.Envelope, "head">) =>
  assert.deepEqual(partsOf(actual), partsOf(expected))

const simple = {
  name: "n",
  queue: "q",
  lane: 3,
  options: {},
  created: 5,
  payload: Uint8Array.of(1),
}

describe("a message", () => {
  it("of a new job brings back all of its parts", () => {
    fc.assert(fc.property(job, (parts) => {
      sameParts(read(freshOf(parts)), { ...parts, progress: Envelope.untouched })
    }))
  })

  it("of a job that lives on, and of one that ended, brings back everything", () => {
    fc.assert(fc.property(job, progress, outcome, (parts, progress, outcome) => {
      const first = read(freshOf(parts))
      const live = read(Envelope.live(first, progress))
      sameParts(live, { ...parts, progress })
      const final = read(Envelope.final(live, progress, outcome))
      sameParts(final, { ...parts, progress, outcome })
    }))
  })

  it("begins with the same bytes of positions 0 to 6 through all of a job's life", () => {
    fc.assert(fc.property(job, progress, outcome, (parts, progress, outcome) => {
      const first = freshOf(parts)
      // Everything but the array's own head and the nil of the progress.
      const head = first.slice(1, -1)
      let bytes = first
      for (let life = 0; life < 3; life++) {
        assert.deepEqual(read(bytes).head, head)
        bytes = Envelope.live(read(bytes), progress)
        assert.deepEqual(bytes.slice(1, 1 + head.length), head)
      }
      const final = Envelope.final(read(bytes), progress, outcome)
      assert.deepEqual(final.slice(1, 1 + head.length), head)
      const requeued = Envelope.live(read(final), Envelope.untouched)
      assert.deepEqual(requeued, first)
    }))
  })

  it("of a megabyte is carried whole", () => {
    const payload = new Uint8Array(1_000_000).map((_, i) => i * 7)
    const first = read(freshOf({ ...simple, payload }))
    assert.deepEqual(first.payload, payload)
    const final = Envelope.final(first, Envelope.untouched, { ended: 1, result: payload })
    assert.deepEqual(read(final).payload, payload)
    assert.deepEqual(read(final).outcome?.result, payload)
  })

  it("copies the payload, which may be a shared buffer", () => {
    const payload = Uint8Array.of(1, 2, 3)
    const bytes = freshOf({ ...simple, payload })
    payload.fill(0)
    assert.deepEqual(read(bytes).payload, Uint8Array.of(1, 2, 3))
  })

  it("can be read from the middle of a larger buffer", () => {
    const bytes = freshOf(simple)
    const larger = new Uint8Array(bytes.length + 20).fill(0xc1)
    larger.set(bytes, 7)
    const envelope = read(larger.subarray(7, 7 + bytes.length))
    assert.deepEqual(envelope.head, bytes.slice(1, -1))
    assert.deepEqual(Envelope.live(envelope, Envelope.untouched), bytes)
  })

  it("without its payload keeps everything else", () => {
    const first = read(freshOf({ ...simple, payload: new Uint8Array(1_000) }))
    const small = Envelope.final(Envelope.withoutPayload(first), Envelope.untouched, { ended: 9 })
    assert.ok(small.length < 100)
    sameParts(read(small), {
      ...simple,
      payload: new Uint8Array(0),
      progress: Envelope.untouched,
      outcome: { ended: 9, result: undefined, reason: undefined },
    })
  })

  it("can be made from parts, for bytes that could not be read", () => {
    const made = Envelope.make({ ...simple, progress: Envelope.untouched })
    assert.deepEqual(Envelope.live(made, made.progress), freshOf(simple))
  })
})

describe("a message from another encoder", () => {
  const encoder = new Encoder()
  const pack = (value: unknown) => [...encoder.encode(value)]
  /** An array of 16 bits length with each element in the widest form there is. */
  const wide = (payload: ReadonlyArray<number>) =>
    Uint8Array.from([
      ...[0xdc, 0, 8],
      ...[0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
      ...[0xdb, 0, 0, 0, 1, 0x6e],
      ...[0xd9, 1, 0x71],
      ...[0xd3, 0, 0, 0, 0, 0, 0, 0, 3],
      ...[0xdf, 0, 0, 0, 0],
      ...[0xcb, ...new Uint8Array(new Float64Array([5]).buffer).reverse()],
      ...[0xc6, 0, 0, 0, payload.length, ...payload],
      0xc0,
    ])

  it("is read in whatever widths it chose", () => {
    sameParts(read(wide([1])), { ...simple, progress: Envelope.untouched })
  })

  it("goes on as the engine's own form", () => {
    const life = Envelope.live(read(wide([1])), Envelope.untouched)
    assert.deepEqual(life, freshOf(simple))
  })

  it("keeps bytes 0 to 6 where the array is one of eight or nine", () => {
    const parts = [1, "n", "q", 3, { later: "unknown" }, 5.5, Uint8Array.of(1), null]
    const bytes = Uint8Array.from(pack(parts))
    const life = Envelope.live(read(bytes), Envelope.untouched)
    assert.deepEqual(life, bytes)
  })

  it("may leave out what is nil at the end", () => {
    const bytes = Uint8Array.from(pack([1, "n", "q", 3, null, 5, Uint8Array.of(1)]))
    assert.deepEqual(Envelope.live(read(bytes), Envelope.untouched), freshOf(simple))
  })

  it("may hold more than this version knows", () => {
    const parts = [1, "n", "q", 3, null, 5, Uint8Array.of(1), null, null, "more"]
    assert.equal(read(Uint8Array.from(pack(parts))).name, "n")
  })
})

describe("bytes that are no message", () => {
  const good: ReadonlyArray<unknown> = [1, "n", "q", 3, null, 5, Uint8Array.of(1), null]
  const changed = (at: number, value: unknown) =>
    MessagePack.encode(good.map((part, index) => index === at ? value : part))

  it("are told from one", () => {
    assert.ok(Envelope.isEnvelope(Envelope.decode(MessagePack.encode(good))))
  })

  const cases: ReadonlyArray<readonly [string, Uint8Array, RegExp]> = [
    ["nothing", new Uint8Array(0), /./],
    ["a text", MessagePack.encode("job"), /array/],
    ["a map", MessagePack.encode({ name: "n" }), /array/],
    ["JSON", new TextEncoder().encode('["n"]'), /./],
    ["an empty array", MessagePack.encode([]), /version/],
    ["version 0", changed(0, 0), /version/],
    ["a version that is a text", changed(0, "1"), /version/],
    ["a name that is a number", changed(1, 5), /name/],
    ["a queue with a dot", changed(2, "a.b"), /queue/],
    ["a queue with a star", changed(2, "*"), /queue/],
    ["an empty queue", changed(2, ""), /queue/],
    ["a queue that is too long", changed(2, "q".repeat(65)), /queue/],
    ["priority 0", changed(3, 0), /priority/],
    ["priority 5", changed(3, 5), /priority/],
    ["priority 1.5", changed(3, 1.5), /priority/],
    ["options that are a list", changed(4, []), /options/],
    ["options that are a number", changed(4, 5), /options/],
    ["a timeout below nothing", changed(4, { timeout: -1 }), /options/],
    ["a timeout without end", changed(4, { timeout: Infinity }), /options/],
    ["a timeout that is none", changed(4, { timeout: Number.NaN }), /options/],
    ["a retry that is a number", changed(4, { retry: 5 }), /options/],
    ["a retry of an unknown kind", changed(4, { retry: { kind: "often" } }), /options/],
    [
      "a retry without end",
      changed(4, { retry: { kind: "fixed", attempts: 2, delay: Infinity, jitter: 0 } }),
      /options/,
    ],
    ["a retention that breaks a subject", changed(4, { retention: "_a.b" }), /options/],
    ["a retention of another's class", changed(4, { retention: "common" }), /options/],
    ["a time before 1970", changed(5, -1), /time/],
    ["a time that is none", changed(5, Number.NaN), /time/],
    ["a time without end", changed(5, Infinity), /time/],
    ["a time that is a text", changed(5, "2030-01-01T00:00:00Z"), /time/],
    ["a payload that is a text", changed(6, "abc"), /payload/],
    ["a payload that is missing", MessagePack.encode(good.slice(0, 6)), /payload/],
    ["progress that is a number", changed(7, 5), /progress/],
    ["progress of other numbers", changed(7, [0, 0, 0, 0, -1, []]), /progress/],
    ["progress without history", changed(7, [0, 0, 0, 0, 0]), /progress/],
  ]
  for (const [what, bytes, reason] of cases) {
    it(`are refused: ${what}`, () => {
      const result = unreadable(bytes)
      assert.match(result.reason, reason)
      assert.equal(result.newer, false)
    })
  }

  it("of a later version say so, so that the job is left to a newer server", () => {
    for (const bytes of [changed(0, 2), MessagePack.encode([99]), MessagePack.encode([2, {}])]) {
      assert.equal(unreadable(bytes).newer, true)
    }
  })

  it("with the key of a prototype are refused and change nothing", () => {
    const key = (name: string) => [0xa0 + name.length, ...new TextEncoder().encode(name)]
    const head = [...MessagePack.encode([1, "n", "q", 3])].slice(1)
    const rest = [5, 0xc4, 1, 1, 0xc0]
    const poisoned = [0x98, ...head, 0x81, ...key("__proto__"), 0x81, ...key("timeout"), 7, ...rest]
    assert.ok(!Envelope.isEnvelope(Envelope.decode(Uint8Array.from(poisoned))))
    const inherited = [0x98, ...head, 0x81, ...key("constructor"), 7, ...rest]
    const { options } = read(Uint8Array.from(inherited))
    assert.ok(Object.values(options).every((value) => value === undefined))
    assert.equal((({}) as Record<string, unknown>)["timeout"], undefined)
  })

  it("with hostile attempts in their history lose these alone", () => {
    const fine = [1, "s", 1, 2, "failed", "m", null, null]
    const hostile: ReadonlyArray<unknown> = [
      null,
      5,
      {},
      [],
      [1, { toString: 1, valueOf: 1 }, 1, 2, "failed"],
      [1, "s", 1, 2, "exploded"],
      [1, "s", "1", 2, "failed"],
      ["1", "s", 1, 2, "failed"],
      [1, "s", 1, 2, { toString: 5 }],
    ]
    const { progress } = read(changed(7, [1, 0, 0, 0, 0, [...hostile, fine, ...hostile]]))
    assert.deepEqual(progress.history.map(({ server }) => server), ["s"])
    const [odd] = read(changed(7, [1, 0, 0, 0, 0, [[1, "s", 1, 2, "failed", 5, {}, "e"]]]))
      .progress.history
    assert.deepEqual([odd?.message, odd?.stack, odd?.error], [undefined, undefined, undefined])
  })

  it("never make the reader throw, random or mutated", () => {
    const whole = Envelope.final(
      read(freshOf({ ...simple, options: { timeout: 5, retry: { kind: "none" } } })),
      { ...Envelope.untouched, attempts: 1, history: [{ ...failed(1), message: "m" }] },
      { ended: 5, reason: "r" },
    )
    const mutations = fc.array(
      fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 })),
      { minLength: 1, maxLength: 4 },
    ).map((changes) => {
      const bytes = whole.slice()
      for (const [at, value] of changes) bytes[at] = value
      return bytes
    })
    const cuts = fc.nat(whole.length).map((length) => whole.slice(0, length))
    const inputs = fc.oneof(fc.uint8Array({ maxLength: 200 }), mutations, cuts)
    fc.assert(
      fc.property(inputs, (bytes) => {
        const result = Envelope.decode(bytes)
        if (!Envelope.isEnvelope(result)) return assert.equal(typeof result.reason, "string")
        // What could be read can be written and read again.
        const again = read(Envelope.live(result, result.progress))
        sameParts(again, { ...result, outcome: undefined })
      }),
      { numRuns: 5_000 },
    )
  })
})

const failed = (number: number): Attempt.Attempt => ({
  number,
  server: "s",
  started: number,
  ended: number,
  ending: "failed",
  message: undefined,
  stack: undefined,
  error: undefined,
})

describe("the history of attempts", () => {
  it("keeps all up to ten, of more the first and the last five", () => {
    let history: ReadonlyArray<Attempt.Attempt> = []
    for (let number = 1; number <= 1_000; number++) {
      history = Attempt.append(history, failed(number))
      const numbers = history.map(({ number }) => number)
      const all = Array.from({ length: number }, (_, index) => index + 1)
      assert.deepEqual(numbers, number <= 10 ? all : [1, 2, 3, 4, 5, ...all.slice(-5)])
    }
  })

  it("comes back from the wire", () => {
    fc.assert(fc.property(attempt, (attempt) => {
      const back = Attempt.fromWire(MessagePack.decode(MessagePack.encode(Attempt.toWire(attempt))))
      assert.deepEqual(back, attempt)
    }))
  })

  it("cuts messages to 2,000 characters and stacks to 4,000", () => {
    const error = new Error("m".repeat(5_000))
    error.stack = "s".repeat(5_000)
    const { message, stack } = Attempt.describe(error)
    assert.equal(message.length, 2_000)
    assert.equal(stack?.length, 4_000)
    assert.equal(Attempt.describe("x".repeat(2_000)).message, "x".repeat(2_000))
  })

  it("describes whatever was thrown", () => {
    const cyclic: Record<string, unknown> = {}
    cyclic["self"] = cyclic
    const thrown = [null, undefined, 5, "text", 5n, Symbol("s"), cyclic, () => 1, new Error("")]
    for (const value of thrown) assert.equal(typeof Attempt.describe(value).message, "string")
    assert.equal(Attempt.describe(new TypeError("")).message, "TypeError")
    assert.equal(Attempt.describe({ code: 5 }).message, '{"code":5}')
  })
})
