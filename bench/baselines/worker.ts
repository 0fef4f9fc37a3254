/** The hand-written processing loop for the benchmarks of whole processes. */
import { describeJobStream, makeId, makeJobStream } from "../support/jobs.ts"
import type { WorkerProgram } from "../support/program.ts"
import { encodeJob } from "./process.ts"
import { publishAll } from "./publish.ts"

/** How small and how quiet a worker can be that does nothing but its work. */
export const handWrittenWorker: WorkerProgram = {
  name: "hand-written processing loop",
  file: new URL("../programs/handWritten.ts", import.meta.url),
  prepare: async ({ connection, namespace }) => {
    await makeJobStream(connection, namespace)
  },
  feed: ({ connection, namespace }, count) => {
    const stream = describeJobStream(namespace)
    const subjects = Array.from({ length: count }, () => stream.ready(makeId()))
    return publishAll(connection, subjects, encodeJob())
  },
}
