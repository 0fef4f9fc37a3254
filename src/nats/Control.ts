/**
 * Actor messages on core NATS: small MessagePack values, delivered at most once. What must not be
 * lost goes through the streams; this is for questions and for hints.
 */
import * as Effect from "effect/Effect"
import type { NatsConnection } from "nats"
import * as MessagePack from "../core/MessagePack.ts"
import * as Inbox from "./Inbox.ts"

/**
 * Asks everybody who listens on a subject, and gives the first answer that `pick` takes.
 *
 * `undefined` when nobody listens, when `expected` others have answered without such an answer, or
 * when the time is over. Never fails: a question whose answer gets lost counts as unanswered.
 */
export const ask = <A>(
  connection: NatsConnection,
  subject: string,
  question: unknown,
  options: {
    readonly expected: number
    readonly withinMillis: number
    readonly pick: (answer: unknown) => A | undefined
  },
): Effect.Effect<A | undefined> =>
  Effect.callback<A | undefined>((resume) => {
    const inbox = Inbox.make(connection)
    let answers = 0
    const finish = (result: A | undefined) => {
      clearTimeout(timer)
      subscription.unsubscribe()
      resume(Effect.succeed(result))
    }
    const subscription = connection.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null || message.headers?.code === 503) return finish(undefined)
        const found = options.pick(MessagePack.decodeOrNothing(message.data))
        if (found !== undefined || ++answers >= options.expected) finish(found)
      },
    })
    const timer = setTimeout(() => finish(undefined), options.withinMillis)
    try {
      connection.publish(subject, MessagePack.encode(question), { reply: inbox })
    } catch {
      finish(undefined)
    }
    return Effect.sync(() => {
      clearTimeout(timer)
      subscription.unsubscribe()
    })
  })

/**
 * Asks everybody who listens on a subject, and gives all answers that `pick` takes, in the order in
 * which they came.
 *
 * It waits for `expected` answers of any kind, at most `withinMillis`, and takes no more after these.
 * Never fails: an answer that gets lost is one that wasn't given.
 */
export const askAll = <A>(
  connection: NatsConnection,
  subject: string,
  question: unknown,
  options: {
    readonly expected: number
    readonly withinMillis: number
    readonly pick: (answer: unknown) => A | undefined
  },
): Effect.Effect<ReadonlyArray<A>> =>
  Effect.suspend(() => {
    const found: Array<A> = []
    const pick = (answer: unknown) => {
      const value = options.pick(answer)
      if (value !== undefined) found.push(value)
      return undefined
    }
    return Effect.as(ask(connection, subject, question, { ...options, pick }), found)
  })

/**
 * Whether an answer may go there. Who asks says where, and with our permissions: never to what is
 * stored or done by NATS itself.
 */
const mayAnswer = (reply: string | undefined): reply is string =>
  reply !== undefined && reply !== "" && !/^(\$|pf\.)/.test(reply)

/** What somebody's bytes make a listener throw must not reach the client, whose connection it ends. */
const harmless = <A>(work: () => A): A | undefined => {
  try {
    return work()
  } catch {
    return undefined
  }
}

/** Takes what is told on a subject until it is told to stop. A message that it throws for is left. */
export const listen = (
  connection: NatsConnection,
  subject: string,
  take: (content: unknown) => void,
): () => void => {
  const subscription = connection.subscribe(subject, {
    callback: (error, message) => {
      if (error === null) harmless(() => take(MessagePack.decodeOrNothing(message.data)))
    },
  })
  return () => subscription.unsubscribe()
}

/**
 * Answers questions on a subject until it is told to stop; `undefined` gives no answer, as does a
 * question that it throws for.
 */
export const answer = (
  connection: NatsConnection,
  subject: string,
  reply: (question: unknown) => unknown,
): () => void => {
  const subscription = connection.subscribe(subject, {
    callback: (error, message) => {
      const to = message.reply
      if (error !== null || !mayAnswer(to)) return
      harmless(() => {
        const value = reply(MessagePack.decodeOrNothing(message.data))
        if (value !== undefined) connection.publish(to, MessagePack.encode(value))
      })
    },
  })
  return () => subscription.unsubscribe()
}
