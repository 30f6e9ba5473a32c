// Removes images that nothing uses and containers that were stopped long ago, when the cluster's settings say so. Never by force: what
// has come into use meanwhile the engine refuses to remove. Volumes are never touched.

import type { CleanUpSettings } from '../../api/cluster-settings.ts'
import { type Clock, parseTime, sleep } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { type EngineContainer, type EngineImage, planCleanUp, type UnusedSince } from './clean-up-plan.ts'
import { TASK_ID_LABEL } from './container-body.ts'
import { type EngineClient, isEngineError } from './engine-client.ts'

export interface CleanUpOptions {
  readonly engine: EngineClient
  /** images that this node's tasks name, those kept as history too */
  readonly taskImages: () => readonly string[]
  readonly underPressure: () => boolean
  /** What is known survives a restart, or a node that restarts daily would never find anything old. */
  readonly memory: {
    read(): Promise<unknown>
    write(value: unknown): Promise<void>
  }
  readonly clock: Clock
  readonly log: Log
}

export interface CleanUpCounts {
  readonly containers: number
  readonly images: number
}

interface ListedImage {
  readonly Id: string
  readonly RepoTags: readonly string[] | null
  readonly RepoDigests: readonly string[] | null
}

interface ListedContainer {
  readonly Id: string
  readonly ImageID: string
  readonly State: string
  readonly Created: number
  readonly Labels: Readonly<Record<string, string>> | null
}

const OFF: CleanUpSettings = { afterMs: undefined, onPressure: false }
const MAX_EVERY_MS = 3_600_000
const MIN_EVERY_MS = 15_000
const PRESSURE_EVERY_MS = 60_000
const STOPPED: ReadonlySet<string> = new Set(['created', 'exited', 'dead'])

export class CleanUp {
  readonly #options: CleanUpOptions
  #settings: CleanUpSettings = OFF
  #unusedSince: UnusedSince | undefined
  #containers = 0
  #images = 0
  #wake = new AbortController()

  constructor(options: CleanUpOptions) {
    this.#options = options
  }

  /** Removed since the start. */
  get removed(): CleanUpCounts {
    return { containers: this.#containers, images: this.#images }
  }

  /** The cluster's settings as they are now. */
  set(settings: CleanUpSettings = OFF): void {
    const { afterMs, onPressure } = this.#settings
    if (settings.afterMs === afterMs && settings.onPressure === onPressure) return
    this.#settings = settings
    this.#wake.abort()
  }

  /** Pressure has come or gone. */
  pressureChanged(): void {
    if (this.#settings.onPressure) this.#wake.abort()
  }

  /** Until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    while (!signal.aborted) {
      this.#wake = new AbortController()
      try {
        if (isOn(this.#settings)) await this.pass(signal)
      } catch (error) {
        if (!(error instanceof CodedError)) throw error
        log.debug({ reason: errorMessage(error) }, 'not cleaned up')
      }
      await sleep(clock, this.#everyMs(), AbortSignal.any([signal, this.#wake.signal]))
    }
  }

  /** Looks, and removes what is due. */
  async pass(signal: AbortSignal): Promise<void> {
    const { underPressure, clock, memory } = this.#options
    const before = this.#unusedSince ?? unusedSinceFrom(await memory.read())
    const images = await this.#listImages(signal)
    const taskImages = await this.#taskImages(signal)
    const containers = await this.#listContainers(signal)
    const plan = planCleanUp({
      images,
      containers,
      taskImages,
      unusedSince: before,
      settings: this.#settings,
      underPressure: underPressure(),
      nowMs: clock.wallMs(),
    })
    this.#unusedSince = plan.unusedSince
    for (const id of plan.containers) {
      if (await this.#remove(`/containers/${id}`, signal)) this.#containers++
    }
    for (const { id, references } of plan.images) {
      if (signal.aborted) break
      // A task may have come that wants it.
      if ((await this.#taskImages(signal)).has(id)) continue
      let isGone = true
      // By its names: an image with several is not removed by its id without force.
      for (const name of references.length > 0 ? references : [id]) {
        isGone = (await this.#remove(`/images/${name}`, signal)) && isGone
      }
      if (isGone) this.#images++
    }
    const removed = plan.containers.length + plan.images.length
    if (removed > 0) {
      const counts = { containers: plan.containers.length, images: plan.images.length }
      this.#options.log.info(counts, 'cleaned up: unused images, stopped containers')
    }
    await memory.write(Object.fromEntries(plan.unusedSince)).catch((error: unknown) => {
      this.#options.log.warn({ reason: errorMessage(error) }, 'what is unused was not written down')
    })
  }

  #everyMs(): number {
    const { afterMs = MAX_EVERY_MS, onPressure } = this.#settings
    const everyMs = Math.max(MIN_EVERY_MS, Math.min(afterMs / 4, MAX_EVERY_MS))
    return onPressure && this.#options.underPressure() ? Math.min(everyMs, PRESSURE_EVERY_MS) : everyMs
  }

  async #listImages(signal: AbortSignal): Promise<readonly EngineImage[]> {
    const { engine } = this.#options
    const images = await engine.json<readonly ListedImage[]>({ method: 'GET', path: '/images/json', signal })
    return images.map(({ Id, RepoTags, RepoDigests }) => {
      const named = (list: readonly string[] | null) => (list ?? []).filter((name) => !name.includes('<none>'))
      const tags = named(RepoTags)
      return { id: Id, references: tags.length > 0 ? tags : named(RepoDigests) }
    })
  }

  async #listContainers(signal: AbortSignal): Promise<readonly EngineContainer[]> {
    const { engine } = this.#options
    const request = { method: 'GET', path: '/containers/json', query: { all: true }, signal } as const
    const containers = await engine.json<readonly ListedContainer[]>(request)
    const found: EngineContainer[] = []
    for (const { Id, ImageID, State, Created, Labels } of containers) {
      const isTask = Labels?.[TASK_ID_LABEL] !== undefined
      const isStopped = STOPPED.has(State) && !isTask
      const stoppedAtMs = isStopped ? await this.#stoppedAt(Id, Created * 1000, signal) : undefined
      found.push({ id: Id, imageId: ImageID, isTask, stoppedAtMs })
    }
    return found
  }

  /** undefined: it is gone, or runs again. */
  async #stoppedAt(id: string, createdMs: number, signal: AbortSignal): Promise<number | undefined> {
    try {
      const { State } = await this.#options.engine.json<{
        readonly State: { readonly Status: string; readonly FinishedAt: string }
      }>({ method: 'GET', path: `/containers/${id}/json`, signal })
      if (!STOPPED.has(State.Status)) return undefined
      const finishedMs = parseTime(State.FinishedAt) // of one that never ran: the year 1
      return finishedMs > createdMs ? finishedMs : createdMs
    } catch (error) {
      if (isEngineError(error, 404)) return undefined
      throw error
    }
  }

  async #taskImages(signal: AbortSignal): Promise<ReadonlySet<string>> {
    const ids = new Set<string>()
    for (const image of new Set(this.#options.taskImages())) {
      try {
        const path = `/images/${image}/json`
        ids.add((await this.#options.engine.json<{ readonly Id: string }>({ method: 'GET', path, signal })).Id)
      } catch (error) {
        if (!(error instanceof CodedError) || error.code !== 'ENGINE_ERROR') throw error // it is not here
      }
    }
    return ids
  }

  /** @returns false where it is in use after all */
  async #remove(path: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#options.engine.json({ method: 'DELETE', path, signal })
      return true
    } catch (error) {
      if (isEngineError(error, 404)) return true
      if (!(error instanceof CodedError) || error.code !== 'ENGINE_ERROR') throw error
      this.#options.log.debug({ path, reason: errorMessage(error) }, 'not removed')
      return false
    }
  }
}

function isOn({ afterMs, onPressure }: CleanUpSettings): boolean {
  return afterMs !== undefined || onPressure
}

/** What another version wrote otherwise is forgotten: then images only look younger than they are. */
function unusedSinceFrom(value: unknown): UnusedSince {
  if (typeof value !== 'object' || value === null) return new Map()
  return new Map(Object.entries(value).filter((entry): entry is [string, number] => typeof entry[1] === 'number'))
}
