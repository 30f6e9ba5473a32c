// What the API server needs of the daemon it runs in: this node's place in the cluster, and what can be asked of it.
// The composition root implements it; tests implement it on a real Store with a proposer that applies at once.

import type { ClientRequest, RequestOptions } from 'node:http'
import type { Duplex } from 'node:stream'
import type { AttachmentRequest, LogOptions, ManagerAddress } from '../../api/dispatcher.ts'
import type { ProbeAnswer, ProbeRequest } from '../../api/network-check.ts'
import type { Task } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import type { ExternalSigner } from '../../manager/ca/external-ca.ts'
import type { Proposer, StoreEvent, StoreView } from '../../manager/store/types.ts'
import type { StoredSnapshot } from '../../raft/raft-storage.ts'
import type { Attached } from '../../worker/attachments.ts'
import type { ContainerNetworks, NetworkWishes, ResolverWishes } from '../../worker/docker/task-networks.ts'

/** Where this machine stands. Asked anew for each request, and never kept across an `await`. */
export type ClusterState =
  | { readonly kind: 'inactive' }
  /** joining: the certificate or the first contact is still outstanding */
  | { readonly kind: 'pending'; readonly nodeId: string }
  | { readonly kind: 'locked' }
  | { readonly kind: 'error'; readonly message: string }
  | {
      readonly kind: 'worker'
      readonly nodeId: string
      /** this node's advertised IP address */
      readonly nodeAddress: string
      readonly managers: readonly ManagerAddress[]
    }
  | {
      readonly kind: 'manager'
      readonly nodeId: string
      readonly nodeAddress: string
      readonly isLeader: boolean
      /** undefined: none known now */
      readonly leader: ManagerAddress | undefined
      readonly view: StoreView
      readonly proposer: Proposer
      /** Store events after this call, in order; returns the unsubscription. */
      readonly subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
      /** What this manager sees of another; a follower knows little: 'unknown' then. */
      readonly reachability: (nodeId: string) => 'reachable' | 'unreachable' | 'unknown'
    }

export interface InitRequest {
  /** host[:port], interface[:port]; '' default */
  readonly listenAddress: string
  readonly advertiseAddress: string
  readonly dataPathAddress: string
  /** 0: the default, 4789 */
  readonly dataPathPort: number
  readonly defaultAddressPools: readonly string[]
  /** 0: the default, 24 */
  readonly subnetSize: number
  readonly forceNewCluster: boolean
  /** With forceNewCluster: index of the snapshot to begin with; undefined: all that this manager has. */
  readonly fromSnapshot?: number | undefined
  readonly availability: 'active' | 'pause' | 'drain'
  /** defaults filled in */
  readonly spec: SwarmSpec
  /** as it came: what a cluster that is made anew changes of its settings */
  readonly given: SwarmSpec
}

export interface JoinRequest {
  readonly listenAddress: string
  readonly advertiseAddress: string
  readonly dataPathAddress: string
  readonly remoteAddresses: readonly string[]
  readonly joinToken: string
  readonly availability: 'active' | 'pause' | 'drain'
}

/** Plain containers on networks of the cluster. */
export interface PlaceAccess {
  /**
   * A place for a container on an attachable network. It counts as used until `settled` or `detach` is called with its id.
   * @throws {CodedError} NO_MANAGER; NO_SUCH_OBJECT, PERMISSION_DENIED, INVALID_PARAMETER, NO_ADDRESS in Docker's words
   */
  attach(request: AttachmentRequest): Promise<Attached>
  /** The container is there: from now on its place is given back when it goes. */
  settled(attachmentId: string): void
  /** Never throws. */
  detach(attachmentId: string): Promise<void>
  /**
   * Makes what the engine needs for it; that stays until `release`, and while a container is on it.
   * @throws {CodedError} TASK_FAILED with the reason
   */
  hold(holder: string, wishes: NetworkWishes): Promise<ContainerNetworks>
  /**
   * A file for /etc/resolv.conf, as tasks have it. The engine's own resolver knows the containers of a node by their addresses on
   * whatever network they share, also the hidden one. The file stays as long as the node is in the cluster.
   */
  resolvConf(nameServer: string, wishes: ResolverWishes): Promise<string>
  release(holder: string): void
}

/**
 * Errors: a CodedError whose code stands in src/api/error-status.ts gets its HTTP status; its message is what the
 * client reads, so it is Docker's text where Docker has one.
 */
export interface ClusterAccess {
  state(): ClusterState
  /**
   * Resolves when `view` shows every write that was acknowledged, on any manager, before this call.
   * @throws {CodedError} NO_LEADER
   */
  readIndex(): Promise<void>
  /** @returns this node's id. The server has checked that the node is inactive (unless forceNewCluster) and the spec. */
  init(request: InitRequest): Promise<string>
  join(request: JoinRequest): Promise<void>
  leave(force: boolean): Promise<void>
  /** @throws {CodedError} INVALID_UNLOCK_KEY, INVALID_PARAMETER (no key at all), NOT_LOCKED */
  unlock(key: string): Promise<void>
  /** undefined: this machine is in no cluster. */
  places(): PlaceAccess | undefined
  /** New join secrets (the digest of the root stays): `SWMTKN-1-<digest>-<secret>`. Pure; the server writes it to the store. */
  newJoinToken(rootDigest: string): string
  /** Asks external CAs with this manager's certificate. */
  externalSigner(): ExternalSigner
  /**
   * A request to the leader's control port over mutual TLS: https.request with host, port, certificates and the
   * server's identity check filled in; method, path and headers are the caller's. `path` begins with FORWARD_PREFIX.
   */
  requestLeader(leader: ManagerAddress, options: RequestOptions): ClientRequest
  /**
   * On the leader: the engine's multiplexed frames of one task from its node, each frame's payload beginning with the
   * engine's RFC 3339 timestamp and a space (the server strips it where it was not asked for). Aborting ends the stream.
   */
  taskLogs(task: Task, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** On the leader: what a node finds when it tries what it can reach. Rejects with what the node says, or when `signal` aborts. */
  probe(nodeId: string, request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer>
  /**
   * On a manager: a connection to the Docker API of a node's swarmd, this one included.
   * @throws {CodedError} NODE_UNREACHABLE, NO_LEADER, STREAM_TIMEOUT, NOT_MANAGER
   */
  dialNode(nodeId: string): Promise<Duplex>
  /** On the leader: has the node open a tunnel to a manager that waits for it. @throws {CodedError} NODE_UNREACHABLE */
  requestTunnel(nodeId: string, streamId: string, manager: ManagerAddress): void
  /** Of this manager's disk: the current snapshot, and those that were kept, the newest first. */
  snapshots(): readonly StoredSnapshot[]
  /** What one of them holds. @throws {CodedError} RAFT_SNAPSHOT_UNKNOWN, NOT_MANAGER */
  snapshotState(index: number): Promise<StoreView>
  /** Keys of encrypted networks are changed, by this node's example on all. @throws {CodedError} DATA_PLANE_UNAVAILABLE */
  rotateNetworkKeys(): Promise<void>
}

/** Path prefix on the control port under which forwarded requests arrive: hand them to `ApiServer.handleForwarded`. */
export const FORWARD_PREFIX = '/forwarded'
