// A hash of the whole state that costs only what changed: the sum (mod 2^64) of a hash per object. Managers compare it at the
// same index, so that one whose state went another way is found before it is believed.

import { createHash } from 'node:crypto'
import type { StoreObject } from '../../api/objects.ts'
import { encode } from '../../lib/codec.ts'

const MODULUS = 1n << 64n

function objectHash(object: StoreObject): bigint {
  return createHash('sha1').update(encode(object)).digest().readBigUInt64LE(0)
}

/** Sum of the objects' hashes: the order in which they came does not matter. */
export class StateHash {
  readonly #hashes = new Map<string, bigint>()
  readonly #dirty = new Map<string, StoreObject | undefined>()
  #sum = 0n

  /** Objects whose hash has to be computed yet. */
  get pending(): number {
    return this.#dirty.size
  }

  /** Notes a change; the hash is computed later, once for many changes of one object. */
  changed(key: string, object: StoreObject | undefined): void {
    this.#dirty.set(key, object)
  }

  /** Computes at most so many hashes, so that `value` has little left to do. */
  work(limit: number): void {
    let left = limit
    for (const [key, object] of this.#dirty) {
      if (left-- <= 0) return
      this.#dirty.delete(key)
      this.#sum -= this.#hashes.get(key) ?? 0n
      if (object) {
        const hash = objectHash(object)
        this.#hashes.set(key, hash)
        this.#sum += hash
      } else this.#hashes.delete(key)
    }
  }

  /** 16 hexadecimal digits. */
  value(): string {
    this.work(Number.POSITIVE_INFINITY)
    this.#sum = ((this.#sum % MODULUS) + MODULUS) % MODULUS
    return this.#sum.toString(16).padStart(16, '0')
  }
}
