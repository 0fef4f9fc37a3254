/** Values made once per key; a bounded number is kept, and the oldest is forgotten for a new one. */

/** What was made, by key. */
export interface BoundedCache<K, V> {
  /** The value of a key, made if it isn't kept; `undefined` where there is none. */
  readonly get: (key: K) => V | undefined
}

/** A cache of at most `max` values. That a key has none is not kept. */
export const make = <K, V>(max: number, create: (key: K) => V | undefined): BoundedCache<K, V> => {
  const kept = new Map<K, V>()
  return {
    get: (key) => {
      const known = kept.get(key)
      if (known !== undefined) return known
      const created = create(key)
      if (created === undefined) return undefined
      if (kept.size >= max) kept.delete(kept.keys().next().value as K)
      kept.set(key, created)
      return created
    },
  }
}
