/** A server with promises in a process of its own, until a signal. */
import process from "node:process"
import { connect, job } from "../../../actors/promise/mod.ts"

const Wait = job("wait")

const portfire = await connect({ embedded: { dataDir: process.env["DATA_DIR"] ?? "" } })
await portfire.serve({
  queues: { default: 5 },
  signals: true,
  onEvent: (event) => {
    if (event._tag === "DrainStarted" && event.queue === "default") console.log("draining")
    if (event._tag === "JobMoved" && event.id === "one") console.log(event.to)
  },
  handlers: [Wait.handler(async () => {
    console.log("started")
    await new Promise((done) => setTimeout(done, 300))
  })],
})
await portfire.enqueue(Wait, undefined, { id: "one" })
