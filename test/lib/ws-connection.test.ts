// WebSocket connections over real TLS on loopback.

import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Server as TcpServer,
} from 'node:net'
import { connect, createServer as createPlainTlsServer, type TLSSocket } from 'node:tls'
import t from 'tap'
import { SystemClock } from '../../src/lib/clock.ts'
import type { CloseInfo, Connection } from '../../src/lib/connection.ts'
import { clientOf, createTlsServer, splitAddress, type TlsCredentials } from '../../src/lib/tls.ts'
import { PeerClient, readBody, requestOverTls } from '../../src/lib/tls-request.ts'
import { type ConnectionLimits, refuseUpgrade, WsAcceptor, WsDialer } from '../../src/lib/ws-connection.ts'
import { TestAuthority } from '../support/credentials.ts'

const clock = new SystemClock()
const cluster = new TestAuthority()
const manager = cluster.credentials({ role: 'manager' })
const worker = cluster.credentials({ role: 'worker' })
const TIMEOUT_MS = 10_000

type Teardown = Pick<typeof t, 'teardown'>

interface TestServer {
  readonly address: string
  readonly renew: (credentials: TlsCredentials) => void
  /** Resolves with connections in the order they came. */
  readonly next: () => Promise<Connection>
  readonly sockets: readonly TLSSocket[]
}

/** Serves `/raft` to nodes of the cluster, HTTP requests to all. */
async function serve(
  t: Teardown,
  credentials: TlsCredentials = manager,
  limits: Partial<ConnectionLimits> = {},
): Promise<TestServer> {
  const { server, renew } = createTlsServer(credentials)
  const acceptor = new WsAcceptor(limits)
  const sockets: TLSSocket[] = []
  const arrived: Connection[] = []
  const waiting: ((connection: Connection) => void)[] = []
  server.on('secureConnection', (socket) => sockets.push(socket))
  server.on('request', (message, response) => {
    const client = clientOf(message.socket as TLSSocket, credentials.clusterId)
    response.setHeader('x-client', client.kind === 'node' ? client.identity.nodeId : client.kind)
    message.pipe(response)
  })
  server.on('upgrade', (message, socket, head) => {
    const client = clientOf(socket as TLSSocket, credentials.clusterId)
    if (client.kind !== 'node') {
      const reason = client.kind === 'untrusted' ? client.reason : client.kind
      refuseUpgrade(socket, { status: 401, reason, message: `no: ${reason}`, retryable: false })
    } else if (message.url !== '/raft') {
      refuseUpgrade(socket, { status: 404, reason: 'no-path', message: 'not here', retryable: true })
    } else {
      acceptor.accept(message, socket as TLSSocket, head, client.identity, (connection) => {
        const taker = waiting.shift()
        if (taker) taker(connection)
        else arrived.push(connection)
      })
    }
  })
  const address = await listen(t, server)
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  const next = async () => arrived.shift() ?? new Promise<Connection>((resolve) => waiting.push(resolve))
  return { address, renew, next, sockets }
}

async function listen(t: Teardown, server: TcpServer): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

function dial(address: string, credentials: TlsCredentials = worker, over: { path?: string; nodeId?: string } = {}) {
  const dialer = new WsDialer({ credentials: () => credentials, clock })
  return dialer.dial({ address, path: '/raft', timeoutMs: TIMEOUT_MS, ...over })
}

/** Collects what a connection says. */
class Ear {
  readonly messages: Buffer[] = []
  readonly closed: Promise<CloseInfo>
  #wake: () => void = () => {}

  constructor(connection: Connection) {
    this.closed = new Promise((resolve) => {
      connection.listen({
        onMessage: (message) => {
          this.messages.push(Buffer.from(message))
          this.#wake()
        },
        onClose: resolve,
      })
    })
  }

  async until(count: number): Promise<readonly string[]> {
    while (this.messages.length < count)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    return this.messages.map(String)
  }
}

t.test('both sides know each other and hear messages in order', async (t) => {
  const server = await serve(t)
  const near = await dial(server.address, worker, { nodeId: manager.nodeId })
  const far = await server.next()
  t.same(near.peer, { nodeId: manager.nodeId, clusterId: cluster.clusterId, role: 'manager' })
  t.same(far.peer, { nodeId: worker.nodeId, clusterId: cluster.clusterId, role: 'worker' })
  t.equal(near.remoteAddress, server.address)
  near.send(Buffer.from('sent before anybody listens'))
  far.send(Buffer.from('and so is this'))
  near.send(Buffer.from('2'))
  await new Promise((resolve) => setTimeout(resolve, 50))
  const [nearEar, farEar] = [new Ear(near), new Ear(far)]
  t.same(await farEar.until(2), ['sent before anybody listens', '2'])
  t.same(await nearEar.until(1), ['and so is this'])
  const numbers = Array.from({ length: 3000 }, (_, at) => String(at))
  for (const number of numbers) near.send(Buffer.from(number))
  t.same((await farEar.until(3002)).slice(2), numbers)
  const large = Buffer.alloc(5_000_000, 7)
  far.send(large)
  await nearEar.until(2)
  t.ok(nearEar.messages[1]?.equals(large))
  near.close(4001, 'moved')
  t.same(await farEar.closed, { clean: true, code: 4001, reason: 'moved' })
  t.same(await nearEar.closed, { clean: true, code: 4001, reason: 'moved' })
  t.throws(() => near.send(Buffer.from('x')), { code: 'CONNECTION_CLOSED' })
  near.close()
  near.destroy()
})

t.test('what was sent before the goodbye arrives; what comes after it does not', async (t) => {
  const server = await serve(t)
  const near = new Ear(await dial(server.address))
  const far = await server.next()
  const farEar = new Ear(far)
  for (let at = 0; at < 100; at++) far.send(Buffer.alloc(50_000, at))
  far.close()
  t.same(await near.closed, { clean: true, code: 1000, reason: '' })
  t.equal(near.messages.length, 100)
  t.match(await farEar.closed, { clean: true, code: 1000 })
})

t.test('a connection that just ends is not clean', async (t) => {
  const server = await serve(t)
  const near = new Ear(await dial(server.address))
  ;(await server.next()).destroy()
  t.same(await near.closed, { clean: false, code: 1006, reason: '' })
  const late = await dial(server.address)
  const far = await server.next()
  far.listen({ onMessage: () => {}, onClose: () => {} })
  far.close(4003, 'gone')
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.match(await new Ear(late).closed, { code: 4003, clean: true }, 'also heard by who listens later')
})

t.test('a peer of another cluster, with another role, name or an expired certificate is not talked to', async (t) => {
  const server = await serve(t)
  const other = new TestAuthority()
  const untrusted = { code: 'CONNECTION_UNTRUSTED', retryable: false }
  await t.rejects(dial(server.address, other.credentials({ role: 'worker' })), {
    ...untrusted,
    message: /not signed by the cluster's root/,
  })
  const twoClusters = { ...worker, clusterId: other.clusterId }
  await t.rejects(dial(server.address, twoClusters), { ...untrusted, message: /another cluster/ })
  await t.rejects(dial(server.address, worker, { nodeId: 'somebody' }), {
    code: 'CONNECTION_REFUSED',
    message: new RegExp(`is node ${manager.nodeId}, not somebody`),
  })
  const asWorker = await serve(t, worker)
  await t.rejects(dial(asWorker.address), { ...untrusted, message: /is not a manager/ })
  const expired = await serve(t, cluster.credentials({ role: 'manager', lifeMs: -1000 }))
  await t.rejects(dial(expired.address), { ...untrusted, message: /certificate has expired/ })
})

t.test('a server tells a client why it is refused', async (t) => {
  const server = await serve(t)
  const { rootsPem } = manager
  const stranger = new TestAuthority(cluster.clusterId)
  const forbidden = { code: 'CONNECTION_FORBIDDEN', retryable: false }
  await t.rejects(dial(server.address, stranger.credentials({ role: 'manager', rootsPem })), {
    ...forbidden,
    message: /no: untrusted/,
    details: { reason: 'untrusted' },
  })
  await t.rejects(dial(server.address, cluster.credentials({ role: 'worker', lifeMs: -1000 })), {
    ...forbidden,
    details: { reason: 'expired' },
  })
  await t.rejects(dial(server.address, worker, { path: '/elsewhere' }), {
    code: 'CONNECTION_REFUSED',
    retryable: true,
    details: { refused: false, reason: 'no-path' },
  })
})

t.test(
  'during a change of roots, peers under either are trusted, and a renewed server keeps its connections',
  async (t) => {
    const next = new TestAuthority(cluster.clusterId)
    const both = [cluster.root.certPem, next.root.certPem]
    const server = await serve(t, { ...manager, rootsPem: both })
    const before = await dial(server.address, { ...worker, rootsPem: both })
    const far = await server.next()
    server.renew(next.credentials({ role: 'manager', nodeId: manager.nodeId, rootsPem: both }))
    await t.rejects(dial(server.address), { code: 'CONNECTION_UNTRUSTED' }, 'the old root alone does not do any more')
    for (const credentials of [worker, next.credentials({ role: 'worker' })]) {
      const connection = await dial(server.address, { ...credentials, rootsPem: both })
      t.equal(connection.peer?.nodeId, manager.nodeId)
      connection.destroy()
    }
    const ear = new Ear(far)
    before.send(Buffer.from('still here'))
    t.same(await ear.until(1), ['still here'])
  },
)

t.test('nothing older than TLS 1.3, and no resumed sessions', async (t) => {
  const server = await serve(t)
  const { host, port } = splitAddress(server.address)
  const options = { host, port, rejectUnauthorized: false }
  await t.rejects(
    new Promise((resolve, reject) =>
      connect({ ...options, maxVersion: 'TLSv1.2' }, () => resolve('secure')).on('error', reject),
    ),
    /protocol version/,
  )
  const sessions: Buffer[] = []
  const identified = { ...options, cert: worker.certPem, key: worker.keyPem }
  const get = async (socket: TLSSocket) => {
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    for await (const _ of socket) {
      // read to the end
    }
  }
  await get(connect(identified).on('session', (session) => sessions.push(session)))
  for (const session of sessions) {
    const again = connect({ ...identified, session })
    again.once('secureConnect', () => t.equal(again.isSessionReused(), false))
    await get(again)
  }
  t.pass(`${sessions.length} sessions offered`)
})

t.test('a host where nobody listens, or that resets at once, is known as refusing', async (t) => {
  const closed = createTcpServer()
  const address = await listen(t, closed)
  await new Promise((resolve) => closed.close(resolve))
  const refused = { code: 'CONNECTION_REFUSED', retryable: true, details: { refused: true } }
  await t.rejects(dial(address), refused)
  const resetting = createTcpServer((socket) => socket.resetAndDestroy())
  await t.rejects(dial(await listen(t, resetting)), refused)
  await t.rejects(dial('no-such-host.invalid:1'), { code: 'CONNECTION_REFUSED', details: { refused: false } })
  await t.rejects(dial('nonsense'), { code: 'INVALID_ADDRESS' })
  t.same(splitAddress('[::1]:2377'), { host: '::1', port: 2377 })
  const plain = createTcpServer((socket) => socket.end('hello\r\n'))
  await t.rejects(dial(await listen(t, plain)), { code: 'CONNECTION_UNTRUSTED' }, 'no TLS at all')
})

t.test('a dial ends by its time-out or its signal, whatever it waits for', async (t) => {
  const silent = createTcpServer((socket) => t.teardown(() => socket.destroy()))
  const silentAddress = await listen(t, silent)
  const mute = createPlainTlsServer({ key: manager.keyPem, cert: manager.certPem }, (socket) => {
    t.teardown(() => socket.destroy())
    socket.resume()
  })
  const muteAddress = await listen(t, mute)
  const dialer = new WsDialer({ credentials: () => worker, clock })
  for (const address of [silentAddress, muteAddress]) {
    const options = { address, path: '/raft' }
    await t.rejects(dialer.dial({ ...options, timeoutMs: 300 }), { code: 'CONNECTION_TIMEOUT', retryable: true })
    const controller = new AbortController()
    const dialing = dialer.dial({ ...options, timeoutMs: TIMEOUT_MS, signal: controller.signal })
    setTimeout(() => controller.abort(), 100)
    await t.rejects(dialing, { code: 'CONNECTION_ABORTED' })
    await t.rejects(dialer.dial({ ...options, timeoutMs: TIMEOUT_MS, signal: controller.signal }), {
      code: 'CONNECTION_ABORTED',
    })
  }
})

t.test('a message above the limit is not sent; one that comes anyway ends the connection with 1009', async (t) => {
  const server = await serve(t, manager, { maxMessageBytes: 1000 })
  const near = await dial(server.address)
  const nearEar = new Ear(near)
  const far = await server.next()
  const farEar = new Ear(far)
  t.throws(() => far.send(Buffer.alloc(1001)), { code: 'MESSAGE_TOO_LARGE', retryable: false })
  near.send(Buffer.alloc(1000))
  near.send(Buffer.alloc(1001))
  t.match(await farEar.closed, { clean: false, code: 1009 })
  t.match(await nearEar.closed, { clean: true, code: 1009 })
  t.equal(farEar.messages.length, 1)
})

t.test('a reader that does not read costs no more than the bound', async (t) => {
  const maxBufferedBytes = 2_000_000
  const server = await serve(t, manager, { maxBufferedBytes })
  const { host, port } = splitAddress(server.address)
  const reader = connect({ host, port, rejectUnauthorized: false, cert: worker.certPem, key: worker.keyPem })
  t.teardown(() => reader.destroy())
  reader.write(
    'GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n',
  )
  const far = await server.next()
  const ear = new Ear(far)
  const message = Buffer.alloc(100_000)
  let sent = 0
  const fill = async () => {
    for (; sent < 1000; sent++) {
      far.send(message)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await t.rejects(fill(), { code: 'CONNECTION_FULL', retryable: true })
  t.ok(far.bufferedBytes > maxBufferedBytes - 100_000 && far.bufferedBytes <= maxBufferedBytes, `${far.bufferedBytes}`)
  far.destroy()
  t.match(await ear.closed, { clean: false })
})

t.test('a text message or a request that is no WebSocket upgrade is refused', async (t) => {
  const server = await serve(t)
  const { host, port } = splitAddress(server.address)
  const client = connect({ host, port, rejectUnauthorized: false, cert: worker.certPem, key: worker.keyPem })
  t.teardown(() => client.destroy())
  client.write('GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
  const [answer] = await new Promise<Buffer[]>((resolve) => client.once('data', (...data) => resolve(data)))
  t.match(String(answer), 'HTTP/1.1 400')
  const texting = connect({ host, port, rejectUnauthorized: false, cert: worker.certPem, key: worker.keyPem })
  t.teardown(() => texting.destroy())
  texting.write(
    'GET /raft HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n',
  )
  const ear = new Ear(await server.next())
  await new Promise((resolve) => texting.once('data', resolve)) // 101
  texting.write(Buffer.from('818400000000', 'hex')) // a masked text frame of 4 bytes
  texting.write('text')
  const [close] = await new Promise<Buffer[]>((resolve) => texting.once('data', (...data) => resolve(data)))
  t.equal(close?.readUInt16BE(2), 1003)
  texting.destroy()
  await ear.closed
  t.same(ear.messages, [])
})

t.test('requests: bodies and streams both ways, with and without a certificate, to whom one means', async (t) => {
  const server = await serve(t)
  const post = { method: 'POST', path: '/echo?x=1', body: Buffer.from('hello'), timeoutMs: TIMEOUT_MS }
  for (const [trust, expected] of [
    [{ kind: 'unverified' }, 'anonymous'],
    [{ kind: 'roots', rootsPem: manager.rootsPem }, 'anonymous'],
    [{ kind: 'cluster', credentials: worker }, worker.nodeId],
  ] as const) {
    const response = await requestOverTls({ address: server.address, trust, clock, ...post })
    if (response.kind !== 'response') throw new Error('no response')
    t.equal(response.status, 200)
    t.equal(response.message.headers['x-client'], expected)
    t.equal(String(await readBody(response.message, 100)), 'hello')
  }
  const rootsPem = [new TestAuthority().root.certPem]
  await t.rejects(requestOverTls({ address: server.address, trust: { kind: 'roots', rootsPem }, clock, ...post }), {
    code: 'CONNECTION_UNTRUSTED',
  })
})

t.test('a client keeps connections between requests and makes a new one with a renewed certificate', async (t) => {
  const server = await serve(t)
  let credentials: TlsCredentials = worker
  const client = new PeerClient({ credentials: () => credentials, clock })
  t.teardown(() => client.close())
  const target = { address: server.address, nodeId: manager.nodeId }
  const ask = async () => {
    const response = await client.request(target, { method: 'GET', path: '/', timeoutMs: TIMEOUT_MS })
    if (response.kind !== 'response') throw new Error('no response')
    await readBody(response.message, 100)
    return response.message.headers['x-client']
  }
  t.equal(await ask(), worker.nodeId)
  t.equal(await ask(), worker.nodeId)
  t.equal(server.sockets.length, 1)
  const renewed = cluster.credentials({ role: 'worker' })
  credentials = renewed
  t.equal(await ask(), renewed.nodeId)
  t.equal(server.sockets.length, 2)
  server.sockets[1]?.destroy()
  t.equal(await ask(), renewed.nodeId, 'a kept connection that has ended is no failure of a read')
  const other = client.request({ ...target, nodeId: 'other' }, { method: 'GET', path: '/', timeoutMs: TIMEOUT_MS })
  await t.rejects(other, { code: 'CONNECTION_REFUSED' })
  await t.rejects(
    client.request(target, { method: 'GET', path: '/', timeoutMs: TIMEOUT_MS, signal: AbortSignal.abort() }),
    { code: 'CONNECTION_ABORTED' },
  )
})

t.test('connecting stays cheap', async (t) => {
  const server = await serve(t)
  const timesMs: number[] = []
  for (let at = 0; at < 20; at++) {
    const startMs = clock.nowMs()
    const connection = await dial(server.address)
    timesMs.push(clock.nowMs() - startMs)
    connection.destroy()
  }
  timesMs.sort((a, b) => a - b)
  t.comment(`connect over mutual TLS, both ends in one process: median ${timesMs[10]?.toFixed(1)} ms`)
  t.equal(server.sockets.length, 20)
})

t.test('a TCP connection that never speaks TLS does not disturb the server', async (t) => {
  const server = await serve(t)
  const { host, port } = splitAddress(server.address)
  const noise = connectTcp({ host, port })
  noise.on('error', () => {})
  noise.write('GET / HTTP/1.1\r\n\r\n')
  await new Promise((resolve) => noise.once('close', resolve))
  const connection = await dial(server.address)
  t.ok(connection.peer)
  connection.destroy()
})
