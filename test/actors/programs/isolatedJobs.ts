/** Jobs that do what their payload says: in a thread, in a process, and in the server itself. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import process from "node:process"
import { threadId } from "node:worker_threads"
import { Job, Middleware, Retry } from "../../../mod.ts"

export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  why: Schema.String.check(Schema.isMaxLength(20)),
}) {}

const options = {
  payload: Schema.String,
  success: Schema.String,
  error: Refused,
  retry: Retry.fixed({ attempts: 1, delay: 0 }),
  logs: true,
} as const

export const InThread = Job.make("in/thread", { ...options, isolation: "thread" })
export const InProcess = Job.make("in/process", { ...options, isolation: "process" })
export const Here = Job.make("here", options)

/** Has little time. */
export const Short = Job.make("short", { ...options, isolation: "thread", timeout: "600 millis" })

/** Has a second attempt, not at once. */
export const Twice = Job.make("twice", {
  ...options,
  retry: Retry.fixed({ attempts: 2, delay: "1 second" }),
  isolation: "process",
})

const spin = (millis: number) => {
  const end = performance.now() + millis
  while (performance.now() < end);
}

let snoozed = 0

const deeds: Readonly<Record<string, (argument: number) => Effect.Effect<string, Refused>>> = {
  where: () => Effect.sync(() => `${process.pid}:${threadId}`),
  fail: () => Effect.fail(new Refused({ why: "asked to" })),
  unfit: () =>
    Effect.fail(
      Object.assign(new Refused({ why: "too short" }), {
        why: "it is far too long for its schema",
      }),
    ),
  crash: () => Effect.die(new TypeError("the handler's own")),
  interrupt: () => Effect.interrupt,
  discard: () => Job.discard("not wanted"),
  misfit: () => Effect.succeed(7 as unknown as string),
  huge: () => Effect.sync(() => "x".repeat(2_000_000)),
  snooze: () => snoozed++ === 0 ? Job.snooze(10) : Effect.succeed(`snoozed ${--snoozed}`),
  spin: (millis) => Effect.sync(() => spin(millis || 60_000)).pipe(Effect.as("spun")),
  veto: () => Middleware.veto("not this one"),
  never: () => Effect.never,
  stubborn: () => Effect.uninterruptible(Effect.never),
  exit: () => Effect.sync(() => process.exit(7)),
  throw: () =>
    Effect.andThen(
      Effect.sync(() =>
        setTimeout(() => {
          throw new Error("late")
        })
      ),
      Effect.never,
    ),
  hog: () =>
    Effect.sync(() => {
      const all: Array<unknown> = []
      while (true) all.push(new Array(1_000).fill({}))
    }),
  shot: () => Effect.andThen(Effect.sync(() => process.kill(process.pid, "SIGKILL")), Effect.never),
  reject: () =>
    Effect.andThen(Effect.sync(() => void Promise.reject(new Error("nobody's"))), Effect.never),
}

/** What all of them do. */
export const handle = (
  payload: string,
): Effect.Effect<string, Refused, Job.CurrentJob> =>
  Effect.gen(function* () {
    const [deed = "", argument] = payload.split(" ")
    if (deed === "facts") {
      const { report: _, ...facts } = yield* Job.current
      return JSON.stringify(facts)
    }
    if (deed === "parents") return JSON.stringify(yield* InThread.parentResults)
    if (deed === "span") {
      const span = yield* Effect.orDie(Effect.currentParentSpan)
      return `${span._tag} ${span.traceId} ${span.spanId}`
    }
    if (deed === "speak") {
      yield* Effect.annotateLogs(Effect.logWarning("hear", { me: 1 }), { tenant: "acme", n: 2 })
      yield* Effect.logDebug("not me")
      yield* Job.progress({ done: 1, total: 4, note: "a quarter" })
      return "spoken"
    }
    if (deed === "flood") {
      for (let i = 1; i <= 20_000; i++) {
        yield* Job.progress({ done: i, total: 20_000 })
        yield* Effect.log(`line ${i}`)
      }
      return "flooded"
    }
    if (deed === "age") {
      // The second attempt finds a worker that was there before it began.
      const { attempt, started } = yield* Job.current
      if (attempt === 1) process.exit(1)
      if (performance.timeOrigin > started.getTime()) return yield* Effect.die("it was cold")
    }
    if (deed === "count") {
      for (let i = 1; i <= 5; i++) {
        spin(100)
        yield* Job.progress(i / 5)
      }
      return "counted"
    }
    return yield* (deeds[deed] ?? (() => Effect.succeed(`did ${deed}`)))(Number(argument))
  })
