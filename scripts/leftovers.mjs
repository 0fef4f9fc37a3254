// Finds processes by a folder name they carry in their command line or environment.

import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"

/** Processes other than this one that name the folder, as `{ pid, command }`. */
export function naming(folder) {
  const all = existsSync("/proc/self/environ") ? fromProc(folder) : fromPs(folder)
  return all.filter(({ pid }) => pid !== process.pid)
}

function fromProc(folder) {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8")
      // A process that has ended and waits for its parent has neither.
      if (command === "") return []
      const environment = readFileSync(`/proc/${name}/environ`, "utf8")
      return command.includes(folder) || environment.includes(folder)
        ? [{ pid: Number(name), command: command.replaceAll("\0", " ").trim() }]
        : []
    } catch {
      return []
    }
  })
}

function fromPs(folder) {
  if (process.platform === "win32") return []
  const lines = execFileSync("ps", ["axeww", "-o", "pid=,command="], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  })
  return lines.split("\n").filter((line) => line.includes(folder)).map((line) => {
    const [, pid, command] = /^\s*(\d+)\s+(.*)$/.exec(line)
    return { pid: Number(pid), command: command.slice(0, 200) }
  })
}

/** Waits a moment for them to go by themselves, then kills and returns those that stayed. */
export async function sweep(folder, patience = 3000) {
  const end = performance.now() + patience
  let left = naming(folder)
  while (left.length > 0 && performance.now() < end) {
    await delay(50)
    left = naming(folder)
  }
  for (const { pid } of left) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // It went in the meantime.
    }
  }
  return left
}
