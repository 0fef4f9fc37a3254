import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Job from "../../src/client/Job.ts"
import type * as Codec from "../../src/core/Codec.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import { effect } from "../harness.ts"

const refusal = (options: unknown): string | undefined => {
  try {
    Job.make("job", options as never)
    return undefined
  } catch (error) {
    assert.ok(error instanceof InvalidOptions, String(error))
    return error.field
  }
}

const same = (value: unknown) => value

describe("a version", () => {
  it("is a whole number from 1, with a migration for every step from the lowest one on", () => {
    const cases: ReadonlyArray<readonly [unknown, string | undefined]> = [
      [{ version: 1 }, undefined],
      [{ version: 3 }, undefined],
      [{ version: 3, migrations: {} }, undefined],
      [{ version: 3, migrations: { 2: same } }, undefined],
      [{ version: 3, migrations: { 1: same, 2: same } }, undefined],
      [{ version: 0 }, "version"],
      [{ version: 1.5 }, "version"],
      [{ version: "2" }, "version"],
      [{ version: null }, "version"],
      [{ migrations: { 1: same } }, "migrations.1"],
      [{ version: 3, migrations: { 1: same } }, "migrations.2"],
      [{ version: 4, migrations: { 1: same, 3: same } }, "migrations.2"],
      [{ version: 3, migrations: { 3: same } }, "migrations.3"],
      [{ version: 3, migrations: { 0: same, 1: same, 2: same } }, "migrations.0"],
      [{ version: 3, migrations: { "1.0": same, 2: same } }, "migrations.1.0"],
      [{ version: 3, migrations: { one: same, 2: same } }, "migrations.one"],
      [{ version: 3, migrations: { 2: "same" } }, "migrations.2"],
      [{ version: 3, migrations: null }, "migrations"],
    ]
    for (const [options, field] of cases) {
      assert.equal(refusal(options), field, JSON.stringify(options))
    }
  })

  it("stands in the message, unless it is the first", () => {
    const optionsOf = (version: number) => {
      const { template } = Job.make("job", { version }).definition
      const envelope = Envelope.decode(Envelope.fresh(template, 0, MessagePack.encode(null)))
      assert.ok(Envelope.isEnvelope(envelope))
      return envelope.options
    }
    assert.equal(optionsOf(1).version, undefined)
    assert.equal(optionsOf(7).version, 7)
  })
})

describe("a payload", () => {
  const Person = Schema.Struct({ names: Schema.Array(Schema.String), since: Schema.Date })
  const codecOf = (migrations: Job.Migrations, payload: Codec.AnySchema = Person) =>
    Job.make("person", { version: 3, payload, migrations }).definition.payload
  const since = "2030-01-31T09:00:00.000Z"
  const v1 = MessagePack.encode({ name: "Ada Lovelace" })

  const migrations: Job.Migrations = {
    1: (old) => {
      const { name } = old as { readonly name: string }
      return { first: name.split(" ")[0], last: name.split(" ")[1] }
    },
    2: (old) => {
      const { first, last } = old as { readonly first: string; readonly last: string }
      return Effect.succeed({ names: [first, last], since })
    },
  }

  effect(
    "of an older version is migrated step by step, by functions and by effects",
    () =>
      Effect.gen(function* () {
        const codec = codecOf(migrations)
        const expected = { names: ["Ada", "Lovelace"], since: new Date(since) }
        assert.deepEqual(yield* codec.decode(v1, 1), expected)
        const v2 = MessagePack.encode({ first: "Ada", last: "Lovelace" })
        assert.deepEqual(yield* codec.decode(v2, 2), expected)
        const v3 = yield* codec.encode(expected)
        assert.deepEqual(yield* codec.decode(v3, 3), expected)
        assert.deepEqual(yield* codec.decode(v3), expected)
      }),
  )

  effect("that can't be migrated says at which version and field", () =>
    Effect.gen(function* () {
      const why = (change: Job.Migrations, version = 1) =>
        Effect.map(
          Effect.flip(codecOf({ ...migrations, ...change }).decode(v1, version)),
          ({ path, reason }) => `${path}: ${reason}`,
        )
      const fails = {
        1: () => {
          throw new Error("no name")
        },
      }
      assert.equal(yield* why(fails), ": its migration from version 1 to 2 failed: no name")
      const effectful = { 2: () => Effect.fail(new Error("no last name")) }
      assert.equal(
        yield* why(effectful),
        ": its migration from version 2 to 3 failed: no last name",
      )
      assert.match(
        yield* why({ 2: () => Effect.die("gone") }),
        /^: its migration from version 2 to 3 failed: "gone"$/,
      )
      assert.match(
        yield* why({ 2: () => ({ names: ["Ada", 5], since }) }),
        /^\.names\[1\]: .* \(it is of version 1, migrated to 3\)$/,
      )
      assert.match(
        yield* why({ 2: () => () => 5 }),
        /what it was migrated to, from version 1 to 3, failed/,
      )
      assert.match(yield* why({}, 3), /^\.names: .* \(it is of version 3\)$/)
      assert.match(yield* why({}, 4), /it is of version 4, .* knows only those up to 3/)
      const young = codecOf({ 2: same })
      const { reason } = yield* Effect.flip(young.decode(v1, 1))
      assert.equal(reason, "it is of version 1, the oldest still understood is 2")
    }))

  effect(
    "of which a migration makes no plain data is refused",
    () =>
      Effect.gen(function* () {
        const codec = codecOf({ 1: same, 2: () => new Date(0) }, Schema.Unknown)
        const error = yield* Effect.flip(codec.decode(v1, 1))
        assert.match(error.reason, /version 1/)
      }),
  )
})
