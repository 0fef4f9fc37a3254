/**
 * The children of one supervisor in start order, and what a strategy does to them: starting,
 * stopping and restarting a group in order, each step told of.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Child from "./Child.ts"
import type * as Report from "./Report.ts"

/**
 * Who is restarted with a child that has to be: it alone, all children, or it and those that were
 * started after it. Siblings are stopped right to left, then all are started left to right.
 */
export type Strategy = "oneForOne" | "oneForAll" | "restForOne"

/** The children and what their acts need. */
export interface Children {
  /** In start order. */
  readonly list: Array<Child.Child>
  /** Who goes with whom. */
  readonly strategy: Strategy
  /** What the children find as their parent. */
  readonly parent: Report.Parent
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
  readonly child: Child.Child
  readonly exit: Exit.Exit<unknown, unknown>
}

/** The child with this id. */
export const find = (children: Children, id: string): Child.Child | undefined =>
  children.list.find((child) => child.spec.id === id)

/** Forgets the child. */
export const remove = (children: Children, child: Child.Child): void => {
  const index = children.list.indexOf(child)
  if (index >= 0) children.list.splice(index, 1)
}

const groupOf = (
  { list, strategy }: Children,
  culprit: Child.Child,
): ReadonlyArray<Child.Child> => {
  switch (strategy) {
    case "oneForOne":
      return [culprit]
    case "oneForAll":
      return [...list]
    case "restForOne":
      return list.slice(list.indexOf(culprit))
  }
}

/** Starts one child and tells how it went; `because` names the culprit if this is a restart. */
export const launch: (
  children: Children,
  child: Child.Child,
  because?: string,
) => Effect.Effect<Failed | undefined> = Effect.fnUntraced(
  function* ({ onExit, parent, tell }, child, because) {
    const about = { child: child.spec.id, type: child.spec.type }
    const exit = yield* Child.launch(child, parent, (alive, exit) => onExit(child, alive, exit))
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
      if (child.spec.restart === "temporary") remove(children, child)
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
    children.list.toReversed(),
    (child) => Child.stop(child, children.tell),
    { concurrency: concurrent ? "unbounded" : 1, discard: true },
  )
