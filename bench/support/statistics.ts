/** Medians, spread and percentiles. */

const sorted = (values: Iterable<number>): ReadonlyArray<number> =>
  [...values].sort((a, b) => a - b)

const at = (ordered: ReadonlyArray<number>, share: number): number =>
  ordered[Math.max(0, Math.min(ordered.length - 1, Math.ceil(share * ordered.length) - 1))] ??
    Number.NaN

/** The value below or at which a share (0 to 1) of the values lie, by nearest rank. */
export const percentile = (values: Iterable<number>, share: number): number =>
  at(sorted(values), share)

/** What a set of measurements is reported as. */
export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** The middle value (of two, their mean), the smallest and the largest. */
export const summarize = (values: Iterable<number>): Summary => {
  const ordered = sorted(values)
  const middle = ordered.length / 2
  const median = Number.isInteger(middle)
    ? ((ordered[middle - 1] ?? Number.NaN) + (ordered[middle] ?? Number.NaN)) / 2
    : ordered[Math.floor(middle)] ?? Number.NaN
  return { median, min: at(ordered, 0), max: at(ordered, 1) }
}

/** Half of the distance between smallest and largest, as a share of the median. */
export const spread = ({ max, median, min }: Summary): number => (max - min) / 2 / median

/** A distribution of durations in ms. */
export interface Distribution {
  readonly samples: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

/** The percentiles that a latency is reported with. */
export const distribution = (values: ReadonlyArray<number>): Distribution => {
  const ordered = sorted(values)
  return {
    samples: ordered.length,
    p50: at(ordered, 0.5),
    p95: at(ordered, 0.95),
    p99: at(ordered, 0.99),
    p999: at(ordered, 0.999),
    max: at(ordered, 1),
  }
}

/** Growth of `y` per unit of `x`: the slope of the line of least squares. */
export const slope = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const covariance = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  const variance = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
  return covariance / variance
}
