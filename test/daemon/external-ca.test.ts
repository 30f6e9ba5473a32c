// Certificates that an external CA signs, over real HTTPS: joins, renewals, rotation to its root and away from it.

import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { swarmSpecWithDefaults } from '../../src/api/defaults.ts'
import type { Cluster } from '../../src/api/objects.ts'
import type { SwarmSpec } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import type { TlsCredentials } from '../../src/lib/tls.ts'
import { createKey, createRequest } from '../../src/lib/x509.ts'
import { createRootCa, issuerOf, readNodeCertificate } from '../../src/lib/x509-node.ts'
import { changedRootCa } from '../../src/manager/ca/ca-config.ts'
import { CertificateAuthority } from '../../src/manager/ca/certificate-authority.ts'
import { createCluster, createFirstNode } from '../../src/manager/ca/create-cluster.ts'
import { CfsslSigner } from '../../src/manager/ca/external-ca.ts'
import { rotatedCluster } from '../../src/manager/ca/root-rotation.ts'
import { Store } from '../../src/manager/store/store.ts'
import { CfsslServer } from '../support/cfssl-server.ts'

const clock = new SystemClock()
const random = new SystemRandom()
const wallMs = Date.now()
const stranger = { identity: undefined, remoteHost: '10.0.0.9' }

/** A manager whose certificate its cluster's own root has signed, before any external CA. */
function aManager(t: { teardown: (end: () => void) => void }) {
  const server = new CfsslServer()
  t.teardown(() => server.stop())
  const store = new Store()
  const cluster = createCluster({ wallMs, random, featureLevel: 3 })
  const keyPem = createKey()
  const { node, certPem } = createFirstNode({
    cluster,
    requestPem: createRequest({ keyPem, subject: { commonName: 'x' } }),
    availability: 'active',
    manager: { raftId: 'r1', address: '10.0.0.1:2377', featureLevel: 3 },
    address: '10.0.0.1',
    wallMs,
    random,
  })
  const credentials: TlsCredentials = { clusterId: cluster.id, certPem, keyPem, rootsPem: [cluster.rootCa.certPem] }
  const external = new CfsslSigner({ credentials: () => credentials, clock })
  store.apply(1, wallMs, [[cluster, node].map((object) => ({ kind: 'create', object }))])
  const propose = async (
    changes: Parameters<ConstructorParameters<typeof CertificateAuthority>[0]['proposer']['propose']>[0],
  ) => {
    store.apply(store.index + 1, wallMs, [changes])
    return store.index
  }
  const put = (object: Cluster) => propose([{ kind: 'update', object, expectedVersion: store.cluster()!.meta.version }])
  /** As `swarm update` and `swarm ca` do. */
  const configure = async (CAConfig: NonNullable<SwarmSpec['CAConfig']>) => {
    const current = store.cluster()!
    const wanted = swarmSpecWithDefaults({ CAConfig })
    const rootCa = await changedRootCa({ cluster: current, wanted, external, wallMs, random })
    await put({ ...current, spec: wanted, rootCa })
  }
  const authority = new CertificateAuthority({
    view: store,
    proposer: { propose },
    isLeader: () => true,
    forwardToLeader: () => Promise.reject(new Error('it leads')),
    external,
    clock,
    random,
    log: silentLog,
  })
  return { server, store, cluster, node, external, put, configure, authority, token: cluster.rootCa.joinTokens.worker }
}

t.test(
  'the cluster rotates to a root whose key only the external CA has, joins and renews there, and leaves it again',
  async (t) => {
    const { server, store, cluster, node, configure, authority, put, token } = aManager(t)
    const url = await server.start([cluster.rootCa.certPem])
    const { certPem: theirs, keyPem: theirKey } = server.root
    const ExternalCAs = [{ Protocol: 'cfssl' as const, URL: url, CACert: theirs }]
    await configure({ ExternalCAs })
    const keyPem = createKey()
    const csr = createRequest({ keyPem, subject: { commonName: 'whoever' } })
    const own = await authority.issue({ csr, token }, stranger)
    t.equal(
      issuerOf(own.certPem, own.rootsPem),
      cluster.rootCa.certPem,
      'it is another root than the one that signs now',
    )
    t.same(server.asked, [])

    await configure({ ExternalCAs, SigningCACert: theirs })
    t.match(store.cluster()?.rootCa, { certPem: cluster.rootCa.certPem, rotation: { certPem: theirs, keyPem: '' } })
    const identity = { nodeId: own.nodeId, clusterId: cluster.id, role: 'worker' } as const
    const renewed = await authority.issue({ csr }, { identity, remoteHost: '' })
    t.same(readNodeCertificate({ ...renewed, keyPem }).identity, identity)
    t.equal(issuerOf(renewed.certPem, renewed.rootsPem), theirs)
    const intermediate = new X509Certificate(renewed.certPem.slice(renewed.certPem.lastIndexOf('-----BEGIN')))
    t.ok(intermediate.verify(new X509Certificate(cluster.rootCa.certPem).publicKey), 'its root is vouched for by ours')
    t.match(server.asked, [
      {
        by: node.id,
        request: {
          certificate_request: csr,
          hosts: ['swarm-worker', own.nodeId],
          subject: { CN: own.nodeId, names: [{ O: cluster.id, OU: 'swarm-worker' }] },
          profile: '',
        },
      },
    ])
    await put(rotatedCluster(store.cluster()!, random))
    const { joinTokens } = store.cluster()!.rootCa
    const joined = await authority.issue({ ...aRequest(), token: joinTokens.manager }, stranger)
    t.equal(issuerOf(joined.certPem, joined.rootsPem), theirs)
    t.match(server.asked[1]?.request.hosts, ['swarm-manager', joined.nodeId, 'swarm-ca'])

    // Away from it: the external CA signs the new root, since its key is nowhere else.
    const mine = createRootCa({ wallMs, random })
    server.expectRoot(mine.certPem)
    await configure({ ExternalCAs, SigningCACert: mine.certPem, SigningCAKey: mine.keyPem })
    const cross = new X509Certificate(store.cluster()!.rootCa.rotation!.crossSignedPem)
    t.ok(cross.verify(new X509Certificate(theirs).publicKey))
    t.match(server.asked[2]?.request, {
      profile: 'CA',
      extensions: [{ id: '2.5.29.19', critical: true, value: '30030101ff' }],
    })
    const here = await authority.issue({ csr }, { identity, remoteHost: '' })
    t.equal(issuerOf(here.certPem, here.rootsPem), mine.certPem)
    t.equal(server.asked.length, 3, 'we sign here again')

    // Back, and with the key: the same root signs here.
    await configure({ SigningCACert: theirs, SigningCAKey: theirKey })
    t.match(store.cluster()?.rootCa, { certPem: theirs, keyPem: theirKey, rotation: undefined })
  },
)

function aRequest(): { readonly csr: string } {
  return { csr: createRequest({ keyPem: createKey(), subject: { commonName: 'whoever' } }) }
}

t.test(
  'what an external CA does wrong is said, the next address is asked, and nothing is signed here instead',
  async (t) => {
    const { server, store, cluster, authority, put, external } = aManager(t)
    const url = await server.start([cluster.rootCa.certPem])
    // A cluster that is external already, with an address before that leads nowhere.
    const { certPem } = server.root
    const spec = (urls: readonly string[]): SwarmSpec => ({
      CAConfig: { NodeCertExpiry: 3600e9, ExternalCAs: urls.map((URL) => ({ URL })) },
    })
    const rootCa = { ...cluster.rootCa, certPem }
    await put({ ...store.cluster()!, rootCa, spec: spec(['https://127.0.0.1:1/sign', url]) })
    const { worker: token } = rootCa.joinTokens
    const join = () => authority.issue({ ...aRequest(), token }, stranger)
    t.equal(issuerOf((await join()).certPem, [certPem]), certPem)

    const good = server.answer
    const other = createRequest({ keyPem: createKey(), subject: { commonName: 'other' } })
    const signed =
      (change: Partial<Parameters<typeof server.sign>[0]>) => (asked: Parameters<typeof server.sign>[0]) => ({
        body: JSON.stringify({ success: true, result: { certificate: server.sign({ ...asked, ...change }) } }),
      })
    const foreign = new CfsslServer()
    for (const [answer, why] of [
      [() => ({ status: 500, body: 'oops' }), 'unexpected status code 500: oops'],
      [() => ({ body: 'x' }), 'unable to parse JSON response'],
      [() => ({ body: 'null' }), 'no certificate'],
      [
        () => ({ body: '{"success":false,"errors":[{"code":1,"message":"no"}]}' }),
        String.raw`certificate signing request failed: \[{"code":1,"message":"no"}\]`,
      ],
      [() => ({ body: '{"success":true,"result":{"certificate":"x"}}' }), 'malformed certificate'],
      [signed({ certificate_request: other }), 'it names another node or key'],
      [
        signed({ subject: { CN: 'other', names: [{ O: cluster.id, OU: 'swarm-worker' }] } }),
        'it names another node or key',
      ],
      [
        signed({ subject: { CN: 'other', names: [{ O: cluster.id, OU: 'root' }] } }),
        "not a cluster node's certificate",
      ],
      [
        (asked: Parameters<typeof server.sign>[0]) => ({
          body: JSON.stringify({ success: true, result: { certificate: foreign.sign(asked) } }),
        }),
        "not signed by the cluster's root",
      ],
    ] as const) {
      server.answer = answer
      await t.rejects(join(), { code: 'EXTERNAL_CA', retryable: true, message: new RegExp(why) })
    }
    server.answer = good
    await external.reach(url, certPem)
    for (const [bad, root] of [
      [url.replace('https', 'http'), certPem],
      [url, cluster.rootCa.certPem],
      ['https://127.0.0.1:1/sign', certPem],
      ['nonsense', certPem],
    ] as const)
      await t.rejects(external.reach(bad, root), { code: 'EXTERNAL_CA' })
    server.stop()
    await t.rejects(join(), { code: 'EXTERNAL_CA', retryable: true })
  },
)
