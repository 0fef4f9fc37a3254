/**
 * What the compiler must know of batches. Nothing here runs: the file is right when it passes the type
 * check, and each expected error is one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Batch, type Client, Job, type JobRecord } from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

interface Files {
  readonly list: Effect.Effect<ReadonlyArray<string>, "NoFiles">
}
const Files: Context.Service<Files, Files> = Context.Service<Files>("test/Files")

const Resize = Job.make("resize", { payload: Schema.String })
const Count = Job.make("count", { payload: Schema.Number, success: Schema.Number })

/** A builder's errors and services are those of the batch. */
export const building = (): void => {
  const created = Batch.create(
    { description: "album", retention: { age: "1 day" } },
    (batch) =>
      Effect.gen(function* () {
        const files = yield* Files
        const ids = yield* batch.addMany(Resize, yield* files.list)
        same<typeof ids, ReadonlyArray<string>>(true)
        yield* batch.addAfter(ids, Count, ids.length, { on: "any" })
        yield* batch.add(Count, 1, { delay: "1 hour", queue: "slow" })
        yield* batch.addBatch({}, (inner) => inner.add(Count, 2))
      }),
  )
  same<Effect.Success<typeof created>, string>(true)
  same<Effect.Services<typeof created>, Client.Client | Files>(true)
  type Own = Exclude<Effect.Error<typeof created>, Client.EnqueueError>
  same<Own, "NoFiles" | Batch.BatchClosed | JobRecord.JobNotFound>(true)
  const attached = Batch.attach("id", (batch) => batch.add(Count, 1))
  same<Effect.Success<typeof attached>, void>(true)
  same<Effect.Services<typeof attached>, Client.Client>(true)
}

/** Members fit their definitions. */
export const members = (batch: Batch.Builder): void => {
  // @ts-expect-error: it takes a number
  batch.add(Count, "1")
  // @ts-expect-error: one of them is no text
  batch.addMany(Resize, ["a", 2])
  // @ts-expect-error: it follows something
  batch.addAfter(Count, 1)
  batch.addAfter("id", Count, Job.parentResult)
  // @ts-expect-error: a member has no id of its choice
  batch.add(Count, 1, { id: "mine" })
  // @ts-expect-error: there is no such option
  Batch.create({ name: "album" }, () => Effect.void)
}

/** What is read of it says where it stands. */
export const reading = (): void => {
  const awaited = Batch.await("id", { within: "1 minute" })
  same<typeof awaited, Effect.Effect<Batch.BatchRecord, Client.AwaitError, Client.Client>>(true)
  same<Batch.BatchState, "started" | "succeeded" | "completed" | "cancelled">(true)
  const counts: Batch.MemberCounts = null as never
  same<typeof counts.retrying, number>(true)
}
