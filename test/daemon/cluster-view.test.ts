// The cluster's view of containers: what a person may call one, and what a listing becomes.

import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { taskContainer } from '../../src/daemon/api/cluster-view.ts'
import { ask } from '../support/api-client.ts'
import { NODE_ID } from '../support/api-cluster.ts'
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

t.test('a listing is that of all nodes, the silent ones named, and a name on two nodes wants its node', async (t) => {
  const here = await serveApi(t)
  const there = await serveApi(t)
  await ask(here.socket, 'POST', '/swarm/init', { body: { ListenAddr: '127.0.0.1:2377' } })
  here.cluster.apply([
    { kind: 'create', object: aNode('node0000000000000000other', { description: { Hostname: 'other' } }) },
    { kind: 'create', object: aNode('node000000000000000silent', { description: { Hostname: 'silent' } }) },
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
  const container = (Id: string, Created: number, labels = {}) => ({ Id, Created, Names: [`/${Id}`], Labels: labels })
  here.engine.answers.set('/containers/json', [container('mine', 1)])
  there.engine.answers.set('/containers/json', [
    container('theirs', 3),
    container('web.1.x', 2, { 'com.docker.swarm.task.id': 'x' }),
  ])
  const listed = await ask(here.socket, 'GET', '/containers/json', { headers: { 'X-Swarmd-View': 'cluster' } })
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
