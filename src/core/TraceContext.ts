/**
 * W3C trace context: a span's identity as the text `traceparent`, which travels with a job from its
 * enqueue to its attempts. https://www.w3.org/TR/trace-context/
 */

/** The part of a span that others may refer to. */
export interface TraceParent {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string
  /** 16 lower-case hex digits, not all zero. */
  readonly spanId: string
  /** Whether the span is being recorded. */
  readonly sampled: boolean
}

/** Name under which it stands in a job's context. */
export const key = "traceparent"

/** Version, trace, span, flags; versions after 00 may say more, behind another dash. */
const form = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const traceIds = /^[0-9a-f]{32}$/
const spanIds = /^[0-9a-f]{16}$/
const zeros = /^0+$/

/** Reads a `traceparent`; `undefined` for anything that the standard tells to ignore. */
export const parse = (text: string): TraceParent | undefined => {
  const [, version, traceId = "", spanId = "", flags = "", more] = form.exec(text) ?? []
  if (version === undefined || version === "ff") return undefined
  if (version === "00" && more !== undefined) return undefined
  if (zeros.test(traceId) || zeros.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}

/**
 * Writes a `traceparent`; `undefined` for a span without an identity, such as one that was left out of
 * tracing. A trace id of 64 bits, as older systems have, is filled up with zeros.
 */
export const print = ({ sampled, spanId, traceId }: TraceParent): string | undefined => {
  const trace = traceId.padStart(32, "0")
  return traceIds.test(trace) && spanIds.test(spanId) && !zeros.test(trace) && !zeros.test(spanId)
    ? `00-${trace}-${spanId}-${sampled ? "01" : "00"}`
    : undefined
}
