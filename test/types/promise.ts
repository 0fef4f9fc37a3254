/**
 * What the compiler must know of jobs in code with promises. Nothing here runs: the file is right when
 * it passes the type check, and each expected error is one.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Client as EffectClient, Job as EffectJob } from "../../mod.ts"
import {
  connect,
  Flow,
  fromEffect,
  type InputOf,
  type Job,
  job,
  type JobRecord,
  middleware,
  Operation,
  type OutputOf,
  parentResult,
  type Portfire,
  Recurring,
  Retry,
  type StandardSchema,
  veto,
} from "../../actors/promise/mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

interface Mail {
  readonly to: string
}
declare const mail: StandardSchema<Mail>
declare const numeric: StandardSchema<string, number>
declare const portfire: Portfire

const Send = job("mail", { payload: mail, success: numeric, queue: "mail" })
const Double = job("double", { payload: numeric, success: mail })
const Nothing = job("nothing")

/** A definition knows both sides of its schemas. */
export const definitions = (): void => {
  same<typeof Send, Job<"mail", Mail, Mail, string, number, never>>(true)
  same<typeof Nothing, Job<"nothing", void, void, void, void, never>>(true)
  same<InputOf<typeof numeric>, string>(true)
  same<OutputOf<typeof numeric>, number>(true)
  const effectSchema = Schema.toStandardSchemaV1(Schema.NumberFromString)
  const FromEffect = job("from-effect", { payload: effectSchema })
  same<typeof FromEffect, Job<"from-effect", string, number, void, void, never>>(true)
  job("a", {
    payload: numeric,
    retry: Retry.exponential({ attempts: 5, decide: (error) => error instanceof TypeError }),
    unique: { key: (text: string) => text, until: "1 hour" },
    migrations: { 1: async (old) => await Promise.resolve(old) },
    version: 2,
  })
  // @ts-expect-error: there is no such option
  job("a", { prioriy: "high" })
  // @ts-expect-error: errors have no schema here
  job("a", { error: mail })
  // @ts-expect-error: that is no schema of the standard
  job("a", { payload: Schema.String })
  // @ts-expect-error: the key is made of what goes in
  job("a", { payload: numeric, unique: { key: (n: number) => `${n}` } })
}

/** What is enqueued goes into the schema of the payload. */
export const enqueueing = (): void => {
  const id = portfire.enqueue(Send, { to: "ada" }, { priority: "high" })
  same<typeof id, Promise<string>>(true)
  portfire.enqueue(Double, "21")
  portfire.enqueue(Nothing)
  portfire.enqueue(Nothing, undefined, { id: "chosen", signal: AbortSignal.timeout(5) })
  portfire.schedule(Send, { to: "ada" }, { delay: "2 seconds", queue: "mail" })
  portfire.submit(Double, "21", { at: new Date() }).then(({ created }) =>
    same<typeof created, boolean>(true)
  )
  portfire.enqueueMany(Double, ["1", "2"], { atomic: true, delay: 5 })
  // @ts-expect-error: what comes out of the schema doesn't go into it
  portfire.enqueue(Double, 21)
  // @ts-expect-error: it takes something
  portfire.enqueue(Send)
  // @ts-expect-error: it takes nothing
  portfire.enqueue(Nothing, 5)
  // @ts-expect-error: there is no such field
  portfire.enqueue(Send, { to: "ada", cc: "bob" })
  // @ts-expect-error: an enqueue has no delay
  portfire.enqueue(Send, { to: "ada" }, { delay: 5 })
  // @ts-expect-error: neither a delay nor an instant
  portfire.schedule(Send, { to: "ada" }, {})
  // @ts-expect-error: one of them doesn't fit
  portfire.enqueueMany(Double, ["1", 2])
}

/** Results and records are what comes out of the schemas. */
export const results = async (): Promise<void> => {
  const result = await portfire.execute(Send, { to: "ada" }, { within: "5 seconds" })
  same<typeof result, number>(true)
  const awaited = await portfire.await(Double, "id")
  same<typeof awaited, Mail>(true)
  const nothing = portfire.execute(Nothing)
  same<typeof nothing, Promise<void>>(true)
  const record = await portfire.get(Double, "id")
  same<typeof record, JobRecord<number, Mail, never>>(true)
  const plain = await portfire.get("id")
  same<typeof plain, JobRecord>(true)
  for await (const item of portfire.follow("id")) same<typeof item._tag, "Line" | "Progress">(true)
  const batch = portfire.batches.create({}, (batch) => batch.addMany(Double, ["1"]))
  same<typeof batch, Promise<string>>(true)
  portfire.enqueueAfter(Double, ["id"], "1", { on: "any", delay: "1 hour" })
  portfire.enqueueAfter(Double, "id", parentResult)
  const answer = await portfire.operate("id", Operation.cancel(), { ifState: "scheduled" })
  same<typeof answer._tag, "changed" | "notFound" | "conflict">(true)
  // @ts-expect-error: what comes out of the schema doesn't go into it
  portfire.batches.create({}, (batch) => batch.add(Double, 5))
  // @ts-expect-error: nobody knows of which definition
  portfire.await("id")
}

/** A step of a flow takes what the handler before it returns. */
export const flows = (): void => {
  const doubled = Flow.job(Send, { to: "ada" }).andThen(Double)
  same<typeof doubled, Flow.Flow<Mail, Mail>>(true)
  const sent = portfire.flows.execute(doubled.andThen(Send), { within: 5 })
  same<typeof sent, Promise<number>>(true)
  const both = Flow.all([doubled, Flow.job(Send, { to: "ada" })])
  same<typeof both, Flow.Flow<readonly [Mail, string], readonly [Mail, number]>>(true)
  const each = Flow.all([Flow.job(Send, { to: "ada" })]).forEach(Double)
  same<typeof each, Flow.Flow<ReadonlyArray<Mail>, ReadonlyArray<Mail>>>(true)
  // @ts-expect-error: what comes out of a schema is not what goes into the next one
  Flow.job(Double, "21").andThen(Double)
  // @ts-expect-error: that is no list
  doubled.forEach(Send)
  // @ts-expect-error: it takes something
  Flow.job(Double)
}

/** A handler gets what comes out of the payload's schema and gives what goes into the result's. */
export const handlers = (): void => {
  Send.handler((payload, { attempt, discard, id, signal }) => {
    same<typeof payload, Mail>(true)
    same<typeof signal, AbortSignal>(true)
    if (attempt > 3) return discard(id)
    return `${attempt}`
  })
  Double.handler(async (payload, { client }) => {
    same<typeof payload, number>(true)
    await client.enqueue(Nothing)
    return { to: "ada" }
  })
  Nothing.handler(async (_, { parentResults }) => {
    const parents = await parentResults(Send)
    same<typeof parents, ReadonlyArray<number>>(true)
    await Promise.resolve()
  })
  portfire.serve({ queues: { mail: 5 }, handlers: [Send.handler(() => "5")], signals: true })
  // @ts-expect-error: what comes out of the schema doesn't go into it
  Send.handler(() => 5)
  // @ts-expect-error: there is no result
  Double.handler(async () => {})
  // @ts-expect-error: the definition has no result
  Nothing.handler(() => 5)
  // @ts-expect-error: that is the function, not the handler made of it
  portfire.serve({ queues: { mail: 5 }, handlers: [() => "5"] })
  // @ts-expect-error: a server has handlers
  portfire.serve({ queues: { mail: 5 } })
}

/** Definitions go from one style to the other with their types. */
export const both = async (): Promise<void> => {
  class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}
  const Square = EffectJob.make("square", {
    payload: Schema.Number,
    success: Schema.Date,
    error: Broken,
  })
  const Promised = fromEffect(Square)
  same<typeof Promised, Job<"square", number, number, Date, Date, Broken>>(true)
  const back: EffectJob.Job<"square", number, Date, Broken> = Promised.effect
  const date = await portfire.execute(Promised, 5)
  same<typeof date, Date>(true)
  const run = await portfire.run(back.execute(5))
  same<typeof run, Date>(true)
  const enqueued = Nothing.effect.enqueue()
  same<typeof enqueued, Effect.Effect<string, EffectClient.EnqueueError, EffectClient.Client>>(true)
  // Its types differ on the two sides, of which Effect's definitions know one.
  Send.effect.toLayer((payload) => {
    same<typeof payload, Mail>(true)
    return null as unknown as Effect.Effect<unknown>
  })
  // @ts-expect-error: an Effect definition has to be wrapped
  portfire.enqueue(Square, 5)
}

/** A connection is to a server that is there, or to one of its own. */
export const connections = (): void => {
  connect()
  connect({ servers: ["a:4222", "b:4222"], namespace: "a", streams: { replicas: 3 } })
  connect({ embedded: true })
  connect({ embedded: { dataDir: "data" }, middleware: [] })
  // @ts-expect-error: the one or the other
  connect({ embedded: true, servers: "a:4222" })
  // @ts-expect-error: there is no such option
  connect({ server: "a:4222" })
}

/** Middleware changes what is typed as unknown. */
export const middlewares = (): void => {
  const Audit = middleware("audit", {
    enqueue: async (request, next) => {
      same<typeof request.payload, unknown>(true)
      if (request.name === "spam") veto("no")
      return await next({ ...request, options: { ...request.options, priority: "high" } })
    },
    attempt: async (attempt, next) => {
      same<typeof attempt.context, Readonly<Record<string, string>>>(true)
      return await next()
    },
  })
  connect({ middleware: [Audit] })
  job("a", { middleware: [Audit] })
  // @ts-expect-error: there is no such hook
  middleware("a", { around: () => {} })
  // @ts-expect-error: an enqueue gives an id
  middleware("a", { enqueue: async () => {} })
}

/** Entries are given what goes into the schema of their job. */
export const recurring = async (): Promise<void> => {
  const { change, entry } = await portfire.recurring.upsert("mail", {
    job: Send,
    payload: { to: "ada" },
    schedule: "0 9 * * MON",
    timeZone: "Europe/Berlin",
    signal: AbortSignal.timeout(5),
  })
  same<typeof change, "created" | "changed" | "unchanged">(true)
  same<typeof entry, Recurring.RecurringRecord>(true)
  const declarations = [
    Recurring.define("double", { job: Double, payload: "21", schedule: { every: "1 hour" } }),
    Recurring.define("nothing", { job: Nothing, schedule: { at: [new Date()] } }),
  ]
  const synced = await portfire.recurring.sync(declarations, { set: "mine", removeOthers: true })
  same<typeof synced.removed, ReadonlyArray<string>>(true)
  const page = await portfire.recurring.list({ state: "active" })
  same<typeof page, Recurring.Page>(true)
  const [run] = await portfire.recurring.history("mail")
  same<typeof run, Recurring.PastRun | undefined>(true)
  const times = Recurring.preview({ schedule: "@daily" }, { count: 5 })
  same<typeof times, ReadonlyArray<Date>>(true)
  // @ts-expect-error: what comes out of the schema doesn't go into it
  Recurring.define("double", { job: Double, payload: 21, schedule: "@daily" })
  // @ts-expect-error: it takes something
  Recurring.define("mail", { job: Send, schedule: "@daily" })
  // @ts-expect-error: it takes nothing
  Recurring.define("nothing", { job: Nothing, payload: 5, schedule: "@daily" })
  // @ts-expect-error: an entry has a schedule
  portfire.recurring.upsert("nothing", { job: Nothing })
  // @ts-expect-error: there is no such option
  portfire.recurring.upsert("nothing", { job: Nothing, schedule: "@daily", delay: 5 })
}
