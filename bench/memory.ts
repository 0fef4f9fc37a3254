/** Whether a worker process grows with the jobs that it has done. */
import { programs } from "./contestants.ts"
import { openArena } from "./support/arena.ts"
import { untilDrained } from "./support/jobs.ts"
import { progress, readOptions } from "./support/options.ts"
import { residentMiB, startProgram } from "./support/process.ts"
import { environmentOf, type WorkerProgram } from "./support/program.ts"
import { slope, summarize } from "./support/statistics.ts"
import { decimal, table, whole } from "./support/table.ts"
import { sleep } from "./support/time.ts"

const options = readOptions({ jobs: 200_000 })
const chosen = programs.filter(({ feed, name }) =>
  feed !== undefined && name.includes(options.only)
)
const arena = await openArena(options)
const slices = 20

const measure = async (worker: WorkerProgram) => {
  const world = arena.world()
  const jobs = Math.ceil(options.jobs / slices)
  await worker.prepare(world)
  const program = startProgram(worker.file, environmentOf(world))
  await program.ready
  const atStart = residentMiB(program.pid)
  const points: Array<readonly [jobs: number, mebibytes: number]> = []
  for (let slice = 1; slice <= slices; slice++) {
    await worker.feed?.(world, jobs)
    await untilDrained(arena.connection, world.namespace)
    await sleep(200)
    points.push([slice * jobs, residentMiB(program.pid)])
    progress(`  ${worker.name}: ${whole(slice * jobs)} jobs, ${decimal(points.at(-1)?.[1], 0)} MiB`)
  }
  await program.stop()
  await arena.clear(world)
  // The first half fills pools and compiles code; what still grows in the second half, leaks.
  const second = points.slice(slices / 2)
  return {
    name: worker.name,
    jobs: slices * jobs,
    startMiB: atStart,
    mostMiB: summarize(points.map(([, mebibytes]) => mebibytes)).max,
    endMiB: points.at(-1)?.[1] ?? Number.NaN,
    bytesPerJob: slope(second) * 2 ** 20,
    points,
  }
}

const results = []
for (const worker of chosen) results.push(await measure(worker))
await arena.close()

if (options.json) {
  console.log(JSON.stringify({ benchmark: "memory", machine: arena.machine, options, results }))
} else {
  const headings = ["program", "jobs", "start MiB", "most MiB", "end MiB", "bytes/job"]
  const rows = results.map((result) => [
    result.name,
    whole(result.jobs),
    decimal(result.startMiB, 0),
    decimal(result.mostMiB, 0),
    decimal(result.endMiB, 0),
    decimal(result.bytesPerJob, 0),
  ])
  console.log(`\n${table(headings, rows)}`)
  console.log("\nbytes/job: growth of RSS per job over the second half of the jobs.")
}
