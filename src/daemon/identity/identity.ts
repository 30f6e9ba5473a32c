// Who this machine is in its cluster, as held in memory: immutable values, replaced as a whole by a renewal.

import type { TlsCredentials } from '../../lib/tls.ts'
import { type NodeCertificate, readNodeCertificate } from '../../lib/x509-node.ts'

export interface Identity extends TlsCredentials {
  readonly nodeId: string
}

/** The certificate's view of an identity. @throws {CodedError} CERTIFICATE_INVALID */
export function certificateOf(identity: Identity): NodeCertificate {
  return readNodeCertificate(identity)
}

/** The identity in use. Dialers and servers read `credentials` when they open something new. */
export class CurrentIdentity {
  readonly #listeners = new Set<(identity: Identity) => void>()
  #identity: Identity

  constructor(identity: Identity) {
    this.#identity = identity
  }

  get value(): Identity {
    return this.#identity
  }

  /** For WsDialer, PeerClient. */
  readonly credentials = (): TlsCredentials => this.#identity

  replace(identity: Identity): void {
    this.#identity = identity
    for (const listener of this.#listeners) listener(identity)
  }

  /** @returns ends it */
  subscribe(listener: (identity: Identity) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
