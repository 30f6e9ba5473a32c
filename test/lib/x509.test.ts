// Certificates written by hand, judged by openssl.

import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { integer, oid, readElements, readPem, sequence, time, writePem } from '../../src/lib/der.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { createKey, createRequest, createRootCertificate, publicKeyOf, readRequest } from '../../src/lib/x509.ts'
import {
  createNodeCertificate,
  createRootCa,
  nodeIdentity,
  readNodeCertificate,
  tlsInfo,
} from '../../src/lib/x509-node.ts'
import { TestAuthority } from '../support/credentials.ts'

const directory = mkdtempSync(join(tmpdir(), 'x509-'))
t.teardown(() => spawnSync('rm', ['-rf', directory]))

function file(name: string, content: string): string {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}

/** What openssl prints, and whether it was content. */
function openssl(...args: readonly string[]): { readonly ok: boolean; readonly output: string } {
  const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8', timeout: 20_000 })
  return { ok: status === 0, output: `${stdout}${stderr}` }
}

const random = new SystemRandom()
const cluster = new TestAuthority()
const rootFile = file('root.pem', cluster.root.certPem)

t.test('openssl verifies root and node certificates by the strict rules of RFC 5280', async (t) => {
  const root = openssl('verify', '-x509_strict', '-check_ss_sig', '-CAfile', rootFile, rootFile)
  t.ok(root.ok, root.output)
  for (const role of ['manager', 'worker'] as const) {
    const credentials = cluster.credentials({ role })
    const leaf = file(`${role}.pem`, credentials.certPem)
    for (const [purpose, name] of [
      ['sslserver', `swarm-${role}`],
      ['sslclient', credentials.nodeId],
    ] as const) {
      const result = openssl(
        ...['verify', '-x509_strict', '-purpose', purpose, '-verify_hostname', name, '-CAfile', rootFile, leaf],
      )
      t.ok(result.ok, result.output)
    }
    const other = file('other.pem', new TestAuthority().root.certPem)
    t.notOk(openssl('verify', '-CAfile', other, leaf).ok, 'another root of the same name does not do')
    const { output } = openssl('x509', '-in', leaf, '-noout', '-subject', '-nameopt', 'RFC2253')
    t.equal(output.trim(), `subject=CN=${credentials.nodeId},OU=swarm-${role},O=${cluster.clusterId}`)
  }
})

t.test("a root is Swarm's: CN swarm-ca, P-256, twenty years; a node's certificate is backdated an hour", async (t) => {
  const wallMs = Date.UTC(2026, 4, 5, 6, 7, 8)
  const root = createRootCa({ wallMs, random })
  const certificate = new X509Certificate(root.certPem)
  t.equal(certificate.subject, 'CN=swarm-ca')
  t.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
  t.equal(certificate.validTo, 'Apr 30 06:07:08 2046 GMT')
  const keyPem = createKey()
  const identity = { nodeId: 'node1', clusterId: 'cluster1', role: 'worker' } as const
  const publicKey = publicKeyOf(keyPem)
  const certPem = createNodeCertificate({ root, identity, publicKey, wallMs, lifeMs: 90 * 86_400_000, random })
  const leaf = new X509Certificate(certPem)
  t.equal(leaf.validFrom, 'May  5 05:07:08 2026 GMT')
  t.equal(leaf.validTo, 'Aug  3 06:07:08 2026 GMT')
  t.same(nodeIdentity(leaf), identity)
  t.same(readNodeCertificate({ certPem, keyPem, rootsPem: [cluster.root.certPem, root.certPem] }), {
    identity,
    issuedMs: wallMs,
    expiresMs: wallMs + 90 * 86_400_000,
  })
})

t.test('dates from 2050 on are written as GeneralizedTime', async (t) => {
  const notAfterMs = Date.UTC(2050, 0, 1)
  const pem = createRootCertificate({
    keyPem: createKey(),
    commonName: 'late',
    serial: Uint8Array.of(0x80, 1),
    notBeforeMs: notAfterMs - 1000,
    notAfterMs,
  })
  const { output } = openssl('x509', '-in', file('late.pem', pem), '-noout', '-dates', '-serial')
  t.match(output, 'notBefore=Dec 31 23:59:59 2049 GMT')
  t.match(output, 'notAfter=Jan  1 00:00:00 2050 GMT')
  t.match(output, 'serial=8001', 'a serial with a leading one bit stays positive')
  t.equal(time(notAfterMs)[0], 0x18)
})

t.test("TLSInfo holds the root's subject and public key as openssl reads them", async (t) => {
  const info = tlsInfo(cluster.root.certPem)
  t.equal(info.TrustRoot, cluster.root.certPem)
  t.equal(info.CertIssuerSubject, 'MBMxETAPBgNVBAMTCHN3YXJtLWNh', 'the same bytes as Docker shows')
  const { output } = openssl('x509', '-in', rootFile, '-noout', '-pubkey')
  t.equal(info.CertIssuerPublicKey, readPem(output, 'PUBLIC KEY')?.toString('base64'))
})

t.test('requests: openssl reads ours, we read its', async (t) => {
  const keyPem = createKey()
  const ours = createRequest({ keyPem, subject: { commonName: 'näme', organization: 'o' } })
  t.match(openssl('req', '-in', file('ours.csr', ours), '-verify', '-noout').output, 'verify OK')
  t.same(readRequest(ours), publicKeyOf(keyPem))
  const key = file('key.pem', keyPem)
  const theirs = openssl('req', '-new', '-key', key, '-subj', '/CN=x', '-addext', 'subjectAltName=DNS:evil').output
  t.same(readRequest(theirs), publicKeyOf(keyPem), 'only the key is taken from a request')
})

t.test('a request that was tampered with or has another kind of key is refused', async (t) => {
  const refused = (pem: string, message: RegExp | string) =>
    t.throws(() => readRequest(pem), { code: 'REQUEST_INVALID', message })
  const der = readPem(createRequest({ keyPem: createKey(), subject: { commonName: 'a-name' } }), 'CERTIFICATE REQUEST')!
  const renamed = Buffer.from(der)
  renamed.write('b', renamed.indexOf('a-name'))
  refused(writePem(renamed, 'CERTIFICATE REQUEST'), /signature is wrong/)
  const exchanged = Buffer.from(der)
  const other = publicKeyOf(createKey())
  other.copy(exchanged, exchanged.indexOf(other.subarray(0, 26)))
  refused(writePem(exchanged, 'CERTIFICATE REQUEST'), /signature is wrong/)
  for (const args of [['rsa:1024'], ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']]) {
    const path = join(directory, 'discard.pem')
    const made = openssl('req', '-new', '-newkey', ...args, '-nodes', '-keyout', path, '-subj', '/CN=x', '-sha256')
    refused(made.output, /not signed with ECDSA|not an ECDSA P-256 key/)
  }
  refused('nonsense', /not in PEM/)
  refused(`-----BEGIN CERTIFICATE REQUEST-----\n${'A'.repeat(20_000)}\n-----END CERTIFICATE REQUEST-----`, /too large/)
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const damaged = Buffer.from(der)
      damaged[at]! ^= flip
      try {
        readRequest(writePem(damaged, 'CERTIFICATE REQUEST'))
        return false
      } catch (error) {
        return (error as { readonly code?: string }).code === 'REQUEST_INVALID'
      }
    }),
    { numRuns: 300 },
  )
})

t.test("only a node's certificate names a node", async (t) => {
  const invalid = { code: 'CERTIFICATE_INVALID' }
  t.throws(() => nodeIdentity(new X509Certificate(cluster.root.certPem)), invalid, 'a root is no node')
  const key = file('self.key', createKey())
  const selfMade = (subject: string, ...extensions: readonly string[]) => {
    const args = extensions.flatMap((extension) => ['-addext', extension])
    const made = openssl(
      'req',
      '-new',
      '-x509',
      '-multivalue-rdn',
      '-key',
      key,
      '-subj',
      subject,
      '-days',
      '1',
      ...args,
    )
    return new X509Certificate(made.output)
  }
  const leaf = 'basicConstraints=critical,CA:FALSE'
  t.same(nodeIdentity(selfMade('/O=c/OU=swarm-worker/CN=n', leaf)).role, 'worker')
  t.throws(() => nodeIdentity(selfMade('/O=c/OU=swarm-worker/CN=n', 'basicConstraints=critical,CA:TRUE')), invalid)
  t.throws(() => nodeIdentity(selfMade('/O=c/OU=swarm-boss/CN=n', leaf)), invalid, 'no such role')
  t.throws(() => nodeIdentity(selfMade('/O=c/OU=swarm-worker/OU=swarm-manager/CN=n', leaf)), invalid, 'two roles')
  t.throws(() => nodeIdentity(selfMade('/O=c/OU=swarm-manager/CN=n/CN=m', leaf)), invalid, 'two names')
  t.throws(() => nodeIdentity(selfMade('/OU=swarm-manager/CN=n', leaf)), invalid, 'no cluster')
  t.throws(() => nodeIdentity(selfMade('/O=c/OU=swarm-manager/CN=a b', leaf)), invalid, 'no id')
  const { certPem, keyPem, rootsPem } = cluster.credentials({ role: 'worker' })
  t.throws(() => readNodeCertificate({ certPem, keyPem: createKey(), rootsPem }), /belongs to another key/)
  t.throws(() => readNodeCertificate({ certPem, keyPem, rootsPem: [new TestAuthority().root.certPem] }), /not signed/)
})

t.test('the DER reader never reads beyond its input, and only the shortest lengths', async (t) => {
  const malformed = { code: 'DER_MALFORMED' }
  for (const hex of ['30', '3080', '308000', '30820001ff', '3081', '308101ff', '3003ff', '1f0100', '3085ffffffffff'])
    t.throws(() => readElements(Buffer.from(hex, 'hex')), malformed, hex)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        const total = readElements(bytes).reduce((sum, element) => sum + element.whole.length, 0)
        return total === bytes.length
      } catch (error) {
        return (error as { readonly code?: string }).code === 'DER_MALFORMED'
      }
    }),
  )
  t.equal(integer(Uint8Array.of(0, 0, 0x7f)).toString('hex'), '02017f')
  t.equal(integer(Uint8Array.of(0xff)).toString('hex'), '020200ff')
  t.equal(oid('1.2.840.10045.4.3.2').toString('hex'), '06082a8648ce3d040302')
  t.equal(sequence(Buffer.alloc(300)).subarray(0, 4).toString('hex'), '3082012c')
})
