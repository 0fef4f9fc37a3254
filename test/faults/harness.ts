/** A world for faults: a namespace, a ledger, servers in processes, and what must hold at the end. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type { JobRecord } from "../../mod.ts"
import type { JobId } from "../../src/core/JobId.ts"
import { produce, subjectsIn, type TestServer } from "../actors/harness.ts"
import {
  eventually,
  freshNamespace,
  type Program,
  spawnProgram,
  temporaryFolder,
  type TestServer as NatsServer,
} from "../harness.ts"

/** One line of the ledger. */
export interface Entry {
  readonly what: "started" | "done" | "stored"
  readonly id: string
  readonly pid: number
  /** When, in ms since 1970. */
  readonly at: number
}

/** What a test has at hand. */
export interface World extends Pick<TestServer, "client" | "nats" | "provide"> {
  /** Its connection, for servers in this process. */
  readonly layer: ReturnType<NatsServer["layer"]>
  /** Starts a server process and waits until it is ready. */
  readonly spawn: (
    env?: Readonly<Record<string, string>>,
  ) => Effect.Effect<Program, never, Scope.Scope>
  /** What handlers and committers have noted so far, over all processes. */
  readonly ledger: () => ReadonlyArray<Entry>
  /** Waits until as many jobs have ended. */
  readonly allEnded: (count: number, timeout?: number) => Effect.Effect<void, unknown>
  /**
   * Checks that each job has one record and nothing else, and did not start after it was stored, or
   * within some milliseconds: NATS may forget who holds a job, and a check and a start are two steps.
   */
  readonly settled: (
    ids: ReadonlyArray<JobId>,
    overlap?: number,
  ) => Effect.Effect<ReadonlyArray<JobRecord.JobRecord>, unknown>
}

const program = new URL("./programs/server.ts", import.meta.url)

/** Makes a world. */
export const world = (
  nats: NatsServer,
  ackWaitMillis: number,
): Effect.Effect<World, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const namespace = freshNamespace()
    const folder = yield* temporaryFolder
    const layer = nats.layer(namespace)
    const made = yield* produce(layer, { ackWaitMillis })
    const servers = yield* Effect.promise(nats.url)
    const file = join(folder, "ledger")
    const ledger = () =>
      (existsSync(file) ? readFileSync(file, "utf8") : "").split("\n").filter(Boolean).map(
        (line): Entry => {
          const [what, id = "", pid, at] = line.split(" ")
          return { what: what as Entry["what"], id, pid: Number(pid), at: Number(at) }
        },
      )
    // Asked again where a question was lost with the connection.
    const finals = Effect.retry(
      Effect.map(
        Effect.forEach(
          ["succeeded", "failed", "cancelled"],
          (s) => subjectsIn(made.nats, `${s}.>`),
        ),
        (found) => found.flat(),
      ),
      { times: 5 },
    )
    return {
      ...made,
      layer,
      spawn: (env = {}) =>
        Effect.tap(
          spawnProgram(program, {
            env: {
              SERVERS: servers,
              NAMESPACE: namespace,
              NATS_USER: nats.credentials.user,
              NATS_PASSWORD: nats.credentials.password,
              ACK_WAIT: String(ackWaitMillis),
              LEDGER: file,
              ...env,
            },
          }),
          (server) => server.waitForLine("ready"),
        ),
      ledger,
      allEnded: (count, timeout = 30_000) =>
        Effect.asVoid(eventually(finals, (found) => found.length >= count, { timeout })),
      settled: Effect.fnUntraced(function* (ids, overlap = -1) {
        const records = (yield* finals).map((subject) => subject.split(".").at(-1))
        assert.deepEqual(records.sort(), [...ids].sort())
        const left = yield* eventually(
          subjectsIn(made.nats),
          (found) => found.length === ids.length,
          // Messages that a killed NATS has lost sight of are put right by the watchdog.
          { timeout: 50_000 },
        )
        assert.equal(left.length, ids.length)
        const stored = new Map<string, number>()
        for (const { at, id, what } of ledger()) {
          const end = stored.get(id)
          assert.ok(
            what !== "started" || end === undefined || at <= end + overlap,
            `${id} ran again`,
          )
          if (what === "stored") stored.set(id, at)
        }
        return yield* Effect.forEach(ids, made.client.get, { concurrency: 20 })
      }),
    }
  })
