/** The numbers that bound everything, in one place, each with its reason. */

/** Longest queue name, group and caller-chosen id. The longest subject stays below the server's 255. */
export const maxNameLength = 64

/** Most messages that one atomic JetStream batch holds. */
export const maxAtomicBatch = 1_000

/** Latest instant the server's schedules can keep: it counts nanoseconds in 64 bits. */
export const maxInstantMillis: number = Date.UTC(2262, 0, 1)

/**
 * Longest delay of a retry policy, time limit and the like, in milliseconds: a hundred years. Twice
 * as long, as jitter can make it, still ends before {@link maxInstantMillis}.
 */
export const maxDelayMillis: number = 36_525 * 86_400_000

/** Room that headers and the job's own envelope may take beside payload and result, in bytes. */
export const envelopeReserve: number = 64 * 1024

/** Most bytes of the context that travels with a job, its keys and values together. */
export const maxContextBytes: number = 8 * 1024

/** Attempts kept at the beginning and at the end of a job's history; those between are dropped. */
export const keptAttempts = 5

/** Parents of one job. Their ids lie in its message. */
export const maxParents = 1_000

/** Elements of a list for each of which a workflow makes a job. */
export const maxElements = 10_000

/** Characters kept of an error's message and of its stack. */
export const maxMessageLength = 2_000
/** See {@link maxMessageLength}. */
export const maxStackLength = 4_000

/** Lost leases after which a job is parked as failed: it kills what runs it. */
export const maxLostLeases = 5

/** Lost leases from which on a job runs alone in its process. */
export const isolateFrom = 3

/** Most running jobs that a server lists when it is asked what it runs. */
export const maxDescribed = 1_000

/** Largest payload in bytes for a server that takes messages of `maxPayload` bytes (W15). */
export const payloadLimit = (maxPayload: number): number =>
  Math.max(1_024, Math.floor(maxPayload / 2) - envelopeReserve)
