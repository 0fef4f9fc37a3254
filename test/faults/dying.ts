/**
 * A connection that dies in the midst of an operation: with its n-th write under way, everything that
 * comes after it stays unsent. For NATS, and so for everybody else, that is what a killed process is.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Msg, NatsConnection } from "nats"
import { Nats } from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import { fromWire, isFinal } from "../../src/core/JobState.ts"
import * as Subjects from "../../src/nats/Subjects.ts"

/** A process, as far as NATS can see it. */
export interface Dying {
  /** The connection that it uses. */
  readonly layer: Layer.Layer<Nats.Nats, Nats.ConnectError>
  /** What it has written so far, by names that people can read. */
  readonly writes: ReadonlyArray<string>
  /** Whether its last write has been sent. */
  readonly isDying: () => boolean
  /** Ends when it has died. */
  readonly died: Effect.Effect<void>
}

/** How it dies. */
export interface DyingOptions {
  /** Writes that it lives to send; default all that it wants to. */
  readonly writes?: number | undefined
  /** It dies with the first write whose name this accepts. */
  readonly after?: ((name: string) => boolean) | undefined
  /** Told of each write when it is sent. */
  readonly onWrite?: ((name: string) => void) | undefined
  /** Kills it, once its last write has left; default closes the connection. */
  readonly kill?: ((connection: NatsConnection) => unknown) | undefined
}

const bytesOf = (payload: unknown): Uint8Array =>
  typeof payload === "string"
    ? new TextEncoder().encode(payload)
    : payload instanceof Uint8Array
    ? payload
    : new Uint8Array(0)

/** What a message of a job says, in the words of the table of crash points. */
const nameOf = (subjects: Subjects.Subjects, subject: string, payload: Uint8Array): string => {
  const prefix = `pf.${subjects.namespace}.`
  const [, kind] = subject.slice(prefix.length).split(".")
  if (kind === "link" || kind === "claim") return kind
  const job = subjects.parse(subject)
  const envelope = job && Envelope.decode(payload)
  if (job === undefined || envelope === undefined || !Envelope.isEnvelope(envelope)) return subject
  const { name, progress: { batch, entry, waits } } = envelope
  const state = fromWire(job.state)
  if (entry !== undefined) return `entry ${state === "enqueued" ? "due" : "waits"}`
  const who = batch === undefined ? name : job.group === Subjects.noGroup ? "batch" : "nested batch"
  if (isFinal(state)) return `${who} ${state}`
  if (batch !== undefined) {
    return `${who} ${batch.phase}${batch.phase === "open" && batch.heldUntil > 0 ? ", held" : ""}`
  }
  return `${who} ${state}${waits?.staged === true ? ", staged" : ""}`
}

/** Makes a process that dies. */
export const dying = (
  nats: Layer.Layer<Nats.Nats, Nats.ConnectError>,
  options: DyingOptions = {},
): Dying => {
  const { after, kill = (connection) => connection.close(), onWrite = () => {} } = options
  const last = options.writes ?? Infinity
  const writes: Array<string> = []
  let dead = false
  let tell = (): void => {}
  const death = new Promise<void>((done) => tell = done)

  const wrap = (target: NatsConnection, namespace: string): NatsConnection => {
    const subjects = Subjects.make(namespace)
    const stored = `pf.${namespace}.`
    const stream = `PF_${namespace}_JOBS_`
    const die = () => {
      dead = true
      void target.flush().then(() => kill(target)).catch(() => {}).then(tell)
    }
    /** Whether a write may leave. */
    const mayLeave = (): boolean => {
      if (dead) return false
      if (writes.length < last) return true
      die()
      return false
    }
    const left = (name: string) => {
      writes.push(name)
      onWrite(name)
      if (writes.length === last || after?.(name) === true) die()
    }
    const isJobs = (subject: string): boolean =>
      subject.startsWith(stored) && /^\d/.test(subject.slice(stored.length))
    const nameOfPublish = (subject: string, payload: unknown, options: unknown) => {
      if (isJobs(subject)) {
        const name = nameOf(subjects, subject, bytesOf(payload))
        const lines = new TextDecoder().decode(
          (options as { headers?: { encode(): Uint8Array } } | undefined)?.headers?.encode(),
        )
        const isPart = lines.includes("Nats-Batch-Id") && !lines.includes("Nats-Batch-Commit")
        return isPart ? `first part of a write of two: ${name}` : name
      }
      const isAck = subject.startsWith("$JS.ACK.") && bytesOf(payload).length === 0
      return isAck && subject.includes(stream) ? "acknowledgement" : undefined
    }
    const publish: NatsConnection["publish"] = (subject, payload, options) => {
      if (dead) return
      const name = nameOfPublish(subject, payload, options)
      if (name === undefined) return target.publish(subject, payload, options)
      if (!mayLeave()) return
      target.publish(subject, payload, options)
      left(name)
    }
    const deleted = async (subject: string, payload: unknown): Promise<string> => {
      const { seq } = JSON.parse(new TextDecoder().decode(bytesOf(payload))) as { seq: number }
      const ask = subject.replace("MSG.DELETE", "MSG.GET")
      const { message } = (await target.request(ask, JSON.stringify({ seq }))).json<{
        message?: { subject: string; data?: string }
      }>()
      if (message === undefined) return "delete what is gone"
      const data = Uint8Array.from(atob(message.data ?? ""), (c) => c.charCodeAt(0))
      return `delete ${nameOf(subjects, message.subject, data)}`
    }
    const request = async (
      subject: string,
      payload?: Parameters<NatsConnection["request"]>[1],
      options?: Parameters<NatsConnection["request"]>[2],
    ): Promise<Msg> => {
      if (dead) throw new Error("killed")
      const isDelete = subject.startsWith(`$JS.API.STREAM.MSG.DELETE.${stream}`)
      const isPurge = subject.startsWith(`$JS.API.STREAM.PURGE.${stream}`)
      const name = isDelete
        ? await deleted(subject, payload)
        : isPurge
        ? "purge"
        : nameOfPublish(subject, payload, options)
      if (name === undefined) return target.request(subject, payload, options)
      if (!mayLeave()) throw new Error("killed")
      const answer = target.request(subject, payload, options)
      left(name)
      return answer
    }
    return new Proxy(target, {
      get: (_, key) => {
        if (key === "publish") return publish
        if (key === "request") return request
        const value: unknown = Reflect.get(target, key, target)
        return typeof value === "function" ? value.bind(target) : value
      },
    })
  }

  return {
    writes,
    isDying: () => dead,
    died: Effect.promise(() => death),
    layer: Layer.effect(
      Nats.Nats,
      Effect.map(Nats.Nats, (one): Nats.Nats => ({
        ...one,
        connection: wrap(one.connection, one.namespace),
      })),
    ).pipe(Layer.provide(nats)),
  }
}
