// The cluster's view of containers: what a person may call one, and what a listing becomes.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import type { ClusterAccess } from '../../src/daemon/api/cluster-access.ts'
import { ClusterEngines } from '../../src/daemon/api/cluster-engines.ts'
import { taskContainer } from '../../src/daemon/api/cluster-view.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { ask, open } from '../support/api-client.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { aNode, aService, aTask, statusOf } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'

const HEX = 'abcdef0123456789'.repeat(4)

t.test('a task’s container by its id, its task, its slot or its service', async (t) => {
  const { cluster, socket } = await serveApi(t)
  await ask(socket, 'POST', '/swarm/init', { body: { ListenAddr: '127.0.0.1:2377' } })
  const service = aService('service0000000000000000web', { spec: { Name: 'web' } })
  const task = (id: string, slot: number, container: string | undefined) =>
    aTask(id.padEnd(25, '0'), service.id, {
      serviceName: 'web',
      slot,
      nodeId: NODE_ID,
      status: statusOf('running', { container: container === undefined ? undefined : { ContainerID: container } }),
    })
  cluster.apply([
    { kind: 'create', object: service },
    { kind: 'create', object: task('one', 1, HEX) },
    { kind: 'create', object: task('two', 2, HEX.replace('abc', 'abd')) },
    { kind: 'create', object: task('three', 3, undefined) },
  ])
  const one = { nodeId: NODE_ID, containerId: HEX }
  const name = `web.1.${'one'.padEnd(25, '0')}`
  for (const reference of [HEX, HEX.slice(0, 12), 'one'.padEnd(25, '0'), name, 'web.1']) {
    t.same(taskContainer(cluster.store, reference), one, reference)
  }
  t.throws(() => taskContainer(cluster.store, 'web'), {
    code: 'AMBIGUOUS',
    message: /^web fits more than one task: web\.1\./,
  })
  t.throws(() => taskContainer(cluster.store, 'web.4'), {
    code: 'NO_SUCH_OBJECT',
    message: 'no task of web.4 is running',
  })
  t.throws(() => taskContainer(cluster.store, 'web.3'), {
    code: 'NO_SUCH_OBJECT',
    message: /has no container \(running\)/,
  })
  t.equal(taskContainer(cluster.store, 'other'), undefined)
})

const OTHER = 'node0000000000000000other'
const CLUSTER = { 'X-Swarmd-View': 'cluster' }

/** Two machines with an engine each, the second a node of the first one's cluster; `silent` is one that can't be reached. */
async function twoMachines(t: Parameters<typeof serveApi>[0], { silent = false } = {}) {
  const here = await serveApi(t)
  const there = await serveApi(t)
  await ask(here.socket, 'POST', '/swarm/init', { body: { ListenAddr: '127.0.0.1:2377' } })
  const node = (id: string, Hostname: string) => aNode(id, { description: { Hostname } })
  here.cluster.apply([
    { kind: 'create', object: node(OTHER, 'other') },
    ...(silent ? [{ kind: 'create', object: node('node000000000000000silent', 'silent') } as const] : []),
    {
      kind: 'create',
      object: aNode('node00000000000000000down', { status: { state: 'down', message: '', address: '' } }),
    },
  ])
  const asked: string[] = []
  here.cluster.dialed = async (nodeId) => {
    asked.push(nodeId)
    if (nodeId.endsWith('silent')) throw new Error('no way there')
    return connect({ path: join((nodeId === NODE_ID ? here : there).folder, 'swarmd.sock') })
  }
  const seen = (path: string, method = 'GET') => ask(here.socket, method, path, { headers: CLUSTER })
  return { here, there, asked, seen }
}

t.test('a listing is that of all nodes, the silent ones named, and a name on two nodes wants its node', async (t) => {
  const { here, there, asked, seen } = await twoMachines(t, { silent: true })
  const container = (Id: string, Created: number, labels = {}) => ({ Id, Created, Names: [`/${Id}`], Labels: labels })
  here.engine.answers.set('/containers/json', [container('mine', 1)])
  there.engine.answers.set('/containers/json', [
    container('theirs', 3),
    container('web.1.x', 2, { 'com.docker.swarm.task.id': 'x' }),
  ])
  const listed = await seen('/containers/json')
  t.match(listed.json, [
    { Names: ['/other/theirs'], Labels: { 'io.swarmctl.node': 'other' } },
    { Names: ['/web.1.x'] },
    { Names: ['/mine'] },
  ])
  t.equal(listed.headers['x-swarmd-missing-nodes'], 'silent')
  t.notOk(asked.includes('node00000000000000000down'))
  t.match(
    (await ask(here.socket, 'GET', '/containers/json')).json,
    [{ Names: ['/mine'] }],
    'without the header, this machine’s',
  )
})

t.test('images, volumes, disk use and counts of all nodes, each object with its node', async (t) => {
  const { here, there, seen } = await twoMachines(t)
  const image = (Id: string, Created: number) => ({ Id, Created, RepoTags: ['shop:7'], Labels: null })
  here.engine.answers.set('/images/json', [image('sha256:a', 1)])
  there.engine.answers.set('/images/json', [image('sha256:a', 2)])
  t.match((await seen('/images/json')).json, [
    { Id: 'sha256:a', RepoTags: ['shop:7'], Labels: { 'io.swarmctl.node': 'other' } },
    { Id: 'sha256:a', Labels: { 'io.swarmctl.node': 'manager-1' } },
  ])
  const label = encodeURIComponent(JSON.stringify({ label: ['io.swarmctl.node=other', 'a=b'] }))
  t.match((await seen(`/images/json?all=1&filters=${label}`)).json, [{ Labels: { 'io.swarmctl.node': 'other' } }])
  t.match(
    there.engine.seen.at(-1),
    /all=1&filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D$/,
    'without that filter',
  )

  const volumes = { Volumes: [{ Name: 'data', Labels: null }], Warnings: null }
  here.engine.answers.set('/volumes', volumes)
  there.engine.answers.set('/volumes', volumes)
  t.match((await seen('/volumes')).json, {
    Volumes: [{ Name: 'data' }, { Name: 'other/data', Labels: { 'io.swarmctl.node': 'other' } }],
    Warnings: null,
  })

  const use = {
    LayersSize: 10,
    Images: [image('a', 1)],
    Containers: [{ Names: ['/x'] }],
    Volumes: null,
    BuildCache: [{ ID: 'b' }],
  }
  here.engine.answers.set('/system/df', use)
  there.engine.answers.set('/system/df', { ...use, LayersSize: 5 })
  t.match((await seen('/system/df')).json, {
    LayersSize: 15,
    Images: [{ Labels: { 'io.swarmctl.node': 'manager-1' } }, { Labels: { 'io.swarmctl.node': 'other' } }],
    Containers: [{ Names: ['/x'] }, { Names: ['/other/x'] }],
    Volumes: [],
    BuildCache: [{ Node: 'manager-1' }, { Node: 'other' }],
  })

  here.engine.answers.set('/info', { Name: 'host', Containers: 2, Images: 1, NCPU: 2 })
  there.engine.answers.set('/info', { Name: 'there', Containers: 3, Images: 1, NCPU: 4 })
  t.match((await seen('/info')).json, {
    Name: 'host',
    Containers: 5,
    Images: 2,
    NCPU: 6,
    Swarm: { LocalNodeState: 'active' },
  })
})

t.test('an image or a volume by its name, wherever it is', async (t) => {
  const { here, there, seen } = await twoMachines(t)
  there.engine.answers.set('/images/shop%3A7/json', { Id: 'sha256:a' })
  there.engine.answers.set('/images/shop%3A7', [{ Deleted: 'sha256:a' }])
  t.match((await seen('/images/shop:7/json')).json, { Id: 'sha256:a' })
  t.match((await seen('/images/shop:7', 'DELETE')).json, [{ Deleted: 'sha256:a' }], 'on the one node that has it')
  there.engine.answers.set('/images/get', 'an archive')
  t.equal((await seen('/images/get?names=shop:7')).json, 'an archive')
  t.match(there.engine.seen.at(-1), /\?names=shop%3A7$/)
  here.engine.answers.set('/images/shop%3A7/json', { Id: 'sha256:b' })
  t.match((await seen('/images/shop:7/json')).json, { Id: 'sha256:b' }, 'this machine’s own before another’s')
  t.match((await seen('/images/other/shop:7/json')).json, { Id: 'sha256:a' }, 'or that of the node that is named')
  t.match(await seen('/images/none/json'), { status: 404, message: 'No such image: none' })

  here.engine.answers.set('/volumes/data', { Name: 'data', Driver: 'local' })
  there.engine.answers.set('/volumes/data', { Name: 'data', Driver: 'nfs' })
  t.match(await seen('/volumes/data'), {
    status: 400,
    message: 'volume data is on more than one node: say which (manager-1/data, other/data)',
  })
  t.match((await seen('/volumes/other/data')).json, { Driver: 'nfs' })
  t.match(await seen('/images/prune', 'POST'), {
    status: 501,
    message: `POST /images/prune concerns one machine, and the view of the whole cluster was asked for: use that machine's own socket (docker -H unix://${here.socket} …, without the header X-Swarmd-View)`,
  })
})

t.test('a node may be called what no header may hold', async (t) => {
  const { here, seen } = await twoMachines(t, { silent: true })
  const node = here.cluster.store.get('node', 'node000000000000000silent')!
  const description = { Hostname: 'büro, 2\r\nX-Other: 1' }
  here.cluster.apply([{ kind: 'update', object: { ...node, description }, expectedVersion: node.meta.version }])
  here.engine.answers.set('/containers/json', [])
  const listed = await seen('/containers/json')
  t.match(listed, { status: 200, headers: { 'x-swarmd-missing-nodes': 'b%C3%BCro%2C%202%0D%0AX-Other%3A%201' } })
  t.equal(listed.headers['x-other'], undefined)
})

t.test('a node that answers too late is not waited for, and is asked nothing more', async (t) => {
  const sockets: Socket[] = []
  const server = createServer((socket) => void sockets.push(socket.resume())).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const dialNode = async () => connect({ host: '127.0.0.1', port })
  const engines = new ClusterEngines({ dialNode } as unknown as ClusterAccess, new SystemClock())
  const [answer] = await engines.ask([aNode(OTHER)], '/v1.41/info', 100)
  t.equal(answer?.status, 0)
  const [socket] = sockets
  t.ok(socket, 'it was asked')
  if (socket && !socket.closed) await once(socket, 'close')
})

t.test('an engine that hangs keeps nothing of those who have gone: neither of this node nor of others', async (t) => {
  const asked: string[] = []
  const open = new Set<object>()
  const hung = createHttpServer((request, response) => {
    const { url = '' } = request
    asked.push(url)
    if (!url.endsWith('/volumes')) return void setTimeout(() => response.end('{}'), 150)
    open.add(response)
    response.on('close', () => open.delete(response))
  })
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-hung-'))
  const path = join(folder, 'engine.sock')
  await once(hung.listen(path), 'listening')
  const cluster = new ApiCluster()
  const clock = new SystemClock()
  const { random } = cluster
  const server = new ApiServer({ cluster, engine: { kind: 'unix', path }, clock, random, log: silentLog, version: '1' })
  t.teardown(async () => {
    await server.close()
    hung.closeAllConnections()
    hung.close()
    rmSync(folder, { recursive: true })
  })
  const dialNode = async () => server.dial()
  const engines = new ClusterEngines({ dialNode } as unknown as ClusterAccess, clock)
  // The first goes while it is asked what the engine can do, the second once it has been asked for its volumes.
  const volumes = (withinMs: number) => engines.ask([aNode(OTHER)], '/v1.41/volumes', withinMs)
  t.match(await Promise.all([volumes(50), volumes(500)]), [[{ status: 0 }], [{ status: 0 }]])
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(asked.filter((url) => url.endsWith('/volumes')).length, 1, 'who has gone before asks nothing')
  t.equal(open.size, 0)
})

t.test('a node that answers with what is no HTTP of ours ends its request, and not this machine', async (t) => {
  const { here, seen } = await twoMachines(t)
  let head = ''
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(`HTTP/1.1 ${head}\r\nContent-Length: 0\r\n\r\n`))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  here.cluster.dialed = async () => connect({ host: '127.0.0.1', port })
  for (head of ['000 OK', '200 O\u0001K']) {
    t.match(await seen('/containers/other%2Fx/json'), { status: 503, message: /^cannot reach node other: / })
  }
})

t.test('where no node answers there is no empty list', async (t) => {
  const { here, seen } = await twoMachines(t)
  here.cluster.dialed = () => Promise.reject(new Error('no way there'))
  for (const path of ['/images/json', '/containers/json', '/events?since=1'])
    t.match(await seen(path), { status: 503, message: 'no answer from manager-1, other' })
})

t.test('events of all nodes are one stream: of nodes that go and come, and the cluster’s once', async (t) => {
  const { here, there, seen } = await twoMachines(t)
  const stream = await open(here.socket, '/events', CLUSTER)
  await stream.until(/"io\.swarmctl\.node":"manager-1"[^\n]*\n/)
  await stream.until(/"io\.swarmctl\.node":"other"[^\n]*"timeNano":1000000000\}\n/)
  await ask(here.socket, 'POST', '/secrets/create', { body: { Name: 'word', Data: 'eA==' } })
  await stream.until(/"Type":"secret"/)
  t.equal(stream.text().match(/"Type":"secret"/g)?.length, 1)
  const told = () => stream.text().match(/"io\.swarmctl\.node":"other"/g)?.length
  t.equal(told(), 1)

  const become = (state: 'down' | 'ready') => {
    const node = here.cluster.store.get('node', OTHER)!
    here.cluster.apply([
      { kind: 'update', object: { ...node, status: { ...node.status, state } }, expectedVersion: node.meta.version },
    ])
  }
  become('down')
  await stream.until(/"state\.new":"down"/)
  there.engine.seen.length = 0
  become('ready')
  await stream.until(/(?:"io\.swarmctl\.node":"other"[\s\S]*){2}/)
  t.match(there.engine.seen.at(-1), /since=1\.000000001/, 'from its last event on')
  t.match(there.engine.seen.at(-1), /scope/)
  stream.close()

  const filters = encodeURIComponent(JSON.stringify({ type: { volume: true }, event: ['create'] }))
  await seen(`/events?since=0&until=1&filters=${filters}`)
  t.match(
    decodeURIComponent(there.engine.seen.at(-1) ?? ''),
    'filters={"type":{"volume":true},"event":{"create":true},"scope":{"local":true}}',
    'in one form: the engine takes no mixture',
  )
  await seen('/events?until=1')
  t.match(there.engine.seen.at(-1), /until=1&.*since=$/, 'from the first that the node knows')
  const past = await seen('/events?since=0&until=1')
  t.match(past.text, /"io\.swarmctl\.node":"manager-1"[\s\S]*"io\.swarmctl\.node":"other"/)
  t.match(await seen('/events?since=5&until=1'), { status: 400, message: /cannot be after/ })
})
