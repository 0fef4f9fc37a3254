/** Jobs with unique keys, for programs that enqueue and for the tests that watch them. */
import * as Schema from "effect/Schema"
import { Job } from "../../../mod.ts"

/** Takes no time. */
export const Once: Job.Job<"once", { readonly key: string; readonly n: number }, void, never> = Job
  .make("once", {
    payload: Schema.Struct({ key: Schema.String, n: Schema.Number }),
    unique: { key: ({ key }) => key },
  })
