/** What the benchmarks of idle processes and of memory measure. */
import type { World } from "./workload.ts"

/**
 * A worker as a program of its own. It finds server and namespace in the environment
 * (`BENCH_SERVERS`, `BENCH_NAMESPACE`), writes a line `ready` when it serves, and ends on SIGTERM.
 */
export interface WorkerProgram {
  readonly name: string
  readonly file: URL
  /** What must exist before it starts. */
  readonly prepare: (world: World) => Promise<void>
  /** Enqueues jobs for it, or has it enqueue some; nothing for one that is only watched idle. */
  readonly feed?: (world: World, count: number) => Promise<void>
}

/** The environment that a program is started with. */
export const environmentOf = (world: World): Readonly<Record<string, string>> => ({
  BENCH_SERVERS: world.url,
  BENCH_NAMESPACE: world.namespace,
})
