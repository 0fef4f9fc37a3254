/** Payloads one by one from whatever holds them: an array, a generator, an async iterable. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { describe } from "../core/Attempt.ts"
import { InvalidPayload } from "../core/errors.ts"

/** Payloads of many jobs; an iterable is read as it is needed, never held whole. */
export type Payloads<P> = Iterable<P> | AsyncIterable<P>

/** Payloads that are being read. */
export interface PayloadSource {
  /** The next one, or the end; `field` names it should the iterable throw. */
  readonly next: (field: string) => Effect.Effect<IteratorResult<unknown, unknown>, InvalidPayload>
  /** Tells an iterable that has not come to its end that nobody will read on. */
  readonly close: Effect.Effect<void>
}

/** Whether a value can be read payload by payload. A text can, but is nobody's list of payloads. */
export const isPayloads = (value: unknown): value is Payloads<unknown> =>
  typeof value === "object" && value !== null &&
  (Symbol.iterator in value || Symbol.asyncIterator in value)

/** Begins to read the payloads of a job. */
export const make = (job: string, payloads: Payloads<unknown>): PayloadSource => {
  let open = true
  const taken = (item: IteratorResult<unknown, unknown>) => {
    open = item.done !== true
    return item
  }
  const thrown = (field: string, error: unknown) => {
    open = false
    const reason = `reading it failed: ${describe(error).message}`
    return new InvalidPayload({ job, field, reason })
  }
  if (Symbol.iterator in payloads) {
    const iterator = payloads[Symbol.iterator]()
    return {
      next: (field) => {
        try {
          return Exit.succeed(taken(iterator.next()))
        } catch (error) {
          return Exit.fail(thrown(field, error))
        }
      },
      close: Effect.ignore(Effect.try({
        try: () => open ? iterator.return?.() : undefined,
        catch: (error) => error,
      })),
    }
  }
  const iterator = payloads[Symbol.asyncIterator]()
  return {
    next: (field) =>
      Effect.tryPromise({
        try: async () => taken(await iterator.next()),
        catch: (error) => thrown(field, error),
      }),
    close: Effect.sync(() => {
      // Not waited for: it may come after a `next` that never ends.
      if (open) iterator.return?.().catch(() => {})
    }),
  }
}
