// Which handler answers which path, and where: on this node, on any manager, or on the leader only.

import type { Call } from './call.ts'
import type { ManagerState } from './node-state.ts'

type Handle<Context extends unknown[]> = (call: Call, ...context: Context) => Promise<void>

export type Route =
  /** answered here, whatever this node is */
  | { readonly place: 'node'; readonly method: string; readonly path: string; readonly handle: Handle<[]> }
  /** answered by any manager, from its own state once that has caught up */
  | {
      readonly place: 'manager'
      readonly method: string
      readonly path: string
      readonly handle: Handle<[ManagerState]>
    }
  /** answered by the leader; other managers forward */
  | {
      readonly place: 'leader'
      readonly method: string
      readonly path: string
      readonly handle: Handle<[ManagerState]>
    }

export interface Match {
  readonly route: Route
  readonly id: string
}

interface Node {
  readonly children: Map<string, Node>
  any: Node | undefined
  readonly routes: Map<string, Route>
}

function newNode(): Node {
  return { children: new Map(), any: undefined, routes: new Map() }
}

/** Paths under these are never passed to the engine, whether a route fits or not. */
const OWN = new Set(['swarm', 'services', 'tasks', 'nodes', 'secrets', 'configs', 'swarmd'])

export class Router {
  readonly #root = newNode()

  constructor(routes: readonly Route[]) {
    for (const route of routes) {
      let node = this.#root
      for (const part of route.path.slice(1).split('/')) {
        if (part === '{id}') {
          node.any ??= newNode()
          node = node.any
          continue
        }
        const next = node.children.get(part) ?? newNode()
        node.children.set(part, next)
        node = next
      }
      node.routes.set(route.method, route)
    }
  }

  /** Fixed parts win over `{id}`, as /services/create over /services/{id}. */
  match(method: string, path: string): Match | undefined {
    const parts = path.slice(1).split('/')
    return walk(this.#root, parts, 0, '', method)
  }

  isOwn(path: string): boolean {
    return OWN.has(path.split('/')[1] ?? '')
  }
}

function walk(node: Node, parts: readonly string[], at: number, id: string, method: string): Match | undefined {
  const part = parts[at]
  if (part === undefined) {
    const route = node.routes.get(method)
    return route === undefined ? undefined : { route, id }
  }
  const child = node.children.get(part)
  const fixed = child === undefined ? undefined : walk(child, parts, at + 1, id, method)
  if (fixed !== undefined || node.any === undefined || part === '') return fixed
  return walk(node.any, parts, at + 1, decodePart(part), method)
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
