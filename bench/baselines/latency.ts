/** The least time from a publish to a callback: an open pull request and nothing around it. */
import { connect } from "nats"
import { makeId, makeJobStream, payloadBytes } from "../support/jobs.ts"
import type { Lane } from "../support/lane.ts"
import { pullAll } from "./consume.ts"

const nothing = new Uint8Array(0)

/** Publisher and consumer on connections of their own, as two processes would have them. */
export const bareLane: Lane = {
  name: "bare publish to pull callback",
  open: async ({ connection, namespace, url }, started) => {
    const stream = await makeJobStream(connection, namespace)
    const worker = await connect({ servers: url })
    const subscription = pullAll(worker, stream, ({ data, reply }) => {
      started(new DataView(data.buffer, data.byteOffset).getUint32(0))
      worker.publish(reply as string, nothing)
    })
    await worker.flush()
    return {
      send: (sample) => {
        const body = payloadBytes.slice()
        new DataView(body.buffer).setUint32(0, sample)
        connection.publish(stream.ready(makeId()), body)
      },
      close: async () => {
        subscription.unsubscribe()
        await worker.close()
      },
    }
  },
}
