import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { describe } from "node:test"
import { effect, eventually, type Program, spawnProgram, temporaryFolder } from "../harness.ts"

const main = new URL("../../examples/demo/main.ts", import.meta.url)
const enqueue = new URL("../../examples/demo/enqueue.ts", import.meta.url)

const fileCount = 24
const long = { timeout: 120_000 }

interface World {
  /** What the demonstration reads. */
  readonly folder: string
  readonly files: ReadonlyArray<string>
  /** Where it works. */
  readonly temp: string
}

const writeAll = (files: ReadonlyArray<string>, text: string): void => {
  for (const [index, file] of files.entries()) {
    writeFileSync(file, `${text} ${String(index).padStart(2, "0")}\n`.repeat(50))
    utimesSync(file, 1_700_000_000, 1_700_000_000)
  }
}

const world: Effect.Effect<World, never, Scope.Scope> = Effect.map(temporaryFolder, (root) => {
  const [folder, temp] = [join(root, "files"), join(root, "temp")]
  for (const path of [temp, join(folder, "below"), join(folder, "node_modules")]) {
    mkdirSync(path, { recursive: true })
  }
  writeFileSync(join(folder, "node_modules", "ignored"), "")
  const files = Array.from(
    { length: fileCount },
    (_, index) => join(folder, index % 2 === 0 ? "below" : "", `file-${index}`),
  )
  writeAll(files, "file")
  return { folder, files, temp }
})

const start = (
  { folder, temp }: World,
  ...flags: ReadonlyArray<string>
): Effect.Effect<Program, never, Scope.Scope> =>
  spawnProgram(main, { args: [folder, ...flags], env: { TMPDIR: temp, NO_COLOR: "1" } })

/** What the demonstration started, once it has said so: two servers and NATS. */
const processesOf = Effect.fnUntraced(function* (program: Program, { temp }: World) {
  const line = yield* program.waitForLine("  server 1 is process")
  const servers = [...line.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid))
  const [work = ""] = readdirSync(temp)
  const ports = join(temp, work, "nats", "ports")
  const nats = readdirSync(ports).map((name) => Number(/_(\d+)\.ports$/.exec(name)?.[1]))
  assert.deepEqual([servers.length, nats.length], [2, 1])
  return [...servers, ...nats]
})

/** False also for one that has ended and whose parent has not asked how. */
const lives = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    const proc = `/proc/${pid}/stat`
    return !existsSync(proc) || !/\) [ZX] /.test(readFileSync(proc, "utf8"))
  } catch {
    return false
  }
}

const tableOf = ({ lines }: Program): ReadonlyMap<string, string> =>
  new Map(
    lines.flatMap((line) => {
      const [, label, value] = /^ {2}([a-z].*?) {2,}([\d.,]+(?: of [\d,]+)?)(?: {3}.*)?$/
        .exec(line) ?? []
      return label === undefined || value === undefined ? [] : [[label, value]]
    }),
  )

describe("the demonstration", () => {
  effect(
    "accounts for every job, kills a server on the way and leaves nothing",
    () =>
      Effect.gen(function* () {
        const place = yield* world
        const program = yield* start(place)
        const processes = yield* processesOf(program, place)
        const killed = yield* program.waitForLine("  ✗ server", 60_000)
        const victim = Number(/process (\d+)/.exec(killed)?.[1])
        assert.ok(processes.slice(0, 2).includes(victim), killed)
        const held = Number(/while it runs (\d+) job/.exec(killed)?.[1])
        assert.ok(held > 0, killed)
        yield* program.waitForLine("  ✓ Every job is accounted for", 60_000)
        assert.equal(yield* program.exited, 0, program.stderr())

        const { attempts, ...table } = Object.fromEntries(tableOf(program))
        // Two jobs fail once, two fail twice, and one has no file: it fails three times.
        assert.equal(Number(attempts), fileCount + 1 + 2 + 4 + 2)
        assert.equal(table["jobs"], String(fileCount + 1))
        assert.equal(table["retried"], "5")
        assert.equal(table["failed for good"], "1")
        assert.ok(Number(table["redelivered after the kill"]) >= held)
        assert.equal(table["lost"], "0")
        assert.equal(table["executed twice after a committed completion"], "0")
        assert.equal(table["digests that match"], `${fileCount} of ${fileCount}`)
        assert.ok(Number(table["jobs per second"]) > 0)
        assert.deepEqual(processes.filter(lives), [])
        assert.deepEqual(readdirSync(place.temp), [])
      }),
    long,
  )

  effect("exits with 1 when a digest is not that of the file", () =>
    Effect.gen(function* () {
      const place = yield* world
      const program = yield* start(place)
      yield* program.waitForLine("  ✗ server", 60_000)
      // Other contents, but of the same size and time: as if they had been read wrongly.
      writeAll(place.files, "fake")
      yield* program.waitForLine("  ✗ This is not as it should be", 60_000)
      assert.equal(yield* program.exited, 1)
      assert.match(program.lines.at(-1) ?? "", /^ {4}the digest is not that of the file: /)
      const [matching, compared] = tableOf(program).get("digests that match")?.split(" of ") ?? []
      assert.ok(Number(matching) < Number(compared), `${matching} of ${compared}`)
    }), long)

  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    effect(`stops everything at ${signal}`, () =>
      Effect.gen(function* () {
        const place = yield* world
        const program = yield* start(place)
        const processes = yield* processesOf(program, place)
        yield* program.waitForLine("  ✗ server", 60_000)
        program.kill(signal)
        assert.equal(yield* program.exited, code, program.stderr())
        assert.match(program.lines.at(-1) ?? "", /stopped after \d+ of 25 jobs; nothing is left/)
        assert.deepEqual(processes.filter(lives), [])
        assert.deepEqual(readdirSync(place.temp), [])
      }), long)
  }

  effect("stops everything before its servers are ready", () =>
    Effect.gen(function* () {
      const place = yield* world
      const program = yield* start(place)
      yield* program.waitForLine("  NATS ")
      program.kill("SIGINT")
      assert.equal(yield* program.exited, 130, program.stderr())
      assert.deepEqual(readdirSync(place.temp), [])
    }), long)

  effect("kills servers that don't stop when it is asked twice", () =>
    Effect.gen(function* () {
      const place = yield* world
      const program = yield* start(place)
      const processes = yield* processesOf(program, place)
      for (const pid of processes.slice(0, 2)) process.kill(pid, "SIGSTOP")
      program.kill("SIGINT")
      yield* program.waitForLine("  SIGINT: stopping")
      yield* eventually(
        Effect.sync(() => {
          program.kill("SIGINT")
          return lives(program.pid)
        }),
        (isThere) => !isThere,
      )
      assert.equal(yield* program.exited, 130, program.stderr())
      assert.deepEqual(processes.filter(lives), [])
      assert.deepEqual(readdirSync(place.temp), [])
    }), long)

  effect("takes its servers and NATS along when it is killed", () =>
    Effect.gen(function* () {
      const place = yield* world
      const program = yield* start(place)
      const processes = yield* processesOf(program, place)
      program.kill("SIGKILL")
      yield* program.exited
      yield* eventually(
        Effect.sync(() => processes.filter(lives)),
        (left) => left.length === 0,
        { timeout: 20_000 },
      )
    }), long)

  effect(
    "keeps NATS and a server for more jobs when asked to, until it is stopped",
    () =>
      Effect.gen(function* () {
        const place = yield* world
        const program = yield* start(place, "--keep")
        const processes = yield* processesOf(program, place)
        yield* program.waitForLine("  to stop", 60_000)
        assert.equal(processes.filter(lives).length, 2)
        const [work = ""] = readdirSync(place.temp)
        const player = yield* spawnProgram(enqueue, {
          args: place.files.slice(0, 2),
          env: { PORTFIRE_DATA_DIR: join(place.temp, work, "nats") },
        })
        assert.equal(yield* player.exited, 0, player.stderr())
        const succeeded = player.lines.filter((line) => /: succeeded after 1 attempt/.test(line))
        assert.equal(succeeded.length, 2, player.lines.join("\n"))
        program.kill("SIGINT")
        assert.equal(yield* program.exited, 0, program.stderr())
        assert.deepEqual(processes.filter(lives), [])
      }),
    long,
  )

  effect("refuses what it can't do with a sentence", () =>
    Effect.gen(function* () {
      const empty = yield* temporaryFolder
      const cases = [
        [["--kep"], 2, /there is no option --kep/],
        [[join(empty, "nowhere")], 3, /can't be opened \(ENOENT\)/],
        [[empty], 3, /There is no file in /],
      ] as const
      for (const [args, code, sentence] of cases) {
        const program = yield* spawnProgram(main, { args })
        assert.equal(yield* program.exited, code)
        assert.match(program.stderr(), sentence)
        assert.equal(program.stderr().trim().split("\n").length, 1)
        assert.deepEqual(program.lines, [])
      }
    }))
})
