/** A private nats-server for one benchmark run: own folder, own port, gone at the end. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import * as ServerBinary from "../../src/nats/ServerBinary.ts"
import { sleep } from "./time.ts"

/** When the server forces what it has stored onto the disk: an interval, or `always`. */
export type Sync = string

/** A running server. */
export interface Server {
  /** `127.0.0.1:port`. */
  readonly url: string
  /** Its process. */
  readonly pid: number
  /** Its version. */
  readonly version: string
  /** Kills it and removes its folder. */
  readonly stop: () => Promise<void>
}

/** Starts a server on a free loopback port with an empty store. */
export const startServer = async (sync: Sync): Promise<Server> => {
  const { path, version } = await Effect.runPromise(ServerBinary.find(undefined))
  const folder = mkdtempSync(join(tmpdir(), "portfire-bench-"))
  const config = join(folder, "nats.conf")
  writeFileSync(
    config,
    `listen: "127.0.0.1:-1"
ports_file_dir: "${folder}"
log_file: "${join(folder, "log")}"
jetstream { store_dir: "${join(folder, "store")}", sync_interval: ${sync} }
`,
  )
  const child = spawn(path, ["-c", config], { stdio: "ignore" })
  const gone = new Promise<void>((done) => child.once("exit", () => done()))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const onExit = () => {
    child.kill("SIGKILL")
    remove()
  }
  process.once("exit", onExit)
  const stop = async () => {
    process.removeListener("exit", onExit)
    child.kill("SIGKILL")
    await gone
    remove()
  }
  while (true) {
    const [file] = readdirSync(folder).filter((name) => name.endsWith(".ports"))
    const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8")
    const url = /nats:\/\/(127\.0\.0\.1:\d+)/.exec(text)?.[1]
    if (url !== undefined) return { url, pid: child.pid ?? -1, version, stop }
    if (child.exitCode !== null) {
      const log = readFileSync(join(folder, "log"), "utf8")
      await stop()
      throw new Error(`nats-server ended at its start\n${log}`)
    }
    await sleep(10)
  }
}
