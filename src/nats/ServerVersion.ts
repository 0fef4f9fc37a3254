/** Which NATS servers the engine runs on. */

/** What is needed, in words. */
export const wanted = "version 2.12 or newer is needed, 2.14 or newer is preferred"

const atLeast = (version: string, wantedMinor: number): boolean => {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? []
  return Number(major) > 2 || (Number(major) === 2 && Number(minor) >= wantedMinor)
}

/** True from 2.12 on: message schedules, atomic batches, conditions by filter. */
export const isSupported = (version: string): boolean => atLeast(version, 12)

/** True from 2.14 on. */
export const isPreferred = (version: string): boolean => atLeast(version, 14)
