/**
 * What the compiler must know of recurring entries. Nothing here runs: the file is right when it passes
 * the type check, and each expected error is one.
 */
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import {
  type Client,
  type Errors,
  Job,
  type JobRecord,
  type NatsError,
  Recurring,
} from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

const Mail = Job.make("mail", { payload: Schema.Struct({ to: Schema.String }) })
const Nothing = Job.make("nothing")

/** An entry is given what its job takes. */
export const declaring = (): void => {
  const upserted = Recurring.upsert("mail", {
    job: Mail,
    payload: { to: "ada" },
    schedule: "0 9 * * MON-FRI",
    timeZone: "Europe/Berlin",
    misfire: { policy: "all", cap: 10 },
    overlap: "queueOne",
    jitter: "30 seconds",
    from: "2030-01-01T00:00:00Z",
    until: new Date(),
    limit: 5,
    queue: "mail",
    priority: "high",
    timeout: "1 minute",
    description: "greets",
  })
  same<
    typeof upserted,
    Effect.Effect<Recurring.Upserted, Client.EnqueueError, Client.Client>
  >(true)
  Recurring.upsert("nothing", { job: Nothing, schedule: { every: "1 hour", offset: "5 minutes" } })
  // @ts-expect-error: it takes something
  Recurring.upsert("mail", { job: Mail, schedule: "@daily" })
  // @ts-expect-error: that is no text
  Recurring.upsert("mail", { job: Mail, payload: { to: 5 }, schedule: "@daily" })
  // @ts-expect-error: it takes nothing
  Recurring.upsert("nothing", { job: Nothing, payload: 5, schedule: "@daily" })
  // @ts-expect-error: an entry has a schedule
  Recurring.upsert("nothing", { job: Nothing })
  // @ts-expect-error: there is no such policy
  Recurring.upsert("nothing", { job: Nothing, schedule: "@daily", misfire: "never" })
  // @ts-expect-error: there is no such option
  Recurring.upsert("nothing", { job: Nothing, schedule: "@daily", id: "mine" })
}

/** Declarations of any jobs make up a set. */
export const syncing = (): void => {
  const declarations = [
    Recurring.define("mail", { job: Mail, payload: { to: "ada" }, schedule: "@daily" }),
    Recurring.define("nothing", { job: Nothing, schedule: { at: [0, new Date()] } }),
  ]
  same<typeof declarations, Array<Recurring.Declaration>>(true)
  const synced = Recurring.sync(declarations, { set: "mine", removeOthers: true })
  same<typeof synced, Effect.Effect<Recurring.Synced, Client.EnqueueError, Client.Client>>(true)
  const layer = Recurring.layer(declarations)
  same<typeof layer, Layer.Layer<never, Client.EnqueueError, Client.Client>>(true)
  // @ts-expect-error: it takes something
  Recurring.define("mail", { job: Mail, schedule: "@daily" })
  // @ts-expect-error: options are no declaration
  Recurring.sync([{ job: Nothing, schedule: "@daily" }])
}

/** What is read of entries. */
export const reading = (): void => {
  const page = Recurring.list({ state: "paused", search: "mail", limit: 5 })
  type Read = Errors.InvalidOptions | NatsError.NatsError
  same<typeof page, Effect.Effect<Recurring.Page, Read, Client.Client>>(true)
  const record = Recurring.get("mail")
  same<
    typeof record,
    Effect.Effect<Recurring.RecurringRecord, Recurring.EntryError, Client.Client>
  >(true)
  const run: Recurring.PastRun = null as never
  same<typeof run.job, JobRecord.JobRecord | undefined>(true)
  const times = Recurring.preview({ schedule: "@daily", limit: 3 }, { count: 3, after: 0 })
  same<typeof times, Effect.Effect<ReadonlyArray<Date>, Errors.InvalidOptions>>(true)
  // @ts-expect-error: jobs have such states
  Recurring.list({ state: "enqueued" })
  // @ts-expect-error: a preview has no job
  Recurring.preview({ schedule: "@daily", job: Nothing })
}
