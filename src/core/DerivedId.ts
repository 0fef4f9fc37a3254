/**
 * Ids of jobs that one job makes, told by that job's id and a number: whoever makes them again, after
 * a crash in between, makes the same ones.
 */
import type { JobId } from "./JobId.ts"

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

/** How many ids can be derived from one. */
export const derivableIds: number = 32 ** 4

const digits = (value: number, count: number): string => {
  let out = ""
  for (let i = count - 1; i >= 0; i--) out += alphabet.charAt((value >>> (5 * i)) & 31)
  return out
}

/** Two hashes of a text, 32 bits each (cyrb53). */
const hash64 = (text: string): readonly [number, number] => {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 2_654_435_761)
    b = Math.imul(b ^ code, 1_597_334_677)
  }
  const high = Math.imul(a ^ (a >>> 16), 2_246_822_507) ^ Math.imul(b ^ (b >>> 13), 3_266_489_909)
  const low = Math.imul(b ^ (b >>> 16), 2_246_822_507) ^
    Math.imul(high ^ (high >>> 13), 3_266_489_909)
  return [high >>> 0, low >>> 0]
}

/** Up to 12 digits of a text's hash, 60 bits. */
export const hashDigits = (text: string, count: number): string => {
  const [high, low] = hash64(text)
  return (digits(high, 6) + digits(low, 6)).slice(0, count)
}

/**
 * The id of a job's `index`th one, from 0 to {@link derivableIds}: of the same time and in the same
 * partition as the job's own id, which has to be one that the engine makes. Different numbers give
 * different ids, in their order; between two jobs of one millisecond, 55 bits of a hash decide.
 */
export const derive = (id: JobId, index: number): JobId => {
  const [high, low] = hash64(id)
  return id.slice(0, 10) + digits(high, 6) + digits(low, 5) + digits(index, 4) + id.slice(25)
}
