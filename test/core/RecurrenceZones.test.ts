import * as fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Recurrence from "../../src/core/Recurrence.ts"

const cron = (pattern: string, zone: string): Recurrence.Recurrence => ({
  _tag: "Cron",
  pattern,
  zone,
})

const iso = (instant: number): string => new Date(instant).toISOString()

/** What is due in (after, until], each instant found from the one before. */
const between = (recurrence: Recurrence.Recurrence, after: number, until: number) => {
  const found: Array<number> = []
  for (;;) {
    const last: number | undefined = Recurrence.next(recurrence, found.at(-1) ?? after)
    if (last === undefined || last > until) return found
    assert.ok(last > (found.at(-1) ?? after), "next goes forward")
    found.push(last)
  }
}

type Row = readonly [fact: string, pattern: string, after: string, due: ReadonlyArray<string>]

/** By hand: what is due after an instant, in this order and nothing between. */
const tables: Readonly<Record<string, ReadonlyArray<Row>>> = {
  // 2027-03-28 02:00+01:00 becomes 03:00+02:00; 2027-10-31 03:00+02:00 becomes 02:00+01:00
  "Europe/Berlin": [
    ["runs a fixed time within the gap at its end", "30 2 * * *", "2027-03-27T00:00+01:00", [
      "2027-03-27T02:30+01:00",
      "2027-03-28T03:00+02:00",
      "2027-03-29T02:30+02:00",
    ]],
    ["runs the first time of the gap at its end", "0 2 * * *", "2027-03-28T00:00+01:00", [
      "2027-03-28T03:00+02:00",
      "2027-03-29T02:00+02:00",
    ]],
    ["runs once what is due in the gap and at its end", "0,20,40 2,3 * * *", "2027-03-28T01:00Z", [
      "2027-03-28T03:20+02:00",
      "2027-03-28T03:40+02:00",
      "2027-03-29T02:00+02:00",
    ]],
    ["finds the gap's end from just before it", "0,20,40 2,3 * * *", "2027-03-28T00:59:59.999Z", [
      "2027-03-28T03:00+02:00",
      "2027-03-28T03:20+02:00",
    ]],
    ["runs an interval within the gap at its end", "45 * * * *", "2027-03-28T00:00+01:00", [
      "2027-03-28T00:45+01:00",
      "2027-03-28T01:45+01:00",
      "2027-03-28T03:00+02:00",
      "2027-03-28T03:45+02:00",
    ]],
    ["runs an interval through the gap", "*/30 * * * *", "2027-03-28T01:00+01:00", [
      "2027-03-28T01:30+01:00",
      "2027-03-28T03:00+02:00",
      "2027-03-28T03:30+02:00",
    ]],
    ["runs each second through the gap", "* * * * * *", "2027-03-28T01:59:58+01:00", [
      "2027-03-28T01:59:59+01:00",
      "2027-03-28T03:00:00+02:00",
      "2027-03-28T03:00:01+02:00",
    ]],
    ["runs a fixed time of the overlap in the first pass", "30 2 * * *", "2027-10-30T12:00+02:00", [
      "2027-10-31T02:30+02:00",
      "2027-11-01T02:30+01:00",
    ]],
    ["runs a fixed list of the overlap in the first pass", "0 1,2,3 * * *", "2027-10-30T23:00Z", [
      "2027-10-31T02:00+02:00",
      "2027-10-31T03:00+01:00",
      "2027-11-01T01:00+01:00",
    ]],
    ["passes over the second pass from within it", "30 2 * * *", "2027-10-31T02:10+01:00", [
      "2027-11-01T02:30+01:00",
    ]],
    ["runs a fixed time with seconds once", "15 30 2 * * *", "2027-10-31T00:00+02:00", [
      "2027-10-31T02:30:15+02:00",
      "2027-11-01T02:30:15+01:00",
    ]],
    ["runs an interval in both passes", "30 * * * *", "2027-10-31T01:00+02:00", [
      "2027-10-31T01:30+02:00",
      "2027-10-31T02:30+02:00",
      "2027-10-31T02:30+01:00",
      "2027-10-31T03:30+01:00",
    ]],
    ["runs a range of hours in both passes", "0 1-3 * * *", "2027-10-31T00:00+02:00", [
      "2027-10-31T01:00+02:00",
      "2027-10-31T02:00+02:00",
      "2027-10-31T02:00+01:00",
      "2027-10-31T03:00+01:00",
      "2027-11-01T01:00+01:00",
    ]],
    ["runs a step in both passes", "15/30 2 * * *", "2027-10-31T00:00+02:00", [
      "2027-10-31T02:15+02:00",
      "2027-10-31T02:45+02:00",
      "2027-10-31T02:15+01:00",
      "2027-10-31T02:45+01:00",
      "2027-11-01T02:15+01:00",
    ]],
    ["runs seconds of an interval in both passes", "*/30 59 2 * * *", "2027-10-31T00:00+02:00", [
      "2027-10-31T02:59:00+02:00",
      "2027-10-31T02:59:30+02:00",
      "2027-10-31T02:59:00+01:00",
      "2027-10-31T02:59:30+01:00",
      "2027-11-01T02:59:00+01:00",
    ]],
    ["runs the second pass of a rare interval", "*/30 2 31 10 *", "2027-10-31T02:30+02:00", [
      "2027-10-31T02:00+01:00",
      "2027-10-31T02:30+01:00",
      "2028-10-31T02:00+01:00",
    ]],
    ["keeps the hour of a week across both shifts", "0 9 * * MON", "2027-03-20T00:00Z", [
      "2027-03-22T09:00+01:00",
      "2027-03-29T09:00+02:00",
    ]],
    ["keeps the hour of a week in autumn", "0 9 * * MON", "2027-10-20T00:00Z", [
      "2027-10-25T09:00+02:00",
      "2027-11-01T09:00+01:00",
    ]],
    ["keeps a day that is a shift's", "30 2 28 3 *", "2027-01-01T00:00Z", [
      "2027-03-28T03:00+02:00",
      "2028-03-28T02:30+02:00",
    ]],
    ["ends the year by its own clocks", "59 59 23 31 12 *", "2027-01-01T00:00Z", [
      "2027-12-31T23:59:59+01:00",
      "2028-12-31T23:59:59+01:00",
    ]],
    ["has leap days by its own clocks", "0 0 29 2 *", "2027-01-01T00:00Z", [
      "2028-02-29T00:00+01:00",
      "2032-02-29T00:00+01:00",
    ]],
  ],
  // 2027-03-14 02:00-05:00 becomes 03:00-04:00; 2027-11-07 02:00-04:00 becomes 01:00-05:00
  "America/New_York": [
    ["runs a fixed time within the gap at its end", "59 2 * * *", "2027-03-13T12:00-05:00", [
      "2027-03-14T03:00-04:00",
      "2027-03-15T02:59-04:00",
    ]],
    ["runs a fixed time of the overlap once", "0 1 * * *", "2027-11-06T12:00-04:00", [
      "2027-11-07T01:00-04:00",
      "2027-11-08T01:00-05:00",
    ]],
    ["runs the hour after the overlap once", "0 2 * * *", "2027-11-06T12:00-04:00", [
      "2027-11-07T02:00-05:00",
      "2027-11-08T02:00-05:00",
    ]],
    ["has the last Friday and the 31st", "0 17 31 * FRIL", "2027-12-01T00:00-05:00", [
      "2027-12-31T17:00-05:00",
      "2028-01-28T17:00-05:00",
      "2028-01-31T17:00-05:00",
    ]],
  ],
  // half an hour: 2027-10-03 02:00+10:30 becomes 02:30+11:00; 2027-04-04 02:00+11:00 01:30+10:30
  "Australia/Lord_Howe": [
    ["runs a time within half an hour's gap at its end", "15 2 * * *", "2027-10-02T12:00+10:30", [
      "2027-10-03T02:30+11:00",
      "2027-10-04T02:15+11:00",
    ]],
    ["runs a time after the gap in its place", "45 2 * * *", "2027-10-02T12:00+10:30", [
      "2027-10-03T02:45+11:00",
    ]],
    ["runs a fixed time of half an hour's overlap once", "45 1 * * *", "2027-04-03T12:00+11:00", [
      "2027-04-04T01:45+11:00",
      "2027-04-05T01:45+10:30",
    ]],
    ["runs an interval of the overlap twice", "*/15 * * * *", "2027-04-04T01:15+11:00", [
      "2027-04-04T01:30+11:00",
      "2027-04-04T01:45+11:00",
      "2027-04-04T01:30+10:30",
      "2027-04-04T01:45+10:30",
      "2027-04-04T02:00+10:30",
    ]],
  ],
  // for good: 2016-05-01 02:30-04:30 became 03:00-04:00
  "America/Caracas": [
    ["runs a time that a new offset leaves out", "45 2 * * *", "2016-04-30T00:00-04:30", [
      "2016-04-30T02:45-04:30",
      "2016-05-01T03:00-04:00",
      "2016-05-02T02:45-04:00",
    ]],
  ],
  // for good: 2020-12-27 02:00+04:00 became 01:00+03:00
  "Europe/Volgograd": [
    ["runs once a time that a new offset repeats", "30 1 * * *", "2020-12-26T12:00+04:00", [
      "2020-12-27T01:30+04:00",
      "2020-12-28T01:30+03:00",
    ]],
    ["runs an interval that a new offset repeats", "30 * * * *", "2020-12-27T01:00+04:00", [
      "2020-12-27T01:30+04:00",
      "2020-12-27T01:30+03:00",
      "2020-12-27T02:30+03:00",
    ]],
  ],
  // 2011-12-29 24:00-10:00 became 2011-12-31 00:00+14:00
  "Pacific/Apia": [
    ["runs once for a day that is left out", "0 12 * * *", "2011-12-28T18:00-10:00", [
      "2011-12-29T12:00-10:00",
      "2011-12-31T00:00+14:00",
      "2011-12-31T12:00+14:00",
    ]],
    ["runs an interval once for that day", "0 */8 * * *", "2011-12-29T09:00-10:00", [
      "2011-12-29T16:00-10:00",
      "2011-12-31T00:00+14:00",
      "2011-12-31T08:00+14:00",
    ]],
    ["runs the day itself at the start of the next", "0 9 30 * *", "2011-12-01T00:00-10:00", [
      "2011-12-31T00:00+14:00",
      "2012-01-30T09:00+14:00",
    ]],
  ],
  // Ramadan of 2024: 2024-03-10 03:00+01:00 became 02:00+00:00; 2024-04-14 02:00+00:00 03:00+01:00
  "Africa/Casablanca": [
    ["runs a time once when Ramadan begins", "30 2 * * *", "2024-03-09T12:00+01:00", [
      "2024-03-10T02:30+01:00",
      "2024-03-11T02:30+00:00",
    ]],
    ["runs a time at the gap's end when Ramadan ends", "30 2 * * *", "2024-04-13T12:00+00:00", [
      "2024-04-14T03:00+01:00",
      "2024-04-15T02:30+01:00",
    ]],
  ],
  // 2018-11-04 00:00-03:00 became 01:00-02:00; 2019-02-17 00:00-02:00 became 2019-02-16 23:00-03:00
  "America/Sao_Paulo": [
    ["runs a missing midnight at one", "0 0 * * *", "2018-11-03T12:00-03:00", [
      "2018-11-04T01:00-02:00",
      "2018-11-05T00:00-02:00",
    ]],
    ["runs midnight's day of the week at one", "@weekly", "2018-10-30T00:00-03:00", [
      "2018-11-04T01:00-02:00",
      "2018-11-11T00:00-02:00",
    ]],
    ["runs the repeated hour before midnight once", "30 23 * * *", "2019-02-16T12:00-02:00", [
      "2019-02-16T23:30-02:00",
      "2019-02-17T23:30-03:00",
    ]],
    ["runs midnight after the repeated hour once", "0 0 * * *", "2019-02-16T12:00-02:00", [
      "2019-02-17T00:00-03:00",
      "2019-02-18T00:00-03:00",
    ]],
  ],
  // 44 minutes and 30 seconds behind UTC until 1972-01-07
  "Africa/Monrovia": [
    ["has seconds in its offset of old", "0 12 * * *", "1972-01-05T12:44:30Z", [
      "1972-01-06T12:44:30Z",
      "1972-01-07T12:00Z",
    ]],
    ["runs a time in a gap of odd length at its end", "15 0 * * *", "1972-01-06T12:00Z", [
      "1972-01-07T00:44:30Z",
      "1972-01-08T00:15Z",
    ]],
  ],
  // 2000-10-08 00:00-04:00 became 01:00-03:00, and 2000-10-15 00:00-03:00 2000-10-14 23:00-04:00
  "America/Boa_Vista": [
    ["has a summer time of a week", "0 12 8,14,15 * *", "2000-09-30T12:00-04:00", [
      "2000-10-08T12:00-03:00",
      "2000-10-14T12:00-03:00",
      "2000-10-15T12:00-04:00",
    ]],
  ],
  // 1945-04-02 02:00+01:00 became 03:00+02:00, and 1945-04-12 03:00+02:00 02:00+01:00
  "Europe/Vienna": [
    ["has a summer time of ten days", "0 12 1,2,11,12 4 *", "1945-03-31T12:00+01:00", [
      "1945-04-01T12:00+01:00",
      "1945-04-02T12:00+02:00",
      "1945-04-11T12:00+02:00",
      "1945-04-12T12:00+01:00",
    ]],
  ],
  // 1998-10-01 04:00+04:00 became 03:00+03:00, at midnight in UTC
  "Asia/Baghdad": [
    ["runs a time once, repeated from UTC's midnight on", "30 3 * * *", "1998-09-30T12:00+04:00", [
      "1998-10-01T03:30+04:00",
      "1998-10-02T03:30+03:00",
    ]],
  ],
  "Pacific/Kiritimati": [
    ["begins the year before everybody else", "@yearly", "2027-06-01T00:00Z", [
      "2028-01-01T00:00+14:00",
      "2029-01-01T00:00+14:00",
    ]],
  ],
  "Asia/Kathmandu": [
    ["has quarters of an hour", "0 * * * *", "2027-06-01T00:00Z", [
      "2027-06-01T06:00+05:45",
      "2027-06-01T07:00+05:45",
    ]],
  ],
}

for (const [zone, rows] of Object.entries(tables)) {
  describe(`a pattern in ${zone}`, () => {
    for (const [fact, pattern, after, due] of rows) {
      it(`${fact}: ${pattern}`, () => {
        const recurrence = cron(pattern, zone)
        const instants = due.map((text) => Date.parse(text))
        const from = Date.parse(after)
        const until = instants.at(-1) as number
        assert.deepEqual(between(recurrence, from, until).map(iso), instants.map(iso))
        assert.deepEqual(Recurrence.latest(recurrence, from, until, 100), instants)
        assert.deepEqual(Recurrence.latest(recurrence, from, until, 1), [until])
      })
    }
  })
}

describe("the latest instant", () => {
  it("before the second pass of a rare interval is in the first", () => {
    const recurrence = cron("30-59/15 2 31 10 *", "Europe/Berlin")
    const until = Date.parse("2027-10-31T02:10+01:00")
    assert.deepEqual(Recurrence.latest(recurrence, Date.UTC(2026, 0, 1), until, 2), [
      Date.parse("2027-10-31T02:30+02:00"),
      Date.parse("2027-10-31T02:45+02:00"),
    ])
  })
})

const minute = 60_000
const day = 86_400_000

/** What the clocks show at each minute from an instant on, by the fields that Intl writes. */
const clocks = (zone: string, from: number, minutes: number): ReadonlyArray<number> => {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
  })
  return Array.from({ length: minutes }, (_, index) => {
    const fields = Object.fromEntries(
      format.formatToParts(from + index * minute).map(({ type, value }) => [type, Number(value)]),
    )
    return Date.UTC(
      fields["year"] as number,
      (fields["month"] as number) - 1,
      fields["day"],
      fields["hour"],
      fields["minute"],
    )
  })
}

/** The values of a field, by the simplest reading: ascending ranges, steps and lists. */
const valuesOf = (text: string, first: number, last: number): ReadonlySet<number> => {
  const values = new Set<number>()
  for (const item of text.split(",")) {
    const [range = "", step] = item.split("/")
    const [low, high] = range === "*" ? [first, last] : range.split("-").map(Number)
    const end = high ?? (step === undefined ? low : last)
    for (let value = low as number; value <= (end as number); value += Number(step ?? 1)) {
      values.add(value)
    }
  }
  return values
}

const matcherOf = (pattern: string): (wall: number) => boolean => {
  const texts = pattern.split(" ") as [string, string, string, string, string]
  const minutes = valuesOf(texts[0], 0, 59)
  const hours = valuesOf(texts[1], 0, 23)
  const days = valuesOf(texts[2], 1, 31)
  const months = valuesOf(texts[3], 1, 12)
  const weekdays = valuesOf(texts[4], 0, 7)
  const either = texts[2] !== "*" && texts[4] !== "*"
  return (wall) => {
    const date = new Date(wall)
    const inMonth = days.has(date.getUTCDate())
    const weekday = date.getUTCDay()
    const inWeek = weekdays.has(weekday) || weekday === 0 && weekdays.has(7)
    return minutes.has(date.getUTCMinutes()) && hours.has(date.getUTCHours()) &&
      months.has(date.getUTCMonth() + 1) && (either ? inMonth || inWeek : inMonth && inWeek)
  }
}

/** Minute by minute: which are due, by the rules as the documentation says them. */
const scan = (pattern: string, from: number, walls: ReadonlyArray<number>) => {
  const matches = matcherOf(pattern)
  const fixed = !/[*/-]/.test(pattern.split(" ").slice(0, 2).join(" "))
  const due: Array<number> = []
  let furthest = walls[0] as number
  for (const [index, wall] of walls.entries()) {
    if (index === 0) continue
    const before = fixed ? furthest : Math.min(walls[index - 1] as number, wall - minute)
    for (let shown = before + minute; shown <= wall; shown += minute) {
      if (!matches(shown)) continue
      due.push(from + index * minute)
      break
    }
    furthest = Math.max(furthest, wall)
  }
  return due
}

/** Shifts of the clocks, each in the middle of the days scanned. */
const shifts: ReadonlyArray<readonly [string, string]> = [
  ["Europe/Berlin", "2027-03-28T01:00Z"],
  ["Europe/Berlin", "2027-10-31T01:00Z"],
  ["America/New_York", "2027-11-07T06:00Z"],
  ["Australia/Lord_Howe", "2027-10-02T15:30Z"],
  ["Australia/Lord_Howe", "2027-04-03T15:00Z"],
  ["America/Sao_Paulo", "2018-11-04T03:00Z"],
  ["America/Sao_Paulo", "2019-02-17T02:00Z"],
  ["America/Caracas", "2016-05-01T07:00Z"],
  ["Asia/Pyongyang", "2015-08-14T15:00Z"],
  ["Pacific/Apia", "2011-12-30T10:00Z"],
  // Clocks that went back by 23 hours, and ahead by 24
  ["Pacific/Kwajalein", "1969-09-30T13:00Z"],
  ["Pacific/Kwajalein", "1993-08-21T12:00Z"],
  ["Africa/Casablanca", "2024-03-10T02:00Z"],
  ["Africa/Cairo", "2014-05-15T22:00Z"],
  ["Antarctica/Troll", "2027-03-28T01:00Z"],
  ["Pacific/Chatham", "2027-04-03T14:00Z"],
  ["America/Argentina/Tucuman", "2004-06-07T00:00Z"],
]

const item = (first: number, last: number): fc.Arbitrary<string> =>
  fc.tuple(fc.integer({ min: first, max: last }), fc.integer({ min: first, max: last }))
    .chain(([a, b]) =>
      fc.constantFrom(
        String(a),
        `${Math.min(a, b)}-${Math.max(a, b)}`,
        `*/${Math.max(a, 1)}`,
        `${a}/${Math.max(b, 1)}`,
      )
    )

const list = (first: number, last: number): fc.Arbitrary<string> =>
  fc.array(fc.integer({ min: first, max: last }), { minLength: 1, maxLength: 4 })
    .map((values) => values.join(","))

const field = (first: number, last: number): fc.Arbitrary<string> =>
  fc.oneof(list(first, last), item(first, last), fc.constant("*"))

const mostly = (often: string, field: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(often) }, { weight: 1, arbitrary: field })

const patterns = fc.tuple(
  field(0, 59),
  fc.oneof(field(0, 23), list(0, 4)),
  mostly("*", item(1, 28)),
  mostly("*", item(1, 12)),
  mostly("*", item(0, 6)),
).map((fields) => fields.join(" "))

describe("a scan of every minute", () => {
  const days = 5
  for (const [zone, shift] of shifts) {
    it(`finds what next and latest find in ${zone} around ${shift}`, () => {
      const from = Date.parse(shift) - days / 2 * day
      const walls = clocks(zone, from, days * 1_440)
      const until = from + (walls.length - 1) * minute
      fc.assert(
        fc.property(patterns, fc.integer({ min: 0, max: days * day }), (pattern, ahead) => {
          const recurrence = cron(pattern, zone)
          const due = scan(pattern, from, walls)
          assert.deepEqual(between(recurrence, from, until).map(iso), due.map(iso), pattern)
          assert.deepEqual(Recurrence.latest(recurrence, from, until, Infinity), due, pattern)
          const within = Math.min(from + ahead, until)
          assert.equal(
            between(recurrence, within, until)[0],
            due.find((instant) => instant > within),
          )
          assert.deepEqual(
            Recurrence.latest(recurrence, from, within, 3),
            due.filter((instant) => instant <= within).slice(-3),
          )
        }),
        { numRuns: 25 },
      )
    })
  }
})

describe("next", () => {
  it("goes forward through any years of any zone, and latest finds the same", () => {
    const zones = fc.constantFrom(...shifts.map(([zone]) => zone), "Africa/Monrovia", "UTC")
    const seconds = fc.oneof(fc.constant("0"), field(0, 59))
    const after = fc.integer({ min: Date.UTC(1900, 0, 1), max: Date.UTC(2200, 0, 1) })
    fc.assert(
      fc.property(zones, seconds, patterns, after, (zone, second, pattern, start) => {
        const recurrence = cron(`${second} ${pattern}`, zone)
        const found: Array<number> = []
        while (found.length < 12) {
          const last: number = Recurrence.next(recurrence, found.at(-1) ?? start) as number
          assert.ok(last > (found.at(-1) ?? start))
          found.push(last)
        }
        const until = found.at(-1) as number
        assert.deepEqual(Recurrence.latest(recurrence, start, until, 100), found)
        assert.deepEqual(Recurrence.latest(recurrence, start, until, 5), found.slice(-5))
      }),
      { numRuns: 500 },
    )
  })
})
