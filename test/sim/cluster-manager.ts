// The manager part of a simulated swarmd: a production Manager on the simulated network and disk. What src/daemon does with
// sockets, HTTPS and certificates is done here with simulated connections and given identities, by the same rules.

import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Cluster, Node } from '../../src/api/objects.ts'
import { type Clock, sleep } from '../../src/lib/clock.ts'
import type { Connection, Dialer, PeerIdentity } from '../../src/lib/connection.ts'
import { CodedError, errorMessage } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import { Scope } from '../../src/lib/scope.ts'
import { ingressNetwork } from '../../src/manager/allocator/ingress-network.ts'
import { type Access, authorizeNode } from '../../src/manager/ca/authorize.ts'
import { Manager, nodeOfRaftId } from '../../src/manager/manager.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import { ConnectionRaftTransport, RAFT_PATH, RAFT_SNAPSHOT_PATH } from '../../src/raft/connection-raft-transport.ts'
import type { RaftConfig } from '../../src/raft/raft-node-types.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import { answer, call } from './cluster-calls.ts'
import type { SimulatedDisk } from './disk.ts'
import type { SimulatedNetwork } from './network.ts'

const MEMBER_PATH = '/member'
const ROLE_PATH = '/role'
const RETRY_MS = 500
const LONELY_MS = 5_000
const HAND_OVER_TIMEOUT_MS = 3_000
const CLOSE_FORBIDDEN = 4003
/** Who is refused as a manager is being demoted or removed, and hears of it in another way. */
const WILL_PASS: ReadonlySet<string> = new Set(['CONNECTION_FORBIDDEN', 'NODE_FORBIDDEN'])

const ACCESS: Readonly<Record<string, Access>> = {
  [RAFT_PATH]: 'raft',
  [RAFT_SNAPSHOT_PATH]: 'raft',
  [MEMBER_PATH]: 'manager',
}

type MemberCall = 'add' | 'refresh' | 'leave'

interface MemberRequest {
  readonly what: MemberCall
  readonly raftId: string
  readonly address: string
  readonly featureLevel: number
}

export interface ManagerPartOptions {
  readonly nodeId: string
  readonly clusterId: string
  readonly raftId: string
  readonly joined: boolean
  /** `host:port` */
  readonly address: string
  readonly identity: PeerIdentity
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
  #joined: boolean

  constructor(options: ManagerPartOptions) {
    const { nodeId, raftId, address, dialer, disk, clock, random, log, raftConfig } = options
    this.#options = options
    this.#joined = options.joined
    this.#transport = new ConnectionRaftTransport({ id: raftId, dialer, clock, random, log, nodeIdOf: nodeOfRaftId })
    const keys = { current: { id: 'k1', key: new Uint8Array(32).fill(7) } }
    this.manager = new Manager({
      nodeId,
      raftId,
      address,
      storage: new RaftStorage({ records: disk.attach(), codec: new RecordCodec({ keys, random }), clock }),
      transport: this.#transport,
      raftConfig,
      clock,
      random,
      log,
    })
  }

  async bootstrap(cluster: Cluster, node: Node): Promise<void> {
    const { raftId, address } = this.#options
    this.manager.store.restore(0, [cluster, node, ingressNetwork({ cluster, id: 'ingress', wallMs: 0 })])
    await this.manager.raft.bootstrap({ id: raftId, address })
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
    scope.spawn('membership', async (running) => {
      await this.#refresh(running)
      await this.#watchMembership(running)
    })
    const handOver = async (): Promise<void> => {
      await this.#handOver()
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

  /** Asks the managers to take this member in, until one of them does. */
  async join(signal: AbortSignal): Promise<void> {
    await this.#ask('add', signal)
    this.#joined = !signal.aborted
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    await this.manager.raft.ready
    const { nodeId, address } = this.#options
    const known = this.manager.store.get('node', nodeId)?.manager
    if (!this.#joined || (known?.address === address && known.featureLevel === OWN_FEATURE_LEVEL)) return
    await this.#ask('refresh', signal)
  }

  /** A member that knows no leader for long may have been taken out: the leader's answer ends this part then. */
  async #watchMembership(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    for (let lonely = false; !signal.aborted; ) {
      await sleep(clock, LONELY_MS, signal)
      const status = this.manager.status()
      const leaderless = this.#joined && status !== undefined && status.leader === undefined
      if (leaderless && lonely) await this.#ask('refresh', signal, this.#options.managers().length + 1)
      lonely = leaderless
    }
  }

  async #ask(what: MemberCall, signal: AbortSignal, attempts = Infinity): Promise<void> {
    const { raftId, address, clock, dialer, log } = this.#options
    const request: MemberRequest = { what, raftId, address, featureLevel: OWN_FEATURE_LEVEL }
    let leader: ManagerAddress | undefined
    for (let attempt = 0; !signal.aborted && attempt < attempts; attempt++) {
      const managers = this.#options.managers()
      const target = leader ?? managers[attempt % Math.max(managers.length, 1)]
      leader = undefined
      try {
        if (target) {
          await call({ dialer, clock }, { target, path: MEMBER_PATH }, request, signal)
          return
        }
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof CodedError)) throw error
        if (error.code === 'NOT_LEADER') {
          leader = error.details.leader as ManagerAddress | undefined
          if (leader && attempt < 3) continue
        } else if (!error.retryable && !WILL_PASS.has(error.code)) throw error
        log.info({ manager: target?.address, what, reason: errorMessage(error) }, 'not taken into consensus yet')
      }
      await sleep(clock, RETRY_MS, signal)
    }
  }

  async #handOver(): Promise<void> {
    if (!this.manager.isLeader || (this.manager.status()?.peers.length ?? 0) === 0) return
    const { clock, log } = this.#options
    try {
      await Promise.race([this.manager.raft.transferLeadership(), sleep(clock, HAND_OVER_TIMEOUT_MS)])
    } catch (error) {
      log.info({ reason: errorMessage(error) }, 'leadership not handed over')
    }
  }

  /** @throws {CodedError} CONNECTION_FORBIDDEN, as the one who dials sees it */
  #accept(connection: Connection, path: string): void {
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
    else this.#serve(connection, async () => this.#roleOf(connection))
  }

  #serve(connection: Connection, respond: (request: unknown) => Promise<unknown>): void {
    const onLeader = async (request: unknown): Promise<unknown> => {
      if (this.manager.isLeader) return respond(request)
      throw new CodedError('NOT_LEADER', 'this manager is not the leader', { retryable: true })
    }
    answer(connection, onLeader, () => this.manager.leader())
  }

  async #member(connection: Connection, request: unknown): Promise<unknown> {
    const { what, ...rest } = request as MemberRequest
    const member = { ...rest, nodeId: connection.peer?.nodeId ?? '' }
    if (what === 'add') await this.manager.addMember(member)
    else if (what === 'leave') await this.manager.releaseMember(member)
    else await this.manager.refreshMember(member)
    return {}
  }

  /** What a renewed certificate would say. */
  #roleOf(connection: Connection): unknown {
    const node = this.manager.store.get('node', connection.peer?.nodeId ?? '')
    if (!node) throw new CodedError('NODE_REMOVED', 'the node is not part of the cluster')
    return { role: node.role }
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

/** A node asks what its certificate should say now. @throws {CodedError} */
export async function askRole(
  environment: { readonly dialer: Dialer; readonly clock: Clock },
  target: ManagerAddress,
  signal: AbortSignal,
): Promise<'manager' | 'worker'> {
  const reply = await call(environment, { target, path: ROLE_PATH }, {}, signal)
  return (reply as { readonly role: 'manager' | 'worker' }).role
}
