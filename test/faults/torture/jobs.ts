/** The jobs of the torture, for the programs and for who watches them. */
import * as Schema from "effect/Schema"
import { Job, Retry } from "../../../mod.ts"

const Numbers = Schema.Array(Schema.Number)
const retry = Retry.fixed({ attempts: 3, delay: "300 millis" })

/** What an attempt does. */
export type Step = "succeed" | "fail" | "crash"

/** Does what is planned for each attempt; without a plan it succeeds. */
export const Work: Job.Job<
  "work",
  { readonly steps: ReadonlyArray<string>; readonly millis: number },
  number,
  string
> = Job.make("work", {
  payload: Schema.Struct({ steps: Schema.Array(Schema.String), millis: Schema.Number }),
  success: Schema.Number,
  error: Schema.String,
  retry,
})

/** One at a time for each key. */
export const Once: Job.Job<
  "once",
  { readonly key: string; readonly millis: number },
  void,
  never
> = Job.make("once", {
  payload: Schema.Struct({ key: Schema.String, millis: Schema.Number }),
  unique: { key: ({ key }) => key },
  retry,
})

/** Counts up to a number. */
export const List: Job.Job<"list", number, ReadonlyArray<number>, never> = Job.make("list", {
  payload: Schema.Number,
  success: Numbers,
  retry,
})

/** Runs for each of them. */
export const Element: Job.Job<"element", number, number, never> = Job.make("element", {
  payload: Schema.Number,
  success: Schema.Number,
  retry,
})

/** Adds up what the elements gave. */
export const Sum: Job.Job<"sum", ReadonlyArray<number>, number, never> = Job.make("sum", {
  payload: Numbers,
  success: Schema.Number,
  retry,
})

/** What a recurring entry makes. */
export const Tick: Job.Job<"tick", void, void, never> = Job.make("tick", { retry })

/** What a handler can do wrong. */
export type Trouble = "block" | "endless" | "stubborn" | "finalizer" | "exit"

/** A handler that behaves badly. */
export const Bad: Job.Job<
  "bad",
  { readonly trouble: string; readonly millis: number },
  void,
  never
> = Job.make("bad", {
  payload: Schema.Struct({ trouble: Schema.String, millis: Schema.Number }),
  timeout: "1 second",
  retry: Retry.fixed({ attempts: 2, delay: "200 millis" }),
})

/** The queues that jobs wait in. */
export const queues: ReadonlyArray<string> = ["default", "other"]
