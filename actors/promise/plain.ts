/** The data that can be kept as it is, and a clear word about what can't. */
import type { Mismatch } from "../../src/core/Codec.ts"

const maxDepth = 100

class NotPlain {
  readonly mismatch: Mismatch
  constructor(path: string, reason: string) {
    this.mismatch = { path, reason }
  }
}

const advice: Readonly<Record<string, string>> = {
  bigint: "a bigint can't be kept; pass a text or a number",
  function: "a function can't be kept",
  symbol: "a symbol can't be kept",
  undefined: "undefined can't be kept here; use null",
}

const textOf = (text: string, path: string): string => {
  if (text.isWellFormed()) return text
  throw new NotPlain(path, "a text with half a surrogate pair can't be kept")
}

const objectOf = (value: object, path: string, depth: number): unknown => {
  if (depth > maxDepth) {
    throw new NotPlain(path, `it is nested more than ${maxDepth} deep, or in itself`)
  }
  if (Array.isArray(value)) {
    // Array.from shows holes as undefined.
    return Array.from(value, (item, index) => copy(item, `${path}[${index}]`, depth + 1))
  }
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw new NotPlain(path, "it is no valid date")
    return value
  }
  if (value instanceof Uint8Array) return value
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    const name = value.constructor?.name || "some class"
    throw new NotPlain(path, `a value of ${name} can't be kept; pass plain data`)
  }
  const plain: Record<string, unknown> = {}
  for (const [key, part] of Object.entries(value)) {
    const at = `${path}.${key}`
    if (key === "__proto__") throw new NotPlain(path, "__proto__ is no key")
    if (part !== undefined) plain[textOf(key, at)] = copy(part, at, depth + 1)
  }
  return plain
}

const copy = (value: unknown, path: string, depth: number): unknown => {
  if (value === null || typeof value === "boolean" || typeof value === "number") return value
  if (typeof value === "string") return textOf(value, path)
  if (typeof value === "object") return objectOf(value, path, depth)
  throw new NotPlain(path, advice[typeof value] ?? "it can't be kept")
}

/**
 * A copy of a value that MessagePack brings back equal: texts, numbers, booleans, null, dates, bytes,
 * arrays and plain objects of these, less the keys whose value is undefined. A mismatch for all else.
 */
export const plainOf = (value: unknown): { readonly plain: unknown } | Mismatch => {
  try {
    return { plain: copy(value, "", 0) }
  } catch (error) {
    if (error instanceof NotPlain) return error.mismatch
    return { path: "", reason: error instanceof Error ? error.message : String(error) }
  }
}
