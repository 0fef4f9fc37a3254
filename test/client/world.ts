/** A client on a real server, beside the wire it writes to. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Client from "../../src/client/Client.ts"
import { Patience } from "../../src/client/Writer.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import type { Nats } from "../../src/nats/Nats.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, type TestServer } from "../harness.ts"
import { contents } from "../nats/stream.ts"

/** What a test of the client may use. */
export type World = Client.Client | Wire.Wire | Nats

/** How the world is made. */
export interface WorldOptions {
  readonly namespace?: string | undefined
  readonly partitions?: number | undefined
  /** How long an enqueue waits for NATS, in milliseconds. */
  readonly patience?: number | undefined
  /** See `Wire.AlarmMillis`. */
  readonly alarmMillis?: number | undefined
  readonly timeout?: number | undefined
}

/** A client with a namespace of its own unless one is given. */
export const worldOf = (server: TestServer, options: WorldOptions = {}) =>
  Client.layerOnWire.pipe(
    Layer.provideMerge(Wire.layer),
    Layer.provideMerge(server.layer(options.namespace)),
    Layer.provide(Layer.succeed(Wire.StreamSettings, { partitions: options.partitions })),
    Layer.provide(
      options.patience === undefined ? Layer.empty : Layer.succeed(Patience, options.patience),
    ),
    Layer.provide(
      options.alarmMillis === undefined
        ? Layer.empty
        : Layer.succeed(Wire.AlarmMillis, options.alarmMillis),
    ),
  )

/** `effect` in a world of its own on the server. */
export const worldTest = (server: TestServer) =>
(
  name: string,
  body: () => Effect.Effect<unknown, unknown, World | Scope.Scope>,
  options: WorldOptions = {},
): void =>
  effect(
    name,
    () => Effect.provide(body(), worldOf(server, options)),
    options.timeout === undefined ? {} : { timeout: options.timeout },
  )

/** What the first partition holds. */
export const stored = Effect.flatMap(Wire.Wire, ({ nats }) => contents(nats))

/** The newest message of a job: its subject and its envelope. */
export const messageOf = Effect.fnUntraced(function* (id: string) {
  const { reader, subjects } = yield* Wire.Wire
  const job = Subjects.addressOf(id)
  const stream = Subjects.jobsStream(subjects.namespace, job.partition)
  const [message] = yield* reader.newest(stream, [subjects.job(job)])
  if (message === undefined) return yield* Effect.die(new Error(`no message of ${id}`))
  const envelope = Envelope.decode(message.data)
  if (!Envelope.isEnvelope(envelope)) return yield* Effect.die(new Error(envelope.reason))
  return { ...message, envelope, parsed: subjects.parse(message.subject) }
})
