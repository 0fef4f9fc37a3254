/**
 * Random changes of recurring entries by three clients, while two or three servers do what is due and
 * are stopped, cut off and started again; then all that was ever stored is held against the rules.
 *
 * A run is repeated by its seed, as far as the choices go: how they meet is up to the clock.
 *
 *     PORTFIRE_MODEL_SEED=7 PORTFIRE_MODEL_SECONDS=20 PORTFIRE_MODEL_RUNS=10 bun test …
 */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { randomInt } from "node:crypto"
import process from "node:process"
import { describe } from "node:test"
import { effect, testServer } from "../harness.ts"
import { Random } from "./Random.ts"
import { alive, check, settle, story } from "./RecurringCheck.ts"
import { drive, pauseAll } from "./RecurringDriver.ts"
import * as World from "./RecurringWorld.ts"

const numberIn = (name: string, otherwise: number): number =>
  Number(process.env[`PORTFIRE_MODEL_${name}`] ?? otherwise)

const firstSeed = numberIn("SEED", randomInt(0x7fffffff))
const seconds = numberIn("SECONDS", 4)
const runs = numberIn("RUNS", 1)
const lanes = 3
/** Nothing may wait for an alarm that is there for the case that somebody dies. */
const settleMillis = 15_000
const maxStories = 3
/** Runs that any seed leads to. */
const fewest = 10

describe("recurring entries of many clients and servers", () => {
  const server = testServer()

  for (let run = 0; run < runs; run++) {
    const seed = firstSeed + run
    effect(
      `live as the model says (seed ${seed}, ${seconds} seconds)`,
      () =>
        Effect.gen(function* () {
          const random = new Random(seed).fork()
          const partitions = random.pick([1, 1, 2])
          const entries = random.between(20, 60)
          const world = yield* World.make(server, { clients: 3, partitions })
          const names = yield* drive(world, random, { entries, lanes, millis: seconds * 1_000 })
          const driven = performance.now()
          const still = yield* alive(world, names, settleMillis)
          yield* pauseAll(world, names)
          const left = yield* settle(world, settleMillis)
          const settled = performance.now()
          const verdict = yield* check(world, names)
          const { byHand, late, skipped, ticks, waited } = verdict
          console.log(
            `seed ${seed}: ${entries} entries, ${world.told.length} operations, ` +
              `${verdict.runs} runs, ${byHand} of them by hand, ${waited} after another, ` +
              `${skipped} times skipped, ${ticks} ticks, ${late} late alarms, ` +
              `${world.comings.length} comings of servers, ${partitions} partitions; ` +
              `settled in ${((settled - driven) / 1_000).toFixed(1)} s`,
          )
          const wrong = [
            ...still.map((name) => [name, "never waits for an alarm to come"] as const),
            ...left.map((text) => ["", `is left: ${text}`] as const),
            ...verdict.wrong,
          ]
          const ids = [...new Set(wrong.map(([id]) => id))].filter((id) => id !== "")
          assert.ok(
            wrong.length === 0,
            [
              `PORTFIRE_MODEL_SEED=${seed} PORTFIRE_MODEL_SECONDS=${seconds}`,
              ...wrong.map(([id, text]) => `  ${id} ${text}`),
              ...ids.slice(0, maxStories).map((id) => `    ${id}\n${story(world, id)}`),
            ].join("\n"),
          )
          assert.ok(verdict.runs >= fewest, `only ${verdict.runs} runs`)
        }),
      { timeout: 60_000 + seconds * 2_000 },
    )
  }
})
