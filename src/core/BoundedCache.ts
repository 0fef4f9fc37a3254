/** A map that keeps what was made for the keys last added, and forgets the oldest. */

/** What `get` gives for a key, made by `make` where it isn't kept; `undefined` is not kept. */
export interface BoundedCache<K, V> {
  /** The value of a key. */
  readonly get: (key: K) => V | undefined
}

/** A cache of at most `max` values. `make` answers `undefined` for a key that has none. */
export const make = <K, V>(
  max: number,
  make: (key: K) => V | undefined,
): BoundedCache<K, V> => {
  const kept = new Map<K, V>()
  return {
    get: (key) => {
      const known = kept.get(key)
      if (known !== undefined) return known
      const made = make(key)
      if (made === undefined) return undefined
      if (kept.size >= max) kept.delete(kept.keys().next().value as K)
      kept.set(key, made)
      return made
    },
  }
}
