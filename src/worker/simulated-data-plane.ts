// A machine's data plane on virtual time: it outlives the worker, takes its time, and can be away. For the simulator and for
// tests of what stands above it.

import type { DataPathReport } from '../api/data-plane.ts'
import type { ProbeAnswer } from '../api/network-check.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { CodedError } from '../lib/errors.ts'
import type { DataPlane, DataPlaneFacts, DrainOptions } from '../overlay/client.ts'
import { type DesiredChange, type DesiredState, DesiredStore } from '../overlay/desired-state.ts'

const APPLY_MS = 5
const POLL_MS = 50

export const QUIET_REPORT: DataPathReport = {
  port: 4789,
  mtu: 1500,
  encryptionKeys: [],
  encryptionProblem: '',
  routes: [],
  problems: [],
}

export class SimulatedDataPlane implements DataPlane {
  readonly #clock: Clock
  readonly #kernel = new DesiredStore()
  readonly #listeners = new Set<(report: DataPathReport) => void>()
  #report = QUIET_REPORT
  #queue: Promise<void> = Promise.resolve()
  #up = true
  /** Changes that were made. */
  readonly changes: DesiredChange[] = []
  /** How long the connections of a task still move data once it is drained; by default it has none. */
  busyMs: (taskId: string) => number = () => 0

  constructor(options: { readonly clock: Clock }) {
    this.#clock = options.clock
  }

  /** What the kernel has: a live view. */
  get state(): DesiredState {
    return this.#kernel.state
  }

  goDown(): void {
    this.#up = false
  }

  goUp(): void {
    this.#up = true
  }

  /** The node's report changes. */
  say(report: Partial<DataPathReport>): void {
    this.#report = { ...this.#report, ...report }
    for (const listener of this.#listeners) listener(this.#report)
  }

  apply(change: DesiredChange): Promise<void> {
    const before = this.#queue
    const mine = (async (): Promise<void> => {
      await before
      while (!this.#up) await sleep(this.#clock, POLL_MS)
      await sleep(this.#clock, APPLY_MS)
      if (!change.complete && change.revision <= this.#kernel.state.revision)
        throw new CodedError('DATA_PLANE_ORDER', `revision ${change.revision} is not above the last one`)
      this.#kernel.apply(change)
      this.changes.push(change)
    })()
    this.#queue = mine.catch(() => {})
    return mine
  }

  async facts(): Promise<DataPlaneFacts> {
    return {
      driver: 'swarmctl',
      dnsAddress: '169.254.77.53',
      egressSubnet: '100.96.0.0/16',
      egressGateway: '100.96.0.1',
    }
  }

  async report(): Promise<DataPathReport> {
    return this.#report
  }

  async watch(listener: (report: DataPathReport) => void, signal: AbortSignal): Promise<void> {
    listener(this.#report)
    this.#listeners.add(listener)
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    this.#listeners.delete(listener)
  }

  async probe(): Promise<ProbeAnswer> {
    return { results: [] }
  }

  async rotateKeys(): Promise<void> {}

  async drained({ taskId, quietMs, maxMs }: DrainOptions, signal: AbortSignal): Promise<void> {
    const busyMs = this.busyMs(taskId)
    if (busyMs > 0) await sleep(this.#clock, Math.min(busyMs + quietMs, maxMs), signal)
  }
}
