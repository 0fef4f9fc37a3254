/**
 * Commands: jobs of the engine itself. What takes several writes is stored as one of them first, so
 * that a server goes on where its author died (W16). They wait in the engine's own queue, which every
 * server works on.
 */
import * as Schema from "effect/Schema"
import * as Envelope from "../core/Envelope.ts"
import * as JobId from "../core/JobId.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Retry from "../core/Retry.ts"
import type { Address } from "../nats/Subjects.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Definition from "./Definition.ts"

/** Lane of commands in the engine's queue. */
export const lane = 3

/** Again and again, for half an hour at least: what fails is the way to NATS. */
const patient = Retry.exponential({ attempts: 100, base: "1 second", factor: 2, max: "1 minute" })

/** A command that a server can run. */
export const define = (
  name: `_${string}`,
  schemas: Partial<Parameters<typeof Definition.define>[1]>,
): Definition.Definition =>
  Definition.define(name, {
    payload: Schema.Unknown,
    success: Schema.Unknown,
    error: Schema.Unknown,
    ...schemas,
  }, { engine: true, queue: Subjects.engineQueue, retry: patient, retention: { age: "1 hour" } })

/** Finishes what the end of a job began. */
export const finishName = "_finish"

/** Lets jobs wait again for a parent that was requeued. */
export const reviveName = "_revive"

/** Makes one job of each element of the list that the job before it has given. */
export const fanName = "_fan"

const nextId = JobId.makeGenerator()

/**
 * A command as the message to store, in a partition of its choice. One whose result somebody waits for
 * names the retention class of its record.
 */
export const message = (
  wire: Wire,
  partition: number,
  name: `_${string}`,
  payload: unknown,
  retention?: string,
): { readonly id: string; readonly subject: string; readonly payload: Uint8Array } => {
  const id = nextId(partition)
  const address = { partition, group: Subjects.noGroup, id }
  const template = Envelope.template(name, Subjects.engineQueue, lane, { retention })
  return {
    id,
    subject: wire.subjects.live("ready", Subjects.engineQueue, lane, address),
    payload: Envelope.fresh(template, wire.clock.now(), MessagePack.encode(payload)),
  }
}

/** The address in a command's payload. */
export const addressIn: (payload: unknown) => Address | undefined = Subjects.addressIn
