import assert from "node:assert/strict"
import { describe, it } from "node:test"
import {
  type Account,
  account,
  type Evidence,
  type Job,
  type Record,
} from "../../examples/demo/account.ts"
import type { Run } from "../../examples/demo/live.ts"
import type { Task } from "../../examples/demo/plan.ts"

const begin = 1_000_000
const killedAt = begin + 1_000

const task = (path: string, fate: Partial<Task> = {}): Task => ({
  file: { path, bytes: 3, changed: 7 },
  pauseMillis: 0,
  stumbles: 0,
  delayMillis: 0,
  missing: false,
  ...fate,
})

const run = (job: string, server: string, began: number, more: Partial<Run> = {}): Run => ({
  job,
  server,
  began,
  started: began,
  attempt: 1,
  delivery: 1,
  ended: began + 10,
  ...more,
})

/** A record whose attempts are these runs; all but the last failed. */
const record = (path: string, runs: ReadonlyArray<Run>, more: Partial<Record> = {}): Record => ({
  state: "succeeded",
  payload: { path },
  result: { sha256: `digest of ${path}`, bytes: 3, gzipped: 2 },
  reason: undefined,
  created: new Date(begin),
  ended: new Date((runs.at(-1)?.ended ?? begin) + 1),
  attempts: runs.map(({ attempt, server, started }, index) => ({
    number: attempt,
    server,
    started: new Date(started),
    ending: more.state === "failed" || index < runs.length - 1 ? "failed" : "succeeded",
  })),
  ...more,
})

const same = (path: string) => ({ kind: "same", sha256: `digest of ${path}` }) as const

interface Case {
  plain: Job
  stumbling: Job
  delayed: Job
  cutOff: Job
  missing: Job
  runs: Array<Run>
  settled: Map<string, ReadonlyArray<number>>
  kill: Evidence["kill"]
}

const three = (id: string, server: string): Array<Run> =>
  [1, 2, 3].map((attempt) => run(id, server, begin + attempt * 600, { attempt }))

/** A run of the demonstration where all is well. */
const good = (): Case => {
  const plain = [run("plain", "a", begin + 10)]
  const stumbling = three("stumbling", "b").slice(0, 2)
  const delayed = [run("delayed", "b", begin + 1_010)]
  const [first, second] = [
    run("cutOff", "a", killedAt - 100),
    run("cutOff", "b", killedAt + 5_000, { delivery: 2 }),
  ] as const
  delete first.ended
  const missing = three("missing", "b")
  const runs = [...plain, ...stumbling, ...delayed, first, second, ...missing]
  return {
    plain: { id: "plain", task: task("/p"), record: record("/p", plain), look: same("/p") },
    stumbling: {
      id: "stumbling",
      task: task("/s", { stumbles: 1 }),
      record: record("/s", stumbling),
      look: same("/s"),
    },
    delayed: {
      id: "delayed",
      task: task("/d", { delayMillis: 1_000 }),
      record: record("/d", delayed),
      look: same("/d"),
    },
    cutOff: { id: "cutOff", task: task("/c"), record: record("/c", [second]), look: same("/c") },
    missing: {
      id: "missing",
      task: task("/m", { missing: true }),
      record: record("/m", missing, { state: "failed", result: undefined, reason: "not there" }),
      look: { kind: "changed" },
    },
    runs,
    settled: new Map(runs.map(({ began, job }) => [job, [began + 12]])),
    kill: { server: "a", at: killedAt },
  }
}

const reckon = (
  { cutOff, delayed, kill, missing, plain, runs, settled, stumbling }: Case,
): Account => account({ jobs: [plain, stumbling, delayed, cutOff, missing], runs, settled, kill })

const withRecord = (job: Job, more: Partial<Record>): Job => ({
  ...job,
  record: { ...job.record as Record, ...more },
})

describe("the demonstration's account", () => {
  it("finds no fault where there is none, and adds up", () => {
    const { bytes, gzipped, ...numbers } = reckon(good())
    assert.deepEqual([bytes, gzipped], [12, 8])
    assert.deepEqual(numbers, {
      jobs: 5,
      attempts: 8,
      runs: 9,
      retried: 2,
      delayed: 1,
      failed: 1,
      redelivered: 1,
      cutOff: 1,
      lost: 0,
      executedAgain: 0,
      matching: 4,
      compared: 4,
      changed: 0,
      unreadable: 0,
      faults: [],
    })
  })

  const planted: ReadonlyArray<
    readonly [string, (base: Case) => Partial<Case>, RegExp, Partial<Account>]
  > = [
    [
      "a job without a record",
      ({ plain }) => ({ plain: { ...plain, record: undefined } }),
      /^lost.*: \/p$/,
      { lost: 1, matching: 3 },
    ],
    [
      "a job that has not come to its end",
      ({ stumbling }) => ({ stumbling: withRecord(stumbling, { state: "retrying" }) }),
      /^lost.*: \/s$/,
      { lost: 1 },
    ],
    [
      "a run after the completion was committed",
      ({ runs }) => ({ runs: [...runs, run("plain", "b", begin + 5_000, { delivery: 2 })] }),
      /^executed again.*: \/p$/,
      { executedAgain: 1 },
    ],
    [
      "a run after a completion that its server had no time to tell of",
      ({ runs, settled }) => ({
        runs: [...runs, run("plain", "b", begin + 5_000, { delivery: 2 })],
        settled: new Map([...settled].filter(([job]) => job !== "plain")),
      }),
      /^executed again.*: \/p$/,
      { executedAgain: 1 },
    ],
    [
      "two completions of a job",
      ({ settled }) => ({ settled: new Map([...settled, ["plain", [begin + 30, begin + 40]]]) }),
      /^committed more than once: \/p$/,
      {},
    ],
    [
      "a wrong digest",
      ({ plain }) => ({ plain: { ...plain, look: { kind: "same", sha256: "another" } } }),
      /^the digest is not.*: \/p$/,
      { matching: 3, compared: 4 },
    ],
    [
      "the record of another file",
      ({ plain }) => ({ plain: withRecord(plain, { payload: { path: "/other" } }) }),
      /^the record is that of another file: \/p$/,
      {},
    ],
    [
      "an attempt that nobody made",
      ({ runs }) => ({ runs: runs.filter(({ job }) => job !== "delayed") }),
      /^an attempt in the record.*: \/d$/,
      {},
    ],
    [
      "a failure without a reason",
      ({ plain }) => ({
        plain: withRecord(plain, { state: "failed", result: undefined, reason: "odd" }),
      }),
      /^failed though its file can be read: \/p \(odd\)$/,
      { failed: 2 },
    ],
    [
      "a success without a file",
      ({ missing }) => ({
        missing: withRecord(missing, {
          state: "succeeded",
          result: { sha256: "", bytes: 0, gzipped: 0 },
        }),
      }),
      /^succeeded without a file: \/m$/,
      { failed: 0 },
    ],
    [
      "a success before it was due to fail",
      ({ plain }) => ({ plain: { ...plain, task: task("/p", { stumbles: 1 }) } }),
      /^ended with fewer attempts.*: \/p$/,
      {},
    ],
    [
      "a job that was given up early",
      ({ missing }) => ({
        missing: withRecord(missing, { attempts: missing.record?.attempts.slice(0, 2) ?? [] }),
      }),
      /^ended with fewer attempts.*: \/m$/,
      {},
    ],
    [
      "a delay that was cut short",
      ({ delayed }) => ({ delayed: { ...delayed, task: task("/d", { delayMillis: 2_000 }) } }),
      /^ran before its delay was over: \/d$/,
      {},
    ],
    [
      "a kill that did not happen",
      () => ({ kill: undefined }),
      /^no server was killed/,
      { redelivered: 0 },
    ],
    [
      "a kill that hit nothing",
      () => ({ kill: { server: "c", at: killedAt + 9_000 } }),
      /^the kill cut nothing off/,
      { redelivered: 0, cutOff: 0 },
    ],
  ]
  for (const [name, plant, fault, numbers] of planted) {
    it(`notices ${name}`, () => {
      const base = good()
      const outcome = reckon({ ...base, ...plant(base) })
      assert.ok(outcome.faults.some((said) => fault.test(said)), outcome.faults.join("\n"))
      assert.deepEqual({ ...outcome, ...numbers }, outcome)
    })
  }

  it("compares no digest of a file that changed meanwhile", () => {
    const base = good()
    const changed = { ...base.plain, look: { kind: "changed", sha256: "another" } as const }
    const outcome = reckon({ ...base, plain: changed })
    assert.deepEqual(outcome.faults, [])
    assert.deepEqual([outcome.compared, outcome.changed], [3, 1])
  })

  it("accepts the failure of a file that nobody can read", () => {
    const base = good()
    const runs = three("plain", "b")
    const outcome = reckon({
      ...base,
      plain: {
        ...base.plain,
        record: record("/p", runs, { state: "failed", result: undefined }),
        look: { kind: "unreadable" },
      },
      runs: [...base.runs.filter(({ job }) => job !== "plain"), ...runs],
      settled: new Map([...base.settled, ["plain", [begin + 2_000]]]),
    })
    assert.deepEqual(outcome.faults, [])
    assert.deepEqual([outcome.failed, outcome.unreadable], [2, 1])
  })

  it("names three jobs of a fault and counts the rest", () => {
    const base = good()
    const lost = { ...base.plain, record: undefined }
    const { faults } = account({ ...base, jobs: [lost, lost, lost, lost, lost] })
    assert.match(faults[0] ?? "", /^lost.*: \/p, \/p, \/p and 2 more$/)
  })
})
