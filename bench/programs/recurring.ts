/**
 * A server as a process of its own that remembers when each run began, and enqueues plain jobs of the
 * same kind when it is told to.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { connect, type Msg } from "nats"
import process from "node:process"
import { Job, Server } from "../../mod.ts"
import { connectionTo } from "../portfire/engine.ts"
import { type Start, startsFrom, Tick } from "../portfire/recurring.ts"
import { queue } from "../support/jobs.ts"

const url = process.env.BENCH_SERVERS ?? ""
const namespace = process.env.BENCH_NAMESPACE ?? ""
const subject = startsFrom(namespace, process.env.BENCH_NAME ?? "")
const starts: Array<Start> = []
let began = 0

const TickLive = Tick.toLayer(() =>
  Effect.map(Job.current, ({ id, recurring }) => {
    began++
    if (recurring !== undefined) starts.push([id, recurring.at.getTime(), Date.now()])
  })
)
const runtime = ManagedRuntime.make(
  Server.layer({ queues: { [queue]: 100 } }).pipe(
    Layer.provide(TickLive),
    Layer.provide(connectionTo({ url, namespace })),
  ),
)
await runtime.context()
const connection = await connect({ servers: url })

const enqueue = async (request: Msg) => {
  const jobs = Array.from({ length: Number(request.string()) }, () => Tick.enqueue())
  await runtime.runPromise(Effect.all(jobs, { concurrency: 16, discard: true }))
  request.respond()
}

/** What was asked for, a page at a time. */
const page = 5_000
const serve = (what: string, answer: (request: Msg) => void) => {
  connection.subscribe(`${subject}.${what}`, { callback: (_, request) => answer(request) })
}
serve("count", (request) => request.respond(String(began)))
serve("take", (request) => request.respond(JSON.stringify(starts.splice(0, page))))
serve("enqueue", (request) => {
  enqueue(request).catch((error) => request.respond(String(error)))
})
await connection.flush()
process.once("SIGTERM", () => {
  void runtime.dispose().finally(() => process.exit(0))
})
console.log("ready")
