// Places of plain containers (`docker run --network`) on attachable networks: asked of the managers by this node's agent, made
// ready on the engine by its executor, and given back when their container is gone.

import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AttachmentRequest } from '../api/dispatcher.ts'
import type { Task } from '../api/objects.ts'
import { errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Attached } from '../worker/attachments.ts'
import {
  type ContainerNetworks,
  type NetworkWishes,
  type ResolverWishes,
  resolvConf,
} from '../worker/docker/task-networks.ts'
import type { PlaceAccess } from './api/cluster-access.ts'

/** Folder of the files for /etc/resolv.conf, in the cluster's directory. */
const RESOLVERS = 'resolvers'

export interface PlacesOptions {
  /** What the node keeps of its cluster. */
  readonly directory: string
  readonly agent: {
    attach(request: AttachmentRequest): Promise<Attached>
    detach(attachmentId: string): Promise<void>
    attachments(): readonly Task[]
  }
  readonly executor: {
    hold(holder: string, wishes: NetworkWishes): Promise<ContainerNetworks>
    release(holder: string): void
    placesInUse(places: readonly Task[]): Promise<ReadonlySet<string>>
    watchDepartures(listener: () => void, signal: AbortSignal): Promise<void>
  }
  readonly log: Log
}

export class Places implements PlaceAccess {
  readonly #options: PlacesOptions
  /** Granted to containers that are being made. */
  readonly #pending = new Set<string>()
  #sweeping: Promise<void> | undefined
  #again = false

  constructor(options: PlacesOptions) {
    this.#options = options
  }

  async attach(request: AttachmentRequest): Promise<Attached> {
    const attached = await this.#options.agent.attach(request)
    this.#pending.add(attached.attachmentId)
    return attached
  }

  settled(attachmentId: string): void {
    this.#pending.delete(attachmentId)
  }

  /** Where the managers don't answer, the agent gives it back later. */
  async detach(attachmentId: string): Promise<void> {
    this.#pending.delete(attachmentId)
    await this.#options.agent.detach(attachmentId).catch((error: unknown) => {
      this.#options.log.debug({ attachmentId, reason: errorMessage(error) }, 'a place on a network is given back later')
    })
  }

  hold(holder: string, wishes: NetworkWishes): Promise<ContainerNetworks> {
    return this.#options.executor.hold(holder, wishes)
  }

  async resolvConf(nameServer: string, wishes: ResolverWishes): Promise<string> {
    const hostFile = await readFile('/etc/resolv.conf', 'utf8').catch(() => '')
    const text = resolvConf(nameServer, wishes, hostFile)
    // By its content: containers that ask alike share it, and one that is started again finds it.
    const folder = join(this.#options.directory, RESOLVERS)
    const path = join(folder, `${createHash('sha256').update(text).digest('hex').slice(0, 16)}.conf`)
    await mkdir(folder, { recursive: true })
    const old = await readFile(path, 'utf8').catch(() => undefined)
    if (old !== text) await writeFile(path, text, { mode: 0o644 })
    return path
  }

  release(holder: string): void {
    this.#options.executor.release(holder)
  }

  /** Which of this node's places containers have, or are about to have. */
  async inUse(): Promise<ReadonlySet<string>> {
    const used = await this.#options.executor.placesInUse(this.#options.agent.attachments())
    return new Set([...used, ...this.#pending])
  }

  /** Gives places back as soon as their containers are gone; until aborted. */
  run(signal: AbortSignal): Promise<void> {
    return this.#options.executor.watchDepartures(() => this.#sweep(), signal)
  }

  #sweep(): void {
    this.#again = true
    this.#sweeping ??= this.#giveBack().finally(() => {
      this.#sweeping = undefined
    })
  }

  async #giveBack(): Promise<void> {
    while (this.#again) {
      this.#again = false
      const places = this.#options.agent.attachments()
      if (places.length === 0) continue
      const used = await this.inUse().catch(() => undefined) // the agent looks again in a while
      for (const { id } of used ? places : []) if (!used?.has(id)) await this.detach(id)
    }
  }
}
