import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { files, text } from "./tree.ts"

/** What only the machine knows on which a file was written. Assembled, or this file would match. */
const traces: ReadonlyArray<readonly [string, RegExp]> = [
  ["a folder of one machine", /(?<![\w.}*)\]/-])\/(?:work|home|root|Users|mnt|tmp)\/[\w.-]/],
  ["a folder of one machine", /\b[A-Z]:\\(?:Users|Temp)\\/],
  ["a package registry", new RegExp("\\b" + "registry" + "\\.[a-z]+[a-z.]*", "i")],
  [
    "a package registry",
    new RegExp("\\bnpm" + "\\.pkg\\.|" + "verd" + "accio|arti" + "factory", "i"),
  ],
]

const found = (path: string, source: string): ReadonlyArray<string> =>
  source.split("\n").flatMap((line, index) =>
    traces.filter(([, pattern]) => pattern.test(line))
      .map(([name]) => `${path}:${index + 1} names ${name}: ${line.trim().slice(0, 120)}`)
  )

describe("a trace of the workplace", () => {
  it("is caught where one is planted", () => {
    const planted = [
      ["", "home", "me", "portfire"].join("/"),
      `cd ${["", "work", "main"].join("/")}`,
      `"file://${["", "tmp", "x.ts"].join("/")}"`.replace("file://", ""),
      ["C:", "Users", "me"].join("\\"),
      "https://" + ["registry", "example", "org"].join("."),
    ]
    for (const line of planted) assert.equal(found("a.ts", line).length, 1, line)
  })

  it("is not seen in ordinary words and paths", () => {
    for (const line of ["import a from './work/b.ts'", "`${folder}/tmp/x`", "the registry. Then"]) {
      assert.deepEqual(found("a.ts", line), [])
    }
  })

  it("is in no file of this repository", () => {
    const readable = files().filter((path) => !/\.(png|jpg|ico|woff2|tgz)$/.test(path))
    assert.deepEqual(readable.flatMap((path) => found(path, text(path))), [])
  })
})
