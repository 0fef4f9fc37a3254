/**
 * What a server process writes down outside of NATS: one line in a file for every run of a handler,
 * when it begins and when it ends, and for every transition that JetStream has confirmed. Each line is
 * in the kernel's hands at once, so a SIGKILL takes none of them away.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs"

/** One line. Times are milliseconds since 1970. */
export type Entry =
  /** The server takes jobs. */
  | { readonly type: "ready"; readonly at: number; readonly server: string }
  /** A handler begins; `started` is when the engine says the attempt did. */
  | {
    readonly type: "began"
    readonly at: number
    readonly job: string
    readonly server: string
    readonly attempt: number
    readonly delivery: number
    readonly started: number
  }
  /** It ends; what it made is not stored yet. */
  | { readonly type: "ended"; readonly at: number; readonly job: string; readonly how: string }
  /** The job's next state is on JetStream. */
  | { readonly type: "moved"; readonly at: number; readonly job: string; readonly to: string }

interface Running {
  readonly id: string
  readonly server: string
  readonly attempt: number
  readonly delivery: number
  readonly started: Date
}

/** The writing end. */
export class Ledger {
  readonly #file: number

  constructor(path: string) {
    this.#file = openSync(path, "a", 0o600)
  }

  #write(entry: Entry): void {
    writeSync(this.#file, `${JSON.stringify(entry)}\n`)
  }

  ready(server: string): void {
    this.#write({ type: "ready", at: Date.now(), server })
  }

  began({ attempt, delivery, id, server, started }: Running): void {
    this.#write({
      type: "began",
      at: Date.now(),
      job: id,
      server,
      attempt,
      delivery,
      started: started.getTime(),
    })
  }

  ended({ id }: Running, how: string): void {
    this.#write({ type: "ended", at: Date.now(), job: id, how })
  }

  moved(job: string, to: string): void {
    this.#write({ type: "moved", at: Date.now(), job, to })
  }
}

/** The reading end: gives what was written since it was asked last. */
export class LedgerReader {
  readonly #file: number
  readonly #buffer = new Uint8Array(256 * 1024)
  readonly #decoder = new TextDecoder()
  #position = 0
  #rest = ""

  constructor(path: string) {
    this.#file = openSync(path, "a+", 0o600)
  }

  read(): ReadonlyArray<Entry> {
    const lines: Array<string> = []
    while (true) {
      const length = readSync(this.#file, this.#buffer, 0, this.#buffer.length, this.#position)
      if (length === 0) break
      this.#position += length
      const parts = (this.#rest +
        this.#decoder.decode(this.#buffer.subarray(0, length), { stream: true })).split("\n")
      this.#rest = parts.pop() ?? ""
      lines.push(...parts)
    }
    return lines.map((line) => JSON.parse(line) as Entry)
  }

  close(): void {
    closeSync(this.#file)
  }
}
