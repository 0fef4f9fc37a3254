/** The NATS servers of the torture: one, or a cluster of three. */
import * as Effect from "effect/Effect"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import process from "node:process"
import * as ServerBinary from "../../../src/nats/ServerBinary.ts"
import * as Processes from "./Processes.ts"

/** User and password that they let in. */
export const credentials = { user: "torture", password: "torture" }

/** One of them. */
export interface Node {
  readonly name: string
  readonly port: number
  readonly kill: () => Promise<void>
  /** SIGTERM, and wait. */
  readonly stop: () => Promise<void>
  readonly signal: (signal: NodeJS.Signals) => void
  /** Starts it where it doesn't run, and waits until it answers; `room` is all that it may store. */
  readonly start: (room?: number) => Promise<void>
  /** Bytes that it stores now. */
  readonly stored: () => Promise<number>
  /** Takes all of its data away; only while it doesn't run. */
  readonly wipe: () => void
  /** The end of its log. */
  readonly log: () => string
}

const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map((server) =>
      new Promise<number>((done) =>
        server.listen(
          0,
          "127.0.0.1",
          () => done((server.address() as { readonly port: number }).port),
        )
      )
    ),
  )
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))))
  return ports
}

const sleep = (millis: number) => new Promise((done) => setTimeout(done, millis))

/** Longest time in which a server must answer, also after it was wiped. */
const patienceMillis = 60_000

/** Sets servers up in a folder; none runs yet. */
export const make = async (folder: string, count: 1 | 3): Promise<ReadonlyArray<Node>> => {
  const binary = await Effect.runPromise(ServerBinary.find(undefined))
  const ports = await freePorts(3 * count)
  const routes = ports.slice(count, 2 * count).map((port) => `nats://127.0.0.1:${port}`)
  return Array.from({ length: count }, (_, index): Node => {
    const name = `n${index}`
    const port = ports[index] as number
    const monitor = ports[index + 2 * count]
    const store = join(folder, name)
    const config = join(folder, `${name}.conf`)
    const log = join(folder, `${name}.log`)
    const cluster = `cluster {
  name: torture
  listen: "127.0.0.1:${ports[index + count]}"
  routes: ${JSON.stringify(routes)}
  no_advertise: true
}`
    mkdirSync(store)
    const write = (room: number | undefined) =>
      writeFileSync(
        config,
        `server_name: ${name}
listen: "127.0.0.1:${port}"
http: "127.0.0.1:${monitor}"
jetstream {
  store_dir: ${JSON.stringify(store)}
  ${room === undefined ? "" : `max_file_store: ${room}`}
}
accounts {
  SYS { users: [{ user: sys, password: sys }] }
  APP { jetstream: enabled, users: [${JSON.stringify(credentials)}] }
}
system_account: SYS
${count > 1 ? cluster : ""}
`,
      )
    let running: Processes.Running | undefined
    const isHealthy = () =>
      fetch(`http://127.0.0.1:${monitor}/healthz`).then(async (answer) => {
        await answer.text()
        return answer.ok
      }, () => false)
    const end = (signal: NodeJS.Signals) => async () => {
      running?.signal(signal)
      await running?.exited
      running = undefined
    }
    process.once("exit", () => running?.signal("SIGKILL"))
    return {
      name,
      port,
      kill: end("SIGKILL"),
      stop: end("SIGTERM"),
      signal: (signal) => running?.signal(signal),
      start: async (room) => {
        if (running === undefined) write(room)
        running ??= Processes.start({ command: binary.path, args: ["-c", config, "-l", log] })
        const limit = performance.now() + patienceMillis
        while (!await isHealthy()) {
          if (running.end() !== undefined || performance.now() > limit) {
            throw new Error(`${name} doesn't answer\n${running.said()}\n${tail(log)}`)
          }
          await sleep(50)
        }
      },
      stored: async () => {
        const answer = await fetch(`http://127.0.0.1:${monitor}/jsz`)
        const { storage } = await answer.json() as { readonly storage: number }
        return storage
      },
      wipe: () => {
        rmSync(store, { recursive: true, force: true })
        mkdirSync(store)
      },
      log: () => tail(log),
    }
  })
}

const tail = (file: string): string => {
  try {
    return readFileSync(file, "utf8").slice(-3_000)
  } catch {
    return ""
  }
}
