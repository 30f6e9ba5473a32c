// Gathers one sample of this node: asks the engine, swarmd-net and the disk, each within a bound, so that one that hangs makes a
// scrape late and not missing.

import { statfs } from 'node:fs/promises'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { DataPlaneStatistics } from '../../overlay/client.ts'
import type { Engine } from '../api/engine.ts'
import type { DiskState } from '../disk/disk-watch.ts'
import type { Answering, NodeFacts, Sample } from './node-facts.ts'

export interface SamplerOptions {
  readonly facts: () => NodeFacts
  readonly engine: Engine
  /** @throws {CodedError} where nobody answers */
  readonly dataPlane: (kernel: boolean, signal: AbortSignal) => Promise<DataPlaneStatistics>
  readonly dataRoot: string
  readonly disk: () => DiskState
  readonly clock: Clock
  /** Default: 2 s. */
  readonly answerWithinMs?: number
}

const ANSWER_WITHIN_MS = 2_000

export class Sampler {
  readonly #options: SamplerOptions

  constructor(options: SamplerOptions) {
    this.#options = options
  }

  /** @param counted with what the kernel counts, which costs it some time */
  async take(counted: boolean): Promise<Sample> {
    const { facts, engine, dataPlane, dataRoot, clock } = this.#options
    const [engineAnswer, dataPlaneAnswer, disk] = await Promise.all([
      this.#within(async () => versionOf((await engine.get('/version')).body)),
      this.#within((signal) => dataPlane(counted, signal)),
      statfs(dataRoot),
    ])
    return {
      ...facts(),
      wallMs: clock.wallMs(),
      engine: engineAnswer,
      dataPlane: dataPlaneAnswer,
      disk: this.#options.disk(),
      diskBytes: { free: disk.bavail * disk.bsize, size: disk.blocks * disk.bsize },
    }
  }

  async #within<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<Answering<T>> {
    const { clock, answerWithinMs = ANSWER_WITHIN_MS } = this.#options
    const late = new AbortController()
    const answered = new AbortController()
    const deadline = sleep(clock, answerWithinMs, answered.signal).then((): Answering<T> => {
      late.abort()
      return { kind: 'down', reason: `no answer within ${answerWithinMs / 1000} s` }
    })
    const answer = ask(late.signal).then(
      (value): Answering<T> => ({ kind: 'up', value }),
      (error: unknown): Answering<T> => ({ kind: 'down', reason: errorMessage(error) }),
    )
    const first = await Promise.race([answer, deadline])
    answered.abort()
    return first
  }
}

function versionOf(body: string): { readonly version: string } {
  const { Version = '' } = JSON.parse(body) as { readonly Version?: string }
  return { version: Version }
}
