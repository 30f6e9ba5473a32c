// Watches this machine's disks: looks every few seconds, keeps a manager's reserve, and tells what has changed. What counts as
// full is decided in disk-level.ts.

import { stat, statfs } from 'node:fs/promises'
import { bytesText, type DiskPressure } from '../../api/disk-pressure.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Turns } from '../../lib/turns.ts'
import type { ManagerDisk } from '../../manager/disk-guard.ts'
import { type DiskSpace, nextPressure, nextReserve, type PressureLimit } from './disk-level.ts'
import type { ReserveFile } from './reserve-file.ts'

export interface DiskState {
  readonly spaces: readonly DiskSpace[]
  readonly pressure: readonly DiskPressure[]
  readonly manager: ManagerDisk
}

export interface DiskWatchOptions {
  readonly dataRoot: string
  /** What a manager keeps; of 0 bytes: nothing, and it never refuses anything. */
  readonly reserve: ReserveFile
  /** The engine's data root; undefined: it does not say, or is not on this machine. */
  readonly engineRoot: () => Promise<string | undefined>
  readonly pressureLimit: PressureLimit | undefined
  readonly clock: Clock
  readonly log: Log
  /** Default: the machine's. */
  readonly measure?: (path: string) => Promise<DiskSpace>
}

const EVERY_MS = 2_000
/** The engine's data root changes only with its configuration. */
const ENGINE_ROOT_MS = 300_000
const ENGINE_RETRY_MS = 10_000
/** A log that met no room at all is given so long to say so again. */
const STALLED_MS = 3_000
const ROOM: ManagerDisk = { kind: 'room' }

export async function measureDisk(path: string): Promise<DiskSpace> {
  const [{ bavail, blocks, bsize }, { dev }] = await Promise.all([statfs(path), stat(path)])
  return { path, device: dev, freeBytes: bavail * bsize, sizeBytes: blocks * bsize }
}

export class DiskWatch {
  readonly #options: DiskWatchOptions
  readonly #listeners = new Set<(state: DiskState) => void>()
  /** The reserve is made and given up in the order in which that was wanted. */
  readonly #turns = new Turns()
  #state: DiskState = { spaces: [], pressure: [], manager: ROOM }
  /** This node is a manager. */
  #isWanted = false
  #isLow = false
  #stalledMs = Number.NEGATIVE_INFINITY
  #engineRoot: string | undefined
  #engineAskMs = Number.NEGATIVE_INFINITY
  #wake = new AbortController()

  constructor(options: DiskWatchOptions) {
    this.#options = options
  }

  get state(): DiskState {
    return this.#state
  }

  /** Calls `listener` after each look that found something else. Returns how to end that. */
  subscribe(listener: (state: DiskState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    while (!signal.aborted) {
      try {
        await this.look()
      } catch (error) {
        log.warn({ reason: errorMessage(error) }, 'the disk was not looked at')
      }
      this.#wake = new AbortController()
      await sleep(clock, EVERY_MS, AbortSignal.any([signal, this.#wake.signal]))
    }
  }

  /** This node is a manager from now on: the reserve is made soon, where there is room. */
  keepReserve(): void {
    this.#isWanted = this.#options.reserve.sizeBytes > 0
    this.#wake.abort()
  }

  /** This node stops: the reserve stays as it is, and nobody touches it once this has resolved. */
  async leaveReserve(): Promise<void> {
    this.#isWanted = false
    this.#isLow = false
    this.#stalledMs = Number.NEGATIVE_INFINITY
    await this.#turns.idle()
  }

  /** This node is no manager any more: its reserve is given back. */
  async dropReserve(): Promise<void> {
    await this.leaveReserve()
    await this.#turns.take(() => this.#options.reserve.release())
    this.#wake.abort()
  }

  /** A write found no room. Gives the reserve up, so that the next attempt may find some. */
  async full(): Promise<void> {
    const { reserve, clock, log } = this.#options
    if (!this.#isWanted) return
    await this.#turns.take(async () => {
      if (await reserve.isMade()) {
        log.warn({ path: reserve.path, sizeBytes: reserve.sizeBytes }, 'the disk is full: the reserve is given up')
        await reserve.release()
      } else this.#stalledMs = clock.nowMs()
    })
    this.#isLow = true
    this.#wake.abort()
  }

  /** Looks now. @throws where the data root can't be looked at */
  look(): Promise<void> {
    return this.#turns.take(() => this.#look())
  }

  async #look(): Promise<void> {
    const { dataRoot, pressureLimit, measure = measureDisk } = this.#options
    this.#askEngine()
    const own = await measure(dataRoot)
    const root = this.#engineRoot
    const engine = root === undefined ? undefined : await measure(root).catch(() => undefined)
    await this.#keepReserve(own.freeBytes)
    // The engine's first: where both are on one disk, it is the name that people know.
    const spaces = engine ? [engine, own] : [own]
    const refusing = this.#isLow ? own.path : undefined
    const pressure = nextPressure(this.#state.pressure, spaces, pressureLimit, refusing)
    this.#publish({ spaces, pressure, manager: this.#managerDisk(own) })
  }

  async #keepReserve(freeBytes: number): Promise<void> {
    const { reserve } = this.#options
    if (!this.#isWanted) return
    const isMade = await reserve.isMade()
    const next = nextReserve({ isMade, isLow: this.#isLow }, freeBytes, reserve.sizeBytes)
    if (next.make) await this.#makeReserve()
    this.#isLow = next.isLow
  }

  async #makeReserve(): Promise<void> {
    const { reserve, log } = this.#options
    try {
      await reserve.make()
    } catch (error) {
      log.warn({ path: reserve.path, reason: errorMessage(error) }, 'the reserve was not made')
    }
  }

  #managerDisk({ path, freeBytes }: DiskSpace): ManagerDisk {
    if (!this.#isWanted || !this.#isLow) return ROOM
    const isStalled = this.#options.clock.nowMs() - this.#stalledMs < STALLED_MS
    return { kind: 'low', path, freeBytes, wantedBytes: 2 * this.#options.reserve.sizeBytes, isStalled }
  }

  #publish(state: DiskState): void {
    const before = this.#state
    this.#state = state
    const { manager } = state
    if (manager.kind !== before.manager.kind) {
      if (manager.kind === 'low') this.#options.log.warn({ ...manager }, `only ${bytesText(manager.freeBytes)} left`)
      else this.#options.log.info({}, 'there is room on the disk again')
    }
    if (state.pressure === before.pressure && JSON.stringify(manager) === JSON.stringify(before.manager)) return
    for (const listener of [...this.#listeners]) listener(state)
  }

  /** Nothing waits for its answer: the engine may hang, and the disk of a manager may not wait for it. */
  #askEngine(): void {
    const { engineRoot, clock } = this.#options
    const againMs = this.#engineRoot === undefined ? ENGINE_RETRY_MS : ENGINE_ROOT_MS
    if (clock.nowMs() - this.#engineAskMs < againMs) return
    this.#engineAskMs = clock.nowMs()
    engineRoot().then(
      (root) => {
        if (root === undefined || root === this.#engineRoot) return
        this.#engineRoot = root
        this.#wake.abort()
      },
      () => {}, // what the engine does not answer is asked again
    )
  }
}
