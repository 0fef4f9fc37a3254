/**
 * The form of what is encrypted: a MessagePack extension in place of the value, so that it can be told
 * from any value that isn't, and be put into lists and records by those who have no key.
 *
 *     extension 80: [1, key id, nonce (12 bytes), ciphertext and tag, kind, job name, job id or nil]
 *
 * AES-GCM with 256 bits. The associated data is the UTF-8 text of the first and the last three parts,
 * with the key id second, joined by line feeds; of a nil id it has the empty text.
 */
import { ExtData } from "@msgpack/msgpack"
import * as MessagePack from "./MessagePack.ts"

const extension = 80
const version = 1

/** What was encrypted, of which job; the ciphertext is good for nothing else. */
export interface About {
  /** A job's payload or result, an element of a list that is a result, or why an attempt ended. */
  readonly kind: "payload" | "result" | "element" | "error"
  /** Name of the job definition. */
  readonly name: string
  /** The job, where it is known when this is encrypted. */
  readonly id?: string | undefined
}

/** Something encrypted. */
export interface Part extends About {
  readonly keyId: string
  readonly nonce: Uint8Array
  /** With the tag of 16 bytes at its end. */
  readonly ciphertext: Uint8Array
}

const text = new TextEncoder()

/** What the ciphertext is bound to. */
export const associated = ({ id = "", keyId, kind, name }: About & { keyId: string }): Uint8Array =>
  text.encode([version, keyId, kind, name, id].join("\n"))

/** The bytes in place of a value. */
export const pack = ({ ciphertext, id, keyId, kind, name, nonce }: Part): Uint8Array =>
  MessagePack.encode(
    new ExtData(
      extension,
      MessagePack.encode([version, keyId, nonce, ciphertext, kind, name, id ?? null]),
    ),
  )

const kinds: ReadonlySet<unknown> = new Set<About["kind"]>([
  "payload",
  "result",
  "element",
  "error",
])

const isText = (value: unknown): value is string => typeof value === "string"

/** The encrypted part that a decoded value is; `undefined` for any other value. */
export const partOf = (value: unknown): Part | undefined => {
  if (!(value instanceof ExtData) || value.type !== extension) return undefined
  let parts: unknown
  try {
    parts = MessagePack.decode(value.data as Uint8Array)
  } catch {
    return undefined
  }
  if (!Array.isArray(parts) || parts[0] !== version) return undefined
  const [, keyId, nonce, ciphertext, kind, name, id] = parts as Array<unknown>
  return isText(keyId) && nonce instanceof Uint8Array && nonce.length === 12 &&
      ciphertext instanceof Uint8Array && kinds.has(kind) && isText(name) &&
      (id === null || isText(id))
    ? { keyId, nonce, ciphertext, kind: kind as About["kind"], name, id: id ?? undefined }
    : undefined
}

/** The encrypted part that bytes are; `undefined`, at once, for any that begin otherwise. */
export const partIn = (bytes: Uint8Array): Part | undefined => {
  const head = bytes[0] as number
  if (head < 0xc7 || head > 0xc9) return undefined
  try {
    return partOf(MessagePack.decode(bytes))
  } catch {
    return undefined
  }
}

/** A value with every encrypted part in it, however deep, made something else. */
export const replaced = (value: unknown, by: (part: Part) => unknown): unknown => {
  const part = partOf(value)
  if (part !== undefined) return by(part)
  if (Array.isArray(value)) return value.map((item) => replaced(item, by))
  const isMap = typeof value === "object" && value !== null &&
    Object.getPrototypeOf(value) === Object.prototype
  return isMap
    ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaced(item, by)]))
    : value
}

/** All encrypted parts of bytes that may be a list or a record of them. */
export const partsIn = (bytes: Uint8Array): ReadonlyArray<Part> => {
  const parts: Array<Part> = []
  try {
    replaced(MessagePack.decode(bytes), (part) => void parts.push(part))
  } catch {
    return []
  }
  return parts
}
