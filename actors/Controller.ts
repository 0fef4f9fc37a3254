/** Answers questions that arrive on core subjects: who runs this job, and what runs here? */
import * as Effect from "effect/Effect"
import { maxDescribed } from "../src/core/Limits.ts"
import { answer, listen as listenTo } from "../src/nats/Control.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Health } from "./Health.ts"
import type { Pool } from "./Pool.ts"

/** The controller of a server, as a child of its supervisor. */
export const start = (
  wire: Wire,
  server: string,
  pools: ReadonlyMap<string, Pool>,
  health: () => Health,
): ChildSpec.Start => {
  // `[server, attempt, started]` for a job that runs here; an empty list counts as a no.
  const find = (id: unknown) => {
    for (const pool of pools.values()) {
      for (const delivery of pool.held) {
        if (delivery.phase === "running" && delivery.subject.id === id) {
          return [server, delivery.attempt, delivery.started]
        }
      }
    }
    return []
  }
  // `[server, jobs, total, lanes, [ready, codes]]`: of the jobs as many as were asked for, each as
  // `[id, name, queue, attempt, started, partition, group, sequence]`, and of every queue and lane
  // `[queue, lane, count]`. An attempt whose outcome is being written still counts. Last whether the
  // server is ready, with the codes of what isn't as it should be.
  const describe = (question: unknown) => {
    const limit = Math.min(
      Number.isInteger(question) ? Number(question) : maxDescribed,
      maxDescribed,
    )
    const jobs: Array<unknown> = []
    const lanes = new Map<string, [queue: string, lane: number, count: number]>()
    let total = 0
    for (const pool of pools.values()) {
      for (const { attempt, envelope, message, phase, started, subject } of pool.held) {
        if (started === 0 || phase !== "running" && phase !== "settled") continue
        total++
        const { group, id, lane, partition, queue } = subject
        const key = `${queue}.${lane}`
        const entry = lanes.get(key)
        if (entry === undefined) lanes.set(key, [queue, Number(lane), 1])
        else entry[2]++
        if (jobs.length >= limit) continue
        jobs.push([id, envelope.name, queue, attempt, started, partition, group, message.sequence])
      }
    }
    const { ready, reasons } = health()
    const codes = reasons.map(({ code }) => code)
    return [server, jobs, total, [...lanes.values()], [ready, codes]]
  }
  // `[partition, sequences]` of messages that are superseded.
  const makeVoid = (content: unknown) => {
    if (!Array.isArray(content) || !Array.isArray(content[1])) return
    const [partition, sequences] = content as [unknown, ReadonlyArray<unknown>]
    if (typeof partition !== "number") return
    for (const sequence of sequences) {
      if (typeof sequence !== "number") continue
      for (const pool of pools.values()) pool.makeVoid(partition, sequence)
    }
  }
  const questions: Readonly<Record<string, (question: unknown) => unknown>> = { find, describe }
  const listen = ([subject, reply]: [string, (question: unknown) => unknown]) =>
    Effect.acquireRelease(
      Effect.sync(() => answer(wire.nats.connection, wire.subjects.control(subject), reply)),
      (stop) => Effect.sync(stop),
    )
  const { nats, subjects } = wire
  return Effect.forEach(Object.entries(questions), listen, { discard: true }).pipe(
    Effect.andThen(Effect.acquireRelease(
      Effect.sync(() => listenTo(nats.connection, subjects.control("void"), makeVoid)),
      (stop) => Effect.sync(stop),
    )),
    Effect.as(Effect.never),
  )
}
