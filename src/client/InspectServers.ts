/** Who serves the namespace, from what servers leave in NATS and from what they answer. */
import * as Effect from "effect/Effect"
import type { JobId } from "../core/JobId.ts"
import { maxDescribed } from "../core/Limits.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { askAll } from "../nats/Control.ts"
import type { NatsError } from "../nats/errors.ts"
import type { StoredMessage } from "../nats/Reader.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"

/** A job that a server runs right now. */
export interface RunningJob {
  /** Its id. */
  readonly id: JobId
  /** Name of its definition. */
  readonly name: string
  /** The queue it came from. */
  readonly queue: string
  /** Number of the attempt. */
  readonly attempt: number
  /** When the attempt began, by the server's machine. */
  readonly started: Date
}

/** Slots for one queue, or for several in strict order. */
export interface ServerPool {
  /** The queues, most urgent first. */
  readonly queues: ReadonlyArray<string>
  /** Most attempts that run at once. */
  readonly slots: number
}

/** A server that runs queues. */
export interface ServerInfo {
  /** Its id. */
  readonly id: string
  /** Name of its machine. */
  readonly host: string
  /** Its process. */
  readonly pid: number
  /** `bun`, `deno` or `node`, with the version. */
  readonly runtime: string
  /** When it started, by its machine. */
  readonly started: Date
  /** When it last said that it is there, by the clock of NATS; it says so every ten seconds. */
  readonly seen: Date
  /** What it serves. */
  readonly pools: ReadonlyArray<ServerPool>
  /** Names of the jobs that it can run. */
  readonly jobs: ReadonlyArray<string>
  /** What it runs, at most 1,000 jobs; absent when it did not answer within 250 ms. */
  readonly running?: ReadonlyArray<RunningJob> | undefined
  /** How many jobs it runs; absent like `running`. */
  readonly runningCount?: number | undefined
  /** Whether it takes jobs and can write what becomes of them; absent like `running`. */
  readonly ready?: boolean | undefined
  /** Codes of what isn't as it should be, as `Server.health` gives them; absent like `running`. */
  readonly reasons?: ReadonlyArray<string> | undefined
}

/** A running job with what leads to its message. */
export interface Located extends RunningJob, Subjects.Address {
  readonly sequence: number
  readonly server: string
}

/** What a server answered. */
export interface Description {
  readonly server: string
  readonly jobs: ReadonlyArray<Located>
  readonly total: number
  /** How many of a queue's lane. */
  readonly lanes: ReadonlyArray<{ readonly queue: string; readonly lane: number; count: number }>
  readonly ready: boolean | undefined
  readonly reasons: ReadonlyArray<string>
}

/** Longest wait for servers that are listed but don't answer. */
const withinMillis = 250

const isText = (value: unknown): value is string => typeof value === "string"
const isNumber = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value)
const listOf = <A>(value: unknown, read: (item: unknown) => A | undefined): ReadonlyArray<A> =>
  Array.isArray(value)
    ? value.flatMap((item): ReadonlyArray<A> => {
      const found = read(item)
      return found === undefined ? [] : [found]
    })
    : []
const textOf = (value: unknown): string | undefined => isText(value) ? value : undefined

const readJob = (server: string) => (value: unknown): Located | undefined => {
  if (!Array.isArray(value)) return undefined
  const [id, name, queue, attempt, started, partition, group, sequence] = value as Array<unknown>
  return isText(id) && isText(name) && isText(queue) && isText(group) && isNumber(attempt) &&
      isNumber(started) && isNumber(partition) && isNumber(sequence)
    ? { id, name, queue, attempt, started: new Date(started), partition, group, sequence, server }
    : undefined
}

const readLane = (value: unknown): Description["lanes"][number] | undefined => {
  if (!Array.isArray(value)) return undefined
  const [queue, lane, count] = value as Array<unknown>
  return isText(queue) && isNumber(lane) && isNumber(count) ? { queue, lane, count } : undefined
}

const readDescription = (value: unknown): Description | undefined => {
  if (!Array.isArray(value)) return undefined
  const [server, jobs, total, lanes, health] = value as Array<unknown>
  if (!isText(server) || !isNumber(total)) return undefined
  const [ready, reasons] = Array.isArray(health) ? health as Array<unknown> : []
  return {
    server,
    jobs: listOf(jobs, readJob(server)),
    total,
    lanes: listOf(lanes, readLane),
    ready: typeof ready === "boolean" ? ready : undefined,
    reasons: listOf(reasons, textOf),
  }
}

const readPool = (value: unknown): ServerPool | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  const { queues, slots } = value as Readonly<Record<string, unknown>>
  return isNumber(slots) ? { queues: listOf(queues, textOf), slots } : undefined
}

const readPresence = ({ data, time }: StoredMessage): ServerInfo | undefined => {
  try {
    const value = MessagePack.decode(data) as Readonly<Record<string, unknown>>
    const { host, id, jobs, pid, pools, runtime, started } = value
    return isText(id) && isText(host) && isNumber(pid) && isText(runtime) && isNumber(started)
      ? {
        id,
        host,
        pid,
        runtime,
        started: new Date(started),
        seen: new Date(time),
        pools: listOf(pools, readPool),
        jobs: listOf(jobs, textOf),
      }
      : undefined
  } catch {
    return undefined
  }
}

/** Presences that are read at once. */
const pageSize = 500

/** The servers that say they are there. */
export const present: (wire: Wire) => Effect.Effect<ReadonlyArray<ServerInfo>, NatsError> = Effect
  .fnUntraced(function* ({ reader, subjects }) {
    const servers = new Map<string, ServerInfo>()
    for (let sequence = 1;;) {
      const { messages, pending } = yield* reader.page(
        Subjects.stateStream(subjects.namespace),
        subjects.state("server", "*"),
        { sequence, count: pageSize, bytes: 4 * 1_024 * 1_024 },
      )
      for (const message of messages) {
        const server = readPresence(message)
        if (server !== undefined) servers.set(server.id, server)
      }
      const last = messages.at(-1)
      if (last === undefined || pending === 0) return [...servers.values()]
      sequence = last.sequence + 1
    }
  })

/** What each of so many servers runs, by its id; with at most `jobs` of its jobs. */
export const describe = (
  { nats, subjects }: Wire,
  expected: number,
  jobs: number = maxDescribed,
): Effect.Effect<ReadonlyMap<string, Description>> =>
  expected === 0 ? Effect.succeed(new Map()) : Effect.map(
    askAll(nats.connection, subjects.control("describe"), jobs, {
      expected,
      withinMillis,
      pick: readDescription,
    }),
    (answers) => new Map(answers.map((answer) => [answer.server, answer])),
  )

/** The servers, those longest there first, with what each runs. */
export const servers = (wire: Wire): Effect.Effect<ReadonlyArray<ServerInfo>, NatsError> =>
  Effect.flatMap(
    present(wire),
    (present) =>
      Effect.map(describe(wire, present.length), (answers) =>
        present
          .map((server): ServerInfo => {
            const answer = answers.get(server.id)
            return answer === undefined ? server : {
              ...server,
              running: answer.jobs.map((job): RunningJob => {
                const { attempt, id, name, queue, started } = job
                return { id, name, queue, attempt, started }
              }),
              runningCount: answer.total,
              ...(answer.ready === undefined
                ? {}
                : { ready: answer.ready, reasons: answer.reasons }),
            }
          })
          .sort((a, b) => a.started.getTime() - b.started.getTime() || (a.id < b.id ? -1 : 1))),
  )
