/** What clients need of a definition. */
import type * as Effect from "effect/Effect"
import type { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { parentResult, parentResults } from "../../src/client/Prepare.ts"
import type * as Engine from "../../src/client/Definition.ts"

/** What the compiler knows of a definition. */
export interface Types<out Input, out Payload, out Output, out Result, out E> {
  /** What it is enqueued with. */
  readonly input: Input
  /** What its handler gets. */
  readonly payload: Payload
  /** What its handler returns. */
  readonly output: Output
  /** What who waits for it gets. */
  readonly result: Result
  /** Typed errors, of a definition made by Effect. */
  readonly error: E
}

/** A definition as clients take it. */
export interface Definition<
  out Input = unknown,
  out Payload = unknown,
  out Output = unknown,
  out Result = unknown,
  out E = unknown,
> {
  /** Name, the same on every server and client. */
  readonly name: string
  /** What the engine knows of it. */
  readonly definition: Engine.Definition
  /** The same definition for Effect code. */
  readonly effect: {
    /** What `HandlerContext.parentResults` gives. */
    readonly parentResults: Effect.Effect<ReadonlyArray<unknown>, never, CurrentJob>
  }
  /** Never there at run time. */
  readonly "~types": Types<Input, Payload, Output, Result, E> | undefined
}

/** In place of a payload: what the parent has given, or a list of what the parents have. */
export type Inherited = typeof parentResult | typeof parentResults

/** A payload and options as arguments; the payload may be left out where it may be undefined. */
export type PayloadAnd<Input, Options> = undefined extends Input
  ? [payload?: Input, options?: Options]
  : [payload: Input, options?: Options]
