import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import process from "node:process"
import { describe } from "node:test"
import { Isolated, Operation } from "../../mod.ts"
import { argumentsOf } from "../../actors/isolated/Vessel.ts"
import { effect, eventually, freshNamespace, spawnProgram, testServer } from "../harness.ts"
import { heldIn, is, produce, serve } from "./harness.ts"
import { handle, Here, InProcess, InThread, Twice } from "./programs/isolatedJobs.ts"

const moduleOf = (name: string) => new URL(`./programs/${name}.ts`, import.meta.url)
const worker = moduleOf("isolatedWorker")
const options = { workers: 1, grace: "200 millis" } as const
const isolated = [InThread, InProcess]
const live = Layer.mergeAll(
  Isolated.layer(InThread, worker, options),
  Isolated.layer(InProcess, worker, options),
  Here.toLayer(handle),
).pipe(Layer.orDie)

/** Whether a process is there that isn't dead already, waiting for its parent to notice. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return process.platform !== "linux" || readFileSync(`/proc/${pid}/cmdline`, "utf8") !== ""
  } catch {
    return false
  }
}

describe("A worker of an isolated job", () => {
  const nats = testServer()

  effect(
    "that dies has failed its attempt and nothing else, and is replaced",
    () =>
      Effect.gen(function* () {
        const { provide, record } = yield* serve(nats.layer(), live)
        const expected: Readonly<Record<string, RegExp>> = {
          exit: /^the (thread|process) that ran it ended with code 7$/,
          throw: /^the (thread|process) that ran it died: late$/,
          reject: /^the (thread|process) that ran it died: nobody's$/,
        }
        for (const job of isolated) {
          for (const [deed, message] of Object.entries(expected)) {
            const { attempts, state } = yield* record(yield* provide(job.enqueue(deed)))
            assert.equal(state, "failed")
            assert.equal(attempts[0]?.ending, "crashed")
            assert.match(attempts[0]?.message ?? "", message)
            assert.equal((yield* record(yield* provide(job.enqueue("well")))).result, "did well")
          }
        }
      }),
    { timeout: 60_000 },
  )

  effect(
    "that runs out of memory has failed its attempt and nothing else",
    () =>
      Effect.gen(function* () {
        const limited = Isolated.layer(Twice, worker, { ...options, memory: 100 })
        const { provide, record } = yield* serve(nats.layer(), Layer.orDie(limited))
        // Bun has no such limit: there it is what the machine would do.
        const id = yield* provide(Twice.enqueue("Bun" in globalThis ? "shot" : "hog"))
        const { attempts, state } = yield* record(id)
        assert.equal(state, "failed")
        assert.match(attempts[0]?.message ?? "", /^the process that ran it ended with /)
        assert.equal(attempts.length, 2)
      }),
  )

  effect("is warm again before the next attempt", () =>
    Effect.gen(function* () {
      const { provide, record } = yield* serve(
        nats.layer(),
        Layer.orDie(Isolated.layer(Twice, worker, options)),
      )
      const { attempts } = yield* record(yield* provide(Twice.enqueue("age")))
      assert.deepEqual(attempts.map(({ ending }) => ending), ["crashed", "succeeded"])
    }))

  effect(
    "that ignores its interruption is killed when its server stops, its job given back",
    () =>
      Effect.gen(function* () {
        const layer = nats.layer(freshNamespace())
        for (const job of isolated) {
          const server = yield* serve(layer, live, { gracePeriod: "100 millis" })
          const { client, nats: connection } = yield* produce(layer)
          const where = yield* server.record(yield* server.provide(InProcess.enqueue("where")))
          const pid = Number.parseInt(String(where.result))
          assert.ok(isAlive(pid))
          const id = yield* server.provide(job.enqueue("spin"))
          yield* server.until(is("AttemptStarted", id))
          const began = performance.now()
          yield* server.stop
          assert.ok(performance.now() - began < 5_000, "the stop took too long")
          yield* eventually(Effect.sync(() => isAlive(pid)), (alive) => !alive)
          assert.equal((yield* client.get(id)).state, "enqueued")
          assert.equal(yield* heldIn(connection, "default"), 0)
          yield* client.operate(id, Operation.cancel())
        }
      }),
  )

  effect("is no more when its server is killed, whatever it does", () =>
    Effect.gen(function* () {
      const namespace = freshNamespace()
      const { client, provide } = yield* produce(nats.layer(namespace))
      const program = yield* spawnProgram(moduleOf("isolatedServer"), {
        env: {
          SERVERS: yield* Effect.promise(nats.url),
          NAMESPACE: namespace,
          NATS_USER: nats.credentials.user,
          NATS_PASSWORD: nats.credentials.password,
        },
      })
      yield* program.waitForLine("ready")
      const id = yield* provide(InProcess.enqueue("where"))
      const { result } = yield* eventually(client.get(id), ({ state }) => state === "succeeded")
      const pid = Number.parseInt(String(result))
      yield* program.waitForLine("started in/process")
      yield* provide(InProcess.enqueue("spin"))
      yield* program.waitForLine("started in/process")
      assert.ok(isAlive(pid))
      program.kill("SIGKILL")
      yield* program.exited
      yield* eventually(Effect.sync(() => isAlive(pid)), (alive) => !alive, { timeout: 5_000 })
    }))

  effect("leaves the signals of a terminal to its server", () =>
    Effect.gen(function* () {
      const { provide, record } = yield* serve(nats.layer(), live)
      const { result } = yield* record(yield* provide(InProcess.enqueue("where")))
      const pid = Number.parseInt(String(result))
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.kill(pid, signal)
      assert.equal((yield* record(yield* provide(InProcess.enqueue("where")))).result, result)
    }))

  effect(
    "that can't be started is found out before the server starts, with the reason",
    () =>
      Effect.gen(function* () {
        const why = Effect.fnUntraced(function* (
          job: typeof isolated[number],
          how: string | undefined,
        ) {
          const module = moduleOf(how === undefined ? "nowhere" : "isolatedBroken")
          process.env["BROKEN"] = how
          const bound = Isolated.layer(job as typeof InThread, module, {
            startWithin: how === "slow" ? "700 millis" : "20 seconds",
          })
          const error = yield* Effect.flip(Layer.build(bound))
          assert.ok(error instanceof Isolated.IsolatedFailed, String(error))
          return error.message
        })
        for (const job of isolated) {
          assert.match(
            yield* why(job, undefined),
            /nowhere\.ts.*(no such file|not found|find module)/i,
          )
          assert.match(yield* why(job, "throws"), /(at the top|code 1) before it was ready/)
          assert.match(
            yield* why(job, "another"),
            /before it was ready; does its module call serve/,
          )
          assert.match(yield* why(job, "slow"), /not ready within 700 ms; does its module/)
          assert.match(yield* why(job, "layer"), /no database/)
        }
        delete process.env["BROKEN"]
      }),
    { timeout: 60_000 },
  )

  effect(
    "that can't be started any more fails attempts, until it can again",
    () =>
      Effect.gen(function* () {
        const bound = Isolated.layer(InProcess, moduleOf("isolatedBroken"), options)
        const { provide, record } = yield* serve(nats.layer(), Layer.orDie(bound))
        process.env["BROKEN"] = "throws"
        yield* record(yield* provide(InProcess.enqueue("exit")))
        const { attempts } = yield* record(yield* provide(InProcess.enqueue("well")))
        assert.match(
          attempts[0]?.message ?? "",
          /^its worker could not be started: its process ended/,
        )
        delete process.env["BROKEN"]
        const id = yield* provide(InProcess.enqueue("well"))
        assert.equal((yield* record(id)).result, "did well")
      }),
  )

  effect("shares what options of the runtime are not its server's own", () =>
    Effect.sync(() => {
      const ours = [
        "--import",
        "tsx",
        "--inspect=9229",
        "-e",
        "1 + 1",
        "--hot",
        "--watch",
        "--test",
      ]
      assert.deepEqual(argumentsOf([...ours, "--conditions=dev"], undefined), [
        "--import",
        "tsx",
        "--conditions=dev",
      ])
    }))
})
