import fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { InvalidOptions } from "../../src/core/errors.ts"
import { maxDelayMillis } from "../../src/core/Limits.ts"
import * as Retry from "../../src/core/Retry.ts"

/** The delays of a policy one after the other. */
const delaysOf = (policy: Retry.Policy, random = 0): ReadonlyArray<number> => {
  const delays: Array<number> = []
  for (let failures = 1;; failures++) {
    const delay = Retry.delayAfter(policy.backoff, failures, random)
    if (delay === undefined) return delays
    delays.push(delay)
  }
}

const sum = (values: ReadonlyArray<number>) => values.reduce((all, value) => all + value, 0)
const hours = 3_600_000

describe("the standard policy", () => {
  it("is ten attempts over about four and a half hours", () => {
    assert.equal(Retry.attemptsOf(Retry.standard.backoff), 10)
    const [least, most] = [sum(delaysOf(Retry.standard, 0)), sum(delaysOf(Retry.standard, 1))]
    assert.ok(least > 4 * hours && most < 5 * hours, `${least / hours} to ${most / hours} h`)
    assert.ok(Math.abs((least + most) / 2 / hours - 4.5) < 0.1)
  })

  it("has the delays that the documentation shows", () => {
    const seconds = delaysOf(Retry.standard).map((delay) => delay / 1_000)
    assert.deepEqual(
      seconds,
      [6, 15, 37.5, 93.75, 234.375, 585.938, 1_464.844, 3_662.109, 9_155.273],
    )
  })

  it("is what exponential gives without options", () => {
    assert.deepEqual(Retry.exponential().backoff, Retry.standard.backoff)
    assert.deepEqual(Retry.exponential({ attempts: undefined }).backoff, Retry.standard.backoff)
  })
})

describe("delays", () => {
  it("grow by the factor up to the longest one", () => {
    const policy = Retry.exponential({
      attempts: 6,
      base: "1 second",
      factor: 3,
      max: "20 seconds",
      jitter: 0,
    })
    assert.deepEqual(delaysOf(policy), [1_000, 3_000, 9_000, 20_000, 20_000])
  })

  it("stay the same with a fixed policy", () => {
    const policy = Retry.fixed({ attempts: 4, delay: "200 millis", jitter: 0 })
    assert.deepEqual(delaysOf(policy), [200, 200, 200])
  })

  it("are those of the list, for one attempt more than there are", () => {
    const policy = Retry.delays(["1 second", 0, "1 hour"])
    assert.equal(Retry.attemptsOf(policy.backoff), 4)
    assert.deepEqual(delaysOf(policy), [1_000, 0, hours])
  })

  it("do not exist where the first failure is final", () => {
    assert.deepEqual(delaysOf(Retry.none), [])
    assert.deepEqual(delaysOf(Retry.fixed({ attempts: 1, delay: 5 })), [])
    assert.deepEqual(delaysOf(Retry.exponential({ attempts: 1 })), [])
  })

  it("are finite numbers within the jitter, whatever the policy", () => {
    const jitter = fc.double({ min: 0, max: 1, noNaN: true })
    const delay = fc.double({ min: 0, max: maxDelayMillis, noNaN: true })
    const attempts = fc.integer({ min: 1, max: 1_000 })
    const factor = fc.double({ min: 1, max: 100, noNaN: true })
    const policies = fc.oneof(
      fc.record({ attempts, base: delay, factor, max: delay, jitter }).map(Retry.exponential),
      fc.record({ attempts, delay, jitter }).map(Retry.fixed),
      fc.tuple(fc.array(delay, { minLength: 1, maxLength: 20 }), jitter)
        .map(([list, jitter]) => Retry.delays(list, { jitter })),
    )
    fc.assert(
      fc.property(policies, attempts, jitter, ({ backoff, invalid }, failures, random) => {
        assert.equal(invalid, undefined)
        const plain = Retry.delayAfter(backoff, failures, 0)
        const stretched = Retry.delayAfter(backoff, failures, random)
        assert.equal(plain === undefined, failures >= Retry.attemptsOf(backoff))
        if (plain === undefined || stretched === undefined || backoff.kind === "none") return
        assert.ok(Number.isFinite(plain) && plain >= 0 && plain <= maxDelayMillis + 1)
        assert.ok(stretched >= plain - 1 && stretched <= plain * (1 + backoff.jitter) + 1)
      }),
    )
  })

  it("of nothing stay nothing, however large the factor grows", () => {
    const policy = Retry.exponential({ attempts: 1_000, base: 0, factor: 100 })
    assert.equal(Retry.delayAfter(policy.backoff, 999, 0), 0)
  })
})

describe("a policy with a mistake", () => {
  const bad = (value: unknown) => value as never
  const cases: ReadonlyArray<readonly [string, Retry.Policy]> = [
    ["retry.attempts", Retry.exponential({ attempts: 0 })],
    ["retry.attempts", Retry.exponential({ attempts: -1 })],
    ["retry.attempts", Retry.exponential({ attempts: 1.5 })],
    ["retry.attempts", Retry.exponential({ attempts: Number.NaN })],
    ["retry.attempts", Retry.exponential({ attempts: Number.POSITIVE_INFINITY })],
    ["retry.attempts", Retry.exponential({ attempts: 1_001 })],
    ["retry.attempts", Retry.exponential({ attempts: bad("5") })],
    ["retry.attempts", Retry.fixed({ attempts: 0, delay: 5 })],
    ["retry.attempts", Retry.fixed(bad({ delay: 5 }))],
    ["retry.base", Retry.exponential({ base: -1 })],
    ["retry.base", Retry.exponential({ base: bad("soon") })],
    ["retry.base", Retry.exponential({ base: "-5 seconds" })],
    ["retry.factor", Retry.exponential({ factor: 0.5 })],
    ["retry.factor", Retry.exponential({ factor: 101 })],
    ["retry.factor", Retry.exponential({ factor: Number.NaN })],
    ["retry.max", Retry.exponential({ max: Number.NaN })],
    ["retry.max", Retry.exponential({ max: "Infinity" })],
    ["retry.jitter", Retry.exponential({ jitter: -0.1 })],
    ["retry.jitter", Retry.exponential({ jitter: 1.1 })],
    ["retry.jitter", Retry.fixed({ attempts: 2, delay: 5, jitter: Number.NaN })],
    ["retry.jitter", Retry.delays([5], { jitter: 2 })],
    ["retry.delay", Retry.fixed({ attempts: 2, delay: Number.NaN })],
    ["retry.delay", Retry.fixed({ attempts: 2, delay: 1e300 })],
    ["retry.delay", Retry.fixed(bad({ attempts: 2 }))],
    ["retry.delays.length", Retry.delays([])],
    ["retry.delays.length", Retry.delays(Array.from({ length: 1_000 }, () => 1))],
    ["retry.delays.length", Retry.delays(bad(undefined))],
    ["retry.delays.length", Retry.delays(bad("5 seconds"))],
    ["retry.delays[1]", Retry.delays([5, -5])],
    ["retry.delays[0]", Retry.delays([bad(null)])],
    ["retry.decide", Retry.exponential({ decide: bad(true) })],
    ["retry.decide", Retry.delays([5], { decide: bad({}) })],
    ["retry.tries", Retry.exponential(bad({ tries: 5 }))],
    ["retry.base", Retry.fixed(bad({ attempts: 2, delay: 5, base: 5 }))],
    ["retry.attempts", Retry.delays([5], bad({ attempts: 2 }))],
    ["retry", Retry.exponential(bad(null))],
    ["retry", Retry.exponential(bad(5))],
    ["retry", Retry.fixed(bad(undefined))],
    ["retry", Retry.delays([5], bad(null))],
  ]
  for (const [index, [field, policy]] of cases.entries()) {
    it(`is reported at ${field}, case ${index}`, () => {
      const error = Retry.check(policy)
      assert.ok(error instanceof InvalidOptions)
      assert.equal(error.field, field)
    })
  }

  it("that no constructor made is refused as a whole", () => {
    const hand: ReadonlyArray<unknown> = [
      null,
      undefined,
      5,
      "none",
      {},
      { attempts: 5 },
      { backoff: null },
      { backoff: { kind: "never" } },
      { backoff: { kind: "fixed" } },
      { backoff: { kind: "fixed", attempts: 0, delay: 5, jitter: 0 } },
      { backoff: { kind: "fixed", attempts: 2, delay: -5, jitter: 0 } },
      { backoff: { kind: "fixed", attempts: 2, delay: Number.POSITIVE_INFINITY, jitter: 0 } },
      { backoff: { kind: "fixed", attempts: 2, delay: 5, jitter: 7 } },
      { backoff: { kind: "delays", delays: "5", jitter: 0 } },
      { backoff: { kind: "delays", delays: [Number.NaN], jitter: 0 } },
      { backoff: { kind: "exponential", attempts: 2, base: 5, factor: 2, max: 9 } },
    ]
    for (const policy of hand) assert.equal(Retry.check(policy)?.field, "retry")
  })
})

describe("a policy without a mistake", () => {
  it("passes the check and is a back-off that the wire can carry", () => {
    const policies = [
      Retry.none,
      Retry.standard,
      Retry.fixed({ attempts: 1_000, delay: "36525 days", jitter: 1 }),
      Retry.delays(Array.from({ length: 999 }, () => 0)),
      Retry.exponential({ factor: 1, base: 0, max: 0, jitter: 0 }),
    ]
    for (const policy of policies) {
      assert.equal(Retry.check(policy), undefined)
      assert.ok(Retry.isBackoff(policy.backoff))
    }
  })

  it("keeps the function that decides per error", () => {
    const policy = Retry.fixed<{ readonly code: number }>({
      attempts: 3,
      delay: 5,
      decide: (error, attempt) => error.code >= 500 ? "1 second" : attempt < 2,
    })
    assert.equal(Retry.check(policy), undefined)
    assert.equal(policy.decide?.({ code: 503 }, 1), "1 second")
    assert.equal(policy.decide?.({ code: 404 }, 1), true)
    assert.equal(policy.decide?.({ code: 404 }, 2), false)
  })
})
