// A cluster's root and nodes' credentials for tests that need real TLS.

import { SystemRandom } from '../../src/lib/random.ts'
import type { TlsCredentials } from '../../src/lib/tls.ts'
import { createKey, publicKeyOf } from '../../src/lib/x509.ts'
import { createNodeCertificate, createRootCa } from '../../src/lib/x509-node.ts'

const random = new SystemRandom()

export class TestAuthority {
  readonly clusterId: string
  readonly root: ReturnType<typeof createRootCa>

  constructor(clusterId = random.id()) {
    this.clusterId = clusterId
    this.root = createRootCa({ wallMs: Date.now(), random })
  }

  /** `lifeMs` below 0: expired since then. */
  credentials(options: {
    readonly role: 'manager' | 'worker'
    readonly nodeId?: string
    readonly lifeMs?: number
    readonly rootsPem?: readonly string[]
  }): TlsCredentials & { readonly nodeId: string } {
    const { role, nodeId = random.id(), lifeMs = 3_600_000, rootsPem = [this.root.certPem] } = options
    const { clusterId, root } = this
    const keyPem = createKey()
    const publicKey = publicKeyOf(keyPem)
    const identity = { nodeId, clusterId, role }
    const certPem = createNodeCertificate({ root, identity, publicKey, wallMs: Date.now(), lifeMs, random })
    return { clusterId, nodeId, certPem, keyPem, rootsPem }
  }
}
