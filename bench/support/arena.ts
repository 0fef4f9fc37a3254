/** What every benchmark does first and last: a server, a machine's description, a connection. */
import { connect, type NatsConnection } from "nats"
import { removeStreams } from "./jobs.ts"
import { describeMachine, type Machine, machineLines } from "./machine.ts"
import type { Options } from "./options.ts"
import { type Server, startServer } from "./server.ts"
import type { World } from "./workload.ts"

/** A server for the time of one benchmark. */
export interface Arena {
  readonly server: Server
  readonly machine: Machine
  readonly connection: NatsConnection
  /** A namespace that nobody has used. */
  readonly world: () => World
  /** Deletes what a namespace holds. */
  readonly clear: (world: World) => Promise<void>
  readonly close: () => Promise<void>
}

/** Starts the server and, without `--json`, says on what is measured. */
export const openArena = async (options: Options): Promise<Arena> => {
  const server = await startServer(options.sync)
  const machine = describeMachine(server, options.sync)
  const connection = await connect({ servers: server.url })
  if (!options.json) console.log(machineLines(machine))
  let worlds = 0
  return {
    server,
    machine,
    connection,
    world: () => ({ url: server.url, namespace: `bench${worlds++}`, connection }),
    clear: ({ namespace }) => removeStreams(connection, namespace),
    close: async () => {
      await connection.close()
      await server.stop()
    },
  }
}
