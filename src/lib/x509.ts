// X.509 certificates and PKCS#10 requests with ECDSA P-256 keys (a root that is given may have another one), written by hand on node:crypto (RFC 5280, 2986, 5758):
// the libraries for it load for 300 ms and need 29 ms a certificate. test/lib/x509.test.ts proves them with openssl.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import {
  bitString,
  boolean,
  elementAt,
  explicit,
  implicit,
  integer,
  nameString,
  octetString,
  oid,
  readConstructed,
  readElements,
  readPem,
  sequence,
  set,
  TAG,
  time,
  writePem,
} from './der.ts'
import { CodedError } from './errors.ts'

export interface Subject {
  readonly commonName: string
  readonly organization?: string
  readonly organizationalUnit?: string
}

export interface Validity {
  /** Wall time in milliseconds; certificates keep whole seconds. */
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

const OID = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  rsaWithSha256: '1.2.840.113549.1.1.11',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  organizationalUnit: '2.5.4.11',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const

/** DER of the header of a P-256 SubjectPublicKeyInfo; the uncompressed point (65 bytes) follows. */
const P256_SPKI_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex')

const MAX_REQUEST_BYTES = 8 * 1024

/** A new P-256 private key, PKCS#8 in PEM. */
export function createKey(): string {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey
}

/** SubjectPublicKeyInfo (DER) of a private key. */
export function publicKeyOf(keyPem: string): Buffer {
  return createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' })
}

export function createRootCertificate(
  options: { readonly keyPem: string; readonly commonName: string; readonly serial: Uint8Array } & Validity,
): string {
  const publicKey = publicKeyOf(options.keyPem)
  const name = encodeName({ commonName: options.commonName })
  return signCertificateBody({
    ...options,
    issuerName: name,
    issuerKeyPem: options.keyPem,
    subjectName: name,
    publicKey,
    extensions: [
      extension(OID.keyUsage, true, bitString(Buffer.from([0x06]), 1)), // keyCertSign, cRLSign
      extension(OID.basicConstraints, true, sequence(boolean(true))),
      extension(OID.subjectKeyId, false, octetString(keyId(publicKey))),
    ],
  })
}

/**
 * A root as an intermediate below another one: the same name and key, signed by `issuer`. Whoever trusts the issuer verifies
 * with it what the root has signed.
 */
export function createCrossCertificate(
  options: {
    readonly rootPem: string
    readonly issuerPem: string
    readonly issuerKeyPem: string
    readonly serial: Uint8Array
  } & Validity,
): string {
  const root = readCertificate(options.rootPem)
  const issuer = readCertificate(options.issuerPem)
  return signCertificateBody({
    ...options,
    issuerName: issuer.subject,
    subjectName: root.subject,
    publicKey: root.publicKey,
    extensions: [
      extension(OID.keyUsage, true, bitString(Buffer.from([0x06]), 1)),
      extension(OID.basicConstraints, true, sequence(boolean(true))),
      extension(OID.subjectKeyId, false, octetString(root.subjectKeyId)),
      extension(OID.authorityKeyId, false, sequence(implicit(0, issuer.subjectKeyId))),
    ],
  })
}

/** A certificate for one end of TLS connections, as server and as client. */
export function createLeafCertificate(
  options: {
    readonly issuerPem: string
    readonly issuerKeyPem: string
    readonly subject: Subject
    /** SubjectPublicKeyInfo, DER */
    readonly publicKey: Uint8Array
    readonly dnsNames: readonly string[]
    readonly serial: Uint8Array
  } & Validity,
): string {
  const issuer = readCertificate(options.issuerPem)
  return signCertificateBody({
    ...options,
    issuerName: issuer.subject,
    subjectName: encodeName(options.subject),
    extensions: [
      extension(OID.keyUsage, true, bitString(Buffer.from([0x80]), 7)), // digitalSignature
      extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
      extension(OID.basicConstraints, true, sequence()),
      extension(OID.subjectKeyId, false, octetString(keyId(options.publicKey))),
      extension(OID.authorityKeyId, false, sequence(implicit(0, issuer.subjectKeyId))),
      extension(
        OID.subjectAltName,
        false,
        sequence(...options.dnsNames.map((name) => implicit(2, Buffer.from(name, 'latin1')))),
      ),
    ],
  })
}

/** The request of a root that another root is to sign: with the root's own name, which names it in what it has signed. */
export function createRootRequest(rootPem: string, keyPem: string): string {
  const { subject, publicKey } = readCertificate(rootPem)
  const body = sequence(integer(Buffer.from([0])), subject, publicKey, explicit(0))
  return writePem(signed(body, keyPem), 'CERTIFICATE REQUEST')
}

/** A PKCS#10 request in PEM; the issuer decides names and extensions, so the subject is only a hint. */
export function createRequest(options: { readonly keyPem: string; readonly subject: Subject }): string {
  const body = sequence(
    integer(Buffer.from([0])),
    encodeName(options.subject),
    publicKeyOf(options.keyPem),
    explicit(0),
  )
  return writePem(signed(body, options.keyPem), 'CERTIFICATE REQUEST')
}

/**
 * The public key (SubjectPublicKeyInfo, DER) of a PKCS#10 request, after proof that its sender holds the private key.
 * @throws {CodedError} REQUEST_INVALID
 */
export function readRequest(pem: string): Buffer {
  if (pem.length > MAX_REQUEST_BYTES) throw requestInvalid('it is too large')
  const der = readPem(pem, 'CERTIFICATE REQUEST')
  if (!der) throw requestInvalid('it is not in PEM')
  let body: Buffer
  let publicKey: Buffer
  let signature: Buffer
  try {
    const parts = readConstructed(der)
    body = elementAt(parts, 0, TAG.sequence).whole
    const algorithm = elementAt(parts, 1, TAG.sequence).content
    if (!algorithm.equals(oid(OID.ecdsaWithSha256))) throw requestInvalid('it is not signed with ECDSA and SHA-256')
    const bits = elementAt(parts, 2, TAG.bitString).content
    if (bits[0] !== 0 || parts.length !== 3) throw requestInvalid('it is malformed')
    signature = bits.subarray(1)
    publicKey = elementAt(readConstructed(body), 2, TAG.sequence).whole
  } catch (error) {
    if (error instanceof CodedError && error.code === 'REQUEST_INVALID') throw error
    throw requestInvalid('it is malformed', error)
  }
  if (publicKey.length !== P256_SPKI_PREFIX.length + 65 || !publicKey.subarray(0, 26).equals(P256_SPKI_PREFIX))
    throw requestInvalid('its key is not an ECDSA P-256 key')
  let proven: boolean
  try {
    proven = verify('sha256', body, createPublicKey({ key: publicKey, type: 'spki', format: 'der' }), signature)
  } catch (error) {
    throw requestInvalid('its key is malformed', error)
  }
  if (!proven) throw requestInvalid('its signature is wrong')
  return Buffer.from(publicKey)
}

function requestInvalid(why: string, cause?: unknown): CodedError {
  return new CodedError('REQUEST_INVALID', `invalid certificate request: ${why}`, { cause })
}

export interface CertificateFields {
  /** Name of its subject, DER. */
  readonly subject: Buffer
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer
  readonly subjectKeyId: Buffer
  readonly der: Buffer
}

/**
 * What a certificate says and node:crypto does not show.
 * @throws {CodedError} CERTIFICATE_MALFORMED
 */
export function readCertificate(pem: string): CertificateFields {
  const der = readPem(pem, 'CERTIFICATE')
  if (!der) throw new CodedError('CERTIFICATE_MALFORMED', 'no certificate in PEM')
  try {
    const fields = readConstructed(elementAt(readConstructed(der), 0, TAG.sequence).whole)
    const first = fields[0]?.tag === 0xa0 ? 1 : 0 // version 1 certificates have no version field
    const publicKey = elementAt(fields, first + 5, TAG.sequence).whole
    const extensions = fields.find((field) => field.tag === 0xa3)
    const keyIdentifier = extensions && findExtension(extensions.content, OID.subjectKeyId)
    return {
      subject: elementAt(fields, first + 4, TAG.sequence).whole,
      publicKey,
      subjectKeyId: keyIdentifier
        ? elementAt(readElements(keyIdentifier), 0, TAG.octetString).content
        : keyId(publicKey),
      der,
    }
  } catch (error) {
    throw new CodedError('CERTIFICATE_MALFORMED', 'malformed certificate', { cause: error })
  }
}

/** The value of the extension with this id in `[3] Extensions`. */
function findExtension(extensions: Uint8Array, id: string): Buffer | undefined {
  const wanted = oid(id)
  for (const { whole } of readConstructed(extensions)) {
    const parts = readConstructed(whole)
    if (parts[0]?.whole.equals(wanted)) return elementAt(parts, parts.length - 1, TAG.octetString).content
  }
  return undefined
}

/** RFC 5280 §4.2.1.2, method 1: SHA-1 of the key's bits (an identifier; nothing rests on its strength). */
function keyId(publicKey: Uint8Array): Buffer {
  const bits = elementAt(readConstructed(publicKey), 1, TAG.bitString).content.subarray(1)
  return createHash('sha1').update(bits).digest()
}

function encodeName(subject: Subject): Buffer {
  const parts: readonly (readonly [id: string, value: string | undefined])[] = [
    [OID.organization, subject.organization],
    [OID.organizationalUnit, subject.organizationalUnit],
    [OID.commonName, subject.commonName],
  ]
  return sequence(
    ...parts.flatMap(([id, value]) => (value === undefined ? [] : [set(sequence(oid(id), nameString(value)))])),
  )
}

function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value))
}

function signCertificateBody(
  options: {
    readonly serial: Uint8Array
    readonly issuerName: Uint8Array
    readonly issuerKeyPem: string
    readonly subjectName: Uint8Array
    readonly publicKey: Uint8Array
    readonly extensions: readonly Uint8Array[]
  } & Validity,
): string {
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))), // version 3
    integer(options.serial),
    algorithmOf(options.issuerKeyPem),
    options.issuerName,
    sequence(time(options.notBeforeMs), time(options.notAfterMs)),
    options.subjectName,
    options.publicKey,
    explicit(3, sequence(...options.extensions)),
  )
  return writePem(signed(body, options.issuerKeyPem), 'CERTIFICATE')
}

function signed(body: Uint8Array, keyPem: string): Buffer {
  return sequence(body, algorithmOf(keyPem), bitString(sign('sha256', body, keyPem)))
}

/** What a key signs with here. @throws {CodedError} KEY_UNSUPPORTED */
function algorithmOf(keyPem: string): Buffer {
  const { asymmetricKeyType: type } = createPrivateKey(keyPem)
  if (type === 'ec') return sequence(oid(OID.ecdsaWithSha256))
  if (type === 'rsa') return sequence(oid(OID.rsaWithSha256), Buffer.from([0x05, 0x00]))
  throw new CodedError('KEY_UNSUPPORTED', `a key of type ${type ?? 'unknown'} signs no certificates here: RSA or EC`)
}
