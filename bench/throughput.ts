/** Jobs per second of everything in `contestants.ts`, in one run and side by side. */
import process from "node:process"
import { workloads } from "./contestants.ts"
import { openArena } from "./support/arena.ts"
import { newestSize } from "./support/jobs.ts"
import { progress, readOptions } from "./support/options.ts"
import { cpuSeconds } from "./support/process.ts"
import { spread, summarize } from "./support/statistics.ts"
import { decimal, percent, table, whole } from "./support/table.ts"
import { collectGarbage, sleep, within } from "./support/time.ts"
import type { Workload } from "./support/workload.ts"

/** One counted run. */
interface Sample {
  readonly jobsPerSecond: number
  readonly clientMicros: number
  readonly serverMicros: number
  /** Bytes of a job's message, and of a record's. */
  readonly jobBytes: number | undefined
  readonly recordBytes: number | undefined
}

const options = readOptions({ runs: 5, jobs: 50_000 })
const chosen = workloads.filter(({ name }) =>
  name.includes(options.only) ||
  workloads.some((other) => other.reference === name && other.name.includes(options.only))
)
const arena = await openArena(options)
const { machine, server } = arena

/** A run that takes longer stands still. */
const patienceMillis = 120_000

const ownCpuSeconds = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1e6
}

const measure = async (workload: Workload, jobs: number): Promise<Sample> => {
  const count = workload.count(jobs)
  const world = arena.world()
  const run = await workload.setup(world, count)
  const sizeOf = (state: string) => newestSize(arena.connection, world.namespace, state)
  const waiting = await sizeOf("ready")
  await collectGarbage()
  // Longer than the sync interval: what the setup stored is on the disk when the clock starts.
  await sleep(1_100)
  const [client, nats] = [ownCpuSeconds(), cpuSeconds(server.pid)]
  const started = performance.now()
  await within(run.go(), patienceMillis, workload.name)
  const seconds = (performance.now() - started) / 1_000
  const clientMicros = (ownCpuSeconds() - client) / count * 1e6
  const serverMicros = (cpuSeconds(server.pid) - nats) / count * 1e6
  const sample = {
    jobsPerSecond: count / seconds,
    clientMicros,
    serverMicros,
    jobBytes: waiting ?? await sizeOf("ready"),
    recordBytes: await sizeOf("succeeded"),
  }
  await run.verify()
  await run.close()
  await arena.clear(world)
  return sample
}

const samples = new Map(chosen.map(({ name }) => [name, [] as Array<Sample>]))
progress(`warming up, then ${options.runs} rounds of ${chosen.length} workloads`)
for (const workload of chosen) await measure(workload, Math.ceil(options.jobs / 2))
for (let round = 0; round < options.runs; round++) {
  // Each round begins with another workload, so that none always follows the same one.
  const order = chosen.map((_, i) => chosen[(i + round) % chosen.length] as Workload)
  for (const workload of order) {
    const sample = await measure(workload, options.jobs)
    samples.get(workload.name)?.push(sample)
    progress(`  round ${round + 1}  ${workload.name}: ${whole(sample.jobsPerSecond)} jobs/s`)
  }
}
await arena.close()

const results = chosen.map((workload) => {
  const own = samples.get(workload.name) ?? []
  const base = workload.reference === undefined ? undefined : samples.get(workload.reference)
  return {
    name: workload.name,
    jobs: workload.count(options.jobs),
    jobBytes: own[0]?.jobBytes,
    recordBytes: own[0]?.recordBytes,
    jobsPerSecond: summarize(own.map((sample) => sample.jobsPerSecond)),
    clientMicros: summarize(own.map((sample) => sample.clientMicros)).median,
    serverMicros: summarize(own.map((sample) => sample.serverMicros)).median,
    reference: workload.reference,
    // Round by round: both runs of a ratio had the same machine around them.
    ratio: base === undefined ? undefined : summarize(
      own.map((sample, i) => sample.jobsPerSecond / (base[i]?.jobsPerSecond ?? Number.NaN)),
    ),
    runs: own,
  }
})

if (options.json) {
  console.log(JSON.stringify({ benchmark: "throughput", machine, options, results }))
} else {
  const headings = [
    "workload",
    "jobs",
    "job B",
    "record B",
    "jobs/s",
    "spread",
    "best",
    "client µs",
    "server µs",
    "ratio",
    "to",
  ]
  const rows = results.map((result) => [
    result.name,
    whole(result.jobs),
    decimal(result.jobBytes, 0),
    decimal(result.recordBytes, 0),
    whole(result.jobsPerSecond.median),
    `± ${percent(spread(result.jobsPerSecond))}`,
    whole(result.jobsPerSecond.max),
    decimal(result.clientMicros, 1),
    decimal(result.serverMicros, 1),
    decimal(result.ratio?.median, 2),
    result.reference ?? "",
  ])
  console.log(`\n${table(headings, rows)}`)
  console.log("\nMedians; B: bytes of the message; client and server: processor time per job.")
}
