// The cluster's own settings and join tokens, and what stands against a manager that wants to leave.

import { clusterSettingChangeProblem } from '../../api/cluster-settings.ts'
import { swarmSpecWithDefaults } from '../../api/defaults.ts'
import type { Cluster, RootCa } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import { validateSwarmSpec } from '../../api/validation/payload.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { CodedError } from '../../lib/errors.ts'
import { changedRootCa } from '../ca/ca-config.ts'
import type { ExternalSigner } from '../ca/external-ca.ts'
import { newUnlockKey } from '../ca/unlock-key.ts'
import { SECURITY_FEATURE_LEVEL } from '../membership/feature-level.ts'
import type { StoreView } from '../store/types.ts'
import { type ControlContext, outOfSequence, proposeCurrent } from './context.ts'
import { quorumWithout } from './nodes.ts'
import type { ManagerSight } from './render.ts'

export interface Rotations {
  readonly workerToken: boolean
  readonly managerToken: boolean
  readonly unlockKey: boolean
}

export function requireCluster(view: StoreView): Cluster {
  const cluster = view.cluster()
  if (cluster === undefined) throw new CodedError('NOT_IN_SWARM', 'This node is not part of a swarm')
  return cluster
}

export async function updateCluster(
  context: ControlContext,
  version: number,
  spec: SwarmSpec,
  rotate: Rotations,
  newJoinToken: (rootDigest: string) => string,
  external: ExternalSigner,
): Promise<void> {
  const wanted = swarmSpecWithDefaults(spec)
  validateSwarmSpec(wanted)
  const rootCa = await rootCaAfter(context, external, version, wanted)
  await proposeCurrent(context, (view) => {
    const current = requireCluster(view)
    const settings = clusterSettingChangeProblem(current.spec.Labels, wanted.Labels)
    if (settings !== undefined) throw invalidArgument(settings)
    if (version !== current.meta.version) throw outOfSequence()
    const object: Cluster = {
      ...current,
      spec: withoutSigner(wanted),
      unlockKey: unlockKeyAfter(context, current, wanted, rotate.unlockKey),
      rootCa: {
        ...rootCa,
        joinTokens: {
          worker: rotate.workerToken ? newJoinToken(rootCa.digest) : rootCa.joinTokens.worker,
          manager: rotate.managerToken ? newJoinToken(rootCa.digest) : rootCa.joinTokens.manager,
        },
      },
    }
    return [{ kind: 'update', object, expectedVersion: version }]
  })
}

/** The root that follows from a change of the CA's configuration, for the cluster of this version. */
async function rootCaAfter(
  { view, clock, random }: ControlContext,
  external: ExternalSigner,
  version: number,
  wanted: SwarmSpec,
): Promise<RootCa> {
  const cluster = requireCluster(view)
  if (version !== cluster.meta.version) return cluster.rootCa // to be refused, in its turn
  const rootCa = await changedRootCa({ cluster, wanted, external, wallMs: clock.wallMs(), random })
  if (rootCa.rotation !== cluster.rootCa.rotation) requireLevel(cluster, 'rotation of the root CA')
  return rootCa
}

/** A signing certificate that is given is the root's from now on; its key stands nowhere else. */
function withoutSigner(spec: SwarmSpec): SwarmSpec {
  const { SigningCACert: _cert, SigningCAKey: _key, ...CAConfig } = spec.CAConfig ?? {}
  return { ...spec, CAConfig }
}

/** A key while autolock is on: another one where that is asked for; none while it is off, whatever is asked for. */
function unlockKeyAfter({ random }: ControlContext, current: Cluster, wanted: SwarmSpec, rotate: boolean): string {
  if (!wanted.EncryptionConfig?.AutoLockManagers) return ''
  if (current.unlockKey !== '' && !rotate) return current.unlockKey
  requireLevel(current, 'autolock')
  return newUnlockKey(random)
}

/** A manager of an older version would leave undone what it does not know. */
function requireLevel(cluster: Cluster, what: string): void {
  if (cluster.featureLevel >= SECURITY_FEATURE_LEVEL) return
  throw managerRefusal(
    'FAILED_PRECONDITION',
    `${what} needs feature level ${SECURITY_FEATURE_LEVEL} and the cluster is at ${cluster.featureLevel}: upgrade swarmd on every manager first`,
  )
}

/** Why a manager may not just leave; Docker asks for `--force` then. */
export function leaveRefusal(view: StoreView, nodeId: string, sight: ManagerSight): CodedError {
  const { managers, reachable } = quorumWithout(view, nodeId, sight)
  const attempt = 'You are attempting to leave the swarm on a node that is participating as a manager. '
  if (managers <= 1) {
    return new CodedError(
      'NOT_MANAGER',
      `${attempt}Removing the last manager erases all current state of the swarm. Use \`--force\` to ignore this message. `,
    )
  }
  const unreachable = managers - 1 - reachable
  // Docker's rule: of two managers none may go, although the other would do.
  const loss =
    reachable - 1 <= unreachable
      ? `Removing this node leaves ${reachable} managers out of ${managers}. Without a Raft quorum your swarm will be inaccessible. `
      : ''
  return new CodedError(
    'NOT_MANAGER',
    `${attempt}${loss}The only way to restore a swarm that has lost consensus is to reinitialize it with \`--force-new-cluster\`. Use \`--force\` to suppress this message.`,
  )
}
