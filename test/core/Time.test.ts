import * as Duration from "effect/Duration"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { InvalidOptions } from "../../src/core/errors.ts"
import { maxDelayMillis, maxInstantMillis } from "../../src/core/Limits.ts"
import { instantOf, millisOf, rfc3339 } from "../../src/core/Time.ts"

const refusedAt = (field: string, value: unknown, why = String(value)) => {
  assert.ok(value instanceof InvalidOptions, why)
  assert.equal(value.field, field)
}

describe("a duration", () => {
  const good: ReadonlyArray<readonly [Duration.Input, number]> = [
    [0, 0],
    [-0, 0],
    [1.5, 1.5],
    ["2 seconds", 2_000],
    ["1 second", 1_000],
    ["0.5 hours", 1_800_000],
    ["0 millis", 0],
    ["3 weeks", 1_814_400_000],
    [5_000_000n, 5],
    [[1, 500_000_000], 1_500],
    [{ minutes: 1, seconds: 2 }, 62_000],
    [{ minutes: undefined, seconds: 2 }, 2_000],
    [Duration.hours(1), 3_600_000],
    [Duration.zero, 0],
  ]
  for (const [input, millis] of good) {
    it(`can be ${typeof input === "bigint" ? `${input}n` : JSON.stringify(input)}`, () => {
      assert.equal(Math.abs(millisOf("delay", input) as number), millis)
    })
  }

  const bad: ReadonlyArray<unknown> = [
    -1,
    -0.001,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    "-5 seconds",
    "-0.1 millis",
    "Infinity",
    "-Infinity",
    "NaN seconds",
    "1e3 seconds",
    "5",
    "",
    " ",
    "5 secs",
    "seconds",
    "5 seconds ",
    -5n,
    [-1, 0],
    [Number.NaN, 0],
    [0, Number.NaN],
    [Number.POSITIVE_INFINITY, 0],
    [1],
    [1, 2, 3],
    ["1", 2],
    { seconds: -1 },
    { seconds: Number.NaN },
    { seconds: "5" },
    { second: 5 },
    { seconds: 5, second: 5 },
    { delay: 5 },
    {},
    new Date(),
    Duration.infinity,
    Duration.negativeInfinity,
    Duration.millis(-1),
    null,
    undefined,
    true,
    Symbol("5 seconds"),
    () => 5,
  ]
  for (const [index, input] of bad.entries()) {
    it(`is refused with its field, case ${index}`, () => {
      refusedAt("delay", millisOf("delay", input as Duration.Input))
    })
  }

  it("longer than a given bound is refused", () => {
    assert.equal(millisOf("timeout", "36525 days", maxDelayMillis), maxDelayMillis)
    for (const input of ["36526 days", 1e300, "99999999999999999999 weeks"] as const) {
      refusedAt("timeout", millisOf("timeout", input, maxDelayMillis))
    }
  })
})

describe("an instant", () => {
  const good: ReadonlyArray<readonly [Date | string | number, number]> = [
    [0, 0],
    [-5_000, -5_000],
    [1.5, 1.5],
    [new Date(1_234), 1_234],
    ["1970-01-01T00:00:01Z", 1_000],
    ["1970-01-01T00:00Z", 0],
    ["1970-01-01T00:00:00.250Z", 250],
    ["1970-01-01T00:00:00.123456789Z", 123],
    ["1970-01-01T01:00:00+01:00", 0],
    ["1970-01-01T05:30:00+0530", 0],
    ["1969-12-31T19:00:00-05:00", 0],
    ["2028-02-29T00:00:00Z", Date.UTC(2028, 1, 29)],
    ["2261-12-31T23:59:59.999Z", maxInstantMillis - 1],
    [maxInstantMillis - 1, maxInstantMillis - 1],
  ]
  for (const [input, millis] of good) {
    it(`can be ${JSON.stringify(input)}`, () => assert.equal(instantOf("at", input), millis))
  }

  const bad: ReadonlyArray<unknown> = [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -8.64e15 - 1,
    -1e300,
    new Date(Number.NaN),
    new Date("soon"),
    "",
    "soon",
    "2030",
    "2030-01-01",
    "2030-01-01T09:00:00",
    "2030-1-1T09:00:00Z",
    "2030-01-01 09:00:00Z",
    "2030-01-01T09:00:00z",
    "Tue, 01 Jan 2030 09:00:00 GMT",
    "2030-13-01T00:00:00Z",
    "2030-00-01T00:00:00Z",
    "2030-01-00T00:00:00Z",
    "2030-01-32T00:00:00Z",
    "2030-02-29T00:00:00Z",
    "2030-02-31T00:00:00Z",
    "2030-04-31T00:00:00Z",
    "2030-01-01T25:00:00Z",
    "2030-01-01T00:60:00Z",
    "2030-01-01T00:00:60Z",
    "2030-01-01T00:00:00+99:99",
    "1700000000000",
    {},
    [],
    null,
    undefined,
    true,
    5n,
  ]
  for (const [index, input] of bad.entries()) {
    it(`is refused with its field, case ${index}`, () => {
      refusedAt("at", instantOf("at", input as string))
    })
  }

  it("from 2262 on is refused, since the server keeps no such schedule", () => {
    const late = ["2262-01-01T00:00:00Z", "9999-12-31T23:59:59Z", maxInstantMillis, 8.64e15]
    for (const input of [...late, new Date(maxInstantMillis)]) {
      const refused = instantOf("at", input)
      refusedAt("at", refused)
      assert.match((refused as InvalidOptions).reason, /2262/)
    }
  })

  it("is written for the server in UTC, never earlier than it is", () => {
    assert.equal(rfc3339(0), "1970-01-01T00:00:00.000Z")
    assert.equal(rfc3339(1.2), "1970-01-01T00:00:00.002Z")
    assert.equal(rfc3339(maxInstantMillis - 1), "2261-12-31T23:59:59.999Z")
  })
})
