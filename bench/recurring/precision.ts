/** How late the handlers of entries begin that are due each second. */
import { checkOnce, declare, startServers } from "../portfire/recurring.ts"
import type { Arena } from "../support/arena.ts"
import { type Distribution, distribution } from "../support/statistics.ts"
import { sleep } from "../support/time.ts"

/** How late so many entries were. */
export interface Precision extends Distribution {
  readonly name: string
  /** Share that began within 50 ms of the nominal time. */
  readonly within50: number
  /** Share that began within 500 ms of it. */
  readonly within500: number
}

const share = (values: ReadonlyArray<number>, limit: number): number =>
  values.filter((value) => value <= limit).length / values.length

/** Watches entries of one second for a while; the first two seconds don't count. */
export const precision = async (
  arena: Arena,
  entries: number,
  seconds: number,
): Promise<Precision> => {
  const world = arena.world()
  const servers = await startServers(world, 1)
  await declare(world, entries, "* * * * * *")
  const from = Math.ceil(Date.now() / 1_000) * 1_000 + 2_000
  const end = from + seconds * 1_000
  await sleep(end + 1_500 - Date.now())
  const starts = (await servers.take()).filter(([, at]) => at >= from && at < end)
  await servers.stop()
  await arena.clear(world)
  checkOnce(starts, entries * seconds)
  const late = starts.map(([, at, began]) => began - at)
  return {
    name: entries === 1 ? "1 entry" : `${entries} entries`,
    ...distribution(late),
    within50: share(late, 50),
    within500: share(late, 500),
  }
}
