// The API server on a real socket: routing, versions, pass-through, forwarding, logs and events. The cluster behind it is
// a real store; the engine is a stand-in that shows what reaches it (the real one is behind the end-to-end tests).

import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Task } from '../../src/api/objects.ts'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import { type Call, sendList } from '../../src/daemon/api/call.ts'
import { parseListenAddress } from '../../src/daemon/api/connections.ts'
import { encodeFrame, STREAM } from '../../src/daemon/api/log-frames.ts'
import { type Clock, SystemClock, sleep, type Timer } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import type { Transaction } from '../../src/manager/store/types.ts'
import { DriftingClock } from '../sim/virtual-clock.ts'
import { ask, open, speak, standInEngine } from '../support/api-client.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { aNode, aSecret, aTask, statusOf } from '../support/objects.ts'

type Test = Pick<typeof t, 'teardown' | 'equal'>

async function serve(test: Test, clock: Clock = new SystemClock()) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-api-'))
  const engine = await standInEngine(join(folder, 'engine.sock'))
  const cluster = new ApiCluster()
  const server = newServer(cluster, engine.path, clock)
  const socket = join(folder, 'swarmd.sock')
  await server.listen({ kind: 'unix', path: socket })
  test.teardown(async () => {
    await server.close()
    await engine.close()
    rmSync(folder, { recursive: true })
  })
  const call = (method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>) =>
    ask(socket, method, path, {
      ...(body === undefined ? {} : { body }),
      ...(headers === undefined ? {} : { headers }),
    })
  return { folder, engine, cluster, server, socket, call }
}

function newServer(cluster: ApiCluster, enginePath: string, clock: Clock = new SystemClock()): ApiServer {
  return new ApiServer({
    cluster,
    engine: { kind: 'unix', path: enginePath },
    clock,
    random: cluster.random,
    log: silentLog,
    version: '1.2.3',
  })
}

async function serveSwarm(test: Test, clock?: Clock) {
  const served = await serve(test, clock)
  const { status } = await served.call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })
  test.equal(status, 200)
  return served
}

const SERVICE = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'nginx' } } }

function idOf(json: unknown): string {
  return (json as { readonly ID: string }).ID
}

t.test('a node outside of a swarm says so, in Docker’s words', async (t) => {
  const { call } = await serve(t)
  const text =
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
  for (const path of ['/swarm', '/v1.41/services', '/nodes', '/tasks/x', '/secrets']) {
    t.match(await call('GET', path), { status: 503, message: text }, path)
  }
  t.match(await call('POST', '/services/create', SERVICE), { status: 503, message: text })
  t.match(await call('POST', '/networks/create', { Name: 'n', Driver: 'overlay' }), { status: 503, message: text })
  t.match(await call('POST', '/swarm/leave'), { status: 503, message: 'This node is not part of a swarm' })
  t.match((await call('GET', '/info')).json, {
    Name: 'host',
    Swarm: { LocalNodeState: 'inactive', NodeID: '', RemoteManagers: null },
  })
  t.equal((await call('GET', '/_ping')).headers.swarm, 'inactive')
})

t.test('a worker says that it is no manager', async (t) => {
  const { call, cluster } = await serve(t)
  cluster.current = {
    kind: 'worker',
    nodeId: 'w',
    nodeAddress: '10.0.0.2',
    managers: [{ nodeId: 'm', address: '10.0.0.1:2377' }],
  }
  t.match(await call('GET', '/services'), {
    status: 503,
    message: /^This node is not a swarm manager\. Worker nodes can't be used to view or modify cluster state/,
  })
  t.match((await call('GET', '/info')).json, {
    Swarm: {
      LocalNodeState: 'active',
      NodeID: 'w',
      NodeAddr: '10.0.0.2',
      ControlAvailable: false,
      RemoteManagers: [{ NodeID: 'm', Addr: '10.0.0.1:2377' }],
    },
  })
  t.equal((await call('HEAD', '/_ping')).headers.swarm, 'active/worker')
  t.match(await call('POST', '/swarm/init', {}), { status: 503, message: /already part of a swarm/ })
})

t.test('ping and version advertise the lower of 1.51 and the engine’s newest', async (t) => {
  const { call } = await serve(t)
  const ping = await call('GET', '/_ping')
  t.match(ping, {
    status: 200,
    text: 'OK',
    headers: {
      'api-version': '1.41',
      ostype: 'linux',
      'docker-experimental': 'false',
      'builder-version': '2',
      server: 'swarmd/1.2.3 (linux)',
    },
  })
  const head = await call('HEAD', '/v1.24/_ping')
  t.match(head, { status: 200, text: '', headers: { 'api-version': '1.41' } })
  t.match((await call('GET', '/version')).json, {
    ApiVersion: '1.41',
    MinAPIVersion: '1.24',
    Components: [{ Name: 'Engine' }, { Name: 'swarmd', Version: '1.2.3' }],
  })
})

t.test('swarm paths take versions 1.24 to 1.51', async (t) => {
  const { call } = await serveSwarm(t)
  t.equal((await call('GET', '/v1.24/services')).status, 200)
  t.equal((await call('GET', '/v1.51/services')).status, 200)
  t.match(await call('GET', '/v1.23/services'), {
    status: 400,
    message: /^client version 1\.23 is too old\. Minimum supported API version is 1\.24/,
  })
  t.match(await call('GET', '/v1.52/services'), {
    status: 400,
    message: 'client version 1.52 is too new. Maximum supported API version is 1.51',
  })
  t.match(await call('GET', '/services/a/b/c'), { status: 404, message: 'page not found' })
  t.match(await call('PATCH', '/services'), { status: 404, message: 'page not found' })
})

t.test('init asks the daemon with everything filled in', async (t) => {
  const { call, cluster } = await serve(t)
  t.match(await call('POST', '/swarm/init?fromSnapshot=7', {}), { status: 400, message: /is for ForceNewCluster/ })
  for (const [text, message] of [
    ['-1', 'invalid index of a snapshot: "-1"'],
    ['8', 'this manager has no snapshot at index 8: it has 7'],
  ])
    t.match(await call('POST', `/swarm/init?fromSnapshot=${text}`, { ForceNewCluster: true }), { status: 400, message })
  t.match(await call('POST', '/swarm/init', { Spec: { Name: 'x' } }), {
    status: 400,
    message: 'swarm spec must be named "default"',
  })
  t.match(await call('POST', '/swarm/init', { Availability: 'lazy' }), {
    status: 400,
    message: 'invalid Availability: "lazy"',
  })
  const answer = await call('POST', '/v1.41/swarm/init', {
    ListenAddr: '0.0.0.0:2377',
    AdvertiseAddr: 'eth0',
    DataPathAddr: 'eth1',
    DefaultAddrPool: null,
    Spec: { Orchestration: { TaskHistoryRetentionLimit: 2 } },
  })
  t.match(answer, { status: 200, json: NODE_ID })
  t.match(cluster.inits, [
    {
      listenAddress: '0.0.0.0:2377',
      advertiseAddress: 'eth0',
      dataPathAddress: 'eth1',
      availability: 'active',
      spec: {
        Name: 'default',
        Orchestration: { TaskHistoryRetentionLimit: 2 },
        CAConfig: { NodeCertExpiry: 7_776_000_000_000_000 },
      },
    },
  ])
  t.match((await call('GET', '/info')).json, {
    Swarm: {
      LocalNodeState: 'active',
      ControlAvailable: true,
      Nodes: 1,
      Managers: 1,
      Cluster: { Spec: { Name: 'default' } },
    },
  })
  t.notMatch((await call('GET', '/info')).text, /SWMTKN/, 'info shows no join tokens')
  t.match((await call('GET', '/swarm')).json, {
    JoinTokens: { Worker: /^SWMTKN-1-/, Manager: /^SWMTKN-1-/ },
    TLSInfo: { CertIssuerSubject: /^[A-Za-z0-9+/=]+$/ },
  })
  t.notMatch((await call('GET', '/swarm')).text, /PRIVATE KEY/)
  t.match(await call('GET', '/swarm/unlockkey'), { json: { UnlockKey: '' } })
  t.match(await call('POST', '/swarm/unlock', {}), { status: 409, message: 'swarm is not locked' })
  t.match(await call('POST', '/swarm/leave'), {
    status: 503,
    message: /Removing the last manager erases all current state/,
  })
  t.equal((await call('POST', '/swarm/leave?force=1')).status, 200)
})

t.test('autolock: a key while it is on, another when asked for, none while it is off', async (t) => {
  const { call, cluster } = await serve(t)
  t.equal((await call('POST', '/swarm/init', { AutoLockManagers: true })).status, 200)
  t.match(cluster.inits, [{ spec: { EncryptionConfig: { AutoLockManagers: true } } }])
  const update = async (AutoLockManagers: boolean, query = '') => {
    const { Version, Spec } = (await call('GET', '/swarm')).json as { Version: { Index: number }; Spec: object }
    const body = { ...Spec, EncryptionConfig: { AutoLockManagers } }
    t.equal((await call('POST', `/swarm/update?version=${Version.Index}${query}`, body)).status, 200)
    return ((await call('GET', '/swarm/unlockkey')).json as { UnlockKey: string }).UnlockKey
  }
  const key = await update(true)
  t.match(key, /^SWMKEY-1-/)
  t.equal(await update(true), key)
  const other = await update(true, '&rotateManagerUnlockKey=true')
  t.match(other, /^SWMKEY-1-/)
  t.not(other, key)
  t.equal(await update(false), '')
  t.equal(await update(false, '&rotateManagerUnlockKey=true'), '', 'nothing to rotate')
  for (const path of ['/swarm', '/info']) t.notMatch((await call('GET', path)).text, other.slice('SWMKEY-1-'.length))

  const stored = cluster.store.cluster()!
  cluster.apply([{ kind: 'update', object: { ...stored, featureLevel: 2 }, expectedVersion: stored.meta.version }])
  const { Version, Spec } = (await call('GET', '/swarm')).json as { Version: { Index: number }; Spec: object }
  t.match(
    await call('POST', `/swarm/update?version=${Version.Index}`, {
      ...Spec,
      EncryptionConfig: { AutoLockManagers: true },
    }),
    { status: 400, message: /autolock needs feature level 3 and the cluster is at 2: upgrade swarmd/ },
  )
})

t.test('a locked manager says so', async (t) => {
  const { call, cluster } = await serve(t)
  cluster.current = { kind: 'locked' }
  const locked =
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
  for (const path of ['/nodes', '/swarm', '/services', '/swarm/unlockkey'])
    t.match(await call('GET', path), { status: 503, message: locked })
  t.match((await call('GET', '/info')).json, { Swarm: { LocalNodeState: 'locked', Error: locked, NodeID: '' } })
  t.match(await call('POST', '/swarm/init', {}), { status: 503, message: /already part of a swarm/ })
  t.match(await call('POST', '/swarm/init', { ForceNewCluster: true }), { status: 503, message: locked })
  t.match(await call('POST', '/swarm/leave'), {
    status: 503,
    message: 'Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.',
  })
  t.equal((await call('POST', '/swarm/unlock', { UnlockKey: 'SWMKEY-1-x' })).status, 200)
  t.same(cluster.unlocks, ['SWMKEY-1-x'])
  t.equal((await call('POST', '/swarm/leave?force=1')).status, 200)
})

t.test('join asks the daemon', async (t) => {
  const { call, cluster } = await serve(t)
  t.match(await call('POST', '/swarm/join', { RemoteAddrs: [] }), {
    status: 400,
    message: 'at least 1 RemoteAddr is required to join',
  })
  const token = `SWMTKN-1-${'0'.repeat(50)}-${'a'.repeat(25)}`
  t.equal((await call('POST', '/swarm/join', { RemoteAddrs: ['m:2377'], JoinToken: token })).status, 200)
  t.match(cluster.joins, [{ remoteAddresses: ['m:2377'], joinToken: token, availability: 'active' }])
})

t.test('an engine that is in a swarm of its own is refused', async (t) => {
  const { folder } = await serve(t)
  const engine = createServer((request, response) => {
    response.setHeader('Api-Version', '1.41')
    response.end(request.url === '/_ping' ? 'OK' : JSON.stringify({ Swarm: { LocalNodeState: 'active' } }))
  })
  const path = join(folder, 'swarming.sock')
  engine.listen(path)
  await once(engine, 'listening')
  const server = newServer(new ApiCluster(), path)
  const socket = join(folder, 'other.sock')
  await server.listen({ kind: 'unix', path: socket })
  t.teardown(async () => {
    await server.close()
    engine.close()
  })
  t.match(await ask(socket, 'POST', '/swarm/init', { body: {} }), {
    status: 503,
    message: new RegExp(`docker -H unix://${path} swarm leave`),
  })
})

t.test('a service through its life', async (t) => {
  const { call, cluster } = await serveSwarm(t)
  const created = await call(
    'POST',
    '/v1.41/services/create',
    { ...SERVICE, Labels: null },
    { 'x-registry-auth': 'e30=' },
  )
  t.equal(created.status, 201)
  const id = idOf(created.json)
  t.equal(cluster.store.get('service', id)?.registryAuth, 'e30=')
  const inspected = await call('GET', `/services/${id.slice(0, 10)}?insertDefaults=true`)
  t.match(inspected.json, { ID: id, Spec: { Name: 'web', UpdateConfig: { Parallelism: 1 } }, Endpoint: { Spec: {} } })
  t.notMatch((await call('GET', '/services/web')).text, /UpdateConfig/)
  const version = (inspected.json as { readonly Version: { readonly Index: number } }).Version.Index
  t.match(
    await call('POST', `/services/web/update?version=${version}`, {
      ...SERVICE,
      Mode: { Replicated: { Replicas: 2 } },
    }),
    { status: 200, json: { Warnings: null } },
  )
  t.match(await call('POST', `/services/web/update?version=${version}`, SERVICE), {
    status: 500,
    message: 'rpc error: code = Unknown desc = update out of sequence',
  })
  t.match(await call('POST', '/services/web/update?version=x', SERVICE), {
    status: 400,
    message: /^invalid service version 'x'/,
  })
  t.match(await call('GET', '/services?status=true'), {
    json: [{ ID: id, ServiceStatus: { RunningTasks: 0, DesiredTasks: 2, CompletedTasks: 0 } }],
  })
  t.notMatch((await call('GET', '/v1.40/services?status=true')).text, /ServiceStatus/)
  t.match(await call('GET', '/services?status=perhaps'), { status: 400 })
  t.match((await call('GET', `/services?filters=${encodeURIComponent('{"name":["x"]}')}`)).json, [])
  t.match(await call('GET', `/services?filters=${encodeURIComponent('{"nope":["x"]}')}`), {
    status: 400,
    message: "invalid filter 'nope'",
  })
  t.equal((await call('DELETE', '/services/web')).status, 200)
  t.match(await call('DELETE', '/services/web'), { status: 404, message: 'service web not found' })
})

t.test('secrets keep their payload to themselves, configs show it', async (t) => {
  const { call } = await serveSwarm(t)
  const body = { Name: 'one', Data: Buffer.from('payload').toString('base64') }
  t.equal((await call('POST', '/secrets/create', body)).status, 201)
  t.equal((await call('POST', '/configs/create', body)).status, 201)
  for (const path of ['/secrets', '/secrets/one']) t.notMatch((await call('GET', path)).text, body.Data)
  t.match((await call('GET', '/configs/one')).json, { Spec: { Data: body.Data } })
  t.match(await call('POST', '/secrets/create', body), {
    status: 409,
    message: 'rpc error: code = AlreadyExists desc = secret one already exists',
  })
  t.match(await call('POST', '/secrets/one/update?version=0', { Name: 'one' }), { status: 500 })
  t.equal((await call('DELETE', '/secrets/one')).status, 204)
  t.match(await call('GET', '/secrets/one'), { status: 404, message: 'secret one not found' })
})

t.test('bodies are bounded, typed, and JSON', async (t) => {
  const { socket, call } = await serveSwarm(t)
  t.match(await ask(socket, 'POST', '/services/create', { raw: '{"Name":' }), {
    status: 400,
    message: /^invalid JSON: /,
  })
  t.match(await call('POST', '/services/create', { Name: ['x'] }), {
    status: 400,
    message: 'invalid JSON: Name: expected string, found array',
  })
  t.match(await call('POST', '/services/create', SERVICE, { 'content-type': 'text/plain' }), {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
  })
  t.match(await ask(socket, 'POST', '/configs/create', { raw: Buffer.alloc(5 * 1024 * 1024, 0x20) }), {
    status: 413,
    message: /request body too large/,
  })
})

t.test('networks of the cluster and of the engine are one list', async (t) => {
  const { call, engine, cluster } = await serveSwarm(t)
  const created = await call('POST', '/networks/create', {
    Name: 'over',
    Driver: 'overlay',
    IPAM: { Config: [{ Subnet: '10.5.0.0/24' }] },
  })
  t.equal(created.status, 201)
  t.match((await call('GET', '/networks')).json, [
    { Name: 'over', Scope: 'swarm', Driver: 'overlay', IPAM: { Config: [{ Subnet: '10.5.0.0/24' }] } },
    { Name: 'bridge', Scope: 'local' },
  ])
  t.match((await call('GET', '/networks/over')).json, { Name: 'over', Scope: 'swarm' })
  t.match((await call('GET', '/networks/bridge')).json, { Name: 'bridge' })
  t.match(await call('POST', '/networks/create', { Name: 'over', Driver: 'bridge' }), {
    status: 409,
    message: 'network with name over already exists',
  })
  t.match(await call('POST', '/networks/create', { Name: 'bridge', Driver: 'overlay' }), {
    status: 409,
    message: 'network with name bridge already exists',
  })
  t.match(await call('POST', '/networks/create', { Name: 'x', Driver: 'macvlan', Scope: 'swarm' }), { status: 501 })
  t.equal((await call('DELETE', '/networks/over')).status, 204)
  t.equal(cluster.store.count('network'), 0)
  t.match(
    await call('DELETE', '/networks/nope'),
    { status: 404 },
    'the engine answers for what the cluster does not know',
  )
  t.ok(engine.seen.includes('DELETE /v1.41/networks/nope'))
})

t.test('everything else reaches the engine, in a version that it takes', async (t) => {
  const { call, engine, socket } = await serve(t)
  t.match(await call('GET', '/v1.51/containers/json?all=1'), { status: 200, json: [{ Name: 'bridge' }] })
  t.match(await call('GET', '/containers/json'), { status: 200 })
  t.match(await call('GET', '/v1.30/containers/json'), { status: 200 })
  t.same(engine.seen, ['GET /v1.41/containers/json?all=1', 'GET /v1.41/containers/json', 'GET /v1.30/containers/json'])
  const echoed = await call('POST', '/echo', { a: 1 }, { 'x-registry-auth': 'abc', expect: '100-continue' })
  t.match(echoed.json, { body: '{"a":1}', headers: { 'x-registry-auth': 'abc' } })
  const large = Buffer.alloc(2 * 1024 * 1024, 'x')
  const streamed = await ask(socket, 'POST', '/echo', { raw: large, headers: { 'transfer-encoding': 'chunked' } })
  t.equal((streamed.json as { readonly body: string }).body.length, large.length)
  t.match(await call('GET', '/nothing'), { status: 404, message: 'No such thing: /nothing' })
})

t.test('an engine that hangs does not hold the cluster up', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-hung-'))
  const path = join(folder, 'engine.sock')
  const hung = createServer(() => {})
  hung.listen(path)
  await once(hung, 'listening')
  const cluster = new ApiCluster()
  cluster.become()
  const server = newServer(cluster, path)
  const socket = join(folder, 'swarmd.sock')
  await server.listen({ kind: 'unix', path: socket })
  t.teardown(async () => {
    await server.close()
    hung.closeAllConnections()
    hung.close()
    rmSync(folder, { recursive: true })
  })
  t.equal((await ask(socket, 'GET', '/v1.41/nodes')).status, 200)
})

t.test('an engine that is away is named', async (t) => {
  const { call, engine } = await serve(t)
  await engine.close()
  t.match(await call('GET', '/containers/json'), {
    status: 503,
    message: /^Cannot connect to the Docker daemon at unix:.*engine\.sock\. Is the docker daemon running\?/,
  })
  t.equal((await call('GET', '/_ping')).status, 200)
  const server = createServer()
  server.listen(engine.path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  engine.close = async () => {}
})

t.test('a connection that is upgraded carries both directions until each has ended', async (t) => {
  const { socket, engine } = await serve(t)
  const head =
    'POST /v1.51/exec/abc/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'
  const heard = await speak(socket, head, { rest: ['more'] })
  t.match(heard, /^HTTP\/1\.1 101 UPGRADED\r\n/)
  t.match(heard, /\r\n\r\n\{\}more<6 bytes>$/, 'the body, later input, and an answer after the end of the input')
  t.same(engine.seen, ['POST /v1.41/exec/abc/start upgrade'])
})

t.test('old clients take a connection over without saying so', async (t) => {
  const { socket, engine } = await serve(t)
  const heard = await speak(
    socket,
    'POST /v1.51/exec/abc/start HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}',
  )
  t.match(heard, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\n\r\n\{\}<end>$/)
  t.same(engine.seen, ['POST /v1.41/exec/abc/start'])
})

t.test('two requests on one connection are answered in turn', async (t) => {
  const { socket } = await serve(t)
  const heard = await speak(
    socket,
    'GET /_ping HTTP/1.1\r\nHost: a\r\n\r\nGET /v1.41/version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    { keepOpen: true },
  )
  t.match(heard, /OKHTTP\/1\.1 200 OK[\s\S]*"swarmd"/)
})

/** A second manager that follows the first, with a control port that hands forwarded requests to it. */
async function serveFollower(test: Test) {
  const leader = await serveSwarm(test)
  const control = createServer((request, response) => leader.server.handleForwarded(request, response))
  const controlSocket = join(leader.folder, 'control.sock')
  control.listen(controlSocket)
  await once(control, 'listening')
  const cluster = new ApiCluster()
  cluster.store = leader.cluster.store
  cluster.leaderSocket = controlSocket
  cluster.become({
    nodeId: 'follower',
    isLeader: false,
    proposer: { propose: () => Promise.reject(new Error('a follower proposes nothing')) },
  })
  const server = newServer(cluster, leader.engine.path)
  const socket = join(leader.folder, 'follower.sock')
  await server.listen({ kind: 'unix', path: socket })
  test.teardown(async () => {
    await server.close()
    control.closeAllConnections()
    control.close()
  })
  return {
    leader,
    follower: {
      cluster,
      server,
      socket,
      call: (method: string, path: string, body?: unknown) =>
        ask(socket, method, path, body === undefined ? {} : { body }),
    },
  }
}

t.test('a follower forwards writes and answers reads', async (t) => {
  const { leader, follower } = await serveFollower(t)
  const created = await follower.call('POST', '/v1.41/services/create', SERVICE)
  t.equal(created.status, 201)
  t.equal(leader.cluster.store.count('service'), 1)
  t.match((await follower.call('GET', '/services/web')).json, { ID: idOf(created.json) })
  t.match((await follower.call('GET', '/nodes')).json, [
    { ID: NODE_ID, ManagerStatus: { Leader: true, Reachability: 'reachable' } },
  ])
  t.match(await follower.call('POST', '/services/create', SERVICE), { status: 409, message: /already exists/ })
  t.equal((await follower.call('POST', '/networks/create', { Name: 'over', Driver: 'overlay' })).status, 201)
  t.equal((await follower.call('DELETE', '/networks/over')).status, 204)
  // What one manager tells another, no client says.
  const headers = { 'X-Swarmd-Removal': 'a'.repeat(25) }
  t.equal((await ask(follower.socket, 'DELETE', '/services/web', { headers })).status, 200)
  t.equal(leader.cluster.store.count('service'), 0)
})

t.test('a request waits for a leader, and follows when the leader changes', async (t) => {
  const { leader, follower } = await serveFollower(t)
  leader.cluster.become({ isLeader: false, leader: undefined })
  const waiting = follower.call('POST', '/services/create', SERVICE)
  // the follower is elected meanwhile
  setTimeout(() => follower.cluster.become({ nodeId: 'follower' }), 120)
  t.equal((await waiting).status, 201)
  t.equal(follower.cluster.proposed.length, 1)
})

t.test('a leader that hangs is waited for until another leads', async (t) => {
  const { leader, follower } = await serveFollower(t)
  const hung = createServer(() => follower.cluster.become({ nodeId: 'follower' }))
  follower.cluster.leaderSocket = join(leader.folder, 'hung.sock')
  hung.listen(follower.cluster.leaderSocket)
  await once(hung, 'listening')
  t.teardown(() => {
    hung.closeAllConnections()
    hung.close()
  })
  t.equal((await follower.call('POST', '/services/create', SERVICE)).status, 201)
  t.equal(follower.cluster.proposed.length, 1)
})

t.test('a leader that steps down in the middle of a write is no reason to fail', async (t) => {
  const { leader } = await serveFollower(t)
  let attempts = 0
  const { store } = leader.cluster
  leader.cluster.become({
    proposer: {
      propose: async (transaction) => {
        attempts++
        if (attempts < 3) throw new CodedError('PROPOSAL_DROPPED', 'dropped', { retryable: true })
        return leader.cluster.apply(transaction)
      },
    },
  })
  t.equal((await leader.call('POST', '/services/create', SERVICE)).status, 201)
  t.equal(attempts, 3)
  t.equal(store.count('service'), 1)
})

t.test('a creation whose outcome nobody saw is tried again and made once', async (t) => {
  const { leader, follower } = await serveFollower(t)
  const { store } = leader.cluster
  let attempts = 0
  leader.cluster.become({
    proposer: {
      propose: async (transaction) => {
        leader.cluster.apply(transaction)
        attempts++
        throw new CodedError('PROPOSAL_UNKNOWN', 'the leader changed meanwhile')
      },
    },
  })
  const created = await follower.call('POST', '/services/create', SERVICE)
  t.match(created, { status: 201, json: { ID: store.byName('service', 'web')?.id } })
  t.equal((await leader.call('POST', '/secrets/create', { Name: 's', Data: 'aGk=' })).status, 201)
  t.same([store.count('service'), store.count('secret'), attempts], [1, 1, 2])
  const updated = { ...SERVICE, Labels: { a: 'b' } }
  const version = store.byName('service', 'web')!.meta.version
  const update = await follower.call('POST', `/services/web/update?version=${version}`, updated)
  t.match(update, { status: 503, message: 'the leader changed meanwhile' }, 'which of two updates came first matters')
})

t.test('a removal whose outcome nobody saw is tried again, and only what it was about goes', async (t) => {
  const { leader, follower } = await serveFollower(t)
  const { store } = leader.cluster
  const make = async () => {
    t.equal((await leader.call('POST', '/services/create', SERVICE)).status, 201)
    t.equal((await leader.call('POST', '/secrets/create', { Name: 's', Data: 'aGk=' })).status, 201)
    t.equal((await leader.call('POST', '/networks/create', { Name: 'n', Driver: 'overlay' })).status, 201)
  }
  await make()
  /** Applies, and lets nobody see it; `meanwhile` comes before the next attempt. */
  const unseen = (applies: boolean, meanwhile = async () => {}) => {
    const proposer = {
      propose: async (transaction: Transaction) => {
        leader.cluster.become({ proposer: { propose: async (next) => leader.cluster.apply(next) } })
        if (applies) leader.cluster.apply(transaction)
        await meanwhile()
        throw new CodedError('PROPOSAL_UNKNOWN', 'the leader changed meanwhile')
      },
    }
    leader.cluster.become({ proposer })
  }
  for (const asked of [leader, follower]) {
    for (const applies of [true, false]) {
      for (const [path, status] of [
        ['/services/web', 200],
        ['/secrets/s', 204],
        ['/networks/n', 204],
      ] as const) {
        unseen(applies)
        t.equal((await asked.call('DELETE', path)).status, status, `${path}, ${applies}`)
        t.equal((await asked.call('DELETE', path)).status, 404, 'another request finds nothing')
      }
      await make()
    }
  }
  const before = store.byName('service', 'web')!.id
  unseen(true, async () => {
    t.equal((await leader.call('POST', '/services/create', SERVICE)).status, 201)
  })
  t.equal((await follower.call('DELETE', '/services/web')).status, 200)
  t.not(store.byName('service', 'web')?.id, before)
  t.equal(store.count('service'), 1, 'who took the name meanwhile stays')
})

t.test('a removal whose answer is lost with the connection is made again', async (t) => {
  const { leader, follower } = await serveFollower(t)
  t.equal((await leader.call('POST', '/services/create', SERVICE)).status, 201)
  const { leaderSocket } = follower.cluster
  const broken = createServer((request, response) => {
    // It was carried out, and the leader ended before it could say so.
    follower.cluster.leaderSocket = leaderSocket
    leader.server.handleForwarded(request, response)
    response.writeHead = () => response.destroy()
  })
  follower.cluster.leaderSocket = join(leader.folder, 'broken.sock')
  broken.listen(follower.cluster.leaderSocket)
  await once(broken, 'listening')
  t.teardown(() => broken.close())
  t.equal((await follower.call('DELETE', '/services/web')).status, 200)
  t.equal(leader.cluster.store.count('service'), 0)
})

function logLines(...lines: readonly (readonly [number, string])[]): Buffer {
  return Buffer.concat(
    lines.map(([stream, line]) => encodeFrame(stream, Buffer.from(`2026-01-01T00:00:00.1Z ${line}\n`))),
  )
}

async function serveLogs(test: Test, tty = false) {
  const served = await serveSwarm(test)
  const created = await served.call('POST', '/services/create', {
    Name: 'web',
    TaskTemplate: { ContainerSpec: { Image: 'a', TTY: tty } },
  })
  const id = idOf(created.json)
  const container = { ContainerID: 'c' }
  const add = (task: string, slot: number) =>
    served.cluster.apply([
      {
        kind: 'create',
        object: aTask(task, id, {
          serviceName: 'web',
          slot,
          nodeId: NODE_ID,
          status: statusOf('running', { container }),
          spec: { ContainerSpec: { Image: 'a', TTY: tty } },
        }),
      },
    ])
  add('t1', 1)
  return { ...served, id, add }
}

t.test('logs of a service are those of its tasks, styled as asked', async (t) => {
  const { socket, cluster, add, id } = await serveLogs(t)
  add('t2', 2)
  const asked: unknown[] = []
  cluster.logs = async function* (task: Task, options) {
    asked.push(options)
    const bytes = logLines([STREAM.stdout, `out of ${task.id}`], [STREAM.stderr, 'err'])
    // chunks end anywhere
    yield bytes.subarray(0, 11)
    yield bytes.subarray(11)
  }
  const plain = await ask(socket, 'GET', '/v1.41/services/web/logs?stdout=1&stderr=1&tail=5&since=12.5')
  t.match(asked[0], { follow: false, tail: 5, since: '12.5', stdout: true, stderr: true })
  t.equal(plain.headers['content-type'], 'application/vnd.docker.raw-stream')
  t.match(plain.text, encodeFrame(1, Buffer.from('out of t1\n')).toString())
  t.match(plain.text, encodeFrame(1, Buffer.from('out of t2\n')).toString())
  t.match(plain.text, encodeFrame(2, Buffer.from('err\n')).toString())
  const detailed = await ask(socket, 'GET', '/v1.43/tasks/t1/logs?stdout=1&details=1&timestamps=1')
  t.equal(detailed.headers['content-type'], 'application/vnd.docker.multiplexed-stream')
  t.match(
    detailed.text,
    `2026-01-01T00:00:00.1Z com.docker.swarm.node.id=${NODE_ID},com.docker.swarm.service.id=${id},com.docker.swarm.task.id=t1 out of t1\n`,
  )
  t.match(await ask(socket, 'GET', '/services/web/logs'), {
    status: 400,
    message: "must specify at least one of 'stdout' or 'stderr'",
  })
  t.match(await ask(socket, 'GET', '/services/web/logs?stdout=1&tail=-1'), {
    status: 400,
    message: 'negative tail values not supported',
  })
  t.match(await ask(socket, 'GET', '/services/web/logs?stdout=1&tail=x'), {
    status: 400,
    message: 'tail value must be a positive integer or "all"',
  })
  t.match(await ask(socket, 'GET', '/services/nope/logs?stdout=1'), { status: 404, message: 'service nope not found' })
})

t.test('logs of a terminal are raw, and a node that can’t be reached is said at the end', async (t) => {
  const { socket, cluster } = await serveLogs(t, true)
  cluster.logs = async function* () {
    yield logLines([STREAM.stdout, 'tty'])
  }
  t.equal((await ask(socket, 'GET', '/services/web/logs?stdout=1')).text, 'tty\n')
  const other = await serveLogs(t)
  other.cluster.logs = async function* () {
    yield logLines([STREAM.stdout, 'before'])
    throw new Error('node is not available')
  }
  const { text } = await ask(other.socket, 'GET', '/services/web/logs?stdout=1')
  t.match(text, /before\n/)
  t.match(
    text,
    /Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream\..*node is not available/,
  )
})

t.test('followed logs take in tasks that start later', async (t) => {
  const { socket, cluster, add } = await serveLogs(t)
  cluster.logs = async function* (task: Task) {
    yield logLines([STREAM.stdout, `out of ${task.id}`])
    await new Promise(() => {})
  }
  const stream = await open(socket, '/services/web/logs?stdout=1&follow=1')
  await stream.until(/out of t1/)
  add('t2', 2)
  await stream.until(/out of t2/)
  stream.close()
})

t.test('events of the engine and of the cluster are one stream', async (t) => {
  const { socket, call, cluster } = await serveSwarm(t)
  const stream = await open(socket, '/events')
  await stream.until(/"container"/)
  await call('POST', '/services/create', SERVICE)
  const service = cluster.store.byName('service', 'web')
  await stream.until(/"Type":"service","Action":"create".*\n/)
  for (const line of stream.text().trimEnd().split('\n')) t.ok(JSON.parse(line))
  const filtered = await open(socket, `/events?filters=${encodeURIComponent('{"type":["node"]}')}`)
  await call('POST', '/networks/create', { Name: 'n', Driver: 'overlay' })
  cluster.apply([{ kind: 'create', object: aNode('w1') }])
  await filtered.until(/"Type":"node"/)
  t.notMatch(filtered.text(), /"network"/)
  stream.close()
  filtered.close()

  const seconds = Date.parse('2020-01-01') / 1000
  const past = await call('GET', `/events?since=${seconds}&until=1`)
  t.match(past, { status: 400, message: /cannot be after `until` time/ })
  t.match(await call('GET', '/events?since=x'), { status: 400, message: /invalid value for 'since'/ })
  const replay = await open(socket, `/events?since=${seconds}`)
  await replay.until(new RegExp(`"service".*"ID":"${service?.id}"`))
  replay.close()
})

t.test('a change of leader is an event of both nodes', async (t) => {
  const { socket, cluster, server } = await serveSwarm(t)
  cluster.apply([
    { kind: 'create', object: aNode('m2', { manager: { raftId: '2', address: 'm2:2377', featureLevel: 1 } }) },
  ])
  const stream = await open(socket, '/events')
  await stream.until(/container/)
  cluster.become({ isLeader: false, leader: { nodeId: 'm2', address: 'm2:2377' } })
  server.clusterChanged()
  await stream.until(/"ID":"m2","Attributes":\{"leader.new":"true","leader.old":"false"/)
  t.match(stream.text(), /"leader.new":"false","leader.old":"true"/)
  stream.close()
})

t.test('a long listing is made in slices that let others run', async (t) => {
  let nowMs = 0
  let turns = 0
  const clock: Clock = {
    nowMs: () => nowMs++,
    wallMs: () => 0,
    setTimer: (_delay: number, fire: () => void): Timer => {
      turns++
      setImmediate(fire)
      return { cancel: () => {} }
    },
  }
  const server = createServer((request, response) => {
    const call = { request, response, signal: new AbortController().signal } as unknown as Call
    void sendList(
      call,
      clock,
      Array.from({ length: 1000 }, (_, number) => String(number)),
    )
  })
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-list-'))
  server.listen(join(folder, 's'))
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    rmSync(folder, { recursive: true })
  })
  const { json } = await ask(join(folder, 's'), 'GET', '/')
  t.same(
    json,
    Array.from({ length: 1000 }, (_, number) => number),
  )
  t.ok(turns >= 90, `${turns} turns of the event loop`)
})

t.test('sockets are for the owner and group, and a dead daemon’s socket is no obstacle', async (t) => {
  const { socket, folder, engine } = await serve(t)
  t.equal(statSync(socket).mode & 0o777, 0o660)
  const second = newServer(new ApiCluster(), engine.path)
  await t.rejects(second.listen({ kind: 'unix', path: socket }), { code: 'ADDRESS_IN_USE' })
  const port = await second.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
  await t.rejects(
    newServer(new ApiCluster(), engine.path).listen({ kind: 'tcp', host: '127.0.0.1', port: port ?? 0 }),
    { code: 'ADDRESS_IN_USE' },
  )
  t.equal(await (await fetch(`http://127.0.0.1:${port}/_ping`)).text(), 'OK')
  await second.close()
  t.same(parseListenAddress('unix:///run/x.sock'), { kind: 'unix', path: '/run/x.sock' })
  t.same(parseListenAddress('tcp://0.0.0.0:99'), { kind: 'tcp', host: '0.0.0.0', port: 99 })
  t.same(parseListenAddress('tcp://[::1]'), { kind: 'tcp', host: '::1', port: 2375 })
  for (const bad of ['http://x', 'tcp://a:99999', 'unix://', 'tcp://a:b'])
    t.throws(() => parseListenAddress(bad), { message: /invalid address to listen on/ })
  t.ok(folder)
})

t.test('a read that a manager which is just leaving could not answer is asked again', async (t) => {
  const { cluster, call } = await serveSwarm(t)
  let asked = 0
  cluster.readIndex = async () => {
    if (asked++ === 0) throw new CodedError('RAFT_NOT_RUNNING', 'this node does not take part in Raft now')
  }
  t.equal((await call('GET', '/secrets')).status, 200)
  t.equal(asked, 2)
})

t.test('without a leader a read is refused as soon as a write; a slow leader is waited for', async (t) => {
  const clock = new DriftingClock(new SystemClock(), { rate: 50 })
  const { cluster, call } = await serveSwarm(t, clock)
  cluster.readIndex = () => sleep(clock, 10_000)
  t.equal((await call('GET', '/secrets')).status, 200)
  cluster.become({ isLeader: false, leader: undefined })
  // far longer than a busy machine takes for both
  const readIndexMs = 200_000
  cluster.readIndex = () => sleep(clock, readIndexMs)
  const startMs = clock.nowMs()
  t.match(await call('GET', '/secrets'), { status: 503, message: /The swarm does not have a leader/ })
  const readMs = clock.nowMs() - startMs
  t.match(await call('POST', '/secrets/create', { Name: 'a', Data: 'eA==' }), { status: 503 })
  const writeMs = clock.nowMs() - startMs - readMs
  t.ok(readMs < readIndexMs && writeMs < readIndexMs, `${Math.round(readMs)} and ${Math.round(writeMs)} ms`)
})

t.test('the snapshots of this manager’s disk, and what is in one', async (t) => {
  const { call, cluster } = await serve(t)
  t.match(await call('GET', '/swarmd/snapshots'), { status: 503, message: /not a swarm manager/ })
  await call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })
  cluster.apply([{ kind: 'create', object: aSecret('word') }])
  t.same((await call('GET', '/swarmd/snapshots')).json, [{ Index: 7, Term: 1, SizeBytes: 10 }])
  const shown = await call('GET', '/swarmd/snapshots/7')
  t.match(shown.json, { Nodes: [{ Hostname: 'manager-1', Role: 'manager' }], Services: [], Secrets: ['word'] })
  t.notMatch(shown.text, 'c2VjcmV0', 'of a secret nothing but its name')
  t.match(await call('GET', '/swarmd/snapshots/x'), { status: 400, message: 'invalid index of a snapshot: "x"' })
})
