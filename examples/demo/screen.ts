/** The terminal: lines that stay, and below them one that is rewritten while things go on. */
import process from "node:process"

type Paint = (text: string) => string

/** How often the line is written where it can't be rewritten. */
const quietMillis = 2_000

/** What the demonstration writes to. */
export class Screen {
  readonly bold: Paint
  readonly dim: Paint
  readonly green: Paint
  readonly red: Paint
  readonly #rewrites: boolean
  #shown = ""
  #last = 0

  constructor() {
    const { isTTY = false } = process.stdout
    const { NO_COLOR, TERM } = process.env
    const isColoured = isTTY && !NO_COLOR && TERM !== "dumb"
    const paint = (on: number, off: number): Paint =>
      isColoured ? (text) => `\x1b[${on}m${text}\x1b[${off}m` : (text) => text
    this.bold = paint(1, 22)
    this.dim = paint(2, 22)
    this.green = paint(32, 39)
    this.red = paint(31, 39)
    this.#rewrites = isTTY && TERM !== "dumb"
  }

  /** A line that stays. */
  line(text = ""): void {
    this.#wipe()
    process.stdout.write(`${text}\n`)
  }

  /** The line that is rewritten; a line now and then where that isn't possible. */
  progress(text: string): void {
    if (!this.#rewrites) {
      if (text === this.#shown || performance.now() - this.#last < quietMillis) return
      this.#last = performance.now()
      this.#shown = text
      process.stdout.write(`${text}\n`)
      return
    }
    const fitting = text.slice(0, Math.max(0, (process.stdout.columns ?? 80) - 1))
    if (fitting === this.#shown) return
    this.#shown = fitting
    process.stdout.write(`\r\x1b[2K${fitting}`)
  }

  /** Takes the rewritten line away. */
  #wipe(): void {
    if (this.#rewrites && this.#shown !== "") process.stdout.write("\r\x1b[2K")
    this.#shown = ""
  }
}

/** `1,234` */
export const count = (value: number): string => value.toLocaleString("en-US")

/** `1 job`, `2 jobs` */
export const many = (value: number, one: string): string =>
  `${count(value)} ${one}${value === 1 ? "" : "s"}`

/** `3.4 MB` */
export const size = (bytes: number): string => {
  const units = ["bytes", "kB", "MB", "GB", "TB"]
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** `4.2 s` */
export const seconds = (millis: number): string => `${(millis / 1_000).toFixed(1)} s`
