/** What a run of an entry costs beside a job that its process enqueues itself. */
import { declare, type Servers, startServers } from "../portfire/recurring.ts"
import type { Arena } from "../support/arena.ts"
import { cpuSeconds } from "../support/process.ts"
import { sleep } from "../support/time.ts"
import type { World } from "../support/workload.ts"

/** Processor time per job in ms. */
export interface Cost {
  readonly name: string
  readonly jobs: number
  readonly cpuMillis: number
  readonly natsCpuMillis: number
}

const perSecond = 100
const warmUpSeconds = 3

/** Watches a server for a while that is told to do something each second. */
const watch = async (
  arena: Arena,
  name: string,
  seconds: number,
  prepare: (world: World) => Promise<unknown>,
  everySecond: (servers: Servers) => Promise<void>,
): Promise<Cost> => {
  const world = arena.world()
  const servers = await startServers(world, 1)
  const [pid = 0] = servers.pids
  const natsPid = arena.server.pid
  await prepare(world)
  const watchFor = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      const wait = sleep(1_000)
      await everySecond(servers)
      await wait
    }
  }
  await watchFor(warmUpSeconds)
  const [own, nats, began] = [cpuSeconds(pid), cpuSeconds(natsPid), await servers.began()]
  await watchFor(seconds)
  const [ownAfter, natsAfter] = [cpuSeconds(pid), cpuSeconds(natsPid)]
  const jobs = await servers.began() - began
  await servers.stop()
  await arena.clear(world)
  return {
    name,
    jobs,
    cpuMillis: (ownAfter - own) * 1_000 / jobs,
    natsCpuMillis: (natsAfter - nats) * 1_000 / jobs,
  }
}

/** A hundred jobs a second: made by entries of one second, and enqueued by their own server. */
export const costs = async (arena: Arena, seconds: number): Promise<ReadonlyArray<Cost>> => [
  await watch(
    arena,
    "runs of entries",
    seconds,
    (world) => declare(world, perSecond, "* * * * * *"),
    () => Promise.resolve(),
  ),
  await watch(
    arena,
    "jobs enqueued, 16 at a time",
    seconds,
    () => Promise.resolve(),
    ({ enqueue }) => enqueue(perSecond),
  ),
]
