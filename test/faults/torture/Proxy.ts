/** A TCP proxy between a process and NATS, which can be told to behave like a bad network. */
import { connect, createServer, type Server, type Socket } from "node:net"

/** From the process to NATS, and back. */
export type Direction = "out" | "back"

/** A proxy that listens. */
export interface Proxy {
  /** `127.0.0.1:port`. */
  readonly address: string
  /** Holds every byte back by as much. */
  readonly delay: (millis: number) => void
  /** Lets nothing through any more in these directions; what comes is kept. */
  readonly hold: (directions: ReadonlyArray<Direction>) => void
  /** Lets everything through again, what was kept first. */
  readonly release: () => void
  /** Resets every connection; what was kept is lost. */
  readonly reset: () => void
  /** Resets every connection and listens no more. */
  readonly close: () => Promise<void>
}

/** Bytes on their way, the oldest first. */
interface Parcel {
  readonly due: number
  readonly bytes: Uint8Array | undefined
}

/** Starts a proxy to a port of this machine. */
export const start = async (port: number): Promise<Proxy> => {
  const pairs = new Set<() => void>()
  const pumps = new Set<() => void>()
  let delay = 0
  let held: ReadonlyArray<Direction> = []

  const pump = (from: Socket, to: Socket, direction: Direction) => {
    const parcels: Array<Parcel> = []
    let timer: ReturnType<typeof setTimeout> | undefined
    const flow = () => {
      clearTimeout(timer)
      timer = undefined
      while (parcels.length > 0 && !held.includes(direction) && !to.destroyed) {
        const { bytes, due } = parcels[0] as Parcel
        const wait = due - performance.now()
        if (wait > 0) {
          timer = setTimeout(flow, wait)
          return
        }
        parcels.shift()
        if (bytes === undefined) to.end()
        else to.write(bytes)
      }
    }
    const take = (bytes: Uint8Array | undefined) => {
      parcels.push({ due: performance.now() + delay, bytes })
      if (timer === undefined) flow()
    }
    from.on("data", take)
    from.on("end", () => take(undefined))
    pumps.add(flow)
    return () => {
      clearTimeout(timer)
      pumps.delete(flow)
    }
  }

  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
    const stops = [pump(near, far, "out"), pump(far, near, "back")]
    const destroy = () => {
      pairs.delete(destroy)
      for (const stop of stops) stop()
      for (const socket of [near, far]) {
        if (!socket.destroyed) socket.resetAndDestroy()
      }
    }
    pairs.add(destroy)
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      socket.on("error", destroy)
      socket.on("close", destroy)
    }
  })
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
  const { port: own } = server.address() as { readonly port: number }
  const reset = () => {
    for (const destroy of [...pairs]) destroy()
  }
  return {
    address: `127.0.0.1:${own}`,
    delay: (millis) => delay = millis,
    hold: (directions) => held = directions,
    release: () => {
      held = []
      for (const flow of [...pumps]) flow()
    },
    reset,
    close: () => {
      const closed = new Promise<void>((done) => server.close(() => done()))
      reset()
      return closed
    },
  }
}
