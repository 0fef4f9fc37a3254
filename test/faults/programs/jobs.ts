/** The jobs that are run while things are killed, for the programs and for the tests that watch them. */
import * as Schema from "effect/Schema"
import { Job, Retry } from "../../../mod.ts"

/** Takes its time, and fails or snoozes on its first attempts. */
export const Step: Job.Job<
  "step",
  { readonly millis: number; readonly failures?: number; readonly snoozes?: number },
  string,
  never
> = Job.make("step", {
  payload: Schema.Struct({
    millis: Schema.Number,
    failures: Schema.optionalKey(Schema.Number),
    snoozes: Schema.optionalKey(Schema.Number),
  }),
  success: Schema.String,
  retry: Retry.fixed({ attempts: 4, delay: "300 millis", jitter: 0 }),
})

/** Ends in failure at once. */
export const Doomed: Job.Job<"doomed", void, void, never> = Job.make("doomed", {
  retry: Retry.none,
})

/** Kills the process that runs it. */
export const Poison: Job.Job<"poison", void, void, never> = Job.make("poison")

/** A job that only some servers know. */
export const Stranger: Job.Job<"stranger", void, void, never> = Job.make("stranger")
