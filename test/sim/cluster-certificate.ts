// The certificate of a simulated node: the root that issued it, and the roots that the node trusts. Keys and signatures are left
// out; which root is whose, and when a node has to renew, are production's rules.

import type { Cluster } from '../../src/api/objects.ts'
import type { NodeDescription } from '../../src/api/spec.ts'
import type { PeerIdentity } from '../../src/lib/connection.ts'
import { tlsInfo } from '../../src/lib/x509-node.ts'
import { rootDigest } from '../../src/manager/ca/join-token.ts'
import { trustOf } from '../../src/manager/ca/root-rotation.ts'
import type { ClusterMessage } from '../../src/worker/agent.ts'

export interface Certificate {
  readonly issuerPem: string
  /** The root that has signed the issuer's own certificate, which goes along while the root is rotated. */
  readonly crossSignerPem?: string
  /** What the node trusts since it got it. */
  readonly rootsPem: readonly string[]
}

export interface CertifiedPeer extends PeerIdentity {
  readonly certificate: Certificate
}

export function issueCertificate(cluster: Cluster): Certificate {
  const crossSignerPem = cluster.rootCa.rotation && cluster.rootCa.certPem
  return { ...trustOf(cluster), ...(crossSignerPem !== undefined && { crossSignerPem }) }
}

/** As TLS finds a chain from what the other shows to what this one trusts. */
export function verifies({ rootsPem }: Certificate, other: Certificate): boolean {
  return [other.issuerPem, other.crossSignerPem].some((pem) => pem !== undefined && rootsPem.includes(pem))
}

/** What the cluster wants of the node's certificate. */
export function isWanted({ issuerPem, rootsPem }: Certificate, { trust }: ClusterMessage): boolean {
  if (!trust) return true
  return rootDigest(issuerPem) === trust.issuer && rootsPem.map(rootDigest).join() === trust.roots.join()
}

export function tlsInfoOf({ issuerPem, rootsPem }: Certificate): NonNullable<NodeDescription['TLSInfo']> {
  return tlsInfo(rootsPem[0] ?? '', issuerPem)
}
