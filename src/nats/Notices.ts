/**
 * The messages on core NATS by which a client hears that a job it waits for has ended. Each is a
 * hint, delivered at most once: the record in the stream is what counts.
 *
 *     pf.<ns>.ctl.interest         [client, [id…]]   a client to all servers: I wait for these
 *     pf.<ns>.ctl.ended.<client>   [id…]             a server to that client: these have ended
 *     pf.<ns>.ctl.ended            [id…]             who ended jobs itself, to all clients that wait
 */
import { nuid } from "nats"
import type { JobId } from "../core/JobId.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { listen } from "./Control.ts"
import type { Wire } from "./Wire.ts"

/** What the notices need of a namespace. */
export type Place = Pick<Wire, "nats" | "subjects">

/** How long servers remember an interest, in milliseconds. */
export const interestMillis = 15_000

/** Most ids in one message. */
const mostIds = 500

/** A name for a client that notices can be sent to. */
export const newClient = (): string => nuid.next()

/** A server publishes under whatever name it is told, so it may be nothing but one token. */
const legalClient = /^[A-Za-z0-9]{1,64}$/

/** Longer than any id: what isn't one is not kept. */
const longestId = 128

const isIds = (value: unknown): value is ReadonlyArray<JobId> =>
  Array.isArray(value) && value.every((id) => typeof id === "string" && id.length <= longestId)

const send = (
  { nats }: Place,
  subject: string,
  ids: ReadonlyArray<JobId>,
  contentOf: (some: ReadonlyArray<JobId>) => unknown,
): void => {
  for (let at = 0; at < ids.length; at += mostIds) {
    try {
      nats.connection.publish(subject, MessagePack.encode(contentOf(ids.slice(at, at + mostIds))))
    } catch {
      // The connection is closing: whoever waits for this hint reads the record instead.
      return
    }
  }
}

/** Asks all servers to tell a client when these jobs end; they forget it after {@link interestMillis}. */
export const announceInterest = (
  place: Place,
  client: string,
  ids: ReadonlyArray<JobId>,
): void => send(place, place.subjects.control("interest"), ids, (some) => [client, some])

/** Takes what clients wait for, until it is told to stop. */
export const onInterest = (
  place: Place,
  take: (client: string, ids: ReadonlyArray<JobId>) => void,
): () => void => {
  return listen(place.nats.connection, place.subjects.control("interest"), (content) => {
    const [client, ids] = Array.isArray(content) ? content as Array<unknown> : []
    if (typeof client === "string" && legalClient.test(client) && isIds(ids)) take(client, ids)
  })
}

/** Tells one client that jobs have ended. */
export const notify = (place: Place, client: string, ids: ReadonlyArray<JobId>): void =>
  send(place, place.subjects.control("ended", client), ids, (some) => some)

/**
 * Tells every client that waits for something that these jobs have ended: for whoever writes final
 * records without being a server. To be called when the records are stored.
 */
export const announceEnded = (place: Place, ids: ReadonlyArray<JobId>): void =>
  send(place, place.subjects.control("ended"), ids, (some) => some)

/** Takes the notices for a client and those for all, until it is told to stop. */
export const onEnded = (
  place: Place,
  client: string,
  take: (ids: ReadonlyArray<JobId>) => void,
): () => void => {
  const { control } = place.subjects
  const stops = [control("ended"), control("ended", client)].map((subject) =>
    listen(place.nats.connection, subject, (content) => {
      if (isIds(content)) take(content)
    })
  )
  return () => {
    for (const stop of stops) stop()
  }
}
