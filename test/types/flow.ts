/**
 * What the compiler must know of workflows. Nothing here runs: the file is right when it passes the
 * type check, and each expected error is one.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Client, Flow, Job } from "../../mod.ts"

/** Whether two types are the same, not only assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false

const same = <A, B>(_: Same<A, B>): void => {}

class Lost extends Schema.TaggedError<Lost>()("Lost", { url: Schema.String }) {}
class Torn extends Schema.TaggedError<Torn>()("Torn", { page: Schema.Number }) {}

const Pages = Schema.Array(Schema.Struct({ text: Schema.String }))

const Fetch = Job.make("fetch", {
  payload: Schema.Struct({ url: Schema.String }),
  success: Pages,
  error: Lost,
})
const Read = Job.make("read", {
  payload: Schema.Struct({ text: Schema.String }),
  success: Schema.Number,
  error: Torn,
})
const Sum = Job.make("sum", { payload: Schema.Array(Schema.Number), success: Schema.Number })
const Text = Job.make("text", { payload: Schema.Number, success: Schema.String })
const Pair = Job.make("pair", {
  payload: Schema.Tuple([Schema.Number, Schema.String]),
  success: Schema.BigInt,
})
const Named = Job.make("named", {
  payload: Schema.Struct({ count: Schema.Number, text: Schema.String }),
})
const Nothing = Job.make("nothing")

/** Results and errors come together from step to step. */
export const steps = (): void => {
  const fetch = Flow.job(Fetch, { url: "a" })
  same<typeof fetch, Flow.Flow<ReadonlyArray<{ readonly text: string }>, Lost>>(true)
  const each = fetch.pipe(Flow.forEach(Read))
  same<typeof each, Flow.Flow<ReadonlyArray<number>, Lost | Torn>>(true)
  const sum = fetch.pipe(Flow.forEach(Read, { priority: "high" }), Flow.andThen(Sum))
  same<typeof sum, Flow.Flow<number, Lost | Torn>>(true)
  same<typeof sum, ReturnType<typeof dataFirst>>(true)
  const executed = Flow.execute(sum, { within: "1 second", description: "sum" })
  same<Effect.Success<typeof executed>, number>(true)
  same<Effect.Services<typeof executed>, Client.Client>(true)
  same<Extract<Effect.Error<typeof executed>, Lost | Torn>, Lost | Torn>(true)
  same<Flow.Success<typeof sum>, number>(true)
  same<Flow.Error<typeof sum>, Lost | Torn>(true)
  Flow.job(Nothing)
  Flow.job(Nothing, undefined, { delay: "1 second" })
}

const dataFirst = () =>
  Flow.andThen(Flow.forEach(Flow.job(Fetch, { url: "a" }), Read), Sum, { delay: "1 second" })

/** Parts side by side give a tuple, a list or a record. */
export const parts = (): void => {
  const both = Flow.all([Flow.job(Sum, [1]), Flow.job(Text, 1)])
  same<typeof both, Flow.Flow<readonly [number, string], never>>(true)
  const pair = both.pipe(Flow.andThen(Pair))
  same<typeof pair, Flow.Flow<bigint, never>>(true)
  const list = Flow.all([1, 2].map((n) => Flow.job(Text, n)))
  same<typeof list, Flow.Flow<ReadonlyArray<string>, never>>(true)
  const record = Flow.all({ count: Flow.job(Sum, [1]), text: Flow.job(Text, 1) })
  same<Flow.Success<typeof record>, { readonly count: number; readonly text: string }>(true)
  record.pipe(Flow.andThen(Named))
  const failing = Flow.all({ a: Flow.job(Fetch, { url: "a" }), b: Flow.job(Read, { text: "b" }) })
  same<Flow.Error<typeof failing>, Lost | Torn>(true)
}

/** What is shared goes on in several ways; a stand-in takes the place of errors. */
export const detours = (): void => {
  const diamond = Flow.job(Fetch, { url: "a" }).pipe(
    Flow.forEach(Read),
    Flow.andThen(Sum),
    Flow.share((n) => Flow.all([n, n.pipe(Flow.andThen(Text))])),
    Flow.andThen(Pair),
  )
  same<typeof diamond, Flow.Flow<bigint, Lost | Torn>>(true)
  const safe = Flow.job(Read, { text: "a" }).pipe(Flow.orElse(Flow.job(Sum, [])))
  same<typeof safe, Flow.Flow<number, never>>(true)
}

/** What doesn't fit is refused. */
export const refused = (): void => {
  const fetch = Flow.job(Fetch, { url: "a" })
  // @ts-expect-error: the payload is another
  Flow.job(Fetch, { uri: "a" })
  // @ts-expect-error: there is a payload to give
  Flow.job(Fetch)
  // @ts-expect-error: the pages are no single page
  fetch.pipe(Flow.andThen(Read))
  // @ts-expect-error: a page is no number
  fetch.pipe(Flow.forEach(Text))
  // @ts-expect-error: a number is no list
  Flow.job(Sum, [1]).pipe(Flow.forEach(Text))
  // @ts-expect-error: the other way round
  Flow.all([Flow.job(Text, 1), Flow.job(Sum, [1])]).pipe(Flow.andThen(Pair))
  // @ts-expect-error: a part is missing
  Flow.all({ count: Flow.job(Sum, [1]) }).pipe(Flow.andThen(Named))
  // @ts-expect-error: data first, too
  Flow.andThen(fetch, Text)
  // @ts-expect-error: what stands in gives the same
  Flow.job(Text, 1).pipe(Flow.orElse(Flow.job(Sum, [1])))
  // @ts-expect-error: a member of a batch has no id of its caller's choice
  Flow.job(Text, 1, { id: "a" })
  // @ts-expect-error: a part is a flow
  Flow.all([Text])
}
