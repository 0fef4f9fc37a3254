/** What a worker process costs that has nothing to do. */
import { programs } from "./contestants.ts"
import { openArena } from "./support/arena.ts"
import { progress, readOptions } from "./support/options.ts"
import { childOf, cpuSeconds, residentMiB, startProgram } from "./support/process.ts"
import { environmentOf, type WorkerProgram } from "./support/program.ts"
import { summarize } from "./support/statistics.ts"
import { decimal, table } from "./support/table.ts"
import { sleep } from "./support/time.ts"

const options = readOptions({ seconds: 20 })
const chosen = programs.filter(({ name }) => name.includes(options.only))
const arena = await openArena(options)

/** Start-up work, and what the runtime does soon after, is over by then. */
const settleMillis = 5_000

const measure = async (worker: WorkerProgram) => {
  const world = arena.world()
  await worker.prepare(world)
  const starting = performance.now()
  const program = startProgram(worker.file, environmentOf(world))
  await program.ready
  const readyAfter = performance.now() - starting
  await sleep(settleMillis)
  // A program that brings its own NATS server has started it.
  const natsPid = childOf(program.pid) ?? arena.server.pid
  const [own, nats, begin] = [cpuSeconds(program.pid), cpuSeconds(natsPid), performance.now()]
  const resident: Array<number> = []
  for (let second = 0; second < options.seconds; second++) {
    await sleep(1_000)
    resident.push(residentMiB(program.pid))
  }
  const seconds = (performance.now() - begin) / 1_000
  const result = {
    name: worker.name,
    readyAfterMillis: readyAfter,
    cpuPercent: (cpuSeconds(program.pid) - own) / seconds * 100,
    serverCpuPercent: (cpuSeconds(natsPid) - nats) / seconds * 100,
    residentMiB: summarize(resident),
    serverResidentMiB: residentMiB(natsPid),
  }
  await program.stop()
  await arena.clear(world)
  return result
}

const results = []
for (const worker of chosen) {
  progress(`${worker.name}: ${settleMillis / 1_000} s to settle, ${options.seconds} s to watch`)
  results.push(await measure(worker))
}
await arena.close()

if (options.json) {
  console.log(JSON.stringify({ benchmark: "idle", machine: arena.machine, options, results }))
} else {
  const headings = [
    "program",
    "ready ms",
    "CPU %",
    "RSS MiB",
    "most",
    "nats-server CPU %",
    "its RSS",
  ]
  const rows = results.map((result) => [
    result.name,
    decimal(result.readyAfterMillis, 0),
    decimal(result.cpuPercent, 2),
    decimal(result.residentMiB.median, 0),
    decimal(result.residentMiB.max, 0),
    decimal(result.serverCpuPercent, 2),
    decimal(result.serverResidentMiB, 0),
  ])
  console.log(`\n${table(headings, rows)}`)
  console.log("\nCPU in percent of one core.")
}
