// Nodes of a cluster over real TLS on loopback: joining by token, the control port's rules, renewal while connected.

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { remoteAddress } from '../../src/daemon/addresses.ts'
import { ControlPort } from '../../src/daemon/control-port.ts'
import { CurrentIdentity, certificateOf, type Identity } from '../../src/daemon/identity/identity.ts'
import { IdentityFile } from '../../src/daemon/identity/identity-file.ts'
import { joinCluster } from '../../src/daemon/identity/join.ts'
import { CertificateRenewer, renewalTimeMs } from '../../src/daemon/identity/renewal.ts'
import { serveCaOn } from '../../src/daemon/identity/serve-ca.ts'
import { type Clock, SystemClock, type Timer } from '../../src/lib/clock.ts'
import type { CloseInfo, Connection } from '../../src/lib/connection.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { createLog, silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { PeerClient, type PeerRequest, readBody } from '../../src/lib/tls-request.ts'
import { WsDialer } from '../../src/lib/ws-connection.ts'
import { createKey, createRequest } from '../../src/lib/x509.ts'
import { authorizeNode } from '../../src/manager/ca/authorize.ts'
import { askCa, forwardIssue } from '../../src/manager/ca/ca-routes.ts'
import { CertificateAuthority } from '../../src/manager/ca/certificate-authority.ts'
import { createCluster, createFirstNode } from '../../src/manager/ca/create-cluster.ts'
import { makeJoinToken, rootDigest } from '../../src/manager/ca/join-token.ts'
import { Store } from '../../src/manager/store/store.ts'
import { StoreMachine } from '../../src/manager/store/store-machine.ts'
import { StoreProposer } from '../../src/manager/store/store-proposer.ts'
import { TestAuthority } from '../support/credentials.ts'
import { noExternalCa } from '../support/no-external-ca.ts'

const random = new SystemRandom()
const systemClock = new SystemClock()
const TIMEOUT_MS = 10_000

type Teardown = Pick<typeof t, 'teardown'>

const directory = mkdtempSync(join(tmpdir(), 'identity-'))
t.teardown(() => rmSync(directory, { recursive: true }))

/** Time that stands still until it is moved on, so that a slow machine changes nothing. */
class ManualClock implements Clock {
  readonly #startWallMs = systemClock.wallMs()
  readonly #timers = new Set<{ readonly atMs: number; readonly fire: () => void }>()
  #nowMs = 0

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#startWallMs + this.#nowMs
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, fire }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  advance(durationMs: number): void {
    this.#nowMs += durationMs
    for (const timer of [...this.#timers]) if (timer.atMs <= this.#nowMs && this.#timers.delete(timer)) timer.fire()
  }
}

interface TestManager {
  readonly address: string
  readonly port: ControlPort
  readonly store: Store
  readonly proposer: StoreProposer
  readonly identity: CurrentIdentity
  readonly tokens: { readonly worker: string; readonly manager: string }
  readonly logged: () => string
}

/** A manager with its control port: the real store without consensus under it. */
async function startManager(
  t: Teardown,
  options: { readonly clock?: Clock; readonly certExpiryMs?: number; readonly leader?: TestManager } = {},
): Promise<TestManager> {
  const { clock = systemClock, certExpiryMs = 3_600_000, leader } = options
  const store = leader?.store ?? new Store()
  const machine = new StoreMachine({ store, log: silentLog })
  const propose = async (data: Uint8Array) => machine.apply({ index: store.index + 1, data })
  const proposer = new StoreProposer({ propose, takeCheckpoint: () => undefined, clock })
  let lines = ''
  const destination = { write: (line: string) => (lines += line) } as unknown as NodeJS.WritableStream
  const log = createLog({ level: 'debug', destination })
  const identity = new CurrentIdentity(leader ? await joinAsManager(leader) : await found())

  async function found(): Promise<Identity> {
    const spec = { CAConfig: { NodeCertExpiry: certExpiryMs * 1e6 } }
    const cluster = createCluster({ wallMs: clock.wallMs(), random, featureLevel: 1, spec })
    const keyPem = createKey()
    const { node, certPem } = createFirstNode({
      cluster,
      requestPem: createRequest({ keyPem, subject: { commonName: 'first' } }),
      availability: 'active',
      manager: { raftId: 'r1', address: '127.0.0.1:2377', featureLevel: 1 },
      address: '127.0.0.1',
      wallMs: clock.wallMs(),
      random,
    })
    await proposer.propose([
      { kind: 'create', object: cluster },
      { kind: 'create', object: node },
    ])
    return { clusterId: cluster.id, nodeId: node.id, certPem, keyPem, rootsPem: [cluster.rootCa.certPem] }
  }

  const client = new PeerClient({ credentials: identity.credentials, clock })
  const authority = new CertificateAuthority({
    view: store,
    proposer,
    isLeader: () => leader === undefined,
    forwardToLeader: (request) => {
      if (!leader) throw new CodedError('NO_LEADER', 'The swarm does not have a leader.', { retryable: true })
      const target = { address: leader.address, nodeId: leader.identity.value.nodeId }
      return forwardIssue((exchange) => client.request(target, exchange), request, { timeoutMs: TIMEOUT_MS })
    },
    external: noExternalCa,
    clock,
    random,
    log,
  })
  const port = new ControlPort({
    credentials: identity.value,
    authorize: (peer, access) => authorizeNode(store, peer, access, true),
    clock,
    log,
  })
  identity.subscribe((renewed) => port.renew(renewed))
  serveCaOn(port, authority, log)
  const { port: number } = await port.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => {
    client.close()
    await port.close()
  })
  const tokens = store.cluster()!.rootCa.joinTokens
  return { address: `127.0.0.1:${number}`, port, store, proposer, identity, tokens, logged: () => lines }
}

async function joinAsManager(leader: TestManager): Promise<Identity> {
  return (await joinWith(leader.tokens.manager, leader.address)).identity
}

function joinWith(token: string, ...addresses: readonly string[]) {
  return joinCluster({ addresses, token, clock: systemClock, random, timeoutMs: TIMEOUT_MS })
}

function dial(address: string, identity: Identity, path: string): Promise<Connection> {
  return new WsDialer({ credentials: () => identity, clock: systemClock }).dial({
    address,
    path,
    timeoutMs: TIMEOUT_MS,
  })
}

/** Echoes, so that a test can see that a connection lives. */
function echo(connection: Connection): void {
  connection.listen({ onMessage: (message) => connection.send(message), onClose: () => {} })
}

class Caller {
  readonly closed: Promise<CloseInfo>
  readonly #connection: Connection
  #answered: (text: string) => void = () => {}

  constructor(connection: Connection) {
    this.#connection = connection
    this.closed = new Promise((resolve) => {
      connection.listen({ onMessage: (message) => this.#answered(String(Buffer.from(message))), onClose: resolve })
    })
  }

  ask(text: string): Promise<string> {
    const answer = new Promise<string>((resolve) => {
      this.#answered = resolve
    })
    this.#connection.send(Buffer.from(text))
    return answer
  }
}

t.test('a machine joins with a token, through a leader or a follower, and then is known', async (t) => {
  const leader = await startManager(t)
  const follower = await startManager(t, { leader })
  for (const manager of [leader, follower]) {
    const joined = await joinWith(leader.tokens.worker, manager.address)
    t.equal(joined.role, 'worker')
    t.same(joined.managers, [{ nodeId: leader.identity.value.nodeId, address: '127.0.0.1:2377' }])
    t.match(leader.store.get('node', joined.identity.nodeId), { role: 'worker', status: { address: '127.0.0.1' } })
    manager.port.onConnection('/session', 'node', echo)
    const caller = new Caller(await dial(manager.address, joined.identity, '/session'))
    t.equal(await caller.ask('hello'), 'hello')
  }
  const { token } = { token: leader.tokens.worker }
  for (const { logged } of [leader, follower]) {
    t.notOk(logged().includes(token), 'no token in the log')
    t.notOk(/PRIVATE/.test(logged()), 'no key in the log')
  }
})

t.test('a join that is wrong is refused in words, and leaves no node behind', async (t) => {
  const manager = await startManager(t)
  const other = await startManager(t)
  await t.rejects(joinWith('SWMTKN-1-nonsense', manager.address), {
    code: 'INVALID_JOIN_TOKEN',
    message: 'invalid join token',
  })
  await t.rejects(joinWith(other.tokens.worker, manager.address), {
    code: 'ROOT_MISMATCH',
    message:
      /^remote CA does not match fingerprint\. Expected: [0-9a-f]{64}, got: [0-9a-f]{64}\. The join token is of another swarm/,
  })
  const guessed = makeJoinToken(rootDigest(manager.identity.value.rootsPem[0]!), random)
  await t.rejects(joinWith(guessed, manager.address), {
    code: 'FORBIDDEN',
    message: 'A valid join token is necessary to join this cluster',
  })
  t.equal(manager.store.count('node'), 1)
  t.equal((await joinWith(manager.tokens.worker, '127.0.0.1:1', manager.address)).role, 'worker', 'the second address')
  const options = { addresses: ['127.0.0.1:1'], token: manager.tokens.worker, clock: systemClock, random }
  await t.rejects(joinCluster({ ...options, timeoutMs: 400 }), { code: 'CONNECTION_REFUSED' })
  await t.rejects(joinCluster({ ...options, addresses: [], timeoutMs: 400 }), { code: 'INVALID_ADDRESS' })
})

t.test('a manager in the middle that knows the root but not its key gets no token', async (t) => {
  const manager = await startManager(t)
  const impostor = new TestAuthority().credentials({ role: 'manager' })
  const port = new ControlPort({
    credentials: impostor,
    authorize: () => undefined,
    clock: systemClock,
    log: silentLog,
  })
  const asked: (string | undefined)[] = []
  port.onRequest('/ca/', 'anyone', {
    request: (message, response) => {
      asked.push(message.url)
      message.resume()
      response.end(JSON.stringify({ rootPem: manager.identity.value.rootsPem[0] }))
    },
  })
  const { port: number } = await port.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => port.close())
  await t.rejects(joinWith(manager.tokens.worker, `127.0.0.1:${number}`), { code: 'CONNECTION_UNTRUSTED' })
  t.same(asked, ['/ca/root'])
})

t.test('every path asks for its right; refusals reach the dialer', async (t) => {
  const manager = await startManager(t)
  const { port, address, store, proposer } = manager
  port.onConnection('/raft', 'raft', echo)
  port.onConnection('/session', 'node', echo)
  const worker = (await joinWith(manager.tokens.worker, address)).identity
  const second = await joinAsManager(manager)
  const role = { code: 'CONNECTION_FORBIDDEN', retryable: false, details: { reason: 'role' } }
  await t.rejects(dial(address, worker, '/raft'), {
    ...role,
    message: new RegExp(`node ${worker.nodeId} is not a manager`),
  })
  t.equal(await new Caller(await dial(address, second, '/raft')).ask('vote'), 'vote')
  await t.rejects(dial(address, second, '/nowhere'), { code: 'CONNECTION_REFUSED', details: { reason: 'no-path' } })
  await proposer.propose([{ kind: 'remove', objectKind: 'node', id: worker.nodeId }])
  await t.rejects(dial(address, worker, '/session'), { code: 'CONNECTION_FORBIDDEN', details: { reason: 'removed' } })
  const demoted = store.get('node', second.nodeId)!
  await proposer.propose([
    { kind: 'update', object: { ...demoted, role: 'worker' }, expectedVersion: demoted.meta.version },
  ])
  await t.rejects(dial(address, second, '/raft'), role, 'with the certificate of a manager that it still has')
  const stop = port.onConnection('/bulk', 'node', echo)
  stop()
  await t.rejects(dial(address, second, '/bulk'), { code: 'CONNECTION_REFUSED' })
})

t.test('removal and demotion close what is open, and nothing else', async (t) => {
  const manager = await startManager(t)
  const { port, address, store, proposer } = manager
  port.onConnection('/raft', 'raft', echo)
  port.onConnection('/session', 'node', echo)
  const unsubscribe = store.subscribe((events) => {
    for (const event of events) if (event.objectKind === 'node') port.recheck(event.id)
  })
  t.teardown(unsubscribe)
  const second = await joinAsManager(manager)
  const worker = (await joinWith(manager.tokens.worker, address)).identity
  const raft = new Caller(await dial(address, second, '/raft'))
  const session = new Caller(await dial(address, second, '/session'))
  const bystander = new Caller(await dial(address, worker, '/session'))
  const node = store.get('node', second.nodeId)!
  await proposer.propose([{ kind: 'update', object: { ...node, role: 'worker' }, expectedVersion: node.meta.version }])
  t.match(await raft.closed, { clean: true, code: 4003, reason: /is not a manager/ })
  t.equal(await session.ask('a worker has a session, too'), 'a worker has a session, too')
  await proposer.propose([{ kind: 'remove', objectKind: 'node', id: second.nodeId }])
  t.match(await session.closed, { clean: true, code: 4003, reason: /not part of the cluster any more/ })
  t.equal(await bystander.ask('undisturbed'), 'undisturbed')
  port.closePeer(worker.nodeId, 4001, 'told to')
  t.match(await bystander.closed, { code: 4001, reason: 'told to' })
})

t.test('requests pass with their streams and upgrades; a demoted manager loses the one under way', async (t) => {
  const manager = await startManager(t)
  const { port, address, store, proposer } = manager
  port.onRequest('/v1/', 'manager', {
    request: (message, response, client) => {
      response.writeHead(200, { 'x-client': client?.nodeId })
      response.flushHeaders()
      message.pipe(response)
    },
    upgrade: (message, socket, head) => {
      socket.write(`HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n${message.url}|`)
      socket.write(head)
      socket.pipe(socket)
    },
  })
  port.onRequest('/v1/fails', 'manager', { request: () => Promise.reject(new Error('broken')) })
  const second = await joinAsManager(manager)
  const worker = (await joinWith(manager.tokens.worker, address)).identity
  const clientOf = (identity: Identity) => {
    const client = new PeerClient({ credentials: () => identity, clock: systemClock })
    t.teardown(() => client.close())
    return client
  }
  const client = clientOf(second)
  const get = { method: 'GET', path: '/v1/x', timeoutMs: TIMEOUT_MS }
  const refused = await clientOf(worker).request({ address }, get)
  if (refused.kind !== 'response') throw new Error('no response')
  t.equal(refused.status, 403)
  t.match(JSON.parse(String(await readBody(refused.message, 1000))), { reason: 'role' })
  const failed = await client.request({ address }, { ...get, path: '/v1/fails' })
  t.equal(failed.kind === 'response' && failed.status, 500)
  const headers = { connection: 'Upgrade', upgrade: 'tcp' }
  const upgraded = await client.request({ address }, { ...get, method: 'POST', path: '/v1/exec', headers })
  if (upgraded.kind !== 'upgrade') throw new Error('no upgrade')
  const chunks: Buffer[] = [upgraded.head]
  upgraded.socket.write('typed')
  while (!String(Buffer.concat(chunks)).endsWith('|typed'))
    chunks.push(await new Promise<Buffer>((resolve) => upgraded.socket.once('data', resolve)))
  t.equal(String(Buffer.concat(chunks)), '/v1/exec|typed')
  const ended = new Promise((resolve) => upgraded.socket.once('close', resolve))
  upgraded.socket.on('error', () => {})
  const node = store.get('node', second.nodeId)!
  await proposer.propose([{ kind: 'update', object: { ...node, role: 'worker' }, expectedVersion: node.meta.version }])
  port.recheck()
  await ended
  const after = await client.request({ address }, get)
  t.equal(after.kind === 'response' && after.status, 403)
})

t.test('a port in use is named', async (t) => {
  const { address, identity } = await startManager(t)
  const port = new ControlPort({
    credentials: identity.value,
    authorize: () => undefined,
    clock: systemClock,
    log: silentLog,
  })
  await t.rejects(port.listen({ host: '127.0.0.1', port: Number(address.split(':')[1]) }), {
    code: 'LISTEN_FAILED',
    message: `listen tcp ${address}: bind: address already in use`,
  })
})

t.test('an identity on disk is whole, private, and never silently replaced', async (t) => {
  const file = new IdentityFile(join(directory, 'disk', 'swarm'), random)
  t.equal(await file.load(), undefined)
  await file.remove()
  const authority = new TestAuthority()
  const identity = authority.credentials({ role: 'worker' })
  await file.save(identity)
  t.same(await file.load(), identity)
  t.equal(statSync(file.path).mode & 0o777, 0o600)
  t.equal(statSync(join(directory, 'disk', 'swarm')).mode & 0o777, 0o700)
  writeFileSync(`${file.path}.new`, 'left over by a crash', { mode: 0o644 })
  const next = authority.credentials({ role: 'worker' })
  await file.save(next)
  t.same(await file.load(), next)
  t.equal(statSync(file.path).mode & 0o777, 0o600)
  const text = readFileSync(file.path, 'utf8')
  const unreadable = { code: 'IDENTITY_UNREADABLE', message: new RegExp(file.path) }
  for (const damaged of [
    text.slice(0, 300),
    'null',
    text.replace('"formatVersion": 1', '"formatVersion": 3'),
    JSON.stringify({ ...JSON.parse(text), keyPem: createKey() }),
    JSON.stringify({ ...JSON.parse(text), keyPem: 'x' }),
    JSON.stringify({ ...JSON.parse(text), nodeId: 'other' }),
  ]) {
    writeFileSync(file.path, damaged)
    const error = await file.load().then(
      () => undefined,
      (failure: unknown) => failure,
    )
    t.match(error, unreadable)
    t.notOk(String(error).includes('PRIVATE'), 'the message does not show the key')
  }
  await file.remove()
  t.equal(await file.load(), undefined)
})

t.test('the point of renewal lies between half and four fifths of the life', async (t) => {
  const certificate = certificateOf(new TestAuthority().credentials({ role: 'worker', lifeMs: 120_000 }))
  const { issuedMs } = certificate
  t.equal(renewalTimeMs(certificate, { ...random, float: () => 0 } as typeof random), issuedMs + 60_000)
  t.ok(renewalTimeMs(certificate, { ...random, float: () => 0.999999 } as typeof random) <= issuedMs + 96_000)
})

t.test('certificates of two minutes are renewed again and again under one live connection', async (t) => {
  // OpenSSL's own clock stays behind this one, within the hour of backdating.
  const clock = new ManualClock()
  const manager = await startManager(t, { clock, certExpiryMs: 120_000 })
  manager.port.onConnection('/session', 'node', echo)
  const { identity: first } = await joinWith(manager.tokens.worker, manager.address)
  const worker = new CurrentIdentity(first)
  const workerFile = new IdentityFile(join(directory, 'renewal'), random)
  const caller = new Caller(await dial(manager.address, first, '/session'))
  const stop = new AbortController()
  // After a failed attempt the next one waits for some time to pass.
  const warn = () => setImmediate(() => clock.advance(1000))
  let attempts = 0
  const start = (identity: CurrentIdentity, file: IdentityFile) => {
    const client = new PeerClient({ credentials: identity.credentials, clock })
    t.teardown(() => client.close())
    // Nobody answers at the first address: the next attempt takes the other one.
    const managers = () => ['127.0.0.1:1', manager.address]
    const request = (target: { readonly address: string }, options: PeerRequest) => {
      attempts++
      return client.request(target, options)
    }
    const log = { ...silentLog, warn }
    const renewer = new CertificateRenewer({
      identity,
      save: (saved) => file.save(saved),
      managers,
      request,
      clock,
      random,
      log,
    })
    return renewer.run({ signal: stop.signal })
  }
  const running = [
    start(worker, workerFile),
    start(manager.identity, new IdentityFile(join(directory, 'renewal-manager'), random)),
  ]
  const next = (identity: CurrentIdentity) =>
    new Promise<Identity>((resolve) => {
      const unsubscribe = identity.subscribe((renewed) => {
        unsubscribe()
        resolve(renewed)
      })
    })
  let before = { worker: worker.value, manager: manager.identity.value }
  for (let round = 1; round <= 3; round++) {
    const [renewedWorker, renewedManager] = [next(worker), next(manager.identity)]
    const attemptsBefore = attempts
    clock.advance(59_000 - (round > 1 ? 10_000 : 0)) // rounds after the first begin up to some seconds late
    await new Promise((resolve) => setImmediate(resolve))
    t.equal(attempts, attemptsBefore, `round ${round}: not before half of its life`)
    clock.advance(37_000 + (round > 1 ? 10_000 : 0))
    before = { worker: await renewedWorker, manager: await renewedManager }
    t.same(certificateOf(before.worker).identity, { ...certificateOf(first).identity })
    t.equal(certificateOf(before.manager).identity.role, 'manager')
    t.equal(await caller.ask(`round ${round}`), `round ${round}`)
  }
  stop.abort()
  await Promise.all(running)
  t.ok(clock.wallMs() > certificateOf(first).expiresMs, 'the first certificate has expired')
  t.same(await workerFile.load(), worker.value)
  t.not(worker.value.keyPem, first.keyPem, 'each certificate has a key of its own')
  const anew = new Caller(await dial(manager.address, worker.value, '/session'))
  t.equal(await anew.ask('a new connection'), 'a new connection')
  const late = new PeerClient({ credentials: () => first, clock })
  t.teardown(() => late.close())
  const csr = createRequest({ keyPem: createKey(), subject: { commonName: 'x' } })
  const send = (options: PeerRequest) => late.request({ address: manager.address }, options)
  await t.rejects(askCa(send, '/ca/issue', { csr }, { timeoutMs: TIMEOUT_MS }), {
    message: /certificate has expired/,
    details: { reason: 'expired' },
  })
})

t.test('a changed role is asked for at once; what cannot be renewed says what to do', async (t) => {
  const manager = await startManager(t)
  const { identity } = await joinWith(manager.tokens.worker, manager.address)
  const node = manager.store.get('node', identity.nodeId)!
  const promoted = { ...node, role: 'manager' } as const
  await manager.proposer.propose([{ kind: 'update', object: promoted, expectedVersion: node.meta.version }])
  const current = new CurrentIdentity(identity)
  const client = new PeerClient({ credentials: current.credentials, clock: systemClock })
  t.teardown(() => client.close())
  const messages: string[] = []
  const note = (_: unknown, message: string) => void messages.push(message)
  const renewer = new CertificateRenewer({
    identity: current,
    save: (saved) => new IdentityFile(join(directory, 'role'), random).save(saved),
    managers: () => [manager.address],
    request: client.request.bind(client),
    clock: systemClock,
    random,
    log: { ...silentLog, info: note, error: note },
  })
  const stop = new AbortController()
  const running = renewer.run({ signal: stop.signal })
  const renewed = new Promise<Identity>((resolve) => current.subscribe(resolve))
  renewer.requestRenewal()
  t.equal(certificateOf(await renewed).identity.role, 'manager')
  stop.abort()
  await running
  const { certPem, keyPem, rootsPem } = new TestAuthority(identity.clusterId).credentials({
    role: 'worker',
    lifeMs: -1,
  })
  const expired = new CurrentIdentity({ ...identity, certPem, keyPem, rootsPem })
  const reported = new Promise<string>((resolve) => {
    const log = { ...silentLog, error: (_: unknown, message: string) => resolve(message) }
    const end = new AbortController()
    t.teardown(() => end.abort())
    const options = { save: async () => {}, clock: systemClock, random, log }
    void new CertificateRenewer({
      ...options,
      identity: expired,
      managers: () => ['127.0.0.1:1'],
      request: client.request.bind(client),
    }).run({ signal: end.signal })
  })
  t.match(await reported, /has expired.*join again with a token/)
})

t.test("a manager to join is named with or without a port, as Docker's is", (t) => {
  t.equal(remoteAddress('10.0.0.1'), '10.0.0.1:2377')
  t.equal(remoteAddress('tcp://manager:4000'), 'manager:4000')
  t.equal(remoteAddress('fe80::1'), '[fe80::1]:2377')
  for (const wrong of [':2377', 'a:b', 'a:70000', '']) {
    t.throws(() => remoteAddress(wrong), {
      code: 'INVALID_ADDRESS',
      message: `invalid remoteAddr "${wrong}": expected host[:port]`,
    })
  }
  t.end()
})
