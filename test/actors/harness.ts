/**
 * Servers for tests: each with its own connection and a log of its events to wait on, and raw access
 * to what lies in the streams.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Client, Errors, type JobRecord, Nats, Server, StreamSettings } from "../../mod.ts"
import type { JobId } from "../../src/core/JobId.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as Api from "../../src/nats/Api.ts"
import { rawHeaders } from "../../src/nats/Publisher.ts"
import * as Subjects from "../../src/nats/Subjects.ts"

/** Events in the order they came, and a way to wait for them. */
export interface Watch {
  readonly events: ReadonlyArray<Server.Event>
  readonly onEvent: (event: Server.Event) => void
  /** Waits until `count` events, those so far included, match; gives these. */
  readonly until: <E extends Server.Event>(
    matches: (event: Server.Event) => event is E,
    options?: { readonly count?: number; readonly timeout?: number },
  ) => Effect.Effect<ReadonlyArray<E>>
}

/** Makes an event log. */
export const watch = (): Watch => {
  const events: Array<Server.Event> = []
  const waiting = new Set<() => void>()
  return {
    events,
    onEvent: (event) => {
      events.push(event)
      for (const look of [...waiting]) look()
    },
    until: (matches, { count = 1, timeout = 15_000 } = {}) =>
      Effect.callback((resume) => {
        const end = () => {
          waiting.delete(look)
          clearTimeout(timer)
        }
        const look = () => {
          const found = events.filter(matches)
          if (found.length < count) return
          end()
          resume(Effect.succeed(found))
        }
        const timer = setTimeout(() => {
          end()
          const found = events.filter(matches).length
          const seen = events.map(({ _tag }) => _tag).join(" ")
          resume(
            Effect.die(new Error(`${found} of ${count} such events within ${timeout} ms: ${seen}`)),
          )
        }, timeout)
        waiting.add(look)
        look()
        return Effect.sync(end)
      }),
  }
}

type Tagged<Tag extends Server.Event["_tag"]> = Extract<Server.Event, { readonly _tag: Tag }>

/** Matches events of a tag, of one job or of all, with a further condition or without. */
export const is = <Tag extends Server.Event["_tag"]>(
  tag: Tag,
  id?: JobId | undefined,
  more: (event: Tagged<Tag>) => boolean = () => true,
) =>
(event: Server.Event): event is Tagged<Tag> =>
  event._tag === tag && (id === undefined || ("id" in event && event.id === id)) &&
  more(event as Tagged<Tag>)

const finals: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"])

/** Matches the end of a job, or of any. */
export const ended = (id?: JobId): (event: Server.Event) => event is Tagged<"JobMoved"> =>
  is("JobMoved", id, ({ to }) => finals.has(to))

/** A server of a test. */
export interface TestServer extends Watch {
  readonly server: Server.Server
  readonly client: Client.Client
  readonly nats: Nats.Nats
  /** Waits for the end of a job and reads its record. */
  readonly record: (id: JobId) => Effect.Effect<JobRecord.JobRecord, Client.ReadError>
  /** Closes its layer, and waits for that. */
  readonly stop: Effect.Effect<void>
  /** Gives the client to an effect. */
  readonly provide: <A, E>(self: Effect.Effect<A, E, Client.Client>) => Effect.Effect<A, E>
}

/** How a server of a test is set up. */
export interface ServeOptions extends Partial<Server.ServerOptions> {
  readonly ackWaitMillis?: number
  readonly maxAckPending?: number
}

/** Starts a server; it stops with the scope, or before. */
export const serve = (
  nats: Layer.Layer<Nats.Nats, Nats.ConnectError>,
  // deno-lint-ignore no-explicit-any
  handlers: Layer.Layer<any> | Layer.Layer<never>,
  options: ServeOptions = {},
): Effect.Effect<TestServer, Server.ServerError | Nats.ConnectError, Scope.Scope> =>
  Effect.gen(function* () {
    const { ackWaitMillis, maxAckPending, ...rest } = options
    const log = watch()
    const onEvent = (event: Server.Event) => {
      // The log last: it may let the test go on at once.
      try {
        rest.onEvent?.(event)
      } finally {
        log.onEvent(event)
      }
    }
    const layer = Server.layer({ queues: { default: 20 }, ...rest, onEvent }).pipe(
      Layer.provide(handlers),
      Layer.provideMerge(nats),
      Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis, maxAckPending })),
    )
    const scope = yield* Effect.acquireRelease(
      Scope.make(),
      (scope) => Scope.close(scope, Exit.void),
    )
    const context = yield* Layer.buildWithScope(layer, scope)
    const client = Context.get(context, Client.Client)
    return {
      ...log,
      server: Context.get(context, Server.Server),
      client,
      nats: Context.get(context, Nats.Nats),
      record: (id) => Effect.andThen(log.until(ended(id)), client.get(id)),
      stop: Scope.close(scope, Exit.void),
      provide: Effect.provideService(Client.Client, client),
    }
  })

/** A client without a server; it lives as long as the scope. */
export const produce = (
  nats: Layer.Layer<Nats.Nats, Nats.ConnectError>,
  settings: { readonly ackWaitMillis?: number } = {},
): Effect.Effect<Pick<TestServer, "client" | "nats" | "provide">, unknown, Scope.Scope> =>
  Effect.map(
    Layer.build(Client.layer.pipe(
      Layer.provideMerge(nats),
      Layer.provide(Layer.succeed(StreamSettings, settings)),
    )),
    (context) => {
      const client = Context.get(context, Client.Client)
      return {
        client,
        nats: Context.get(context, Nats.Nats),
        provide: Effect.provideService(Client.Client, client),
      }
    },
  )

/** A gate that handlers wait at until the test opens it. */
export const gate = (): { readonly wait: Effect.Effect<void>; readonly open: () => void } => {
  let open = (): void => {}
  const opened = new Promise<void>((done) => open = done)
  return { wait: Effect.callback((resume) => void opened.then(() => resume(Effect.void))), open }
}

/** Subjects that hold a message, with how many. */
export const subjectsIn = (
  { connection, namespace }: Nats.Nats,
  filter = ">",
): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.map(
    Api.call<{ readonly state: { readonly subjects?: Readonly<Record<string, number>> } }>(
      connection,
      `STREAM.INFO.${Subjects.jobsStream(namespace, 0)}`,
      { subjects_filter: `pf.${namespace}.0.${filter}` },
      "listing subjects",
    ),
    ({ state }) => Object.keys(state.subjects ?? {}),
  )

/** Publishes bytes to a JetStream subject and waits until they are stored. */
export const publishRaw = (
  { connection }: Nats.Nats,
  subject: string,
  bytes: Uint8Array,
  headerLines?: string,
): Effect.Effect<number> =>
  Effect.promise(async () => {
    const headers = headerLines === undefined ? {} : { headers: rawHeaders(headerLines) }
    const answer = await connection.request(subject, bytes, { timeout: 5_000, ...headers })
    const { error, seq } = answer.json() as { readonly seq: number; readonly error?: unknown }
    if (error !== undefined) throw new Error(JSON.stringify(error))
    return seq
  })

export { Envelope, Errors, Subjects }

/** Jobs of a queue that servers hold. */
export const heldIn = (
  { connection, namespace }: Nats.Nats,
  queue: string,
): Effect.Effect<number, unknown> =>
  Effect.map(
    Effect.forEach([0, 1, 2, 3, 4], (lane) =>
      Api.call<{ readonly num_ack_pending: number }>(
        connection,
        `CONSUMER.INFO.${Subjects.jobsStream(namespace, 0)}.${Subjects.consumerName(queue, lane)}`,
        undefined,
        "asking for a consumer",
      )),
    (infos) => infos.reduce((sum, { num_ack_pending }) => sum + num_ack_pending, 0),
  )
