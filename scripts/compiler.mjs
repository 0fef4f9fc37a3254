// Calls the TypeScript compiler: once to build for npm, once to check the types as Bun has them.

import { spawnSync } from "node:child_process"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { root } from "./setup.mjs"

// What every call asks of the compiler.
const strictness = [
  "--ignoreConfig",
  "--target es2023",
  "--lib es2024,dom,dom.asynciterable,esnext.disposable",
  "--module nodenext",
  "--strict",
  "--exactOptionalPropertyTypes",
  "--noUncheckedIndexedAccess",
  "--noImplicitOverride",
  "--verbatimModuleSyntax",
  "--erasableSyntaxOnly",
  "--isolatedDeclarations",
  "--declaration",
  "--skipLibCheck",
].flatMap((flag) => flag.split(" "))

const emission = [
  "--rootDir .",
  "--outDir dist",
  "--types node",
  "--rewriteRelativeImportExtensions",
  "--declarationMap",
  "--sourceMap",
  "--stripInternal",
].flatMap((flag) => flag.split(" "))

// The sources of the package's entry points.
function doors() {
  return Object.values(JSON.parse(readFileSync(join(root, "deno.json"), "utf8")).exports)
}

function tsc(...args) {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc")
  const { status, stdout, error } = spawnSync(
    process.execPath,
    [compiler, ...strictness, ...args],
    { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
  )
  if (error) throw error
  return { good: status === 0, complaints: stdout }
}

/** Builds dist/ from the entry points: JavaScript, types and source maps. Answers `{ good, complaints }`. */
export function build() {
  rmSync(join(root, "dist"), { recursive: true, force: true })
  return tsc(...doors(), ...emission)
}

/**
 * Checks the entry points in a program that has the types of Bun, whose globals differ from those of
 * Node and Deno. Bun's types change the globals of all they are compiled with: hence a call of its own.
 */
export function checkForBun() {
  return tsc(...doors(), "--noEmit", "--allowImportingTsExtensions", "--types", "bun-types")
}
