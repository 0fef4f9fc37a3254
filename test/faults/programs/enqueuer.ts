/**
 * A process that enqueues unique jobs when it is told to: each message on GO holds a key and says how
 * many at once, and is answered by a line `<key> [[id, created], …]`, or `<key> failed …`.
 *
 * CRASH_AT kills the process as soon as it knows of such a write. With SERVE it runs the jobs, too, and
 * is killed in the midst of telling that one has ended: what it has sent in the same turn has not left
 * it yet.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Client, Nats, Server } from "../../../mod.ts"
import { OnWrite } from "../../../src/client/Existing.ts"
import { Once } from "./unique.ts"

const env = (name: string): string => process.env[name] ?? ""

/** What a round asks for. */
interface Go {
  readonly key: string
  readonly count: number
  readonly options?: Parameters<typeof Once.submit>[1]
}

const onWrite = (write: string) => {
  if (write === env("CRASH_AT")) process.kill(process.pid, "SIGKILL")
}

const program = Effect.gen(function* () {
  const { connection } = yield* Nats.Nats
  const client = yield* Client.Client
  const round = ({ count, key, options }: Go) =>
    Effect.forEach(
      Array.from({ length: count }, (_, n) => n),
      (n) => Once.submit({ key, n }, options),
      { concurrency: "unbounded" },
    ).pipe(
      Effect.provideService(Client.Client, client),
      Effect.provideService(OnWrite, onWrite),
      Effect.match({
        onFailure: (error) => console.log(`${key} failed ${error.message}`),
        onSuccess: (answers) =>
          console.log(
            `${key} ${JSON.stringify(answers.map(({ created, id }) => [id, created]))}`,
          ),
      }),
    )
  connection.subscribe(env("GO"), {
    callback: (_, message) => void Effect.runFork(round(message.json<Go>())),
  })
  yield* Effect.promise(() => connection.flush())
  console.log("ready")
  return yield* Effect.never
})

const server = Server.layer({
  queues: { default: 5 },
  onEvent: (event) => {
    if (event._tag === "JobMoved") process.kill(process.pid, "SIGKILL")
  },
}).pipe(Layer.provide(Once.toLayer(() => Effect.void)))

const live = (env("SERVE") === "" ? Client.layer : server).pipe(
  Layer.provideMerge(Nats.layer({
    servers: env("SERVERS"),
    namespace: env("NAMESPACE"),
    authentication: { user: env("NATS_USER"), password: env("NATS_PASSWORD") },
  })),
)

await Effect.runPromise(Effect.scoped(Effect.provide(program, live)))
