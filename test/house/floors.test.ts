import assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "node:test"
import { breaches, type Facts, importsOf } from "./laws.ts"
import { files, manifest, root, text } from "./tree.ts"

const { dependencies, devDependencies, peerDependencies } = manifest("package.json")

const facts: Facts = {
  dependencies: new Set(Object.keys({ ...dependencies, ...peerDependencies })),
  devDependencies: new Set(Object.keys(devDependencies)),
  isStable: (specifier) => {
    const path = join(root, "node_modules/effect/src", specifier.slice("effect/".length) + ".ts")
    return existsSync(path) && /@stability (\w+)/.exec(readFileSync(path, "utf8"))?.[1] === "stable"
  },
}

const check = (sources: Record<string, string>): ReadonlyArray<string> =>
  breaches(new Map(Object.entries(sources)), facts)

describe("importsOf", () => {
  it("sees every form of import and no example in a comment", () => {
    assert.deepEqual(
      importsOf(`/**
 * import * as No from "no/comment"
 */
import "./a.ts"
import * as B from "./b.ts"
import {
  c,
  type D,
} from "./c.ts"
import type { E } from "./e.ts"
export * as F from "./f.ts"
export { g } from "./g.ts"
export const h = "no"
// await import("./no.ts")
const later = await import("./later.ts")
type I = typeof import("./i.ts")
`),
      ["a", "b", "c", "e", "f", "g", "later", "i"].map((name) => `./${name}.ts`),
    )
  })
})

describe("the import law", () => {
  const planted: ReadonlyArray<readonly [string, string, string, RegExp]> = [
    ["an import that points up", "src/core/A.ts", "../nats/B.ts", /point down/],
    ["src importing actors", "src/cli/A.ts", "../../actors/B.ts", /point down/],
    ["a floor importing the door", "actors/A.ts", "../mod.ts", /point down/],
    ["an actor importing the promises", "actors/A.ts", "./promise/B.ts", /point down/],
    ["the promises importing the door", "actors/promise/A.ts", "../../mod.ts", /siblings/],
    ["the door importing the promises", "mod.ts", "./actors/promise/B.ts", /siblings/],
    ["a sibling on floor 3", "src/cli/A.ts", "../dashboard/B.ts", /siblings/],
    ["the kit importing an actor", "actors/kit/A.ts", "../B.ts", /the kit knows/],
    ["the kit importing the wire", "actors/kit/A.ts", "../../src/nats/B.ts", /the kit knows/],
    ["source importing a test", "src/core/A.ts", "../../test/B.ts", /not published/],
    ["a specifier without extension", "src/core/A.ts", "./B", /extension/],
    ["the NATS client outside its floor", "src/client/A.ts", "nats", /only src\/nats/],
    ["the whole of effect", "src/core/A.ts", "effect", /one by one/],
    ["the whole of effect in a test", "test/core/A.test.ts", "effect", /one by one/],
    ["an unstable module of effect", "src/client/A.ts", "effect/workflow/Workflow", /not stable/],
    ["an undeclared package", "src/nats/A.ts", "left-pad", /not a declared/],
    ["a development package in source", "src/core/A.ts", "fast-check", /not a declared/],
    ["a machine in the core", "src/core/A.ts", "node:fs", /no machine/],
  ]
  for (const [name, path, specifier, reason] of planted) {
    it(`catches ${name}`, () => {
      const [first, ...others] = check({ [path]: `import * as B from "${specifier}"\n` })
      assert.match(first ?? "nothing was found", reason)
      assert.deepEqual(others, [])
    })
  }

  it("catches a global of one runtime outside the edges", () => {
    assert.deepEqual(check({ "src/client/A.ts": "export const a = Bun.version\n" }), [
      "src/client/A.ts names the global Bun",
    ])
    assert.deepEqual(check({ "actors/A.ts": "globalThis.Deno?.exit(1)\n" }), [
      "actors/A.ts names the global Deno",
    ])
  })

  it("catches circles", () => {
    assert.deepEqual(
      check({
        "src/core/A.ts": 'import "./B.ts"\n',
        "src/core/B.ts": 'export { c } from "./C.ts"\n',
        "src/core/C.ts": 'import type * as A from "./A.ts"\n',
      }),
      ["imports in a circle: src/core/A.ts > src/core/B.ts > src/core/C.ts > src/core/A.ts"],
    )
  })

  it("accepts what it allows", () => {
    assert.deepEqual(
      check({
        "src/core/A.ts": 'import * as Data from "effect/Data"\nimport "croner"\n',
        "src/nats/B.ts": 'import "nats"\nimport "node:fs"\nimport "../core/A.ts"\n',
        "src/nats/EmbeddedServer.ts": "export const bun = Bun.version\n",
        "src/client/C.ts": '// Bun.serve\nexport const text = "Deno.exit"\nimport "../nats/B.ts"\n',
        "src/cli/D.ts": 'import "./E.ts"\nimport "../client/C.ts"\nimport "node:util"\n',
        "actors/kit/F.ts": 'import "../../src/core/A.ts"\nimport "effect/Effect"\n',
        "actors/G.ts": 'import "./kit/F.ts"\nimport "../src/cli/D.ts"\n',
        "actors/promise/H.ts": 'import "./I.ts"\nimport "../G.ts"\nimport "../../src/core/A.ts"\n',
        "mod.ts": 'export * as C from "./src/client/C.ts"\nimport "./actors/G.ts"\n',
        "test/H.test.ts": 'import "fast-check"\nimport "../mod.ts"\nimport "nats"\nDeno.exit()\n',
      }),
      [],
    )
  })

  it("holds in this repository", () => {
    const sources = files().filter((path) =>
      /^(mod\.ts$|(src|actors|test|bench|examples)\/)/.test(path)
    )
      .filter((path) => path.endsWith(".ts"))
    assert.ok(sources.length > 0)
    assert.deepEqual(breaches(new Map(sources.map((path) => [path, text(path)])), facts), [])
  })
})
