/** Time from enqueue to the start of the handler on an idle server, at a gentle rate. */
import { lanes } from "./contestants.ts"
import { openArena } from "./support/arena.ts"
import type { Lane } from "./support/lane.ts"
import { progress, readOptions } from "./support/options.ts"
import { distribution } from "./support/statistics.ts"
import { decimal, table, whole } from "./support/table.ts"
import { collectGarbage, sleep, until } from "./support/time.ts"

const options = readOptions({ runs: 5, jobs: 2_000, rate: 200 })
const chosen = lanes.filter(({ name }) => name.includes(options.only))
const arena = await openArena(options)
const perRound = Math.ceil(options.jobs / options.runs)

/** Sends at a steady rate and gives the milliseconds until each job's handler began. */
const measure = async (lane: Lane, samples: number): Promise<ReadonlyArray<number>> => {
  const world = arena.world()
  const sentAt: Array<number> = []
  const latencies: Array<number> = []
  const open = await lane.open(world, (sample) => {
    latencies.push(performance.now() - (sentAt[sample] ?? Number.NaN))
  })
  await collectGarbage()
  await sleep(1_100)
  const begin = performance.now()
  for (let sample = 0; sample < samples; sample++) {
    const wait = begin + sample * 1_000 / options.rate - performance.now()
    if (wait > 0) await sleep(wait)
    sentAt[sample] = performance.now()
    await open.send(sample)
  }
  const patience = performance.now() + 10_000
  await until(() => latencies.length >= samples || performance.now() > patience || undefined, 5)
  await open.close()
  await arena.clear(world)
  if (latencies.length !== samples) {
    throw new Error(`${lane.name}: ${latencies.length} starts of ${samples} jobs`)
  }
  return latencies
}

const found = new Map(chosen.map(({ name }) => [name, [] as Array<number>]))
progress(`warming up, then ${options.runs} rounds of ${perRound} jobs at ${options.rate}/s`)
for (const lane of chosen) await measure(lane, Math.ceil(perRound / 2))
for (let round = 0; round < options.runs; round++) {
  for (const lane of chosen) {
    const latencies = await measure(lane, perRound)
    found.get(lane.name)?.push(...latencies)
    progress(`  round ${round + 1}  ${lane.name}: p50 ${distribution(latencies).p50.toFixed(2)} ms`)
  }
}
await arena.close()

const results = chosen.map(({ name }) => ({ name, ...distribution(found.get(name) ?? []) }))
if (options.json) {
  console.log(JSON.stringify({ benchmark: "latency", machine: arena.machine, options, results }))
} else {
  const rows = results.map(({ max, name, p50, p95, p99, p999, samples }) => [
    name,
    whole(samples),
    ...[p50, p95, p99, p999, max].map((millis) => decimal(millis, 2)),
  ])
  console.log(`\n${table(["lane", "samples", "p50", "p95", "p99", "p99.9", "max"], rows)}`)
  console.log("\nMilliseconds from the call that enqueues to the first line of the handler.")
}
