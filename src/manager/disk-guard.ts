// A manager whose disk is nearly full: it takes no request that makes the store grow, hands leadership over to a manager
// with room, and stands back in elections. What the leader itself has to write (statuses, placements) goes on.

import { bytesText } from '../api/disk-pressure.ts'
import type { Node } from '../api/objects.ts'
import { managerRefusal } from '../api/validation/refusal.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { CodedError, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { PeerProgress, RaftNodeStatus } from '../raft/raft-node-types.ts'
import { makesStoreGrow } from './growth.ts'
import type { Proposer, StoreView, Transaction } from './store/types.ts'

export type ManagerDisk =
  | { readonly kind: 'room' }
  | {
      readonly kind: 'low'
      /** of the data root */
      readonly path: string
      readonly freeBytes: number
      /** what has to be free until all is well again */
      readonly wantedBytes: number
      /** Even what has to be written finds no room: this manager can't lead. */
      readonly isStalled: boolean
    }

export interface DiskGuardOptions {
  readonly nodeId: string
  readonly view: StoreView
  readonly raft: {
    /** undefined: it does not run */
    status(): RaftNodeStatus | undefined
    transferLeadership(to: string): Promise<void>
    setReluctant(isReluctant: boolean): void
  }
  readonly nodeOf: (raftId: string) => string
  readonly clock: Clock
  readonly log: Log
}

/** Between two attempts to hand over. */
const RETRY_MS = 3_000
/**
 * Who gets the leadership back so soon keeps it for a while, twice as long each time: the others have no room either, and can't have
 * that written down while nobody leads for long enough.
 */
const COMES_BACK_MS = 60_000
const KEPT_MS = { least: 5_000, most: 60_000 } as const

export class DiskGuard {
  readonly #options: DiskGuardOptions
  #disk: ManagerDisk = { kind: 'room' }
  /** The last attempt to hand over failed: requests need not wait for the next one. */
  #hasFailed = false
  #handedOverMs = Number.NEGATIVE_INFINITY
  #keptForMs = 0
  #keepsUntilMs = Number.NEGATIVE_INFINITY
  #wake = new AbortController()

  constructor(options: DiskGuardOptions) {
    this.#options = options
  }

  get disk(): ManagerDisk {
    return this.#disk
  }

  /** How the disk is now. */
  set(disk: ManagerDisk): void {
    this.#disk = disk
    this.#options.raft.setReluctant(disk.kind === 'low')
    if (disk.kind === 'room') this.#hasFailed = false
    else this.#wake.abort()
  }

  /** This manager has begun to lead. */
  leads(): void {
    this.#hasFailed = false
    const nowMs = this.#options.clock.nowMs()
    const isBack = nowMs - this.#handedOverMs < COMES_BACK_MS
    this.#keptForMs = isBack ? Math.min(KEPT_MS.most, Math.max(KEPT_MS.least, 2 * this.#keptForMs)) : 0
    this.#keepsUntilMs = nowMs + this.#keptForMs
    if (this.#disk.kind === 'low') this.#wake.abort()
  }

  /** As `proposer`, for what users ask. It also throws RESOURCE_EXHAUSTED. */
  guarded(proposer: Proposer): Proposer {
    return {
      propose: (transaction) => {
        const refusal = this.#refusal(transaction)
        return refusal ? Promise.reject(refusal) : proposer.propose(transaction)
      },
    }
  }

  /** Hands over whenever this manager leads and has no room, until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#wake = new AbortController()
      const heir = this.#heir()
      if (heir !== undefined) await this.#handOver(heir)
      const until = AbortSignal.any([signal, this.#wake.signal])
      if (this.#disk.kind === 'low') await sleep(this.#options.clock, RETRY_MS, until)
      else await aborted(until)
    }
  }

  #refusal(transaction: Transaction): CodedError | undefined {
    const disk = this.#disk
    if (disk.kind === 'room' || !makesStoreGrow(this.#options.view, transaction)) return undefined
    // It has just handed over: who leads now takes the request.
    if (this.#options.raft.status()?.role !== 'leader') return undefined
    if (!this.#hasFailed && this.#heir() !== undefined) {
      // Another manager takes the request in a moment.
      return new CodedError('NOT_LEADER', 'this manager hands leadership over', { retryable: true })
    }
    const name = this.#options.view.get('node', this.#options.nodeId)?.description.Hostname || this.#options.nodeId
    const { path, freeBytes, wantedBytes } = disk
    return managerRefusal(
      'RESOURCE_EXHAUSTED',
      `manager ${name} has only ${bytesText(freeBytes)} left on ${path}, and no other manager that is up has more: ` +
        `nothing new is taken until ${bytesText(wantedBytes)} are free there. ` +
        'What exists can be read, removed and scaled down; what runs goes on',
    )
  }

  /** Who could lead in this leader's place: undefined where it does not lead, need not or cannot hand over. */
  #heir(): string | undefined {
    const disk = this.#disk
    const status = disk.kind === 'low' ? this.#options.raft.status() : undefined
    if (disk.kind === 'room' || status?.role !== 'leader') return undefined
    if (this.#options.clock.nowMs() < this.#keepsUntilMs) return undefined
    const peers = status.peers
      .filter(({ id, recentActive, state }) => recentActive && state !== 'snapshot' && status.conf.voters.includes(id))
      .sort((a, b) => b.match - a.match || (a.id < b.id ? -1 : 1))
    // Whoever can't write at all is worse a leader than anybody else.
    return (peers.find((peer) => this.#hasRoom(peer)) ?? (disk.isStalled ? peers[0] : undefined))?.id
  }

  #hasRoom({ id }: PeerProgress): boolean {
    const node: Node | undefined = this.#options.view.get('node', this.#options.nodeOf(id))
    return !(node?.description.DiskPressure ?? []).some(({ RefusesWrites }) => RefusesWrites === true)
  }

  async #handOver(heir: string): Promise<void> {
    const { raft, nodeOf, log } = this.#options
    const to = nodeOf(heir)
    try {
      await raft.transferLeadership(heir)
      this.#handedOverMs = this.#options.clock.nowMs()
      log.warn({ to }, 'leadership handed over: there is no room on the disk')
    } catch (error) {
      this.#hasFailed = true
      log.warn({ to, reason: errorMessage(error) }, 'leadership not handed over, though there is no room on the disk')
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
