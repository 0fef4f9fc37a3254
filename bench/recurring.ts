/**
 * Recurring entries: how late their runs begin, how long a thousand take that are due in the same
 * second, and what they cost while nothing is due.
 */
import { atRest } from "./recurring/atRest.ts"
import { type Burst, burst } from "./recurring/burst.ts"
import { catchUp } from "./recurring/catchUp.ts"
import { costs } from "./recurring/cost.ts"
import { precision } from "./recurring/precision.ts"
import { openArena } from "./support/arena.ts"
import { progress, readOptions } from "./support/options.ts"
import { summarize } from "./support/statistics.ts"
import { decimal, table, whole } from "./support/table.ts"

const options = readOptions({ jobs: 10_000, seconds: 30, runs: 3 })
const { jobs: many, runs, seconds } = options
const isChosen = (part: string): boolean => part.includes(options.only)
const arena = await openArena(options)

/** The medians of a burst, repeated. */
const bursts = async (entries: number, servers: number) => {
  const all: Array<Burst> = []
  for (let run = 0; run < runs; run++) {
    all.push(await burst(arena, entries, servers))
    progress(`  ${whole(entries)} on ${servers}: ${decimal(all.at(-1)?.storedLast, 0)} ms`)
  }
  const median = (of: keyof Burst) => summarize(all.map((one) => one[of])).median
  return {
    name: `${whole(entries)} entries, ${servers === 1 ? "1 server" : `${servers} servers`}`,
    storedHalf: median("storedHalf"),
    storedLast: median("storedLast"),
    worstStoredLast: summarize(all.map(({ storedLast }) => storedLast)).max,
    beganHalf: median("beganHalf"),
    beganLast: median("beganLast"),
    cpuMillis: median("cpuMillis"),
    natsCpuMillis: median("natsCpuMillis"),
  }
}

const found: Record<string, ReadonlyArray<object>> = {}
const report = (
  part: string,
  what: string,
  results: ReadonlyArray<object>,
  headings: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
) => {
  found[part] = results
  if (!options.json) console.log(`\n${what}\n\n${table(headings, rows)}`)
}

if (isChosen("precision")) {
  const results = []
  for (const entries of [1, 10, 100]) {
    progress(`${entries} due each second, for ${seconds} s`)
    results.push(await precision(arena, entries, seconds))
  }
  report(
    "precision",
    "Milliseconds from the nominal time to the first line of the handler",
    results,
    ["each second", "runs", "p50", "p95", "p99", "p99.9", "max", "≤ 50 ms", "≤ 500 ms"],
    results.map((result) => [
      result.name,
      whole(result.samples),
      ...[result.p50, result.p95, result.p99, result.p999, result.max].map((millis) =>
        decimal(millis, 0)
      ),
      `${decimal(result.within50 * 100, 1)} %`,
      `${decimal(result.within500 * 100, 1)} %`,
    ]),
  )
}

if (isChosen("burst")) {
  progress(`bursts, ${runs} of each`)
  const some = Math.min(1_000, many)
  const results = [await bursts(some, 1), await bursts(some, 2), await bursts(many, 1)]
  report(
    "burst",
    "All due in the same second, ms after it",
    results,
    [
      "burst",
      "half stored",
      "all stored",
      "worst run",
      "half began",
      "all began",
      "CPU ms each",
      "nats-server",
    ],
    results.map((result) => [
      result.name,
      ...[
        result.storedHalf,
        result.storedLast,
        result.worstStoredLast,
        result.beganHalf,
        result.beganLast,
      ].map(whole),
      decimal(result.cpuMillis, 2),
      decimal(result.natsCpuMillis, 2),
    ]),
  )
}

if (isChosen("rest")) {
  const results = []
  for (const entries of [0, many]) {
    progress(`${whole(entries)} entries at rest, for ${seconds} s`)
    results.push(await atRest(arena, entries, seconds))
  }
  report(
    "rest",
    "Nothing due; CPU in percent of one core",
    results,
    [
      "entries",
      "s to declare",
      "s again",
      "bytes each",
      "CPU %",
      "RSS MiB",
      "nats-server CPU %",
      "its RSS",
    ],
    results.map((result) => [
      whole(result.entries),
      decimal(result.declareSeconds, 2),
      decimal(result.declareAgainSeconds, 2),
      decimal(result.bytesPerEntry, 0),
      decimal(result.cpuPercent, 2),
      decimal(result.residentMiB, 0),
      decimal(result.natsCpuPercent, 2),
      decimal(result.natsResidentMiB, 0),
    ]),
  )
}

if (isChosen("catch-up")) {
  progress("catching up with a day")
  const results = await catchUp(arena)
  report(
    "catch-up",
    "One look at an entry of each second after a day without a server",
    results,
    ["missed times", "runs", "ms", "longest pause of the process"],
    results.map(({ blockedMillis, millis, name, runs }) => [
      name,
      whole(runs),
      decimal(millis, 1),
      decimal(blockedMillis, 1),
    ]),
  )
}

if (isChosen("cost")) {
  progress(`a hundred jobs a second, twice ${seconds} s`)
  const results = await costs(arena, seconds)
  report(
    "cost",
    "A hundred jobs each second, processor time per job",
    results,
    ["made by", "jobs", "CPU ms", "nats-server CPU ms"],
    results.map(({ cpuMillis, jobs, name, natsCpuMillis }) => [
      name,
      whole(jobs),
      decimal(cpuMillis, 2),
      decimal(natsCpuMillis, 2),
    ]),
  )
}
await arena.close()

if (options.json) {
  console.log(
    JSON.stringify({ benchmark: "recurring", machine: arena.machine, options, results: found }),
  )
}
