/**
 * How long what a newer engine has made is put off before this one meets it again. Its bytes stay as
 * they are, so how often that was is remembered here: the longer nobody who can read it turns up, the
 * rarer it is tried.
 */
/** Messages of which that is remembered. */
const remembered = 10_000

const shortest = 1_000
const longest = 300_000

const hashOf = (bytes: Uint8Array): number => {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash
}

interface Bounce {
  readonly hash: number
  readonly times: number
}

/** Makes the memory of a process: gives the time in ms for which a job's message is put off. */
export const make = (): (id: string, bytes: Uint8Array) => number => {
  const bounces = new Map<string, Bounce>()
  return (id, bytes) => {
    const hash = hashOf(bytes)
    const before = bounces.get(id)
    // Other bytes: somebody who can read them has been there meanwhile.
    const times = before?.hash === hash ? before.times + 1 : 0
    bounces.delete(id)
    if (bounces.size >= remembered) bounces.delete(bounces.keys().next().value as string)
    bounces.set(id, { hash, times })
    return Math.min(longest, shortest * 2 ** Math.min(20, times))
  }
}
