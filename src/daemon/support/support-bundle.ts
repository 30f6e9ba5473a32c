// A support bundle: how this node stands, as a .tar.gz that can be given away. Everything in it has gone through redact.ts.

import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type Clock, formatTime, sleep } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import { tarOf } from '../../lib/tar.ts'
import { VERSION } from '../../lib/version.ts'
import {
  encodeClusterInfo,
  encodeConfig,
  encodeNetwork,
  encodeNode,
  encodeSecret,
  encodeService,
  encodeTask,
} from '../../manager/control/render.ts'
import type { StoreView } from '../../manager/store/types.ts'
import type { Engine } from '../api/engine.ts'
import { type ManagerState, sightOf } from '../api/node-state.ts'
import type { Sample } from '../metrics/node-facts.ts'
import { readinessOf } from '../metrics/readiness.ts'
import { redact, scrub, secretsOf } from './redact.ts'

export interface SupportBundleOptions {
  readonly sample: () => Promise<Sample>
  readonly engine: Engine
  /** By file name; each may reject with why there is nothing. */
  readonly logs: Readonly<Record<string, () => Promise<string>>>
  readonly clock: Clock
}

/** The tasks that changed last; a cluster's history is no news. */
const TASKS_MAX = 5_000
/** Logs are searched for this many known secrets; where there are more, they stay at home. */
const WORDS_MAX = 5_000
const SLICE_MS = 8

/** The archive, compressed. What can't be had is named in bundle.json, and the rest is there. */
export async function supportBundle(options: SupportBundleOptions): Promise<Buffer> {
  const sample = await options.sample()
  const bundle = new Bundle(options.clock)
  const { state } = sample
  await bundle.json('readiness.json', () => readinessOf(sample))
  await bundle.json('node.json', () => nodeOf(sample))
  for (const path of ['/version', '/info']) {
    await bundle.json(`engine${path.replace('/', '-')}.json`, async () =>
      JSON.parse((await options.engine.get(path)).body),
    )
  }
  if (state.kind === 'manager') await addObjects(bundle, state)
  await bundle.text('metrics.txt', [], async () => {
    const { renderMetrics } = await import('../metrics/exporter.ts')
    return renderMetrics({ ...sample, loopDelay: undefined })
  })
  const words = state.kind === 'manager' ? [...new Set(secretsOf(state.view))] : []
  for (const [name, read] of Object.entries(options.logs)) {
    await bundle.text(name, words, async () => {
      if (words.length <= WORDS_MAX) return read()
      throw new CodedError('TOO_MANY_SECRETS', `more than ${WORDS_MAX} values would have to be looked for`)
    })
  }
  return bundle.pack(sample.wallMs)
}

function nodeOf({ state, membership, engine, dataPlane, diskBytes }: Sample): object {
  const { manager, ...member } = membership ?? {}
  const where = state.kind === 'manager' ? { isLeader: state.isLeader, leader: state.leader } : {}
  const loops = manager?.metrics.loops.map((loop) => ({ ...loop, problems: Object.fromEntries(loop.problems) }))
  return {
    kind: state.kind,
    ...(state.kind === 'error' ? { message: state.message } : {}),
    ...where,
    ...member,
    raft: manager?.raft,
    raftCounters: manager?.metrics.raft,
    loops,
    engine,
    dataPlane,
    diskBytes,
  }
}

async function addObjects(bundle: Bundle, state: ManagerState): Promise<void> {
  const { view } = state
  const cluster = view.cluster()
  if (cluster) await bundle.json('cluster.json', () => JSON.parse(encodeClusterInfo(cluster)))
  await bundle.list('nodes.json', view.list('node'), (node) => encodeNode(node, sightOf(state)))
  await bundle.list('services.json', view.list('service'), encodeService)
  await bundle.list('tasks.json', latestTasks(view), (task) => encodeTask(view, task))
  await bundle.list('networks.json', view.list('network'), encodeNetwork)
  await bundle.list('secrets.json', view.list('secret'), encodeSecret)
  await bundle.list('configs.json', view.list('config'), encodeConfig)
}

function latestTasks(view: StoreView) {
  const tasks = view.list('task')
  if (tasks.length <= TASKS_MAX) return tasks
  return tasks.toSorted((a, b) => (a.meta.updatedAt < b.meta.updatedAt ? 1 : -1)).slice(0, TASKS_MAX)
}

class Bundle {
  readonly #clock: Clock
  readonly #files: { readonly name: string; readonly data: Buffer }[] = []
  readonly #missing: Record<string, string> = {}

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async json(name: string, make: () => unknown): Promise<void> {
    await this.#add(name, async () => `${JSON.stringify(redact(await make()), undefined, 1)}\n`)
  }

  async text(name: string, words: readonly string[], make: () => Promise<string>): Promise<void> {
    await this.#add(name, async () => {
      let clean = await make()
      for (let at = 0; at < words.length; at += 50) {
        clean = scrub(clean, words.slice(at, at + 50))
        await sleep(this.#clock, 0)
      }
      return scrub(clean, [])
    })
  }

  /** One object a line; thousands of them let others run. */
  async list<T>(name: string, objects: readonly T[], encode: (object: T) => string): Promise<void> {
    await this.#add(name, async () => {
      const lines: string[] = []
      let startMs = this.#clock.nowMs()
      for (const object of objects) {
        lines.push(JSON.stringify(redact(JSON.parse(encode(object)))))
        if (this.#clock.nowMs() - startMs < SLICE_MS) continue
        await sleep(this.#clock, 0)
        startMs = this.#clock.nowMs()
      }
      return `[${lines.join(',\n')}]\n`
    })
  }

  pack(wallMs: number): Promise<Buffer> {
    const about = { version: VERSION, time: formatTime(wallMs), missing: this.#missing }
    const first = { name: 'bundle.json', data: Buffer.from(`${JSON.stringify(redact(about), undefined, 1)}\n`) }
    const files = [first, ...this.#files].map(({ name, data }) => ({ name: `swarmctl-support/${name}`, data }))
    return promisify(gzip)(tarOf(files, wallMs))
  }

  async #add(name: string, make: () => Promise<string>): Promise<void> {
    try {
      this.#files.push({ name, data: Buffer.from(await make()) })
    } catch (error) {
      this.#missing[name] = errorMessage(error)
    }
  }
}
