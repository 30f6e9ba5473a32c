// What `GET /swarmd/why` answers: why a task, a service or a node is as it is. Names as Docker writes its JSON.

export interface WhyJson {
  readonly Kind: WhyKind
  readonly ID: string
  readonly Name: string
  /** One line: how it is now. */
  readonly Now: string
  /** Why, a sentence each, the weightiest first. */
  readonly Because: readonly string[]
  /** What will be done without anybody's help, and when at the latest. */
  readonly Waits: readonly WhyWaitJson[]
  /** What the scheduler finds now for what has no node yet; absent where nothing waits for one. */
  readonly Placement?: WhyPlacementJson
  /** What led there, oldest first; the newest that `limit` allows. */
  readonly History: readonly WhyEventJson[]
}

export type WhyKind = 'task' | 'service' | 'node'

export interface WhyWaitJson {
  readonly For: string
  /** RFC 3339 */
  readonly Until: string
}

export interface WhyPlacementJson {
  /** Tasks that wait for a node. */
  readonly Waiting: number
  /** Nodes that were considered, and those of them that would do. */
  readonly Nodes: number
  readonly Fit: number
  /** For each node that will not do the first filter that refuses it; the most frequent first. */
  readonly Refusals: readonly { readonly Reason: string; readonly Nodes: number }[]
  /** Node by node; at most 50. */
  readonly Candidates: readonly WhyCandidateJson[]
}

export interface WhyCandidateJson {
  readonly ID: string
  readonly Hostname: string
  /** Empty: the node would do. */
  readonly Reason: string
  readonly Detail: string
  /** Tasks of the service on the node, and of all services. */
  readonly ServiceTasks: number
  readonly Tasks: number
}

export interface WhyEventJson {
  /** RFC 3339 */
  readonly Time: string
  /** Who did it: "scheduler", "updater", "restart supervisor", "orchestrator", "node NAME" … */
  readonly By: string
  /** The task it was done to, as `service.slot`; empty: none. */
  readonly Task: string
  readonly TaskID: string
  readonly What: string
}
