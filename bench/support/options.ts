/** The command line of the benchmarks. */
import process from "node:process"
import { parseArgs } from "node:util"

/** What can be asked of every benchmark. */
export interface Options {
  /** Counted runs of each contestant. */
  readonly runs: number
  /** Jobs (or samples) in a run. */
  readonly jobs: number
  /** Length of an observation, in seconds. */
  readonly seconds: number
  /** Jobs per second where a benchmark sends at a steady rate. */
  readonly rate: number
  /** Only contestants whose name contains this. */
  readonly only: string
  /** When the server syncs: `1s`, `100ms`, …, `always`. */
  readonly sync: string
  /** One JSON object on stdout instead of tables. */
  readonly json: boolean
}

const positive = (name: string, text: string): number => {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  console.error(`--${name} must be a whole number above 0, not ${text}`)
  process.exit(2)
}

/** What a benchmark does when it isn't told. */
export type Defaults = Partial<Pick<Options, "runs" | "jobs" | "seconds" | "rate">>

/** Reads the command line; ends the process with 2 on an option that doesn't exist. */
export const readOptions = (given: Defaults): Options => {
  const defaults = { runs: 5, jobs: 50_000, seconds: 10, rate: 200, ...given }
  const number = (value: number) => ({ type: "string", default: String(value) } as const)
  try {
    const { values } = parseArgs({
      options: {
        runs: number(defaults.runs),
        jobs: number(defaults.jobs),
        seconds: number(defaults.seconds),
        rate: number(defaults.rate),
        only: { type: "string", default: "" },
        sync: { type: "string", default: "1s" },
        json: { type: "boolean", default: false },
      },
    })
    return {
      runs: positive("runs", values.runs),
      jobs: positive("jobs", values.jobs),
      seconds: positive("seconds", values.seconds),
      rate: positive("rate", values.rate),
      only: values.only,
      sync: values.sync,
      json: values.json,
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exit(2)
  }
}

/** A line for the person who waits; never on stdout, which belongs to the results. */
export const progress = (text: string): void => console.error(text)
