/** `npm run torture`: runs it by what the command line says, and writes the report. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import * as ServerBinary from "../../../src/nats/ServerBinary.ts"
import * as Faults from "./Faults.ts"
import type { Options, Runtime } from "./Options.ts"
import * as Report from "./Report.ts"
import * as Torture from "./Torture.ts"

const usage = `npm run torture -- [options]
  --minutes N     how long faults go on, default 2
  --seed S        repeats the choices of an earlier run
  --only a,b      only these faults
  --cluster       three NATS servers and three replicas
  --report FILE   writes FILE.json and FILE.md
  --keep          keeps the folder with ledgers and NATS data
faults: `

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    only: { type: "string", default: "" },
    cluster: { type: "boolean", default: false },
    report: { type: "string" },
    keep: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
})
const names = Object.keys(Faults.of(values.cluster))
const only = values.only.split(",").filter((name) => name !== "")
const minutes = Number(values.minutes)
const seed = Number(values.seed)
const unknown = only.filter((name) => !names.includes(name))
if (values.help || unknown.length > 0 || !(minutes > 0) || !Number.isSafeInteger(seed)) {
  if (unknown.length > 0) console.error(`there is no fault ${unknown.join(", ")}`)
  console.error(usage + names.join(" "))
  process.exit(2)
}

const runtimes: ReadonlyArray<Runtime> = [
  { name: "bun", command: [process.env["PORTFIRE_BUN"] ?? "bun"] },
  { name: "node", command: [process.env["PORTFIRE_NODE"] ?? "node"] },
  { name: "deno", command: [process.env["PORTFIRE_DENO"] ?? "deno", "run", "-A", "--no-check"] },
]

const versionOf = (command: string): string =>
  /\d+\.\d+\.\d+/.exec(spawnSync(command, ["--version"], { encoding: "utf8" }).stdout)?.[0] ?? "?"

const began = performance.now()
const say = (text: string) =>
  console.log(`${((performance.now() - began) / 1_000).toFixed(1).padStart(7)} s  ${text}`)

const options: Options = {
  seed,
  millis: minutes * 60_000,
  only,
  cluster: values.cluster,
  runtimes,
  producers: 2,
  pauseMillis: 200,
  settleMillis: 120_000,
  say,
}

const folder = mkdtempSync(join(realpathSync(tmpdir()), "portfire-torture-"))
const clear = () => {
  if (values.keep) console.log(`kept ${folder}`)
  else rmSync(folder, { recursive: true, force: true })
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    clear()
    process.exit(130)
  })
}

console.log(`seed ${seed}; again: ${Report.replayOf(options)}`)
const result = await Torture.run(options, folder).catch((error: unknown) => {
  console.error(error)
  console.error(`failed; again: ${Report.replayOf(options)}`)
  clear()
  process.exit(1)
})
const binary = await Effect.runPromise(ServerBinary.find(undefined))
const versions = {
  ...Object.fromEntries(
    runtimes.map(({ command: [command = ""], name }) => [name, versionOf(command)]),
  ),
  "nats-server": versionOf(binary.path),
}
const report = Report.make(options, result, versions)
if (values.report !== undefined) {
  const base = values.report.replace(/\.(json|md)$/, "")
  writeFileSync(`${base}.json`, JSON.stringify(report, null, 2))
  writeFileSync(`${base}.md`, Report.markdown(report))
}
console.log(Report.markdown(report))
clear()
process.exit(result.violations.length === 0 ? 0 : 1)
