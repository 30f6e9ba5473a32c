// This machine as a node of a cluster: the worker always, the manager while the certificate says so, and the renewal of that
// certificate, which is how a promotion or demotion arrives.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { TaskSocketKind } from '../api/cluster-settings.ts'
import type { ManagerAddress } from '../api/dispatcher.ts'
import type { NodeDescription, SwarmSpec } from '../api/spec.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import type { Dialer } from '../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { isDiskFull } from '../lib/level-file.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import { PeerClient } from '../lib/tls-request.ts'
import { WsDialer } from '../lib/ws-connection.ts'
import { issuerOf, tlsInfo } from '../lib/x509-node.ts'
import { CfsslSigner, type ExternalSigner } from '../manager/ca/external-ca.ts'
import { rootDigest } from '../manager/ca/join-token.ts'
import { OWN_FEATURE_LEVEL } from '../manager/membership/feature-level.ts'
import type { DataPlane } from '../overlay/client.ts'
import { Agent, type ClusterMessage } from '../worker/agent.ts'
import { CleanUp } from '../worker/docker/clean-up.ts'
import type { SocketSource } from '../worker/docker/container-body.ts'
import { DockerExecutor } from '../worker/docker/docker-executor.ts'
import { EngineClient } from '../worker/docker/engine-client.ts'
import { LevelWorkerStorage } from '../worker/level-worker-storage.ts'
import { hostOf, localAddress } from './addresses.ts'
import { Engine } from './api/engine.ts'
import type { RequestHandler } from './control-port.ts'
import type { DiskWatch } from './disk/disk-watch.ts'
import { unusedImagesFile } from './disk/unused-images-file.ts'
import { CurrentIdentity, certificateOf, type Identity } from './identity/identity.ts'
import type { IdentityFile } from './identity/identity-file.ts'
import { CertificateRenewer } from './identity/renewal.ts'
import { type FirstState, ManagerPart } from './manager-part.ts'
import type { Membership, MembershipFile } from './membership-file.ts'
import type { MembershipFacts } from './metrics/node-facts.ts'
import { parseEngineAddress } from './options.ts'
import { Places } from './places.ts'
import { SecretPlugins } from './plugins/secret-plugins.ts'

export interface ClusterNodeOptions {
  /** the swarm directory under the data root */
  readonly directory: string
  readonly execRoot: string
  /** `unix:///path` of the local engine */
  readonly engine: string
  /** this swarmd's socket, for services that bind the engine's */
  readonly dockerSocket: () => Promise<SocketSource>
  /** of this machine; outlives this node */
  readonly dataPlane: DataPlane
  /** of this machine; outlives this node */
  readonly disk: DiskWatch
  readonly identity: Identity
  readonly identityFile: IdentityFile
  readonly membership: Membership
  readonly membershipFile: MembershipFile
  /** Adds this machine's labels and generic resources to what the engine says. */
  readonly describe: (engine: NodeDescription) => NodeDescription
  readonly forwarded: RequestHandler
  /** A connection to this machine's API. */
  readonly localApi: () => Duplex
  /** What this node is, or who leads, has changed. */
  readonly onChange: () => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

const MANAGER_RETRY_MS = 1000
const ROOM_RETRY_MS = 1000

export class ClusterNode {
  readonly #options: ClusterNodeOptions
  readonly #log: Log
  readonly #identity: CurrentIdentity
  readonly #client: PeerClient
  readonly #renewer: CertificateRenewer
  readonly #executor: DockerExecutor
  readonly #agent: Agent
  readonly #cleanUp: CleanUp
  /** Of plain containers on attachable networks. */
  readonly places: Places
  #membership: Membership
  #part: ManagerPart | undefined
  #taskSocket: TaskSocketKind = 'swarmd'
  #registered: () => void = () => {}
  /** Resolves when a leader has taken this node's first session. */
  readonly registered: Promise<void>

  constructor(options: ClusterNodeOptions) {
    const { identity, clock, random, log } = options
    this.#options = options
    this.#log = log
    this.#membership = options.membership
    this.#identity = new CurrentIdentity(identity)
    const { credentials } = this.#identity
    this.#client = new PeerClient({ credentials, clock })
    this.externalSigner = new CfsslSigner({ credentials, clock })
    this.registered = new Promise((resolve) => {
      this.#registered = resolve
    })
    this.#renewer = new CertificateRenewer({
      identity: this.#identity,
      save: (renewed, signal) => this.#whereThereIsRoom(() => options.identityFile.save(renewed), signal),
      managers: () => this.managers.map((manager) => manager.address),
      request: (target, request) => this.#client.request(target, request),
      clock,
      random,
      log,
    })
    this.#executor = new DockerExecutor({
      nodeId: identity.nodeId,
      engine: options.engine,
      execRoot: options.execRoot,
      clock,
      log,
      dataPlane: options.dataPlane,
      dockerSocket: async () => (this.#taskSocket === 'engine' ? undefined : options.dockerSocket()),
    })
    this.#agent = new Agent({
      nodeId: identity.nodeId,
      dialer: this.#selfAware(new WsDialer({ credentials, clock })),
      executor: this.#executor,
      dataPlane: options.dataPlane,
      storage: new LevelWorkerStorage(join(options.directory, 'worker'), { clock, onFull: () => options.disk.full() }),
      clock,
      random,
      log,
      managers: this.#membership.managers,
      address: hostOf(this.#membership.advertiseAddress),
      dataPathAddress: this.#membership.dataPathAddress,
      featureLevel: OWN_FEATURE_LEVEL,
      describe: (engine) => ({
        ...options.describe(engine),
        TLSInfo: this.#tlsInfo(),
        ...(options.disk.state.pressure.length > 0 && { DiskPressure: options.disk.state.pressure }),
      }),
      localApi: async () => options.localApi(),
      onClusterChange: (message) => this.#onCluster(message),
      attachmentsInUse: () => this.places.inUse(),
    })
    this.#cleanUp = new CleanUp({
      engine: new EngineClient(options.engine),
      taskImages: () => this.#agent.taskImages(),
      underPressure: () => options.disk.state.pressure.length > 0,
      memory: unusedImagesFile(options.directory),
      clock,
      log,
    })
    this.places = new Places({ directory: options.directory, agent: this.#agent, executor: this.#executor, log })
  }

  /** Asks external CAs with this node's certificate. */
  readonly externalSigner: ExternalSigner

  get nodeId(): string {
    return this.#identity.value.nodeId
  }

  /** IP address that others know */
  get address(): string {
    return hostOf(this.#membership.advertiseAddress)
  }

  /** The manager on this node, once it runs. */
  get manager(): ManagerPart['manager'] | undefined {
    return this.#membership.joined ? this.#part?.manager : undefined
  }

  /** This node's keys are on the disk as the cluster wants them: see `Autolock`. */
  get keysAreSettled(): boolean {
    return this.#part?.keysAreSettled === true
  }

  /** What metrics show of this node. */
  facts(): MembershipFacts {
    const { nodeId, clusterId } = this.#identity.value
    const { manager } = this
    return {
      nodeId,
      clusterId,
      certificateExpiresMs: certificateOf(this.#identity.value).expiresMs,
      hasSession: this.#agent.connectedTo !== undefined,
      heartbeats: this.#agent.heartbeats,
      cleanedUp: this.#cleanUp.removed,
      manager: manager && { metrics: manager.metrics(), raft: manager.status() },
    }
  }

  get client(): PeerClient {
    return this.#client
  }

  /** Where managers are, the one that has our session first. */
  get managers(): readonly ManagerAddress[] {
    const first = this.#agent.connectedTo
    const known = this.#agent.managers
    const all = known.length > 0 ? known : this.#membership.managers
    return first ? [first, ...all.filter((manager) => manager.address !== first.address)] : all
  }

  /** Makes the manager of a new cluster; before `run`. */
  bootstrap(state: FirstState): Promise<void> {
    return this.#begin((part) => part.bootstrap(state))
  }

  /** Makes this node the only manager of its cluster, with what is on its disk, or with an earlier state there; before `run`. */
  beginAnew(given: SwarmSpec, from: number | undefined): Promise<void> {
    return this.#begin((part) => part.beginAnew(given, from))
  }

  async #begin(make: (part: ManagerPart) => Promise<void>): Promise<void> {
    const part = await this.#createPart(undefined)
    // The port first: it is what most often fails, and then nothing is on disk yet.
    await part.listen()
    try {
      await make(part)
    } catch (error) {
      await part.stopListening()
      throw error
    }
    this.#part = part
  }

  /**
   * Runs until `signal` aborts.
   * @throws {CodedError} NODE_REMOVED; LISTEN_FAILED; what stops a manager or a worker for good
   */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    await mkdir(this.#options.directory, { recursive: true, mode: 0o700 })
    const scope = new Scope(signal)
    scope.spawn('agent', (running) => this.#agent.run({ signal: running }))
    scope.spawn('places', (running) => this.places.run(running))
    scope.spawn('clean-up', (running) => this.#cleanUp.run(running))
    const unsubscribe = this.#options.disk.subscribe(() => {
      this.#agent.refreshDescription()
      this.#cleanUp.pressureChanged()
    })
    scope.spawn('certificate', (running) => this.#renewer.run({ signal: running }))
    scope.spawn('manager', (running) => this.#manage(running))
    const ignoreIdentity = this.#identity.subscribe(() => this.#agent.refreshDescription())
    try {
      await scope.wait()
    } finally {
      unsubscribe()
      ignoreIdentity()
      await scope.close()
      await this.#options.disk.leaveReserve()
      this.#client.close()
    }
  }

  /** A manager takes itself out of the consensus, as far as the others can agree to it before `signal`. */
  async resign(signal: AbortSignal): Promise<void> {
    await this.#part?.leave(signal)
  }

  /** Before `run` is aborted for good: the cluster takes this node for down at once, and moves its tasks. */
  announceLeave(): void {
    this.#agent.announceLeave()
  }

  /** After `run` has ended and for good: removes every container of this node's tasks, and what they had on this machine. */
  async removeContainers(signal: AbortSignal): Promise<void> {
    await this.#agent.removeContainers({ signal })
    if (!signal.aborted) await this.#executor.dispose()
  }

  /** Runs the manager whenever the certificate says that this node is one. */
  async #manage(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#role() === 'manager') await this.#runPart(signal)
      else {
        await this.#erasePart(signal)
        await this.#roleChanged(signal)
      }
    }
  }

  /** Until the signal aborts, the role is taken away, or the consensus has removed this member. */
  async #runPart(signal: AbortSignal): Promise<void> {
    const part = this.#part ?? (await this.#createPart(signal))
    this.#part = part
    const scope = new Scope(signal)
    try {
      scope.spawn('manager part', (running) => part.run({ signal: running }))
      scope.spawn('join', async (running) => {
        if (!this.#membership.joined) await this.#join(part, running)
      })
      scope.spawn('demotion', async (running) => {
        await this.#roleChanged(running)
        if (!running.aborted) throw new CodedError('DEMOTED', 'this node is a worker now')
      })
      await scope.wait()
    } catch (error) {
      const code = errorCode(error)
      if (code !== 'DEMOTED' && code !== 'MEMBER_REMOVED') throw error
      this.#log.info({ code }, 'this node is no manager any more')
    } finally {
      this.#part = undefined
      this.#options.onChange()
      await scope.close()
    }
    if (signal.aborted) return
    // What the member kept is room for what follows.
    await this.#options.disk.dropReserve()
    await this.#whereThereIsRoom(() => this.#remember({ ...this.#membership, raftId: '', joined: false }), signal)
    if (signal.aborted) return
    await this.#erasePart(signal)
    if (this.#role() === 'manager') {
      // Removed from the consensus before the new certificate came, or removed while it is wanted again.
      this.#renewer.requestRenewal()
      await sleep(this.#options.clock, MANAGER_RETRY_MS, signal)
    }
  }

  /** @throws {CodedError} FEATURE_LEVEL; a refusal of any other kind means that the role is about to change again */
  async #join(part: ManagerPart, signal: AbortSignal): Promise<void> {
    try {
      await part.join(signal)
    } catch (error) {
      if (errorCode(error) === 'FEATURE_LEVEL') throw error
      this.#log.warn({ code: errorCode(error), reason: errorMessage(error) }, 'not taken into the consensus')
      throw new CodedError('DEMOTED', 'this node is not wanted as a manager')
    }
    if (signal.aborted) return
    await this.#whereThereIsRoom(() => this.#remember({ ...this.#membership, joined: true }), signal)
    if (signal.aborted) return
    this.#log.info({ raftId: this.#membership.raftId }, 'this node takes part in consensus')
  }

  /** A node that is no manager has nothing of the cluster's on its disk: its own key need not be sealed any more. */
  async #erasePart(signal: AbortSignal | undefined): Promise<void> {
    const { directory, identityFile, disk, random } = this.#options
    await disk.dropReserve()
    await ManagerPart.erase(directory, random)
    if (this.#role() === 'manager' || !identityFile.unlockKey) return
    await this.#whereThereIsRoom(() => identityFile.seal(undefined), signal)
  }

  async #createPart(signal: AbortSignal | undefined): Promise<ManagerPart> {
    const { directory, identityFile, disk, forwarded, clock, random, log } = this.#options
    await mkdir(directory, { recursive: true, mode: 0o700 })
    if (!this.#membership.raftId) {
      await this.#erasePart(signal)
      const raftId = `${this.nodeId}-${random.id().slice(0, 8)}`
      await this.#whereThereIsRoom(() => this.#remember({ ...this.#membership, raftId, joined: false }), signal)
    }
    disk.keepReserve()
    return ManagerPart.create({
      directory,
      disk,
      identity: this.#identity,
      identityFile,
      membership: this.#membership,
      forwarded,
      secretDrivers: new SecretPlugins({ engine: new Engine(parseEngineAddress(this.#options.engine), clock), clock }),
      onLeaderChange: this.#options.onChange,
      managers: () => this.managers.filter((manager) => manager.nodeId !== this.nodeId),
      clock,
      random,
      log,
    })
  }

  /**
   * What is to be on the disk waits on a full one: the reserve is given up for it, or somebody makes room.
   * @param signal ends the waiting; undefined: nobody waits, and a full disk is an error
   */
  async #whereThereIsRoom(write: () => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
    const { disk, clock } = this.#options
    for (;;) {
      try {
        await write()
        return
      } catch (error) {
        if (!isDiskFull(error) || !signal) throw error
        this.#log.warn({ reason: errorMessage(error) }, 'what this node is to remember waits for room on the disk')
      }
      if (signal.aborted) return
      await disk.full()
      await sleep(clock, ROOM_RETRY_MS, signal)
    }
  }

  async #remember(membership: Membership): Promise<void> {
    this.#membership = membership
    await this.#options.membershipFile.write(membership)
    this.#options.onChange()
  }

  #role(): 'manager' | 'worker' {
    return certificateOf(this.#identity.value).identity.role
  }

  /** Resolves when a renewed certificate says another role than now, or at the signal. */
  #roleChanged(signal: AbortSignal): Promise<void> {
    const before = this.#role()
    return new Promise((resolve) => {
      const unsubscribe = this.#identity.subscribe(() => {
        if (this.#role() !== before) done()
      })
      const done = (): void => {
        unsubscribe()
        resolve()
      }
      if (signal.aborted) done()
      else signal.addEventListener('abort', done, { once: true })
    })
  }

  /** This node's own manager is reached on this machine, whatever address others know it by (behind a NAT, say). */
  #selfAware(dialer: Dialer): Dialer {
    return {
      dial: (options) => {
        const { advertiseAddress, listenAddress } = this.#membership
        const own = this.#part !== undefined && options.address === advertiseAddress
        return dialer.dial(own ? { ...options, address: localAddress(listenAddress) } : options)
      },
    }
  }

  /** The root that this node trusts, and the one that has signed its certificate. */
  #tlsInfo(): ReturnType<typeof tlsInfo> {
    const { certPem, rootsPem } = this.#identity.value
    return tlsInfo(rootsPem[0] ?? '', issuerOf(certPem, rootsPem))
  }

  /** Whether this node trusts what the cluster wants trusted, and has its certificate of whom the cluster wants it. */
  #hasTrust({ rootDigest: digest, trust }: ClusterMessage): boolean {
    const { certPem, rootsPem } = this.#identity.value
    const own = rootsPem.map(rootDigest)
    if (!trust) return digest === '' || own.includes(digest)
    const { issuer, roots } = trust
    return rootDigest(issuerOf(certPem, rootsPem)) === issuer && own.join() === roots.join()
  }

  #onCluster(message: ClusterMessage): void {
    this.#registered()
    const { taskSocket = 'swarmd' } = message
    this.#taskSocket = taskSocket
    this.#cleanUp.set(message.cleanUp)
    if (message.role === this.#role() && this.#hasTrust(message)) return
    this.#log.info({ role: message.role }, 'the cluster gives this node another role or has another root')
    this.#renewer.requestRenewal()
  }
}

/** For people: why a node stopped being one. */
export function describeEnd(error: unknown): string {
  return errorCode(error) === 'NODE_REMOVED'
    ? 'this node was removed from the swarm: run "swarm leave --force" here, then join again with a token'
    : errorMessage(error)
}
