/**
 * A state, a bounded mailbox and a handler that takes one message at a time: OTP's `gen_server`.
 *
 * An actor is an address that outlives its runs. `child` is the spec of a run: as a supervisor
 * starts it again after a crash, the actor gets a fresh state and an empty mailbox under the same
 * address. Messages that were waiting are lost with the run, as in OTP: one of them may be what
 * killed it. Asks that had no reply fail.
 *
 * Guarantee: every `ask` ends, with a reply, with `ActorStopped`, or with `AskTimedOut`.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type * as ChildSpec from "./ChildSpec.ts"
import { ActorStopped, AskTimedOut } from "./errors.ts"

/** How a handler answers an ask. Only the first answer counts. */
export interface Reply<in A, in E = never> {
  /** Answers with a value. */
  readonly succeed: (value: A) => Effect.Effect<void>
  /** Answers with a failure; the actor lives on. */
  readonly fail: (error: E) => Effect.Effect<void>
}

/** How an actor is made. */
export interface Options<State, Message, E, R> {
  /** Its name, and the id of its child spec. */
  readonly id: string
  /** Messages that may wait before `tell` and `ask` wait too; default 1,000. */
  readonly capacity?: number
  /** Makes the first state of each run; what it acquires is released at the end of the run. */
  readonly init: Effect.Effect<State, E, R | Scope.Scope>
  /** Makes the next state out of a state and a message. If it fails, the actor crashes. */
  readonly handle: (state: State, message: Message) => Effect.Effect<State, E, R>
  /** Default `permanent`. */
  readonly restart?: ChildSpec.Restart
  /** Default 5 seconds. */
  readonly shutdown?: ChildSpec.Shutdown
}

/** The address of an actor. */
export interface Actor<in Message, out R = never> {
  /** Its name. */
  readonly id: string
  /** What a supervisor runs; an address has one run at a time. */
  readonly child: ChildSpec.ChildSpec<R>
  /**
   * Puts a message into the mailbox, waiting while that is full. A handler that tells its own actor
   * can therefore wait for itself.
   */
  readonly tell: (message: Message) => Effect.Effect<void, ActorStopped>
  /**
   * Sends a message that holds a `Reply`, and waits for it: by default 5 seconds, the time in a full
   * mailbox included.
   */
  readonly ask: <A, E = never>(
    message: (reply: Reply<A, E>) => Message,
    timeout?: Duration.Input,
  ) => Effect.Effect<A, E | ActorStopped | AskTimedOut>
  /** Messages that wait; 0 while the actor does not run. */
  readonly size: Effect.Effect<number>
}

interface Run<Message> {
  readonly mailbox: Queue.Queue<Message>
  readonly refusals: Set<() => void>
}

/**
 * Makes an actor, which runs as soon as a supervisor starts its `child`.
 *
 * @example
 * ```ts ignore
 * type Message = { readonly add: number } | { readonly get: Actor.Reply<number> }
 * const counter = Actor.make({
 *   id: "counter",
 *   init: Effect.succeed(0),
 *   handle: (count, message: Message) =>
 *     "add" in message
 *       ? Effect.succeed(count + message.add)
 *       : Effect.as(message.get.succeed(count), count),
 * })
 * yield* Supervisor.start({ id: "root", children: [counter.child] })
 * yield* counter.tell({ add: 2 })
 * const count = yield* counter.ask<number>((get) => ({ get }))
 * ```
 */
export const make = <State, Message, E, R>(
  options: Options<State, Message, E, R>,
): Actor<Message, R> => {
  const { capacity = 1_000, handle, id, init, restart = "permanent", shutdown = "5 seconds" } =
    options
  const stopped = Effect.suspend(() => Effect.fail(new ActorStopped({ actor: id })))
  let run: Run<Message> | undefined

  const start = Effect.gen(function* () {
    let state = yield* init
    const mailbox = yield* Queue.bounded<Message>(capacity)
    const current: Run<Message> = { mailbox, refusals: new Set() }
    run = current
    // Registered last, so it comes before what `init` acquired is released.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        Queue.shutdownUnsafe(mailbox)
        for (const refuse of current.refusals) refuse()
      })
    )
    return Effect.gen(function* () {
      while (true) state = yield* handle(state, yield* Queue.take(mailbox))
    })
  })

  const tell = (message: Message): Effect.Effect<void, ActorStopped> =>
    Effect.suspend(() =>
      run === undefined
        ? stopped
        : Effect.flatMap(Queue.offer(run.mailbox, message), (sent) => sent ? Effect.void : stopped)
    )

  const ask = <A, Failure = never>(
    message: (reply: Reply<A, Failure>) => Message,
    timeout: Duration.Input = "5 seconds",
  ): Effect.Effect<A, Failure | ActorStopped | AskTimedOut> =>
    Effect.suspend(() => {
      if (run === undefined) return stopped
      const { refusals } = run
      const deferred = Deferred.makeUnsafe<A, Failure | ActorStopped>()
      const refuse = (): unknown => Deferred.doneUnsafe(deferred, stopped)
      refusals.add(refuse)
      const reply: Reply<A, Failure> = {
        succeed: (value) => Effect.asVoid(Deferred.succeed(deferred, value)),
        fail: (error) => Effect.asVoid(Deferred.fail(deferred, error)),
      }
      const waited = Duration.toMillis(timeout)
      return tell(message(reply)).pipe(
        Effect.andThen(Deferred.await(deferred)),
        Effect.timeoutOrElse({
          duration: waited,
          orElse: () => Effect.fail(new AskTimedOut({ actor: id, waited })),
        }),
        Effect.ensuring(Effect.sync(() => refusals.delete(refuse))),
      )
    })

  const size = Effect.sync(() => run === undefined ? 0 : Queue.sizeUnsafe(run.mailbox))
  return { id, child: { id, start, restart, shutdown }, tell, ask, size }
}
