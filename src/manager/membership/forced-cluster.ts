// `swarm init --force-new-cluster`: the state of a cluster whose majority of managers is lost goes on with one manager.

import { swarmSpecWithDefaults } from '../../api/defaults.ts'
import type { Node } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import type { Random } from '../../lib/random.ts'
import { newUnlockKey } from '../ca/unlock-key.ts'
import type { Change, StoreView, Transaction } from '../store/types.ts'

/**
 * What changes in the store: `manager` is the only one left, the others are workers of this cluster (those that come back
 * take that up), and what `given` says of the settings holds.
 * @param given as the API gets it: nothing filled in
 */
export function forcedChanges(
  view: StoreView,
  nodeId: string,
  manager: NonNullable<Node['manager']>,
  given: SwarmSpec,
  random: Random,
): Transaction {
  const changes: Change[] = []
  for (const node of view.list('node')) {
    const expectedVersion = node.meta.version
    if (node.id === nodeId) {
      const spec = { ...node.spec, Role: 'manager' as const }
      changes.push({ kind: 'update', object: { ...node, spec, role: 'manager', manager }, expectedVersion })
    } else if (node.manager || node.role === 'manager' || node.spec.Role === 'manager') {
      const spec = { ...node.spec, Role: 'worker' as const }
      changes.push({ kind: 'update', object: { ...node, spec, role: 'worker', manager: undefined }, expectedVersion })
    }
  }
  const cluster = view.cluster()
  if (cluster) {
    const spec = mergedSpec(cluster.spec, given)
    const locks = spec.EncryptionConfig?.AutoLockManagers === true
    const unlockKey = locks ? cluster.unlockKey || newUnlockKey(random) : ''
    const featureLevel = Math.max(cluster.featureLevel, manager.featureLevel)
    const object = { ...cluster, spec, unlockKey, featureLevel }
    changes.push({ kind: 'update', object, expectedVersion: cluster.meta.version })
  }
  return changes
}

/** Docker's rule: what the request gives that is not empty replaces what is there. */
function mergedSpec(current: SwarmSpec, given: SwarmSpec): SwarmSpec {
  const { Orchestration, Raft, Dispatcher, CAConfig, TaskDefaults, EncryptionConfig, Labels } = given
  const { SigningCACert: _cert, SigningCAKey: _key, ForceRotate: _rotate, ...ca } = CAConfig ?? {}
  return swarmSpecWithDefaults({
    ...current,
    ...(Labels && Object.keys(Labels).length > 0 && { Labels }),
    Orchestration: { ...current.Orchestration, ...notEmpty(Orchestration) },
    Raft: { ...current.Raft, ...notEmpty(Raft) },
    Dispatcher: { ...current.Dispatcher, ...notEmpty(Dispatcher) },
    CAConfig: { ...current.CAConfig, ...notEmpty(ca) },
    TaskDefaults: { ...current.TaskDefaults, ...notEmpty(TaskDefaults) },
    EncryptionConfig: { ...current.EncryptionConfig, ...notEmpty(EncryptionConfig) },
  })
}

function notEmpty<T extends object>(part: T | undefined): Partial<T> {
  const isGiven = (value: unknown) => Boolean(value) && !(Array.isArray(value) && value.length === 0)
  return Object.fromEntries(Object.entries(part ?? {}).filter(([, value]) => isGiven(value))) as Partial<T>
}
