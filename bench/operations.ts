/**
 * How long operations by filter take, what the server that does them holds of memory, and how long
 * jobs of its own queue take meanwhile.
 */
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client, Job, Operation } from "../mod.ts"
import { connectionTo, payloads, Welcome } from "./portfire/engine.ts"
import { server } from "./portfire/worker.ts"
import { openArena } from "./support/arena.ts"
import { payload } from "./support/jobs.ts"
import { progress, readOptions } from "./support/options.ts"
import { residentMiB, startProgram } from "./support/process.ts"
import { environmentOf } from "./support/program.ts"
import { summarize } from "./support/statistics.ts"
import { decimal, table, whole } from "./support/table.ts"
import { sleep } from "./support/time.ts"

const options = readOptions({ jobs: 100_000 })
const { jobs } = options
const arena = await openArena(options)
const world = arena.world()
await server.prepare(world)
const program = startProgram(server.file, environmentOf(world))
await program.ready
const client = ManagedRuntime.make(Layer.provide(Client.layer, connectionTo(world)))

/** Whatever it is, it isn't meant. */
const Other = Job.make("other")

const results: Array<{
  readonly name: string
  readonly seconds: number
  readonly jobsPerSecond: number
  readonly mostMiB: number
  readonly otherJobs: number
  readonly otherMedianMs: number
  readonly otherMostMs: number
}> = []

/** Runs an operation beside a caller that executes one job after the other in the served queue. */
const measure = async (
  name: string,
  filter: Client.JobFilter,
  operation: Operation.Operation,
  expected = jobs,
): Promise<void> => {
  let over = false
  let mostMiB = 0
  const took: Array<number> = []
  const others = (async () => {
    while (!over) {
      const start = performance.now()
      await client.runPromise(Welcome.execute(payload))
      took.push(performance.now() - start)
      await sleep(5)
    }
  })()
  const watch = setInterval(() => {
    mostMiB = Math.max(mostMiB, residentMiB(program.pid))
  }, 50)
  await sleep(1_100)
  took.length = 0
  const start = performance.now()
  const changes = await client.runPromise(
    Client.Client.use(({ operateWhere }) => operateWhere(filter, operation)),
  )
  const seconds = (performance.now() - start) / 1_000
  over = true
  await others
  clearInterval(watch)
  if (changes.changed !== expected) {
    throw new Error(`${name}: ${JSON.stringify(changes)}, expected ${expected}`)
  }
  const { max, median } = summarize(took)
  results.push({
    name,
    seconds,
    jobsPerSecond: expected / seconds,
    mostMiB,
    otherJobs: took.length,
    otherMedianMs: median,
    otherMostMs: max,
  })
  progress(`  ${name}: ${decimal(seconds, 2)} s`)
}

const enqueue = (queue: string) => client.runPromise(Welcome.enqueueMany(payloads(jobs), { queue }))

progress(`storing ${whole(jobs)} jobs`)
await enqueue("bulk")
await measure("move (ready)", { queue: "bulk" }, Operation.move({ queue: "other" }))
await measure("reschedule (ready)", { queue: "other" }, Operation.reschedule({ delay: "1 hour" }))
await measure("reschedule (scheduled)", {
  state: "scheduled",
}, Operation.reschedule({ delay: "2 hours" }))
await measure("cancel (scheduled)", { queue: "other" }, Operation.cancel())
await measure("requeue (ended)", { queue: "bulk" }, Operation.requeue())
await measure("cancel (ready)", { queue: "other" }, Operation.cancel())
await measure("remove (ended)", { queue: "bulk" }, Operation.remove())
// One that stays lies below all others, so that these can't be purged.
await client.runPromise(Other.enqueue(undefined, { queue: "bulk" }))
await enqueue("bulk")
await measure("cancel (ready, by name)", {
  queue: "bulk",
  name: Welcome.name,
}, Operation.cancel())
await client.dispose()
await program.stop()
await arena.close()

if (options.json) {
  console.log(
    JSON.stringify({ benchmark: "operations", machine: arena.machine, options, results }),
  )
} else {
  const headings = ["operation", "seconds", "jobs/s", "most MiB", "others", "median ms", "most ms"]
  const rows = results.map((result) => [
    result.name,
    decimal(result.seconds, 2),
    whole(result.jobsPerSecond),
    decimal(result.mostMiB, 0),
    whole(result.otherJobs),
    decimal(result.otherMedianMs, 1),
    decimal(result.otherMostMs, 1),
  ])
  console.log(`\n${whole(jobs)} jobs\n\n${table(headings, rows)}`)
  console.log(
    "\nothers: jobs of another queue that the same server ran meanwhile, one after the other,\n" +
      "and how long each took from its enqueue to its result.",
  )
}
