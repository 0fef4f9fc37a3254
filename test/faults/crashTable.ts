/**
 * The table of crash points in `docs/crash-points.md`: the names of the writes after which a process is
 * killed, and what heals what it leaves behind. The page is held against what the tests hit.
 */
import assert from "node:assert/strict"
import { readFileSync, writeFileSync } from "node:fs"
import process from "node:process"

const page = new URL("../../docs/crash-points.md", import.meta.url)

const done = "Nothing is left to do."
const uncommitted = "Nothing has happened: NATS forgets a write of two that isn't committed."
const copy =
  "The old message of the job is still in its queue. The server that meets it sees that the " +
  "job has moved on, finishes what follows from that and drops it."
const finish =
  "`_finish`, a command that is part of the first write: a server finishes what follows."
const oldRecord =
  "The job lives. Its old record doesn't count any more; the server that gets the job " +
  "next removes it."
const child =
  "The alarm of the child: a server links it to its parents and lets it go. One that was " +
  "to follow nothing is cancelled."
const building =
  "The alarm of the batch: nobody has heard of it, and a server removes what there is."
const released = "The alarm of the batch: a server sends the other members on their way."
const held = "The alarm of the batch: nobody holds it open any more."
const adding =
  "The alarm of the batch: what was added has never been seen, and a server removes it."
const ended = "A message of the batch in the engine's queue leads a server to its record."
const redelivered =
  "The message is delivered again after an ack wait. Who gets it finds what is done, " +
  "and goes on."
const claim =
  "Whoever wants the key next takes the claim over, for its job doesn't wait or run. One " +
  "without a job counts for ten seconds."

const asked =
  "The entry lies in the engine's queue with what was asked for: a server makes the run."
const nextSync = "What is written counts. The next sync, by whoever starts next, does the rest."

/** Which operation, which write, and what heals: the first that fits. */
const healing: ReadonlyArray<readonly [operation: RegExp, write: RegExp, by: string]> = [
  [/^trigger an entry/, /^first part|due$/, asked],
  [/^sync entries$/, /./, nextSync],
  [/ entry/, /./, done],
  [/./, /^first part/, uncommitted],
  [
    /^cancel by filter$|^requeue by filter$/,
    /./,
    "`_where`, the command itself: a server does it.",
  ],
  [/^cancel (enqueued|processing|unique)$/, /./, copy],
  [/^cancel /, /./, finish],
  [/^requeue and revive$/, /^delete/, "`_revive`, as above."],
  [/^requeue and revive$/, /./, "`_revive`, a command that is part of the first write."],
  [/^requeue/, /^claim/, claim],
  [/^requeue/, /enqueued$/, oldRecord],
  [/^requeue member$/, /held|^delete/, held],
  [/^(requeue|attach|create)/, /^(nested )?batch (succeeded|failed)|^delete batch open/, ended],
  [/^requeue/, /^delete/, done],
  [/^(run now|reschedule|move) ?/, /^delete/, done],
  [/^(run now|reschedule|move) ?/, /./, "It is one write. " + copy],
  [/^remove$/, /./, done],
  [/^continue/, /^child awaiting$|^child enqueued$|^delete/, done],
  [/^continue/, /./, child],
  [/^create/, /building|abandoned|staged|^link|^delete (member|nested|batch abandoned)/, building],
  [/^attach/, /adding|staged|held|^delete batch (failed|succeeded)/, adding],
  [/^(create|attach)/, /releasing|^member|^nested batch open|^delete link/, released],
  [
    /^(create|attach|requeue)/,
    /batch open/,
    "The end of its last member, or its alarm, ends the batch.",
  ],
  [/^attach/, /^delete member/, adding],
  [/^(enqueue unique|replace unique)/, /^claim/, claim],
  [/^replace unique/, /^delete/, done],
  [/^replace unique/, /^job/, copy],
  [/^enqueue/, /./, done],
]

/** Writes that somebody else may do first, or that are one or two, so that not every run sees them. */
const races =
  /what is gone|batch (open|succeeded|failed|cancelled)|_finish|^delete|acknowledgement|^nothing$/

const byOf = (operation: string, write: string, isServer: boolean): string => {
  if (isServer) return redelivered
  if (write === "delete what is gone") return "As before: somebody else was faster."
  const found = healing.find(([which, what]) => which.test(operation) && what.test(write))
  assert.ok(found, `what heals ${operation}, killed after ${write}?`)
  return found[2]
}

/** What the page says of an operation: the names of its writes. */
const documented = (operation: string): ReadonlyArray<string> => {
  const [, section = ""] = readFileSync(page, "utf8").split(`\n### ${operation}\n`)
  const [table = ""] = section.split("\n#")
  return table.split("\n").flatMap((line) => /^\| `([^`]+)`/.exec(line)?.[1] ?? [])
}

/** Writes a section of the page anew. */
const document = (operation: string, names: ReadonlyArray<string>, isServer: boolean): void => {
  const text = readFileSync(page, "utf8")
  const head = `\n### ${operation}\n`
  const at = text.indexOf(head)
  const rows = names.map((name) => `| \`${name}\` | ${byOf(operation, name, isServer)} |`)
  const table = `${head}\n| killed after | what heals it |\n| --- | --- |\n${rows.join("\n")}\n`
  const next = at < 0 ? -1 : text.indexOf("\n#", at + head.length)
  const before = at < 0 ? text : text.slice(0, at)
  writeFileSync(page, before + table + (next < 0 ? "" : text.slice(next)))
}

/**
 * Holds the page against the points that were hit, and gives those that were not. With WRITE in the
 * environment it writes the page instead.
 */
export const compare = (
  operation: string,
  hit: ReadonlySet<string>,
  isServer: boolean,
): ReadonlyArray<string> => {
  for (const name of hit) byOf(operation, name, isServer)
  const names = documented(operation)
  if (process.env["WRITE"] !== undefined) {
    document(operation, [...new Set([...names, ...hit])], isServer)
    return []
  }
  const unknown = [...hit].filter((name) => !names.includes(name) && !races.test(name))
  assert.deepEqual(unknown, [], `missing in ${page.pathname}, ${operation}`)
  return names.filter((name) => !hit.has(name) && !races.test(name))
}
