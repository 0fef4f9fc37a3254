/** The jobs of a workflow whose server is killed, for the program and for the test that watches it. */
import * as Schema from "effect/Schema"
import { Job } from "../../../mod.ts"

const Numbers = Schema.Array(Schema.Number)

/** Counts up to a number. */
export const List: Job.Job<"list", number, ReadonlyArray<number>, never> = Job.make("list", {
  payload: Schema.Number,
  success: Numbers,
})

/** Runs once for each of them. */
export const Element: Job.Job<"element", number, number, never> = Job.make("element", {
  payload: Schema.Number,
  success: Schema.Number,
})
