// This manager's seat among the managers: how it is taken into the consensus, says where it is and what it can do, asks whether it
// still has its seat, hands over, and leaves. How others are asked is its owner's: swarmd's by HTTPS, the simulator's by its network.

import type { ManagerAddress } from '../../api/dispatcher.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Manager, MemberRequest } from '../manager.ts'
import { OWN_FEATURE_LEVEL } from './feature-level.ts'

/** Join the consensus; say where the member is now; leave the cluster. */
export type MemberCall = 'add' | 'refresh' | 'leave'

/** Who asks is known by its certificate. */
export type SeatRequest = Omit<MemberRequest, 'nodeId'>

export interface SeatOptions {
  readonly manager: Manager
  readonly raftId: string
  /** host:port of this node's control port, as others dial it */
  readonly address: string
  /** The consensus has taken this member in. */
  readonly joined: boolean
  /** where other managers may be, the best first; asked before each attempt */
  readonly managers: () => readonly ManagerAddress[]
  /**
   * One attempt at one manager.
   * @throws {CodedError} NOT_LEADER with `details.leader` (a ManagerAddress, where known); what it answered: the code, or the reason of
   *   a refusal (`role`, `removed` …)
   */
  readonly ask: (target: ManagerAddress, what: MemberCall, request: SeatRequest, signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  readonly log: Log
}

/**
 * Who is refused as a manager is being demoted or removed: the worker's session tells this node so in a moment, and ends
 * this part in its own way. One that is asked may be a worker since a moment ago, or its address another cluster's by now, and a
 * clock may be wrong: nothing that ends a manager.
 */
const WILL_PASS: ReadonlySet<string> = new Set([
  'NODE_FORBIDDEN',
  'role',
  'removed',
  'untrusted',
  'expired',
  'CONNECTION_UNTRUSTED',
])

/** A member that knows no leader for so long asks whether it still is one. */
const LONELY_MS = 5_000
const RETRY_MS = 500
const HAND_OVER_TIMEOUT_MS = 3_000

export class Seat {
  readonly #options: SeatOptions
  #joined: boolean

  constructor(options: SeatOptions) {
    this.#options = options
    this.#joined = options.joined
  }

  /**
   * Asks the managers to take this member in, until one of them does.
   * @throws {CodedError} what can't pass: FEATURE_LEVEL, NODE_FORBIDDEN …
   */
  async join(signal: AbortSignal): Promise<void> {
    await this.#ask('add', signal)
    this.#joined = !signal.aborted
  }

  /** Leaves the consensus, which goes on without this member; gives up at `signal`. */
  async leave(signal: AbortSignal): Promise<void> {
    if ((this.#options.manager.status()?.conf.voters.length ?? 0) < 2) return
    await this.handOver()
    try {
      await this.#ask('leave', signal)
    } catch (error) {
      // It is done, and the answer was lost with the connections of a manager that is none any more.
      if (errorCode(error) !== 'role') throw error
    }
  }

  /** Until `signal` aborts: tells the leader what has changed, and whether there is one. */
  async keep(signal: AbortSignal): Promise<void> {
    await this.#refresh(signal)
    await this.#watch(signal)
  }

  /** A leader hands over, as far as another takes over in time. */
  async handOver(): Promise<void> {
    const { manager, clock, log } = this.#options
    if (!manager.isLeader || (manager.status()?.peers.length ?? 0) === 0) return
    try {
      await Promise.race([manager.raft.transferLeadership(), sleep(clock, HAND_OVER_TIMEOUT_MS)])
    } catch (error) {
      log.warn({ reason: errorMessage(error) }, 'leadership not handed over')
    }
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    const { manager, address } = this.#options
    await manager.raft.ready
    const known = manager.store.get('node', manager.nodeId)?.manager
    if (!this.#joined || (known?.address === address && known.featureLevel === OWN_FEATURE_LEVEL)) return
    await this.#ask('refresh', signal)
  }

  /**
   * A member that was taken out while it was away hears of it from nobody: its own log ends before, and the others have no
   * member of its name. The leader's answer to `refresh` ends this part then, and another one joins anew.
   */
  async #watch(signal: AbortSignal): Promise<void> {
    const { manager, managers, clock } = this.#options
    for (let lonely = false; !signal.aborted; ) {
      await sleep(clock, LONELY_MS, signal)
      const status = manager.status()
      const leaderless = this.#joined && status !== undefined && status.leader === undefined
      if (leaderless && lonely) await this.#ask('refresh', signal, managers().length + 1)
      lonely = leaderless
    }
  }

  /** @param attempts gives up after so many */
  async #ask(what: MemberCall, signal: AbortSignal, attempts = Number.POSITIVE_INFINITY): Promise<void> {
    const { raftId, address, clock, log } = this.#options
    const request = { raftId, address, featureLevel: OWN_FEATURE_LEVEL }
    let leader: ManagerAddress | undefined
    for (let attempt = 0; !signal.aborted && attempt < attempts; attempt++) {
      const managers = this.#options.managers()
      const target = leader ?? managers[attempt % Math.max(managers.length, 1)]
      leader = undefined
      try {
        if (target) {
          await this.#options.ask(target, what, request, signal)
          return
        }
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof CodedError && errorCode(error) === 'NOT_LEADER') {
          leader = error.details.leader as ManagerAddress | undefined
          if (leader && attempt < 3) continue
        } else if (!(error instanceof CodedError) || !error.retryable) {
          const code = errorCode(error) ?? ''
          if (code !== 'CONNECTION_LOST' && (what === 'leave' || !WILL_PASS.has(code))) throw error
        }
        log.warn({ manager: target?.address, what, reason: errorMessage(error) }, 'not taken into consensus yet')
      }
      await sleep(clock, RETRY_MS, signal)
    }
  }
}
