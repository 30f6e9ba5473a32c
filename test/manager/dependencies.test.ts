// `depends_on`: the first tasks of a service wait, and say so, until what it needs is started, healthy or completed.

import t from 'tap'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Scheduler } from '../../src/manager/scheduler/scheduler.ts'
import { Store } from '../../src/manager/store/store.ts'
import { aNode, aService, aTask, statusOf } from '../support/objects.ts'
import { SmallCluster } from './support/small-cluster.ts'

const spec = (Image: string, dependsOn = '', more: Partial<ServiceSpec> = {}): ServiceSpec => ({
  Labels: dependsOn === '' ? {} : { 'io.swarmctl.depends-on': dependsOn },
  TaskTemplate: { ContainerSpec: { Image } },
  Mode: { Replicated: { Replicas: 2 } },
  ...more,
})

async function start(test: { teardown(handler: () => Promise<void>): void }): Promise<SmallCluster> {
  const cluster = await SmallCluster.start()
  test.teardown(() => cluster.stop())
  return cluster
}

const untilSays = (cluster: SmallCluster, id: string, error: string) =>
  cluster.until(() => {
    const tasks = cluster.tasks(id)
    return tasks.length > 0 && tasks.every(({ status }) => status.state === 'pending' && status.error === error)
  }, `${id}: ${error}`)

t.test('a service starts once the others are there and run', async (t) => {
  const cluster = await start(t)
  await cluster.create('web', spec('ok', 'db:healthy,cache:started'))
  await untilSays(cluster, 'web', 'waiting for service db to be created, service cache to be created')
  await cluster.create('db', spec('ok:start=5000'))
  await cluster.create('cache', spec('ok'))
  await untilSays(cluster, 'web', 'waiting for service db to be healthy')
  t.equal(cluster.running('web').length, 0)
  await cluster.untilRunning('web', 2)
  t.ok(cluster.running('db').length > 0)
  for (const { status } of cluster.running('web')) t.equal(status.error, '')
})

t.test('the tasks of a removed service are given no node, though they wait for nothing any more', (t) => {
  const store = new Store()
  const waiting = aTask('t1', 'gone', { slot: 1, status: statusOf('pending') })
  store.restore(1, [aNode('n1'), waiting])
  const decide = () => {
    const scheduler = new Scheduler()
    for (const _ of scheduler.start(store)) void _
    return scheduler.reconcile(store, 'gone', { nowMs: 0, random: new SeededRandom(1) }).transactions.length
  }
  t.equal(decide(), 0)
  store.restore(2, [aNode('n1'), waiting, aService('gone')])
  t.equal(decide(), 1)
  t.end()
})

t.test('a new leader goes on waiting, and global services wait too', async (t) => {
  const cluster = await start(t)
  await cluster.create('agent', spec('ok', 'db:started', { Mode: { Global: {} } }))
  await untilSays(cluster, 'agent', 'waiting for service db to be created')
  cluster.elect()
  await cluster.clock.advance(1_000)
  t.equal(cluster.running('agent').length, 0)
  await cluster.create('db', spec('ok'))
  await cluster.untilRunning('agent', 3)
})

t.test('a job has to complete, and a failed one holds up what needs it', async (t) => {
  const cluster = await start(t)
  await cluster.create('web', spec('ok', 'migrate:completed'))
  const job = { Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } }, TaskTemplate: undefined }
  await cluster.create(
    'migrate',
    { ...spec('exit=3000'), ...job, TaskTemplate: { ContainerSpec: { Image: 'exit=3000' } } },
    { jobStatus: { iteration: 0, lastExecution: '' } },
  )
  await untilSays(cluster, 'web', 'waiting for service migrate to complete')
  await cluster.clock.advance(4_000)
  t.equal(cluster.running('web').length, 0, 'one completion of two')
  await cluster.untilRunning('web', 2)
  t.equal(cluster.tasks('migrate').filter(({ status }) => status.state === 'complete').length, 2)
})

t.test('a service that ended well has completed', async (t) => {
  const cluster = await start(t)
  const once = { RestartPolicy: { Condition: 'none' as const } }
  await cluster.create('web', spec('ok', 'setup:completed'))
  await cluster.create('setup', {
    ...spec('x', '', { Mode: { Replicated: { Replicas: 1 } } }),
    TaskTemplate: { ContainerSpec: { Image: 'exit=2000' }, ...once },
  })
  await untilSays(cluster, 'web', 'waiting for service setup to complete')
  await cluster.untilRunning('web', 2)
})

t.test('what has once started waits for nothing: not at a restart, an update, or when the other is gone', async (t) => {
  const cluster = await start(t)
  await cluster.create('db', spec('ok'))
  await cluster.create('web', spec('ok', 'db:healthy'))
  await cluster.untilRunning('web', 2)
  const db = cluster.service('db')
  await cluster.write([{ kind: 'remove', objectKind: 'service', id: 'db', expectedVersion: db.meta.version }])
  await cluster.kill(cluster.running('web')[0]!)
  await cluster.until(() => cluster.running('web').length === 1, 'one failed')
  await cluster.untilRunning('web', 2)
  await cluster.setImage('web', 'ok:start=10')
  await cluster.untilRunning('web', 2, 'ok:start=10')
  await cluster.scale('web', 4)
  await cluster.untilRunning('web', 4)
})

t.test('a wait that is taken back is over', async (t) => {
  const cluster = await start(t)
  await cluster.create('web', spec('ok', 'never:healthy'))
  await untilSays(cluster, 'web', 'waiting for service never to be created')
  await cluster.update('web', (one) => ({ ...one, Labels: {} }))
  await cluster.untilRunning('web', 2)
})
