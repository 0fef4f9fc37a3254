/** How a run of the torture is set up. */

/** What a run is told. */
export interface Options {
  /** Says which faults come when, and what producers do. */
  readonly seed: number
  /** How long faults go on, in ms. */
  readonly millis: number
  /** Names of the faults to choose from; all that fit the topology when it is empty. */
  readonly only: ReadonlyArray<string>
  /** Three NATS servers and three replicas instead of one. */
  readonly cluster: boolean
  /** The runtime of each server. */
  readonly runtimes: ReadonlyArray<Runtime>
  readonly producers: number
  /** Mean time between two calls of a lane of a producer, in ms; each has four lanes. */
  readonly pauseMillis: number
  /** Longest time in which everything must have settled after the last fault, in ms. */
  readonly settleMillis: number
  /** Told of everything that begins and ends. */
  readonly say: (text: string) => void
}

/** How a program is run. */
export interface Runtime {
  readonly name: string
  /** Command and first arguments; the file follows. */
  readonly command: ReadonlyArray<string>
}

/** Time without a sign of life after which a job goes to another server, in ms. */
export const ackWaitMillis = 2_000

/** What `AlarmMillis` is set to. */
export const alarmMillis = 5_000

/** Time that attempts get when a server stops, in ms. */
export const graceMillis = 2_000
