/** Bare consuming: raw pull requests, a callback, an acknowledgement. */
import { createInbox, type Msg, type NatsConnection } from "nats"
import {
  countMessages,
  type JobStream,
  makeId,
  makeJobStream,
  payloadBytes,
  untilDrained,
} from "../support/jobs.ts"
import type { Workload } from "../support/workload.ts"
import { publishAll } from "./publish.ts"

/** Messages that one pull request asks for; two of them overlap. */
const batch = 1_000

const nothing = new Uint8Array(0)

/** Keeps two pull requests open until `unsubscribe`. Statuses that end one are answered by another. */
export const pullAll = (
  connection: NatsConnection,
  stream: JobStream,
  onMessage: (message: Msg) => void,
): { readonly unsubscribe: () => void } => {
  const inbox = createInbox()
  const request = JSON.stringify({ batch, expires: 30e9 })
  let open = 0
  const pull = () => {
    while (open <= batch) {
      open += batch
      connection.publish(stream.next, request, { reply: inbox })
    }
  }
  const subscription = connection.subscribe(inbox, {
    callback: (_, message) => {
      if (message.reply === undefined || message.reply === "") {
        open -= Number(message.headers?.get("Nats-Pending-Messages") ?? 0)
      } else {
        open--
        onMessage(message)
      }
      if (open <= batch) pull()
    },
  })
  pull()
  return subscription
}

/** How fast jobs can leave the stream when nothing is done with them. */
export const bareConsume: Workload = {
  name: "bare consume-and-ack loop",
  count: (jobs) => jobs,
  setup: async ({ connection, namespace }, count) => {
    const stream = await makeJobStream(connection, namespace)
    const subjects = Array.from({ length: count }, () => stream.ready(makeId()))
    await publishAll(connection, subjects, payloadBytes)
    return {
      go: async () => {
        await new Promise<void>((resolve) => {
          let done = 0
          const subscription = pullAll(connection, stream, (message) => {
            connection.publish(message.reply as string, nothing)
            if (++done === count) {
              subscription.unsubscribe()
              resolve()
            }
          })
        })
        await untilDrained(connection, namespace)
      },
      verify: async () => {
        const left = await countMessages(connection, namespace, "*")
        if (left !== 0) throw new Error(`${left} of ${count} messages were not removed`)
      },
      close: () => Promise.resolve(),
    }
  },
}
