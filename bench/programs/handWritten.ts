/** The hand-written processing loop as a process of its own. */
import { connect } from "nats"
import process from "node:process"
import { processAll } from "../baselines/process.ts"
import { describeJobStream } from "../support/jobs.ts"

const connection = await connect({ servers: process.env.BENCH_SERVERS ?? "" })
const stream = describeJobStream(process.env.BENCH_NAMESPACE ?? "")
processAll(connection, stream, () => true, (error) => {
  console.error(error)
  process.exit(1)
})
await connection.flush()
process.once("SIGTERM", () => process.exit(0))
console.log("ready")
