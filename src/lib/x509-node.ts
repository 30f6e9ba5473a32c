// The profile of a cluster's certificates, as Swarm's: a root `swarm-ca` for 20 years; nodes' certificates with the
// cluster in O, the role in OU and the node in CN, backdated an hour so that clocks may differ.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { PeerIdentity } from './connection.ts'
import { CodedError, errorMessage } from './errors.ts'
import type { Random } from './random.ts'
import {
  createCrossCertificate,
  createKey,
  createLeafCertificate,
  createRootCertificate,
  readCertificate,
} from './x509.ts'

export const BACKDATE_MS = 3_600_000
const ROOT_LIFE_MS = 20 * 365 * 24 * 3_600_000
const SERIAL_BYTES = 16

/** O, OU and CN of a node's certificate. */
export const OU_OF_ROLE = { manager: 'swarm-manager', worker: 'swarm-worker' } as const

/** What an id in a certificate may be; ours are 25 characters of 0-9a-z. */
const ID = /^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$/

/** A new root. The key is PKCS#8 in PEM. */
export function createRootCa(options: { readonly wallMs: number; readonly random: Random }): {
  readonly certPem: string
  readonly keyPem: string
} {
  const keyPem = createKey()
  const certPem = createRootCertificate({
    keyPem,
    commonName: 'swarm-ca',
    serial: serial(options.random),
    notBeforeMs: options.wallMs - BACKDATE_MS,
    notAfterMs: options.wallMs + ROOT_LIFE_MS,
  })
  return { certPem, keyPem }
}

/** The intermediate that lets those who trust only `root` verify what `next` signs; valid as long as `next` is. */
export function crossSign(options: {
  readonly root: { readonly certPem: string; readonly keyPem: string }
  readonly nextPem: string
  readonly random: Random
}): string {
  const { root, nextPem, random } = options
  const { fromMs, untilMs } = validityOf(parse(nextPem))
  return createCrossCertificate({
    rootPem: nextPem,
    issuerPem: root.certPem,
    issuerKeyPem: root.keyPem,
    serial: serial(random),
    notBeforeMs: fromMs,
    notAfterMs: untilMs,
  })
}

/** Wall time of the first and the last moment at which a certificate is valid. */
export function validityOf(certificate: X509Certificate): { readonly fromMs: number; readonly untilMs: number } {
  return { fromMs: Date.parse(certificate.validFrom), untilMs: Date.parse(certificate.validTo) }
}

/** Which of the roots has signed a node's certificate. @throws {CodedError} CERTIFICATE_INVALID if none has */
export function issuerOf(certPem: string, rootsPem: readonly string[]): string {
  const certificate = parse(certPem)
  const found = rootsPem.find((pem) => {
    const root = parse(pem)
    return certificate.checkIssued(root) && certificate.verify(root.publicKey)
  })
  if (found !== undefined) return found
  throw new CodedError('CERTIFICATE_INVALID', "the certificate is not signed by the cluster's root")
}

/** A node's certificate in PEM, valid from an hour ago until `lifeMs` from now. */
export function createNodeCertificate(options: {
  readonly root: { readonly certPem: string; readonly keyPem: string }
  readonly identity: PeerIdentity
  /** SubjectPublicKeyInfo (DER) out of the node's request. */
  readonly publicKey: Uint8Array
  readonly wallMs: number
  readonly lifeMs: number
  readonly random: Random
}): string {
  const { root, identity, wallMs } = options
  return createLeafCertificate({
    issuerPem: root.certPem,
    issuerKeyPem: root.keyPem,
    subject: {
      organization: identity.clusterId,
      organizationalUnit: OU_OF_ROLE[identity.role],
      commonName: identity.nodeId,
    },
    publicKey: options.publicKey,
    dnsNames: [OU_OF_ROLE[identity.role], identity.nodeId],
    serial: serial(options.random),
    notBeforeMs: wallMs - BACKDATE_MS,
    notAfterMs: wallMs + options.lifeMs,
  })
}

function serial(random: Random): Uint8Array {
  const bytes = Uint8Array.from(random.bytes(SERIAL_BYTES))
  bytes[0] = (bytes[0]! & 0x7f) | 0x40 // positive, and always of the full length
  return bytes
}

/**
 * Who a certificate names; says nothing about who signed it.
 * @throws {CodedError} CERTIFICATE_INVALID if it is not a node's certificate.
 */
export function nodeIdentity(certificate: X509Certificate): PeerIdentity {
  const { O: clusterId, OU: unit, CN: nodeId } = subjectOf(certificate)
  const role = unit === OU_OF_ROLE.manager ? 'manager' : unit === OU_OF_ROLE.worker ? 'worker' : undefined
  // A field that occurs twice is a list here, and refused with everything else that is not one plain word.
  if (certificate.ca || !role || !isId(clusterId) || !isId(nodeId))
    throw new CodedError('CERTIFICATE_INVALID', "not a cluster node's certificate")
  return { nodeId, clusterId, role }
}

function subjectOf(certificate: X509Certificate): Readonly<Record<string, unknown>> {
  const { subject } = certificate.toLegacyObject() as { readonly subject?: Readonly<Record<string, unknown>> }
  return subject ?? {}
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && ID.test(value)
}

export interface NodeCertificate {
  readonly identity: PeerIdentity
  /** Wall time of issue (the backdating taken off) and of expiry. */
  readonly issuedMs: number
  readonly expiresMs: number
}

/**
 * Reads one's own or a renewed certificate, and checks that it is signed by one of `rootsPem` and belongs to `keyPem`.
 * Expiry is not checked: an expired identity must still say so.
 * @throws {CodedError} CERTIFICATE_INVALID
 */
export function readNodeCertificate(options: {
  readonly certPem: string
  readonly keyPem: string
  readonly rootsPem: readonly string[]
}): NodeCertificate {
  const certificate = parse(options.certPem)
  issuerOf(options.certPem, options.rootsPem)
  if (!certificate.checkPrivateKey(createPrivateKey(options.keyPem)))
    throw new CodedError('CERTIFICATE_INVALID', 'the certificate belongs to another key')
  return {
    identity: nodeIdentity(certificate),
    issuedMs: validityOf(certificate).fromMs + BACKDATE_MS,
    expiresMs: validityOf(certificate).untilMs,
  }
}

/** Docker's TLSInfo: the root that is trusted (PEM), and the one that signs: base64 of the DER of its subject and public key. */
export function tlsInfo(
  rootPem: string,
  issuerPem: string = rootPem,
): {
  readonly TrustRoot: string
  readonly CertIssuerSubject: string
  readonly CertIssuerPublicKey: string
} {
  const issuer = readCertificate(issuerPem)
  return {
    TrustRoot: rootPem,
    CertIssuerSubject: issuer.subject.toString('base64'),
    CertIssuerPublicKey: issuer.publicKey.toString('base64'),
  }
}

function parse(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new CodedError('CERTIFICATE_INVALID', `malformed certificate: ${errorMessage(error)}`, { cause: error })
  }
}
