/** The job of examples/isolation.ts, for who enqueues it and who runs it. */
import { Job, Retry } from "../mod.ts"
import * as Schema from "effect/Schema"

export const Factor = Job.make("factor", {
  payload: Schema.Number,
  success: Schema.Array(Schema.Number),
  queue: "heavy",
  isolation: "thread",
  timeout: "2 seconds",
  retry: Retry.fixed({ attempts: 1, delay: 0 }),
})
