/** Handlers as services: how a server finds what it can run among the layers it was given. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Definition } from "./Definition.ts"

/** A handler bound to its definition, with everything it needs already provided. */
export interface RegisteredHandler {
  readonly definition: Definition
  readonly run: (payload: unknown) => Effect.Effect<unknown, unknown, never>
  /** The services that the handler was given; an attempt adds its own. */
  readonly context: Context.Context<never>
}

const prefix = "portfire/Handler/"
let counter = 0

/** A key that no other handler has, so that two handlers of one name are both seen. */
export const makeKey = <Id>(name: string): Context.Service<Id, RegisteredHandler> =>
  Context.Service<Id, RegisteredHandler>(`${prefix}${name}/${++counter}`)

/** All handlers among the services of a context. */
export const handlersIn = (context: Context.Context<never>): ReadonlyArray<RegisteredHandler> => {
  const handlers: Array<RegisteredHandler> = []
  for (const [key, service] of context.mapUnsafe) {
    if (key.startsWith(prefix)) handlers.push(service as RegisteredHandler)
  }
  return handlers
}
