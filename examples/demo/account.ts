/**
 * The reckoning: what the records say, what the ledgers say, and what the demonstration sees itself,
 * held against each other. Pure, so that it can be shown to notice a fault.
 */
import type { JobRecord } from "../../mod.ts"
import type { SecondLook } from "./files.ts"
import { attempts as allowedAttempts } from "./jobs.ts"
import type { Run } from "./live.ts"
import type { Task } from "./plan.ts"

/** What the job's handler made. */
export interface Fingerprint {
  readonly sha256: string
  readonly bytes: number
  readonly gzipped: number
}

/** The record of a job, as far as it counts here. */
export type Record =
  & Pick<
    JobRecord.JobRecord<{ readonly path: string }, Fingerprint>,
    "state" | "payload" | "result" | "reason" | "created" | "ended"
  >
  & {
    readonly attempts: ReadonlyArray<
      Pick<JobRecord.AttemptRecord, "number" | "server" | "started" | "ending">
    >
  }

/** A job with all that is known of it. */
export interface Job {
  readonly id: string
  readonly task: Task
  /** `undefined` when NATS knows no such job. */
  readonly record: Record | undefined
  readonly look: SecondLook
}

/** The kill. */
export interface Kill {
  /** Id of the server. */
  readonly server: string
  /** When it was dead for certain, in ms since 1970. */
  readonly at: number
}

/** Everything there is to hold against each other. */
export interface Evidence {
  readonly jobs: ReadonlyArray<Job>
  readonly runs: ReadonlyArray<Run>
  /** When each job's end was on JetStream, as its server said; in ms since 1970. */
  readonly settled: ReadonlyMap<string, ReadonlyArray<number>>
  readonly kill: Kill | undefined
}

/** What came out. */
export interface Account {
  readonly jobs: number
  readonly attempts: number
  /** Runs of a handler in the ledgers; more than attempts, since the kill cut some off. */
  readonly runs: number
  readonly retried: number
  readonly delayed: number
  readonly failed: number
  readonly redelivered: number
  /** Runs that the kill ended. */
  readonly cutOff: number
  readonly lost: number
  readonly executedAgain: number
  readonly matching: number
  readonly compared: number
  /** Files that changed meanwhile, so that their digests say nothing. */
  readonly changed: number
  /** Files that neither their job nor the demonstration could read. */
  readonly unreadable: number
  readonly bytes: number
  readonly gzipped: number
  /** What isn't as it should be, a sentence each; empty if all is well. */
  readonly faults: ReadonlyArray<string>
}

/** Server clock, this clock and the rounding of both: a delay may look so much shorter. */
const toleranceMillis = 500
const namedPerFault = 3

/** Whether the job has come to its end. */
export const isFinal = ({ state }: Pick<Record, "state">): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled"

/** Faults by what they are, with the jobs that have them. */
class Faults {
  readonly #found = new Map<string, Array<string>>()

  add(what: string, whose: string): void {
    this.#found.set(what, [...this.#found.get(what) ?? [], whose])
  }

  count(what: string): number {
    return this.#found.get(what)?.length ?? 0
  }

  sentences(): ReadonlyArray<string> {
    return [...this.#found].map(([what, whose]) => {
      const more = whose.length - namedPerFault
      return `${what}: ${whose.slice(0, namedPerFault).join(", ")}` +
        (more > 0 ? ` and ${more} more` : "")
    })
  }
}

const lost = "lost, without a record of its end"
const again = "executed again after its completion was committed"
const twice = "committed more than once"
const unknownRun = "an attempt in the record that no ledger knows"
const wrongDigest = "the digest is not that of the file"
const wrongPayload = "the record is that of another file"
const failedOddly = "failed though its file can be read"
const notFailed = "succeeded without a file"
const tooFew = "ended with fewer attempts than it had to fail"
const tooMany = "had more attempts than its retry policy allows"
const early = "ran before its delay was over"

/** When a job's end was certainly on JetStream; nothing may run it after that. */
const committedAt = (
  { record }: Job,
  settled: ReadonlyArray<number> | undefined,
): number | undefined =>
  settled?.[0] ??
    // The one who committed it was killed before it could say so.
    (record !== undefined && isFinal(record) ? record.ended?.getTime() : undefined)

/** Holds everything against each other. */
export const account = ({ jobs, kill, runs, settled }: Evidence): Account => {
  const faults = new Faults()
  const runsOf = new Map<string, Array<Run>>()
  for (const run of runs) {
    const own = runsOf.get(run.job)
    if (own === undefined) runsOf.set(run.job, [run])
    else own.push(run)
  }
  const sum = {
    attempts: 0,
    retried: 0,
    delayed: 0,
    failed: 0,
    redelivered: 0,
    executedAgain: 0,
    matching: 0,
    compared: 0,
    changed: 0,
    unreadable: 0,
    bytes: 0,
    gzipped: 0,
  }

  const compare = ({ look, task }: Job, { bytes, gzipped, sha256 }: Fingerprint) => {
    sum.bytes += bytes
    sum.gzipped += gzipped
    if (look.kind !== "same" && (look.kind !== "changed" || look.sha256 !== sha256)) {
      sum.changed++
      return
    }
    sum.compared++
    if (look.sha256 === sha256) sum.matching++
    else faults.add(wrongDigest, task.file.path)
  }

  const checkOutcome = (job: Job, record: Record) => {
    const { look, task } = job
    const { path } = task.file
    const { attempts, result, state } = record
    if (attempts.length > allowedAttempts) faults.add(tooMany, path)
    if (state === "succeeded" && result !== undefined) {
      if (task.missing) faults.add(notFailed, path)
      else compare(job, result)
      if (attempts.length <= task.stumbles) faults.add(tooFew, path)
      return
    }
    sum.failed++
    if (attempts.length < allowedAttempts) faults.add(tooFew, path)
    if (task.missing) return
    if (look.kind === "same") faults.add(failedOddly, `${path} (${record.reason ?? state})`)
    else if (look.kind === "changed") sum.changed++
    else sum.unreadable++
  }

  const check = (job: Job) => {
    const { id, record, task } = job
    const { path } = task.file
    const own = runsOf.get(id) ?? []
    if (task.delayMillis > 0) sum.delayed++
    if ((settled.get(id)?.length ?? 0) > 1) faults.add(twice, path)
    const end = committedAt(job, settled.get(id))
    for (const { began } of end === undefined ? [] : own) {
      if (began <= (end as number)) continue
      sum.executedAgain++
      faults.add(again, path)
    }
    if (record === undefined || !isFinal(record)) return faults.add(lost, path)
    const { attempts, created } = record
    sum.attempts += attempts.length
    if (attempts.some(({ ending }) => ending !== "succeeded") && attempts.length > 1) sum.retried++
    const isRecorded = (run: Run) =>
      attempts.some(({ number, server, started }) =>
        number === run.attempt && server === run.server && started.getTime() === run.started
      )
    if (attempts.length > own.filter(isRecorded).length) faults.add(unknownRun, path)
    if (kill !== undefined) {
      const cutOff = own.some((run) => run.server === kill.server && !isRecorded(run))
      const isBack = own.some((run) =>
        run.server !== kill.server && run.began > kill.at && (cutOff || run.delivery > 1)
      )
      if (isBack) sum.redelivered++
    }
    const first = Math.min(...own.map(({ began }) => began))
    if (first < created.getTime() + task.delayMillis - toleranceMillis) faults.add(early, path)
    if (record.payload.path !== path) return faults.add(wrongPayload, path)
    checkOutcome(job, record)
  }

  jobs.forEach(check)
  const sentences = [...faults.sentences()]
  if (kill === undefined) sentences.push("no server was killed: none ran a job at the right time")
  else if (sum.redelivered === 0) sentences.push("the kill cut nothing off: no job came back")
  const cutOff = runs.filter(({ ended, server }) => server === kill?.server && ended === undefined)
  return {
    ...sum,
    jobs: jobs.length,
    runs: runs.length,
    cutOff: cutOff.length,
    lost: faults.count(lost),
    faults: sentences,
  }
}
