// What `swarm init` makes: the cluster's object with its root and tokens, and its first node.

import {
  DEFAULT_ADDRESS_POOL,
  DEFAULT_DATA_PATH_PORT,
  DEFAULT_SUBNET_SIZE,
  swarmSpecWithDefaults,
} from '../../api/defaults.ts'
import type { Cluster, Node } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import { formatTime } from '../../lib/clock.ts'
import type { Random } from '../../lib/random.ts'
import { readRequest } from '../../lib/x509.ts'
import { createNodeCertificate, createRootCa } from '../../lib/x509-node.ts'
import { makeJoinToken, rootDigest } from './join-token.ts'
import { newUnlockKey } from './unlock-key.ts'

export interface CreateClusterOptions {
  readonly wallMs: number
  readonly random: Random
  readonly featureLevel: number
  readonly spec?: SwarmSpec
  readonly defaultAddressPools?: readonly string[]
  /** 0: the default, as in Docker's request. */
  readonly subnetSize?: number
  readonly dataPathPort?: number
}

/** A new cluster with a root of its own; `meta.version` is 0 until it is applied. */
export function createCluster(options: CreateClusterOptions): Cluster {
  const { wallMs, random } = options
  const root = createRootCa({ wallMs, random })
  const digest = rootDigest(root.certPem)
  const now = formatTime(wallMs)
  return {
    kind: 'cluster',
    id: random.id(),
    meta: { version: 0, createdAt: now, updatedAt: now },
    spec: swarmSpecWithDefaults(options.spec ?? {}),
    rootCa: {
      ...root,
      digest,
      joinTokens: { worker: makeJoinToken(digest, random), manager: makeJoinToken(digest, random) },
    },
    defaultAddressPools: options.defaultAddressPools?.length ? options.defaultAddressPools : [DEFAULT_ADDRESS_POOL],
    subnetSize: options.subnetSize || DEFAULT_SUBNET_SIZE,
    dataPathPort: options.dataPathPort || DEFAULT_DATA_PATH_PORT,
    featureLevel: options.featureLevel,
    unlockKey: options.spec?.EncryptionConfig?.AutoLockManagers ? newUnlockKey(random) : '',
  }
}

export function newNode(options: {
  readonly id: string
  readonly role: 'worker' | 'manager'
  readonly availability: 'active' | 'pause' | 'drain'
  readonly number: number
  /** IP address as seen; empty if unknown */
  readonly address: string
  readonly wallMs: number
}): Node {
  const now = formatTime(options.wallMs)
  return {
    kind: 'node',
    id: options.id,
    meta: { version: 0, createdAt: now, updatedAt: now },
    spec: { Labels: {}, Role: options.role, Availability: options.availability },
    role: options.role,
    description: {},
    status: { state: 'unknown', message: '', address: options.address },
    manager: undefined,
    number: options.number,
    dataPathAddress: '',
    downSince: '',
  }
}

/** Node 1 of a new cluster, with the certificate that its request gets. */
export function createFirstNode(options: {
  readonly cluster: Cluster
  readonly requestPem: string
  readonly availability: 'active' | 'pause' | 'drain'
  readonly manager: NonNullable<Node['manager']>
  readonly address: string
  readonly wallMs: number
  readonly random: Random
}): { readonly node: Node; readonly certPem: string } {
  const { cluster, random, wallMs } = options
  const node = newNode({ ...options, id: random.id(), role: 'manager', number: 1 })
  const certPem = createNodeCertificate({
    root: cluster.rootCa,
    identity: { nodeId: node.id, clusterId: cluster.id, role: 'manager' },
    publicKey: readRequest(options.requestPem),
    wallMs,
    lifeMs: certLifeMs(cluster),
    random,
  })
  return { node: { ...node, manager: options.manager }, certPem }
}

/** Life of a node's certificate from its issue on. */
export function certLifeMs(cluster: Cluster): number {
  return (swarmSpecWithDefaults(cluster.spec).CAConfig?.NodeCertExpiry ?? 0) / 1e6
}
