/**
 * Reads messages of a stream by subject: many at once through direct get, or one at the stream's
 * leader where the answer decides something (W4).
 *
 * A read that is lost with its connection fails as `Unavailable`; whoever can wait repeats it.
 */
import * as Effect from "effect/Effect"
import type { Msg, NatsConnection, Subscription } from "nats"
import * as Api from "./Api.ts"
import { Code, type NatsError, Rejected, Unavailable } from "./errors.ts"
import * as Inbox from "./Inbox.ts"
import * as Violations from "./Violations.ts"

/** A message as it lies in a stream. */
export interface StoredMessage {
  readonly subject: string
  readonly sequence: number
  /** When it was stored, by the server's clock; ms since 1970. */
  readonly time: number
  readonly data: Uint8Array
  /** The instant a delayed message fires at, as in its `Nats-Schedule` header. */
  readonly due?: number | undefined
}

const dueIn = (schedule: string | undefined): number | undefined => {
  const millis = schedule?.startsWith("@at ") ? Date.parse(schedule.slice(4)) : Number.NaN
  return Number.isNaN(millis) ? undefined : millis
}

/** What the server says to a multi-subject read when no subject matches. */
export const nothingThere = "No Results"

/** Most subjects that one multi-subject read may match; the server refuses more. */
export const maxMatches = 1_024

/** Part of a stream, in the order of its sequences. */
export interface Page {
  readonly messages: ReadonlyArray<StoredMessage>
  /** How many more there are under the filter; 0 says that these were the last. */
  readonly pending: number
}

interface Collector {
  readonly stream: string
  /** The request, as JSON. */
  readonly query: string
  /** Whether it asks for the newest message of each subject. */
  readonly newest: boolean
  readonly found: Array<StoredMessage>
  readonly done: (result: Page | NatsError) => void
}

const encoder = new TextEncoder()

const directGet = (stream: string): string => `$JS.API.DIRECT.GET.${stream}`

/** Reads by direct get on one connection, with one inbox for all answers. */
export class Reader {
  readonly #connection: NatsConnection
  readonly #inbox: string
  readonly #subscription: Subscription
  readonly #stopListening: () => void
  readonly #open = new Map<string, Collector>()
  #counter = 0

  constructor(connection: NatsConnection) {
    this.#connection = connection
    this.#inbox = `${Inbox.make(connection)}.`
    this.#subscription = connection.subscribe(`${this.#inbox}*`, {
      callback: (error, message) => {
        if (error === null) this.#answered(message)
      },
    })
    this.#stopListening = Violations.listen(connection, (violation) => this.#refused(violation))
  }

  /**
   * The newest message of every subject that matches one of the filters. Fails with `Unavailable`
   * when no complete answer comes within the time, `Rejected` when more than {@link maxMatches} match.
   */
  newest(
    stream: string,
    filters: ReadonlyArray<string>,
    timeoutMillis: number = Api.requestTimeoutMillis,
  ): Effect.Effect<ReadonlyArray<StoredMessage>, NatsError> {
    // Subjects hold nothing that JSON would escape, and there can be a thousand of them.
    const query = `{"multi_last":["${filters.join('","')}"]}`
    return Effect.map(this.#read(stream, query, timeoutMillis, true), ({ messages }) => messages)
  }

  /**
   * The messages that match a filter, from a sequence on and in their order, at most `limit` of
   * them. Fails with `Unavailable` when no complete answer comes in time.
   */
  range(
    stream: string,
    filter: string,
    from: number,
    limit: number,
  ): Effect.Effect<ReadonlyArray<StoredMessage>, NatsError> {
    const page = this.page(stream, filter, { sequence: from, count: limit })
    return Effect.map(page, ({ messages }) => messages)
  }

  /**
   * The messages under a filter from a sequence on, lowest first: at most `count`, and no more once
   * they take `bytes`, if given, with how many follow. Fails with `Unavailable` when no complete answer comes
   * in time.
   */
  page(
    stream: string,
    filter: string,
    from: { readonly sequence: number; readonly count: number; readonly bytes?: number },
  ): Effect.Effect<Page, NatsError> {
    const seq = Math.max(1, from.sequence)
    const query = { seq, next_by_subj: filter, batch: from.count, max_bytes: from.bytes }
    return this.#read(stream, JSON.stringify(query), Api.requestTimeoutMillis)
  }

  #read(
    stream: string,
    query: string,
    timeoutMillis: number,
    newest = false,
  ): Effect.Effect<Page, NatsError> {
    return Effect.callback<Page, NatsError>((resume) => {
      const token = (this.#counter++).toString(36)
      const finish = (result: Page | NatsError) => {
        clearTimeout(timer)
        this.#open.delete(token)
        resume("_tag" in result ? Effect.fail(result) : Effect.succeed(result))
      }
      const timer = setTimeout(
        () => finish(new Unavailable({ operation: `reading ${stream}` })),
        timeoutMillis,
      )
      const collector = { stream, query, newest, found: [], done: finish }
      this.#open.set(token, collector)
      this.#ask(token, collector)
      return Effect.sync(() => {
        clearTimeout(timer)
        this.#open.delete(token)
      })
    })
  }

  /**
   * To be called when the connection is back: the answers to what was under way are lost, so it is
   * asked once more.
   */
  reconnected(): void {
    for (const [token, collector] of [...this.#open]) {
      collector.found.length = 0
      this.#ask(token, collector)
    }
  }

  /** Ends the reader; reads under way end as `Unavailable`. */
  close(): void {
    this.#subscription.unsubscribe()
    this.#stopListening()
    for (const collector of [...this.#open.values()]) {
      collector.done(new Unavailable({ operation: "reading, the reader was closed" }))
    }
  }

  #ask(token: string, { done, query, stream }: Collector): void {
    try {
      this.#connection.publish(
        directGet(stream),
        encoder.encode(query),
        { reply: this.#inbox + token },
      )
    } catch (cause) {
      done(new Unavailable({ operation: `reading ${stream}`, cause }))
    }
  }

  /** Nothing answers a read that this user may not ask for. */
  #refused(violation: Violations.Violation): void {
    if (violation.operation !== "publish") return
    for (const { done, stream } of [...this.#open.values()]) {
      if (directGet(stream) !== violation.subject) continue
      done(Violations.refusal(`reading ${stream}`, violation))
    }
  }

  #answered(message: Msg): void {
    const collector = this.#open.get(message.subject.slice(this.#inbox.length))
    if (collector === undefined) return
    const headers = message.headers
    const subject = headers?.get("Nats-Subject") ?? ""
    if (headers !== undefined && subject !== "") {
      collector.found.push({
        subject,
        sequence: Number(headers.get("Nats-Sequence")),
        time: Date.parse(headers.get("Nats-Time-Stamp")),
        data: message.data,
        due: dueIn(headers.get("Nats-Schedule")),
      })
    } else if (headers?.code === 404 && collector.newest && headers.description !== nothingThere) {
      // A message that was deleted while its answer was made up ends the answer, whatever is to come.
      collector.found.length = 0
      this.#ask(message.subject.slice(this.#inbox.length), collector)
    } else if (headers?.code === 204 || headers?.code === 404) {
      // The same ends a page early.
      const cut = headers.code === 404 && collector.found.length > 0
      const pending = cut ? 1 : Number(headers.get("Nats-Num-Pending"))
      collector.done({ messages: collector.found, pending })
    } else {
      collector.done(
        headers === undefined || headers.code === 503
          ? new Unavailable({ operation: "reading, the stream has no leader" })
          : new Rejected({
            operation: "reading",
            code: 0,
            status: headers.code,
            description: headers.description,
          }),
      )
    }
  }
}

interface StoredReply {
  readonly message: {
    readonly subject: string
    readonly seq: number
    readonly time: string
    readonly data?: string
    readonly hdrs?: string
  }
}

const fromBase64 = (text: string): Uint8Array => {
  const binary = atob(text)
  const bytes = new Uint8Array(binary.length)
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i)
  return bytes
}

const readAtLeader = (
  connection: NatsConnection,
  stream: string,
  query: Readonly<Record<string, string | number>>,
): Effect.Effect<StoredMessage | undefined, NatsError> =>
  Api.call<StoredReply>(
    connection,
    `STREAM.MSG.GET.${stream}`,
    query,
    `reading a message of ${stream}`,
  ).pipe(
    Effect.map(({ message }): StoredMessage | undefined => ({
      subject: message.subject,
      sequence: message.seq,
      time: Date.parse(message.time),
      data: fromBase64(message.data ?? ""),
      due: dueIn(/^Nats-Schedule: (.*?)\r?$/m.exec(atob(message.hdrs ?? ""))?.[1]),
    })),
    Effect.catchTag("Rejected", (error) =>
      error.code === Code.noMessageFound ? Effect.succeed(undefined) : Effect.fail(error)),
  )

/** The newest message under a filter, read at the stream's leader; `undefined` for none. */
export const newestAtLeader = (
  connection: NatsConnection,
  stream: string,
  filter: string,
): Effect.Effect<StoredMessage | undefined, NatsError> =>
  readAtLeader(connection, stream, { last_by_subj: filter })

/** The message with a sequence, read at the stream's leader; `undefined` when it is gone. */
export const sequenceAtLeader = (
  connection: NatsConnection,
  stream: string,
  sequence: number,
): Effect.Effect<StoredMessage | undefined, NatsError> =>
  readAtLeader(connection, stream, { seq: sequence })

/**
 * The first message under a filter from a sequence or an instant (RFC 3339) on, read at the stream's
 * leader; `undefined` for none.
 */
export const nextAtLeader = (
  connection: NatsConnection,
  stream: string,
  filter: string,
  from: { readonly seq: number } | { readonly start_time: string },
): Effect.Effect<StoredMessage | undefined, NatsError> =>
  readAtLeader(connection, stream, { ...from, next_by_subj: filter })
