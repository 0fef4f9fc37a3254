/**
 * The nats-server of one data folder as an operating system process: its configuration, how it is
 * found, started and stopped. Only ever called by the holder of the folder's lock.
 *
 * What says that a server runs is the file it writes itself about its ports, as long as a process of
 * that id runs with the configuration of this folder. Whoever stops a server removes that file first.
 */
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { join, resolve } from "node:path"
import process from "node:process"
import type { SyncInterval } from "./Durability.ts"
import { exists, isEnding, readIfThere } from "./ProcessIdentity.ts"

/** Where things are in a data folder. The server keeps its streams in `jetstream` beside them. */
export interface Folder {
  readonly path: string
  readonly locks: string
  readonly users: string
  readonly ports: string
  readonly config: string
  readonly credentials: string
  readonly log: string
  readonly output: string
  /** There while a server is being started. */
  readonly starting: string
}

/** A server that runs. */
export interface Running {
  readonly pid: number
  readonly port: number
}

/** Name and password of the one account. */
export interface Credentials {
  readonly user: string
  readonly password: string
}

/** What the configuration depends on. */
export interface Settings {
  /** `always`: each write is on the disk before it is acknowledged. */
  readonly durability: "interval" | "always"
  /** How much the server writes to its log. */
  readonly logLevel: "info" | "debug" | "trace"
}

/** A large store is read before the server listens. */
const startTimeoutMillis = 120_000
const stopTimeoutMillis = 10_000
/** A process that was just started can't be told from others until the kernel has loaded it. */
const loadMillis = 1_000

const sleep = (millis: number) => new Promise<void>((done) => setTimeout(done, millis))

/** Makes the folder, closed to others, if it isn't there. */
export const openFolder = (dataDir: string): Folder => {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const path = realpathSync(resolve(dataDir))
  const within = (name: string) => join(path, name)
  const folder: Folder = {
    path,
    locks: within("locks"),
    users: within("users"),
    ports: within("ports"),
    config: within("nats-server.conf"),
    credentials: within("credentials.json"),
    log: within("nats-server.log"),
    output: within("nats-server.out"),
    starting: within("starting"),
  }
  for (const part of [folder.locks, folder.users, folder.ports, within("jetstream")]) {
    mkdirSync(part, { recursive: true, mode: 0o700 })
  }
  return folder
}

const replaceFile = (path: string, contents: string): void => {
  const draft = `${path}.${randomBytes(6).toString("hex")}`
  writeFileSync(draft, contents, { mode: 0o600 })
  renameSync(draft, path)
}

/** The folder's credentials; made at the first start. */
export const credentialsOf = (folder: Folder): Credentials => {
  try {
    const { user, password } = JSON.parse(readIfThere(folder.credentials) ?? "") as Credentials
    if (typeof user === "string" && /^[\w-]{20,}$/.test(password)) return { user, password }
  } catch {
    // None yet, or damaged: new ones do as well, they are in the server's configuration only.
  }
  const made = { user: "portfire", password: randomBytes(24).toString("base64url") }
  replaceFile(folder.credentials, JSON.stringify(made))
  return made
}

/** The server's configuration, without the port: that one is an argument. */
export const configOf = (
  folder: Folder,
  { user, password }: Credentials,
  settings: Settings,
): string => {
  const quote = (text: string) => JSON.stringify(text)
  const syncInterval = settings.durability === "always" ? "always" : "1s"
  return `# Written by Portfire at each start of the server.
host: "127.0.0.1"
ports_file_dir: ${quote(folder.ports)}
authorization { user: ${quote(user)}, password: ${quote(password)} }
max_payload: 8MB
jetstream {
  store_dir: ${quote(folder.path)}
  sync_interval: ${quote(syncInterval)}
  max_memory_store: 1GB
}
log_file: ${quote(folder.log)}
logfile_size_limit: 10MB
logfile_max_num: 3
debug: ${settings.logLevel !== "info"}
trace: ${settings.logLevel === "trace"}
`
}

/** What the server that runs, or the last one, was told. */
export const lastConfig = (folder: Folder): string => readIfThere(folder.config) ?? ""

/** How often the server that runs syncs to its disk: every write, or each so many milliseconds. */
export const syncIntervalOf = (folder: Folder): SyncInterval =>
  lastConfig(folder).includes('sync_interval: "always"') ? "always" : 1_000

const hasProc = process.platform === "linux" && readIfThere("/proc/self/cmdline") !== undefined

const commandLine = (pid: number): string => readIfThere(`/proc/${pid}/cmdline`) ?? ""

const runsOnConfig = (pid: number, folder: Folder): boolean =>
  commandLine(pid).split("\0").includes(folder.config)

/** True while the process of this id, known to have been the folder's server, holds anything. */
export const isServer = (pid: number, folder: Folder): boolean =>
  hasProc ? runsOnConfig(pid, folder) || commandLine(pid) === "" && isEnding(pid) : exists(pid)

const portsFiles = (folder: Folder): ReadonlyArray<{ readonly pid: number; path: string }> =>
  (existsSync(folder.ports) ? readdirSync(folder.ports) : []).flatMap((name) => {
    const pid = Number(/_(\d+)\.ports$/.exec(name)?.[1] ?? 0)
    return pid > 0 ? [{ pid, path: join(folder.ports, name) }] : []
  })

/** The port in a file that may not be written to its end yet. */
const portIn = (text: string): number => {
  try {
    const { nats } = JSON.parse(text) as { readonly nats?: ReadonlyArray<string> }
    return Number(/:(\d+)$/.exec(nats?.[0] ?? "")?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** The server that runs and has said where it listens. */
export const announced = (folder: Folder): Running | undefined => {
  for (const { pid, path } of portsFiles(folder)) {
    const port = portIn(readIfThere(path) ?? "")
    if (port > 0 && (hasProc ? runsOnConfig(pid, folder) : exists(pid))) return { pid, port }
  }
  return undefined
}

/** A server that runs without having said so: on its way up or down, after its starter was killed. */
const unannounced = (folder: Folder): number | undefined =>
  !hasProc
    ? undefined
    : readdirSync("/proc").map(Number).find((pid) => pid > 0 && runsOnConfig(pid, folder))

/** The server that runs; one that is on its way up or down is waited for. */
export const find = async (
  folder: Folder,
  signal: AbortSignal,
): Promise<Running | undefined> => {
  const begun = Date.now()
  // Left by a starter that was killed: a moment later it is plain whether it had begun.
  const settled = existsSync(folder.starting) ? begun + loadMillis : begun
  while (true) {
    const running = announced(folder)
    const pid = running?.pid ?? unannounced(folder) ??
      portsFiles(folder).find((file) => isServer(file.pid, folder))?.pid
    if (running !== undefined || pid === undefined && Date.now() >= settled) {
      rmSync(folder.starting, { force: true })
      return running
    }
    if (pid !== undefined && Date.now() > begun + startTimeoutMillis) await stop(folder, pid)
    signal.throwIfAborted()
    await sleep(20)
  }
}

const forget = (folder: Folder, pid?: number): void => {
  for (const file of portsFiles(folder)) {
    if (pid === undefined || file.pid === pid) rmSync(file.path, { force: true })
  }
}

/** Tells the server to end and waits until it has. */
export const stop = async (folder: Folder, pid: number): Promise<void> => {
  signalStop(folder, pid)
  const end = Date.now() + stopTimeoutMillis
  let killed = false
  while (isServer(pid, folder)) {
    if (!killed && Date.now() > end) {
      killed = true
      sendSignal(pid, "SIGKILL")
    }
    await sleep(10)
  }
}

const sendSignal = (pid: number, signal: "SIGTERM" | "SIGKILL"): void => {
  if (pid <= 0) return // It would mean this process and its group.
  try {
    process.kill(pid, signal)
  } catch {
    // It is dead already.
  }
}

const signalStop = (folder: Folder, pid: number): void => {
  forget(folder, pid)
  sendSignal(pid, "SIGTERM")
}

/**
 * Tells the server that runs here to end, without waiting: for the last moments of a process.
 * `known` is the one to end when the folder no longer says which.
 */
export const stopNow = (folder: Folder, known: number): void => {
  const pid = announced(folder)?.pid ?? unannounced(folder) ?? known
  if (pid > 0 && isServer(pid, folder)) signalStop(folder, pid)
  rmSync(folder.starting, { force: true })
}

/** Why a server ended: what it wrote before it had a log, else the errors of that process in it. */
const lastWords = (folder: Folder, pid: number): string => {
  const output = (readIfThere(folder.output) ?? "").trim()
  const errors = (readIfThere(folder.log) ?? "").split("\n").flatMap((line) =>
    line.startsWith(`[${pid}]`) ? /\[(?:ERR|FTL)\] (.*)/.exec(line)?.[1] ?? [] : []
  )
  return [output, ...errors.slice(-3)].filter((part) => part !== "").join("; ")
}

/**
 * Starts a server, with its own session so that the terminal's Ctrl-C doesn't reach it, and waits
 * until it answers. Rejects with what it said when it doesn't. `onSpawn` gets its process id at once.
 */
export const start = async (
  folder: Folder,
  binary: string,
  port: number | undefined,
  config: string,
  signal: AbortSignal,
  onSpawn: (pid: number) => void,
): Promise<Running> => {
  signal.throwIfAborted()
  forget(folder)
  replaceFile(folder.config, config)
  writeFileSync(folder.starting, "", { mode: 0o600 })
  try {
    return await launch(folder, binary, port, signal, onSpawn)
  } finally {
    rmSync(folder.starting, { force: true })
  }
}

const launch = async (
  folder: Folder,
  binary: string,
  port: number | undefined,
  signal: AbortSignal,
  onSpawn: (pid: number) => void,
): Promise<Running> => {
  const output = openSync(folder.output, "w", 0o600)
  const child = spawn(binary, ["-c", folder.config, "-p", String(port ?? -1)], {
    cwd: folder.path,
    detached: true,
    stdio: ["ignore", output, output],
    windowsHide: true,
  })
  child.unref()
  closeSync(output)
  if (child.pid !== undefined) onSpawn(child.pid)
  let ended: string | undefined
  child.once("error", (error) => ended = error.message)
  child.once("exit", (code, by) => ended = `it ended at once (${by ?? code})`)
  const end = Date.now() + startTimeoutMillis
  while (true) {
    const running = announced(folder)
    if (running !== undefined) return running
    if (ended !== undefined) {
      const said = lastWords(folder, child.pid ?? 0)
      throw new Error(said === "" ? ended : `${ended}: ${said}`)
    }
    if (signal.aborted || Date.now() > end) {
      if (child.pid !== undefined) await stop(folder, child.pid)
      signal.throwIfAborted()
      throw new Error(`it did not listen within ${startTimeoutMillis / 1000} s`)
    }
    await sleep(10)
  }
}
