// The manager part of a simulated swarmd: a production Manager on the simulated network and disk. What src/daemon does with
// sockets, HTTPS and certificates is done here with simulated connections and given identities, by the same rules.

import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Cluster, Node } from '../../src/api/objects.ts'
import type { Clock } from '../../src/lib/clock.ts'
import type { Connection, Dialer, PeerIdentity } from '../../src/lib/connection.ts'
import { CodedError } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import { Scope } from '../../src/lib/scope.ts'
import { ingressNetwork } from '../../src/manager/allocator/ingress-network.ts'
import { type Access, authorizeNode } from '../../src/manager/ca/authorize.ts'
import { Manager, nodeOfRaftId } from '../../src/manager/manager.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import { type MemberCall, Seat, type SeatRequest } from '../../src/manager/membership/seat.ts'
import { ConnectionRaftTransport, RAFT_PATH, RAFT_SNAPSHOT_PATH } from '../../src/raft/connection-raft-transport.ts'
import type { RaftConfig } from '../../src/raft/raft-node-types.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import { answer, call } from './cluster-calls.ts'
import { type Certificate, type CertifiedPeer, issueCertificate, verifies } from './cluster-certificate.ts'
import type { SimulatedDisk } from './disk.ts'
import type { SimulatedNetwork } from './network.ts'
import { simulatedSecretDriver } from './simulated-secret-driver.ts'

const MEMBER_PATH = '/member'
const CERTIFICATE_PATH = '/certificate'
const CLOSE_FORBIDDEN = 4003
const ACCESS: Readonly<Record<string, Access>> = {
  [RAFT_PATH]: 'raft',
  [RAFT_SNAPSHOT_PATH]: 'raft',
  [MEMBER_PATH]: 'manager',
}

interface MemberQuestion extends SeatRequest {
  readonly what: MemberCall
}

export interface ManagerPartOptions {
  readonly nodeId: string
  readonly clusterId: string
  readonly raftId: string
  readonly joined: boolean
  /** `host:port` */
  readonly address: string
  readonly identity: CertifiedPeer
  readonly network: SimulatedNetwork
  readonly dialer: Dialer
  readonly disk: SimulatedDisk
  readonly managers: () => readonly ManagerAddress[]
  readonly raftConfig: Partial<RaftConfig>
  readonly clock: Clock
  readonly random: SeededRandom
  readonly log: Log
}

export class ManagerPart {
  readonly manager: Manager
  readonly #options: ManagerPartOptions
  readonly #transport: ConnectionRaftTransport
  /** Open connections of others with what they were let in for. */
  readonly #accepted = new Map<Connection, Access>()
  readonly #seat: Seat

  constructor(options: ManagerPartOptions) {
    const { nodeId, raftId, address, dialer, disk, clock, random, log, raftConfig } = options
    this.#options = options
    this.#transport = new ConnectionRaftTransport({ id: raftId, dialer, clock, random, log, nodeIdOf: nodeOfRaftId })
    const keys = { current: { id: 'k1', key: new Uint8Array(32).fill(7) } }
    this.manager = new Manager({
      nodeId,
      raftId,
      address,
      storage: new RaftStorage({ records: disk.attach(), codec: new RecordCodec({ keys, random }), clock }),
      transport: this.#transport,
      raftConfig,
      secretDrivers: simulatedSecretDriver(clock, random.fork()),
      clock,
      random,
      log,
    })
    const { manager } = this
    this.#seat = new Seat({ ...options, manager, ask: (...asked) => this.#ask(...asked) })
  }

  async bootstrap(cluster: Cluster, node: Node): Promise<void> {
    const { raftId, address } = this.#options
    this.manager.store.restore(0, [cluster, node, ingressNetwork({ cluster, id: 'ingress', wallMs: 0 })])
    await this.manager.raft.bootstrap({ id: raftId, address })
  }

  /** Goes on alone with what is on this disk. */
  beginAnew(): Promise<void> {
    return this.manager.beginAnew(OWN_FEATURE_LEVEL, {})
  }

  /** Until `signal` aborts; a leader hands over first. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { network, address, identity } = this.#options
    const stop = new AbortController()
    const scope = new Scope(stop.signal)
    const ends = [
      network.listen(address, (connection, path) => this.#accept(connection, path), identity),
      this.manager.raft.subscribe(() => {
        if (this.manager.mayJudge()) this.#recheck(() => true)
      }),
      this.manager.store.subscribe((events) => {
        const nodes = new Set(events.flatMap((event) => (event.objectKind === 'node' ? [event.id] : [])))
        if (nodes.size > 0) this.#recheck((peer) => nodes.has(peer.nodeId))
      }),
    ]
    scope.spawn('manager', (running) => this.manager.run({ signal: running }))
    scope.spawn('membership', (running) => this.#seat.keep(running))
    const handOver = async (): Promise<void> => {
      await this.#seat.handOver()
      stop.abort()
    }
    if (signal.aborted) void handOver()
    else signal.addEventListener('abort', () => void handOver(), { once: true })
    try {
      await scope.wait()
    } finally {
      for (const end of ends) end()
      await scope.close()
      for (const connection of this.#accepted.keys()) connection.destroy()
    }
  }

  join(signal: AbortSignal): Promise<void> {
    return this.#seat.join(signal)
  }

  /** A connection that is refused is what an answer by HTTPS is, with its reason. */
  async #ask(target: ManagerAddress, what: MemberCall, request: SeatRequest, signal: AbortSignal): Promise<void> {
    const { dialer, clock } = this.#options
    try {
      await call({ dialer, clock }, { target, path: MEMBER_PATH }, { what, ...request }, signal)
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'CONNECTION_FORBIDDEN') throw error
      const { retryable, details, message } = error
      throw new CodedError(String(details.reason), message, { retryable })
    }
  }

  /** @throws {CodedError} CONNECTION_FORBIDDEN, as the one who dials sees it */
  #accept(connection: Connection, path: string): void {
    if (!verifies(this.#options.identity.certificate, (connection.peer as CertifiedPeer).certificate)) {
      connection.destroy()
      throw new CodedError('CONNECTION_UNTRUSTED', 'the certificate is of a root that is not trusted')
    }
    const access = ACCESS[path] ?? 'node'
    const refusal = this.#refusal(connection.peer, access)
    if (refusal) {
      connection.destroy()
      const { reason, message, retryable } = refusal
      throw new CodedError('CONNECTION_FORBIDDEN', message, { retryable, details: { reason } })
    }
    this.#accepted.set(connection, access)
    const { manager } = this
    if (path === RAFT_PATH || path === RAFT_SNAPSHOT_PATH) this.#transport.accept(connection, path)
    else if (path === '/session') manager.acceptSession(connection)
    else if (path === '/bulk') manager.dispatcher.acceptStream(connection)
    else if (path === MEMBER_PATH) this.#serve(connection, (request) => this.#member(connection, request))
    else this.#serve(connection, async () => this.#certify(connection))
  }

  #serve(connection: Connection, respond: (request: unknown) => Promise<unknown>): void {
    const onLeader = async (request: unknown): Promise<unknown> => {
      if (this.manager.isLeader) return respond(request)
      throw new CodedError('NOT_LEADER', 'this manager is not the leader', { retryable: true })
    }
    answer(connection, onLeader, () => this.manager.leader())
  }

  async #member(connection: Connection, request: unknown): Promise<unknown> {
    const { what, ...rest } = request as MemberQuestion
    const member = { ...rest, nodeId: connection.peer?.nodeId ?? '' }
    if (what === 'add') await this.manager.addMember(member)
    else if (what === 'leave') await this.manager.releaseMember(member)
    else await this.manager.refreshMember(member)
    return {}
  }

  #certify(connection: Connection): Certified {
    const { store } = this.manager
    const node = store.get('node', connection.peer?.nodeId ?? '')
    const cluster = store.cluster()
    if (!node || !cluster) throw new CodedError('NODE_REMOVED', 'the node is not part of the cluster')
    return { role: node.role, certificate: issueCertificate(cluster) }
  }

  #refusal(peer: PeerIdentity | undefined, access: Access): ReturnType<typeof authorizeNode> {
    return peer && authorizeNode(this.manager.store, peer, access, this.manager.mayJudge(peer.nodeId))
  }

  #recheck(concerns: (peer: PeerIdentity) => boolean): void {
    for (const [connection, access] of [...this.#accepted]) {
      const { peer } = connection
      if (!peer || !concerns(peer)) continue
      const refusal = this.#refusal(peer, access)
      if (!refusal) continue
      this.#accepted.delete(connection)
      connection.close(CLOSE_FORBIDDEN, refusal.message)
    }
  }
}

interface Certified {
  readonly role: 'manager' | 'worker'
  readonly certificate: Certificate
}

/** A node asks for a new certificate. @throws {CodedError} */
export async function askCertificate(
  environment: { readonly dialer: Dialer; readonly clock: Clock },
  target: ManagerAddress,
  signal: AbortSignal,
): Promise<Certified> {
  return (await call(environment, { target, path: CERTIFICATE_PATH }, {}, signal)) as Certified
}
