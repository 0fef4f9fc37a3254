/**
 * Values to MessagePack bytes and back. Both directions are synchronous and pure; the
 * encoder's buffer is reused, so what {@link encodeShared} gives is valid until the next call.
 */
import { Encoder } from "@msgpack/msgpack"
import { MessagePackReader } from "./MessagePackReader.ts"

const largestKeptBuffer = 1024 * 1024
let encoder = new Encoder()

/** Encodes into a buffer that the next call overwrites. Throws on what MessagePack can't carry. */
export const encodeShared = (value: unknown): Uint8Array => {
  const bytes = encoder.encodeSharedRef(value)
  // One giant value must not pin its buffer for ever.
  if (bytes.buffer.byteLength > largestKeptBuffer) encoder = new Encoder()
  // What no reader takes must not be written: the decoder throws where it is the key of a map.
  if (mentionsProto(bytes)) decode(bytes)
  return bytes
}

const proto = Uint8Array.of(0xa9, ...new TextEncoder().encode("__proto__"))

const mentionsProto = (bytes: Uint8Array): boolean => {
  for (let at = bytes.indexOf(0xa9); at >= 0; at = bytes.indexOf(0xa9, at + 1)) {
    if (proto.every((byte, index) => bytes[at + index] === byte)) return true
  }
  return false
}

/** Encodes into bytes of its own. Throws on what MessagePack can't carry. */
export const encode = (value: unknown): Uint8Array<ArrayBuffer> =>
  encodeShared(value).slice() as Uint8Array<ArrayBuffer>

/**
 * Decodes one value. Throws on bytes that aren't exactly one, before it makes room for elements that
 * they announce and don't hold.
 */
export const decode = (bytes: Uint8Array): unknown => {
  const reader = new MessagePackReader(bytes)
  const value = reader.value()
  if (!reader.done) throw new RangeError("more bytes than one value has")
  return value
}

/** The same for bytes of anybody's: `undefined` where {@link decode} throws. */
export const decodeOrNothing = (bytes: Uint8Array): unknown => {
  try {
    return decode(bytes)
  } catch {
    return undefined
  }
}
