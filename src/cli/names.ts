// Names for ids in listings and logs. An id whose object is gone or cannot be read stays an id.

import type { Labels } from '../api/spec.ts'
import type { ApiClient } from './client.ts'
import { ConnectionError, DaemonError } from './client.ts'

interface NamedNode {
  readonly Spec?: { readonly Name?: string }
  readonly Description?: { readonly Hostname?: string }
}

interface NamedService {
  readonly Spec?: { readonly Name?: string; readonly Labels?: Labels }
}

export class NameResolver {
  readonly #client: ApiClient
  readonly #resolve: boolean
  readonly #cache = new Map<string, Promise<unknown>>()

  /** With `resolve` false, ids stay ids (--no-resolve). */
  constructor(client: ApiClient, resolve: boolean) {
    this.#client = client
    this.#resolve = resolve
  }

  /** The node's name if it has one, else its hostname. */
  async node(id: string): Promise<string> {
    const node = (await this.#once(`/nodes/${id}`, id)) as NamedNode | undefined
    return node?.Spec?.Name || node?.Description?.Hostname || id
  }

  async service(id: string): Promise<string> {
    const service = await this.#service(id)
    return service ? (service.Spec?.Name ?? '') : id
  }

  /** None with --no-resolve. */
  async serviceLabels(id: string): Promise<Labels | undefined> {
    return (await this.#service(id))?.Spec?.Labels
  }

  async #service(id: string): Promise<NamedService | undefined> {
    return (await this.#once(`/services/${id}`, id)) as NamedService | undefined
  }

  /** undefined: it is gone, cannot be read, or is not to be. */
  #once(path: string, id: string): Promise<unknown> {
    if (!this.#resolve || id === '') return Promise.resolve(undefined)
    let known = this.#cache.get(path)
    if (!known) {
      known = this.#client.json<unknown>('GET', path).catch((error: unknown) => {
        if (error instanceof DaemonError || error instanceof ConnectionError) return undefined
        throw error
      })
      this.#cache.set(path, known)
    }
    return known
  }
}
