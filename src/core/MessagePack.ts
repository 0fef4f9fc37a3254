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
  // What no reader takes must not be written: the decoder throws where it is the key of a map.
  if (mentionsProto(bytes)) decoder.decode(bytes)
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
  if (announced(bytes) > bytes.length) {
    throw new RangeError("more elements announced than there are")
  }
  // Parts that are bytes are views of the same class, and a Buffer behaves differently.
  const plain = bytes.constructor === Uint8Array
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  return decoder.decode(plain)
}

/**
 * Elements that all arrays and maps in the bytes announce. Each takes a byte at least, but the library
 * makes room for an array as soon as it reads its length: five bytes could cost gigabytes.
 */
const announced = (bytes: Uint8Array): number => {
  const end = bytes.length
  let elements = 0
  let at = 0
  const uint = (from: number, width: number): number => {
    let value = 0
    for (let i = 0; i < width; i++) value = value * 0x100 + (bytes[from + i] ?? 0)
    return value
  }
  while (at < end) {
    const head = bytes[at++] as number
    if (head < 0x80 || head >= 0xe0) continue
    if (head < 0x90) elements += 2 * (head - 0x80)
    else if (head < 0xa0) elements += head - 0x90
    else if (head < 0xc0) at += head - 0xa0
    else {
      const width = widths[head - 0xc0] as number
      const kind = kinds[head - 0xc0] as number
      const length = kind === constant ? 0 : uint(at, width)
      at += width
      if (kind === array) elements += length
      else if (kind === map) elements += 2 * length
      else if (kind === binary) at += length
      else if (kind === extension) at += length + 1
    }
  }
  return elements
}

const constant = 0
const binary = 1
const extension = 2
const array = 3
const map = 4

/** For each head from 0xc0 to 0xdf: bytes of its number or length, and what the length counts. */
const widths: Uint8Array = Uint8Array.of(
  ...[0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8],
  ...[1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4],
)
const kinds: Uint8Array = Uint8Array.of(
  ...[0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0],
  ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 3, 4, 4],
)
