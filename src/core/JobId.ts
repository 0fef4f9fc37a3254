/**
 * Ids that the engine makes: 26-character ULIDs (Crockford's base 32: 10 of time, 15 of chance) whose
 * last character names the partition. Ids of one process only grow, so jobs sort as they were made.
 */

/** Identity of a job: one that the engine made, or one that a caller chose. */
export type JobId = string

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
const engineId = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/

/** Whether the id has the form of those that the engine makes. */
export const isEngineId = (id: string): boolean => engineId.test(id)

/** Partition that an engine-made id names. */
export const partitionOf = (id: string): number => Math.max(0, alphabet.indexOf(id.charAt(25)))

/** A hash of a text in 32 bits (FNV-1a), the same everywhere. */
export const hash32 = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** Partition of any id, in a namespace of that many: engine-made ones name theirs. */
export const partitionIn = (id: string, partitions: number): number =>
  isEngineId(id) ? partitionOf(id) : hash32(id) % partitions

/** Time at which an engine-made id was made, in milliseconds since 1970. */
export const timeOf = (id: string): number => {
  let time = 0
  for (let i = 0; i < 10; i++) time = time * 32 + alphabet.indexOf(id.charAt(i))
  return time
}

/** The digits of an instant (ms since 1970) with which an id begins. */
export const encodeTime = (millis: number): string => {
  let rest = millis
  let out = ""
  for (let i = 0; i < 10; i++) {
    out = alphabet.charAt(rest % 32) + out
    rest = Math.floor(rest / 32)
  }
  return out
}

/**
 * Makes a generator of ids. The time part never goes back, and within one millisecond the random
 * part is counted up, so that one generator's ids are distinct and sorted even when the clock jumps.
 */
export const makeGenerator = (now: () => number = Date.now): (partition: number) => JobId => {
  let lastTime = -1
  let prefix = ""
  // The random part as three numbers of five base-32 digits (25 bits) each.
  let high = 0
  let middle = 0
  let low = 0
  let headText = ""
  const random = new Uint32Array(3)
  const limit = 1 << 25
  const digits = (value: number): string =>
    alphabet.charAt((value >>> 20) & 31) + alphabet.charAt((value >>> 15) & 31) +
    alphabet.charAt((value >>> 10) & 31) + alphabet.charAt((value >>> 5) & 31) +
    alphabet.charAt(value & 31)
  const reseed = () => {
    crypto.getRandomValues(random)
    // The top bit stays clear: room to count up without leaving the fifteen digits.
    high = (random[0] as number) & (limit / 2 - 1)
    middle = (random[1] as number) & (limit - 1)
    low = (random[2] as number) & (limit - 1)
    headText = prefix + digits(high) + digits(middle)
  }
  return (partition) => {
    const time = now()
    if (time > lastTime) {
      lastTime = time
      prefix = encodeTime(time)
      reseed()
    } else if (++low === limit) {
      low = 0
      if (++middle === limit) {
        middle = 0
        high++
      }
      headText = prefix + digits(high) + digits(middle)
    }
    return headText + digits(low) + alphabet.charAt(partition)
  }
}
