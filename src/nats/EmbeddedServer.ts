/** A NATS server of our own. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import process from "node:process"
import * as ServerBinary from "./ServerBinary.ts"

/** What `Nats.layerEmbedded` takes. */
export interface EmbeddedOptions {
  /** Where everything is kept. Default: `PORTFIRE_DATA_DIR`, else `./.portfire`. */
  readonly dataDir?: string
  /** `interval` (default): the disk is at most one second behind. `always`: never behind. */
  readonly durability?: "interval" | "always"
  /** Default: any free one. */
  readonly port?: number
  /** Which installation inside the server; default `portfire`. */
  readonly namespace?: string
  /** Path of the nats-server to run. */
  readonly serverBinary?: string
}

/** The server did not start. */
export class EmbeddedServerFailed extends Data.Error<{
  /** What went wrong. */
  readonly problem: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "EmbeddedServerFailed"
  /** Name in stack traces. */
  override readonly name = "EmbeddedServerFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `the embedded NATS server did not start: ${this.problem}`
  }
}

/** What starting may fail with. */
export type EmbeddedServerError = EmbeddedServerFailed | ServerBinary.ServerBinaryNotFound

/** The running server. */
export interface EmbeddedServer {
  /** `127.0.0.1:port` */
  readonly address: string
  readonly user: string
  readonly password: Redacted.Redacted<string>
}

const sleep = (millis: number) => new Promise((done) => setTimeout(done, millis))

const stop = (child: ChildProcess) =>
  Effect.promise(async () => {
    const gone = new Promise((done) => child.once("exit", done))
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill("SIGTERM")
    await gone
  })

/** Starts a server that stops with the scope. */
export const start = (
  options: EmbeddedOptions,
): Effect.Effect<EmbeddedServer, EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const binary = yield* ServerBinary.find(options.serverBinary)
    const dataDir = resolve(options.dataDir ?? process.env.PORTFIRE_DATA_DIR ?? ".portfire")
    const ports = join(dataDir, `ports-${randomBytes(6).toString("hex")}`)
    mkdirSync(ports, { recursive: true, mode: 0o700 })
    const password = randomBytes(24).toString("base64url")
    const config = join(dataDir, "nats-server.conf")
    writeFileSync(
      config,
      [
        'listen: "127.0.0.1:-1"',
        `ports_file_dir: ${JSON.stringify(ports)}`,
        `log_file: ${JSON.stringify(join(dataDir, "nats-server.log"))}`,
        `authorization { user: portfire, password: "${password}" }`,
        "max_payload: 8MB",
        `jetstream { store_dir: ${JSON.stringify(dataDir)}, sync_interval: "1s" }`,
        "",
      ].join("\n"),
      { mode: 0o600 },
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => spawn(binary.path, ["-c", config], { detached: true, stdio: "ignore" })),
      stop,
    )
    const address = yield* Effect.promise(async () => {
      for (let i = 0; i < 500; i++) {
        const [file] = readdirSync(ports)
        if (file !== undefined) {
          try {
            const { nats: [url] } = JSON.parse(readFileSync(join(ports, file), "utf8"))
            return new URL(url.replace("nats:", "http:")).host
          } catch {
            // Not written to its end yet.
          }
        }
        await sleep(20)
      }
      return undefined
    })
    if (address === undefined) {
      return yield* new EmbeddedServerFailed({ problem: "it wrote no ports file within 10 s" })
    }
    return { address, user: "portfire", password: Redacted.make(password) }
  })
