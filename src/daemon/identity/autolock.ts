// Autolock on one manager: while the cluster has an unlock key, this node's private key and the keys of its Raft records
// stand on the disk sealed with it. Follows what the cluster says; whatever order of crashes, one key opens both files.

import { timingSafeEqual } from 'node:crypto'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Turns } from '../../lib/turns.ts'
import { unlockKeyBytes } from '../../manager/ca/unlock-key.ts'
import type { Manager } from '../../manager/manager.ts'
import type { KeyRing, RecordCodec } from '../../raft/record-codec.ts'
import type { RecordKeyFile, StoredKeys } from '../record-key.ts'
import type { IdentityFile } from './identity-file.ts'

const RETRY_MS = 5000
/** A state that is known to lag behind is looked at again after so long. */
const LOOK_AGAIN_MS = 500

export interface AutolockOptions {
  readonly identityFile: IdentityFile
  readonly recordKeys: RecordKeyFile
  readonly codec: RecordCodec
  /** as `recordKeys` has them */
  readonly stored: StoredKeys
  readonly clock: Clock
  readonly log: Log
}

export class Autolock {
  readonly #options: AutolockOptions
  readonly #turns = new Turns()
  #ring: KeyRing
  /** How many unlock keys open the record keys' file. */
  #unlockKeys: number

  constructor(options: AutolockOptions) {
    this.#options = options
    this.#ring = options.stored.ring
    this.#unlockKeys = options.stored.unlockKeys
  }

  /** Whether both files are sealed with this key, or in clear where it is undefined. */
  isSettled(unlockKey: Uint8Array | undefined): boolean {
    return this.#unlockKeys === (unlockKey ? 1 : 0) && sameKey(this.#options.identityFile.unlockKey, unlockKey)
  }

  /**
   * Seals both files with the key; undefined: they stand in clear. Durable when it resolves; idempotent.
   * The record keys are never sealed with what does not open the identity.
   */
  settle(unlockKey: Uint8Array | undefined): Promise<void> {
    return this.#turns.take(async () => {
      const { identityFile, recordKeys, codec } = this.#options
      if (this.isSettled(unlockKey)) return
      const before = identityFile.unlockKey
      // What was written while the key stood in clear is under a key that a copy of the disk may show.
      const renewed = unlockKey !== undefined && this.#unlockKeys === 0
      const ring = renewed
        ? { current: recordKeys.newKey(), previous: [this.#ring.current, ...(this.#ring.previous ?? [])] }
        : this.#ring
      // Whichever key opens the identity opens the record keys as well, at every step.
      if (unlockKey && before && !renewed) await this.#write(ring, [unlockKey, before])
      if (!unlockKey) await this.#write(ring, [])
      await identityFile.seal(unlockKey)
      if (unlockKey) await this.#write(ring, [unlockKey])
      codec.setKeys(ring)
    })
  }

  async #write(ring: KeyRing, unlockKeys: readonly Uint8Array[]): Promise<void> {
    await this.#options.recordKeys.write(ring, unlockKeys)
    this.#ring = ring
    this.#unlockKeys = unlockKeys.length
  }

  /** Until `signal`: as the cluster says, once this manager's state is known to be up to date. */
  async follow(manager: Manager, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    let wake = (): void => {}
    const stop = (): void => wake()
    signal.addEventListener('abort', stop, { once: true })
    const unsubscribe = manager.store.subscribe((events) => {
      if (events.some((event) => event.objectKind === 'cluster')) wake()
    })
    try {
      await manager.raft.ready
      while (!signal.aborted) {
        const cluster = manager.mayJudge() ? manager.store.cluster() : undefined
        const unlockKey = unlockKeyBytes(cluster?.unlockKey)
        let retryMs: number | undefined
        if (!cluster) retryMs = LOOK_AGAIN_MS
        else if (!this.isSettled(unlockKey)) {
          try {
            await this.settle(unlockKey)
            log.info({ locked: unlockKey !== undefined }, "this manager's keys are on disk as the cluster wants them")
            continue
          } catch (error) {
            retryMs = RETRY_MS
            const fields = { code: errorCode(error), reason: errorMessage(error) }
            log.error(fields, "this manager's keys are not on disk as the cluster wants them, will try again")
          }
        }
        const woken = new AbortController()
        wake = () => woken.abort()
        if (signal.aborted) return
        if (retryMs === undefined) await aborted(woken.signal)
        else await sleep(clock, retryMs, woken.signal)
      }
    } finally {
      unsubscribe()
      signal.removeEventListener('abort', stop)
    }
  }
}

function sameKey(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (!a || !b) return a === b
  return a.length === b.length && timingSafeEqual(a, b)
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
