/** Isolated jobs of code with promises. */
import { job, Retry, serveIsolated, type StandardSchema } from "../../../actors/promise/mod.ts"

/** Texts that are numbers, as the numbers: it takes no number back. */
const digits: StandardSchema<string, number> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof value === "string" ? { value: Number(value) } : { issues: [{ message: "digits" }] },
  },
}

const options = {
  payload: digits,
  success: digits,
  logs: true,
  retry: Retry.fixed({
    attempts: 3,
    delay: 0,
    decide: (error) => (error as { readonly code?: string }).code === "BUSY",
  }),
} as const

export const Thread = job("promise/thread", { ...options, isolation: "thread" })
export const Process = job("promise/process", { ...options, isolation: "process" })
export const Nothing = job("promise/nothing", { isolation: "thread" })

for (const one of [Thread, Process]) {
  serveIsolated(one as typeof Thread, async (payload, { attempt, discard, id, log, progress }) => {
    if (payload === 1) discard("not one")
    if (payload === 2) {
      throw Object.assign(new RangeError("busy"), { code: attempt < 2 ? "BUSY" : "BROKEN" })
    }
    log("computing", { annotations: { id } })
    progress({ done: 1, total: 1 })
    return await Promise.resolve(String(payload * 2))
  })
}
serveIsolated(Nothing, () => {})
