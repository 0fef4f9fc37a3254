import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import fc from "fast-check"
import assert from "node:assert/strict"
import { Buffer } from "node:buffer"
import { describe, it } from "node:test"
import * as Codec from "../../src/core/Codec.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"

const encode = (schema: Codec.AnySchema, value: unknown): Uint8Array =>
  Effect.runSync(Codec.make(schema).encodeShared(value)).slice()

const roundTrip = <S extends Codec.AnySchema>(schema: S, value: S["Type"]): S["Type"] =>
  Effect.runSync(Codec.make(schema).decode(encode(schema, value)))

/** How encoding is refused; fails when it isn't, or not as a typed mismatch. */
const mismatch = (schema: Codec.AnySchema, value: unknown): Codec.Mismatch =>
  Effect.runSync(Effect.flip(Codec.make(schema).encodeShared(value)))

const unreadable = (schema: Codec.AnySchema, bytes: Uint8Array): Codec.Mismatch =>
  Effect.runSync(Effect.flip(Codec.make(schema).decode(bytes)))

interface List {
  readonly next: List | null
}
const List: Schema.Codec<List> = Schema.Struct({
  next: Schema.NullOr(Schema.suspend((): Schema.Codec<List> => List)),
})

const listOf = (depth: number): List => {
  let list: List | null = null
  for (let i = 0; i < depth; i++) list = { next: list }
  return list ?? { next: null }
}

class Address extends Schema.Class<Address>("Address")({ street: Schema.String }) {}

const Everything = Schema.Struct({
  text: Schema.String,
  number: Schema.Number,
  truth: Schema.Boolean,
  date: Schema.Date,
  bytes: Codec.Bytes,
  base64: Schema.Uint8Array,
  big: Schema.BigInt,
  maybe: Schema.optional(Schema.String),
  none: Schema.Option(Schema.Number),
  map: Schema.ReadonlyMap(Schema.String, Schema.Date),
  set: Schema.ReadonlySet(Schema.BigInt),
  address: Address,
  list: Schema.Array(Schema.Struct({ when: Schema.Date, bytes: Codec.Bytes })),
  either: Schema.Union([Schema.Struct({ kind: Schema.Literal("a") }), Schema.Null]),
  record: Schema.Record(Schema.String, Schema.Number),
  pair: Schema.Tuple([Schema.String, Schema.Number]),
})

const everything: typeof Everything.Type = {
  text: "žluťoučký 🐎 \0 名",
  number: -1.5e-300,
  truth: false,
  date: new Date("2030-01-31T09:00:00.123Z"),
  bytes: Uint8Array.of(0, 255, 127),
  base64: Uint8Array.of(1, 2, 3),
  big: 2n ** 200n,
  none: Option.some(5),
  map: new Map([["a", new Date(0)]]),
  set: new Set([1n, -1n]),
  address: new Address({ street: "Main" }),
  list: [{ when: new Date(1), bytes: new Uint8Array(0) }],
  either: { kind: "a" },
  record: { a: 1, constructor: 2 },
  pair: ["a", 1],
}

describe("a value", () => {
  it("of everything that schemas describe survives the trip", () => {
    const back = roundTrip(Everything, everything)
    assert.deepEqual(back, everything)
    assert.ok(back.address instanceof Address)
    assert.ok(!("maybe" in back))
  })

  it("that is undefined survives where the schema knows it", () => {
    const Some = Schema.Struct({
      a: Schema.optional(Schema.String),
      b: Schema.optionalKey(Schema.String),
      c: Schema.UndefinedOr(Schema.String),
    })
    assert.deepEqual(roundTrip(Some, { a: undefined, c: undefined }).c, undefined)
    assert.equal("b" in roundTrip(Some, { c: "c" }), false)
    assert.equal(roundTrip(Schema.Undefined, undefined), undefined)
    assert.equal(roundTrip(Schema.Void, undefined), undefined)
  })

  it("of an option survives at any depth", () => {
    const Deep = Schema.Option(Schema.Option(Schema.NullOr(Schema.String)))
    for (
      const value of [
        Option.none(),
        Option.some(Option.none()),
        Option.some(Option.some(null)),
        Option.some(Option.some("a")),
      ]
    ) assert.deepEqual(roundTrip(Deep, value), value)
  })

  it("that is a number survives when it is none, infinite or minus nothing", () => {
    for (const value of [Number.NaN, Infinity, -Infinity, 0, 2 ** 53, Number.MIN_VALUE, 1e300]) {
      assert.ok(Object.is(roundTrip(Schema.Number, value), value), String(value))
    }
  })

  it("of any JSON survives", () => {
    const values = fc.jsonValue({ maxDepth: 6 })
      .filter((value) => !JSON.stringify(value).includes('"__proto__":'))
    fc.assert(fc.property(values, (value) => {
      // Minus nothing has no form of its own in JSON's sense of equal.
      assert.deepEqual(JSON.stringify(roundTrip(Schema.Unknown, value)), JSON.stringify(value))
    }))
  })

  it("of any bytes, integer, date and text survives", () => {
    const Some = Schema.Struct({
      bytes: Codec.Bytes,
      big: Schema.BigInt,
      date: Schema.Date,
      text: Schema.String,
    })
    const values = fc.record({
      bytes: fc.uint8Array({ maxLength: 300 }),
      big: fc.bigInt(),
      date: fc.date({ noInvalidDate: true }),
      text: fc.string({ unit: "grapheme", maxLength: 300 }),
    }, { noNullPrototype: true })
    fc.assert(fc.property(values, (value) => {
      assert.deepEqual(roundTrip(Some, value), value)
    }))
  })
})

describe("bytes", () => {
  it("travel as MessagePack's own binary", () => {
    assert.deepEqual([...encode(Codec.Bytes, Uint8Array.of(1, 2))], [0xc4, 2, 1, 2])
  })

  it("of the plain schema travel as base64", () => {
    assert.equal(MessagePack.decode(encode(Schema.Uint8Array, Uint8Array.of(1, 2))), "AQI=")
  })

  it("are read as plain ones from whatever buffer the network gave", () => {
    const back = Effect.runSync(Codec.make(Codec.Bytes).decode(Buffer.from([0xc4, 2, 1, 2])))
    assert.equal(Object.getPrototypeOf(back), Uint8Array.prototype)
    assert.deepEqual(back, Uint8Array.of(1, 2))
  })

  it("of a megabyte survive", () => {
    const bytes = crypto.getRandomValues(new Uint8Array(65_536))
    const large = new Uint8Array(1_048_576).map((_, i) => bytes[i % bytes.length] as number)
    assert.deepEqual(roundTrip(Codec.Bytes, large), large)
  })

  it("are not what a list of numbers is", () => {
    assert.equal(mismatch(Codec.Bytes, [1, 2]).path, "")
    assert.equal(unreadable(Codec.Bytes, MessagePack.encode([1, 2])).path, "")
  })
})

describe("a value that does not match", () => {
  const Mail = Schema.Struct({
    to: Schema.String,
    parts: Schema.Array(Schema.Struct({ name: Schema.String })),
  })

  it("is refused with the path of what is wrong", () => {
    const cases: ReadonlyArray<readonly [unknown, string]> = [
      [null, ""],
      [undefined, ""],
      ["text", ""],
      [{ parts: [] }, ".to"],
      [{ to: 5, parts: [] }, ".to"],
      [{ to: "a" }, ".parts"],
      [{ to: "a", parts: {} }, ".parts"],
      [{ to: "a", parts: [{ name: "a" }, { name: 5 }] }, ".parts[1].name"],
    ]
    for (const [value, path] of cases) {
      const { path: found, reason } = mismatch(Mail, value)
      assert.equal(found, path)
      assert.notEqual(reason, "")
    }
  })

  it("is refused at the reader with its path too", () => {
    const bytes = MessagePack.encode({ to: "a", parts: [{ name: 5 }] })
    assert.equal(unreadable(Mail, bytes).path, ".parts[0].name")
  })

  it("loses the fields that its schema doesn't know", () => {
    const bytes = encode(Mail, { to: "a", parts: [], secret: 1 })
    assert.deepEqual(MessagePack.decode(bytes), { to: "a", parts: [] })
  })

  it("is refused when no bytes can carry it", () => {
    const cyclic: Record<string, unknown> = {}
    cyclic["self"] = cyclic
    for (const value of [5n, () => 1, Symbol("a"), new Date(), new Map(), cyclic, undefined]) {
      assert.notEqual(mismatch(Schema.Unknown, value).reason, "")
    }
    assert.equal(mismatch(Schema.Date, new Date(Number.NaN)) === undefined, false)
  })
})

describe("a hostile value", () => {
  it("that is its own part is refused", () => {
    const cyclic: { next: unknown } = { next: null }
    cyclic.next = cyclic
    assert.match(mismatch(List, cyclic).reason, /stack/i)
  })

  it("that is nested too deeply is refused, up to a hundred it is carried", () => {
    assert.deepEqual(roundTrip(List, listOf(99)), listOf(99))
    assert.match(mismatch(List, listOf(200)).reason, /too deep/i)
    assert.match(mismatch(List, listOf(200_000)).reason, /stack/i)
  })

  it("that throws when it is read is refused", () => {
    const boom = () => {
      throw new Error("boom")
    }
    const value = Object.defineProperty({}, "to", { enumerable: true, get: boom })
    assert.equal(mismatch(Schema.Struct({ to: Schema.String }), value).reason, "boom")
    const proxy = new Proxy({}, { get: boom, has: boom, ownKeys: boom })
    assert.notEqual(mismatch(Schema.Struct({ to: Schema.String }), proxy).reason, "")
  })

  it("leaves the codec as it was", () => {
    const codec = Codec.make(Schema.Struct({ a: Schema.String }))
    for (const value of [null, { a: 5 }, { a: "x".repeat(3_000_000) }]) {
      Effect.runSyncExit(codec.encodeShared(value))
    }
    assert.deepEqual([...Effect.runSync(codec.encodeShared({ a: "b" }))], [
      0x81,
      0xa1,
      97,
      0xa1,
      98,
    ])
  })

  it("with the key of a prototype is refused before any reader meets it", () => {
    for (const text of ['{"__proto__": {"a": 1}}', '[[{"b": {"__proto__": 1}}]]']) {
      assert.match(mismatch(Schema.Unknown, JSON.parse(text)).reason, /__proto__/)
    }
    const fine = { key: "__proto__", list: ["__proto__"], a__proto__: 1, "ΐ__proto__": "©" }
    assert.deepEqual(roundTrip(Schema.Unknown, fine), fine)
  })
})

describe("encoding", () => {
  it("gives bytes of its own, or shared ones that the next encoding overwrites", () => {
    const codec = Codec.make(Schema.String)
    const [own, shared] = [codec.encode("aaa"), codec.encodeShared("bbb")].map(Effect.runSync)
    Effect.runSync(codec.encodeShared("ccc"))
    assert.equal(MessagePack.decode(own as Uint8Array), "aaa")
    assert.equal(MessagePack.decode(shared as Uint8Array), "ccc")
  })

  it("of a schema that takes its time gives bytes of its own either way", async () => {
    const Slow = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.passthrough(),
        encode: SchemaGetter.transformEffect((value: string) => Effect.as(Effect.sleep(1), value)),
      }),
    )
    const codec = Codec.make(Slow)
    const texts = Array.from({ length: 50 }, (_, index) => `text ${index}`)
    const encoded = await Effect.runPromise(
      Effect.forEach(texts, codec.encodeShared, { concurrency: "unbounded" }),
    )
    assert.deepEqual(encoded.map(MessagePack.decode), texts)
  })
})

describe("decoding", () => {
  const schemas = [Everything, Schema.Unknown, List, Codec.Bytes, Schema.Date, Schema.Void]

  it("of random bytes gives a value or a mismatch, never a defect", () => {
    const codecs = schemas.map((schema) => Codec.make(schema as Codec.AnySchema))
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const codec of codecs) {
        Effect.runSync(
          Effect.match(codec.decode(bytes), { onSuccess: () => 0, onFailure: () => 1 }),
        )
      }
    }))
  })

  it("of deeply nested bytes gives a value or a mismatch, never a defect", () => {
    const deep = new Uint8Array(1_000_001).fill(0x91)
    deep[1_000_000] = 0xc0
    for (const schema of [Schema.Unknown, List]) {
      Effect.runSync(Effect.result(Codec.make(schema as Codec.AnySchema).decode(deep)))
    }
  })

  it("is finished at once for ordinary schemas", () => {
    const codec = Codec.make(Everything)
    const bytes = codec.encodeShared(everything)
    assert.ok(Exit.isExit(bytes))
    assert.ok(Exit.isExit(codec.decode(encode(Everything, everything))))
  })
})
