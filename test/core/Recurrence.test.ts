import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { InvalidOptions } from "../../src/core/errors.ts"
import { maxDelayMillis, maxInstantMillis } from "../../src/core/Limits.ts"
import * as Recurrence from "../../src/core/Recurrence.ts"

const cron = (pattern: string, zone = "UTC"): Recurrence.Recurrence => ({
  _tag: "Cron",
  pattern,
  zone,
})

const iso = (instant: number): string => new Date(instant).toISOString()

/** What follows an instant, each found from the one before. */
const following = (recurrence: Recurrence.Recurrence, after: number, count: number) => {
  const found: Array<number> = []
  let last: number | undefined = after
  while (found.length < count) {
    last = Recurrence.next(recurrence, last)
    if (last === undefined) break
    found.push(last)
  }
  return found
}

describe("a cron pattern", () => {
  const year = "2027-01-01T00:00:00Z"
  const table: ReadonlyArray<readonly [string, string, string, ReadonlyArray<string>]> = [
    ["of five fields is due at second 0", "30 9 * * *", year, ["01-01T09:30:00", "01-02T09:30:00"]],
    ["of six has seconds", "5,10 * * * * *", year, ["01-01T00:00:05", "01-01T00:00:10"]],
    ["excludes the instant asked from", "0 0 * * *", year, ["01-02T00:00:00"]],
    ["may have spaces around", "  0 9\t* * *  ", year, ["01-01T09:00:00"]],
    ["steps from the start of a field", "*/25 * * * *", year, [
      "01-01T00:25:00",
      "01-01T00:50:00",
      "01-01T01:00:00",
    ]],
    ["steps from a value to the end", "5/25 3 * * *", year, [
      "01-01T03:05:00",
      "01-01T03:30:00",
      "01-01T03:55:00",
      "01-02T03:05:00",
    ]],
    ["has ranges that go over the end", "0 22-1 * * *", year, [
      "01-01T01:00:00",
      "01-01T22:00:00",
      "01-01T23:00:00",
      "01-02T00:00:00",
    ]],
    ["steps over the end", "0 22-4/3 * * *", year, [
      "01-01T01:00:00",
      "01-01T04:00:00",
      "01-01T22:00:00",
      "01-02T01:00:00",
    ]],
    ["has days over the end of the week", "0 0 * * fri-Mon", "2027-01-04T00:00:00Z", [
      "01-08T00:00:00",
      "01-09T00:00:00",
      "01-10T00:00:00",
      "01-11T00:00:00",
      "01-15T00:00:00",
    ]],
    ["has months over the end of the year", "0 0 1 NOV-JAN *", year, [
      "11-01T00:00:00",
      "12-01T00:00:00",
      "2028-01-01T00:00:00",
      "2028-11-01T00:00:00",
    ]],
    ["has days over the end of the month", "0 0 30-1 * *", "2027-02-01T00:00:00Z", [
      "03-01T00:00:00",
      "03-30T00:00:00",
      "03-31T00:00:00",
      "04-01T00:00:00",
    ]],
    ["takes Sunday for 0 and 7", "0 0 * * 7", year, ["01-03T00:00:00", "01-10T00:00:00"]],
    ["steps in the week to Sunday", "0 0 * * 5/1", year, [
      "01-02T00:00:00",
      "01-03T00:00:00",
      "01-08T00:00:00",
    ]],
    ["joins both kinds of days with or", "0 0 13 * FRI", year, [
      "01-08T00:00:00",
      "01-13T00:00:00",
      "01-15T00:00:00",
    ]],
    ["joins them with and after a plus", "0 0 13 * +FRI", year, [
      "08-13T00:00:00",
      "2028-10-13T00:00:00",
    ]],
    ["skips months without a 31st", "0 0 31 * *", "2027-01-31T00:00:00Z", [
      "03-31T00:00:00",
      "05-31T00:00:00",
      "07-31T00:00:00",
    ]],
    ["has the last day of a month", "0 12 L * *", year, [
      "01-31T12:00:00",
      "02-28T12:00:00",
      "03-31T12:00:00",
    ]],
    ["has the last working day of a month", "0 9 LW * *", year, [
      "01-29T09:00:00",
      "02-26T09:00:00",
    ]],
    ["has the working day nearest to one", "0 9 15W 5,8 *", year, [
      "05-14T09:00:00",
      "08-16T09:00:00",
    ]],
    ["has the nth weekday of a month", "0 9 * * FRI#2", year, [
      "01-08T09:00:00",
      "02-12T09:00:00",
    ]],
    ["has the last weekday of a kind", "0 9 * * FRIL", year, ["01-29T09:00:00", "02-26T09:00:00"]],
    ["has leap days", "0 0 29 2 *", year, ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]],
    ["has no leap day in 2100", "0 0 29 2 *", "2096-02-29T00:00:00Z", ["2104-02-29T00:00:00"]],
    ["finds a leap day on a Monday", "0 0 29 2 +MON", year, [
      "2044-02-29T00:00:00",
      "2072-02-29T00:00:00",
      "2112-02-29T00:00:00",
    ]],
    ["has the end of the year", "59 59 23 31 12 *", year, [
      "12-31T23:59:59",
      "2028-12-31T23:59:59",
    ]],
    ["can be @yearly", "@yearly", year, ["2028-01-01T00:00:00"]],
    ["can be @annually", "@annually", year, ["2028-01-01T00:00:00"]],
    ["can be @monthly", "@monthly", year, ["02-01T00:00:00"]],
    ["can be @weekly", "@weekly", year, ["01-03T00:00:00"]],
    ["can be @daily", "@Daily", year, ["01-02T00:00:00"]],
    ["can be @midnight", "@midnight", year, ["01-02T00:00:00"]],
    ["can be @hourly", "@hourly", year, ["01-01T01:00:00"]],
  ]
  for (const [fact, pattern, after, expected] of table) {
    it(fact, () => {
      const recurrence = cron(pattern)
      assert.equal(Recurrence.check(recurrence), undefined)
      const full = expected.map((text) => `${text.length < 19 ? "2027-" : ""}${text}.000Z`)
      const found = following(recurrence, Date.parse(after), full.length)
      assert.deepEqual(found.map(iso), full)
      assert.deepEqual(
        Recurrence.latest(recurrence, Date.parse(after), found.at(-1) as number, 100),
        found,
      )
    })
  }

  it("is due after fractions of a second and a millisecond", () => {
    const recurrence = cron("* * * * * *")
    assert.equal(Recurrence.next(recurrence, 999), 1_000)
    assert.equal(Recurrence.next(recurrence, 999.9), 1_000)
    assert.equal(Recurrence.next(recurrence, -0.5), 0)
    assert.equal(Recurrence.next(recurrence, 1_000), 2_000)
    assert.deepEqual(Recurrence.latest(recurrence, 0, 2_999.9, 9), [1_000, 2_000])
  })

  it("is not due from 2262 on, nor after what is no instant", () => {
    const recurrence = cron("0 0 1 1 *")
    assert.equal(iso(Recurrence.next(recurrence, Date.UTC(2260, 5)) as number).slice(0, 4), "2261")
    assert.equal(Recurrence.next(recurrence, Date.UTC(2261, 5)), undefined)
    assert.equal(Recurrence.next(recurrence, Number.NaN), undefined)
    assert.equal(Recurrence.next(recurrence, Number.POSITIVE_INFINITY), undefined)
    assert.equal(typeof Recurrence.next(recurrence, Number.NEGATIVE_INFINITY), "number")
    assert.deepEqual(Recurrence.latest(recurrence, 0, Number.NaN, 1), [])
    assert.deepEqual(
      Recurrence.latest(recurrence, 0, Number.POSITIVE_INFINITY, 1).map(iso),
      ["2261-01-01T00:00:00.000Z"],
    )
  })

  const refused: ReadonlyArray<readonly [unknown, RegExp]> = [
    ["", /5 or 6 fields/],
    ["   ", /5 or 6 fields/],
    [undefined, /5 or 6 fields/],
    [5, /5 or 6 fields/],
    [new Date(0), /5 or 6 fields/],
    ["* * * *", /5 or 6 fields/],
    ["* * * * * * * *", /5 or 6 fields/],
    ["0 0 0 1 1 * 2030", /years can't be given.*from and until/],
    ["2030-01-31T09:00:00Z", /it is an instant/],
    ["2030-01-31 09:00:00", /it is an instant/],
    ["0 0 ? * MON", /write "\*"/],
    ["@every 5m", /the nicknames are @yearly/],
    ["@reboot", /the nicknames are @yearly/],
    ["0 0 31 2 *", /no date fits it/],
    ["0 0 31 2,4,6,9,11 *", /no date fits it/],
    ["0 0 30 2 +MON", /no date fits it/],
    ["60 * * * *", /the minute 60 is not one from 0 to 59/],
    ["0 24 * * *", /the hour 24 is not one from 0 to 23/],
    ["0 0 0 * *", /the day of the month 0 is not one from 1 to 31/],
    ["0 0 32 * *", /the day of the month 32 is not/],
    ["0 0 * 13 *", /the month 13 is not one from 1 to 12/],
    ["0 0 * * 8", /the day of the week 8 is not/],
    ["0 0 * * 1-9", /the day of the week 9 is not/],
    ["0 0 * MON *", /the month MON is not/],
    ["*/0 * * * *", /the step 0 of the minute/],
    ["5/61 * * * *", /the step 61 of the minute/],
    ["0 0 * * MONDAY", /stand alone/],
    ["0 0 * * FRI#6", /nth weekday/],
    ["0 0 L-3 * *", /L has to be a value of its own/],
    ["0 0 20-5W * *", /W is not allowed in a range/],
    ["H * * * *", /illegal characters/],
    ["1,,2 * * * *", /empty/],
    [`${"0,".repeat(300)}0 * * * *`, /longer than 500/],
  ]
  for (const [pattern, reason] of refused) {
    it(`is refused: ${String(pattern).slice(0, 30)}`, () => {
      const recurrence = cron(pattern as string)
      const error = Recurrence.check(recurrence)
      assert.ok(error instanceof InvalidOptions)
      assert.equal(error.field, "schedule")
      assert.match(error.reason, reason)
      assert.doesNotMatch(error.reason, /CronPattern/)
      assert.throws(() => Recurrence.next(recurrence, 0), InvalidOptions)
      assert.throws(() => Recurrence.latest(recurrence, 0, 1, 1), InvalidOptions)
    })
  }
})

describe("a time zone", () => {
  for (const zone of ["UTC", "Etc/UTC", "Europe/Berlin", "america/new_york", "US/Eastern"]) {
    it(`can be ${zone}`, () => assert.equal(Recurrence.check(cron("0 0 * * *", zone)), undefined))
  }
  for (const zone of ["", "Mars/Olympus", "+02:00", "-0500", " UTC", "local", undefined, null, 2]) {
    it(`is refused: ${JSON.stringify(zone)}`, () => {
      const recurrence = cron("0 0 * * *", zone as string)
      const error = zone === undefined
        ? Recurrence.check({ _tag: "Cron", pattern: "0 0 * * *" } as Recurrence.Recurrence)
        : Recurrence.check(recurrence)
      assert.ok(error instanceof InvalidOptions)
      assert.equal(error.field, "timeZone")
      assert.match(error.message, /"Europe\/Berlin" or "UTC"/)
      if (zone !== undefined) assert.throws(() => Recurrence.next(recurrence, 0), InvalidOptions)
    })
  }
})

describe("an interval", () => {
  const every: Recurrence.Recurrence = { _tag: "Every", millis: 1_500, anchor: 10_000 }

  it("is due at its anchor and ever after", () => {
    assert.deepEqual(following(every, 0, 3), [10_000, 11_500, 13_000])
    assert.equal(Recurrence.next(every, 9_999), 10_000)
    assert.equal(Recurrence.next(every, 9_999.5), 10_000)
    assert.equal(Recurrence.next(every, 10_000), 11_500)
    assert.equal(Recurrence.next(every, 11_499.5), 11_500)
    assert.equal(Recurrence.next(every, Number.NEGATIVE_INFINITY), 10_000)
    assert.equal(Recurrence.next(every, maxInstantMillis - 1), undefined)
  })

  it("may begin before 1970", () => {
    const early: Recurrence.Recurrence = { _tag: "Every", millis: 1_500, anchor: -10_000 }
    assert.deepEqual(following(early, -8_000, 2), [-7_000, -5_500])
  })

  it("has a latest tick, never before its anchor", () => {
    assert.deepEqual(Recurrence.latest(every, 0, 9_999, 5), [])
    assert.deepEqual(Recurrence.latest(every, 0, 12_000, 5), [10_000, 11_500])
    assert.deepEqual(Recurrence.latest(every, 10_000, 13_000, 5), [11_500, 13_000])
    assert.deepEqual(Recurrence.latest(every, 0, 13_000, 1), [13_000])
    assert.deepEqual(Recurrence.latest(every, 0, 13_000, 0), [])
    assert.deepEqual(Recurrence.latest(every, 13_000, 13_000, 5), [])
  })

  const refused: ReadonlyArray<readonly [unknown, unknown]> = [
    [999, 0],
    [0, 0],
    [-1_000, 0],
    [1_000.5, 0],
    [Number.NaN, 0],
    [Number.POSITIVE_INFINITY, 0],
    [maxDelayMillis + 1, 0],
    ["1000", 0],
    [undefined, 0],
    [1_000, Number.NaN],
    [1_000, 0.5],
    [1_000, maxInstantMillis],
    [1_000, undefined],
  ]
  for (const [millis, anchor] of refused) {
    it(`is refused: ${millis} from ${anchor}`, () => {
      const recurrence = { _tag: "Every", millis, anchor } as Recurrence.Recurrence
      const error = Recurrence.check(recurrence)
      assert.equal(error?.field, "schedule")
      assert.match(error?.message ?? "", /whole milliseconds/)
      assert.throws(() => Recurrence.next(recurrence, 0), InvalidOptions)
    })
  }
})

describe("a list of instants", () => {
  const at: Recurrence.Recurrence = { _tag: "At", instants: [-5, 10, 20, 1_000] }

  it("is due at each, then no more", () => {
    assert.deepEqual(following(at, -100, 9), [-5, 10, 20, 1_000])
    assert.equal(Recurrence.next(at, 10), 20)
    assert.equal(Recurrence.next(at, 1_000), undefined)
  })

  it("has a latest", () => {
    assert.deepEqual(Recurrence.latest(at, -5, 20, 9), [10, 20])
    assert.deepEqual(Recurrence.latest(at, -100, 5_000, 2), [20, 1_000])
  })

  const refused: ReadonlyArray<readonly [unknown, RegExp]> = [
    [[], /1 to 1000/],
    [Array.from({ length: 1_001 }, (_, index) => index), /1001 instants.*1 to 1000/],
    [[2, 1], /ascend/],
    [[1, 1], /ascend/],
    [[1, Number.NaN], /whole milliseconds/],
    [[0.5], /whole milliseconds/],
    [["1"], /whole milliseconds/],
    [[maxInstantMillis], /before 2262/],
    ["2030-01-01", /a list of instants is expected/],
    [undefined, /a list of instants is expected/],
  ]
  for (const [index, [instants, reason]] of refused.entries()) {
    it(`is refused, case ${index}`, () => {
      const recurrence = { _tag: "At", instants } as Recurrence.Recurrence
      assert.equal(Recurrence.check(recurrence)?.field, "schedule")
      assert.match(Recurrence.check(recurrence)?.message ?? "", reason)
      assert.throws(() => Recurrence.next(recurrence, 0), InvalidOptions)
    })
  }
})

describe("what is no schedule", () => {
  for (const value of [undefined, null, "0 0 * * *", {}, { _tag: "Never" }]) {
    it(`is refused: ${JSON.stringify(value)}`, () => {
      const error = Recurrence.check(value as unknown as Recurrence.Recurrence)
      assert.equal(error?.field, "schedule")
    })
  }
})

describe("the latest instants", () => {
  const from = Date.UTC(2027, 0, 1)
  const month = 31 * 86_400_000

  it("of an entry per second after a month cost what is asked for", () => {
    const recurrence = cron("* * * * * *", "Europe/Berlin")
    Recurrence.next(recurrence, from)
    const started = performance.now()
    assert.deepEqual(Recurrence.latest(recurrence, from, from + month, 1), [from + month])
    const last = Recurrence.latest(recurrence, from, from + month + 500, 100)
    assert.deepEqual(last, Array.from({ length: 100 }, (_, i) => from + month - (99 - i) * 1_000))
    // All of them are 2,678,400 and take seconds
    assert.ok(performance.now() - started < 250)
  })

  it("of an entry with one busy day a year cost no more", () => {
    const recurrence = cron("* * * 1 1 *", "Europe/Berlin")
    const started = performance.now()
    const last = Recurrence.latest(recurrence, from - 20 * month, from + 11 * month, 2)
    assert.deepEqual(last.map(iso), ["2027-01-01T22:59:58.000Z", "2027-01-01T22:59:59.000Z"])
    assert.ok(performance.now() - started < 250)
  })

  it("are those of next, the last of them", () => {
    for (const pattern of ["*/7 * * * *", "30 1,2 * * *", "0 0 L * *"]) {
      const recurrence = cron(pattern, "Europe/Berlin")
      const all = following(recurrence, from, 400)
      const until = all.at(-1) as number
      assert.deepEqual(Recurrence.latest(recurrence, from, until, 1_000), all)
      assert.deepEqual(Recurrence.latest(recurrence, from, until, 7), all.slice(-7))
      assert.deepEqual(Recurrence.latest(recurrence, all[9] as number, until - 1, 1_000), [
        ...all.slice(10, -1),
      ])
    }
  })

  it("are none where nothing is due", () => {
    const yearly = cron("0 0 1 1 *")
    assert.deepEqual(Recurrence.latest(yearly, from, from + month, 5), [])
    assert.deepEqual(Recurrence.latest(yearly, from - 1, from, 5), [from])
    assert.deepEqual(Recurrence.latest(yearly, from, from - month, 5), [])
  })
})
