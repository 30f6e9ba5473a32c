// Images for tasks, as Swarm gets them: always asked of the registry, except by id, or by digest when present, and unless the service
// says otherwise. One pull serves every task that wants the same image at that moment.

import type { Readable } from 'node:stream'
import type { PullPolicy } from '../../api/service-labels.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import { stepAborted } from '../executor.ts'
import { type EngineClient, isEngineError } from './engine-client.ts'
import { lines } from './lines.ts'

interface Pull {
  readonly done: Promise<void>
  readonly abort: AbortController
  users: number
  endedMs: number | undefined
}

/** Tasks that start one shortly after the other (a service of many replicas) share a pull that has just ended, too. */
const SHARED_FOR_MS = 2_000

export class ImagePuller {
  readonly #engine: EngineClient
  readonly #clock: Clock
  readonly #pulls = new Map<string, Pull>()

  constructor(options: { readonly engine: EngineClient; readonly clock: Clock }) {
    this.#engine = options.engine
    this.#clock = options.clock
  }

  /**
   * Resolves when the image is as new as the registry's, or needs no pull: with `missing` where it is there, with `never` anyway.
   * @throws {CodedError} IMAGE_PULL_FAILED (the image may be there all the same), STEP_ABORTED, ENGINE_UNAVAILABLE.
   */
  async pull(image: string, registryAuth: string, signal: AbortSignal, policy: PullPolicy = 'always'): Promise<void> {
    if (policy === 'never' || isImageId(image)) return
    if ((policy === 'missing' || image.includes('@')) && (await this.#present(image, signal))) return
    const key = `${image}\n${registryAuth}`
    let pull = this.#pulls.get(key)
    const ageMs = pull?.endedMs === undefined ? 0 : this.#clock.nowMs() - pull.endedMs
    if (!pull || pull.abort.signal.aborted || ageMs > SHARED_FOR_MS) {
      pull = this.#begin(image, registryAuth)
      this.#forgetOld()
      this.#pulls.set(key, pull)
    }
    await this.#share(pull, signal)
  }

  #begin(image: string, registryAuth: string): Pull {
    const abort = new AbortController()
    const done = this.#fetch(image, registryAuth, abort.signal)
    const pull: Pull = { done, abort, users: 0, endedMs: undefined }
    const end = () => {
      pull.endedMs = this.#clock.nowMs()
    }
    done.then(end, end)
    return pull
  }

  /** Waits for the pull; when nobody waits for it any more, it is given up. */
  async #share(pull: Pull, signal: AbortSignal): Promise<void> {
    pull.users++
    let leave = () => {}
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(stepAborted())
      if (signal.aborted) leave()
      else signal.addEventListener('abort', leave, { once: true })
    })
    try {
      await Promise.race([pull.done, left])
    } finally {
      signal.removeEventListener('abort', leave)
      pull.users--
      if (pull.users === 0 && pull.endedMs === undefined && signal.aborted) pull.abort.abort()
    }
  }

  #forgetOld(): void {
    const nowMs = this.#clock.nowMs()
    for (const [key, { endedMs }] of this.#pulls)
      if (endedMs !== undefined && nowMs - endedMs > SHARED_FOR_MS) this.#pulls.delete(key)
  }

  async #present(image: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#engine.json({ method: 'GET', path: `/images/${image}/json`, signal })
      return true
    } catch (error) {
      if (isEngineError(error, 404)) return false
      throw error
    }
  }

  async #fetch(image: string, registryAuth: string, signal: AbortSignal): Promise<void> {
    const { name, tag } = splitReference(image)
    let body: Readable
    try {
      body = await this.#engine.stream({
        method: 'POST',
        path: '/images/create',
        query: { fromImage: name, tag },
        registryAuth,
        signal,
      })
    } catch (error) {
      if (error instanceof CodedError && error.code === 'ENGINE_ERROR')
        throw new CodedError('IMAGE_PULL_FAILED', error.message, { cause: error })
      throw error
    }
    try {
      for await (const line of lines(body)) {
        const failed = line.includes('"error"') ? (JSON.parse(line) as { error?: string }).error : undefined
        if (failed) throw new CodedError('IMAGE_PULL_FAILED', failed)
      }
    } catch (error) {
      if (signal.aborted) throw stepAborted()
      if (error instanceof CodedError) throw error
      throw new CodedError('IMAGE_PULL_FAILED', 'the pull was interrupted', { cause: error })
    }
  }
}

/** `sha256:…`: an id names one image for good, no registry has another. */
function isImageId(image: string): boolean {
  return /^(sha256:)?[0-9a-f]{64}$/.test(image)
}

/** Without a tag the engine would pull all tags; a digest is a tag to it, and outweighs one. */
export function splitReference(image: string): { readonly name: string; readonly tag: string } {
  const at = image.indexOf('@')
  const tagged = at < 0 ? image : image.slice(0, at)
  const colon = tagged.lastIndexOf(':')
  const hasTag = colon > tagged.lastIndexOf('/')
  const name = hasTag ? tagged.slice(0, colon) : tagged
  if (at >= 0) return { name, tag: image.slice(at + 1) }
  return { name, tag: hasTag ? tagged.slice(colon + 1) : 'latest' }
}
