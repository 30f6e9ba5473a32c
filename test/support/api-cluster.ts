// A cluster of one manager for tests of the API: a real store behind a proposer that applies at once, and no network.

import { type ClientRequest, type RequestOptions, request } from 'node:http'
import type { Duplex } from 'node:stream'
import type { LogOptions, ManagerAddress } from '../../src/api/dispatcher.ts'
import type { ProbeAnswer, ProbeRequest } from '../../src/api/network-check.ts'
import type { Task } from '../../src/api/objects.ts'
import type {
  ClusterAccess,
  ClusterState,
  InitRequest,
  JoinRequest,
  PlaceAccess,
} from '../../src/daemon/api/cluster-access.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { createRootCa } from '../../src/lib/x509-node.ts'
import { ingressNetwork } from '../../src/manager/allocator/ingress-network.ts'
import type { ExternalSigner } from '../../src/manager/ca/external-ca.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import { Store } from '../../src/manager/store/store.ts'
import type { Transaction } from '../../src/manager/store/types.ts'
import type { StoredSnapshot } from '../../src/raft/raft-storage.ts'
import { noExternalCa } from './no-external-ca.ts'
import { aCluster, aNode } from './objects.ts'

export const NODE_ID = 'node00000000000000000000a'

export class ApiCluster implements ClusterAccess {
  store = new Store()
  readonly inits: InitRequest[] = []
  readonly joins: JoinRequest[] = []
  readonly unlocks: string[] = []
  readonly random = new SeededRandom(1)
  /** every transaction that was proposed */
  readonly proposed: Transaction[] = []
  current: ClusterState = { kind: 'inactive' }
  /** Runs before each proposal is applied: what another client does just then. */
  beforeApply: () => void = () => {}
  probes: (nodeId: string, request: ProbeRequest) => Promise<ProbeAnswer> = async () => ({ results: [] })
  rotations = 0
  dialed: (nodeId: string) => Promise<Duplex> = () => Promise.reject(new Error('no other node'))
  logs: (task: Task, options: LogOptions) => AsyncIterable<Uint8Array> = async function* () {}
  placeAccess: PlaceAccess | undefined
  /** socket of the leader's control port, where this one follows */
  leaderSocket = ''
  #wallMs = Date.parse('2026-01-01T00:00:00Z')

  /** As `swarm init` without flags leaves it. */
  static async inSwarm(): Promise<ApiCluster> {
    const cluster = new ApiCluster()
    await cluster.init({
      listenAddress: '',
      advertiseAddress: '',
      dataPathAddress: '',
      dataPathPort: 0,
      defaultAddressPools: [],
      subnetSize: 0,
      forceNewCluster: false,
      availability: 'active',
      spec: { Name: 'default' },
      given: {},
    })
    return cluster
  }

  state(): ClusterState {
    return this.current
  }

  async readIndex(): Promise<void> {}

  /** Applies a transaction as if another manager had proposed it. */
  apply(transaction: Transaction): number {
    this.#wallMs += 1000
    const [result] = this.store.apply(this.store.index + 1, this.#wallMs, [transaction])
    if (result?.kind === 'refused') throw new CodedError(result.code, result.message)
    return this.store.index
  }

  /** What init makes of itself in a real cluster: needed by services that publish ports. */
  addIngress(): void {
    const cluster = this.store.cluster()
    if (cluster)
      this.apply([{ kind: 'create', object: ingressNetwork({ cluster, id: 'ingress0', wallMs: this.#wallMs }) }])
  }

  /** Makes this node a manager, with the cluster's and its own objects in the store. */
  become(over: Partial<Extract<ClusterState, { kind: 'manager' }>> = {}): void {
    this.current = {
      kind: 'manager',
      nodeId: NODE_ID,
      nodeAddress: '127.0.0.1',
      isLeader: true,
      leader: { nodeId: NODE_ID, address: '127.0.0.1:2377' },
      view: this.store,
      proposer: {
        propose: async (transaction) => {
          this.proposed.push(transaction)
          this.beforeApply()
          return this.apply(transaction)
        },
      },
      subscribe: (listener) => this.store.subscribe(listener),
      reachability: () => 'reachable',
      ...over,
    }
  }

  async init(asked: InitRequest): Promise<string> {
    this.inits.push(asked)
    const digest = 'd'.repeat(50)
    const { certPem, keyPem } = createRootCa({ wallMs: this.#wallMs, random: this.random })
    this.apply([
      {
        kind: 'create',
        object: aCluster({
          spec: asked.spec,
          featureLevel: OWN_FEATURE_LEVEL,
          rootCa: {
            certPem,
            keyPem,
            digest,
            joinTokens: { worker: this.newJoinToken(digest), manager: this.newJoinToken(digest) },
          },
        }),
      },
      {
        kind: 'create',
        object: aNode(NODE_ID, {
          spec: { Role: 'manager', Availability: asked.availability },
          role: 'manager',
          description: {
            Hostname: 'manager-1',
            Platform: { Architecture: 'x86_64', OS: 'linux' },
            Resources: { NanoCPUs: 2_000_000_000, MemoryBytes: 4 * 2 ** 30 },
            Engine: { EngineVersion: '20.10.24' },
          },
          manager: { raftId: '1', address: '127.0.0.1:2377', featureLevel: 1 },
          number: 1,
        }),
      },
    ])
    this.become()
    return NODE_ID
  }

  async join(asked: JoinRequest): Promise<void> {
    this.joins.push(asked)
  }

  async leave(): Promise<void> {
    this.current = { kind: 'inactive' }
    this.store = new Store()
  }

  async unlock(key: string): Promise<void> {
    this.unlocks.push(key)
  }

  places(): PlaceAccess | undefined {
    return this.placeAccess
  }

  newJoinToken(rootDigest: string): string {
    return `SWMTKN-1-${rootDigest}-${this.random.id()}`
  }

  externalSigner(): ExternalSigner {
    return noExternalCa
  }

  requestLeader(_leader: ManagerAddress, options: RequestOptions): ClientRequest {
    return request({ ...options, socketPath: this.leaderSocket, agent: false })
  }

  taskLogs(task: Task, options: LogOptions): AsyncIterable<Uint8Array> {
    return this.logs(task, options)
  }

  dialNode(nodeId: string): Promise<Duplex> {
    return this.dialed(nodeId)
  }

  snapshots(): readonly StoredSnapshot[] {
    return [{ index: 7, term: 1, sizeBytes: 10, replacedMs: undefined }]
  }

  async snapshotState(): Promise<Store> {
    return this.store
  }

  requestTunnel(): void {}

  probe(nodeId: string, request: ProbeRequest): Promise<ProbeAnswer> {
    return this.probes(nodeId, request)
  }

  async rotateNetworkKeys(): Promise<void> {
    this.rotations++
  }
}
