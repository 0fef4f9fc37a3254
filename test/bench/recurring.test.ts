import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import process from "node:process"
import { promisify } from "node:util"
import { runtime } from "../house/tree.ts"

const file = fileURLToPath(new URL("../../bench/recurring.ts", import.meta.url))

// Times are nobody's business here, and the parts the same on every runtime.
const skip = runtime !== "bun"

const bench = async (part: string, ...args: ReadonlyArray<string>) => {
  const given = [file, "--json", "--only", part, ...args]
  const { stdout } = await promisify(execFile)(process.execPath, given)
  const { results } = JSON.parse(stdout) as {
    readonly results: Readonly<Record<string, ReadonlyArray<Record<string, number>>>>
  }
  return results[part] ?? []
}

describe("the benchmark of recurring entries", () => {
  it("sees every run of a burst once", { skip, timeout: 60_000 }, async () => {
    const results = await bench("burst", "--jobs", "20", "--runs", "1")
    assert.equal(results.length, 3)
    for (const { beganLast = 0, storedLast = 0 } of results) assert.ok(beganLast >= storedLast)
  })

  it("counts what is caught up with", { skip, timeout: 60_000 }, async () => {
    const [once, skipped, ...all] = (await bench("catch-up")).map(({ runs }) => runs)
    assert.deepEqual([once, ...all], [1, 100, 500])
    assert.ok(skipped === 60 || skipped === 61)
  })
})
