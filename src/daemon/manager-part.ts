// The manager on this machine: a Manager with a disk, the control port and certificates. It is there while this node's
// certificate says manager.

import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ManagerAddress } from '../api/dispatcher.ts'
import type { Cluster, Network, Node } from '../api/objects.ts'
import type { SwarmSpec } from '../api/spec.ts'
import type { Clock } from '../lib/clock.ts'
import { CodedError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import { PeerClient } from '../lib/tls-request.ts'
import { WsDialer } from '../lib/ws-connection.ts'
import { authorizeNode } from '../manager/ca/authorize.ts'
import { forwardIssue } from '../manager/ca/ca-routes.ts'
import { CertificateAuthority } from '../manager/ca/certificate-authority.ts'
import { CfsslSigner } from '../manager/ca/external-ca.ts'
import { unlockKeyBytes } from '../manager/ca/unlock-key.ts'
import type { SecretDrivers } from '../manager/dispatcher/secret-request.ts'
import { Manager, nodeOfRaftId } from '../manager/manager.ts'
import { OWN_FEATURE_LEVEL } from '../manager/membership/feature-level.ts'
import { Seat } from '../manager/membership/seat.ts'
import { ConnectionRaftTransport, RAFT_PATH, RAFT_SNAPSHOT_PATH } from '../raft/connection-raft-transport.ts'
import { LevelRecordStore } from '../raft/level-record-store.ts'
import { RaftStorage } from '../raft/raft-storage.ts'
import { RecordCodec } from '../raft/record-codec.ts'
import { resealRecords } from '../raft/reseal-records.ts'
import { hostOf, portOf } from './addresses.ts'
import { FORWARD_PREFIX } from './api/cluster-access.ts'
import { ControlPort, type RequestHandler } from './control-port.ts'
import type { DiskWatch } from './disk/disk-watch.ts'
import { Autolock } from './identity/autolock.ts'
import type { CurrentIdentity } from './identity/identity.ts'
import type { IdentityFile } from './identity/identity-file.ts'
import { serveCaOn } from './identity/serve-ca.ts'
import { askMember, serveMembers } from './member-routes.ts'
import type { Membership } from './membership-file.ts'
import { RecordKeyFile } from './record-key.ts'

const FORWARD_TIMEOUT_MS = 10_000

/** What a new cluster begins with. */
export interface FirstState {
  readonly cluster: Cluster
  readonly node: Node
  readonly ingress: Network
}

export interface ManagerPartOptions {
  /** the swarm directory under the data root */
  readonly directory: string
  /** of this machine */
  readonly disk: DiskWatch
  readonly identity: CurrentIdentity
  readonly identityFile: IdentityFile
  readonly membership: Membership
  /** serves requests that other managers forward to this one */
  readonly forwarded: RequestHandler
  /** plugins of this machine */
  readonly secretDrivers: SecretDrivers
  /** where other managers may be, the best first */
  readonly managers: () => readonly ManagerAddress[]
  /** Somebody else leads, or nobody. */
  readonly onLeaderChange: () => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class ManagerPart {
  readonly manager: Manager
  readonly #options: ManagerPartOptions
  readonly #transport: ConnectionRaftTransport
  readonly #port: ControlPort
  readonly #client: PeerClient
  readonly #autolock: Autolock
  readonly #seat: Seat
  #listening = false

  private constructor(options: ManagerPartOptions, codec: RecordCodec, autolock: Autolock) {
    const { identity, membership, clock, random, log } = options
    this.#options = options
    this.#autolock = autolock
    const { credentials } = identity
    this.#client = new PeerClient({ credentials, clock })
    this.#transport = new ConnectionRaftTransport({
      id: membership.raftId,
      dialer: new WsDialer({ credentials, clock }),
      clock,
      random,
      log,
      nodeIdOf: nodeOfRaftId,
    })
    this.manager = new Manager({
      nodeId: identity.value.nodeId,
      raftId: membership.raftId,
      address: membership.advertiseAddress,
      storage: new RaftStorage({ records: recordStore(options), codec, clock }),
      transport: this.#transport,
      secretDrivers: options.secretDrivers,
      clock,
      random,
      log,
    })
    this.#seat = new Seat({
      manager: this.manager,
      raftId: membership.raftId,
      address: membership.advertiseAddress,
      joined: membership.joined,
      managers: options.managers,
      ask: (...asked) => askMember(this.#client, ...asked),
      clock,
      log,
    })
    this.#port = new ControlPort({
      credentials: identity.value,
      authorize: (peer, access) => authorizeNode(this.manager.store, peer, access, this.manager.mayJudge(peer.nodeId)),
      clock,
      log,
    })
  }

  static async create(options: ManagerPartOptions): Promise<ManagerPart> {
    await mkdir(raftDirectory(options.directory), { recursive: true, mode: 0o700 })
    const { directory, identityFile, random, clock, log } = options
    const { unlockKey } = identityFile
    const recordKeys = new RecordKeyFile(directory, random)
    let stored = await recordKeys.load(unlockKey)
    const codec = new RecordCodec({ keys: stored.ring, random })
    if (stored.ring.previous?.length) {
      // No record needs the keys of before any more when this is done, so they are forgotten.
      await resealRecords(recordStore(options), codec)
      stored = { ring: { current: stored.ring.current }, unlockKeys: unlockKey ? 1 : 0 }
      await recordKeys.write(stored.ring, unlockKey ? [unlockKey] : [])
      codec.setKeys(stored.ring)
    }
    const autolock = new Autolock({ identityFile, recordKeys, codec, stored, clock, log })
    return new ManagerPart(options, codec, autolock)
  }

  /** Removes the member's disk, and what opens it: the node is a manager no more. */
  static async erase(directory: string, random: Random): Promise<void> {
    await rm(raftDirectory(directory), { recursive: true, force: true })
    await new RecordKeyFile(directory, random).remove()
  }

  /** This manager's keys are on the disk as the cluster wants them: sealed, or in clear. */
  get keysAreSettled(): boolean {
    const cluster = this.manager.store.cluster()
    return cluster !== undefined && this.#autolock.isSettled(unlockKeyBytes(cluster.unlockKey))
  }

  /** Begins a new cluster, with its first objects. */
  async bootstrap({ cluster, node, ingress }: FirstState): Promise<void> {
    const { raftId, advertiseAddress } = this.#options.membership
    this.manager.store.restore(0, [first(cluster), first(node), first(ingress)])
    await this.manager.raft.bootstrap({ id: raftId, address: advertiseAddress })
  }

  /** Goes on alone with what is on this disk: see Manager.beginAnew. */
  beginAnew(given: SwarmSpec, from: number | undefined): Promise<void> {
    return this.manager.beginAnew(OWN_FEATURE_LEVEL, given, from)
  }

  /** Opens the control port. @throws {CodedError} LISTEN_FAILED */
  async listen(): Promise<void> {
    const { listenAddress } = this.#options.membership
    this.#serve()
    await this.#port.listen({ host: hostOf(listenAddress), port: portOf(listenAddress) })
    this.#listening = true
  }

  /** For a part that will not run. */
  async stopListening(): Promise<void> {
    this.#client.close()
    await this.#port.close()
  }

  /**
   * Runs until `signal` aborts; a leader hands over first.
   * @throws {CodedError} MEMBER_REMOVED; what stops a manager for good
   */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { identity } = this.#options
    const stop = new AbortController()
    const scope = new Scope(stop.signal)
    this.manager.setDisk(this.#options.disk.state.manager)
    const unsubscribe = [
      this.#options.disk.subscribe(({ manager }) => this.manager.setDisk(manager)),
      identity.subscribe((renewed) => this.#port.renew(renewed)),
      this.manager.raft.subscribe(() => {
        this.#options.onLeaderChange()
        // Peers that a store which lagged behind had to let in are asked again.
        if (this.manager.mayJudge()) this.#port.recheck()
      }),
      this.manager.store.subscribe((events) => {
        for (const event of events) {
          if (event.objectKind === 'node') this.#port.recheck(event.id)
        }
      }),
    ]
    if (!this.#listening) await this.listen()
    scope.spawn('manager', (running) => this.manager.run({ signal: running }))
    scope.spawn('membership', (running) => this.#seat.keep(running))
    scope.spawn('autolock', (running) => this.#autolock.follow(this.manager, running))
    const handOver = async (): Promise<void> => {
      await this.#seat.handOver()
      stop.abort()
    }
    signal.addEventListener('abort', () => void handOver(), { once: true })
    if (signal.aborted) void handOver()
    try {
      await scope.wait()
    } finally {
      for (const end of unsubscribe) end()
      await scope.close()
      this.#client.close()
      await this.#port.close()
    }
  }

  /** As `Seat.join`. */
  join(signal: AbortSignal): Promise<void> {
    return this.#seat.join(signal)
  }

  /** As `Seat.leave`. */
  leave(signal: AbortSignal): Promise<void> {
    return this.#seat.leave(signal)
  }

  #serve(): void {
    const { forwarded, clock, random, log } = this.#options
    const { manager } = this
    const port = this.#port
    const transport = this.#transport
    for (const path of [RAFT_PATH, RAFT_SNAPSHOT_PATH]) {
      port.onConnection(path, 'raft', (connection) => transport.accept(connection, path))
    }
    port.onConnection('/session', 'node', (connection) => manager.acceptSession(connection))
    port.onConnection('/bulk', 'node', (connection) => manager.dispatcher.acceptStream(connection))
    port.onRequest(FORWARD_PREFIX, 'manager', forwarded)
    serveMembers(port, manager)
    const authority = new CertificateAuthority({
      view: manager.store,
      proposer: manager.proposer,
      isLeader: () => manager.isLeader,
      forwardToLeader: (request) => {
        const leader = manager.leader()
        if (!leader) throw new CodedError('NO_LEADER', 'the managers have no leader now', { retryable: true })
        return forwardIssue((ask) => this.#client.request(leader, ask), request, { timeoutMs: FORWARD_TIMEOUT_MS })
      },
      external: new CfsslSigner({ credentials: this.#options.identity.credentials, clock }),
      clock,
      random,
      log,
    })
    serveCaOn(port, authority, log)
  }
}

/** What finds no room waits for it: the others go on without this member meanwhile. */
function recordStore({ directory, disk, clock }: ManagerPartOptions): LevelRecordStore {
  return new LevelRecordStore(raftDirectory(directory), { clock, onFull: () => disk.full() })
}

function raftDirectory(directory: string): string {
  return join(directory, 'raft')
}

/** Objects of the first state have version 1: clients take 0 for "not given". */
function first<T extends Cluster | Node | Network>(object: T): T {
  return { ...object, meta: { ...object.meta, version: 1 } }
}
