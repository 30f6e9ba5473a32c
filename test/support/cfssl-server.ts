// An external CA as CFSSL serves it: HTTPS that asks for a certificate of the cluster, POST /sign, a root that signs.

import { createServer, type Server } from 'node:https'
import { SystemRandom } from '../../src/lib/random.ts'
import {
  createCrossCertificate,
  createKey,
  createLeafCertificate,
  publicKeyOf,
  readRequest,
} from '../../src/lib/x509.ts'
import { createRootCa, nodeIdentity } from '../../src/lib/x509-node.ts'

const random = new SystemRandom()

export interface SignRequest {
  readonly hosts: readonly string[]
  readonly certificate_request: string
  readonly subject: { readonly CN: string; readonly names: readonly { readonly O?: string; readonly OU?: string }[] }
  readonly profile: string
  readonly extensions?: readonly { readonly id: string; readonly critical: boolean; readonly value: string }[]
}

const serial = () => random.bytes(16).map((byte, at) => (at === 0 ? 0x40 : byte))

export class CfsslServer {
  readonly root = createRootCa({ wallMs: Date.now(), random })
  readonly asked: { readonly by: string; readonly request: SignRequest }[] = []
  /** Its answers, where they are not to be as they should. */
  answer: (request: SignRequest) => { readonly status?: number; readonly body: string } = (request) => ({
    body: JSON.stringify({ success: true, result: { certificate: this.sign(request) }, errors: [], messages: [] }),
  })
  #server: Server | undefined
  #nextRootPem = ''

  /** @param clientRoots whose certificates it takes, beside its own */
  async start(clientRoots: readonly string[]): Promise<string> {
    const { certPem: issuerPem, keyPem: issuerKeyPem } = this.root
    const key = createKey()
    const cert = createLeafCertificate({
      issuerPem,
      issuerKeyPem,
      subject: { commonName: 'ca.example' },
      publicKey: publicKeyOf(key),
      dnsNames: ['localhost'],
      serial: serial(),
      notBeforeMs: Date.now() - 60_000,
      notAfterMs: Date.now() + 3_600_000,
    })
    const server = createServer({
      key,
      cert,
      ca: [issuerPem, ...clientRoots],
      requestCert: true,
      rejectUnauthorized: true,
    })
    this.#server = server
    server.on('request', (message, response) => {
      const chunks: Buffer[] = []
      message.on('data', (chunk: Buffer) => chunks.push(chunk))
      message.on('end', () => {
        const socket = message.socket as import('node:tls').TLSSocket
        const request = JSON.parse(Buffer.concat(chunks).toString()) as SignRequest
        this.asked.push({ by: nodeIdentity(socket.getPeerX509Certificate()!).nodeId, request })
        const { status = 200, body } = this.answer(request)
        response.writeHead(status, { 'content-type': 'application/json' }).end(body)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
    return `https://localhost:${(server.address() as { port: number }).port}/sign`
  }

  stop(): void {
    this.#server?.close()
    this.#server?.closeAllConnections()
  }

  /** The root that its profile CA is asked to sign. */
  expectRoot(rootPem: string): void {
    this.#nextRootPem = rootPem
  }

  sign({ certificate_request: csr, subject, hosts, profile }: SignRequest): string {
    const { certPem: issuerPem, keyPem: issuerKeyPem } = this.root
    const validity = { serial: serial(), notBeforeMs: Date.now() - 300_000, notAfterMs: Date.now() + 3_600_000 }
    if (profile === 'CA')
      return createCrossCertificate({ rootPem: this.#nextRootPem, issuerPem, issuerKeyPem, ...validity })
    const [name = {}] = subject.names
    return createLeafCertificate({
      issuerPem,
      issuerKeyPem,
      subject: { commonName: subject.CN, organization: name.O ?? '', organizationalUnit: name.OU ?? '' },
      publicKey: readRequest(csr),
      dnsNames: hosts,
      ...validity,
    })
  }
}
