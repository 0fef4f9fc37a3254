/** Bytes and subjects that nobody of ours writes, from a seed: random ones, and ours with a change. */
import { Encoder, ExtData } from "@msgpack/msgpack"
import * as Codec from "../../../src/core/MessagePack.ts"
import type { Random } from "../../model/Random.ts"

const encoder = new Encoder()

/** As the library does it, whatever it is. */
const pack = (value: unknown): Uint8Array => encoder.encode(value).slice()

/** A key that the encoder refuses, put in where this stands. */
const protoStandIn = "__prot0__"

/** Texts that mean something to somebody: to a subject, a header, a prototype, a terminal. */
export const texts: ReadonlyArray<string> = [
  "",
  "x",
  "_",
  "*",
  ">",
  "a.b",
  "_engine",
  "_finish",
  "constructor",
  "toString",
  "hasOwnProperty",
  protoStandIn,
  "a\r\nPUB pf.x 0\r\n\r\n",
  "Nats-Schedule-Target: x\r\n",
  "nul\0nul",
  "\u202eright to left",
  "\ud83d\ude00 smile",
  "\x1b[2J",
  "-".repeat(65),
  "y".repeat(5_000),
  "NaN",
  "2026-01-01",
  "$JS.API.STREAM.DELETE.x",
]

const numbers: ReadonlyArray<number> = [
  0,
  -1,
  1,
  5,
  0.5,
  255,
  65_536,
  2 ** 31,
  2 ** 32,
  8.64e15,
  8.64e15 + 1,
  Number.MAX_SAFE_INTEGER,
  2 ** 63,
  1e308,
  Infinity,
  -Infinity,
  NaN,
  -0,
]

/** Anything that MessagePack can say. */
export const value = (random: Random, depth = 0): unknown => {
  const kind = random.between(0, depth > 3 ? 5 : 8)
  switch (kind) {
    case 0:
      return random.pick([null, true, false])
    case 1:
    case 2:
      return random.pick(numbers)
    case 3:
    case 4:
      return random.pick(texts)
    case 5:
      return random.chance(0.3) ? new ExtData(random.between(-128, 127), bytes(random, 8)) : bytes(
        random,
        random.between(0, 40),
      )
    case 6:
    case 7:
      return Array.from({ length: random.between(0, 10) }, () => value(random, depth + 1))
    default:
      return Object.fromEntries(
        Array.from(
          { length: random.between(0, 5) },
          () => [random.pick(texts), value(random, depth + 1)],
        ),
      )
  }
}

/** That many random bytes. */
export const bytes = (random: Random, length: number): Uint8Array =>
  Uint8Array.from({ length }, () => random.between(0, 255))

const isMap = (of: unknown): of is Record<string, unknown> =>
  typeof of === "object" && of !== null && !Array.isArray(of) && !(of instanceof Uint8Array) &&
  !(of instanceof ExtData)

/** The same with one part, however deep, made something else. */
const changed = (random: Random, of: unknown): unknown => {
  const isPart = random.chance(0.12)
  if (!isPart && Array.isArray(of) && of.length > 0) {
    const at = random.between(0, of.length - 1)
    if (random.chance(0.1)) return of.filter((_, index) => index !== at)
    return of.map((part, index) => index === at ? changed(random, part) : part)
  }
  if (!isPart && isMap(of)) {
    const keys = Object.keys(of)
    const key = keys.length === 0 || random.chance(0.2) ? random.pick(texts) : random.pick(keys)
    return { ...of, [key]: changed(random, of[key]) }
  }
  if (!isPart && of instanceof Uint8Array && of.length > 0) {
    try {
      return pack(changed(random, Codec.decode(of)))
    } catch {
      return bytes(random, of.length)
    }
  }
  return value(random)
}

const standIn = new TextEncoder().encode(protoStandIn)

/** With the key that no encoder of ours writes. */
const withProto = (message: Uint8Array): Uint8Array => {
  for (let at = message.indexOf(0x5f); at >= 0; at = message.indexOf(0x5f, at + 1)) {
    if (standIn.every((byte, index) => message[at + index] === byte)) message[at + 6] = 0x6f
  }
  return message
}

/** What no value becomes: broken, cut, too deep, or larger than it is. */
const mangled = (random: Random, message: Uint8Array): Uint8Array => {
  const at = random.between(0, Math.max(0, message.length - 1))
  switch (random.between(0, 5)) {
    case 0:
      return message.slice(0, at)
    case 1:
      return message.map((byte, index) => index === at ? random.between(0, 255) : byte)
    case 2:
      return Uint8Array.from([...message.slice(0, at), ...bytes(random, 3), ...message.slice(at)])
    case 3: {
      const head = random.pick([0xc6, 0xc9, 0xdb, 0xdd, 0xdf])
      const huge = [head, random.pick([0x7f, 0xff]), 0xff, 0xff, 0xff]
      return Uint8Array.from([...message.slice(0, at), ...huge, ...message.slice(at)])
    }
    case 4:
      return new Uint8Array(random.pick([600, 20_000])).fill(random.pick([0x91, 0x81, 0x98]))
    default:
      return bytes(random, random.between(0, 200))
  }
}

/** A message of ours with something else in it, or bytes that are no message at all. */
export const message = (random: Random, of: ReadonlyArray<unknown>): Uint8Array => {
  let part: unknown = random.pick(of)
  for (let times = random.pick([1, 1, 1, 2, 3]); times > 0; times--) part = changed(random, part)
  const packed = withProto(pack(part))
  return random.chance(0.15) ? mangled(random, packed) : packed
}

/** One token of a subject, as far as the server takes it. */
export const token = (random: Random): string =>
  random.pick([
    "_",
    "x",
    "-",
    "0",
    "_engine",
    "default",
    "*",
    "\u00fcml\u00e4ut",
    "\u65e5\u672c",
    "\x01",
    "\x1b[31m",
    "%00",
    "$JS",
    "constructor",
    "a~b",
    "z".repeat(64),
    "z".repeat(80),
    "01ARZ3NDEKTSV4RRFFQ69G5FA0",
    "01ARZ3NDEKTSV4RRFFQ69G5FAZ",
    "1",
    `id${random.between(0, 5_000)}`,
  ])
