/**
 * What the tests share: a real nats-server per test file, Effects as tests, programs in processes of
 * their own, and polling for the few conditions that no event tells.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { after, it } from "node:test"
import { fileURLToPath } from "node:url"
import * as Nats from "../src/nats/Nats.ts"
import * as ServerBinary from "../src/nats/ServerBinary.ts"

const sleep = (millis: number) => new Promise<void>((done) => setTimeout(done, millis))

/**
 * Runs an Effect to its end; a failure becomes an error whose message is the whole cause. When it
 * takes longer than `timeout` ms it is interrupted, so that its scope is closed all the same.
 */
export const run = async <A>(
  self: Effect.Effect<A, unknown, Scope.Scope>,
  timeout = 30_000,
): Promise<A> => {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), timeout)
  const exit = await Effect.runPromiseExit(Effect.scoped(self), { signal: controller.signal })
  clearTimeout(timer)
  if (Exit.isSuccess(exit)) return exit.value
  const late = controller.signal.aborted ? `interrupted after ${timeout} ms\n` : ""
  throw new Error(late + Cause.pretty(exit.cause), { cause: Cause.squash(exit.cause) })
}

/** `it` for an Effect with a scope; 30 seconds unless `timeout` says more. */
export const effect = (
  name: string,
  body: () => Effect.Effect<unknown, unknown, Scope.Scope>,
  options: { readonly timeout?: number } = {},
): void => {
  const timeout = options.timeout ?? 30_000
  // The runner's own limit comes after ours: it would leave the scope open.
  it(name, { timeout: timeout + 15_000 }, async () => {
    await run(body(), timeout)
  })
}

/** Repeats `self` every 20 ms until the predicate holds; dies after `timeout` ms (10 s). */
export const eventually = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  predicate: (value: A) => boolean,
  options: { readonly timeout?: number } = {},
): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    const end = performance.now() + (options.timeout ?? 10_000)
    while (true) {
      const value = yield* self
      if (predicate(value)) return value
      if (performance.now() > end) {
        return yield* Effect.die(new Error(`still not so, last seen: ${JSON.stringify(value)}`))
      }
      yield* Effect.promise(() => sleep(20))
    }
  })

/** An empty folder that is removed with the scope. */
export const temporaryFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "portfire-test-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true })),
)

/** A namespace that no other test uses. */
export const freshNamespace = (): string => `t${randomBytes(6).toString("hex")}`

/** One nats-server for a test file. */
export interface TestServer {
  /** `127.0.0.1:port`; starts the server when it doesn't run yet. */
  readonly url: () => Promise<string>
  /** Who it lets in. */
  readonly credentials: { readonly user: string; readonly password: string }
  /** A connection to it, in a namespace of its own unless one is given. */
  readonly layer: (namespace?: string) => Layer.Layer<Nats.Nats, Nats.ConnectError>
  /** Sends a signal to it. */
  readonly signalServer: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** SIGKILL, and wait until it is dead. */
  readonly killServer: Effect.Effect<void>
  /** Where its data lies, once it runs. */
  readonly folder: () => string
  /** Kill it when it runs; start it again on the same data and port. */
  readonly restartServer: Effect.Effect<void>
}

const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/**
 * Call it inside `describe`: the server stops after the describe's last test. It has JetStream and
 * asks for `credentials`; a `config` in the server's own format replaces both.
 */
export const testServer = (options: { readonly config?: string } = {}): TestServer => {
  const credentials = { user: "test", password: randomBytes(12).toString("hex") }
  let folder: string | undefined
  let child: ChildProcess | undefined
  let starting: Promise<string> | undefined
  let address: string | undefined

  const start = async (): Promise<string> => {
    folder ??= mkdtempSync(join(tmpdir(), "portfire-test-"))
    const binary = await Effect.runPromise(ServerBinary.find(undefined))
    const ports = mkdtempSync(join(folder, "ports-"))
    const config = join(folder, "config")
    writeFileSync(
      config,
      options.config ?? `jetstream {}, authorization ${JSON.stringify(credentials)}`,
    )
    const port = address?.split(":")[1] ?? "-1"
    const listen = ["-a", "127.0.0.1", "-p", port, "--ports_file_dir", ports]
    const args = ["-c", config, "-sd", folder, "-l", join(folder, "log"), ...listen]
    child = spawn(binary.path, args, { stdio: "ignore" })
    const end = performance.now() + 20_000
    while (true) {
      const [file] = readdirSync(ports).filter((name) => name.endsWith(".ports"))
      const text = file === undefined ? "" : readFileSync(join(ports, file), "utf8")
      const found = /(?:nats|tls):\/\/(127\.0\.0\.1:\d+)/.exec(text)?.[1]
      if (found !== undefined) return address = found
      if (ended(child) || performance.now() > end) {
        throw new Error(readFileSync(join(folder, "log"), "utf8"))
      }
      await sleep(10)
    }
  }
  const url = () => starting ??= start()
  const kill = async () => {
    const victim = child
    starting = undefined
    child = undefined
    if (victim === undefined || ended(victim)) return
    const gone = new Promise((done) => victim.once("exit", done))
    victim.kill("SIGKILL")
    await gone
  }
  process.once("exit", () => child?.kill("SIGKILL"))
  after(async () => {
    await kill()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })
  return {
    url,
    credentials,
    layer: (namespace = freshNamespace()) =>
      Layer.unwrap(Effect.map(
        Effect.promise(url),
        (servers) => Nats.layer({ servers, authentication: credentials, namespace }),
      )),
    signalServer: (signal) =>
      Effect.sync(() => {
        // Not child.kill: on Deno a server that was stopped would not be let go on.
        if (child?.pid !== undefined) process.kill(child.pid, signal)
      }),
    killServer: Effect.promise(kill),
    folder: () => join(folder ?? "", "jetstream"),
    restartServer: Effect.promise(() => kill().then(url)),
  }
}

/** A TypeScript program in its own process. */
export interface Program {
  /** Its process id. */
  readonly pid: number
  /** The first line with this prefix that no earlier call got; dies when the program ends first. */
  readonly waitForLine: (prefix: string, timeout?: number) => Effect.Effect<string>
  /** Every line so far. */
  readonly lines: ReadonlyArray<string>
  /** What it wrote to stderr so far. */
  readonly stderr: () => string
  /** Sends a signal; SIGTERM unless another is given. */
  readonly kill: (signal?: NodeJS.Signals) => void
  /** The exit code, or the signal that ended it. */
  readonly exited: Effect.Effect<number | NodeJS.Signals>
}

/** Runs a file by the runtime that runs the test; killed with the scope if it still runs. */
export const spawnProgram = (
  file: string | URL,
  options: {
    readonly env?: Readonly<Record<string, string | undefined>>
    readonly args?: ReadonlyArray<string>
  } = {},
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => startProgram(file instanceof URL ? fileURLToPath(file) : file, options)),
    (program) =>
      Effect.suspend(() => {
        program.kill("SIGKILL")
        return Effect.asVoid(program.exited)
      }),
  )

const startProgram = (
  file: string,
  options: {
    readonly env?: Readonly<Record<string, string | undefined>>
    readonly args?: ReadonlyArray<string>
  },
): Program => {
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : []
  const child = spawn(process.execPath, [...flags, file, ...options.args ?? []], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
  })
  const lines: Array<string> = []
  const unclaimed: Array<string> = []
  const waiting = new Set<() => void>()
  const wake = () => [...waiting].forEach((look) => look())
  let rest = ""
  let stderr = ""
  let end: number | NodeJS.Signals | undefined
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    const parts = (rest + chunk).split("\n")
    rest = parts.pop() ?? ""
    lines.push(...parts)
    unclaimed.push(...parts)
    wake()
  })
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => stderr += chunk)
  child.once("close", (code, signal) => {
    end = signal ?? code ?? -1
    wake()
  })

  const wait = <A>(what: string, look: () => A | undefined, timeout: number): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const finish = (result: Effect.Effect<A>) => {
        waiting.delete(attempt)
        clearTimeout(timer)
        resume(result)
      }
      const lost = (why: string) =>
        finish(Effect.die(new Error(`${file} ${why} ${what}\n${lines.join("\n")}\n${stderr}`)))
      const attempt = () => {
        const found = look()
        if (found !== undefined) finish(Effect.succeed(found))
        else if (end !== undefined) lost(`ended (${end}) before`)
      }
      const timer = setTimeout(() => lost("took too long for"), timeout)
      waiting.add(attempt)
      attempt()
      return Effect.sync(() => {
        waiting.delete(attempt)
        clearTimeout(timer)
      })
    })

  return {
    pid: child.pid ?? -1,
    lines,
    stderr: () => stderr,
    waitForLine: (prefix, timeout = 20_000) =>
      wait(`a line "${prefix}…"`, () => {
        const index = unclaimed.findIndex((line) => line.startsWith(prefix))
        return index < 0 ? undefined : unclaimed.splice(index, 1)[0]
      }, timeout),
    kill: (signal = "SIGTERM") => {
      // Not child.kill: Deno would report the signal sent as what ended the program.
      if (!ended(child) && child.pid !== undefined) process.kill(child.pid, signal)
    },
    exited: wait("its end", () => end, 20_000),
  }
}
