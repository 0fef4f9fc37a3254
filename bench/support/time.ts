/** Waiting, in milliseconds. */

/** Resolves after `millis`. */
export const sleep = (millis: number): Promise<void> =>
  new Promise((done) => setTimeout(done, millis))

/** Resolves with the first value that isn't `undefined`; looks every `every` ms. */
export const until = async <A>(
  look: () => Promise<A | undefined> | A | undefined,
  every: number,
): Promise<A> => {
  while (true) {
    const found = await look()
    if (found !== undefined) return found
    await sleep(every)
  }
}

/** Collects garbage where the runtime can be asked to, so that no run pays for the one before. */
export const collectGarbage = async (): Promise<void> => {
  const { Bun, gc } = globalThis as {
    readonly Bun?: { readonly gc: (synchronous: boolean) => void }
    readonly gc?: () => void
  }
  if (Bun !== undefined) Bun.gc(true)
  else gc?.()
  await sleep(0)
}

/** The promise's result; an error that names `what` when there is none within `millis`. */
export const within = async <A>(promise: Promise<A>, millis: number, what: string): Promise<A> => {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    const text = `${what}: not done within ${millis / 1_000} s`
    timer = setTimeout(() => reject(new Error(text)), millis)
  })
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
