/**
 * Sets the clock of this process wrong, before anything else reads it: by CLOCK_OFFSET milliseconds,
 * and after five seconds by as much to the other side.
 */
import process from "node:process"

/** The machine's own clock, in ms since 1970. */
export const trueNow: () => number = Date.now.bind(Date)

const offset = Number(process.env["CLOCK_OFFSET"] ?? 0)

if (offset !== 0) {
  const TrueDate = Date
  const turn = trueNow() + 5_000
  const now = () => trueNow() + (trueNow() < turn ? offset : -offset)
  globalThis.Date = new Proxy(TrueDate, {
    construct: (target, args, self) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, self),
    get: (target, key, self) => key === "now" ? now : Reflect.get(target, key, self),
  })
}
