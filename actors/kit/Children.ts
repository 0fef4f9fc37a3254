/**
 * The children of one supervisor in start order, and what a strategy does to them: starting,
 * stopping and restarting a group in order, each step told of.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Child from "./Child.ts"

/**
 * Who is restarted with a child that has to be: it alone, all children, or it and those that were
 * started after it. Siblings are stopped right to left, then all are started left to right.
 */
export type Strategy = "oneForOne" | "oneForAll" | "restForOne"

/** The children and what their acts need. */
export interface Children {
  /** By id, in start order. */
  readonly byId: Map<string, Child.Child>
  /** Who goes with whom. */
  readonly strategy: Strategy
  /** Takes what happens. */
  readonly tell: Child.Tell
  /** Takes each end of a child's fiber, whoever caused it. */
  readonly onExit: (
    child: Child.Child,
    alive: Child.Alive,
    exit: Exit.Exit<unknown, unknown>,
  ) => void
}

/** A child that ended while it initialised. */
export interface Failed {
  /** Which. */
  readonly child: Child.Child
  /** How. */
  readonly exit: Exit.Exit<unknown, unknown>
}

/** The children in start order. */
export const inOrder = (children: Children): Array<Child.Child> => [...children.byId.values()]

const groupOf = (children: Children, culprit: Child.Child): Array<Child.Child> => {
  if (children.strategy === "oneForOne") return [culprit]
  const all = inOrder(children)
  return children.strategy === "oneForAll" ? all : all.slice(all.indexOf(culprit))
}

/** Starts one child and tells how it went; `because` names the culprit if this is a restart. */
export const launch: (
  children: Children,
  child: Child.Child,
  because?: string,
) => Effect.Effect<Failed | undefined> = Effect.fnUntraced(
  function* ({ onExit, tell }, child, because) {
    const about = { child: child.spec.id, type: child.spec.type }
    const exit = yield* Child.launch(child, (alive, exit) => onExit(child, alive, exit))
    if (Exit.isFailure(exit)) {
      child.state = Child.terminated
      tell({ _tag: "ChildStartFailed", ...about, exit, restarting: because !== undefined })
      return { child, exit }
    }
    if (because === undefined) tell({ _tag: "ChildStarted", ...about })
    else tell({ _tag: "ChildRestarted", ...about, because })
  },
)

/**
 * Stops those that go with the culprit, right to left, and forgets the temporary ones among them.
 * The culprit, which has ended already, keeps its state.
 */
export const stopGroup: (children: Children, culprit: Child.Child) => Effect.Effect<void> = Effect
  .fnUntraced(function* (children, culprit) {
    for (const child of groupOf(children, culprit).toReversed()) {
      if (child === culprit) continue
      yield* Child.stop(child, children.tell)
      if (child.spec.restart === "temporary") children.byId.delete(child.spec.id)
    }
  })

/** Starts those that go with the culprit, left to right, up to the first that fails. */
export const startGroup: (
  children: Children,
  culprit: Child.Child,
) => Effect.Effect<Failed | undefined> = Effect.fnUntraced(function* (children, culprit) {
  for (const child of groupOf(children, culprit)) {
    const failed = yield* launch(children, child, culprit.spec.id)
    if (failed !== undefined) return failed
  }
})

/** Stops all children, one after the other from the right, or all at once. */
export const stopAll = (children: Children, concurrent: boolean): Effect.Effect<void> =>
  Effect.forEach(
    inOrder(children).toReversed(),
    (child) => Child.stop(child, children.tell),
    { concurrency: concurrent ? "unbounded" : 1, discard: true },
  )
