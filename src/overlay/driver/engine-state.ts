// What the engine has told its network driver: its networks and the end points on them, and the addresses that this node gave out
// itself. The engine tells each thing once, so it is kept on disk; after a crash of the engine some of it is never taken back.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { LocalAttachment } from '../desired-state.ts'

export interface EngineNetwork {
  /** the engine's id */
  readonly id: string
  /** the cluster's, or EGRESS_NETWORK_ID */
  readonly networkId: string
  /** CIDRs */
  readonly subnets: readonly string[]
}

export interface EngineEndpoint {
  readonly local: LocalAttachment
  /** between Join and Leave: the container is there */
  readonly joined: boolean
  /** How many of our end points its container joins while it starts; absent: one. */
  readonly siblings?: number
}

interface Saved {
  readonly format: number
  readonly networks: readonly EngineNetwork[]
  /** Of an earlier build, which had no second file. */
  readonly endpoints?: readonly EngineEndpoint[]
  readonly egress?: readonly string[]
}

/** The second file: what changes with every container. No container outlives a power loss, so it need not either. */
interface SavedContainers {
  readonly format: number
  readonly endpoints: readonly EngineEndpoint[]
  readonly egress: readonly string[]
}

const FORMAT = 1
const CONTAINERS_SUFFIX = '.containers'

export class EngineState {
  readonly #path: string
  readonly #log: Log
  readonly networks = new Map<string, EngineNetwork>()
  /** by the engine's id */
  readonly endpoints = new Map<string, EngineEndpoint>()
  /** addresses given out for containers that only go out */
  readonly egress = new Set<string>()
  #writing: Promise<void> | undefined
  #again = false
  /** as the first file has them */
  #savedNetworks: string | undefined

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  async load(): Promise<void> {
    const saved = await this.#read<Saved>(this.#path)
    for (const network of saved?.networks ?? []) this.networks.set(network.id, network)
    const containers = (await this.#read<SavedContainers>(`${this.#path}${CONTAINERS_SUFFIX}`)) ?? saved
    for (const endpoint of containers?.endpoints ?? []) this.endpoints.set(endpoint.local.endpointId, endpoint)
    for (const address of containers?.egress ?? []) this.egress.add(address)
  }

  /** undefined: it is not there, or nobody can read it. */
  async #read<T extends { readonly format: number }>(path: string): Promise<T | undefined> {
    try {
      const saved = JSON.parse(await readFile(path, 'utf8')) as T
      return saved.format === FORMAT ? saved : undefined
    } catch (error) {
      if (errorCode(error) !== 'ENOENT')
        this.#log.warn({ path, reason: errorMessage(error) }, 'what the engine had told cannot be read')
      return undefined
    }
  }

  /** End points with a container. */
  *locals(): Generator<LocalAttachment> {
    for (const { local, joined } of this.endpoints.values()) if (joined) yield local
  }

  /** Resolves when all changes up to now outlive this process, and those of networks the machine too. Writes of many callers are one. */
  async save(): Promise<void> {
    this.#again = true
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
    await this.#writing
  }

  async #write(): Promise<void> {
    while (this.#again) {
      this.#again = false
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
      const containers: SavedContainers = {
        format: FORMAT,
        endpoints: [...this.endpoints.values()],
        egress: [...this.egress],
      }
      const networks = JSON.stringify({ format: FORMAT, networks: [...this.networks.values()] } satisfies Saved)
      await replace(`${this.#path}${CONTAINERS_SUFFIX}`, JSON.stringify(containers), false)
      if (networks === this.#savedNetworks) continue
      // Over a power loss too: the engine remembers its networks, and does not tell of them again.
      await replace(this.#path, networks, true)
      this.#savedNetworks = networks
    }
  }
}

async function replace(path: string, content: string, flush: boolean): Promise<void> {
  await writeFile(`${path}.new`, content, { mode: 0o600, flush })
  await rename(`${path}.new`, path)
}
