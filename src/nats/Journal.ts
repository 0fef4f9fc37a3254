/** What a job writes, heard as it writes it: hints that may get lost, beside what is stored. */
import type { JobId } from "../core/JobId.ts"
import type { Wire } from "./Wire.ts"

/** Calls back for each line and each progress of a job until it is told to stop. */
export const listen = (
  { nats: { connection }, subjects }: Wire,
  id: JobId,
  on: {
    readonly line: (bytes: Uint8Array) => void
    readonly progress: (bytes: Uint8Array) => void
  },
): () => void => {
  const subscribe = (subject: string, hear: (bytes: Uint8Array) => void) =>
    connection.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) hear(message.data)
      },
    })
  const lines = subscribe(subjects.log(id), on.line)
  const progress = subscribe(subjects.log(id, "progress"), on.progress)
  return () => {
    lines.unsubscribe()
    progress.unsubscribe()
  }
}
