/** What entries cost whose time is far away. */
import { jobsStream } from "../../src/nats/Subjects.ts"
import { declare, startServers } from "../portfire/recurring.ts"
import type { Arena } from "../support/arena.ts"
import { api } from "../support/jobs.ts"
import { cpuSeconds, residentMiB } from "../support/process.ts"
import { sleep } from "../support/time.ts"

/** What a server and nats-server use beside so many entries. */
export interface AtRest {
  readonly entries: number
  /** Seconds in which they were declared, and declared again as they were. */
  readonly declareSeconds: number
  readonly declareAgainSeconds: number
  readonly bytesPerEntry: number
  readonly cpuPercent: number
  readonly natsCpuPercent: number
  readonly residentMiB: number
  readonly natsResidentMiB: number
}

const settleMillis = 5_000

/** Watches a server beside entries of the last day of February for a while. */
export const atRest = async (
  arena: Arena,
  entries: number,
  seconds: number,
): Promise<AtRest> => {
  const world = arena.world()
  const schedule = "0 0 29 2 *"
  const declareSeconds = await declare(world, entries, schedule)
  const declareAgainSeconds = await declare(world, entries, schedule)
  const { state } = await api<{ readonly state: { readonly bytes: number } }>(
    arena.connection,
    `STREAM.INFO.${jobsStream(world.namespace, 0)}`,
  )
  const servers = await startServers(world, 1)
  const [pid = 0] = servers.pids
  const natsPid = arena.server.pid
  await sleep(settleMillis)
  const [own, nats, begin] = [cpuSeconds(pid), cpuSeconds(natsPid), performance.now()]
  await sleep(seconds * 1_000)
  const elapsed = (performance.now() - begin) / 1_000
  const result = {
    entries,
    declareSeconds,
    declareAgainSeconds,
    bytesPerEntry: state.bytes / entries,
    cpuPercent: (cpuSeconds(pid) - own) / elapsed * 100,
    natsCpuPercent: (cpuSeconds(natsPid) - nats) / elapsed * 100,
    residentMiB: residentMiB(pid),
    natsResidentMiB: residentMiB(natsPid),
  }
  await servers.stop()
  await arena.clear(world)
  return result
}
