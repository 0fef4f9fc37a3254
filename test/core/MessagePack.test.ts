import fc from "fast-check"
import assert from "node:assert/strict"
import process from "node:process"
import { describe, it } from "node:test"
import * as MessagePack from "../../src/core/MessagePack.ts"

const bytes = (...parts: ReadonlyArray<number | Uint8Array>) =>
  Uint8Array.from(parts.flatMap((part) => typeof part === "number" ? [part] : [...part]))

const text = (value: string) => new TextEncoder().encode(value)

describe("MessagePack", () => {
  it("brings back what it was given", () => {
    const values = fc.jsonValue({ maxDepth: 8 })
      .filter((value) => !JSON.stringify(value).includes('"__proto__":'))
    fc.assert(fc.property(values, (value) => {
      const back = MessagePack.decode(MessagePack.encode(value))
      assert.equal(JSON.stringify(back), JSON.stringify(value))
    }))
  })

  it("reads every form that another encoder may choose", () => {
    const forms: ReadonlyArray<readonly [Uint8Array, unknown]> = [
      [bytes(0xcc, 5), 5],
      [bytes(0xcd, 0, 5), 5],
      [bytes(0xce, 0, 0, 0, 5), 5],
      [bytes(0xcf, 0, 0, 0, 0, 0, 0, 0, 5), 5],
      [bytes(0xd0, 0xfb), -5],
      [bytes(0xd1, 0xff, 0xfb), -5],
      [bytes(0xd2, 0xff, 0xff, 0xff, 0xfb), -5],
      [bytes(0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb), -5],
      [bytes(0xca, 0x3f, 0x80, 0, 0), 1],
      [bytes(0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0), 1],
      [bytes(0xd9, 1, text("a")), "a"],
      [bytes(0xda, 0, 1, text("a")), "a"],
      [bytes(0xdb, 0, 0, 0, 1, text("a")), "a"],
      [bytes(0xc4, 1, 7), Uint8Array.of(7)],
      [bytes(0xc5, 0, 1, 7), Uint8Array.of(7)],
      [bytes(0xc6, 0, 0, 0, 1, 7), Uint8Array.of(7)],
      [bytes(0xdc, 0, 2, 1, 2), [1, 2]],
      [bytes(0xdd, 0, 0, 0, 2, 1, 2), [1, 2]],
      [bytes(0xde, 0, 1, 0xa1, text("a"), 1), { a: 1 }],
      [bytes(0xdf, 0, 0, 0, 1, 0xa1, text("a"), 1), { a: 1 }],
      [bytes(0xc2), false],
      [bytes(0xc3), true],
      [bytes(0xc0), null],
      [bytes(0x90), []],
      [bytes(0x80), {}],
    ]
    for (const [form, value] of forms) assert.deepEqual(MessagePack.decode(form), value)
  })

  it("gives bytes of its own, or shared ones until the next call", () => {
    const own = MessagePack.encode("first")
    const copy = own.slice()
    const shared = MessagePack.encodeShared("second")
    assert.equal(MessagePack.decode(shared), "second")
    MessagePack.encodeShared("third")
    assert.deepEqual(own, copy)
  })

  it("brings back text of every length and script", () => {
    for (const part of ["a", "ä", "漢", "😀", "\ufeff"]) {
      for (const length of [1, 8, 15, 16, 17, 60, 300, 70_000]) {
        const value = part.repeat(length)
        assert.equal(MessagePack.decode(MessagePack.encode(value)), value)
        assert.equal(MessagePack.decode(MessagePack.encode(`a${value}`)), `a${value}`)
      }
    }
  })

  it("throws on what is nested without end", () => {
    const arrays = new Uint8Array(1_000_000).fill(0x91)
    const maps = bytes(...Array.from({ length: 10_000 }, () => bytes(0x81, 0xa1, 0x61)))
    for (const nested of [arrays, maps]) {
      assert.throws(() => MessagePack.decode(nested), /nested too deeply/)
    }
  })

  it("throws on less than one value and on more", () => {
    for (const wrong of [bytes(), bytes(0x92, 1), bytes(1, 2), bytes(0xc4, 9, 1), bytes(0xc1)]) {
      assert.throws(() => MessagePack.decode(wrong))
    }
  })

  it("gives a value or throws an error for random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (random) => {
        try {
          MessagePack.decode(random)
        } catch (error) {
          assert.ok(error instanceof Error)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe("bytes that announce more than they hold", () => {
  const before = process.memoryUsage().rss

  it("are refused whatever announces it", () => {
    const heads = [
      bytes(0xdd, 0xff, 0xff, 0xff, 0xff),
      bytes(0xdd, 0x01, 0xff, 0xff, 0xff),
      bytes(0xdc, 0xff, 0xff),
      bytes(0xdf, 0xff, 0xff, 0xff, 0xff),
      bytes(0xde, 0xff, 0xff),
      bytes(0xc6, 0xff, 0xff, 0xff, 0xff),
      bytes(0xdb, 0xff, 0xff, 0xff, 0xff),
      bytes(0xc9, 0xff, 0xff, 0xff, 0xff, 1),
      bytes(0x9f, 1),
      bytes(0x8f, 1),
    ]
    for (const head of heads) {
      assert.throws(() => MessagePack.decode(head))
      assert.throws(() => MessagePack.decode(bytes(0x92, 1, head)))
      assert.throws(() => MessagePack.decode(bytes(0xd9, 1, 0x61, head)))
    }
  })

  it("do not make it take room for them", () => {
    // Each level would be an array of a million; all of them eight gigabytes.
    const nested = bytes(...Array.from({ length: 1_000 }, () => bytes(0xdd, 0, 0x10, 0, 0)))
    assert.throws(() => MessagePack.decode(nested), /announced/)
    const grown = (process.memoryUsage().rss - before) / 1e6
    assert.ok(grown < 300, `${grown} MB`)
  })

  it("are told from bytes of every form that hold what they announce", () => {
    const value: Array<unknown> = [
      ...[0, 127, 128, 65_535, 65_536, 2 ** 40, -1, -32, -33, -32_769, -(2 ** 40), 1.5, null, true],
      ...["", "a".repeat(31), "a".repeat(32), "a".repeat(256), "a".repeat(65_536)],
      ...[new Uint8Array(0), new Uint8Array(256).fill(0xdd), new Uint8Array(65_536).fill(0xdf)],
      ...[[], {}, Array.from({ length: 16 }, () => 0), Array.from({ length: 70_000 }, () => 0)],
      Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])),
      new Date(0),
    ]
    assert.deepEqual(MessagePack.decode(MessagePack.encode(value)), value)
  })
})
