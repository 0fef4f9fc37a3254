/** A run as a report, for machines and for people. */
import { cpus, release, totalmem } from "node:os"
import process from "node:process"
import type { Options } from "./Options.ts"
import type { Result } from "./Torture.ts"
import type { Violation } from "./Verdict.ts"

/** What is known of one kind of fault. */
export interface FaultNumbers {
  readonly count: number
  /** Longest time from the end of one of them to the next completed job, in ms. */
  readonly longestRecovery: number
  /** Longest time without a completed job of those that touch one of them, in ms. */
  readonly longestSilence: number
}

/** All of it as plain data. */
export interface Report {
  readonly seed: number
  readonly topology: string
  readonly replay: string
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  readonly minutes: number
  readonly numbers: Readonly<Record<string, number>>
  readonly faults: Readonly<Record<string, FaultNumbers>>
  readonly longestRecovery: number
  readonly sizes: Result["sizes"]
  readonly violations: ReadonlyArray<Violation>
  readonly stories: ReadonlyArray<string>
}

const measure = (
  { calm, completions, faults }: Result,
): Readonly<Record<string, FaultNumbers>> => {
  const numbers: Record<string, FaultNumbers> = {}
  for (const { from, name, to } of faults) {
    const before = completions.findLast((at) => at <= from) ?? from
    const touching = [before, ...completions.filter((at) => at > from && at <= to)]
    const next = completions.find((at) => at > to) ?? calm
    touching.push(next)
    const silence = touching.reduce(
      (most, at, index) => Math.max(most, at - (touching[index - 1] ?? at)),
      0,
    )
    const known = numbers[name] ?? { count: 0, longestRecovery: 0, longestSilence: 0 }
    numbers[name] = {
      count: known.count + 1,
      longestRecovery: Math.max(known.longestRecovery, next - to),
      longestSilence: Math.max(known.longestSilence, silence),
    }
  }
  return numbers
}

/** How a run is done again. */
export const replayOf = ({ cluster, millis, only, seed }: Options): string =>
  [
    `npm run torture -- --minutes ${Math.round(millis / 600) / 100} --seed ${seed}`,
    ...only.length > 0 ? [`--only ${only.join(",")}`] : [],
    ...cluster ? ["--cluster"] : [],
  ].join(" ")

/** Makes the report of a run. */
export const make = (
  options: Options,
  result: Result,
  versions: Readonly<Record<string, string>>,
): Report => {
  const faults = measure(result)
  const [cpu] = cpus()
  return {
    seed: options.seed,
    topology: options.cluster
      ? "three NATS servers, three replicas"
      : "one NATS server with default settings",
    replay: replayOf(options),
    machine: `${process.platform} ${release()}, ${cpus().length} × ${cpu?.model}, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB`,
    versions,
    minutes: Math.round((result.calm - result.began) / 600) / 100,
    numbers: result.numbers,
    faults,
    longestRecovery: Math.max(0, ...Object.values(faults).map((one) => one.longestRecovery)),
    sizes: result.sizes,
    violations: result.violations,
    stories: result.stories,
  }
}

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<unknown>>): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")

const size = (size: Result["sizes"][number]["first"]) =>
  size === undefined ? "?" : `${size.megabytes} MB, ${size.files} files`

/** The report for people. */
export const markdown = (report: Report): string => {
  const { faults, longestRecovery, machine, minutes, numbers, replay, sizes, stories } = report
  const { seed, topology, versions, violations } = report
  const wrong = violations.map(({ id, rule, text }) => `- **${rule}** ${id} ${text}`)
  const kinds = Object.entries(faults).toSorted(([a], [b]) => a.localeCompare(b))
  const count = kinds.reduce((sum, [, one]) => sum + one.count, 0)
  return [
    `# Torture, seed ${seed}`,
    `${violations.length === 0 ? "No violation" : `**${violations.length} violations**`} in ` +
    `${minutes} minutes with ${count} faults; longest recovery ${longestRecovery} ms.`,
    `Topology: ${topology}. Machine: ${machine}. Versions: ` +
    Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ") + ".",
    `Again: \`${replay}\``,
    ...wrong.length > 0 ? ["## Violations", wrong.join("\n")] : [],
    ...stories.map((story) => "```\n" + story + "\n```"),
    "## Numbers",
    table(["what", "how many"], Object.entries(numbers)),
    "## Faults",
    table(
      ["fault", "times", "longest recovery, ms", "longest time without a completed job, ms"],
      kinds.map(([name, one]) => [name, one.count, one.longestRecovery, one.longestSilence]),
    ),
    "## Servers",
    table(
      ["server", "at its first start", "at the end"],
      sizes.map(({ first, last, name }) => [name, size(first), size(last)]),
    ),
    "",
  ].join("\n\n")
}
