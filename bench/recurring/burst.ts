/** How long it takes until all runs are stored, and until all have begun, of entries due at once. */
import * as Effect from "effect/Effect"
import { Reader } from "../../src/nats/Reader.ts"
import { jobsStream } from "../../src/nats/Subjects.ts"
import { checkOnce, cronOf, declare, startServers, untilBegan } from "../portfire/recurring.ts"
import type { Arena } from "../support/arena.ts"
import { cpuSeconds } from "../support/process.ts"
import { percentile } from "../support/statistics.ts"
import { sleep } from "../support/time.ts"
import type { World } from "../support/workload.ts"

/** What became of one burst; times in ms after the nominal second. */
export interface Burst {
  readonly storedHalf: number
  readonly storedLast: number
  readonly beganHalf: number
  readonly beganLast: number
  /** Processor time of all servers, per entry, in ms. */
  readonly cpuMillis: number
  /** The same of nats-server. */
  readonly natsCpuMillis: number
}

const page = 500
const millisPerEntry = 4
const leadMillis = 3_000

/**
 * When the entries' next messages were stored. The run of an entry is stored together with its next
 * message, and that is still there when the run is long done.
 */
const storedTimes = async ({ connection, namespace }: World): Promise<ReadonlyArray<number>> => {
  const reader = new Reader(connection)
  const found: Array<number> = []
  for (let sequence = 1;;) {
    const { messages, pending } = await Effect.runPromise(
      reader.page(jobsStream(namespace, 0), `pf.${namespace}.0.await._recurring.>`, {
        sequence,
        count: page,
      }),
    )
    for (const { time } of messages) found.push(time)
    sequence = (messages.at(-1)?.sequence ?? sequence) + 1
    if (pending === 0) break
  }
  reader.close()
  return found
}

/** Has so many entries with one cron expression become due in the same second. */
export const burst = async (arena: Arena, entries: number, count: number): Promise<Burst> => {
  const world = arena.world()
  const servers = await startServers(world, count)
  const at = Math.ceil((Date.now() + leadMillis + entries * millisPerEntry) / 1_000) * 1_000
  await declare(world, entries, cronOf(at))
  if (Date.now() > at - 1_000) throw new Error(`declaring ${entries} entries took too long`)
  await sleep(at - 500 - Date.now())
  const used = () => servers.pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
  const [own, nats] = [used(), cpuSeconds(arena.server.pid)]
  await sleep(at - Date.now())
  await untilBegan(servers, entries, 120_000)
  await sleep(500)
  const cpuMillis = (used() - own) * 1_000 / entries
  const natsCpuMillis = (cpuSeconds(arena.server.pid) - nats) * 1_000 / entries
  const starts = await servers.take()
  checkOnce(starts, entries)
  const stored = (await storedTimes(world)).map((time) => time - at)
  if (stored.length !== entries) throw new Error(`${stored.length} of ${entries} entries are left`)
  const began = starts.map(([, , began]) => began - at)
  await servers.stop()
  await arena.clear(world)
  return {
    storedHalf: percentile(stored, 0.5),
    storedLast: percentile(stored, 1),
    beganHalf: percentile(began, 0.5),
    beganLast: percentile(began, 1),
    cpuMillis,
    natsCpuMillis,
  }
}
