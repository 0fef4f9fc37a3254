/** What the demonstration says before and after. */
import { join } from "node:path"
import process from "node:process"
import type { Account } from "./account.ts"
import type { Found } from "./files.ts"
import { attempts } from "./jobs.ts"
import { shownCommand } from "./options.ts"
import type { Task } from "./plan.ts"
import { count, many, type Screen, size } from "./screen.ts"

/** Says what is going to happen, artificial parts included. */
export const introduce = (
  screen: Screen,
  folder: string,
  found: Found,
  tasks: ReadonlyArray<Task>,
): void => {
  const number = (predicate: (task: Task) => boolean) => count(tasks.filter(predicate).length)
  const total = found.files.reduce((sum, { bytes }) => sum + Math.max(0, bytes), 0)
  const without = found.passedBy.size === 0
    ? ""
    : `, without ${[...found.passedBy].sort().join(", ")}`
  screen.line(screen.bold("Portfire at work"))
  screen.line()
  screen.line(`  ${many(found.files.length, "file")} of ${folder} (${size(total)}${without})`)
  if (found.closed.length > 0) {
    screen.line(`  ${many(found.closed.length, "folder")} in it can't be opened`)
  }
  screen.line("  a job for each of them: read it, SHA-256, size after gzip")
  screen.line("  made difficult on purpose:")
  screen.line(`    1 job more has no file to read and must fail for good`)
  screen.line(`    ${number(({ stumbles }) => stumbles > 0)} fail once or twice, and are retried`)
  screen.line(`    ${number(({ delayMillis }) => delayMillis > 0)} are delayed by 1 or 2 s`)
  screen.line(
    `    ${number(({ pauseMillis }) => pauseMillis > 0)} pause for 0.3 to 0.7 s, ` +
      "so that the kill of a server hits some",
  )
  screen.line()
}

interface Row {
  readonly label: string
  readonly value: string
  readonly note?: string
  readonly isBad?: boolean
}

const rowsOf = (account: Account, millis: number): ReadonlyArray<Row> => {
  const { changed, compared, executedAgain, lost, matching, redelivered, unreadable } = account
  const digests = `${count(matching)} of ${count(compared)}`
  const perSecond = account.jobs / Math.max(0.001, millis / 1_000)
  return [
    {
      label: "jobs",
      value: count(account.jobs),
      note: `${count(account.delayed)} of them delayed`,
    },
    {
      label: "attempts",
      value: count(account.attempts),
      note: `${count(account.runs)} runs begun`,
    },
    { label: "retried", value: count(account.retried) },
    { label: "failed for good", value: count(account.failed), note: `after ${attempts} attempts` },
    {
      label: "redelivered after the kill",
      value: count(redelivered),
      note: `it cut off ${many(account.cutOff, "run")}`,
      isBad: redelivered === 0,
    },
    { label: "lost", value: count(lost), isBad: lost > 0 },
    {
      label: "executed twice after a committed completion",
      value: count(executedAgain),
      isBad: executedAgain > 0,
    },
    {
      label: "digests that match",
      value: digests,
      note: "computed here again",
      isBad: matching < compared,
    },
    ...changed > 0
      ? [{ label: "files that changed meanwhile", value: count(changed), note: "not compared" }]
      : [],
    ...unreadable > 0
      ? [{ label: "files that nobody can read", value: count(unreadable), note: "failed for good" }]
      : [],
    { label: "jobs per second", value: perSecond.toFixed(1), note: "pauses included" },
  ]
}

/** The table, and the verdict below it. */
export const conclude = (screen: Screen, account: Account, millis: number): void => {
  const rows = rowsOf(account, millis)
  const labels = Math.max(...rows.map(({ label }) => label.length))
  const values = Math.max(8, ...rows.map(({ value }) => value.length))
  screen.line()
  for (const { isBad, label, note, value } of rows) {
    const line = `  ${label.padEnd(labels)}  ${value.padStart(values)}`
    screen.line((isBad ? screen.red(line) : line) + (note ? screen.dim(`   ${note}`) : ""))
  }
  screen.line()
  if (account.faults.length === 0) {
    screen.line(
      `  ${screen.green("✓")} ${screen.bold("Every job is accounted for.")} ` +
        `${size(account.bytes)} read, ${size(account.gzipped)} after gzip.`,
    )
    return
  }
  screen.line(`  ${screen.red("✗")} ${screen.bold("This is not as it should be:")}`)
  for (const fault of account.faults) screen.line(`    ${fault}`)
}

/** Where things are that keep running. */
export interface Place {
  readonly folder: string
  readonly dataDir: string
  readonly address: string
  /** Process id of the server. */
  readonly pid: number
}

/** How to play with what keeps running. */
export const invite = (screen: Screen, { address, dataDir, folder, pid }: Place): void => {
  screen.line()
  screen.line(`  ${screen.bold("NATS and a server keep running.")} In another terminal:`)
  screen.line()
  screen.line(`    PORTFIRE_DATA_DIR=${dataDir} \\`)
  screen.line(`      ${shownCommand("examples/demo/enqueue.ts")} README.md`)
  screen.line()
  screen.line(`  in code    Nats.layerEmbedded({ dataDir: "${dataDir}" })`)
  screen.line(
    `  NATS       nats://${address}, user and password in ${join(dataDir, "credentials.json")}`,
  )
  screen.line(`  server     process ${pid}, its log and its ledger in ${folder}`)
  screen.line(
    `  to stop    Ctrl-C here, or kill ${process.pid}; the folder stays until you remove it`,
  )
}
