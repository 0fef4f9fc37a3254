/**
 * What the compiler must know of jobs. Nothing here runs: the file is right when it passes the type
 * check, and each expected error is one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import {
  Bytes,
  Client,
  type Errors,
  Job,
  type JobRecord,
  Middleware,
  type Nats,
  type NatsError,
  Retry,
  Server,
} from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { code: Schema.Number }) {}

interface Mailer {
  readonly send: (to: string) => Effect.Effect<string>
}
const Mailer: Context.Service<Mailer, Mailer> = Context.Service<Mailer>("test/Mailer")

const Mail = Job.make("mail", {
  payload: Schema.Struct({ to: Schema.String, at: Schema.optional(Schema.Date) }),
  success: Schema.Struct({ id: Schema.BigInt }),
  error: Rejected,
})
const Nothing = Job.make("nothing")

/** Names, payloads, results and errors are those of the definition. */
export const definitions = (): void => {
  same<typeof Mail.name, "mail">(true)
  same<
    typeof Mail,
    Job.Job<
      "mail",
      { readonly to: string; readonly at?: Date | undefined },
      { readonly id: bigint },
      Rejected
    >
  >(true)
  same<typeof Nothing, Job.Job<"nothing", void, void, never>>(true)
  Job.make("blob", { payload: Bytes }).enqueue(new Uint8Array(1))
  Job.make("maybe", { payload: Schema.Option(Schema.Number) }).enqueue(Option.some(1))
  // @ts-expect-error: a name is a text
  Job.make(5)
  // @ts-expect-error: there is no such priority
  Job.make("a", { priority: "urgent" })
  // @ts-expect-error: there is no such option
  Job.make("a", { prioriy: "high" })
  // @ts-expect-error: a duration has a unit
  Job.make("a", { timeout: "30" })
  // @ts-expect-error: a schema that needs services can't be run by any server
  Job.make("a", { payload: Schema.String as unknown as Schema.Codec<string, string, Mailer> })
}

/** What is enqueued fits the payload; what may go wrong is known. */
export const enqueueing = (): void => {
  const enqueued = Mail.enqueue({ to: "ada" })
  same<
    typeof enqueued,
    Effect.Effect<string, Client.EnqueueError, Client.Client>
  >(true)
  type Tags = Client.EnqueueError["_tag"]
  type Known =
    | "InvalidOptions"
    | "InvalidPayload"
    | "PayloadTooLarge"
    | "TopologyConflict"
    | "Unavailable"
    | "Rejected"
    | "JobExists"
    | "EnqueueVetoed"
    | "MiddlewareFailed"
  same<Tags, Known>(true)
  const failure: Errors.InvalidPayload | NatsError.Unavailable = null as never
  const errors: Client.EnqueueError = failure
  void errors
  Nothing.enqueue()
  // @ts-expect-error: it takes a text
  Mail.enqueue({ to: 5 })
  // @ts-expect-error: the field is missing
  Mail.enqueue({})
  // @ts-expect-error: there is no such field
  Mail.enqueue({ to: "ada", cc: "bob" })
  // @ts-expect-error: it takes something
  Mail.enqueue()
  // @ts-expect-error: it takes nothing
  Nothing.enqueue(5)
  // @ts-expect-error: an enqueue has no delay
  Mail.enqueue({ to: "ada" }, { delay: 5 })
  const decided = Retry.fixed<Rejected>({ attempts: 2, delay: 5, decide: () => true })
  // @ts-expect-error: what decides per error belongs to the definition
  Mail.enqueue({ to: "ada" }, { retry: decided })
}

/** A schedule has a delay or an instant, not both and not neither. */
export const scheduling = (): void => {
  Mail.schedule({ to: "ada" }, { delay: "2 seconds", queue: "mail" })
  Mail.schedule({ to: "ada" }, { at: new Date() })
  // @ts-expect-error: neither
  Mail.schedule({ to: "ada" }, {})
  // @ts-expect-error: nothing at all
  Mail.schedule({ to: "ada" })
  // @ts-expect-error: both
  Mail.schedule({ to: "ada" }, { delay: 5, at: 5 })
}

/** Many are an array, an iterable or an async iterable of payloads. */
export const enqueueingMany = (): void => {
  const many = Mail.enqueueMany([{ to: "ada" }], { atomic: true, delay: "1 hour" })
  const error = Effect.flip(many)
  same<Effect.Success<typeof many>, ReadonlyArray<string>>(true)
  same<
    Exclude<Effect.Success<typeof error>, Client.EnqueueError>["_tag"],
    "PartlyEnqueued"
  >(true)
  Mail.enqueueMany(new Set([{ to: "ada" }]))
  Mail.enqueueMany((async function* () {
    yield await Promise.resolve({ to: "ada" })
  })())
  // @ts-expect-error: one of them doesn't fit
  Mail.enqueueMany([{ to: "ada" }, { to: 5 }])
  // @ts-expect-error: it is no list
  Mail.enqueueMany({ to: "ada" })
}

/** A handler gets the payload and gives the result or the typed error; its services are its own. */
export const handlers = (): void => {
  const live = Mail.toLayer((payload) =>
    Effect.gen(function* () {
      same<typeof payload, { readonly to: string; readonly at?: Date | undefined }>(true)
      const job = yield* Job.current
      same<typeof job.id, string>(true)
      const mailer = yield* Mailer
      yield* Effect.acquireRelease(mailer.send(payload.to), () => Effect.void)
      yield* Nothing.enqueue().pipe(Effect.orDie)
      if (job.attempt > 3) yield* Job.discard("too often")
      if (job.attempt > 2) yield* Job.snooze("1 hour")
      if (job.attempt > 1) return yield* new Rejected({ code: 550 })
      return { id: 5n }
    })
  )
  // The client, the current job and the scope are the engine's to give.
  same<typeof live, Layer.Layer<Job.Handler<"mail">, never, Mailer>>(true)
  const scoped: Scope.Scope = null as never
  void scoped
  // @ts-expect-error: the result is another
  Mail.toLayer(() => Effect.succeed({ id: 5 }))
  // @ts-expect-error: there is no result
  Mail.toLayer(() => Effect.void)
  // @ts-expect-error: the error is none of the definition's
  Mail.toLayer(() => Effect.fail("rejected"))
  // @ts-expect-error: a job without an error schema has no typed errors
  Nothing.toLayer(() => Effect.fail(new Rejected({ code: 5 })))
}

/** A server with its handlers needs what they need, and a connection. */
export const servers = (): void => {
  const MailLive = Mail.toLayer(({ to }) =>
    Effect.flatMap(Mailer, (mailer) => Effect.as(mailer.send(to), { id: 5n }))
  )
  const live = Server.layer({ queues: { default: 20 } }).pipe(Layer.provide(MailLive))
  same<Layer.Services<typeof live>, Nats.Nats | Mailer>(true)
  same<Layer.Success<typeof live>, Server.Server | Client.Client>(true)
  // @ts-expect-error: a concurrency is a number
  Server.layer({ queues: { default: "20" } })
}

/** A record has the types of the definition it is read with. */
export const records = (): void => {
  const read = Mail.get("id")
  type Record = Effect.Success<typeof read>
  same<Record["payload"], { readonly to: string; readonly at?: Date | undefined }>(true)
  same<Record["result"], { readonly id: bigint } | undefined>(true)
  same<Record["attempts"][number]["error"], Rejected | undefined>(true)
  same<Effect.Error<typeof read>["_tag"], Client.ReadError["_tag"]>(true)
  const plain = Effect.flatMap(Client.Client, (client) => client.get("id"))
  same<Effect.Success<typeof plain>, JobRecord.JobRecord<unknown, unknown, unknown>>(true)
}

/** A policy decides about the errors of its definition. */
export const policies = (): void => {
  Job.make("a", {
    error: Rejected,
    retry: Retry.exponential({ decide: (error: Rejected) => error.code >= 500 }),
  })
  Job.make("a", { error: Rejected, retry: Retry.standard })
  Job.make("a", {
    error: Schema.String,
    // @ts-expect-error: it decides about another error
    retry: Retry.exponential({ decide: (error: Rejected) => error.code >= 500 }),
  })
  // @ts-expect-error: a decision is a truth or a duration
  Retry.exponential({ decide: () => "maybe" })
  // @ts-expect-error: a fixed policy has attempts
  Retry.fixed({ delay: 5 })
}

/** Middleware changes what is typed as unknown; what its makers need is what its layer needs. */
export const middleware = (): void => {
  const Audit = Middleware.make("audit", {
    enqueue: (request, next) => {
      same<typeof request.payload, unknown>(true)
      return next({ ...request, options: { ...request.options, priority: "high" } })
    },
    attempt: (attempt, next) => {
      same<typeof attempt.context, Readonly<Record<string, string>>>(true)
      return Effect.tap(next, () => Effect.log(attempt.id))
    },
    transition: ({ to }) => Effect.log(to),
  })
  const fromMailer = Effect.gen(function* () {
    const mailer = yield* Mailer
    yield* Effect.addFinalizer(() => Effect.void)
    if (Math.random() > 2) return yield* new Rejected({ code: 5 })
    return Middleware.make("mailer", { transition: ({ id }) => mailer.send(id) })
  })
  const plain = Middleware.layer([Audit])
  same<typeof plain, Layer.Layer<never>>(true)
  const live = Middleware.layer([Audit, fromMailer])
  same<typeof live, Layer.Layer<never, Rejected, Mailer>>(true)
  Job.make("a", { middleware: [Audit] })
  Middleware.make("veto", { enqueue: () => Middleware.veto("no") })
  // @ts-expect-error: a definition is data and takes no effects
  Job.make("a", { middleware: [fromMailer] })
  // @ts-expect-error: there is no such priority
  Middleware.make("a", { enqueue: (r, next) => next({ ...r, options: { priority: "urgent" } }) })
  // @ts-expect-error: what a hook needs is given to it when it is made
  Middleware.make("a", { attempt: (_, next) => Effect.andThen(Mailer, next) })
  // @ts-expect-error: an enqueue fails with the errors its callers know, or vetoes
  Middleware.make("a", { enqueue: () => Effect.fail("no") })
  // @ts-expect-error: there is no such hook
  Middleware.make("a", { around: () => Effect.void })
  // @ts-expect-error: that is no middleware
  Middleware.layer([5])
}
