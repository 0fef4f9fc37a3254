import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe } from "node:test"
import * as FolderLock from "../../src/nats/FolderLock.ts"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("./programs/lock.ts", import.meta.url)
const never = new AbortController().signal

const counting = Effect.map(temporaryFolder, (folder) => {
  writeFileSync(join(folder, "counter"), "0")
  return folder
})

describe("FolderLock", () => {
  effect(
    "lets one process in at a time, also when holders are killed in between",
    () =>
      Effect.gen(function* () {
        const folder = yield* counting
        const programs = yield* Effect.all(
          Array.from({ length: 4 }, () =>
            spawnProgram(file, { env: { FOLDER: folder, TIMES: "50" } })),
        )
        for (let i = 0; i < 3; i++) {
          const victim = yield* spawnProgram(file, {
            env: { FOLDER: folder, TIMES: "1", HOLD: "yes" },
          })
          yield* victim.waitForLine("holding")
          victim.kill("SIGKILL")
        }
        yield* Effect.forEach(programs, (program) =>
          program.waitForLine("done"))
        assert.equal(readFileSync(join(folder, "counter"), "utf8"), "200")
        assert.ok(readdirSync(folder).length < 20, "old generations are swept")
      }),
  )

  effect("is free after a release and taken until then", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const release = FolderLock.tryAcquire(folder)
      assert.ok(release)
      assert.equal(FolderLock.tryAcquire(folder), undefined)
      assert.equal(FolderLock.acquireNow(folder, 30), undefined)
      release()
      FolderLock.acquireNow(folder, 0)?.()
      assert.ok(FolderLock.tryAcquire(folder))
    }))

  effect(
    "is not held by a dead process, nor by one that has its id now",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const mine = FolderLock.tryAcquire(folder)
        const held = JSON.parse(readFileSync(join(folder, "lock.1"), "utf8"))
        mine?.()
        writeFileSync(join(folder, "lock.2"), JSON.stringify({ ...held, started: "1" }))
        const release = FolderLock.tryAcquire(folder)
        assert.ok(release)
        release()
        writeFileSync(join(folder, "lock.4"), JSON.stringify({ ...held, pid: 2 ** 22 + 1 }))
        assert.ok(FolderLock.tryAcquire(folder))
      }),
  )

  effect(
    "stops waiting when told to, and says who holds it when time is up",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const release = FolderLock.tryAcquire(folder)
        const late = yield* Effect.flip(
          Effect.tryPromise(() => FolderLock.acquire(folder, never, 30)),
        )
        assert.match(String(late.cause), /process \d+ holds the lock/)
        const stopped = AbortSignal.abort(new Error("stopped"))
        yield* Effect.flip(Effect.tryPromise(() => FolderLock.acquire(folder, stopped, 1000)))
        release?.()
      }),
  )
})
