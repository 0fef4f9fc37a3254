/**
 * A NATS server of our own: started by the first process that uses a data folder, joined by the
 * others, watched and restarted by all of them, stopped by the last one that leaves.
 *
 * Each user of the folder keeps a file with its identity in `users/`. Starting, joining, restarting
 * and leaving happen under the folder's lock, so that at any moment at most one process decides:
 *
 * - enter: write the own file; join the server that runs, else start one.
 * - leave: remove the own file; stop the server if nobody else's process lives.
 * - the server died: whoever gets the lock first starts it, on the same port; the others find it.
 *
 * A process that is killed leaves its file behind, which counts for nothing from then on. A server
 * that is left alone by such deaths runs on until somebody enters the folder, and is theirs then.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { existsSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import type { SyncInterval } from "./Durability.ts"
import { type EmbeddedOptions, resolveEmbedded } from "./EmbeddedOptions.ts"
import * as FolderLock from "./FolderLock.ts"
import { atExit } from "./LastMoments.ts"
import type { InvalidNatsOptions } from "./NatsOptions.ts"
import { isLocal, type Owner, ownerOf, sign } from "./ProcessIdentity.ts"
import * as ServerBinary from "./ServerBinary.ts"
import * as ServerProcess from "./ServerProcess.ts"

/** The embedded server could not be started, or the data folder can't be used as asked. */
export class EmbeddedServerFailed extends Data.Error<{
  /** The data folder. */
  readonly dataDir: string
  /** What went wrong, and what to do where it isn't plain. */
  readonly problem: string
  /** What the system said. */
  readonly cause?: unknown
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "EmbeddedServerFailed"
  /** Name in stack traces. */
  override readonly name = "EmbeddedServerFailed"
  /** False: something has to be put right first. */
  readonly retryable = false
  /** One sentence a person can act on. */
  override get message(): string {
    return `embedded NATS server in ${this.dataDir}: ${this.problem}`
  }
}

/** What starting or joining may fail with. */
export type EmbeddedServerError =
  | EmbeddedServerFailed
  | ServerBinary.ServerBinaryNotFound
  | InvalidNatsOptions

/** The server as its users see it. */
export interface EmbeddedServer {
  /** `127.0.0.1:port` */
  readonly address: string
  /** The account's name. */
  readonly user: string
  /** Its password, known to who can read the data folder. */
  readonly password: Redacted.Redacted<string>
  /** Calls back with the new address when a restarted server had to take another port. */
  readonly onMove: (callback: (address: string) => void) => void
  /** Look now whether the server lives: the connection to it was lost. */
  readonly look: () => void
  /** How often it syncs to its disk, by the configuration it runs on. */
  readonly syncInterval: () => SyncInterval
}

/** Longer than the slowest start, which happens under the lock. */
const lockTimeoutMillis = 180_000
const lastMomentsMillis = 500
/** How often each user looks whether the server lives, and how often when it has a reason to. */
const watchMillis = 1_000
const lookMillis = 20
/** How long a lost connection is such a reason. */
const suspicionMillis = 3_000
const firstBackOffMillis = 100
const longestBackOffMillis = 10_000
/** A server that lived so long didn't die of its start. */
const settledMillis = 30_000
/** How long a process that was killed may still count as alive. */
const dyingMillis = 150
/** After so many failed restarts, somebody else has the port. */
const triesOnSamePort = 5

const sleep = (millis: number): Effect.Effect<void> =>
  // The machine's clock on purpose: what is waited for are real processes.
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

const backOff = (failures: number): number =>
  failures === 0 ? 0 : Math.min(longestBackOffMillis, firstBackOffMillis * 2 ** (failures - 1))

const addressOf = (running: ServerProcess.Running): string => `127.0.0.1:${running.port}`

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

/** Runs a promise that obeys the signal; an interruption waits until it has ended. */
const obeying = <A, E>(
  run: (signal: AbortSignal) => A | Promise<A>,
  toError: (cause: unknown) => E,
): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    const controller = new AbortController()
    const ended = new Promise<A>((done) => done(run(controller.signal))).then(
      (value) => resume(Effect.succeed(value)),
      (cause: unknown) => resume(Effect.fail(toError(cause))),
    )
    return Effect.promise(() => {
      controller.abort()
      return ended
    })
  })

/** Starts the data folder's server or joins it; leaves it, and stops it if it is the last, with the scope. */
export const start = (
  options: EmbeddedOptions,
): Effect.Effect<EmbeddedServer, EmbeddedServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const settings = yield* resolveEmbedded(options)
    const failed = (problem: string, cause?: unknown) =>
      new EmbeddedServerFailed({ dataDir: settings.dataDir, problem, cause })
    const attempt = <A>(run: (signal: AbortSignal) => A | Promise<A>) =>
      obeying(run, (cause) => failed(messageOf(cause), cause))

    const folder = yield* attempt(() => ServerProcess.openFolder(settings.dataDir))
    const file = join(folder.users, `${process.pid}.${randomBytes(6).toString("hex")}`)
    let stopSigning = (): void => {}
    let running: ServerProcess.Running = { pid: 0, port: 0 }
    let holding = false

    const locked = <A, E>(use: Effect.Effect<A, E>): Effect.Effect<A, E | EmbeddedServerFailed> =>
      Effect.suspend(() => {
        let release: FolderLock.Release | undefined
        return attempt(async (signal) => {
          release = await FolderLock.acquire(folder.locks, signal, lockTimeoutMillis)
          holding = true
        }).pipe(
          Effect.andThen(use),
          Effect.ensuring(Effect.sync(() => {
            if (release === undefined) return
            holding = false
            release()
          })),
        )
      })

    /** Other live users of the folder; the files of dead ones are removed. */
    const others = (): ReadonlyArray<Owner> =>
      readdirSync(folder.users).map((name) => join(folder.users, name)).flatMap((path) => {
        if (path === file) return []
        const owner = ownerOf(path)
        if (owner === undefined) rmSync(path, { force: true })
        return owner === undefined ? [] : [owner]
      })

    const launch = (port: number | undefined, config: string) =>
      Effect.gen(function* () {
        const binary = yield* ServerBinary.find(settings.serverBinary)
        const before = running
        running = yield* attempt((signal) =>
          ServerProcess.start(folder, binary.path, port, config, signal, (pid) => {
            running = { pid, port: before.port }
          })
        )
      })

    /** Two servers on one store destroy it, and another container's server can't be joined. */
    const awaitForeignUsers = attempt(async (signal) => {
      const beats = new Map<string, number>()
      while (true) {
        const foreign = others().filter((user) => !isLocal(user))
        if (foreign.length === 0) return
        for (const { path, beat } of foreign) {
          if ((beats.get(path) ?? beat) !== beat) {
            throw new Error(
              "a process of another machine or container uses this folder. Give each its own, or " +
                "let them share one server by Nats.layer({ servers })",
            )
          }
          beats.set(path, beat)
        }
        signal.throwIfAborted()
        await new Promise((done) => setTimeout(done, 100))
      }
    })

    const refuseToJoin = (found: ServerProcess.Running): string | undefined => {
      const isWeaker = settings.durability === "always" &&
        ServerProcess.syncIntervalOf(folder) !== "always"
      if (isWeaker) {
        return "other processes run its server with durability interval. Stop them first, or ask " +
          "for the same"
      }
      return settings.port === undefined || settings.port === found.port
        ? undefined
        : `other processes run its server on port ${found.port}, not ${settings.port}`
    }

    /** Gives whether somebody else still uses the server, so that it was left running. */
    const leaveLocked = attempt(async (signal) => {
      stopSigning()
      rmSync(file, { force: true })
      if (others().length > 0) return true
      const found = await ServerProcess.find(folder, signal)
      if (found !== undefined) await ServerProcess.stop(folder, found.pid)
      return false
    })

    const enterLocked = Effect.gen(function* () {
      yield* attempt(() => stopSigning = sign(file))
      yield* awaitForeignUsers
      const credentials = yield* attempt(() => ServerProcess.credentialsOf(folder))
      const config = ServerProcess.configOf(folder, credentials, settings)
      const found = yield* attempt((signal) => ServerProcess.find(folder, signal))
      if (found !== undefined) {
        const problem = refuseToJoin(found)
        const isShared = others().length > 0
        if (isShared && problem !== undefined) return yield* failed(problem)
        if (isShared || problem === undefined && ServerProcess.lastConfig(folder) === config) {
          running = found
          return credentials
        }
        yield* attempt(() => ServerProcess.stop(folder, found.pid))
      }
      yield* launch(settings.port, config)
      return credentials
    })

    const enter = locked(Effect.onError(enterLocked, () => Effect.ignore(leaveLocked)))

    /** Without its folder nobody can find the server, so whoever notices stops it. */
    const isFolderGone = () => !existsSync(folder.users)

    const leave = Effect.catch(
      Effect.gen(function* () {
        if (!(yield* locked(leaveLocked))) return
        // A process that was just killed counts as alive for a moment, and will stop nothing.
        yield* sleep(dyingMillis)
        if (yield* attempt(() => others().length === 0)) yield* locked(leaveLocked)
      }),
      (error) =>
        isFolderGone()
          ? Effect.ignore(attempt(() => ServerProcess.stop(folder, running.pid)))
          : Effect.logWarning(error.message),
    )

    const leaveNow = (): void => {
      stopSigning()
      rmSync(file, { force: true })
      if (isFolderGone()) return ServerProcess.stopNow(folder, running.pid)
      const release = holding ? () => {} : FolderLock.acquireNow(folder.locks, lastMomentsMillis)
      if (release === undefined) return
      if (others().length === 0) ServerProcess.stopNow(folder, running.pid)
      release()
    }

    const restart = (failures: number) =>
      locked(Effect.gen(function* () {
        const found = yield* attempt((signal) => ServerProcess.find(folder, signal))
        if (found !== undefined) {
          running = found
          return
        }
        const keepPort = settings.port !== undefined || failures < triesOnSamePort
        yield* launch(keepPort ? running.port : undefined, ServerProcess.lastConfig(folder))
      }))

    let suspicious = 0
    let wake = (): void => {}
    const pause = Effect.callback<void>((resume) => {
      const millis = Date.now() < suspicious ? lookMillis : watchMillis
      const timer = setTimeout(() => resume(Effect.void), millis)
      wake = () => resume(Effect.void)
      return Effect.sync(() => clearTimeout(timer))
    })

    const moved = new Set<(address: string) => void>()
    const watch = Effect.gen(function* () {
      let failures = 0
      let since = Date.now()
      while (true) {
        while (ServerProcess.isServer(running.pid, folder)) yield* pause
        const before = addressOf(running)
        if (Date.now() - since > settledMillis) failures = 0
        yield* Effect.logWarning(`the embedded NATS server (process ${running.pid}) died`)
        let isBack = false
        while (!isBack) {
          yield* sleep(backOff(failures))
          isBack = yield* Effect.matchEffect(restart(failures), {
            onSuccess: () => Effect.succeed(true),
            onFailure: (error) => Effect.as(Effect.logError(error.message), false),
          })
          failures += 1
        }
        since = Date.now()
        yield* Effect.logInfo(`the embedded NATS server runs again (process ${running.pid})`)
        if (addressOf(running) !== before) {
          for (const callback of moved) callback(addressOf(running))
        }
      }
    })

    yield* Effect.acquireRelease(
      Effect.sync(() => atExit(leaveNow)),
      (cancel) => Effect.sync(cancel),
    )
    const { user, password } = yield* Effect.acquireRelease(enter, () => leave, {
      interruptible: true,
    })
    yield* Effect.forkScoped(watch)
    return {
      address: addressOf(running),
      user,
      password: Redacted.make(password),
      onMove: (callback) => {
        moved.add(callback)
      },
      look: () => {
        suspicious = Date.now() + suspicionMillis
        wake()
      },
      syncInterval: () => ServerProcess.syncIntervalOf(folder),
    }
  })
