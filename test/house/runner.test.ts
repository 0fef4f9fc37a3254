import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import process from "node:process"
import { describe, it } from "node:test"
import { naming } from "../../scripts/leftovers.mjs"
import { root, runtime } from "./tree.ts"

interface Ended {
  readonly code: number | null
  readonly said: string
  readonly last: string
}

/** Runs the test command of this runtime on one planted file. */
const runOn = async (source: string, ...options: ReadonlyArray<string>): Promise<Ended> => {
  const folder = mkdtempSync(join(tmpdir(), "planted-"))
  writeFileSync(
    join(folder, "planted.test.ts"),
    `import assert from "node:assert/strict"\nimport { describe, it } from "node:test"\n${source}\n`,
  )
  const command = [join(root, "scripts/test.mjs"), "--runtime", runtime, "--folder"]
  const child = spawn(
    process.execPath,
    [...(runtime === "deno" ? ["run", "-A"] : []), ...command, relative(root, folder), ...options],
    { cwd: root, stdio: ["ignore", "pipe", "pipe"] },
  )
  let said = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => said += text)
  }
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve))
  rmSync(folder, { recursive: true, force: true })
  return { code, said, last: said.trimEnd().split("\n").at(-1) ?? "" }
}

describe("the test command", () => {
  it("counts what passes and ends with 0", async () => {
    const { code, last, said } = await runOn(`
      describe("a", () => { it("b", () => {}); it("c", () => {}) })
      it("d", () => {})
    `)
    assert.equal(last, "3 passed, 0 failed", said)
    assert.equal(code, 0)
  })

  const planted: ReadonlyArray<readonly [string, string, string]> = [
    [
      "a failing test",
      `it("a", () => {}); it("b", () => assert.equal(1, 2))`,
      "1 passed, 1 failed",
    ],
    ["a file without tests", `export const a = 1`, "0 passed, 1 failed"],
    ["a file that can't be loaded", `import "./missing.ts"`, "0 passed, 1 failed"],
    [
      "a hook that throws",
      `import { after } from "node:test"
      describe("a", () => { after(() => { throw new Error("hook") }); it("b", () => {}) })`,
      "",
    ],
    ["a test that ends the process", `it("a", () => { process.exit(0) }); it("b", () => {})`, ""],
  ]
  for (const [name, source, expected] of planted) {
    it(`does not pass over ${name}`, async () => {
      const { code, last, said } = await runOn(source)
      assert.match(
        last,
        expected === "" ? /^\d+ passed, [1-9]\d* failed$/ : RegExp(`^${expected}$`),
        said,
      )
      assert.equal(code, 1)
    })
  }

  it("stops a file that hangs", async () => {
    const { code, said } = await runOn(
      `it("a", () => new Promise(() => setInterval(() => {}, 1000)))`,
      "--timeout",
      "1",
    )
    assert.equal(code, 1, said)
    assert.match(said, /0 passed, 1 failed\n$/)
  })

  it("names a process that is left behind, and ends it", async () => {
    const seconds = `71.${process.pid}`
    const { code, said } = await runOn(`
      import { spawn } from "node:child_process"
      it("a", () => spawn("sleep", ["${seconds}"], { detached: true, stdio: "ignore" }).unref())
    `)
    assert.equal(code, 1, said)
    assert.match(said, RegExp(`left a process behind: \\d+ .*sleep ${seconds}\n`))
    assert.deepEqual(naming(seconds), [])
  })
})

describe("naming", () => {
  it("finds a process by its command line and by its environment", async () => {
    const word = `portfire-word-${process.pid}`
    const children = [
      spawn("sh", ["-c", "echo here; read line"], { env: { ...process.env, WORD: word } }),
      spawn("sh", ["-c", "echo here; read line", word]),
    ]
    const ends = children.map((child) => once(child, "exit"))
    await Promise.all(children.map((child) => once(child.stdout, "data")))
    const pids = naming(word).map(({ pid }) => pid)
    for (const child of children) child.stdin.end()
    await Promise.all(ends)
    assert.deepEqual(pids.sort(), children.map((child) => child.pid).sort())
    assert.deepEqual(naming(word), [])
  })
})
