/**
 * What the streams of jobs have stored, in their order: NATS republishes each message once it is
 * stored, and one listener per NATS server hears it. What a server has under way when it is killed is
 * missing; which sequences these are is known.
 */
import * as Effect from "effect/Effect"
import { connect, type NatsConnection } from "nats"
import * as Envelope from "../../../src/core/Envelope.ts"
import * as Api from "../../../src/nats/Api.ts"
import * as Subjects from "../../../src/nats/Subjects.ts"
import type { Wire } from "../../../src/nats/Wire.ts"
import type { Stored } from "../../model/History.ts"
import { credentials, type Node } from "./NatsServers.ts"

const prefix = "chronicle"

interface Heard {
  readonly subject: string
  readonly sequence: number
  readonly time: number
  readonly data: Uint8Array
}

/** What was heard so far. */
export interface Chronicle {
  readonly connections: ReadonlyArray<NatsConnection>
  /** By partition and sequence. */
  readonly heard: ReadonlyArray<Map<number, Heard>>
}

/** Begins to keep it. */
export const begin = async (
  wire: Wire,
  nodes: ReadonlyArray<Node>,
): Promise<Chronicle> => {
  const { nats: { connection, namespace }, partitions } = wire
  const heard = Array.from({ length: partitions }, () => new Map<number, Heard>())
  const connections = await Promise.all(nodes.map(async ({ port }) => {
    const own = await connect({
      servers: `127.0.0.1:${port}`,
      user: credentials.user,
      pass: credentials.password,
      maxReconnectAttempts: -1,
      // Each moment in which it doesn't listen is missing.
      reconnectTimeWait: 20,
      reconnectJitter: 0,
      pingInterval: 2_000,
    })
    own.subscribe(`${prefix}.${namespace}.>`, {
      callback: (_, { data, headers }) => {
        const subject = headers?.get("Nats-Subject") ?? ""
        const sequence = Number(headers?.get("Nats-Sequence"))
        const time = Date.parse(headers?.get("Nats-Time-Stamp") ?? "")
        const messages = heard[Number(subject.split(".")[2])]
        if (messages?.has(sequence) !== false) return
        messages.set(sequence, { subject, sequence, time, data: Uint8Array.from(data) })
      },
    })
    await own.flush()
    return own
  }))
  const republish = { src: ">", dest: `${prefix}.${namespace}.>` }
  for (let partition = 0; partition < partitions; partition++) {
    const jobs = Subjects.jobsStream(namespace, partition)
    const updated = Effect.gen(function* () {
      const { config } = yield* Api.call<{ readonly config: object }>(
        connection,
        `STREAM.INFO.${jobs}`,
        undefined,
        "reading",
      )
      yield* Api.call(connection, `STREAM.UPDATE.${jobs}`, { ...config, republish }, "keeping")
    })
    await Effect.runPromise(updated)
  }
  return { connections, heard }
}

/** Listens no more. */
export const end = async ({ connections }: Chronicle): Promise<void> => {
  await Promise.all(connections.map((connection) => connection.close()))
}

/** What it tells. */
export interface Story {
  /** Messages by job; `heard` is when they were stored, in ms since 1970. */
  readonly jobs: ReadonlyMap<string, ReadonlyArray<Stored>>
  readonly messages: number
  /** How many messages it lacks. */
  readonly missing: number
  /** Whether it has everything between two sequences of a partition. */
  readonly isWhole: (partition: number, from: number, to: number) => boolean
}

/** Puts it in order. */
export const tell = ({ heard }: Chronicle, { subjects }: Wire): Story => {
  const jobs = new Map<string, Array<Stored>>()
  let messages = 0
  const gaps = heard.map((all) => {
    messages += all.size
    let last = 0
    for (const sequence of all.keys()) last = Math.max(last, sequence)
    const missing: Array<number> = []
    for (let sequence = 1; sequence <= last; sequence++) {
      const stored = all.get(sequence)
      if (stored === undefined) {
        missing.push(sequence)
        continue
      }
      const subject = subjects.parse(stored.subject)
      const envelope = Envelope.decode(stored.data)
      if (subject === undefined || !Envelope.isEnvelope(envelope)) continue
      const own = jobs.get(subject.id) ?? []
      jobs.set(subject.id, own)
      own.push({ subject, stored, envelope, heard: stored.time })
    }
    return missing
  })
  return {
    jobs,
    messages,
    missing: gaps.reduce((sum, { length }) => sum + length, 0),
    isWhole: (partition, from, to) =>
      gaps[partition]?.some((gap) => gap > from && gap < to) !== true,
  }
}
