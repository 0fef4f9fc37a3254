import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { describe, it } from "node:test"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { runtime } from "../house/tree.ts"

// Times are nobody's business here, and the workloads the same on every runtime.
const skip = runtime !== "bun"

const bench = async (program: string, ...args: ReadonlyArray<string>) => {
  const file = fileURLToPath(new URL(`../../bench/${program}.ts`, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [file, "--json", ...args])
  return JSON.parse(stdout) as { readonly results: ReadonlyArray<Record<string, unknown>> }
}

describe("the benchmarks", () => {
  it(
    "of throughput run, count what they stored and compare",
    { skip, timeout: 120_000 },
    async () => {
      const { results } = await bench("throughput", "--jobs", "200", "--runs", "1")
      assert.ok(results.length >= 7)
      for (const { jobs, jobsPerSecond, name, ratio, reference } of results) {
        assert.equal(jobs, 200, String(name))
        assert.ok((jobsPerSecond as { readonly median: number }).median > 0, String(name))
        assert.equal(ratio === undefined, reference === undefined, String(name))
      }
    },
  )

  it("of latency see every job start", { skip, timeout: 60_000 }, async () => {
    const { results } = await bench("latency", "--jobs", "20", "--runs", "1")
    assert.deepEqual(results.map(({ samples }) => samples), [20, 20])
  })
})
