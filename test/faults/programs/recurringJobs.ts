/** What recurring entries make while servers are killed. */
import * as Schema from "effect/Schema"
import { Job } from "../../../mod.ts"

/** Takes some milliseconds. */
export const Tick: Job.Job<"tick", { readonly millis: number }, void, never> = Job.make("tick", {
  payload: Schema.Struct({ millis: Schema.Number }),
})
