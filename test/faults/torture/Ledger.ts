/**
 * What happened, told outside of NATS: each process appends lines to a file of its own, and a line
 * that is written survives its death. All times are those of the machine's true clock.
 */
import { appendFileSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { trueNow } from "./programs/wrongClock.ts"

/** `<when, in ms since 1970> <pid> <what> <id> <more>…`. */
export interface Line {
  readonly at: number
  readonly pid: number
  readonly what: string
  readonly id: string
  readonly more: ReadonlyArray<string>
}

/** Writes lines into the file of this process. */
export const writer = (
  folder: string,
): (what: string, id: string, ...more: ReadonlyArray<string | number>) => void => {
  const file = join(folder, `${process.pid}.ledger`)
  return (what, id, ...more) =>
    appendFileSync(file, `${[trueNow(), process.pid, what, id, ...more].join(" ")}\n`)
}

/** All lines of all processes, in their order. */
export const read = (folder: string): ReadonlyArray<Line> =>
  readdirSync(folder).filter((name) => name.endsWith(".ledger"))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n"))
    .filter((line) => line !== "")
    .map((line): Line => {
      const [at, pid, what = "", id = "", ...more] = line.split(" ")
      return { at: Number(at), pid: Number(pid), what, id, more }
    })
    .sort((a, b) => a.at - b.at)
