/**
 * The job stream and its consumers exactly as the engine makes them, for loops that don't use the
 * engine; and the jobs that all contestants work on.
 */
import { encode } from "@msgpack/msgpack"
import type { NatsConnection } from "nats"
import { makeGenerator } from "../../src/core/JobId.ts"
import { consumerName, jobsStream } from "../../src/nats/Subjects.ts"
import { consumersOf, plan } from "../../src/nats/TopologyPlan.ts"

/** Queue of all benchmarks. */
export const queue = "default"

/** Lane of priority `normal`. */
export const lane = 3

/** A job's payload. */
export interface Payload {
  readonly to: string
  readonly template: string
  readonly text: string
}

/** The payload of every benchmark: 200 bytes as MessagePack. */
export const payload: Payload = {
  to: "somebody@example.com",
  template: "mail/welcome",
  text: "Hello! ".repeat(20).padEnd(146, "."),
}

/** Its bytes. */
export const payloadBytes: Uint8Array = encode(payload)

const nextId = makeGenerator()

/** An id as the engine makes them. */
export const makeId = (): string => nextId(0)

/** Calls the JetStream API. */
export const api = async <A>(
  connection: NatsConnection,
  verb: string,
  body?: unknown,
): Promise<A> => {
  const request = body === undefined ? undefined : JSON.stringify(body)
  const answer = await connection.request(`$JS.API.${verb}`, request, { timeout: 30_000 })
  const reply = answer.json<A & { readonly error?: { readonly description: string } }>()
  if (reply.error !== undefined) throw new Error(`${verb}: ${reply.error.description}`)
  return reply
}

/** Where the loops publish to and pull from. */
export interface JobStream {
  readonly name: string
  readonly consumer: string
  /** Subject of pull requests. */
  readonly next: string
  /** Subject of a ready job. */
  readonly ready: (id: string) => string
  /** Subject of its record. */
  readonly succeeded: (id: string) => string
  /** Filter of the condition that every transition of it carries. */
  readonly anything: (id: string) => string
}

/** The names in the job stream of a namespace. */
export const describeJobStream = (namespace: string): JobStream => {
  const name = jobsStream(namespace, 0)
  const consumer = consumerName(queue, lane)
  const prefix = `pf.${namespace}.0.`
  return {
    name,
    consumer,
    next: `$JS.API.CONSUMER.MSG.NEXT.${name}.${consumer}`,
    ready: (id) => `${prefix}ready.${queue}.${lane}._.${id}`,
    succeeded: (id) => `${prefix}succeeded.${queue}._._.${id}`,
    anything: (id) => `${prefix}*.*.*._.${id}`,
  }
}

/** Makes the job stream of a namespace, and the consumers of the queue. */
export const makeJobStream = async (
  connection: NatsConnection,
  namespace: string,
): Promise<JobStream> => {
  const stream = describeJobStream(namespace)
  const { name } = stream
  const resource = plan({ namespace }).streams.find((resource) => resource.name === name)
  await api(connection, `STREAM.CREATE.${name}`, resource?.config)
  for (const { config, name: consumer } of consumersOf({ namespace, partition: 0, queue })) {
    await api(connection, `CONSUMER.CREATE.${name}.${consumer}.${config.filter_subject}`, {
      stream_name: name,
      action: "create",
      config,
    })
  }
  return stream
}

/** Deletes every stream of a namespace. */
export const removeStreams = async (
  connection: NatsConnection,
  namespace: string,
): Promise<void> => {
  const { streams } = await api<{ readonly streams: ReadonlyArray<string> | null }>(
    connection,
    "STREAM.NAMES",
    { subject: `pf.${namespace}.>` },
  )
  for (const name of streams ?? []) await api(connection, `STREAM.DELETE.${name}`)
}

interface SubjectsPage {
  readonly total: number
  readonly state: { readonly subjects?: Readonly<Record<string, number>> }
}

/** Messages in the stream that are in a state; `*` for any. */
export const countMessages = async (
  connection: NatsConnection,
  namespace: string,
  state: string,
): Promise<number> => {
  let found = 0
  while (true) {
    const page = await api<SubjectsPage>(connection, `STREAM.INFO.${jobsStream(namespace, 0)}`, {
      subjects_filter: `pf.${namespace}.0.${state}.>`,
      offset: found,
    })
    const subjects = Object.keys(page.state.subjects ?? {}).length
    found += subjects
    if (subjects === 0 || found >= page.total) return found
  }
}

/** Resolves when no ready job is left in the stream: delivered, acknowledged and removed. */
export const untilDrained = async (
  connection: NatsConnection,
  namespace: string,
): Promise<void> => {
  const verb = `CONSUMER.INFO.${jobsStream(namespace, 0)}.${consumerName(queue, lane)}`
  while (true) {
    const info = await api<{ readonly num_pending: number; readonly num_ack_pending: number }>(
      connection,
      verb,
    )
    if (info.num_pending === 0 && info.num_ack_pending === 0) return
  }
}

/** Bytes of the body of the newest message in a state; `undefined` without one. */
export const newestSize = async (
  connection: NatsConnection,
  namespace: string,
  state: string,
): Promise<number | undefined> => {
  const query = { last_by_subj: `pf.${namespace}.0.${state}.>` }
  const request = api<{ readonly message: { readonly data: string } }>(
    connection,
    `STREAM.MSG.GET.${jobsStream(namespace, 0)}`,
    query,
  )
  return await request.then(({ message }) => atob(message.data).length, () => undefined)
}
