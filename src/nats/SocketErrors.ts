/**
 * Keeps an error of a socket that the client library is done with from ending the process.
 *
 * The library takes all listeners off a socket before it destroys it. On Deno a reset by the server
 * can be on its way to them by then, as when it has just refused our credentials; an error that nobody
 * listens for is an uncaught one.
 */
import type { NatsConnection } from "nats"

interface Socket {
  readonly on: (event: "error", listener: () => void) => unknown
  removeAllListeners: (...events: ReadonlyArray<string>) => unknown
}

const ignore = (): void => {}

const keepListening = (socket: Socket): void => {
  const remove = socket.removeAllListeners
  socket.removeAllListeners = (...events) => {
    remove.call(socket, ...events)
    socket.on("error", ignore)
    return socket
  }
  socket.on("error", ignore)
}

/** Calls back with the value that a property has, and with each that it gets. */
const watch = <A>(owner: object, name: string, see: (value: A) => void): void => {
  let value = (owner as Readonly<Record<string, A | undefined>>)[name]
  if (value !== undefined) see(value)
  Object.defineProperty(owner, name, {
    configurable: true,
    enumerable: true,
    get: () => value,
    set: (next: A | undefined) => {
      value = next
      if (next !== undefined) see(next)
    },
  })
}

/** Does so for every socket of a connection from now on, also after it was made again. */
export const ignoreLate = (connection: NatsConnection): void => {
  const { protocol } = connection as { readonly protocol?: object }
  if (protocol === undefined) return
  watch<object>(protocol, "transport", (transport) => {
    watch<Socket>(transport, "socket", keepListening)
  })
}
