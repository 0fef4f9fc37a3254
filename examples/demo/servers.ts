/** The server processes, as children of the demonstration. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { DemoFailed } from "./errors.ts"
import { type Entry, LedgerReader } from "./ledger.ts"
import { runtime } from "./options.ts"

/** One server process. */
export interface ServerProcess {
  /** `server-1` */
  readonly name: string
  /** `server 1`, for people. */
  readonly title: string
  readonly pid: number
  /** What is new in its ledger. */
  readonly read: () => ReadonlyArray<Entry>
  readonly hasEnded: () => boolean
  /** SIGKILL, and waits until it is dead. */
  readonly kill: Effect.Effect<void>
  /** What it said before it ended. */
  readonly lastWords: () => string
}

/** Longer than its grace period and all it does after that. */
const patienceMillis = 15_000
const file = join(dirname(fileURLToPath(import.meta.url)), "server.ts")
const living = new Set<ChildProcess>()

const send = (child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): void => {
  if (!living.has(child) || child.pid === undefined) return
  try {
    // Not child.kill: Deno takes a signal that was sent for one that was obeyed.
    process.kill(child.pid, signal)
  } catch {
    // It has just ended by itself.
  }
}

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((done) => {
    if (living.has(child)) child.once("exit", () => done())
    else done()
  })

const stop = async (child: ChildProcess): Promise<void> => {
  send(child, "SIGTERM")
  const impatience = setTimeout(() => send(child, "SIGKILL"), patienceMillis)
  await ended(child)
  clearTimeout(impatience)
}

/** Kills all that live; whoever waits for their end then goes on. */
export const killAll = (): void => {
  for (const child of living) send(child, "SIGKILL")
}

/** Starts one; it is stopped with the scope. */
export const start = (
  number: number,
  folder: string,
): Effect.Effect<ServerProcess, never, Scope.Scope> => {
  const name = `server-${number}`
  const log = join(folder, `${name}.log`)
  const ledger = join(folder, `${name}.ledger`)
  return Effect.acquireRelease(
    Effect.sync(() => {
      const reader = new LedgerReader(ledger)
      const output = openSync(log, "a", 0o600)
      const [command = "", ...args] = [...runtime(), file, name, join(folder, "nats"), ledger]
      const child = spawn(command, args, {
        // The pipe tells it when this process is gone, whatever became of it.
        stdio: ["pipe", output, output],
        // A Ctrl-C in the terminal is for the demonstration, which stops its servers in order.
        detached: process.platform !== "win32",
        windowsHide: true,
      })
      closeSync(output)
      living.add(child)
      const forget = () => living.delete(child)
      child.once("exit", forget).once("error", forget)
      child.stdin?.on("error", () => {})
      return { child, reader }
    }),
    ({ child, reader }) =>
      Effect.andThen(Effect.promise(() => stop(child)), Effect.sync(() => reader.close())),
  ).pipe(Effect.map(({ child, reader }): ServerProcess => ({
    name,
    title: `server ${number}`,
    pid: child.pid ?? 0,
    read: () => reader.read(),
    hasEnded: () => !living.has(child),
    kill: Effect.promise(() => {
      send(child, "SIGKILL")
      return ended(child)
    }),
    lastWords: () => readFileSync(log, "utf8").trim().split("\n").slice(-5).join("\n"),
  })))
}

/** A server ended that nobody told to. */
export const endedUnasked = (server: ServerProcess): DemoFailed =>
  new DemoFailed({
    reason:
      `${server.title} (process ${server.pid}) ended, and nobody asked it to. Its last words:\n` +
      server.lastWords(),
    code: 1,
  })
