/** Three real nats-servers as one cluster. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import type * as Nats from "../../src/nats/Nats.ts"
import * as ServerBinary from "../../src/nats/ServerBinary.ts"
import { eventually, temporaryFolder } from "../harness.ts"

/** User and password that every server of {@link accounts} lets in. */
export const credentials = { user: "app", password: "app" }

/** An account for us that may ask the servers what they do, unless `telling` is false. */
export const accounts = (telling = true): string => {
  const service = '"$SYS.REQ.SERVER.PING.JSZ"'
  const out = telling ? `exports: [{service: ${service}, response_type: stream}]` : ""
  const into = telling ? `imports: [{service: {account: SYS, subject: ${service}}}]` : ""
  return `accounts {
  SYS { users: [{user: sys, password: sys}], ${out} }
  APP { jetstream: enabled, users: [
    {user: app, password: app}
    {user: narrow, password: narrow, permissions: {publish: ["$JS.API.>", "_INBOX.>"]}}
  ], ${into} }
}
system_account: SYS
`
}

/** How one server of a cluster is configured. */
export interface Node {
  readonly sync: string
  readonly zone: string
}

const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map((server) =>
      new Promise<number>((done) =>
        server.listen(0, "127.0.0.1", () => done((server.address() as { port: number }).port))
      )
    ),
  )
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))))
  return ports
}

/** Starts a cluster, which ends with the scope, and gives how to reach its first server. */
export const cluster = (
  nodes: readonly [Node, Node, Node],
): Effect.Effect<(namespace: string) => Nats.NatsOptions, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const binary = yield* ServerBinary.find(undefined)
    const ports = yield* Effect.promise(() => freePorts(9))
    const routes = ports.slice(3, 6).map((port) => `nats://127.0.0.1:${port}`).join(", ")
    const start = ({ sync, zone }: Node, index: number): ChildProcess => {
      const store = join(folder, String(index))
      const config = join(folder, `${index}.conf`)
      mkdirSync(store)
      writeFileSync(
        config,
        `server_name: n${index}
listen: "127.0.0.1:${ports[index]}"
http: "127.0.0.1:${ports[index + 6]}"
server_tags: ["zone:${zone}"]
jetstream { store_dir: ${JSON.stringify(store)}, sync_interval: ${sync}, unique_tag: "zone:" }
cluster { name: C, listen: "127.0.0.1:${ports[index + 3]}", routes: [${routes}] }
${accounts()}`,
      )
      const log = join(folder, `${index}.log`)
      return spawn(binary.path, ["-c", config, "-l", log], { stdio: "ignore" })
    }
    const kill = (child: ChildProcess) =>
      Effect.promise(async () => {
        const gone = new Promise((done) => child.once("exit", done))
        if (child.kill("SIGKILL")) await gone
      })
    yield* Effect.acquireRelease(
      Effect.sync(() => nodes.map(start)),
      (children) => Effect.forEach(children, kill, { concurrency: "unbounded" }),
    )
    const isFormed = (port: number) =>
      Effect.promise(() =>
        fetch(`http://127.0.0.1:${port}/healthz`).then(async (answer) => {
          await answer.text()
          return answer.ok
        }, () => false)
      )
    yield* eventually(Effect.forEach(ports.slice(6), isFormed), (all) => !all.includes(false))
    return (namespace) => ({
      servers: `127.0.0.1:${ports[0]}`,
      authentication: credentials,
      namespace,
    })
  })
