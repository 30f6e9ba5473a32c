// Issues certificates: to a node that joins with a token (and so becomes a node of the store), and again to a node whose
// certificate runs out or whose role has changed. Only the leader decides; other managers pass requests on to it.

import { createHash } from 'node:crypto'
import type { ManagerAddress } from '../../api/dispatcher.ts'
import type { Cluster, Node } from '../../api/objects.ts'
import type { Clock } from '../../lib/clock.ts'
import type { PeerIdentity } from '../../lib/connection.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import { readRequest } from '../../lib/x509.ts'
import { createNodeCertificate } from '../../lib/x509-node.ts'
import { MAX_NODE_NUMBER, nextNodeNumber } from '../allocator/node-number.ts'
import type { Proposer, StoreView } from '../store/types.ts'
import { authorizeNode } from './authorize.ts'
import { certLifeMs, newNode } from './create-cluster.ts'
import type { IssueReply, IssueRequest, RootReply } from './issue-request.ts'
import { parseJoinToken, sameToken } from './join-token.ts'

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
    readonly clock: Clock
    readonly random: Random
    readonly log: Log
  }) {
    this.#view = options.view
    this.#proposer = options.proposer
    this.#isLeader = options.isLeader
    this.#forwardToLeader = options.forwardToLeader
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
   *   NO_LEADER, NO_CLUSTER and the proposer's (retryable)
   */
  async issue(request: IssueRequest, client: IssueClient): Promise<IssueReply> {
    const { asker, remoteHost } = this.#asker(request, client)
    if (!this.#isLeader())
      return this.#forwardToLeader({ ...request, onBehalfOf: { nodeId: asker?.nodeId ?? '', remoteHost } })
    const publicKey = readRequest(request.csr)
    if (request.token !== undefined) {
      const node = await this.#join(request.token, request, publicKey, remoteHost)
      return this.#reply(node, publicKey)
    }
    if (!asker) throw forbidden('A valid join token is necessary to join this cluster', 'token')
    const node = this.#view.get('node', asker.nodeId)
    if (!node) throw forbidden(`node ${asker.nodeId} is not part of the cluster any more`, 'removed')
    this.#log.info({ nodeId: node.id, role: node.role }, 'certificate renewed')
    return this.#reply(node, publicKey)
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

  #reply(node: Node, publicKey: Uint8Array): IssueReply {
    const cluster = this.#cluster()
    const { rootCa } = cluster
    if (!rootCa.keyPem) throw new CodedError('NO_ROOT_KEY', "the cluster's root key is not here: it signs elsewhere")
    const certPem = createNodeCertificate({
      root: rootCa,
      identity: { nodeId: node.id, clusterId: cluster.id, role: node.role },
      publicKey,
      wallMs: this.#clock.wallMs(),
      lifeMs: certLifeMs(cluster),
      random: this.#random,
    })
    return {
      nodeId: node.id,
      clusterId: cluster.id,
      role: node.role,
      certPem,
      rootsPem: [rootCa.certPem],
      managers: managerAddresses(this.#view),
    }
  }

  #cluster(): Cluster {
    const cluster = this.#view.cluster()
    if (!cluster)
      throw new CodedError('NO_CLUSTER', 'this manager has not caught up with the cluster yet', { retryable: true })
    return cluster
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
