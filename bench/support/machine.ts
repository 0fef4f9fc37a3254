/** What the numbers were measured on. */
import { cpus, loadavg, release, totalmem, type } from "node:os"
import process from "node:process"
import type { Server, Sync } from "./server.ts"

/** Machine, runtime and server of a run. */
export interface Machine {
  readonly runtime: string
  readonly server: string
  readonly sync: Sync
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly system: string
  /** Load of the machine in the minute before the run: other work makes numbers worthless. */
  readonly loadBefore: number
  readonly date: string
}

/** The runtime that runs this benchmark, with its version. */
export const runtime = (): string => {
  const { bun, deno, node } = process.versions
  return bun !== undefined ? `Bun ${bun}` : deno !== undefined ? `Deno ${deno}` : `Node ${node}`
}

/** Describes the machine. Call it before the load begins. */
export const describeMachine = (server: Server, sync: Sync): Machine => {
  const all = cpus()
  return {
    runtime: runtime(),
    server: `nats-server ${server.version}, one replica, file storage`,
    sync,
    cpu: all[0]?.model.trim() ?? "unknown",
    cores: all.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()}`,
    loadBefore: loadavg()[0] ?? 0,
    date: new Date().toISOString(),
  }
}

/** The same in two lines. */
export const machineLines = (machine: Machine): string =>
  `${machine.runtime} · ${machine.server}, sync ${machine.sync}\n` +
  `${machine.cores} × ${machine.cpu}, ${machine.memoryGiB} GiB · ${machine.system} · ` +
  `load before ${machine.loadBefore.toFixed(2)} · ${machine.date}`
