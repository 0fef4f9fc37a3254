import assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "node:test"
import { files, manifest, root, text } from "./tree.ts"

const npm = manifest("package.json")
const jsr = manifest("deno.json")

/** `npm:name@range` of deno.json as the pair package.json would hold. */
const dependency = ([alias, target]: readonly [string, unknown]): readonly [string, string] => {
  const [, name, range] = /^npm:(.+)@([^@]+)$/.exec(String(target)) ?? []
  assert.ok(name !== undefined && range !== undefined, `${alias} is ${target}`)
  return [alias, name === alias ? range : `npm:${name}@${range}`]
}

describe("the two manifests", () => {
  it("agree on the name", () => {
    assert.equal(npm.name, "portfire")
    assert.equal(jsr.name, `@portfire/${npm.name}`)
  })

  it("agree on version and licence", () => {
    assert.match(npm.version, /^\d+\.\d+\.\d+(-[\w.]+)?$/)
    assert.equal(jsr.version, npm.version)
    assert.equal(jsr.license, npm.license)
  })

  it("agree on the dependencies and their ranges", () => {
    assert.deepEqual(
      Object.fromEntries(Object.entries(jsr.imports).map(dependency)),
      { ...npm.dependencies, ...npm.peerDependencies },
    )
  })

  it("agree on the entry points", () => {
    const built = Object.entries(jsr.exports).map(([door, source]) => {
      const base = String(source).replace(/^\.\//, "./dist/").replace(/\.ts$/, "")
      return [door, { types: `${base}.d.ts`, default: `${base}.js` }]
    })
    assert.deepEqual(npm.exports, {
      ...Object.fromEntries(built),
      "./package.json": "./package.json",
    })
  })

  it("name entry points that exist", () => {
    const missing = Object.values(jsr.exports).map(String).filter((path) =>
      !existsSync(join(root, path))
    )
    assert.deepEqual(missing, [])
  })

  it("develop against the range that users are asked for", () => {
    for (const [name, range] of Object.entries(npm.peerDependencies)) {
      assert.equal(npm.devDependencies[name], range)
    }
  })

  it("pin the runtimes and the NATS server exactly", () => {
    const { bun, deno } = npm.devDependencies
    for (const version of [bun, deno, ...Object.values(npm.optionalDependencies)]) {
      assert.match(String(version), /^\d+\.\d+\.\d+$/)
    }
  })
})

describe("the changelog", () => {
  it("has a section for the version", () => {
    const version = npm.version.replaceAll(".", "\\.")
    assert.match(text("CHANGELOG.md"), new RegExp(`^## \\[${version}\\] - \\S`, "m"))
  })
})

describe("the lock file", () => {
  it("names no host", () => {
    assert.doesNotMatch(text("bun.lock"), /:\/\//)
  })
})

describe("the published files", () => {
  it("include every source of the package on JSR", () => {
    const included: ReadonlyArray<string> = jsr["publish"].include
    for (const path of files().filter((path) => /^(mod\.ts$|src\/|actors\/)/.test(path))) {
      const folder = path.split("/")[0]
      assert.ok(included.includes(path) || included.includes(`${folder}/**/*.ts`), path)
    }
  })
})
