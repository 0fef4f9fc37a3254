/**
 * The import law: imports point down, siblings leave each other alone, nothing goes in circles, and
 * what binds the code to one client, one runtime or one unstable module stays where it belongs.
 */

/** What the checker has to know beside the sources. */
export interface Facts {
  /** Packages a published file may import. */
  readonly dependencies: ReadonlySet<string>
  /** Packages that tests, benchmarks and examples may import in addition. */
  readonly devDependencies: ReadonlySet<string>
  /** Whether a module such as `effect/Queue` is tagged stable. */
  readonly isStable: (specifier: string) => boolean
}

const floors: ReadonlyArray<readonly [RegExp, number]> = [
  [/^src\/core\//, 0],
  [/^src\/nats\//, 1],
  [/^src\/client\//, 2],
  [/^src\/(dashboard|cli|testing)\//, 3],
  [/^actors\/promise\//, 5],
  [/^actors\//, 4],
  [/^mod\.ts$/, 5],
]

const floorOf = (path: string): number | undefined =>
  floors.find(([pattern]) => pattern.test(path))?.[1]

const siblingOf = (path: string): string | undefined =>
  /^(src\/(?:dashboard|cli|testing)\/|actors\/promise\/|mod\.ts$)/.exec(path)?.[1]

/** Files that may name the globals of Bun and Deno. */
const edges = /^(actors\/main\.ts|src\/nats\/(Embedded|Server)\w*\.ts|src\/testing\/|examples\/)/

/** Folders whose code knows neither a machine nor an unstable module. */
const portable = /^(src\/core|src\/client|actors\/kit)\//

const staticImport = /^(?:import|export)\b[^"'`;]*?(?:\bfrom\s*)?"([^"\n]+)"/gm
const dynamicImport = /^(?!\s*(?:\*|\/\/)).*?\bimport\(\s*"([^"\n]+)"/gm

/** The specifiers a source imports, in order. */
export const importsOf = (source: string): ReadonlyArray<string> =>
  [staticImport, dynamicImport].flatMap((pattern) =>
    [...source.matchAll(pattern)]
      .filter(([statement]) => /\bfrom\s*"|^import\s*"|\bimport\(/.test(statement))
      .map((found) => found[1] as string)
  )

const globals = /(?<![\w$."'`])(?:globalThis\.)?(Bun|Deno)(?=\s*(\?\.|[.[]))/
const commentsAndStrings = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"/g

const resolve = (from: string, specifier: string): string => {
  const parts = from.split("/").slice(0, -1)
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop()
    else if (part !== ".") parts.push(part)
  }
  return parts.join("/")
}

const packageOf = (specifier: string): string =>
  specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")

/** Every breach of the law in the sources, as one sentence each; `sources` maps path to text. */
export const breaches = (
  sources: ReadonlyMap<string, string>,
  facts: Facts,
): ReadonlyArray<string> => {
  const found: Array<string> = []
  const graph = new Map<string, ReadonlyArray<string>>()
  for (const [path, source] of sources) {
    const own: Array<string> = []
    for (const specifier of importsOf(source)) {
      const fault = /^\.{1,2}\//.test(specifier)
        ? local(path, resolve(path, specifier), specifier)
        : foreign(path, specifier, facts)
      if (fault !== undefined) found.push(`${path} imports ${specifier}: ${fault}`)
      if (specifier.startsWith(".")) own.push(resolve(path, specifier))
    }
    graph.set(path, own)
    if (floorOf(path) === undefined || edges.test(path)) continue
    const name = globals.exec(source.replace(commentsAndStrings, '""'))?.[1]
    if (name !== undefined) found.push(`${path} names the global ${name}`)
  }
  return [...found, ...circles(graph)]
}

const local = (from: string, to: string, specifier: string): string | undefined => {
  const [mine, theirs] = [floorOf(from), floorOf(to)]
  if (!/\.(ts|mjs|json)$/.test(specifier)) return "a specifier ends with the file's extension"
  if (mine === undefined) return undefined
  if (theirs === undefined) return "it is not published"
  if (theirs > mine) return "imports point down"
  if (siblingOf(from) !== undefined && mine === theirs && siblingOf(from) !== siblingOf(to)) {
    return "siblings do not import each other"
  }
  if (/^actors\/kit\//.test(from) && !/^(actors\/kit|src\/core)\//.test(to)) {
    return "the kit knows only itself and the core"
  }
  return undefined
}

const foreign = (from: string, specifier: string, facts: Facts): string | undefined => {
  const published = floorOf(from) !== undefined
  if (specifier.startsWith("node:")) {
    return portable.test(from) ? "this folder knows no machine" : undefined
  }
  const name = packageOf(specifier)
  if (!facts.dependencies.has(name) && (published || !facts.devDependencies.has(name))) {
    return "it is not a declared dependency"
  }
  if (specifier === "effect") return "modules of effect are imported one by one"
  if (name === "nats" && published && !from.startsWith("src/nats/")) {
    return "only src/nats knows the NATS client"
  }
  const careful = /^(src\/(core|nats|client)|actors\/kit)\//.test(from)
  if (name === "effect" && careful && !facts.isStable(specifier)) return "it is not stable"
  return undefined
}

/** Each circle once, named by its path. */
const circles = (graph: ReadonlyMap<string, ReadonlyArray<string>>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const done = new Set<string>()
  const visit = (path: string, trail: ReadonlyArray<string>): void => {
    const start = trail.indexOf(path)
    if (start >= 0) found.push(`imports in a circle: ${[...trail.slice(start), path].join(" > ")}`)
    if (start >= 0 || done.has(path)) return
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of graph.keys()) visit(path, [])
  return found
}
