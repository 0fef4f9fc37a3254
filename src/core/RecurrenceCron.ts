/** Cron patterns: which times of the wall clock they name. */
import { Cron } from "croner"
import * as BoundedCache from "./BoundedCache.ts"
import { InvalidOptions } from "./errors.ts"
import { show } from "./Names.ts"

/**
 * A pattern that can be asked. Times of the wall clock are milliseconds since 1970 read as if they
 * were UTC; what is found is a whole second.
 */
export interface CronPattern {
  /**
   * Whether it names fixed times of the day: no `*`, range or step stands in its second, minute and
   * hour. The others name an interval.
   */
  readonly fixed: boolean
  /** The first time it names that isn't before `wall`. */
  readonly atOrAfter: (wall: number) => number | undefined
  /** The last time it names that isn't after `wall`. */
  readonly atOrBefore: (wall: number) => number | undefined
}

/** Longer than any pattern needs to be; it is stored with each entry. */
const maxPatternLength = 500

const nicknames: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"],
])

interface Field {
  readonly name: string
  readonly first: number
  readonly last: number
  /** How many values it has: Sunday is both 0 and 7. */
  readonly size: number
  readonly names: ReadonlyArray<string>
}

const field = (
  name: string,
  first: number,
  last: number,
  size: number,
  names: string = "",
): Field => ({ name, first, last, size, names: names.split(" ") })

const fields: ReadonlyArray<Field> = [
  field("second", 0, 59, 60),
  field("minute", 0, 59, 60),
  field("hour", 0, 23, 24),
  field("day of the month", 1, 31, 31),
  field("month", 1, 12, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
  field("day of the week", 0, 7, 7, "SUN MON TUE WED THU FRI SAT"),
]

const valueOf = ({ first, last, name, names }: Field, text: string): number => {
  const named = names.indexOf(text.toUpperCase())
  const value = named === -1 ? Number(text) : first + named
  if (value >= first && value <= last) return value
  throw new Error(`the ${name} ${text} is not one from ${first} to ${last}`)
}

const itemText = /^(\*|[a-z]{3}|\d+)(?:-([a-z]{3}|\d+))?(?:\/(\d+))?(W|#\d|#?L)?$/i

/**
 * An item of a field as croner takes it: `5/15` becomes a range to the end, `22-2` a list over the
 * end. What has another form is left for croner to read or refuse.
 */
const translateItem = (field: Field, item: string): string => {
  const [, from = "", to, step, suffix = ""] = itemText.exec(item) ?? []
  if (from === "") return item
  if (step !== undefined && !(Number(step) >= 1 && Number(step) <= field.size)) {
    throw new Error(`the step ${step} of the ${field.name} is not one from 1 to ${field.size}`)
  }
  if (from === "*") return item
  const start = valueOf(field, from)
  if (to === undefined) return step === undefined ? item : `${start}-${field.last}/${step}${suffix}`
  const end = valueOf(field, to)
  if (start <= end || suffix.toUpperCase() === "W") return item
  const length = (end - start + field.size) % field.size
  const values: Array<string> = []
  for (let passed = 0; passed <= length; passed += Number(step ?? 1)) {
    values.push(`${field.first + (start - field.first + passed) % field.size}${suffix}`)
  }
  return values.join(",")
}

const translateField = (text: string, index: number): string => {
  const sign = index === 5 && text.startsWith("+") ? "+" : ""
  const items = text.slice(sign.length).split(",")
  return sign + items.map((item) => translateItem(fields[index] as Field, item)).join(",")
}

const howTo =
  'a cron pattern has 5 or 6 fields, like "0 9 * * MON-FRI", or is a nickname like "@daily"'

/** The six fields of a pattern, or five where the seconds are left out; throws what is wrong. */
const split = (pattern: string): ReadonlyArray<string> => {
  const text = pattern.trim()
  if (text.length > maxPatternLength) {
    throw new Error(`it is longer than ${maxPatternLength} characters`)
  }
  if (text.startsWith("@") && !nicknames.has(text.toLowerCase())) {
    throw new Error(
      `the nicknames are ${[...nicknames.keys()].join(", ")}; ` +
        "give an interval by its length instead of a pattern",
    )
  }
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    throw new Error("it is an instant; give instants as a list instead of a pattern")
  }
  if (text.includes("?")) throw new Error('write "*" instead of "?"')
  const parts = (nicknames.get(text.toLowerCase()) ?? text).split(/\s+/)
  if (parts.length === 7) {
    throw new Error(
      "years can't be given: leave out the seventh field and bound the entry with from and until",
    )
  }
  if (parts.length !== 5 && parts.length !== 6) throw new Error(howTo)
  return parts
}

/** The earliest time croner is asked about to see whether there is one: the year 2000. */
const reference = new Date(Date.UTC(2000, 0, 1))

const compile = (pattern: string): CronPattern => {
  const parts = split(pattern)
  const six = parts.length === 6 ? parts : ["0", ...parts]
  const cron = new Cron(six.map(translateField).join(" "), { mode: "6-part", utcOffset: 0 })
  // croner looks 400 years ahead: a whole cycle of the calendar
  if (cron.nextRun(reference) === null) throw new Error("no date fits it, so it would never be due")
  return {
    fixed: !parts.slice(0, -3).some((part) => /[*/-]/.test(part)),
    atOrAfter: (wall) => cron.nextRun(new Date(wall - 1))?.getTime(),
    atOrBefore: (wall) => cron.previousRuns(1, new Date(wall + 1))[0]?.getTime(),
  }
}

/** Few are kept, since each takes some 80 KB; to compile one takes less than 0.1 ms. */
const compiled = BoundedCache.make(200, compile)

/** Reads a pattern; one that can't be read, or that no date fits, is refused. */
export const parse = (pattern: unknown): CronPattern | InvalidOptions => {
  const refuse = (reason: string) =>
    new InvalidOptions({ field: "schedule", value: show(pattern), reason })
  if (typeof pattern !== "string" || pattern.trim() === "") return refuse(howTo)
  try {
    return compiled.get(pattern) as CronPattern
  } catch (error) {
    return refuse((error as Error).message.replace("CronPattern: ", ""))
  }
}
