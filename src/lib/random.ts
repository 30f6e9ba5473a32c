// Randomness as a dependency: the operating system's in production, a seed's in the simulator.

import { randomBytes, randomInt } from 'node:crypto'
import { customAlphabet } from 'nanoid'

export interface Random {
  /** Uniform in [0, 1). */
  float(): number
  /** Uniform integer in [0, bound). */
  below(bound: number): number
  bytes(sizeBytes: number): Uint8Array
  /** A fresh object id as Swarm's: 25 characters of 0-9a-z. */
  id(): string
}

const ID_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 25

export class SystemRandom implements Random {
  readonly #id = customAlphabet(ID_ALPHABET, ID_LENGTH)

  float(): number {
    return Math.random()
  }

  below(bound: number): number {
    return randomInt(bound)
  }

  bytes(sizeBytes: number): Uint8Array {
    return randomBytes(sizeBytes)
  }

  id(): string {
    return this.#id()
  }
}

/** xoshiro128** seeded through splitmix32: the same seed gives the same sequence on every machine. Not for secrets. */
export class SeededRandom implements Random {
  readonly #state: Uint32Array

  constructor(seed: number) {
    let mix = seed >>> 0
    this.#state = Uint32Array.from({ length: 4 }, () => {
      mix = (mix + 0x9e3779b9) >>> 0
      let z = mix
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
      return (z ^ (z >>> 16)) >>> 0
    })
  }

  #next(): number {
    const s = this.#state
    const rotate = (x: number, k: number) => ((x << k) | (x >>> (32 - k))) >>> 0
    const result = Math.imul(rotate(Math.imul(s[1]!, 5) >>> 0, 7), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = rotate(s[3]!, 11)
    return result
  }

  float(): number {
    return this.#next() / 2 ** 32
  }

  below(bound: number): number {
    return Math.floor(this.float() * bound)
  }

  bytes(sizeBytes: number): Uint8Array {
    return Uint8Array.from({ length: sizeBytes }, () => this.below(256))
  }

  id(): string {
    return Array.from({ length: ID_LENGTH }, () => ID_ALPHABET[this.below(ID_ALPHABET.length)]).join('')
  }

  /** An independent stream, so that one part's draws do not shift another's. */
  fork(): SeededRandom {
    return new SeededRandom(this.#next())
  }
}
