// Runs the suite on Bun, Deno and Node and adds the results up.
//
//   node scripts/test.mjs [--runtime bun|deno|node]… [--timeout seconds] [--verbose] [--folder path]
//                         [part of a file's path]…
//
// Every file gets a process and a temporary folder of its own: a crash, a hang or a forgotten process
// then has a name and spoils no other file. The last line is "N passed, N failed"; the exit code is 0
// only if something passed and nothing failed.

import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import process from "node:process"
import { parseArgs } from "node:util"
import { sweep } from "./leftovers.mjs"
import { count } from "./report.mjs"
import * as runtimes from "./runtimes.mjs"
import { root, setup } from "./setup.mjs"

const commands = {
  bun: (file, report, seconds) => [
    runtimes.bun,
    ["test", `--timeout=${seconds * 1000}`, "--reporter=junit", `--reporter-outfile=${report}`]
      // Without "./" it would be a filter.
      .concat(`./${file}`),
  ],
  deno: (file, report) => [
    runtimes.deno,
    ["test", "-A", "--no-check", "--quiet", `--junit-path=${report}`, file],
  ],
  // Without --test, which would take a file that exits early for one that passed.
  node: (file, report) => [
    runtimes.node(),
    ["spec", "junit"].flatMap((reporter) => [
      `--test-reporter=${reporter}`,
      `--test-reporter-destination=${reporter === "spec" ? "stdout" : report}`,
    ]).concat(file),
  ],
}

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    runtime: { type: "string", multiple: true, default: Object.keys(commands) },
    timeout: { type: "string", default: "180" },
    verbose: { type: "boolean", default: false },
    folder: { type: "string", default: "test" },
  },
})
const unknown = options.runtime.find((name) => !Object.hasOwn(commands, name))
if (unknown !== undefined) {
  console.error(`unknown runtime ${unknown}: choose among ${Object.keys(commands).join(", ")}`)
  process.exit(2)
}
const limit = Number(options.timeout)
if (!(limit > 0)) {
  console.error("--timeout is a number of seconds above zero")
  process.exit(2)
}

setup()

const files = readdirSync(join(root, options.folder), { recursive: true })
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => relative(root, join(root, options.folder, name)).replaceAll("\\", "/"))
  .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
  .sort()
const world = mkdtempSync(join(realpathSync(tmpdir()), "portfire-suite-"))
let current

// npm passes a signal on that the terminal has sent already: only the first one counts.
let interrupted = false
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, async () => {
    if (interrupted) return
    interrupted = true
    current?.kill("SIGTERM")
    await sweep(world)
    rmSync(world, { recursive: true, force: true })
    console.log("interrupted")
    process.exit(130)
  })
}

/** Runs one file on one runtime; everything that is wrong beside failed tests is a trouble. */
async function run(runtime, file) {
  const started = performance.now()
  const folder = join(world, `${runtime}-${file.replace(/\W+/g, "-")}`)
  const report = join(folder, "report.xml")
  mkdirSync(join(folder, "tmp"), { recursive: true })
  const [command, args] = commands[runtime](file, report, limit)
  const { output, code, overdue } = await finish(command, args, join(folder, "tmp"))
  const left = await sweep(folder)
  const counts = read(report)
  const troubles = left.map(({ pid, command }) => `left a process behind: ${pid} ${command}`)
  if (overdue) troubles.push(`did not end within ${limit} s`)
  else if (counts === undefined) troubles.push(`the runner died or found no test (exit ${code})`)
  else if (code !== 0 && counts.failed === 0) {
    troubles.push(`failed outside of a test (exit ${code})`)
  }
  rmSync(folder, { recursive: true, force: true })
  return {
    ...(counts ?? { passed: 0, failed: 0, skipped: 0 }),
    file,
    runtime,
    troubles,
    output,
    seconds: (performance.now() - started) / 1000,
  }
}

function read(report) {
  try {
    const counts = count(readFileSync(report, "utf8"))
    return counts && counts.passed + counts.failed + counts.skipped > 0 ? counts : undefined
  } catch {
    return undefined
  }
}

function finish(command, args, folder) {
  const { FORCE_COLOR: _, ...environment } = process.env
  const child = spawn(command, args, {
    cwd: root,
    env: { ...environment, TMPDIR: folder, TMP: folder, TEMP: folder, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  })
  current = child
  let output = ""
  let overdue = false
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output += text
      if (options.verbose) process.stdout.write(text)
    })
  }
  const timer = setTimeout(() => {
    overdue = true
    child.kill("SIGKILL")
  }, limit * 1000)
  return new Promise((resolve) => {
    const end = (code) => {
      clearTimeout(timer)
      current = undefined
      resolve({ output, code, overdue })
    }
    child.on("error", (error) => {
      output += error.message
      end(1)
    })
    child.on("close", (code, signal) => end(code ?? signal))
    // A process left behind may hold the pipes open for ever.
    child.on("exit", (code, signal) => setTimeout(end, 1000, code ?? signal))
  })
}

function show({ runtime, file, passed, failed, skipped, troubles, output, seconds }) {
  const good = failed === 0 && troubles.length === 0
  const numbers = `${passed} passed${failed ? `, ${failed} failed` : ""}` +
    (skipped ? `, ${skipped} skipped` : "")
  console.log(
    `${good ? "ok  " : "FAIL"} ${runtime.padEnd(5)}${file}  ${numbers}  ${seconds.toFixed(1)} s`,
  )
  if (!good) {
    if (!options.verbose) console.log(output.trim().replace(/^/gm, "     | "))
    for (const trouble of troubles) console.log(`     ${file}: ${trouble}`)
  }
}

const results = []
for (const runtime of options.runtime) {
  for (const file of files) {
    const result = await run(runtime, file)
    // The end is near; nothing may begin any more.
    if (interrupted) await new Promise(() => {})
    results.push(result)
    show(result)
  }
}
rmSync(world, { recursive: true, force: true })

// Deno passes over a file that throws between its first test and its last: the others then have more.
const total = ({ passed, failed, skipped }) => passed + failed + skipped
for (const file of files) {
  const ran = results.filter((result) =>
    result.file === file && result.failed === 0 && result.troubles.length === 0
  )
  const most = Math.max(...ran.map(total))
  for (const result of ran.filter((result) => total(result) < most)) {
    const trouble = `only ${total(result)} of ${most} tests were seen on ${result.runtime}`
    result.troubles.push(trouble)
    console.log(`FAIL ${file}: ${trouble}`)
  }
}

const sum = (some, field) => some.reduce((all, result) => all + result[field], 0)
const failures = (some) =>
  sum(some, "failed") + some.filter((one) => one.troubles.length > 0).length

console.log("")
for (const runtime of options.runtime) {
  const some = results.filter((result) => result.runtime === runtime)
  const numbers = `${sum(some, "passed")} passed, ${failures(some)} failed, ` +
    `${sum(some, "skipped")} skipped`
  console.log(`${runtime.padEnd(5)}${numbers} in ${sum(some, "seconds").toFixed(1)} s`)
}
const passed = sum(results, "passed")
const failed = failures(results)
if (passed === 0) console.log("no test passed")
console.log(`${passed} passed, ${failed} failed`)
process.exit(passed > 0 && failed === 0 ? 0 : 1)
