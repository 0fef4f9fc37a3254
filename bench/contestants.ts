/**
 * Everything that is measured, in the order of the tables. A new contestant is one entry here; what it
 * needs lies in a file of its own.
 */
import { bareConsume } from "./baselines/consume.ts"
import { bareLane } from "./baselines/latency.ts"
import { handWritten } from "./baselines/process.ts"
import { barePublish } from "./baselines/publish.ts"
import { handWrittenWorker } from "./baselines/worker.ts"
import { enqueueMany, enqueueOneByOne } from "./portfire/enqueue.ts"
import { engineLane } from "./portfire/latency.ts"
import { processWithRecords } from "./portfire/process.ts"
import { embedded, enqueuer, server } from "./portfire/worker.ts"
import type { Lane } from "./support/lane.ts"
import type { WorkerProgram } from "./support/program.ts"
import type { Workload } from "./support/workload.ts"

/** For `throughput.ts`. */
export const workloads: ReadonlyArray<Workload> = [
  barePublish,
  ...enqueueOneByOne,
  enqueueMany,
  bareConsume,
  handWritten,
  processWithRecords,
]

/** For `latency.ts`. */
export const lanes: ReadonlyArray<Lane> = [bareLane, engineLane]

/** For `idle.ts` and `memory.ts`. */
export const programs: ReadonlyArray<WorkerProgram> = [
  handWrittenWorker,
  server,
  embedded,
  enqueuer,
]
