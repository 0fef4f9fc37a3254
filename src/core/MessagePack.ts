/**
 * The one place that knows the MessagePack library. Both directions are synchronous and pure; the
 * encoder's buffer is reused, so what {@link encodeShared} gives is valid until the next call.
 */
import { Decoder, Encoder } from "@msgpack/msgpack"

const largestKeptBuffer = 1024 * 1024
let encoder = new Encoder()
const decoder = new Decoder()

/** Encodes into a buffer that the next call overwrites. Throws on what MessagePack can't carry. */
export const encodeShared = (value: unknown): Uint8Array => {
  const bytes = encoder.encodeSharedRef(value)
  // One giant value must not pin its buffer for ever.
  if (bytes.buffer.byteLength > largestKeptBuffer) encoder = new Encoder()
  return bytes
}

/** Encodes into bytes of its own. Throws on what MessagePack can't carry. */
export const encode = (value: unknown): Uint8Array<ArrayBuffer> =>
  encodeShared(value).slice() as Uint8Array<ArrayBuffer>

/** Decodes one value. Throws on bytes that aren't exactly one. */
export const decode = (bytes: Uint8Array): unknown => decoder.decode(bytes)
