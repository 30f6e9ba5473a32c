// Nodes: labels, availability, promotion and demotion with their safeguards, removal, list.

import type { Node, Task } from '../../api/objects.ts'
import { compareTaskStates, type NodeSpec } from '../../api/spec.ts'
import { managerRefusal, refusal } from '../../api/validation/refusal.ts'
import { formatTime } from '../../lib/clock.ts'
import { type Change, MAX_CHANGES_PER_ENTRY, type StoreView } from '../store/types.ts'
import { type ControlContext, outOfSequence, proposeCurrent, proposeRemoval } from './context.ts'
import { beginsWithOne, type Filters, hasLabels } from './filters.ts'
import { find } from './lookup.ts'
import type { ManagerSight } from './render.ts'

/** Managers that would be left if this one went. A follower knows little of the others: it takes them for reachable. */
export function quorumWithout(
  view: StoreView,
  nodeId: string,
  sight: ManagerSight,
): { readonly managers: number; readonly reachable: number; readonly keepsQuorum: boolean } {
  const managers = view.list('node').filter((node) => node.manager !== undefined)
  const others = managers.filter((node) => node.id !== nodeId)
  const reachable = others.filter((node) => sight.leaderId === node.id || sight.reachability(node.id) !== 'unreachable')
  const quorum = Math.floor(others.length / 2) + 1
  return { managers: managers.length, reachable: reachable.length, keepsQuorum: reachable.length >= quorum }
}

export async function updateNode(
  context: ControlContext,
  sight: ManagerSight,
  input: string,
  version: number,
  spec: NodeSpec,
): Promise<void> {
  await proposeCurrent(context, (view) => {
    const current = find(view, 'node', input)
    if (current.spec.Role === 'manager' && spec.Role === 'worker') checkDemotion(view, sight, current)
    if (version !== current.meta.version) throw outOfSequence()
    return [{ kind: 'update', object: { ...current, spec }, expectedVersion: version }]
  })
}

function checkDemotion(view: StoreView, sight: ManagerSight, node: Node): void {
  // Nodes whose demotion is under way count as gone.
  const staying = view.list('node').filter((each) => each.id !== node.id && each.spec.Role === 'manager')
  if (!staying.some((each) => each.manager !== undefined)) {
    throw managerRefusal('FAILED_PRECONDITION', 'attempting to demote the last manager of the swarm')
  }
  if (!quorumWithout(view, node.id, sight).keepsQuorum) {
    throw managerRefusal(
      'FAILED_PRECONDITION',
      "can't remove member from the raft: this would result in a loss of quorum",
    )
  }
}

/** Its tasks become ORPHANED: nobody is left to report on them. */
export async function removeNode(context: ControlContext, input: string, force: boolean): Promise<void> {
  // More tasks than fit into one transaction are orphaned beforehand.
  const { removal, view: current } = context
  const isGone = () => removal?.id !== undefined && current.get('node', removal.id) === undefined
  while (!isGone()) {
    const { id } = requireRemovable(find(current, 'node', removal?.id ?? input), force)
    const orphans = orphanings(context, current, id)
    if (orphans.length < MAX_CHANGES_PER_ENTRY) break
    await context.proposer.propose(orphans.slice(0, MAX_CHANGES_PER_ENTRY))
  }
  await proposeRemoval(context, 'node', input, (node, view) => {
    requireRemovable(node, force)
    return [
      ...orphanings(context, view, node.id).slice(0, MAX_CHANGES_PER_ENTRY - 1),
      { kind: 'remove', objectKind: 'node', id: node.id, expectedVersion: node.meta.version },
    ]
  })
}

function requireRemovable(node: Node, force: boolean): Node {
  if (node.manager !== undefined) {
    throw managerRefusal(
      'FAILED_PRECONDITION',
      `node ${node.id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal`,
    )
  }
  if (!force && node.status.state === 'ready') {
    throw managerRefusal('FAILED_PRECONDITION', `node ${node.id} is not down and can't be removed`)
  }
  return node
}

function orphanings(context: ControlContext, view: StoreView, nodeId: string): readonly Change[] {
  const timestamp = formatTime(context.clock.wallMs())
  const isLive = (task: Task) => compareTaskStates(task.status.state, 'complete') < 0
  return view
    .tasksOfNode(nodeId)
    .filter(isLive)
    .map((task) => ({
      kind: 'task-status',
      taskId: task.id,
      status: {
        ...task.status,
        state: 'orphaned',
        timestamp,
        message: 'Task belonged to a node that has been deleted',
        error: '',
      },
    }))
}

export const NODE_FILTERS = ['name', 'id', 'label', 'role', 'membership', 'node.label']

export function listNodes(view: StoreView, filters: Filters): readonly Node[] {
  for (const role of filters.get('role') ?? []) {
    if (!['worker', 'manager', ''].includes(role.toLowerCase())) throw refusal(`Invalid role filter: '${role}'`)
  }
  for (const membership of filters.get('membership') ?? []) {
    if (!['pending', 'accepted', ''].includes(membership.toLowerCase())) {
      throw refusal(`Invalid membership filter: '${membership}'`)
    }
  }
  const lower = (name: string) => filters.get(name)?.map((value) => value.toLowerCase())
  const roles = lower('role')
  const memberships = lower('membership')
  return view
    .list('node')
    .filter(
      (node) =>
        beginsWithOne(filters, 'name', node.description.Hostname ?? '') &&
        beginsWithOne(filters, 'id', node.id) &&
        hasLabels(filters, 'label', node.description.Engine?.Labels) &&
        hasLabels(filters, 'node.label', node.spec.Labels) &&
        (roles === undefined || roles.includes(node.role)) &&
        (memberships === undefined || memberships.includes('accepted')),
    )
}
