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
  screen.line("  a job for each: read it, SHA-256, size after gzip; and one whose file isn't there")
  screen.line(
    `  made difficult on purpose: ${
      number(({ delayMillis }) => delayMillis > 0)
    } delayed by 1 or ` +
      `2 s, ${number(({ stumbles }) => stumbles > 0)} fail once or twice,`,
  )
  screen.line(
    `  ${
      number(({ pauseMillis }) => pauseMillis > 0)
    } pause for 0.3 to 0.7 s, so that a kill hits something`,
  )
  screen.line()
}

const labelWidth = 46
const valueWidth = 12

/** The table, and the verdict below it. */
export const conclude = (screen: Screen, account: Account, millis: number): void => {
  const row = (label: string, value: string, note = "", isBad = false) => {
    const line = `  ${label.padEnd(labelWidth)}${value.padStart(valueWidth)}`
    screen.line((isBad ? screen.red(line) : line) + (note === "" ? "" : screen.dim(`   ${note}`)))
  }
  const { changed, compared, executedAgain, failed, lost, matching, redelivered, unreadable } =
    account
  screen.line()
  row("jobs", count(account.jobs), `${count(account.delayed)} of them delayed`)
  row("attempts", count(account.attempts), `of ${count(account.runs)} runs in the servers' ledgers`)
  row("retried", count(account.retried))
  row("failed for good", count(failed), `after ${attempts} attempts each`)
  row(
    "redelivered after the kill",
    count(redelivered),
    `it cut off ${many(account.cutOff, "run")}`,
    redelivered === 0,
  )
  row("lost", count(lost), "", lost > 0)
  const note = "by the servers' ledgers"
  row("executed twice after a committed completion", count(executedAgain), note, executedAgain > 0)
  row(
    "digests that match",
    `${count(matching)} of ${count(compared)}`,
    "computed here again",
    matching < compared,
  )
  if (changed > 0) row("files that changed meanwhile", count(changed), "not compared")
  if (unreadable > 0) row("files that nobody can read", count(unreadable), "failed for good")
  const perSecond = account.jobs / Math.max(0.001, millis / 1_000)
  row("jobs per second", perSecond.toFixed(1), "pauses, delays and the kill included")
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
