// Ends a rotation of the root: once every node has a certificate of the new one, that is the root, with new join tokens. Nodes
// renew by themselves when their session tells them what is to be trusted; one that is down is waited for, or removed.

import type { Cluster, Node } from '../../api/objects.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import { tlsInfo } from '../../lib/x509-node.ts'
import type { Proposer, StoreEvent, StoreView } from '../store/types.ts'
import { makeJoinToken, rootDigest } from './join-token.ts'

/** Nodes renew in crowds: so long they gather before all are looked at. */
const GATHER_MS = 100
const RETRY_MS = 1000

/** Which root signs now, and which are to be trusted, the current one first. */
export function trustOf({ rootCa }: Cluster): { readonly issuerPem: string; readonly rootsPem: readonly string[] } {
  const { certPem, rotation } = rootCa
  return rotation
    ? { issuerPem: rotation.certPem, rootsPem: [certPem, rotation.certPem] }
    : { issuerPem: certPem, rootsPem: [certPem] }
}

/** As sessions carry it. */
export function trustDigests(cluster: Cluster): { readonly issuer: string; readonly roots: readonly string[] } {
  const { issuerPem, rootsPem } = trustOf(cluster)
  return { issuer: rootDigest(issuerPem), roots: rootsPem.map(rootDigest) }
}

/** Nodes whose certificate is not signed by the root that signs now, as far as they have said. */
export function unrotatedNodes(cluster: Cluster, nodes: readonly Node[]): readonly Node[] {
  const wanted = tlsInfo(trustOf(cluster).issuerPem)
  return nodes.filter(({ description: { TLSInfo: has } }) => {
    return has?.CertIssuerPublicKey !== wanted.CertIssuerPublicKey || has.CertIssuerSubject !== wanted.CertIssuerSubject
  })
}

/** The cluster once its rotation is over. */
export function rotatedCluster(cluster: Cluster, random: Random): Cluster {
  const { rotation, lastForcedRotation } = cluster.rootCa
  if (!rotation) return cluster
  const { certPem, keyPem } = rotation
  const digest = rootDigest(certPem)
  const joinTokens = { worker: makeJoinToken(digest, random), manager: makeJoinToken(digest, random) }
  return { ...cluster, rootCa: { certPem, keyPem, digest, joinTokens, lastForcedRotation } }
}

export class RootRotation {
  readonly #view: StoreView
  readonly #subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
  readonly #proposer: Proposer
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  #waitingFor = -1

  constructor(options: {
    readonly view: StoreView
    readonly subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
    readonly proposer: Proposer
    readonly clock: Clock
    readonly random: Random
    readonly log: Log
  }) {
    this.#view = options.view
    this.#subscribe = options.subscribe
    this.#proposer = options.proposer
    this.#clock = options.clock
    this.#random = options.random
    this.#log = options.log
  }

  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    let changed = true
    let wake = (): void => {}
    const unsubscribe = this.#subscribe((events) => {
      if (!events.some(({ objectKind }) => objectKind === 'cluster' || objectKind === 'node')) return
      changed = true
      wake()
    })
    const stop = (): void => wake()
    signal.addEventListener('abort', stop, { once: true })
    try {
      while (!signal.aborted) {
        if (!changed) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
          continue
        }
        changed = false
        if (!this.#view.cluster()?.rootCa.rotation) continue
        await sleep(this.#clock, GATHER_MS, signal)
        if (signal.aborted) return
        changed = false
        if (!(await this.#finish())) {
          changed = true
          await sleep(this.#clock, RETRY_MS, signal)
        }
      }
    } finally {
      unsubscribe()
      signal.removeEventListener('abort', stop)
    }
  }

  /** @returns false where it has to be tried again */
  async #finish(): Promise<boolean> {
    const cluster = this.#view.cluster()
    if (!cluster?.rootCa.rotation) return true
    const nodes = this.#view.list('node')
    const left = unrotatedNodes(cluster, nodes).length
    if (left > 0) {
      if (left !== this.#waitingFor)
        this.#log.info({ left, nodes: nodes.length }, 'nodes have yet to change to the new root')
      this.#waitingFor = left
      return true
    }
    const object = rotatedCluster(cluster, this.#random)
    try {
      await this.#proposer.propose([{ kind: 'update', object, expectedVersion: cluster.meta.version }])
      this.#log.info({ digest: object.rootCa.digest }, 'the root of the cluster is a new one')
      this.#waitingFor = -1
      return true
    } catch (error) {
      this.#log.info({ code: errorCode(error), reason: errorMessage(error) }, 'rotation of the root not ended yet')
      return false
    }
  }
}
