/**
 * Pull requests and what they bring, raw. Two kinds: `now` takes what is there and ends; `wait` parks
 * on an empty consumer until something comes or it expires. Each kind has an inbox of its own, so
 * that the waiting ones can be called off together without losing what is already on its way.
 *
 * Delivered messages keep the subject they have in the stream; which pull brought one doesn't show,
 * so there is at most one pull per consumer and its tag finds it.
 */
import type { Msg, NatsConnection, Subscription } from "nats"
import * as Inbox from "./Inbox.ts"
import * as Violations from "./Violations.ts"

/** A message that a consumer has delivered to us: we hold its lease until it is acknowledged. */
export interface Delivered {
  readonly subject: string
  readonly data: Uint8Array
  /** Where acknowledgements go. */
  readonly reply: string
  /** Stream that it lies in. */
  readonly stream: string
  /** Consumer that delivered it. */
  readonly consumer: string
  /** Sequence in the stream. */
  readonly sequence: number
  /** How often it was delivered, this time included; forgotten when the server is killed. */
  readonly deliveries: number
  /** How many more wait in the consumer behind it. */
  readonly pending: number
}

/** How a pull ended without being filled. */
export type PullEnd =
  /** Nothing (more) there, or it expired. */
  | "empty"
  /** The consumer, or the stream's leader, is not there. */
  | "missing"
  /** Anything else that ends a pull; try again soon. */
  | "refused"

/** What a puller reports to. All are called synchronously. */
export interface PullerHandlers {
  readonly message: (delivered: Delivered) => void
  readonly end: (tag: number, pull: number, end: PullEnd, description: string) => void
  /** A sign of life from a waiting pull. */
  readonly beat: (tag: number, pull: number) => void
}

/** Nanoseconds that a waiting pull stays, and between its signs of life. */
const waitNanos = 60e9
const beatNanos = 15e9

/** A waiting pull that showed no sign of life for this many milliseconds is dead. */
export const silentAfterMillis = 40_000

const encoder = new TextEncoder()
const nothing = new Uint8Array(0)
const inProgress = encoder.encode("+WPI")

/** Reads an acknowledgement subject, of either form; `undefined` for anything else. */
export const parseReply = (
  reply: string,
): Pick<Delivered, "stream" | "consumer" | "deliveries" | "sequence" | "pending"> | undefined => {
  const tokens = reply.split(".")
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK") return undefined
  const at = tokens.length === 9 ? 4 : tokens.length >= 11 ? 6 : -1
  if (at < 0) return undefined
  return {
    stream: tokens[at - 2] as string,
    consumer: tokens[at - 1] as string,
    deliveries: Number(tokens[at]),
    sequence: Number(tokens[at + 1]),
    pending: Number(tokens[at + 4]),
  }
}

/** Issues pulls on one connection. */
export class Puller {
  readonly #connection: NatsConnection
  readonly #handlers: PullerHandlers
  #counter = 0
  /** The newest pull of each consumer, by the subject it was asked for on. */
  readonly #newest = new Map<string, { readonly tag: number; readonly number: number }>()
  #stopListening: (() => void) | undefined
  #now: { readonly inbox: string; readonly subscription: Subscription } | undefined
  #wait: { readonly inbox: string; readonly subscription: Subscription } | undefined

  constructor(connection: NatsConnection, handlers: PullerHandlers) {
    this.#connection = connection
    this.#handlers = handlers
  }

  /** Sends a pull and gives its number, which comes back with its end. */
  pull(stream: string, consumer: string, tag: number, batch: number, kind: "now" | "wait"): number {
    const number = ++this.#counter
    const channel = kind === "now"
      ? (this.#now ??= this.#subscribe())
      : (this.#wait ??= this.#subscribe())
    const request = kind === "now"
      ? `{"batch":${batch},"no_wait":true}`
      : `{"batch":${batch},"no_wait":true,"expires":${waitNanos},"idle_heartbeat":${beatNanos}}`
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`
    this.#newest.set(subject, { tag, number })
    this.#stopListening ??= Violations.listen(
      this.#connection,
      (violation) => this.#refused(violation),
    )
    this.#connection.publish(
      subject,
      encoder.encode(request),
      { reply: `${channel.inbox}.${tag}.${number}` },
    )
    return number
  }

  /** Calls the waiting pulls off. What is on its way still arrives before the promise resolves. */
  async stopWaiting(): Promise<void> {
    const wait = this.#wait
    this.#wait = undefined
    if (wait !== undefined && !wait.subscription.isClosed()) await wait.subscription.drain()
  }

  /** Calls all pulls off. What is on its way still arrives before the promise resolves. */
  async drain(): Promise<void> {
    const now = this.#now
    this.#now = undefined
    this.#stopListening?.()
    this.#stopListening = undefined
    this.#newest.clear()
    await Promise.all([
      this.stopWaiting(),
      now === undefined || now.subscription.isClosed() ? undefined : now.subscription.drain(),
    ])
  }

  /** Acknowledges: the message is done with and leaves the stream. Sent, not confirmed. */
  acknowledge(delivered: Delivered): void {
    this.#connection.publish(delivered.reply, nothing)
  }

  /** Renews the lease of a message. */
  renew(delivered: Delivered): void {
    this.#connection.publish(delivered.reply, inProgress)
  }

  /** Nothing answers a pull that this user may not ask for. */
  #refused(violation: Violations.Violation): void {
    const pull = this.#newest.get(violation.subject)
    if (pull === undefined || violation.operation !== "publish") return
    this.#handlers.end(pull.tag, pull.number, "refused", Violations.describe(violation))
  }

  #subscribe(): { readonly inbox: string; readonly subscription: Subscription } {
    const inbox = Inbox.make(this.#connection)
    const subscription = this.#connection.subscribe(`${inbox}.*.*`, {
      callback: (error, message) => {
        if (error === null) this.#receive(message, inbox.length + 1)
      },
    })
    return { inbox, subscription }
  }

  #receive(message: Msg, prefix: number): void {
    const reply = message.reply
    const parsed = reply === undefined ? undefined : parseReply(reply)
    if (reply !== undefined && parsed !== undefined) {
      const { consumer, deliveries, pending, sequence, stream } = parsed
      const { subject, data } = message
      return this.#handlers.message({
        subject,
        data,
        reply,
        stream,
        consumer,
        sequence,
        deliveries,
        pending,
      })
    }
    const [tag, number] = message.subject.slice(prefix).split(".").map(Number) as [number, number]
    const status = message.headers
    if (status === undefined) return
    if (status.code === 100) return this.#handlers.beat(tag, number)
    this.#handlers.end(tag, number, endOf(status.code, status.description), status.description)
  }
}

const endOf = (code: number, description: string): PullEnd =>
  code === 404 || code === 408
    ? "empty"
    : code === 503 || /consumer deleted/i.test(description)
    ? "missing"
    : "refused"
