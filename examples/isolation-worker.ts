/** What runs in the threads of examples/isolation.ts. */
import { Isolated, Job } from "../mod.ts"
import * as Effect from "effect/Effect"
import process from "node:process"
import { Factor } from "./isolation-jobs.ts"

Isolated.serve(Factor, (number) =>
  Effect.gen(function* () {
    // Nothing in here lets go of the processor.
    if (number < 0) { while (true); }
    if (number === 0) process.exit(1)
    const factors: Array<number> = []
    for (let rest = number, factor = 2; rest > 1; factor++) {
      for (; rest % factor === 0; rest /= factor) factors.push(factor)
      if (factor % 1_000_000 === 0) yield* Job.progress({ done: factor })
    }
    return factors
  }))
