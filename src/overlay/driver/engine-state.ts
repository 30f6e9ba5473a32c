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
}

interface Saved {
  readonly format: number
  readonly networks: readonly EngineNetwork[]
  readonly endpoints: readonly EngineEndpoint[]
  readonly egress: readonly string[]
}

const FORMAT = 1

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

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  async load(): Promise<void> {
    try {
      const saved = JSON.parse(await readFile(this.#path, 'utf8')) as Saved
      if (saved.format !== FORMAT) return
      for (const network of saved.networks) this.networks.set(network.id, network)
      for (const endpoint of saved.endpoints) this.endpoints.set(endpoint.local.endpointId, endpoint)
      for (const address of saved.egress) this.egress.add(address)
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return
      this.#log.warn({ path: this.#path, reason: errorMessage(error) }, 'what the engine had told cannot be read')
    }
  }

  /** End points with a container. */
  *locals(): Generator<LocalAttachment> {
    for (const { local, joined } of this.endpoints.values()) if (joined) yield local
  }

  /** Resolves when all changes up to now are on disk. Writes of many callers are one. */
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
      const saved: Saved = {
        format: FORMAT,
        networks: [...this.networks.values()],
        endpoints: [...this.endpoints.values()],
        egress: [...this.egress],
      }
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
      // Over a power loss too: the engine remembers its networks, and does not tell of them again.
      await writeFile(`${this.#path}.new`, JSON.stringify(saved), { mode: 0o600, flush: true })
      await rename(`${this.#path}.new`, this.#path)
    }
  }
}
