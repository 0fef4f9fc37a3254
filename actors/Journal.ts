/**
 * What a handler writes while it runs: its log lines, where its definition keeps them, and how far it
 * is. Nothing here waits, fails or grows: a journal is opened by the first thing that is written,
 * keeps a bounded number of lines, and lets go of what NATS doesn't take in time.
 */
import type * as LogLevel from "effect/LogLevel"
import * as Form from "../src/core/Journal.ts"
import type { Publisher } from "../src/nats/Publisher.ts"
import type { Wire } from "../src/nats/Wire.ts"

/** Lines of one attempt whose answers are outstanding; more of them wait for these. */
const maxUnanswered = 100

/** Least time between two progresses of an attempt, in ms. */
const progressEveryMillis = 250

/** How long a line, or the last progress, is offered to a NATS that doesn't answer, in ms. */
const patienceMillis = 10_000

const rollup = "Nats-Rollup: sub\r\n"

/** What one attempt writes. */
export class Journal {
  readonly #publisher: Publisher
  readonly #attempt: number
  readonly #lineLimit: number
  readonly #lineSubject: string
  readonly #progressSubject: string
  /** Nothing is ever stored here, so that a repetition on the condition of nothing always passes. */
  readonly #nowhere: string
  #lines = 0
  #dropped = 0
  #unanswered = 0
  #waiting: Array<Uint8Array> = []
  #ended = false
  /** What is to be sent, and what was sent last. */
  #progress: Form.Progress | undefined
  #newest: Form.Progress | undefined
  #progressOut = false
  #progressSent = Number.NEGATIVE_INFINITY
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    { publisher, subjects }: Wire,
    { attempt, id }: { readonly id: string; readonly attempt: number },
    lineLimit: number,
  ) {
    this.#publisher = publisher
    this.#attempt = attempt
    this.#lineLimit = lineLimit
    this.#lineSubject = subjects.log(id)
    this.#progressSubject = subjects.log(id, "progress")
    this.#nowhere = subjects.log(id, "_")
  }

  /** Keeps a line, unless there were enough; `text` is only asked when it is kept. */
  line(
    date: Date,
    level: LogLevel.Severity,
    text: () => string,
    annotations: Readonly<Record<string, unknown>>,
  ): void {
    if (this.#ended) return
    if (this.#lines >= this.#lineLimit) {
      this.#dropped++
      return
    }
    this.#lines++
    const bytes = this.#encode(date.getTime(), level, text(), annotations)
    if (this.#unanswered < maxUnanswered) this.#send(bytes)
    else this.#waiting.push(bytes)
  }

  /** Keeps how far the attempt is: at once, or with what comes within a quarter of a second. */
  report(input: Form.ProgressInput): void {
    if (this.#ended) return
    this.#progress = Form.progressOf(input, Date.now(), this.#attempt)
    this.#scheduleProgress()
  }

  /** The attempt has ended: sends what waits, so that it is on its way before the outcome. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    for (const bytes of this.#waiting.splice(0)) this.#send(bytes)
    if (this.#dropped > 0) {
      const lines = this.#dropped === 1 ? "line" : "lines"
      this.#send(this.#encode(Date.now(), "Warn", `… ${this.#dropped} ${lines} dropped`, {}))
    }
    clearTimeout(this.#timer)
    if (this.#progress !== undefined) this.#sendProgress(this.#progress, patienceMillis)
  }

  #encode(
    time: number,
    level: LogLevel.Severity,
    text: string,
    annotations: Readonly<Record<string, unknown>>,
  ): Uint8Array {
    return Form.encodeLine({ time, level, text, attempt: this.#attempt, annotations })
  }

  #send(payload: Uint8Array): void {
    this.#unanswered++
    this.#publisher.publish(
      {
        subject: this.#lineSubject,
        payload,
        expected: undefined,
        filter: this.#nowhere,
        patience: patienceMillis,
      },
      ({ _tag }) => {
        this.#unanswered--
        if (_tag !== "Stored") this.#dropped++
        const next = this.#waiting.shift()
        if (next !== undefined) this.#send(next)
      },
    )
  }

  #scheduleProgress(): void {
    if (this.#timer !== undefined || this.#progressOut) return
    const wait = this.#progressSent + progressEveryMillis - performance.now()
    const send = () => {
      this.#timer = undefined
      if (this.#progress !== undefined) this.#sendProgress(this.#progress, 0)
    }
    if (wait <= 0) send()
    else this.#timer = setTimeout(send, wait)
  }

  /** One at a time, so that a newer one can't be overtaken and none pile up while NATS is away. */
  #sendProgress(progress: Form.Progress, patience: number): void {
    this.#progress = undefined
    this.#newest = progress
    this.#progressOut = true
    this.#progressSent = performance.now()
    this.#publisher.publish(
      {
        subject: this.#progressSubject,
        payload: Form.encodeProgress(progress),
        expected: undefined,
        filter: this.#nowhere,
        headers: rollup,
        patience,
      },
      ({ _tag }) => {
        this.#progressOut = false
        // Lost with its connection; the end of the attempt, or a newer one, may have come since.
        const lost = _tag === "Unknown" && patience === 0 && this.#newest === progress
        if (lost) this.#progress ??= progress
        if (this.#progress === undefined) return
        if (this.#ended) this.#sendProgress(this.#progress, patienceMillis)
        else this.#scheduleProgress()
      },
    )
  }
}
