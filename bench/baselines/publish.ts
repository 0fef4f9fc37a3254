/** Bare publishing to JetStream, as fast as the client library can be made to go. */
import { createInbox, type NatsConnection } from "nats"
import { countMessages, makeId, makeJobStream, payloadBytes } from "../support/jobs.ts"
import type { Workload } from "../support/workload.ts"

/** Messages with an outstanding answer. */
const window = 4_096

const letterS = "s".charCodeAt(0)

/**
 * Publishes message by message with a window of outstanding answers; the answers themselves drive
 * the sending. Resolves when the server has stored all, rejects when it refused one.
 */
export const publishAll = (
  connection: NatsConnection,
  subjects: ReadonlyArray<string>,
  body: Uint8Array,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const count = subjects.length
    const inbox = createInbox()
    const options = { reply: inbox }
    let sent = 0
    let stored = 0
    const send = () => {
      const end = Math.min(count, stored + window)
      while (sent < end) connection.publish(subjects[sent++] as string, body, options)
    }
    const answers = connection.subscribe(inbox, {
      callback: (_, message) => {
        // {"stream":… is an answer, {"error":… a refusal.
        if (message.data[2] !== letterS) {
          answers.unsubscribe()
          return reject(new Error(message.string() || String(message.headers?.code)))
        }
        stored++
        if (sent < count) {
          if (sent - stored <= window / 2) send()
        } else if (stored === count) {
          answers.unsubscribe()
          resolve()
        }
      },
    })
    send()
  })

/** The reference of every enqueue. */
export const barePublish: Workload = {
  name: "bare publish loop",
  count: (jobs) => jobs,
  setup: async ({ connection, namespace }, count) => {
    const stream = await makeJobStream(connection, namespace)
    const subjects = Array.from({ length: count }, () => stream.ready(makeId()))
    return {
      go: () => publishAll(connection, subjects, payloadBytes),
      verify: async () => {
        const found = await countMessages(connection, namespace, "ready")
        if (found !== count) throw new Error(`${found} of ${count} messages are stored`)
      },
      close: () => Promise.resolve(),
    }
  },
}
