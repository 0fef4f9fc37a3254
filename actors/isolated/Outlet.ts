/**
 * What a handler says while it runs, on its way to the server, however much it is: the newest of
 * progress a few times a second, and lines at a bounded rate. It rests on the clock and not on answers,
 * since a handler that doesn't let go of the processor hears none.
 */
import type { ProgressInput } from "../../src/core/Journal.ts"
import type { Port } from "./Port.ts"
import type { Line } from "./Protocol.ts"

/** Least time between two progresses, in ms. */
const progressEveryMillis = 100

/** Lines at once, and lines a second. */
const maxLines = 1_000

/** Longest text of a line, name and value of an annotation, in characters; and most annotations. */
const maxText = 16_000
const maxAnnotation = 1_000
const maxAnnotations = 64

const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`

const shorten = ({ annotations, level, text }: Line): Line => ({
  level,
  text: cut(text, maxText),
  annotations: Object.fromEntries(
    Object.entries(annotations).slice(0, maxAnnotations).map(([name, value]) => [
      cut(name, maxAnnotation),
      cut(value, maxAnnotation),
    ]),
  ),
})

/** What one run says. */
export class Outlet {
  readonly #port: Port
  readonly #run: number
  #ended = false
  #progress: ProgressInput | undefined
  #progressSent = Number.NEGATIVE_INFINITY
  #timer: ReturnType<typeof setTimeout> | undefined
  #room = maxLines
  #roomAt = performance.now()
  #muted = false
  #dropped = 0

  constructor(port: Port, run: number) {
    this.#port = port
    this.#run = run
  }

  progress(value: ProgressInput): void {
    if (this.#ended) return
    this.#progress = value
    const wait = this.#progressSent + progressEveryMillis - performance.now()
    if (wait <= 0) this.#sendProgress()
    else this.#timer ??= setTimeout(() => this.#sendProgress(), wait)
  }

  line(line: Line): void {
    if (this.#ended) return
    const now = performance.now()
    this.#room = Math.min(maxLines, this.#room + (now - this.#roomAt) * maxLines / 1_000)
    this.#roomAt = now
    // Once it was too much there is room for many before it goes on, and one word about what is gone.
    if (this.#room < (this.#muted ? maxLines / 2 : 1)) {
      this.#muted = true
      this.#dropped++
      return
    }
    this.#muted = false
    this.#room--
    this.#confess()
    this.#sendLine(shorten(line))
  }

  /** Sends what is left; what comes later is ignored. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#confess()
    this.#sendProgress()
  }

  #confess(): void {
    if (this.#dropped === 0) return
    const text = `… ${this.#dropped} ${this.#dropped === 1 ? "line" : "lines"} dropped`
    this.#dropped = 0
    this.#sendLine({ level: "Warn", text, annotations: {} })
  }

  #sendLine(line: Line): void {
    this.#port.send({ _tag: "Line", run: this.#run, line })
  }

  #sendProgress(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const value = this.#progress
    if (value === undefined) return
    this.#progress = undefined
    this.#progressSent = performance.now()
    this.#port.send({ _tag: "Progress", run: this.#run, value: plain(value) })
  }
}

/** What cloning takes, of whatever was said. */
const plain = (value: ProgressInput): ProgressInput => {
  if (typeof value !== "object" || value === null) return Number(value)
  const { done, fraction, note, total } = value as {
    readonly [field in "done" | "fraction" | "note" | "total"]?: unknown
  }
  const number = (part: unknown) => typeof part === "number" ? part : undefined
  const parts = {
    done: number(done),
    fraction: number(fraction),
    total: number(total),
    note: typeof note === "string" ? cut(note, maxAnnotation) : undefined,
  }
  return parts as ProgressInput
}
