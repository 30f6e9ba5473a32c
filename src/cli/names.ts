// Names for ids in listings and logs. An id whose object is gone or cannot be read stays an id.

import type { ApiClient } from './client.ts'
import { ConnectionError, DaemonError } from './client.ts'

export class NameResolver {
  readonly #client: ApiClient
  readonly #resolve: boolean
  readonly #cache = new Map<string, Promise<string>>()

  /** With `resolve` false, ids stay ids (--no-resolve). */
  constructor(client: ApiClient, resolve: boolean) {
    this.#client = client
    this.#resolve = resolve
  }

  /** The node's name if it has one, else its hostname. */
  node(id: string): Promise<string> {
    return this.#once(`/nodes/${id}`, id, (json) => {
      const node = json as { Spec?: { Name?: string }; Description?: { Hostname?: string } }
      return node.Spec?.Name || node.Description?.Hostname || id
    })
  }

  service(id: string): Promise<string> {
    return this.#once(`/services/${id}`, id, (json) => (json as { Spec?: { Name?: string } }).Spec?.Name ?? '')
  }

  #once(path: string, id: string, name: (json: unknown) => string): Promise<string> {
    if (!this.#resolve || id === '') return Promise.resolve(id)
    let known = this.#cache.get(path)
    if (!known) {
      known = this.#client.json<unknown>('GET', path).then(name, (error: unknown) => {
        if (error instanceof DaemonError || error instanceof ConnectionError) return id
        throw error
      })
      this.#cache.set(path, known)
    }
    return known
  }
}
