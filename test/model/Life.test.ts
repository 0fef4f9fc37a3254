/**
 * Random operations of three clients, while two servers run what they store and are stopped and
 * started again; then the store is held against what was promised.
 *
 * A run is repeated by its seed, as far as the operations go: how they meet is up to the clock.
 *
 *     PORTFIRE_MODEL_SEED=7 PORTFIRE_MODEL_OPERATIONS=2000 PORTFIRE_MODEL_RUNS=10 bun test …
 */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { randomInt } from "node:crypto"
import process from "node:process"
import { describe } from "node:test"
import { effect, testServer } from "../harness.ts"
import { check, settle, story } from "./Check.ts"
import { drive } from "./Driver.ts"
import { allArrows } from "./History.ts"
import { Random } from "./Random.ts"
import * as World from "./World.ts"

const numberIn = (name: string, otherwise: number): number =>
  Number(process.env[`PORTFIRE_MODEL_${name}`] ?? otherwise)

const firstSeed = numberIn("SEED", randomInt(0x7fffffff))
/** Of each client. */
const operations = numberIn("OPERATIONS", 150)
const runs = numberIn("RUNS", 1)
const lanes = 4
/** Nothing may wait for an alarm that is there for the case that somebody dies. */
const settleMillis = 15_000
const longEnough = 1_500
const maxStories = 8
/** Arrows that a run of any seed takes. */
const fewest = 20

describe("jobs of many clients and servers", () => {
  const server = testServer()

  for (let run = 0; run < runs; run++) {
    const seed = firstSeed + run
    effect(
      `live as the model says (seed ${seed}, ${operations} operations of each client)`,
      () =>
        Effect.gen(function* () {
          const random = new Random(seed).fork()
          const partitions = random.pick([1, 1, 2])
          const world = yield* World.make(server, { clients: 3, partitions })
          const began = performance.now()
          yield* drive(world, random, { operations, lanes })
          const driven = performance.now()
          const left = yield* settle(world, settleMillis)
          const settled = performance.now()
          const { arrows, late, stored, wrong } = yield* check(world, left)
          const missing = allArrows.filter((arrow) => !arrows.has(arrow))
          const seconds = (from: number, to: number) => `${((to - from) / 1_000).toFixed(1)} s`
          console.log(
            `seed ${seed}: ${3 * operations} operations, ${world.known.size} jobs, ` +
              `${world.runs.length} attempts, ${stored} messages, ` +
              `${late} of them late, ${partitions} partitions; ` +
              `driven in ${seconds(began, driven)}, settled in ${seconds(driven, settled)}; ` +
              `${arrows.size} of ${allArrows.length} arrows` +
              (missing.length === 0 ? "" : `, without ${missing.join(", ")}`),
          )
          const ids = [
            ...new Set(
              wrong.flatMap(([id, text]) => [id, ...text.match(/\b[0-9A-Z]{26}\b/g) ?? []]),
            ),
          ]
            .filter((id) => id !== "")
          const said = wrong.map(([id, text]) => `  ${id} ${text}`)
          const stories = ids.slice(0, maxStories).map((id) => `    ${id}\n${story(world, id)}`)
          assert.ok(
            wrong.length === 0,
            `PORTFIRE_MODEL_SEED=${seed} PORTFIRE_MODEL_OPERATIONS=${operations}\n` +
              [...said, ...stories].join("\n"),
          )
          assert.ok(arrows.size >= fewest, `only ${[...arrows].join(", ")}`)
          if (operations >= longEnough) assert.deepEqual(missing, [])
        }),
      { timeout: 60_000 + operations * 100 },
    )
  }
})
