// Who gets a certificate, on a real store: tokens, node records, renewals, forwarding.

import { createHash, X509Certificate } from 'node:crypto'
import t from 'tap'
import { SystemClock } from '../../src/lib/clock.ts'
import { readPem, writePem } from '../../src/lib/der.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { createLog, silentLog } from '../../src/lib/log.ts'
import { SeededRandom, SystemRandom } from '../../src/lib/random.ts'
import { createKey, createRequest } from '../../src/lib/x509.ts'
import { nodeIdentity, readNodeCertificate } from '../../src/lib/x509-node.ts'
import { nextNodeNumber } from '../../src/manager/allocator/node-number.ts'
import { authorizeNode } from '../../src/manager/ca/authorize.ts'
import { CertificateAuthority } from '../../src/manager/ca/certificate-authority.ts'
import { createCluster, createFirstNode } from '../../src/manager/ca/create-cluster.ts'
import type { ExternalSigner } from '../../src/manager/ca/external-ca.ts'
import { type IssueRequest, parseIssueReply, parseIssueRequest } from '../../src/manager/ca/issue-request.ts'
import { makeJoinToken, parseJoinToken, rootDigest, sameToken } from '../../src/manager/ca/join-token.ts'
import { Store } from '../../src/manager/store/store.ts'
import { StoreMachine } from '../../src/manager/store/store-machine.ts'
import { StoreProposer } from '../../src/manager/store/store-proposer.ts'
import { noExternalCa } from '../support/no-external-ca.ts'
import { aNode } from '../support/objects.ts'

const clock = new SystemClock()
const random = new SystemRandom()

/** A cluster of one manager: its store without consensus under it. */
function aClusterOfOne(
  over: {
    readonly isLeader?: () => boolean
    readonly forward?: CertificateForward
    readonly external?: ExternalSigner
  } = {},
) {
  const store = new Store()
  const machine = new StoreMachine({ store, log: silentLog })
  let index = 0
  const proposer = new StoreProposer({
    propose: async (data) => machine.apply({ index: ++index, data }),
    takeCheckpoint: () => machine.takeCheckpoint(),
    clock,
  })
  const authority = new CertificateAuthority({
    view: store,
    proposer,
    isLeader: over.isLeader ?? (() => true),
    forwardToLeader:
      over.forward ??
      (() => Promise.reject(new CodedError('NO_LEADER', 'The swarm does not have a leader.', { retryable: true }))),
    external: over.external ?? noExternalCa,
    clock,
    random,
    log: silentLog,
  })
  const cluster = createCluster({ wallMs: Date.now(), random, featureLevel: 1 })
  const managerKey = createKey()
  const first = createFirstNode({
    cluster,
    requestPem: createRequest({ keyPem: managerKey, subject: { commonName: 'x' } }),
    availability: 'active',
    manager: { raftId: 'r1', address: '10.0.0.1:2377', featureLevel: 1 },
    address: '10.0.0.1',
    wallMs: Date.now(),
    random,
  })
  const start = proposer.propose([
    { kind: 'create', object: cluster },
    { kind: 'create', object: first.node },
  ])
  const tokens = cluster.rootCa.joinTokens
  return { store, proposer, authority, cluster, first, managerKey, tokens, start }
}

type CertificateForward = (request: IssueRequest) => ReturnType<CertificateAuthority['issue']>

const stranger = { identity: undefined, remoteHost: '10.0.0.9' }

function aRequest(keyPem = createKey()): { readonly csr: string; readonly keyPem: string } {
  return { csr: createRequest({ keyPem, subject: { commonName: 'whoever' } }), keyPem }
}

t.test('a token carries the sha256 of the root and a secret, as Swarm writes them', async (t) => {
  const { cluster, tokens } = aClusterOfOne()
  const { certPem, digest } = cluster.rootCa
  for (const token of [tokens.worker, tokens.manager]) {
    t.match(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/)
    t.equal(parseJoinToken(token).digest, digest)
  }
  t.not(tokens.worker, tokens.manager)
  t.equal(digest, rootDigest(certPem))
  const expected = BigInt(`0x${createHash('sha256').update(certPem).digest('hex')}`).toString(36)
  t.equal(digest.replace(/^0+/, ''), expected)
  const zeros = { ...new SeededRandom(1), bytes: (size: number) => new Uint8Array(size) }
  t.equal(
    makeJoinToken('d'.repeat(50), Object.assign(new SeededRandom(1), zeros)),
    `SWMTKN-1-${'d'.repeat(50)}-${'0'.repeat(25)}`,
    'short numbers are padded',
  )
  t.ok(sameToken(tokens.worker, tokens.worker))
  t.notOk(sameToken(tokens.worker, tokens.manager))
})

t.test('what is no token is refused without being repeated', async (t) => {
  const { tokens } = aClusterOfOne()
  for (const bad of ['', 'SWMTKN-1-x-y', tokens.worker.toUpperCase(), `${tokens.worker}0`, tokens.worker.slice(1)])
    t.throws(() => parseJoinToken(bad), { code: 'INVALID_JOIN_TOKEN', message: 'invalid join token' })
})

t.test("a new cluster has Swarm's defaults, a root that signs, and its first manager", async (t) => {
  const { cluster, first, managerKey } = aClusterOfOne()
  t.match(cluster, {
    spec: {
      Name: 'default',
      Orchestration: { TaskHistoryRetentionLimit: 5 },
      Raft: { SnapshotInterval: 10_000, LogEntriesForSlowFollowers: 500, ElectionTick: 10, HeartbeatTick: 1 },
      Dispatcher: { HeartbeatPeriod: 5e9 },
      CAConfig: { NodeCertExpiry: 7_776_000_000_000_000 },
    },
    defaultAddressPools: ['10.0.0.0/8'],
    subnetSize: 24,
    dataPathPort: 4789,
  })
  const read = readNodeCertificate({
    certPem: first.certPem,
    keyPem: managerKey,
    rootsPem: [cluster.rootCa.certPem],
  })
  t.same(read.identity, { nodeId: first.node.id, clusterId: cluster.id, role: 'manager' })
  t.match(first.node, { number: 1, role: 'manager', spec: { Role: 'manager', Availability: 'active' } })
})

t.test('a token makes a node of its role, with a certificate for the key that asked', async (t) => {
  const { authority, store, cluster, tokens, start } = aClusterOfOne()
  await start
  for (const [role, number] of [
    ['worker', 2],
    ['manager', 3],
  ] as const) {
    const { csr, keyPem } = aRequest()
    const reply = await authority.issue({ csr, token: tokens[role], availability: 'drain' }, stranger)
    t.match(reply, { clusterId: cluster.id, role, managers: [{ address: '10.0.0.1:2377' }] })
    const { certPem, rootsPem } = parseIssueReply(Buffer.from(JSON.stringify(reply)))
    const certificate = readNodeCertificate({ certPem, keyPem, rootsPem })
    t.same(certificate.identity, { nodeId: reply.nodeId, clusterId: cluster.id, role })
    t.equal(Math.round((certificate.expiresMs - certificate.issuedMs) / 86_400_000), 90)
    t.match(reply.nodeId, /^[0-9a-z]{25}$/)
    t.match(store.get('node', reply.nodeId), {
      role,
      number,
      spec: { Role: role, Availability: 'drain' },
      status: { state: 'unknown', address: '10.0.0.9' },
    })
  }
})

t.test('a join that is asked for again finds the same node', async (t) => {
  const { authority, store, tokens, start } = aClusterOfOne()
  await start
  const { csr } = aRequest()
  const replies = await Promise.all([1, 2, 3].map(() => authority.issue({ csr, token: tokens.worker }, stranger)))
  t.equal(new Set(replies.map((reply) => reply.nodeId)).size, 1)
  t.equal(store.count('node'), 2)
})

t.test('many nodes that join at once all get numbers of their own', async (t) => {
  const { authority, store, tokens, start } = aClusterOfOne()
  await start
  await Promise.all(
    Array.from({ length: 20 }, () => authority.issue({ csr: aRequest().csr, token: tokens.worker }, stranger)),
  )
  t.same(
    store
      .list('node')
      .map((node) => node.number)
      .sort((a, b) => a - b),
    Array.from({ length: 21 }, (_, at) => at + 1),
  )
})

t.test('a number is used again as late as possible; there are 4094', async (t) => {
  const nodes = (numbers: readonly number[]) => ({
    list: (() => numbers.map((number) => aNode(`n${number}`, { number }))) as unknown as Store['list'],
  })
  t.equal(nextNodeNumber(nodes([1, 2, 4])), 5)
  t.equal(nextNodeNumber(nodes([1, 2, 4]), new Set([5])), 6)
  t.equal(nextNodeNumber(nodes([1, 2, 4094]), new Set([3])), 4)
  const all = Array.from({ length: 4094 }, (_, at) => at + 1)
  t.equal(nextNodeNumber(nodes(all)), undefined)
})

t.test('a full cluster takes nobody in', async (t) => {
  const { authority, store, proposer, tokens, start } = aClusterOfOne()
  await start
  const others = Array.from({ length: 4093 }, (_, at) => aNode(`n${at}`, { number: at + 2 }))
  while (others.length > 0) await proposer.propose(others.splice(0, 100).map((object) => ({ kind: 'create', object })))
  await t.rejects(authority.issue({ csr: aRequest().csr, token: tokens.worker }, stranger), { code: 'CLUSTER_FULL' })
  t.equal(store.count('node'), 4094)
})

t.test('no token, a wrong one, a rotated one and a tampered request get nothing, and change nothing', async (t) => {
  const { authority, store, proposer, cluster, tokens, start } = aClusterOfOne()
  await start
  const { csr } = aRequest()
  const refused = { code: 'FORBIDDEN', message: 'A valid join token is necessary to join this cluster' }
  await t.rejects(authority.issue({ csr }, stranger), refused)
  const guessed = makeJoinToken(cluster.rootCa.digest, random)
  await t.rejects(authority.issue({ csr, token: guessed }, stranger), refused)
  await t.rejects(authority.issue({ csr, token: 'SWMTKN' }, stranger), { code: 'INVALID_JOIN_TOKEN' })
  const tampered = readPem(csr, 'CERTIFICATE REQUEST')!
  tampered[tampered.length - 1]! ^= 1
  const tamperedPem = writePem(tampered, 'CERTIFICATE REQUEST')
  await t.rejects(authority.issue({ csr: tamperedPem, token: tokens.worker }, stranger), { code: 'REQUEST_INVALID' })
  const stored = store.cluster()!
  const rotated = { ...stored, rootCa: { ...stored.rootCa, joinTokens: { ...tokens, worker: guessed } } }
  await proposer.propose([{ kind: 'update', object: rotated, expectedVersion: stored.meta.version }])
  await t.rejects(authority.issue({ csr, token: tokens.worker }, stranger), refused)
  t.equal(store.count('node'), 1)
  t.ok((await authority.issue({ csr, token: guessed }, stranger)).nodeId)
})

t.test('a renewal keeps the node and takes its role from the store', async (t) => {
  const { authority, store, proposer, tokens, start } = aClusterOfOne()
  await start
  const joined = await authority.issue({ csr: aRequest().csr, token: tokens.worker }, stranger)
  const identity = nodeIdentity(new X509Certificate(joined.certPem))
  const client = { identity, remoteHost: '10.0.0.9' }
  const { csr, keyPem } = aRequest()
  const renewed = await authority.issue({ csr }, client)
  const { rootsPem, certPem } = renewed
  t.same(readNodeCertificate({ certPem, keyPem, rootsPem }).identity, identity)
  const node = store.get('node', joined.nodeId)!
  await proposer.propose([{ kind: 'update', object: { ...node, role: 'manager' }, expectedVersion: node.meta.version }])
  t.equal((await authority.issue({ csr }, client)).role, 'manager')
  await proposer.propose([{ kind: 'remove', objectKind: 'node', id: node.id }])
  await t.rejects(authority.issue({ csr }, client), { code: 'FORBIDDEN', details: { reason: 'removed' } })
})

t.test('a follower passes requests on; only a manager is believed on whose behalf it asks', async (t) => {
  const leader = aClusterOfOne()
  await leader.start
  const { clusterId, nodeId } = { clusterId: leader.cluster.id, nodeId: leader.first.node.id }
  const asManager = { identity: { nodeId, clusterId, role: 'manager' as const }, remoteHost: '10.0.0.1' }
  const follower = aClusterOfOne({
    isLeader: () => false,
    forward: (request) => {
      // over the wire
      const sent = parseIssueRequest(Buffer.from(JSON.stringify(request)))
      return leader.authority.issue(sent, asManager)
    },
  })
  const joined = await follower.authority.issue({ csr: aRequest().csr, token: leader.tokens.worker }, stranger)
  t.equal(leader.store.get('node', joined.nodeId)?.status.address, '10.0.0.9', 'as the follower saw it')
  const worker = { identity: { nodeId: joined.nodeId, clusterId, role: 'worker' as const }, remoteHost: '10.0.0.9' }
  const { csr } = aRequest()
  t.equal((await follower.authority.issue({ csr }, worker)).nodeId, joined.nodeId)
  const onBehalfOf = { nodeId, remoteHost: 'x' }
  await t.rejects(leader.authority.issue({ csr, onBehalfOf }, worker), { code: 'FORBIDDEN' }, 'a worker')
  await t.rejects(leader.authority.issue({ csr, onBehalfOf }, stranger), { code: 'FORBIDDEN' }, 'nobody')
  const leaderless = aClusterOfOne({ isLeader: () => false })
  await t.rejects(leaderless.authority.issue({ csr }, worker), { code: 'NO_LEADER', retryable: true })
})

t.test("the store's record decides what a certificate may do", async (t) => {
  const { store, proposer, cluster, first, tokens, authority, start } = aClusterOfOne()
  const clusterId = cluster.id
  const manager = { nodeId: first.node.id, clusterId, role: 'manager' } as const
  const other = { nodeId: 'other', clusterId, role: 'manager' } as const
  t.equal(authorizeNode(new Store(), other, 'raft', false), undefined, 'an empty store leaves it to the certificate')
  await start
  const joined = await authority.issue({ csr: aRequest().csr, token: tokens.worker }, stranger)
  const worker = { nodeId: joined.nodeId, clusterId, role: 'worker' } as const
  for (const access of ['node', 'manager', 'raft'] as const)
    t.equal(authorizeNode(store, manager, access, true), undefined)
  t.equal(authorizeNode(store, worker, 'node', true), undefined)
  for (const access of ['manager', 'raft'] as const) {
    t.match(authorizeNode(store, worker, access, true), { reason: 'role', retryable: false })
    const pretended = { ...worker, role: 'manager' } as const
    t.match(authorizeNode(store, pretended, access, true), { reason: 'role' }, 'an old certificate of a demoted node')
  }
  t.match(authorizeNode(store, { ...worker, clusterId: 'x' }, 'node', true), { reason: 'untrusted' })
  t.match(authorizeNode(store, other, 'node', true), { reason: 'removed', retryable: false })
  t.match(authorizeNode(store, other, 'node', false), { reason: 'unknown-node', retryable: true })
  t.match(authorizeNode(store, other, 'raft', true), { reason: 'removed' })
  t.equal(
    authorizeNode(store, other, 'raft', false),
    undefined,
    'the leader that a store which is behind does not know',
  )
  await proposer.propose([{ kind: 'remove', objectKind: 'node', id: joined.nodeId }])
  t.match(authorizeNode(store, worker, 'node', true), { reason: 'removed' })
})

t.test('malformed requests and answers are refused', async (t) => {
  const parse = (value: unknown) => () => parseIssueRequest(Buffer.from(JSON.stringify(value)))
  for (const bad of [null, 1, {}, { csr: 1 }, { csr: '', token: 1 }, { csr: '', availability: 'x' }])
    t.throws(parse(bad), { code: 'MALFORMED' })
  t.throws(parse({ csr: '', onBehalfOf: { nodeId: 1 } }), { code: 'MALFORMED' })
  t.throws(() => parseIssueRequest(Buffer.from('{')), { code: 'MALFORMED' })
  t.throws(() => parseIssueReply(Buffer.from('{"nodeId":"x"}')), { code: 'MALFORMED' })
})

t.test('no log line of a join shows the token or a key', async (t) => {
  let lines = ''
  const destination = { write: (line: string) => (lines += line) } as unknown as NodeJS.WritableStream
  const store = new Store()
  const cluster = createCluster({ wallMs: Date.now(), random, featureLevel: 1 })
  store.apply(1, Date.now(), [[{ kind: 'create', object: cluster }]])
  const authority = new CertificateAuthority({
    view: store,
    proposer: {
      propose: async (changes) => {
        store.apply(2, Date.now(), [changes])
        return 2
      },
    },
    isLeader: () => true,
    forwardToLeader: () => Promise.reject(new Error('not a follower')),
    external: noExternalCa,
    clock,
    random,
    log: createLog({ level: 'debug', destination }),
  })
  const token = cluster.rootCa.joinTokens.worker
  const { csr, keyPem } = aRequest()
  await authority.issue({ csr, token }, stranger)
  t.match(lines, 'node joined')
  for (const secret of [token, keyPem, cluster.rootCa.keyPem, parseJoinToken(token).secret])
    t.notOk(lines.includes(secret))
})
