/**
 * Publishes to JetStream in a pipeline: one inbox for all answers, a window of messages whose answers
 * are outstanding, a callback per message and no promise. What doesn't fit in the window waits in
 * line; lines are as long as there are callers, who are expected to wait.
 *
 * A publish whose answer stays away, or that the server neither stored nor decided (W4), is repeated
 * until it is answered or the caller's patience ends. Every repetition is conditional, so it stores
 * nothing twice: an unconditional first publish of a new id is repeated expecting an empty subject.
 */
import { Acknowledged } from "./Acknowledged.ts"
import type { Msg, MsgHdrs, NatsConnection, Subscription } from "nats"
import { Code, repeatable } from "./errors.ts"
import * as Inbox from "./Inbox.ts"
import * as Violations from "./Violations.ts"

/** What became of a publish. */
export type Ack =
  /** Stored at this sequence. */
  | { readonly _tag: "Stored"; readonly sequence: number }
  /** The newest sequence under the condition's filter is another one; `repeated` when an earlier
   * try of the same publish may be the reason. */
  | { readonly _tag: "Conflict"; readonly repeated: boolean }
  /** The server refused it for good. */
  | { readonly _tag: "Refused"; readonly code: number; readonly description: string }
  /** No answer within the caller's patience: it may be stored, or not. */
  | { readonly _tag: "Unknown" }

/** One message to publish. */
export interface Publication {
  readonly subject: string
  readonly payload: Uint8Array
  /** Newest sequence that must exist under `filter`; `undefined` for no condition at first. */
  readonly expected: number | undefined
  /** Filter of the condition: everything of the job. */
  readonly filter: string
  /** Further header lines, each ending in CRLF. */
  readonly headers?: string | undefined
  /** How long to keep trying, in ms; default for ever. */
  readonly patience?: number | undefined
  /** Not repeated when its answer stays away; it is `Unknown` then. Default false. */
  readonly once?: boolean | undefined
}

interface Entry {
  readonly publication: Publication
  readonly callback: (ack: Ack) => void
  readonly size: number
  /** When the caller's patience ends. */
  readonly end: number
  sent: number
  tries: number
  token: number
}

/** Options of a publisher. */
export interface Options {
  /** Most messages with an outstanding answer. */
  readonly window?: number
  /** Most bytes in such messages. */
  readonly windowBytes?: number
  /** Milliseconds after which an answer counts as lost. */
  readonly answerWithin?: number
}

const encoder = new TextEncoder()
const version = "NATS/1.0\r\n"
const conditionHeader = "Nats-Expected-Last-Subject-Sequence"

/** Header bytes made by hand: the client asks an object of headers for nothing but these. */
class RawHeaders {
  readonly bytes: Uint8Array
  constructor(lines: string) {
    this.bytes = encoder.encode(`${version}${lines}\r\n`)
  }
  encode(): Uint8Array {
    return this.bytes
  }
}

/** Turns ready-made header lines, each ending in CRLF, into headers for the client. */
export const rawHeaders = (lines: string): MsgHdrs => new RawHeaders(lines) as unknown as MsgHdrs

/** The header lines of a condition on everything under a filter (W1), or on the own subject. */
export const conditionLines = (expected: number, filter?: string): string =>
  `${conditionHeader}: ${expected}\r\n` +
  (filter === undefined ? "" : `${conditionHeader}-Subject: ${filter}\r\n`)

/** A pipelined publisher on one connection. */
export class Publisher {
  readonly #connection: NatsConnection
  readonly #inbox: string
  readonly #subscription: Subscription
  readonly #stopListening: () => void
  /** What NATS has acknowledged. */
  readonly acknowledged: Acknowledged = new Acknowledged()
  /** Sent and not answered, by token, in the order of sending. */
  readonly #outstanding = new Map<number, Entry>()
  /** Answered without a decision, waiting to be sent again. */
  readonly #later = new Map<Entry, ReturnType<typeof setTimeout>>()
  #line: Array<Entry> = []
  #lineStart = 0
  readonly #window: number
  readonly #windowBytes: number
  readonly #answerWithin: number
  /** Messages in the window, and their bytes: outstanding, or to be sent again. */
  #admitted = 0
  #bytes = 0
  #counter = 0
  #timer: ReturnType<typeof setInterval> | undefined
  #closed = false

  constructor(connection: NatsConnection, options: Options = {}) {
    this.#connection = connection
    this.#window = options.window ?? 4_096
    this.#windowBytes = options.windowBytes ?? 16 * 1024 * 1024
    this.#answerWithin = options.answerWithin ?? 5_000
    this.#inbox = `${Inbox.make(connection)}.`
    this.#subscription = connection.subscribe(`${this.#inbox}*`, {
      callback: (error, message) => {
        if (error === null) this.#answered(message)
      },
    })
    this.#stopListening = Violations.listen(connection, (violation) => this.#refused(violation))
  }

  /** Messages that are not settled yet, the waiting ones included. */
  get pending(): number {
    return this.#admitted + this.#line.length - this.#lineStart
  }

  /** Publishes; `callback` is called exactly once, never before this call returns. */
  publish(publication: Publication, callback: (ack: Ack) => void): void {
    const now = performance.now()
    const entry: Entry = {
      publication,
      callback,
      size: publication.payload.length + publication.subject.length,
      end: now + (publication.patience ?? Number.POSITIVE_INFINITY),
      sent: 0,
      tries: 0,
      token: 0,
    }
    if (this.#closed) queueMicrotask(() => callback({ _tag: "Unknown" }))
    else if (this.#line.length === 0 && this.#hasRoom()) this.#admit(entry, now)
    else this.#line.push(entry)
  }

  /**
   * To be called when the connection is back: what was under way when it was lost has no answer any
   * more and is sent again at once.
   */
  reconnected(): void {
    for (const entry of [...this.#outstanding.values()]) this.#again(entry)
  }

  /** Ends the publisher; whatever isn't settled becomes `Unknown`. */
  close(): void {
    this.#closed = true
    this.#subscription.unsubscribe()
    this.#stopListening()
    clearInterval(this.#timer)
    for (const timer of this.#later.values()) clearTimeout(timer)
    const entries = [
      ...this.#outstanding.values(),
      ...this.#later.keys(),
      ...this.#line.slice(this.#lineStart),
    ]
    this.#outstanding.clear()
    this.#later.clear()
    this.#admitted = 0
    this.#line = []
    this.#lineStart = 0
    for (const entry of entries) entry.callback({ _tag: "Unknown" })
  }

  #hasRoom(): boolean {
    return this.#admitted < this.#window && this.#bytes < this.#windowBytes
  }

  #admit(entry: Entry, now: number): void {
    this.#admitted++
    this.#bytes += entry.size
    this.#timer ??= setInterval(() => this.#expire(), Math.min(1_000, this.#answerWithin))
    this.#send(entry, now)
  }

  #send(entry: Entry, now: number): void {
    const { expected, filter, headers, payload, subject } = entry.publication
    const condition = expected ?? (entry.tries === 0 ? undefined : 0)
    entry.tries++
    entry.sent = now
    entry.token = this.#counter++
    this.#outstanding.set(entry.token, entry)
    const reply = this.#inbox + entry.token
    try {
      if (condition === undefined && headers === undefined) {
        this.#connection.publish(subject, payload, { reply })
      } else {
        const lines = (condition === undefined ? "" : conditionLines(condition, filter)) +
          (headers ?? "")
        this.#connection.publish(subject, payload, { reply, headers: rawHeaders(lines) })
      }
    } catch (error) {
      // The client refuses before anything is sent: too large, or the connection is closed for good.
      queueMicrotask(() =>
        this.#settle(entry, {
          _tag: "Refused",
          code: 0,
          description: error instanceof Error ? error.message : String(error),
        })
      )
    }
  }

  #answered(message: Msg): void {
    const entry = this.#outstanding.get(Number(message.subject.slice(this.#inbox.length)))
    if (entry === undefined) return
    const sequence = sequenceIn(message.data)
    if (sequence !== 0) {
      this.acknowledged.note(entry.publication.subject, sequence)
      return this.#settle(entry, { _tag: "Stored", sequence })
    }
    const { code, description } = refusalIn(message.string())
    if (code === Code.wrongLastSequence) {
      this.#settle(entry, { _tag: "Conflict", repeated: entry.tries > 1 })
    } else if (code === 0 || repeatable.has(code)) {
      // No code: nobody answered for the stream (no responders), or it has no leader right now.
      this.#again(entry, Math.min(1_000, 10 * 2 ** Math.min(entry.tries, 7)))
    } else {
      this.#settle(entry, { _tag: "Refused", code, description })
    }
  }

  /** Nothing answers a message that this user may not publish; all of its subject fare the same. */
  #refused(violation: Violations.Violation): void {
    if (violation.operation !== "publish") return
    const description = Violations.describe(violation)
    for (const entry of [...this.#outstanding.values()]) {
      if (entry.publication.subject !== violation.subject) continue
      this.#settle(entry, { _tag: "Refused", code: Code.notPermitted, description })
    }
  }

  #settle(entry: Entry, ack: Ack): void {
    if (this.#outstanding.delete(entry.token)) this.#finish(entry, ack)
  }

  /** The one place where an admitted message leaves the window. */
  #finish(entry: Entry, ack: Ack): void {
    this.#admitted--
    this.#bytes -= entry.size
    if (this.#line.length > 0) this.#advance()
    if (this.#admitted === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    entry.callback(ack)
  }

  #advance(): void {
    const now = performance.now()
    while (this.#lineStart < this.#line.length && this.#hasRoom()) {
      this.#admit(this.#line[this.#lineStart++] as Entry, now)
    }
    if (this.#lineStart === this.#line.length) {
      this.#line = []
      this.#lineStart = 0
    } else if (this.#lineStart > 1_024) {
      this.#line.splice(0, this.#lineStart)
      this.#lineStart = 0
    }
  }

  /** Sends an outstanding message again, unless a callback before has closed the publisher. */
  #again(entry: Entry, delay = 0): void {
    if (!this.#outstanding.delete(entry.token)) return
    const now = performance.now()
    const unanswered = delay === 0
    if (now + delay > entry.end || (unanswered && entry.publication.once === true)) {
      return this.#finish(entry, { _tag: "Unknown" })
    }
    if (delay === 0) return this.#send(entry, now)
    const timer = setTimeout(() => {
      this.#later.delete(entry)
      this.#send(entry, performance.now())
    }, delay)
    this.#later.set(entry, timer)
  }

  /** Sends again what got no answer in time; ends what nobody wants to wait for any longer. */
  #expire(): void {
    const now = performance.now()
    const waiting = this.#line.slice(this.#lineStart)
    const impatient = waiting.filter((entry) => entry.end < now)
    if (impatient.length > 0) {
      this.#line = waiting.filter((entry) => entry.end >= now)
      this.#lineStart = 0
      for (const entry of impatient) entry.callback({ _tag: "Unknown" })
    }
    for (const entry of [...this.#outstanding.values()]) {
      if (entry.sent + this.#answerWithin <= now || entry.end < now) this.#again(entry)
    }
  }
}

const letter = (text: string): number => text.charCodeAt(0)
const [letterS, letterQ, quote, colon, zero, nine] = ["s", "q", '"', ":", "0", "9"].map(
  letter,
) as [number, number, number, number, number, number]

/**
 * Sequence in a publish answer, `{"stream":"…","seq":123…}`, read from its bytes without parsing it;
 * 0 for anything else, such as `{"error":…`.
 */
const sequenceIn = (data: Uint8Array): number => {
  if (data[2] !== letterS) return 0
  // The name of a stream holds no quotes, so `q":` after it can only end `"seq":`.
  let at = 10
  while (
    at < data.length &&
    !(data[at] === letterQ && data[at + 1] === quote && data[at + 2] === colon)
  ) at++
  let value = 0
  for (at += 3; at < data.length; at++) {
    const digit = data[at] as number
    if (digit < zero || digit > nine) break
    value = value * 10 + digit - zero
  }
  return value
}

const refusalIn = (text: string): { readonly code: number; readonly description: string } => {
  try {
    const { error } = JSON.parse(text) as {
      readonly error?: { readonly err_code?: number; readonly description?: string }
    }
    return { code: error?.err_code ?? 0, description: error?.description ?? text }
  } catch {
    return { code: 0, description: text }
  }
}
