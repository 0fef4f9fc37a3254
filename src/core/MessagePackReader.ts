/**
 * Reads MessagePack. Most of what a server reads is short text, for which the library's decoder
 * collects code units one by one; this one has the runtime do it at once, and trusts no length.
 *
 * Bytes give views of what was read, 64-bit integers numbers, and text that isn't UTF-8 replacement
 * characters.
 */
import { ExtensionCodec } from "@msgpack/msgpack"

const text = new TextDecoder("utf-8", { ignoreBOM: true })

/** Up to this many bytes, plain text is faster read by hand. */
const shortText = 16
/** What is nested deeper is nobody's data, and could exhaust the stack. */
const maxDepth = 512

/** Reads one value after the other from some bytes. Every method throws where there is none. */
export class MessagePackReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    // Parts that are bytes are views of the same class, and a Buffer behaves differently.
    this.#bytes = bytes.constructor === Uint8Array
      ? bytes
      : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  /** Whether all is read. */
  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  /** The next value. */
  value(depth = 0): unknown {
    const head = this.#view.getUint8(this.#at++)
    if (head < 0x80) return head
    if (head >= 0xe0) return head - 0x100
    if (head < 0x90) return this.#map(head - 0x80, depth)
    if (head < 0xa0) return this.#array(head - 0x90, depth)
    if (head < 0xc0) return this.#text(head - 0xa0)
    switch (head) {
      case 0xc0:
        return null
      case 0xc2:
        return false
      case 0xc3:
        return true
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#take(this.#uint(head - 0xc4))
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return this.#extension(this.#uint(head - 0xc7))
      case 0xca:
        return this.#view.getFloat32(this.#skip(4))
      case 0xcb:
        return this.#view.getFloat64(this.#skip(8))
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#uint(head - 0xcc)
      case 0xcf:
        return this.#view.getUint32(this.#skip(4)) * 2 ** 32 + this.#uint(2)
      case 0xd0:
        return this.#view.getInt8(this.#skip(1))
      case 0xd1:
        return this.#view.getInt16(this.#skip(2))
      case 0xd2:
        return this.#view.getInt32(this.#skip(4))
      case 0xd3:
        return this.#view.getInt32(this.#skip(4)) * 2 ** 32 + this.#uint(2)
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#extension(2 ** (head - 0xd4))
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#uint(head - 0xd9))
      case 0xdc:
      case 0xdd:
        return this.#array(this.#uint(head - 0xdb), depth)
      case 0xde:
      case 0xdf:
        return this.#map(this.#uint(head - 0xdd), depth)
    }
    throw new RangeError("a byte that begins no value")
  }

  /** Moves on; gives where it was. */
  #skip(length: number): number {
    const from = this.#at
    this.#at += length
    if (this.#at > this.#bytes.length) throw new RangeError("more bytes announced than there are")
    return from
  }

  /** An unsigned integer of 1, 2 or 4 bytes, for 0, 1 and 2. */
  #uint(width: number): number {
    return width === 0
      ? this.#view.getUint8(this.#skip(1))
      : width === 1
      ? this.#view.getUint16(this.#skip(2))
      : this.#view.getUint32(this.#skip(4))
  }

  #take(length: number): Uint8Array {
    const from = this.#skip(length)
    return this.#bytes.subarray(from, from + length)
  }

  #text(length: number): string {
    const from = this.#skip(length)
    const to = from + length
    if (length > shortText) return text.decode(this.#bytes.subarray(from, to))
    let value = ""
    for (let at = from; at < to; at++) {
      const byte = this.#bytes[at] as number
      if (byte >= 0x80) return text.decode(this.#bytes.subarray(from, to))
      value += String.fromCharCode(byte)
    }
    return value
  }

  /** Each element takes a byte at least: more of them than bytes are not made room for. */
  #announce(elements: number, depth: number): void {
    if (elements > this.#bytes.length - this.#at) {
      throw new RangeError("more elements announced than there are")
    }
    if (depth >= maxDepth) throw new RangeError("nested too deeply")
  }

  #array(length: number, depth: number): ReadonlyArray<unknown> {
    this.#announce(length, depth)
    const array: Array<unknown> = []
    for (let i = 0; i < length; i++) array.push(this.value(depth + 1))
    return array
  }

  #map(length: number, depth: number): Readonly<Record<string, unknown>> {
    this.#announce(2 * length, depth)
    const map: Record<string, unknown> = {}
    for (let i = 0; i < length; i++) {
      const key = this.value(depth + 1)
      if (typeof key !== "string" && typeof key !== "number") {
        throw new TypeError("the key of a map is neither text nor number")
      }
      if (key === "__proto__") throw new TypeError("__proto__ is no key")
      map[key] = this.value(depth + 1)
    }
    return map
  }

  #extension(length: number): unknown {
    const type = this.#view.getInt8(this.#skip(1))
    return ExtensionCodec.defaultCodec.decode(this.#take(length), type, undefined)
  }
}
