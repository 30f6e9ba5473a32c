// Issues certificates: to a node that joins with a token (and so becomes a node of the store), and again to a node whose
// certificate runs out or whose role has changed. Only the leader decides; other managers pass requests on to it.

import { createHash, X509Certificate } from 'node:crypto'
import type { ManagerAddress } from '../../api/dispatcher.ts'
import type { Cluster, Node } from '../../api/objects.ts'
import type { Clock } from '../../lib/clock.ts'
import type { PeerIdentity } from '../../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import { readRequest } from '../../lib/x509.ts'
import { createNodeCertificate, issuerOf, nodeIdentity } from '../../lib/x509-node.ts'
import { MAX_NODE_NUMBER, nextNodeNumber } from '../allocator/node-number.ts'
import type { Proposer, StoreView } from '../store/types.ts'
import { authorizeNode } from './authorize.ts'
import { certLifeMs, newNode } from './create-cluster.ts'
import { type ExternalSigner, externalUrls } from './external-ca.ts'
import type { IssueReply, IssueRequest, RootReply } from './issue-request.ts'
import { parseJoinToken, sameToken } from './join-token.ts'
import { trustOf } from './root-rotation.ts'

/** Who asks, as the connection shows. */
export interface IssueClient {
  /** undefined: came without a certificate */
  readonly identity: PeerIdentity | undefined
  /** IP address */
  readonly remoteHost: string
}

/** Another proposal may take a number, or make the same node, between a look at the store and `apply`. */
const MAX_ATTEMPTS = 5

export class CertificateAuthority {
  readonly #view: StoreView
  readonly #proposer: Proposer
  readonly #isLeader: () => boolean
  readonly #forwardToLeader: (request: IssueRequest) => Promise<IssueReply>
  readonly #external: ExternalSigner
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  readonly #numbersInFlight = new Set<number>()

  constructor(options: {
    readonly view: StoreView
    readonly proposer: Proposer
    readonly isLeader: () => boolean
    /** Asks the leader's `/ca/issue`. @throws {CodedError} NO_LEADER, or what the leader answered */
    readonly forwardToLeader: (request: IssueRequest) => Promise<IssueReply>
    readonly external: ExternalSigner
    readonly clock: Clock
    readonly random: Random
    readonly log: Log
  }) {
    this.#view = options.view
    this.#proposer = options.proposer
    this.#isLeader = options.isLeader
    this.#forwardToLeader = options.forwardToLeader
    this.#external = options.external
    this.#clock = options.clock
    this.#random = options.random
    this.#log = options.log
  }

  /** @throws {CodedError} NO_CLUSTER */
  root(): RootReply {
    return { rootPem: this.#cluster().rootCa.certPem }
  }

  /**
   * Idempotent: a node's id follows from its key, so that a join that is asked for again, because the answer was lost,
   * finds the node that the first one made.
   * @throws {CodedError} FORBIDDEN (no or wrong token, removed node), REQUEST_INVALID, INVALID_JOIN_TOKEN, CLUSTER_FULL;
   *   NO_LEADER, NO_CLUSTER, EXTERNAL_CA and the proposer's (retryable)
   */
  async issue(request: IssueRequest, client: IssueClient): Promise<IssueReply> {
    const { asker, remoteHost } = this.#asker(request, client)
    if (!this.#isLeader())
      return this.#forwardToLeader({ ...request, onBehalfOf: { nodeId: asker?.nodeId ?? '', remoteHost } })
    const publicKey = readRequest(request.csr)
    if (request.token !== undefined) {
      const node = await this.#join(request.token, request, publicKey, remoteHost)
      return this.#reply(node, request.csr)
    }
    if (!asker) throw forbidden('A valid join token is necessary to join this cluster', 'token')
    const node = this.#view.get('node', asker.nodeId)
    if (!node) throw forbidden(`node ${asker.nodeId} is not part of the cluster any more`, 'removed')
    this.#log.info({ nodeId: node.id, role: node.role }, 'certificate renewed')
    return this.#reply(node, request.csr)
  }

  /** A manager may ask for another node; anybody else is who the connection says. */
  #asker(
    { onBehalfOf }: IssueRequest,
    client: IssueClient,
  ): { readonly asker: { readonly nodeId: string } | undefined; readonly remoteHost: string } {
    const { identity, remoteHost } = client
    if (!onBehalfOf) return { asker: identity, remoteHost }
    const refusal = identity
      ? authorizeNode(this.#view, identity, 'manager', true)
      : { message: 'only managers may ask for other nodes', reason: 'anonymous' }
    if (refusal) throw forbidden(refusal.message, refusal.reason)
    return { asker: onBehalfOf.nodeId ? onBehalfOf : undefined, remoteHost: onBehalfOf.remoteHost }
  }

  async #join(token: string, request: IssueRequest, publicKey: Buffer, remoteHost: string): Promise<Node> {
    const role = this.#roleOf(token)
    const id = nodeIdOf(publicKey)
    for (let attempt = 1; ; attempt++) {
      const existing = this.#view.get('node', id)
      if (existing) return existing
      const number = nextNodeNumber(this.#view, this.#numbersInFlight)
      if (number === undefined)
        throw new CodedError('CLUSTER_FULL', `the cluster has ${MAX_NODE_NUMBER} nodes, which is the most it can have`)
      const node = newNode({
        id,
        role,
        availability: request.availability ?? 'active',
        number,
        address: remoteHost,
        wallMs: this.#clock.wallMs(),
      })
      this.#numbersInFlight.add(number)
      try {
        await this.#proposer.propose([{ kind: 'create', object: node }])
        this.#log.info({ nodeId: id, role, number, address: remoteHost }, 'node joined')
        return node
      } catch (error) {
        const code = errorCode(error)
        if (attempt >= MAX_ATTEMPTS || (code !== 'NODE_NUMBER_CONFLICT' && code !== 'EXISTS')) throw error
      } finally {
        this.#numbersInFlight.delete(number)
      }
    }
  }

  #roleOf(token: string): 'worker' | 'manager' {
    parseJoinToken(token)
    const { joinTokens } = this.#cluster().rootCa
    // Both are always compared, so that the time taken tells nothing.
    const manager = sameToken(token, joinTokens.manager)
    const worker = sameToken(token, joinTokens.worker)
    if (manager) return 'manager'
    if (worker) return 'worker'
    throw forbidden('A valid join token is necessary to join this cluster', 'token')
  }

  async #reply(node: Node, csr: string): Promise<IssueReply> {
    const cluster = this.#cluster()
    const { rotation } = cluster.rootCa
    const certPem = await this.#sign(cluster, node, csr)
    return {
      nodeId: node.id,
      clusterId: cluster.id,
      role: node.role,
      // Who trusts only the current root yet verifies the new one's certificates by this.
      certPem: rotation ? `${certPem.trimEnd()}\n${rotation.crossSignedPem}` : certPem,
      rootsPem: trustOf(cluster).rootsPem,
      managers: managerAddresses(this.#view),
    }
  }

  /** By an external CA where there is one for the root that signs now; that one failing is no reason to sign here. */
  async #sign(cluster: Cluster, node: Node, csr: string): Promise<string> {
    const { rootCa } = cluster
    const root = rootCa.rotation ?? rootCa
    const identity = { nodeId: node.id, clusterId: cluster.id, role: node.role }
    const publicKey = readRequest(csr)
    const urls = externalUrls(cluster.spec, root.certPem, rootCa.certPem)
    if (urls.length === 0) {
      if (!root.keyPem) throw new CodedError('NO_ROOT_KEY', "the cluster's root key is not here: it signs elsewhere")
      return createNodeCertificate({
        root,
        identity,
        publicKey,
        wallMs: this.#clock.wallMs(),
        lifeMs: certLifeMs(cluster),
        random: this.#random,
      })
    }
    const certPem = await this.#external.signNode(urls, trustOf(cluster).rootsPem, csr, identity)
    checkSigned(certPem, root.certPem, publicKey, identity)
    return certPem
  }

  #cluster(): Cluster {
    const cluster = this.#view.cluster()
    if (!cluster)
      throw new CodedError('NO_CLUSTER', 'this manager has not caught up with the cluster yet', { retryable: true })
    return cluster
  }
}

/** What comes from elsewhere is looked at before a node gets it. @throws {CodedError} EXTERNAL_CA */
function checkSigned(certPem: string, rootPem: string, publicKey: Uint8Array, wanted: PeerIdentity): void {
  try {
    issuerOf(certPem, [rootPem])
    const certificate = new X509Certificate(certPem)
    const { nodeId, clusterId, role } = nodeIdentity(certificate)
    const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
    const fits = nodeId === wanted.nodeId && clusterId === wanted.clusterId && role === wanted.role
    if (!fits || !key.equals(publicKey)) throw new CodedError('CERTIFICATE_INVALID', 'it names another node or key')
  } catch (error) {
    throw new CodedError('EXTERNAL_CA', `the external CA's certificate is of no use: ${errorMessage(error)}`, {
      retryable: true,
    })
  }
}

export function managerAddresses(view: StoreView): readonly ManagerAddress[] {
  return view.list('node').flatMap(({ id, manager }) => (manager ? [{ nodeId: id, address: manager.address }] : []))
}

/** 25 characters of 0-9a-z that follow from the key. */
function nodeIdOf(publicKey: Uint8Array): string {
  const hash = createHash('sha256').update(publicKey).digest('hex')
  return BigInt(`0x${hash}`).toString(36).padStart(50, '0').slice(-25)
}

function forbidden(message: string, reason: string): CodedError {
  return new CodedError('FORBIDDEN', message, { details: { reason } })
}
