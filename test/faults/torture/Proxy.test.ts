import assert from "node:assert/strict"
import { connect, createServer, type Socket } from "node:net"
import { describe, it } from "node:test"
import * as Proxy from "./Proxy.ts"

/** A server that answers each byte with itself. */
const echo = async () => {
  const server = createServer((socket) => void socket.on("error", () => {}).pipe(socket))
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
  const { port } = server.address() as { readonly port: number }
  return { port, close: () => new Promise((done) => server.close(done)) }
}

const dial = async (address: string): Promise<Socket> => {
  const [host = "", port] = address.split(":")
  const socket = connect({ host, port: Number(port) })
  socket.on("error", () => {})
  await new Promise<void>((done) => socket.once("connect", done))
  return socket
}

const next = (socket: Socket): Promise<string> =>
  new Promise((done) => socket.once("data", (bytes) => done(bytes.toString())))

describe("The proxy of the torture", () => {
  it("passes on, holds what comes, and lets it go", async () => {
    const far = await echo()
    const proxy = await Proxy.start(far.port)
    const socket = await dial(proxy.address)
    const first = next(socket)
    socket.write("a")
    assert.equal(await first, "a")
    let came = ""
    socket.on("data", (bytes) => came += bytes.toString())
    proxy.hold(["back"])
    socket.write("b")
    await new Promise((done) => setTimeout(done, 100))
    assert.equal(came, "")
    const second = next(socket)
    proxy.release()
    assert.equal(await second, "b")
    await proxy.close()
    await far.close()
  })

  it("resets connections, and takes new ones", async () => {
    const far = await echo()
    const proxy = await Proxy.start(far.port)
    const socket = await dial(proxy.address)
    const answered = next(socket)
    socket.write("a")
    await answered
    const closed = new Promise<void>((done) => socket.once("close", () => done()))
    proxy.reset()
    await closed
    const again = await dial(proxy.address)
    const answer = next(again)
    again.write("c")
    assert.equal(await answer, "c")
    await proxy.close()
    await far.close()
  })
})
