/** Clients with promises for tests, schemas written by hand, and waiting for events. */
import { it } from "node:test"
import {
  connect,
  type ConnectOptions,
  type Event,
  type Portfire,
} from "../../actors/promise/mod.ts"
import type { StandardIssue, StandardSchema } from "../../actors/promise/mod.ts"
import { freshNamespace, type TestServer } from "../harness.ts"

/** `it` for an async function, which may take 30 seconds. */
export const promised = (name: string, body: () => Promise<void>): void => {
  it(name, { timeout: 30_000 }, body)
}

/** A client in a namespace of its own, unless one is given; closed when `use` has ended. */
export const withClient = async (
  server: TestServer,
  use: (portfire: Portfire, namespace: string) => Promise<void>,
  options: ConnectOptions & { readonly namespace?: string } = {},
): Promise<void> => {
  const namespace = options.namespace ?? freshNamespace()
  const portfire = await connect({
    servers: await server.url(),
    authentication: server.credentials,
    ...options,
    namespace,
  } as ConnectOptions)
  try {
    await use(portfire, namespace)
  } finally {
    await portfire.close()
  }
}

/** A schema as another library would write it. */
export const schema = <I, O = I>(
  validate: (value: unknown) =>
    | { readonly value: O }
    | { readonly issues: ReadonlyArray<StandardIssue> }
    | Promise<{ readonly value: O } | { readonly issues: ReadonlyArray<StandardIssue> }>,
): StandardSchema<I, O> => ({
  "~standard": { version: 1, vendor: "by hand", validate },
})

/** Who is written to. */
export interface Mail {
  readonly to: string
  readonly copies?: number | undefined
}

/** Refuses what has no `to`. */
export const mail: StandardSchema<Mail> = schema<Mail>((value) => {
  const { to } = value as Partial<Mail>
  return typeof to === "string"
    ? { value: value as Mail }
    : { issues: [{ message: "a text is expected", path: [{ key: "to" }] }] }
})

/** From the text of a number to the number; it takes its time. */
export const numeric: StandardSchema<string, number> = schema<string, number>(async (value) => {
  await Promise.resolve()
  const number = Number(value)
  return typeof value === "string" && !Number.isNaN(number)
    ? { value: number }
    : { issues: [{ message: `${String(value)} is no number` }] }
})

/** Takes lists of texts. */
export const texts: StandardSchema<ReadonlyArray<string>> = schema((value) =>
  Array.isArray(value) && value.every((text) => typeof text === "string")
    ? { value }
    : { issues: [{ message: "texts are expected" }] }
)

/** Takes anything. */
export const anything: StandardSchema<unknown> = schema((value) => ({ value }))

/** Events, and a promise of those to come. */
export interface Watch {
  readonly onEvent: (event: Event) => void
  /** The first event, past or to come, that matches. */
  readonly until: <E extends Event>(matches: (event: Event) => event is E) => Promise<E>
}

/** Makes an event log. */
export const watch = (): Watch => {
  const events: Array<Event> = []
  const waiting = new Set<(event: Event) => void>()
  return {
    onEvent: (event) => {
      events.push(event)
      for (const look of [...waiting]) look(event)
    },
    until: <E extends Event>(matches: (event: Event) => event is E) => {
      const found = events.find(matches)
      if (found !== undefined) return Promise.resolve(found)
      const { promise, resolve } = Promise.withResolvers<E>()
      const look = (event: Event) => {
        if (!matches(event)) return
        waiting.delete(look)
        resolve(event)
      }
      waiting.add(look)
      return promise
    },
  }
}

/** A promise that a test fulfils itself. */
export const gate = <A = void>(): PromiseWithResolvers<A> => Promise.withResolvers<A>()

/** What a promise rejects with. */
export const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then((value) => {
    throw new Error(`it resolved with ${JSON.stringify(value)}`)
  }, (error: unknown) => error)
