/**
 * What the compiler must know of jobs that follow others. Nothing here runs: the file is right when
 * it passes the type check, and each expected error is one.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Client, Job, type JobRecord } from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

const Count = Job.make("count", { payload: Schema.String, success: Schema.Number })
const Add = Job.make("add", { payload: Schema.Array(Schema.Number), success: Schema.Number })

/** A child has a payload of its own, or what its parents give in its place. */
export const payloads = (): void => {
  const child = Add.enqueueAfter("id", [1, 2])
  same<Effect.Success<typeof child>, string>(true)
  same<Effect.Error<typeof child>, Client.EnqueueError | JobRecord.JobNotFound>(true)
  same<Effect.Services<typeof child>, Client.Client>(true)
  Add.enqueueAfter(["a", "b"], Job.parentResults)
  Count.enqueueAfter("id", Job.parentResult)
  // @ts-expect-error: it takes numbers
  Add.enqueueAfter("id", ["one"])
  // @ts-expect-error: it takes something
  Add.enqueueAfter("id")
  // @ts-expect-error: only what follows another job has parents
  Count.enqueue(Job.parentResult)
  // @ts-expect-error: an id is a text
  Count.enqueueAfter(5, "x")
}

/** Its options are those of a job, and when it follows. */
export const options = (): void => {
  Count.enqueueAfter("id", "x", { on: "failed", need: "any", delay: "1 hour", queue: "mail" })
  Count.enqueueAfter("id", "x", { on: ["failed", "cancelled"], priority: "high" })
  Count.enqueueAfter("id", "x", { on: "any" })
  // @ts-expect-error: there is no such ending
  Count.enqueueAfter("id", "x", { on: "ended" })
  // @ts-expect-error: any stands alone
  Count.enqueueAfter("id", "x", { on: ["failed", "any"] })
  // @ts-expect-error: all or any
  Count.enqueueAfter("id", "x", { need: "some" })
  // @ts-expect-error: its place is beside its parents
  Count.enqueueAfter("id", "x", { id: "chosen" })
  // @ts-expect-error: when it runs depends on its parents
  Count.enqueueAfter("id", "x", { at: new Date() })
}

/** A handler reads what its parents gave by their definition. */
export const handlers = (): void => {
  Add.toLayer(() =>
    Effect.gen(function* () {
      const given = yield* Count.parentResults
      same<typeof given, ReadonlyArray<number>>(true)
      const { parents } = yield* Job.current
      const state = parents[0]?.outcome?.state
      same<typeof state, "succeeded" | "failed" | "cancelled" | undefined>(true)
      return given.length
    })
  )
  // @ts-expect-error: there are no parents outside of a handler
  Effect.runPromise(Count.parentResults)
}
