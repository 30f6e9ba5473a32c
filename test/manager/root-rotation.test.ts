// Rotation of the root: what a change of the CA's configuration begins, that old and new nodes verify each other all the while,
// and that it ends once every node has changed, whoever leads then.

import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import t from 'tap'
import { swarmSpecWithDefaults } from '../../src/api/defaults.ts'
import type { Cluster, Node } from '../../src/api/objects.ts'
import type { SwarmSpec } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { connectTls, createTlsServer, type TlsCredentials } from '../../src/lib/tls.ts'
import { createKey, createRequest, createRootCertificate } from '../../src/lib/x509.ts'
import { createRootCa, issuerOf, readNodeCertificate, tlsInfo } from '../../src/lib/x509-node.ts'
import { changedRootCa } from '../../src/manager/ca/ca-config.ts'
import { CertificateAuthority } from '../../src/manager/ca/certificate-authority.ts'
import { createCluster } from '../../src/manager/ca/create-cluster.ts'
import type { ExternalSigner } from '../../src/manager/ca/external-ca.ts'
import { rootDigest } from '../../src/manager/ca/join-token.ts'
import { RootRotation, rotatedCluster, trustDigests, unrotatedNodes } from '../../src/manager/ca/root-rotation.ts'
import { encodeSwarm } from '../../src/manager/control/render.ts'
import { Store } from '../../src/manager/store/store.ts'
import type { Proposer } from '../../src/manager/store/types.ts'
import { noExternalCa } from '../support/no-external-ca.ts'
import { aNode } from '../support/objects.ts'

const clock = new SystemClock()
const random = new SystemRandom()
const wallMs = Date.now()

const newCluster = (): Cluster => createCluster({ wallMs, random, featureLevel: 3 })

/** A cluster after a change of its configuration; `CAConfig` as the API gets it. */
async function changed(
  cluster: Cluster,
  CAConfig: NonNullable<SwarmSpec['CAConfig']>,
  external: ExternalSigner = noExternalCa,
): Promise<Cluster> {
  const wanted = swarmSpecWithDefaults({ CAConfig })
  const rootCa = await changedRootCa({ cluster, wanted, external, wallMs, random })
  const { SigningCACert: _cert, SigningCAKey: _key, ...config } = wanted.CAConfig ?? {}
  return { ...cluster, rootCa, spec: { ...wanted, CAConfig: config } }
}

/** Signs as the leader would while `cluster` is as it is. */
function authorityOf(cluster: Cluster, ...nodes: readonly Node[]): CertificateAuthority {
  const store = new Store()
  store.apply(1, wallMs, [[cluster, ...nodes].map((object) => ({ kind: 'create', object }))])
  return new CertificateAuthority({
    view: store,
    proposer: { propose: async () => 1 },
    isLeader: () => true,
    forwardToLeader: () => Promise.reject(new Error('it leads')),
    external: noExternalCa,
    clock,
    random,
    log: silentLog,
  })
}

async function renewed(cluster: Cluster, nodeId: string, role: 'manager' | 'worker'): Promise<TlsCredentials> {
  const authority = authorityOf(cluster, aNode(nodeId, { role }))
  const keyPem = createKey()
  const csr = createRequest({ keyPem, subject: { commonName: nodeId } })
  const identity = { nodeId, clusterId: cluster.id, role }
  const { certPem, rootsPem } = await authority.issue({ csr }, { identity, remoteHost: '' })
  t.same(readNodeCertificate({ certPem, keyPem, rootsPem }).identity, identity)
  return { clusterId: cluster.id, certPem, keyPem, rootsPem }
}

/** Whether two nodes verify each other. */
async function meet(server: TlsCredentials, client: TlsCredentials): Promise<boolean> {
  const listener = createTlsServer(server).server
  const authorized = new Promise<boolean>((resolve) => {
    listener.once('secureConnection', (socket) => resolve(socket.authorized))
    listener.once('tlsClientError', () => resolve(false))
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = `127.0.0.1:${(listener.address() as { port: number }).port}`
  try {
    const { socket } = await connectTls({
      address,
      trust: { kind: 'cluster', credentials: client },
      clock,
      timeoutMs: 5000,
    })
    // In TLS 1.3 a client is done before the server has looked at its certificate.
    const mutual = await authorized
    socket.destroy()
    return mutual
  } catch {
    return false
  } finally {
    listener.close()
  }
}

function aRoot(options: { readonly type?: 'rsa' | 'ec'; readonly years?: number; readonly name?: string } = {}) {
  const { type = 'ec', years = 10, name = 'mine' } = options
  const privateKeyEncoding = { type: 'pkcs8', format: 'pem' } as const
  const publicKeyEncoding = { type: 'spki', format: 'pem' } as const
  const { privateKey: keyPem } =
    type === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'P-384', privateKeyEncoding, publicKeyEncoding })
      : generateKeyPairSync('rsa', { modulusLength: 2048, privateKeyEncoding, publicKeyEncoding })
  const notAfterMs = wallMs + years * 365 * 86_400_000
  const serial = random.bytes(16).map((byte, at) => (at === 0 ? 0x40 : byte))
  const certPem = createRootCertificate({
    keyPem,
    commonName: name,
    serial,
    notBeforeMs: wallMs - 3_600_000,
    notAfterMs,
  })
  return { certPem, keyPem }
}

t.test('while the root is rotated, nodes of the old and of the new one verify each other', async (t) => {
  for (const given of [undefined, aRoot({ type: 'ec' }), aRoot({ type: 'rsa' })]) {
    const cluster = newCluster()
    const rotating = await changed(
      cluster,
      given ? { SigningCACert: given.certPem, SigningCAKey: given.keyPem } : { ForceRotate: 1 },
    )
    t.match(rotating.rootCa, { certPem: cluster.rootCa.certPem, joinTokens: cluster.rootCa.joinTokens })
    const next = rotating.rootCa.rotation!
    t.not(next.certPem, cluster.rootCa.certPem)
    const old = [await renewed(cluster, 'm1', 'manager'), await renewed(cluster, 'w1', 'worker')] as const
    const during = [await renewed(rotating, 'm2', 'manager'), await renewed(rotating, 'w2', 'worker')] as const
    t.equal(issuerOf(during[0].certPem, during[0].rootsPem), next.certPem)
    t.same(during[0].rootsPem, [cluster.rootCa.certPem, next.certPem])
    t.same(trustDigests(rotating), { issuer: rootDigest(next.certPem), roots: during[0].rootsPem.map(rootDigest) })
    for (const [server, client] of [
      [old[0], during[1]],
      [during[0], old[1]],
      [during[0], during[1]],
    ] as const)
      t.ok(await meet(server, client))

    const over = rotatedCluster(rotating, random)
    const after = [await renewed(over, 'm3', 'manager'), await renewed(over, 'w3', 'worker')] as const
    t.same(after[0].rootsPem, [next.certPem])
    t.equal(after[0].certPem.split('-----BEGIN').length, 2, 'no intermediate is needed any more')
    t.ok(await meet(after[0], during[1]), 'who has not dropped the old root yet')
    t.ok(await meet(during[0], after[1]))
    t.notOk(await meet(old[0], after[1]), 'the old root is trusted no more')
    t.notOk(await meet(after[0], old[1]))
  }
})

t.test('the swarm shows the root that is trusted and the issuer that is wanted, and never a key', async (t) => {
  const cluster = newCluster()
  const show = (shown: Cluster) => JSON.parse(encodeSwarm(shown)) as Record<string, unknown>
  t.match(show(cluster), { RootRotationInProgress: false, TLSInfo: tlsInfo(cluster.rootCa.certPem) })
  const { certPem, keyPem } = aRoot()
  const rotating = await changed(cluster, { SigningCACert: certPem, SigningCAKey: keyPem })
  const issuer = tlsInfo(rotating.rootCa.rotation!.certPem)
  t.match(show(rotating), {
    RootRotationInProgress: true,
    TLSInfo: { ...issuer, TrustRoot: cluster.rootCa.certPem },
    JoinTokens: { Worker: cluster.rootCa.joinTokens.worker },
  })
  t.notMatch(encodeSwarm(rotating), /PRIVATE KEY/)
  const over = rotatedCluster(rotating, random)
  t.match(show(over), { RootRotationInProgress: false, TLSInfo: issuer })
  for (const token of Object.values(over.rootCa.joinTokens)) {
    t.equal(token.split('-')[2], rootDigest(over.rootCa.certPem))
    t.notOk(Object.values(cluster.rootCa.joinTokens).includes(token))
  }
})

t.test("a change of the CA's configuration follows Swarm's rules", async (t) => {
  const cluster = newCluster()
  const { rootCa } = cluster
  const mine = aRoot()
  t.equal((await changed(cluster, {})).rootCa, rootCa, 'nothing is asked for')
  const first = await changed(cluster, { ForceRotate: 1 })
  t.equal((await changed(first, { ForceRotate: 1 })).rootCa, first.rootCa, 'the same again changes nothing')
  const second = await changed(first, { ForceRotate: 2 })
  t.not(second.rootCa.rotation?.certPem, first.rootCa.rotation?.certPem, 'another one begins anew')
  t.equal(
    new X509Certificate(second.rootCa.rotation!.crossSignedPem).verify(new X509Certificate(rootCa.certPem).publicKey),
    true,
  )

  const back = await changed(second, { SigningCACert: rootCa.certPem, SigningCAKey: rootCa.keyPem })
  t.equal(back.rootCa.rotation, undefined, 'the current root ends a rotation')
  t.equal(back.rootCa.keyPem, rootCa.keyPem)
  const toMine = await changed(cluster, { SigningCACert: mine.certPem, SigningCAKey: mine.keyPem })
  const same = await changed(toMine, {
    SigningCACert: `x\n${mine.certPem.replaceAll('\n', '\r\n')}`,
    SigningCAKey: mine.keyPem,
  })
  t.equal(same.rootCa.rotation?.crossSignedPem, toMine.rootCa.rotation?.crossSignedPem, 'that one is under way')

  const tooSoon = aRoot({ years: 0.5 })
  const expired = aRoot({ years: -0.00001 })
  const leaf = await renewed(cluster, 'w1', 'worker')
  const ed25519 = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey
  const refusals: readonly (readonly [NonNullable<SwarmSpec['CAConfig']>, string])[] = [
    [{ SigningCAKey: mine.keyPem }, 'if a signing CA key is provided, the signing CA cert must also be provided'],
    [{ SigningCACert: 'x', SigningCAKey: mine.keyPem }, 'no valid root CA certificates found'],
    [
      { SigningCACert: mine.certPem + rootCa.certPem, SigningCAKey: mine.keyPem },
      'the desired CA certificate cannot contain multiple certificates',
    ],
    [
      { SigningCACert: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', SigningCAKey: mine.keyPem },
      'could not parse the desired CA certificate',
    ],
    [{ SigningCACert: mine.certPem, SigningCAKey: aRoot().keyPem }, 'certificate key mismatch'],
    [{ SigningCACert: mine.certPem, SigningCAKey: 'x' }, 'malformed private key'],
    [{ SigningCACert: mine.certPem, SigningCAKey: ed25519 }, 'certificate key mismatch'],
    [{ SigningCACert: tooSoon.certPem, SigningCAKey: tooSoon.keyPem }, 'CA certificate expires too soon'],
    [{ SigningCACert: expired.certPem, SigningCAKey: expired.keyPem }, 'certificate has expired or is not yet valid'],
    [{ SigningCACert: leaf.certPem, SigningCAKey: leaf.keyPem }, 'error while validating Root CA Certificate'],
    [
      { SigningCACert: mine.certPem },
      'there must be at least one valid, reachable external CA corresponding to the desired CA certificate',
    ],
  ]
  for (const [config, message] of refusals) {
    await t.rejects(changed(cluster, config), {
      message: new RegExp(`^rpc error: code = InvalidArgument desc = .*${message}`),
    })
  }
  await t.rejects(changed(cluster, { SigningCACert: aRootWith(rootCa.keyPem), SigningCAKey: rootCa.keyPem }), {
    message: /Cannot update to a cert with an identical key/,
  })
  const external = { ...cluster, rootCa: { ...rootCa, keyPem: '' } }
  await t.rejects(changed(external, { ForceRotate: 1 }), {
    message: /at least one valid, reachable external CA corresponding to the current CA certificate/,
  })
  t.equal(
    (await changed(external, { SigningCACert: rootCa.certPem, SigningCAKey: rootCa.keyPem })).rootCa.keyPem,
    rootCa.keyPem,
    'an external root comes back with its key',
  )
  const both = { ...noExternalCa, reach: async () => {} }
  const ExternalCAs = [{ URL: 'https://a' }, { URL: 'https://b', CACert: mine.certPem }]
  await t.rejects(changed(external, { SigningCACert: mine.certPem, ExternalCAs }, both), {
    message: /rotating from one external CA to a different external CA is not supported/,
  })
  t.equal((await changed(cluster, { SigningCACert: mine.certPem, ExternalCAs }, both)).rootCa.rotation?.keyPem, '')
})

function aRootWith(keyPem: string): string {
  return createRootCertificate({
    keyPem,
    commonName: 'swarm-ca',
    serial: random.bytes(16).map((byte, at) => (at === 0 ? 0x40 : byte)),
    notBeforeMs: wallMs,
    notAfterMs: wallMs + 5 * 365 * 86_400_000,
  })
}

t.test(
  'it ends when the last node has changed, under whichever leader, and waits for those that are down',
  async (t) => {
    const { certPem, keyPem } = createRootCa({ wallMs, random })
    const cluster = await changed(newCluster(), { SigningCACert: certPem, SigningCAKey: keyPem })
    const before = tlsInfo(cluster.rootCa.certPem)
    const after = tlsInfo(cluster.rootCa.certPem, certPem)
    const store = new Store()
    const apply: Proposer['propose'] = async (changes) => {
      const [result] = store.apply(store.index + 1, wallMs, [changes])
      if (result?.kind === 'refused') throw new Error(result.code)
      return store.index
    }
    const ids = ['n1', 'n2', 'n3', 'n4']
    const TLSInfo = { n1: after, n2: before, n4: before } as Readonly<Record<string, typeof before>>
    const nodes = ids.map((id, index) => aNode(id, { number: index + 1, description: { TLSInfo: TLSInfo[id] ?? {} } }))
    await apply([cluster, ...nodes].map((object) => ({ kind: 'create', object })))
    t.same(
      unrotatedNodes(cluster, nodes).map(({ id }) => id),
      ['n2', 'n3', 'n4'],
    )

    /** Time that passes whenever nothing else is to be done. */
    let isDown = false
    const lead = () => {
      const stop = new AbortController()
      const quick = {
        nowMs: () => 0,
        wallMs: () => wallMs,
        setTimer: (_ms: number, fire: () => void) => clock.setTimer(0, fire),
      }
      const proposer: Proposer = {
        propose: (changes) => (isDown ? Promise.reject(new Error('no quorum')) : apply(changes)),
      }
      const loop = new RootRotation({
        view: store,
        subscribe: (listener) => store.subscribe(listener),
        proposer,
        clock: quick,
        random,
        log: silentLog,
      })
      const ended = loop.run({ signal: stop.signal })
      return async () => {
        stop.abort()
        await ended
      }
    }
    const change = async (id: string) => {
      const node = store.get('node', id)!
      const object = { ...node, description: { TLSInfo: after } }
      await apply([{ kind: 'update', object, expectedVersion: node.meta.version }])
    }
    const turns = () => new Promise((resolve) => setTimeout(resolve, 30))
    const first = lead()
    await change('n2')
    await turns()
    t.ok(store.cluster()?.rootCa.rotation, 'two nodes have not changed yet')
    await first()
    const next = lead()
    await change('n3')
    await turns()
    t.ok(store.cluster()?.rootCa.rotation, 'one is down and is waited for')
    isDown = true
    await apply([
      { kind: 'remove', objectKind: 'node', id: 'n4', expectedVersion: store.get('node', 'n4')!.meta.version },
    ])
    await turns()
    t.ok(store.cluster()?.rootCa.rotation, 'the end is not written yet')
    isDown = false
    await new Promise<void>((resolve) => {
      const unsubscribe = store.subscribe(() => {
        unsubscribe()
        resolve()
      })
    })
    t.match(store.cluster()?.rootCa, { certPem: cluster.rootCa.rotation?.certPem, keyPem, digest: rootDigest(certPem) })
    t.equal(store.cluster()?.rootCa.rotation, undefined)
    await next()
  },
)
