/**
 * What the compiler must know of waiting for jobs. Nothing here runs: the file is right when it
 * passes the type check, and each expected error is one.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Client, Job, type JobOutcome, type JobRecord } from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

class Bounced extends Schema.TaggedError<Bounced>()("Bounced", { code: Schema.Number }) {}

const Mail = Job.make("mail", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.Struct({ id: Schema.BigInt }),
  error: Bounced,
})
const Nothing = Job.make("nothing")

type AwaitTags =
  | "InvalidOptions"
  | "JobNotFound"
  | "UnreadableRecord"
  | "Unavailable"
  | "Rejected"
  | "AwaitTimedOut"
type OutcomeTags = AwaitTags | "JobFailed" | "JobCancelled"
type ExecuteTags = OutcomeTags | Client.EnqueueError["_tag"]

/** The result and the typed error are those of the definition. */
export const executing = (): void => {
  const executed = Mail.execute({ to: "ada" }, { within: "5 seconds", priority: "high" })
  same<Effect.Success<typeof executed>, { readonly id: bigint }>(true)
  same<Effect.Services<typeof executed>, Client.Client>(true)
  type Errors = Effect.Error<typeof executed>
  same<Extract<Errors, Bounced>, Bounced>(true)
  same<Exclude<Errors, Bounced>, Client.EnqueueError | Client.OutcomeError>(true)
  same<Exclude<Errors, Bounced>["_tag"], ExecuteTags>(true)
  const plain = Nothing.execute()
  same<Effect.Success<typeof plain>, void>(true)
  same<Effect.Error<typeof plain>, Client.EnqueueError | Client.OutcomeError>(true)
  // @ts-expect-error: it takes a text
  Mail.execute({ to: 5 })
  // @ts-expect-error: it takes something
  Mail.execute()
  // @ts-expect-error: a duration has a unit
  Mail.execute({ to: "ada" }, { within: "5" })
  // @ts-expect-error: what is executed runs now
  Mail.execute({ to: "ada" }, { delay: "5 seconds" })
}

/** The errors can be told apart by their tags. */
export const handling = (): void => {
  const handled = Mail.execute({ to: "ada" }).pipe(
    Effect.catchTags({
      Bounced: ({ code }) => Effect.succeed({ id: BigInt(code) }),
      JobFailed: ({ record }) => Effect.succeed({ id: BigInt(record.attemptCount) }),
      JobCancelled: ({ reason }) => Effect.succeed({ id: BigInt(reason) }),
      AwaitTimedOut: ({ within }) => Effect.succeed({ id: BigInt(within) }),
    }),
  )
  same<
    Effect.Error<typeof handled>["_tag"],
    Exclude<
      ExecuteTags,
      "JobFailed" | "JobCancelled" | "AwaitTimedOut"
    >
  >(true)
  same<JobOutcome.JobFailed["record"], JobRecord.JobRecord<unknown, unknown, unknown>>(true)
}

/** Waiting for an id has no errors of storing; without a definition there is a record. */
export const awaiting = (): void => {
  const awaited = Mail.await("id", { within: 500 })
  same<Effect.Success<typeof awaited>, { readonly id: bigint }>(true)
  same<Effect.Error<typeof awaited>, Bounced | Client.OutcomeError>(true)
  same<Client.OutcomeError["_tag"], OutcomeTags>(true)
  const record = Effect.flatMap(Client.Client, (client) => client.awaitRecord("id"))
  same<Effect.Success<typeof record>, JobRecord.JobRecord<unknown, unknown, unknown>>(true)
  same<Effect.Error<typeof record>["_tag"], AwaitTags>(true)
  // @ts-expect-error: only how long can be said
  Mail.await("id", { queue: "mail" })
}
