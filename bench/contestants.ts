/**
 * Everything that is measured, in the order of the tables. A new contestant is one entry here; what it
 * needs lies in a file of its own.
 */
import { bareConsume } from "./baselines/consume.ts"
import { handWritten } from "./baselines/process.ts"
import { barePublish } from "./baselines/publish.ts"
import type { Workload } from "./support/workload.ts"

/** For `throughput.ts`. */
export const workloads: ReadonlyArray<Workload> = [barePublish, bareConsume, handWritten]
