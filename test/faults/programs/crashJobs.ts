/** The jobs that operations are tried on while who does them is killed. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Job, Retry } from "../../../mod.ts"

/** What each of them is told. */
export interface Told {
  /** Its first attempt fails and is repeated. */
  readonly retries?: boolean
  /** It fails for good while the world is broken. */
  readonly breaks?: boolean
  /** It runs until the gates are opened. */
  readonly gated?: boolean
  /** It runs for most of a second. */
  readonly slow?: boolean
}

/** A job of that kind. */
export type Crashed<Name extends string> = Job.Job<Name, Told, string, never>

const payload = Schema.Struct({
  retries: Schema.optionalKey(Schema.Boolean),
  breaks: Schema.optionalKey(Schema.Boolean),
  gated: Schema.optionalKey(Schema.Boolean),
  slow: Schema.optionalKey(Schema.Boolean),
})

const make = <const Name extends string>(name: Name): Crashed<Name> =>
  Job.make(name, {
    payload,
    success: Schema.String,
    retry: Retry.fixed({ attempts: 2, delay: "3 seconds", jitter: 0 }),
  })

/** A job like any other. */
export const Plain: Crashed<"job"> = make("job")
/** One that others follow. */
export const Parent: Crashed<"parent"> = make("parent")
/** One that follows. */
export const Child: Crashed<"child"> = make("child")
/** One that follows one that follows. */
export const Grandchild: Crashed<"grandchild"> = make("grandchild")
/** A member of a batch. */
export const Member: Crashed<"member"> = make("member")
/** One that holds the queue `narrow`, so that others wait there. */
export const Blocker: Crashed<"blocker"> = make("blocker")

/** What the handlers ask and tell. */
export interface Hooks {
  readonly started: (id: string) => void
  readonly isBroken: () => boolean
  readonly gate: Effect.Effect<void>
}

/** Their handlers. */
export const handlers = ({ gate, isBroken, started }: Hooks) => {
  const run = ({ breaks, gated, retries, slow }: Told) =>
    Effect.gen(function* () {
      const { attempt, id } = yield* Job.current
      started(id)
      if (gated === true) yield* gate
      if (slow === true) yield* Effect.sleep("800 millis")
      if (breaks === true && isBroken()) return yield* Job.discard("broken")
      if (retries === true && attempt === 1) return yield* Effect.die("again")
      return "done"
    })
  return Layer.mergeAll(
    Plain.toLayer(run),
    Parent.toLayer(run),
    Child.toLayer(run),
    Grandchild.toLayer(run),
    Member.toLayer(run),
    Blocker.toLayer(run),
  )
}
