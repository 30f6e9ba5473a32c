// This machine's membership over time: none, joining, worker, manager, left. What the API server asks, this answers.

import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import type { ClientRequest, RequestOptions } from 'node:http'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { LogOptions, ManagerAddress } from '../api/dispatcher.ts'
import type { ProbeAnswer, ProbeRequest } from '../api/network-check.ts'
import type { Task } from '../api/objects.ts'
import type { NodeDescription } from '../api/spec.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { Histogram } from '../lib/histogram.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { readBody } from '../lib/tls-request.ts'
import { Turns } from '../lib/turns.ts'
import { createKey, createRequest } from '../lib/x509.ts'
import { ingressNetwork } from '../manager/allocator/ingress-network.ts'
import { createCluster, createFirstNode } from '../manager/ca/create-cluster.ts'
import type { ExternalSigner } from '../manager/ca/external-ca.ts'
import { makeJoinToken } from '../manager/ca/join-token.ts'
import { parseUnlockKey } from '../manager/ca/unlock-key.ts'
import type { Manager } from '../manager/manager.ts'
import { OWN_FEATURE_LEVEL } from '../manager/membership/feature-level.ts'
import type { StoreView } from '../manager/store/types.ts'
import type { DataPlane } from '../overlay/client.ts'
import type { StoredSnapshot } from '../raft/raft-storage.ts'
import type { SocketSource } from '../worker/docker/container-body.ts'
import { chooseAddresses, DEFAULT_LISTEN_ADDRESS, hostOf, machineAddresses, type NodeAddresses } from './addresses.ts'
import {
  type ClusterAccess,
  type ClusterState,
  FORWARD_PREFIX,
  type InitRequest,
  type JoinRequest,
  type PlaceAccess,
} from './api/cluster-access.ts'
import { ClusterNode, describeEnd } from './cluster-node.ts'
import type { RequestHandler } from './control-port.ts'
import type { DiskWatch } from './disk/disk-watch.ts'
import type { Identity } from './identity/identity.ts'
import { IdentityFile } from './identity/identity-file.ts'
import { joinCluster } from './identity/join.ts'
import type { FirstState } from './manager-part.ts'
import { type Membership, MembershipFile } from './membership-file.ts'
import type { NodeFacts } from './metrics/node-facts.ts'

export interface MachineDataPlane extends DataPlane {
  /** The machine is in no cluster any more, and the data plane has been told so. Never throws. */
  retire(): Promise<void>
}

export interface SwarmdOptions {
  readonly dataRoot: string
  readonly execRoot: string
  /** `unix:///path` of the local engine */
  readonly engine: string
  readonly defaultAdvertiseAddress: string
  /** this swarmd's socket, for services that bind the engine's */
  readonly dockerSocket: () => Promise<SocketSource>
  /** of this machine, whichever cluster it is in */
  readonly dataPlane: MachineDataPlane
  readonly disk: DiskWatch
  /** A connection to this machine's API. */
  readonly localApi: () => Duplex
  /** CIDRs that this machine reaches by routes of its own. */
  readonly hostRoutes: () => Promise<readonly string[]>
  readonly describe: (engine: NodeDescription) => NodeDescription
  readonly forwarded: RequestHandler
  /** What this node is, or who leads, has changed. */
  readonly onChange: () => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** As long as `docker swarm join` waits before it says that the attempt goes on. */
const JOIN_TIMEOUT_MS = 20_000
const INIT_TIMEOUT_MS = 20_000
const UNLOCK_TIMEOUT_MS = 20_000
const REGISTER_TIMEOUT_MS = 5000
const RESIGN_TIMEOUT_MS = 5000
const REMOVE_CONTAINERS_TIMEOUT_MS = 60_000
const POLL_MS = 5
const TUNNEL_TIMEOUT_MS = 10_000
const MAX_ANSWER_BYTES = 64 * 1024

interface Running {
  readonly node: ClusterNode
  readonly stop: AbortController
  /** ends when the node has stopped, whatever the reason */
  readonly ended: Promise<void>
}

export class Swarmd implements ClusterAccess {
  readonly #options: SwarmdOptions
  readonly #directory: string
  readonly #identityFile: IdentityFile
  readonly #membershipFile: MembershipFile
  readonly #reads = new Histogram()
  #running: Running | undefined
  #joining: { readonly nodeId: string } | undefined
  #failure: string | undefined
  /** A manager whose keys are sealed, since nobody has given the key since the start. */
  #locked = false
  /** init, join and leave one after the other */
  readonly #turns = new Turns()
  #stop: (error: unknown) => void = () => {}
  /** Rejects when the daemon must stop: a manager met what it does not know, a disk failed. */
  readonly fatal: Promise<never>

  constructor(options: SwarmdOptions) {
    this.#options = options
    this.#directory = join(options.dataRoot, 'swarm')
    this.#identityFile = new IdentityFile(this.#directory, options.random)
    this.#membershipFile = new MembershipFile(this.#directory)
    this.fatal = new Promise((_, reject) => {
      this.#stop = reject
    })
    this.fatal.catch(() => {})
  }

  /** This machine belongs to a cluster, as its disk says. */
  async isMember(): Promise<boolean> {
    return (await this.#identityFile.read()) !== undefined
  }

  /**
   * Takes up the membership that this machine had; a manager that is locked waits for `unlock`.
   * @throws {CodedError} IDENTITY_UNREADABLE, STATE_UNREADABLE, LISTEN_FAILED
   */
  async start(): Promise<void> {
    const stored = await this.#identityFile.read()
    const membership = await this.#membershipFile.read()
    if (!stored || !membership) return
    if (stored.key.kind === 'sealed') {
      this.#locked = true
      this.#options.log.warn(
        { nodeId: stored.nodeId },
        'this manager is locked: "swarm unlock" asks for the unlock key',
      )
      this.#options.onChange()
      return
    }
    const identity = await this.#identityFile.load()
    if (identity) this.#run(this.#node(identity, membership))
  }

  /** Stops without leaving: containers run on. */
  async close(): Promise<void> {
    await this.#turns.idle()
    await this.#halt()
  }

  state(): ClusterState {
    if (this.#locked) return { kind: 'locked' }
    if (this.#joining) return { kind: 'pending', nodeId: this.#joining.nodeId }
    const node = this.#running?.node
    if (!node) return this.#failure ? { kind: 'error', message: this.#failure } : { kind: 'inactive' }
    const { nodeId, address: nodeAddress, manager } = node
    if (!manager) return { kind: 'worker', nodeId, nodeAddress, managers: node.managers }
    return {
      kind: 'manager',
      nodeId,
      nodeAddress,
      isLeader: manager.isLeader,
      leader: manager.leader(),
      view: manager.store,
      proposer: manager.userProposer,
      subscribe: (listener) => manager.store.subscribe(listener),
      reachability: (id) => manager.reachability(id),
    }
  }

  facts(): NodeFacts {
    return { state: this.state(), membership: this.#running?.node.facts(), reads: this.#reads }
  }

  async readIndex(): Promise<void> {
    const manager = this.#running?.node.manager
    if (!manager) throw notAManager()
    const { clock } = this.#options
    const startMs = clock.nowMs()
    await manager.raft.readIndex()
    this.#reads.observe(clock.nowMs() - startMs)
  }

  init(request: InitRequest): Promise<string> {
    return this.#turns.take(async () => {
      if (this.#running && request.forceNewCluster) return this.#forceNewCluster(this.#running.node, request)
      if (this.#running || this.#locked) throw alreadyInSwarm()
      const addresses = this.#choose(request)
      const { clock, random, log } = this.#options
      const wallMs = clock.wallMs()
      const cluster = createCluster({
        wallMs,
        random,
        featureLevel: OWN_FEATURE_LEVEL,
        spec: request.spec,
        defaultAddressPools: request.defaultAddressPools,
        subnetSize: request.subnetSize,
        dataPathPort: request.dataPathPort,
      })
      const keyPem = createKey()
      const requestPem = createRequest({ keyPem, subject: { commonName: 'swarm-node' } })
      const raftSuffix = random.id().slice(0, 8)
      const { node: bare, certPem } = createFirstNode({
        cluster,
        requestPem,
        availability: request.availability,
        manager: { raftId: '', address: addresses.advertise, featureLevel: OWN_FEATURE_LEVEL },
        address: hostOf(addresses.advertise),
        wallMs,
        random,
      })
      const raftId = `${bare.id}-${raftSuffix}`
      const routes = await this.#options.hostRoutes()
      const ingress = ingressNetwork({ cluster, id: random.id(), wallMs, routes })
      const node = { ...bare, manager: { raftId, address: addresses.advertise, featureLevel: OWN_FEATURE_LEVEL } }
      const identity: Identity = {
        nodeId: node.id,
        clusterId: cluster.id,
        certPem,
        keyPem,
        rootsPem: [cluster.rootCa.certPem],
      }
      const membership = membershipOf(addresses, [{ nodeId: node.id, address: addresses.advertise }], raftId, true)
      await this.#begin(identity, membership, { cluster, node, ingress })
      log.info({ nodeId: node.id, clusterId: cluster.id }, 'swarm initialized')
      return node.id
    })
  }

  /** Whatever the other managers do: this one goes on alone. What fails leaves it as it was. */
  async #forceNewCluster(running: ClusterNode, request: InitRequest): Promise<string> {
    const before = await this.#membershipFile.read()
    if (!running.manager || !before) throw notAManager()
    const addresses = this.#addressesAnew(request, before)
    await this.#halt()
    const identity = await this.#identityFile.load(this.#identityFile.unlockKey)
    if (!identity) throw notInSwarm()
    const { nodeId } = identity
    const { random, log } = this.#options
    const raftId = `${nodeId}-${random.id().slice(0, 8)}`
    const membership = membershipOf(addresses, [{ nodeId, address: addresses.advertise }], raftId, true)
    const node = this.#node(identity, membership)
    try {
      await node.beginAnew(request.given, request.fromSnapshot)
    } catch (error) {
      log.error({ code: errorCode(error), reason: errorMessage(error) }, 'no cluster was made of this manager')
      this.#run(this.#node(identity, before))
      throw error
    }
    await this.#membershipFile.write(membership)
    log.warn({ nodeId }, 'this is the only manager now: the others are workers, once they come back')
    this.#run(node)
    await this.#within(INIT_TIMEOUT_MS, () => node.manager?.isLeader === true)
    return nodeId
  }

  /** Where this manager was, unless the request says otherwise: the CLI's default address says nothing. */
  #addressesAnew(
    request: InitRequest,
    { listenAddress, advertiseAddress, dataPathAddress }: Membership,
  ): NodeAddresses {
    const { listenAddress: listen, advertiseAddress: advertise, dataPathAddress: dataPath } = request
    if (advertise || (listen && listen !== DEFAULT_LISTEN_ADDRESS)) return this.#choose(request)
    const own = { listen: listenAddress, advertise: advertiseAddress, dataPath: dataPathAddress }
    return dataPath ? { ...own, dataPath: this.#choose({ ...request, advertiseAddress }).dataPath } : own
  }

  join(request: JoinRequest): Promise<void> {
    return this.#turns.take(async () => {
      if (this.#running || this.#locked) throw alreadyInSwarm()
      const addresses = this.#choose(request)
      const { clock, random } = this.#options
      const joined = await joinCluster({
        addresses: request.remoteAddresses,
        token: request.joinToken,
        availability: request.availability,
        clock,
        random,
        timeoutMs: JOIN_TIMEOUT_MS,
      })
      const { identity, managers, role } = joined
      this.#joining = { nodeId: identity.nodeId }
      try {
        const node = await this.#begin(identity, membershipOf(addresses, managers, '', false), undefined)
        await this.#within(JOIN_TIMEOUT_MS, () => role === 'worker' || node.manager !== undefined)
        await Promise.race([node.registered, sleep(clock, REGISTER_TIMEOUT_MS)])
      } catch (error) {
        // A join that only takes long goes on in the background; one that failed leaves nothing behind.
        if (errorCode(error) !== 'JOIN_TIMEOUT') await this.#forget()
        throw error
      } finally {
        this.#joining = undefined
      }
    })
  }

  leave(force: boolean): Promise<void> {
    return this.#turns.take(async () => {
      const running = this.#running
      if (!running && !this.#failure && !(await this.#identityFile.read())) throw notInSwarm()
      if (this.#locked) await this.#removeLockedContainers()
      if (running?.node.manager && force) await this.#resign(running.node)
      running?.node.announceLeave()
      await this.#halt()
      if (running) await this.#removeContainers(running.node)
      await this.#forget()
    })
  }

  unlock(key: string): Promise<void> {
    return this.#turns.take(async () => {
      if (!this.#locked) throw new CodedError('NOT_LOCKED', 'swarm is not locked')
      const identity = await this.#identityFile.load(parseUnlockKey(key))
      const membership = await this.#membershipFile.read()
      if (!identity || !membership) throw notInSwarm()
      this.#locked = false
      this.#options.log.info({ nodeId: identity.nodeId }, 'unlocked')
      const node = this.#node(identity, membership)
      this.#run(node)
      await this.#within(UNLOCK_TIMEOUT_MS, () => node.manager?.status() !== undefined)
    })
  }

  newJoinToken(rootDigest: string): string {
    return makeJoinToken(rootDigest, this.#options.random)
  }

  externalSigner(): ExternalSigner {
    const node = this.#running?.node
    if (!node) throw notInSwarm()
    return node.externalSigner
  }

  requestLeader(leader: ManagerAddress, options: RequestOptions): ClientRequest {
    const node = this.#running?.node
    if (!node) throw notInSwarm()
    return node.client.open(leader, options)
  }

  taskLogs(task: Task, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const manager = this.#running?.node.manager
    if (!manager) throw notAManager()
    return manager.taskLogs(task, options, signal)
  }

  probe(nodeId: string, request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer> {
    const manager = this.#running?.node.manager
    if (!manager) throw notAManager()
    return manager.probe(nodeId, request, signal)
  }

  async dialNode(nodeId: string): Promise<Duplex> {
    const node = this.#running?.node
    const manager = node?.manager
    if (!node || !manager) throw notAManager()
    if (nodeId === node.nodeId) return this.#options.localApi()
    if (manager.isLeader) return await manager.dispatcher.tunnel(nodeId, undefined)
    return await manager.dispatcher.tunnel(nodeId, (streamId) => this.#askForTunnel(node, manager, nodeId, streamId))
  }

  requestTunnel(nodeId: string, streamId: string, manager: ManagerAddress): void {
    const here = this.#running?.node.manager
    if (!here) throw notAManager()
    here.dispatcher.requestStream(nodeId, streamId, { kind: 'tunnel' }, manager)
  }

  async #askForTunnel(node: ClusterNode, manager: Manager, nodeId: string, streamId: string): Promise<void> {
    const leader = manager.leader()
    const Address = manager.store.get('node', node.nodeId)?.manager?.address
    if (!leader || Address === undefined) {
      throw new CodedError('NO_LEADER', 'the managers have no leader now', { retryable: true })
    }
    const { status, message } = await node.client.request(leader, {
      method: 'POST',
      path: `${FORWARD_PREFIX}/swarmd/nodes/${nodeId}/stream`,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(JSON.stringify({ StreamId: streamId, NodeId: node.nodeId, Address })),
      timeoutMs: TUNNEL_TIMEOUT_MS,
    })
    const body = await readBody(message, MAX_ANSWER_BYTES)
    if (status === 204) return
    const answer = JSON.parse(body.toString('utf8') || '{}') as { readonly message?: string }
    throw new CodedError('NODE_UNREACHABLE', answer.message ?? `the leader answered ${status}`, { retryable: true })
  }

  snapshots(): readonly StoredSnapshot[] {
    return this.#running?.node.manager?.raft.snapshots() ?? []
  }

  async snapshotState(index: number): Promise<StoreView> {
    const manager = this.#running?.node.manager
    if (!manager) throw notAManager()
    return await manager.snapshotState(index)
  }

  rotateNetworkKeys(): Promise<void> {
    return this.#options.dataPlane.rotateKeys()
  }

  places(): PlaceAccess | undefined {
    return this.#running?.node.places
  }

  #choose(request: InitRequest | JoinRequest): NodeAddresses {
    const { listenAddress: listen, advertiseAddress: advertise, dataPathAddress: dataPath } = request
    return chooseAddresses({ listen, advertise, dataPath }, this.#options.defaultAdvertiseAddress, machineAddresses())
  }

  #node(identity: Identity, membership: Membership): ClusterNode {
    const {
      execRoot,
      engine,
      dockerSocket,
      dataPlane,
      disk,
      describe,
      forwarded,
      localApi,
      onChange,
      clock,
      random,
      log,
    } = this.#options
    return new ClusterNode({
      directory: this.#directory,
      execRoot,
      engine,
      dockerSocket,
      dataPlane,
      identity,
      identityFile: this.#identityFile,
      disk,
      membership,
      membershipFile: this.#membershipFile,
      describe,
      forwarded,
      localApi,
      onChange,
      clock,
      random,
      log,
    })
  }

  /** Writes the new membership down and starts it; what fails leaves nothing behind. */
  async #begin(identity: Identity, membership: Membership, first: FirstState | undefined): Promise<ClusterNode> {
    this.#failure = undefined
    try {
      await this.#identityFile.save(identity)
      await this.#membershipFile.write(membership)
      const node = this.#node(identity, membership)
      if (first) await node.bootstrap(first)
      this.#run(node)
      if (first) {
        await this.#within(INIT_TIMEOUT_MS, () => node.manager?.isLeader === true && node.keysAreSettled)
        await Promise.race([node.registered, sleep(this.#options.clock, REGISTER_TIMEOUT_MS)])
      }
      return node
    } catch (error) {
      await this.#forget()
      throw error
    }
  }

  /** As if this machine had never been a node. */
  async #forget(): Promise<void> {
    const running = this.#running
    await this.#halt()
    // A node that was not taken in as a manager may have been given tasks already.
    if (running) await this.#removeContainers(running.node)
    await this.#identityFile.remove()
    await rm(this.#directory, { recursive: true, force: true })
    this.#failure = undefined
    this.#locked = false
    this.#options.onChange()
  }

  /** Its tasks' containers run on while a manager is locked; to take them down no key is needed. */
  async #removeLockedContainers(): Promise<void> {
    const stored = await this.#identityFile.read()
    const membership = await this.#membershipFile.read()
    if (stored && membership) await this.#removeContainers(this.#node({ ...stored, keyPem: '' }, membership))
  }

  #run(node: ClusterNode): void {
    const stop = new AbortController()
    const ended = (async () => {
      try {
        await node.run({ signal: stop.signal })
      } catch (error) {
        await this.#onEnd(error)
      }
    })()
    this.#running = { node, stop, ended }
    this.#options.onChange()
  }

  async #onEnd(error: unknown): Promise<void> {
    this.#options.log.error({ code: errorCode(error), reason: errorMessage(error) }, 'this node has stopped')
    this.#failure = describeEnd(error)
    if (errorCode(error) === 'NODE_REMOVED') {
      const running = this.#running
      this.#running = undefined
      if (running) await this.#removeContainers(running.node)
    } else if (!this.#joining) this.#stop(error)
  }

  async #removeContainers(node: ClusterNode): Promise<void> {
    const limit = new AbortController()
    const timer = this.#options.clock.setTimer(REMOVE_CONTAINERS_TIMEOUT_MS, () => limit.abort())
    try {
      await node.removeContainers(limit.signal)
      if (!limit.signal.aborted) await Promise.race([this.#options.dataPlane.retire(), once(limit.signal, 'abort')])
      if (limit.signal.aborted) throw new CodedError('LEAVE_TIMEOUT', 'not all of it has gone in a minute')
    } catch (error) {
      this.#options.log.warn({ reason: errorMessage(error) }, 'containers of the swarm are left over')
    } finally {
      timer.cancel()
    }
  }

  async #halt(): Promise<void> {
    const running = this.#running
    running?.stop.abort()
    await running?.ended
    this.#running = undefined
    this.#options.onChange()
  }

  /** A manager that leaves by force takes itself out of the consensus where the others can agree to it. */
  async #resign(node: ClusterNode): Promise<void> {
    const limit = new AbortController()
    const timer = this.#options.clock.setTimer(RESIGN_TIMEOUT_MS, () => limit.abort())
    try {
      await node.resign(limit.signal)
    } catch (error) {
      this.#options.log.warn({ reason: errorMessage(error) }, 'left without the others’ consent')
    } finally {
      timer.cancel()
    }
  }

  async #within(timeoutMs: number, done: () => boolean): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.nowMs() + timeoutMs
    while (!done()) {
      if (!this.#running || this.#failure) throw new CodedError('NODE_FAILED', this.#failure ?? 'the node stopped')
      if (clock.nowMs() > deadlineMs) {
        throw new CodedError(
          'JOIN_TIMEOUT',
          'Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node.',
          { retryable: true },
        )
      }
      await sleep(clock, POLL_MS)
    }
  }
}

function membershipOf(
  addresses: NodeAddresses,
  managers: readonly ManagerAddress[],
  raftId: string,
  joined: boolean,
): Membership {
  return {
    listenAddress: addresses.listen,
    advertiseAddress: addresses.advertise,
    dataPathAddress: addresses.dataPath,
    managers,
    raftId,
    joined,
  }
}

function alreadyInSwarm(): CodedError {
  return new CodedError(
    'SWARM_EXISTS',
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
  )
}

function notInSwarm(): CodedError {
  return new CodedError('NOT_IN_SWARM', 'This node is not part of a swarm')
}

function notAManager(): CodedError {
  return new CodedError(
    'NOT_MANAGER',
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
  )
}
