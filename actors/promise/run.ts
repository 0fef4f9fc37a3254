/** Effects as promises that reject with the errors themselves. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Client } from "../../src/client/Client.ts"

/** What every call takes. */
export interface CallOptions {
  /**
   * Ends the call: its promise rejects with the signal's reason. Jobs are not cancelled by it, and one
   * that was on its way to NATS may be stored.
   */
  readonly signal?: AbortSignal | undefined
}

/** The client was closed before the call, or while it waited. */
export class ClientClosed extends Data.Error<Record<never, never>> {
  /** Tells errors apart. */
  readonly _tag = "ClientClosed"
  /** Name in stack traces. */
  override readonly name = "ClientClosed"
  /** One sentence a person can act on. */
  override get message(): string {
    return "the client is closed; jobs that were stored are not concerned"
  }
}

/** Runs what needs a client. */
export type Run = <A>(
  effect: Effect.Effect<A, unknown, Client>,
  options?: CallOptions,
) => Promise<A>

/** The value of what `run` runs; a rejection with its error, the signal's reason or `ClientClosed`. */
export const settle = async <A>(
  run: (options: Effect.RunOptions) => Promise<Exit.Exit<A, unknown>>,
  signal: AbortSignal | undefined,
): Promise<A> => {
  signal?.throwIfAborted()
  const exit = await run(signal === undefined ? {} : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (!Cause.hasInterruptsOnly(exit.cause)) throw Cause.squash(exit.cause)
  signal?.throwIfAborted()
  throw new ClientClosed()
}
