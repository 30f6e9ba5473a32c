// The dispatcher as workers meet it: what they are told and when, what is believed of what they say, and when they are gone.

import t from 'tap'
import { SESSION_CLOSE } from '../../src/api/dispatcher.ts'
import type { Task } from '../../src/api/objects.ts'
import { CodedError, errorCode } from '../../src/lib/errors.ts'
import { redirect } from '../../src/manager/dispatcher/dispatcher.ts'
import { DRIVER_SECRET_FEATURE_LEVEL } from '../../src/manager/dispatcher/driver-secrets.ts'
import type { SecretRequest } from '../../src/manager/dispatcher/secret-request.ts'
import { Turnstile } from '../../src/manager/dispatcher/turnstile.ts'
import { aSecret, aService, aTask, statusOf } from '../support/objects.ts'
import { Dispatched, node } from './support/dispatched.ts'

const TIMESTAMP = '2026-01-01T00:00:01.000000000Z'

function assigned(id: string, nodeId: string, over: Partial<Task> = {}): Task {
  return aTask(id, 's1', { nodeId, status: statusOf('assigned'), ...over })
}

function ids(prefix: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, at) => `${prefix}${String(at).padStart(3, '0')}`)
}

t.test(
  'a session begins with the complete set, what tasks need before them, and goes on with increments',
  async (t) => {
    const cluster = await Dispatched.start(node('n1'), node('n2'), node('n3'))
    const container = { ContainerSpec: { Image: 'i', Secrets: [{ SecretID: 'x', SecretName: 'x' }] } }
    await cluster.write([
      { kind: 'create', object: aSecret('x') },
      { kind: 'create', object: aService('s1') },
      { kind: 'create', object: assigned('t1', 'n1', { spec: container }) },
      { kind: 'create', object: assigned('t2', 'n2') },
      { kind: 'create', object: aTask('t3', 's1', { nodeId: 'n1', status: statusOf('pending') }) },
    ])
    const worker = await cluster.session('n1')
    t.match(worker.heard[0], { kind: 'welcome', heartbeatMs: 5000, silenceMs: 5000 })
    const [complete] = worker.heardOf('assignments')
    t.match(complete, { complete: true, more: false, sequence: 1 })
    t.same(
      complete?.set.map((one) => one.kind),
      ['secret', 'task'],
      'neither another node’s task nor one that is not assigned yet',
    )

    const ofJob = assigned('t5', 'n3', { spec: container, desiredState: 'complete' })
    await cluster.write([{ kind: 'create', object: ofJob }])
    const [job] = (await cluster.session('n3')).heardOf('assignments')
    t.same(
      job?.set.map((one) => one.kind),
      ['secret', 'task'],
      'what is to be complete is to run first',
    )

    const task = cluster.store.get('task', 't1')!
    await cluster.write([
      { kind: 'update', object: { ...task, desiredState: 'shutdown' }, expectedVersion: task.meta.version },
      { kind: 'create', object: assigned('t4', 'n1') },
    ])
    await cluster.clock.advance(10)
    const [, increment, ...none] = worker.heardOf('assignments')
    t.match(increment, { complete: false, more: false, sequence: 2 })
    t.same(
      increment?.set.map((one) => one.kind === 'task' && one.task.id),
      ['t1', 't4'],
      'one message for one entry',
    )
    t.same(increment?.removed, [{ kind: 'secret', id: 'x' }], 'a task that is to stop needs its secret no more')
    t.same(none, [])

    await cluster.write([{ kind: 'remove', objectKind: 'task', id: 't1' }])
    await cluster.clock.advance(10)
    t.same(worker.heardOf('assignments').at(-1)?.removed, [{ kind: 'task', id: 't1' }])

    await cluster.write([{ kind: 'task-status', taskId: 't4', status: statusOf('running', { timestamp: TIMESTAMP }) }])
    await cluster.clock.advance(10)
    t.equal(worker.heardOf('assignments').length, 3, 'the node’s own report is no news to it')
  },
)

t.test('a large set comes in parts, and only the last one says that there are no more', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  await cluster.write(ids('t', 150).map((id) => ({ kind: 'create', object: assigned(id, 'n1') }) as const))
  const worker = await cluster.session('n1')
  const parts = () => worker.heardOf('assignments').map(({ complete, more, set }) => [complete, more, set.length])
  t.same(parts(), [
    [true, true, 100],
    [false, false, 50],
  ])
  worker.say({ kind: 'resync' })
  await cluster.clock.advance(10)
  t.same(parts().slice(2), parts().slice(0, 2), 'a gap is answered with everything')
  t.same(
    worker.heardOf('assignments').map((message) => message.sequence),
    [1, 2, 3, 4],
  )
})

t.test('large assignments come in small messages', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const spec = { ContainerSpec: { Image: 'busybox', Env: ['x'.repeat(900_000)] } }
  for (const id of ids('t', 12)) await cluster.write([{ kind: 'create', object: { ...assigned(id, 'n1'), spec } }])
  const worker = await cluster.session('n1')
  await cluster.clock.until(() => worker.heardOf('assignments').at(-1)?.more === false, 10_000, 'the last part')
  t.same(
    worker.heardOf('assignments').map(({ complete, more, sequence, set }) => [complete, more, sequence, set.length]),
    [
      [true, true, 1, 3],
      [false, true, 2, 3],
      [false, true, 3, 3],
      [false, false, 4, 3],
    ],
  )
})

t.test('a set that is larger than a connection holds is sent as the network takes it, changes after it', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const spec = { ContainerSpec: { Image: 'busybox', Env: ['x'.repeat(900_000)] } }
  for (const id of ids('t', 90)) await cluster.write([{ kind: 'create', object: { ...assigned(id, 'n1'), spec } }])
  const worker = await cluster.session('n1')
  const sequences = () => worker.heardOf('assignments').map(({ sequence }) => sequence)
  const names = () =>
    worker.heardOf('assignments').flatMap(({ set }) => set.map((one) => one.kind === 'task' && one.task.id))
  await cluster.clock.until(() => sequences().length > 5, 10_000, 'a part of it')
  t.notOk(
    worker.heardOf('assignments').some(({ more }) => !more),
    'it takes its time',
  )
  await cluster.write([{ kind: 'create', object: assigned('late', 'n1') }])
  await cluster.clock.until(() => names().includes('late'), 10_000, 'the change')
  t.same(names(), [...ids('t', 90), 'late'], 'in order, all of it once')
  t.same(
    sequences(),
    [...Array(sequences().length).keys()].map((at) => at + 1),
  )
  t.equal(worker.closed, undefined)
  const before = sequences().length
  worker.say({ kind: 'resync' })
  await cluster.clock.until(() => sequences().length > before + 5, 10_000, 'a part of the next')
  worker.say({ kind: 'resync' })
  const last = () => worker.heardOf('assignments').at(-1)
  await cluster.clock.until(() => last()?.more === false, 10_000, 'the last')
  const again = worker.heardOf('assignments').slice(before)
  t.equal(again.filter(({ complete }) => complete).length, 2, 'one that was not over gives way')
  const from = again.findLastIndex(({ complete }) => complete)
  t.equal(
    again.slice(from).reduce((sum, { set }) => sum + set.length, 0),
    91,
  )
})

t.test('a worker speaks for the tasks of its own node only, and is told once that is committed', async (t) => {
  const cluster = await Dispatched.start(node('n1'), node('n2'))
  await cluster.write([
    { kind: 'create', object: assigned('mine', 'n1') },
    { kind: 'create', object: assigned('other', 'n2') },
  ])
  const worker = await cluster.session('n1')
  const status = statusOf('running', { timestamp: TIMESTAMP })
  worker.status(1, { taskId: 'mine', status }, { taskId: 'other', status }, { taskId: 'nobody', status })
  await cluster.clock.advance(1)
  t.same(worker.heardOf('status-ack'), [], 'not before it is committed')
  await cluster.clock.advance(10)
  t.match(worker.heardOf('status-ack'), [{ sequence: 1 }])
  t.equal(cluster.store.get('task', 'mine')?.status.state, 'running')
  t.equal(cluster.store.get('task', 'other')?.status.state, 'assigned')

  worker.status(2, { taskId: 'mine', status: statusOf('starting', { timestamp: TIMESTAMP }) })
  await cluster.clock.advance(10)
  t.equal(cluster.store.get('task', 'mine')?.status.state, 'running', 'what was reported only rises')

  cluster.failure = new CodedError('PROPOSAL_UNKNOWN', 'no quorum')
  worker.status(3, { taskId: 'mine', status: statusOf('failed', { timestamp: TIMESTAMP }) })
  await cluster.clock.advance(20)
  t.same(
    worker.heardOf('status-ack').map((ack) => ack.sequence),
    [1, 2],
    'what was not written is not acknowledged: the worker says it again',
  )
})

t.test('a node that is silent for one period is down; heartbeats keep it', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const worker = await cluster.session('n1')
  t.equal(cluster.state('n1'), 'ready')
  t.equal(cluster.store.get('node', 'n1')?.status.address, '10.0.0.7')
  await cluster.clock.advance(30_000)
  t.equal(cluster.state('n1'), 'ready')
  t.ok(worker.heardOf('heartbeat-ack').length >= 29)
  worker.silence()
  await cluster.clock.advance(3_900)
  t.equal(cluster.state('n1'), 'ready')
  await cluster.clock.advance(1_600)
  t.equal(cluster.state('n1'), 'down')
  t.not(cluster.store.get('node', 'n1')?.downSince, '')
  t.equal(worker.closed?.code, SESSION_CLOSE.expired)
  await cluster.session('n1')
  t.match(cluster.store.get('node', 'n1'), { status: { state: 'ready' }, downSince: '' })
})

t.test('a lost connection has 10 s to return, and a planned stop as long as it has announced', async (t) => {
  const cluster = await Dispatched.start(node('n1'), node('n2'), node('n3'))
  const [crashed, stopped, returns] = [
    await cluster.session('n1'),
    await cluster.session('n2'),
    await cluster.session('n3'),
  ]
  crashed.hangUp()
  returns.hangUp()
  stopped.say({ kind: 'goodbye', graceMs: 600_000 })
  await cluster.clock.advance(5)
  stopped.hangUp()
  await cluster.clock.advance(8_000)
  t.same([cluster.state('n1'), cluster.state('n2'), cluster.state('n3')], ['ready', 'ready', 'ready'])
  await cluster.session('n3')
  await cluster.clock.advance(3_000)
  t.same([cluster.state('n1'), cluster.state('n2'), cluster.state('n3')], ['down', 'ready', 'ready'])
  await cluster.clock.advance(48_000)
  t.equal(cluster.state('n2'), 'ready')
  await cluster.clock.advance(2_000)
  t.equal(cluster.state('n2'), 'down', 'at most a minute')
})

t.test('a node is taken down although the write failed at first', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const worker = await cluster.session('n1')
  worker.silence()
  cluster.failure = new CodedError('PROPOSAL_QUEUE_FULL', 'busy', { retryable: true })
  await cluster.clock.advance(10_000)
  t.equal(cluster.state('n1'), 'ready')
  cluster.failure = undefined
  await cluster.clock.advance(1_000)
  t.equal(cluster.state('n1'), 'down')
})

t.test('after an election nodes are unknown, and none is down before a crashed one would be', async (t) => {
  const cluster = await Dispatched.start(node('n1'), node('n2'))
  const worker = await cluster.session('n1')
  const silent = await cluster.session('n2')
  silent.silence()
  await cluster.clock.advance(4_000)
  await cluster.stopLeading()
  await cluster.clock.advance(10)
  t.equal(worker.closed?.code, SESSION_CLOSE.leadershipLost)
  await cluster.clock.advance(60_000)
  t.equal(cluster.state('n2'), 'ready', 'who does not lead judges nobody')
  cluster.lead()
  await cluster.clock.advance(10)
  t.same([cluster.state('n1'), cluster.state('n2')], ['unknown', 'unknown'])
  await cluster.session('n1')
  t.equal(cluster.state('n1'), 'ready')
  await cluster.clock.advance(9_000)
  t.equal(cluster.state('n2'), 'unknown', 'deadlines of an earlier term do not count')
  await cluster.clock.advance(1_500)
  t.same([cluster.state('n1'), cluster.state('n2')], ['ready', 'down'])
})

t.test('a connection that had said nothing yet does not survive the leadership', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const early = await cluster.dial('n1')
  await cluster.stopLeading()
  early.say({
    kind: 'hello',
    description: {},
    address: '',
    dataPathAddress: '',
    previousSessionId: '',
    featureLevel: 1,
  })
  await cluster.clock.advance(10)
  t.same(early.heard, [])
  t.equal(early.closed?.code, SESSION_CLOSE.leadershipLost)
  t.notOk(cluster.dispatcher.hasSession('n1'))
  const late = await cluster.dial('n1')
  await cluster.clock.advance(10)
  t.equal(late.closed?.code, SESSION_CLOSE.leadershipLost)
})

t.test('a manager that does not lead says who does', async (t) => {
  const manager = { raftId: 'n2-a', address: 'm2:2377', featureLevel: 1 }
  const cluster = await Dispatched.start(node('n1'), node('n2', { role: 'manager', manager }))
  const leader = { nodeId: 'n2', address: 'm2:2377' }
  cluster.network.listen('m1:2377', (connection) => redirect(connection, leader, cluster.store))
  const worker = await cluster.dial('n1')
  await cluster.clock.advance(10)
  t.same(worker.heard, [{ kind: 'redirect', leader, managers: [leader] }])
  t.equal(worker.closed?.code, SESSION_CLOSE.leadershipLost)
})

t.test('a second session of a node replaces the first, whose words count no more', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  await cluster.write([{ kind: 'create', object: assigned('t1', 'n1') }])
  const first = await cluster.session('n1')
  const second = await cluster.session('n1')
  t.equal(first.closed?.code, SESSION_CLOSE.replaced)
  t.ok(cluster.dispatcher.hasSession('n1'))
  t.equal(second.closed, undefined)
  await cluster.clock.advance(20_000)
  t.equal(cluster.state('n1'), 'ready', 'the end of the first is no end of the node')
})

t.test('the removal of a node ends its session, and no other begins', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const worker = await cluster.session('n1')
  await cluster.write([{ kind: 'remove', objectKind: 'node', id: 'n1' }])
  await cluster.clock.advance(10)
  t.equal(worker.closed?.code, SESSION_CLOSE.removed)
  const again = await cluster.session('n1')
  t.equal(again.closed?.code, SESSION_CLOSE.removed)
  t.same(again.heard, [])
  await cluster.clock.advance(20_000)
  t.equal(cluster.store.get('node', 'n1'), undefined)
})

t.test('who changes the managers, or this node, tells its worker', async (t) => {
  const cluster = await Dispatched.start(node('n1'), node('n2', { role: 'manager' }))
  const worker = await cluster.session('n1')
  const told = worker.heardOf('cluster').length
  const other = cluster.store.get('node', 'n2')!
  const manager = { raftId: 'n2-a', address: 'm2:2377', featureLevel: 1 }
  await cluster.write([{ kind: 'update', object: { ...other, manager }, expectedVersion: other.meta.version }])
  await cluster.clock.advance(10)
  t.same(worker.heardOf('cluster').at(-1)?.managers, [{ nodeId: 'n2', address: 'm2:2377' }])
  const own = cluster.store.get('node', 'n1')!
  const object = { ...own, role: 'manager', spec: { Role: 'manager', Availability: 'drain' } } as const
  await cluster.write([{ kind: 'update', object, expectedVersion: own.meta.version }])
  await cluster.clock.advance(10)
  t.match(worker.heardOf('cluster').at(-1), { role: 'manager', availability: 'drain' })
  t.ok(worker.heardOf('cluster').length >= told + 2)
})

t.test('bytes that are no message, or come before hello, end the session and nothing else', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const rude = await cluster.dial('n1')
  rude.say({ kind: 'heartbeat', sequence: 1 })
  await cluster.clock.advance(10)
  t.equal(rude.closed?.code, SESSION_CLOSE.malformed)
  const mute = await cluster.dial('n1')
  await cluster.clock.advance(6_000)
  t.equal(mute.closed?.code, SESSION_CLOSE.malformed)
  const worker = await cluster.session('n1')
  worker.say({ kind: 'nonsense' } as never)
  await cluster.clock.advance(10)
  t.equal(worker.closed?.code, SESSION_CLOSE.malformed)
  // Whoever looks for a node or a container by its name takes these for texts.
  for (const [what, message] of [
    ['Hostname', { kind: 'describe', description: { Hostname: 7 } }],
    [
      'ContainerID',
      {
        kind: 'status',
        sequence: 1,
        updates: [{ taskId: 't1', status: statusOf('running', { container: { ContainerID: {} } as never }) }],
      },
    ],
  ] as const) {
    const liar = await cluster.session('n1')
    liar.say(message as never)
    await cluster.clock.advance(10)
    t.equal(liar.closed?.code, SESSION_CLOSE.malformed, what)
  }
})

t.test('a stream is asked for over the session, comes on its own connection and is paid with credit', async (t) => {
  const cluster = await Dispatched.start(node('n1'), node('n2'))
  const options = { follow: false, tail: undefined, since: '', until: '', stdout: true, stderr: true }
  const request = { kind: 'task-logs', taskId: 't1', options } as const
  const signal = new AbortController().signal
  t.throws(() => cluster.dispatcher.openStream('n1', request, signal), { code: 'NODE_UNREACHABLE' })
  const worker = await cluster.session('n1')
  const read: string[] = []
  const reading = (async () => {
    for await (const chunk of cluster.dispatcher.openStream('n1', request, signal))
      read.push(Buffer.from(chunk).toString())
  })()
  await cluster.clock.advance(10)
  const [asked] = worker.heardOf('open-stream')
  t.same(asked?.request, request)

  const thief = await cluster.dial('n2', '/bulk')
  thief.say({ kind: 'open', streamId: asked!.streamId })
  await cluster.clock.advance(10)
  t.ok(thief.closed, 'another node can’t answer in its place')

  const bulk = await cluster.dial('n1', '/bulk')
  bulk.say({ kind: 'open', streamId: asked!.streamId })
  await cluster.clock.advance(10)
  t.match(bulk.frames, [{ kind: 'credit', bytes: 256 * 1024 }])
  bulk.say({ kind: 'data', data: Buffer.from('one') })
  await cluster.clock.advance(10)
  t.match(bulk.frames.at(-1), { kind: 'credit', bytes: 3 })
  bulk.say({ kind: 'data', data: Buffer.from('two') })
  bulk.say({ kind: 'data', data: Buffer.from('three') })
  bulk.say({ kind: 'end' })
  bulk.hangUp()
  await cluster.clock.wait(reading, 1_000, 'the end of the stream')
  t.same(read, ['one', 'two', 'three'], 'what was sent before the end arrives')

  const lost = cluster.dispatcher.openStream('n1', request, signal)[Symbol.asyncIterator]().next()
  lost.catch(() => {})
  await cluster.clock.advance(11_000)
  t.equal(await lost.catch(errorCode), 'STREAM_TIMEOUT')
})

const driven = (id: string) =>
  aSecret(id, { spec: { Name: 'word', Labels: { a: 'b' }, Driver: { Name: 'vault', Options: { path: 'kv' } } } })
const needs = (...ids: readonly string[]) => ({
  ContainerSpec: { Image: 'i', Secrets: ids.map((id) => ({ SecretID: id, SecretName: 'word' })) },
})

t.test(
  'a driver is asked for each task anew, and what it gives is the task’s alone until its container is made',
  async (t) => {
    const cluster = await Dispatched.start(node('n1'))
    const asked: SecretRequest[] = []
    let answer: (text: string) => void = () => {}
    cluster.driver = async (_driver, request) => {
      asked.push(request)
      return Buffer.from(
        await new Promise<string>((resolve) => {
          answer = resolve
        }),
      )
    }
    await cluster.write([
      { kind: 'create', object: driven('s') },
      { kind: 'create', object: aService('s1') },
      {
        kind: 'create',
        object: assigned('t1', 'n1', {
          spec: needs('s'),
          serviceName: 'web',
          serviceLabels: { c: 'd' },
          slot: 2,
          endpoint: {
            spec: { Mode: 'dnsrr' },
            ports: [{ Protocol: 'udp', TargetPort: 53, PublishMode: 'host' }],
            virtualIps: [],
          },
        }),
      },
    ])
    const worker = await cluster.session('n1', DRIVER_SECRET_FEATURE_LEVEL)
    t.same(
      worker.heardOf('assignments')[0]?.set.map(({ kind }) => kind),
      ['task'],
      'nobody waits for the driver',
    )
    t.same(asked, [
      {
        SecretName: 'word',
        SecretLabels: { a: 'b' },
        SecretDriverOptions: { path: 'kv' },
        ServiceID: 's1',
        ServiceName: 'web',
        ServiceLabels: { c: 'd' },
        TaskID: 't1',
        TaskName: 'web.2.t1',
        TaskImage: 'i',
        NodeID: 'n1',
        ServiceEndpointSpec: { Mode: 1, Ports: [{ Protocol: 1, TargetPort: 53, PublishMode: 1 }] },
      },
    ])
    answer('first')
    await cluster.clock.advance(10)
    t.match(worker.heardOf('assignments').at(-1)?.set, [
      { kind: 'secret', secret: { id: 's.t1', spec: { Name: 'word', Data: Buffer.from('first').toString('base64') } } },
    ])
    t.notMatch(JSON.stringify(worker.heardOf('assignments').at(-1)), 'vault', 'with nothing left to ask')
    t.notMatch(JSON.stringify(cluster.store.list('secret')), Buffer.from('first').toString('base64'))

    worker.say({ kind: 'resync' })
    await cluster.clock.advance(10)
    t.same(worker.heardOf('assignments').at(-1)?.set.length, 2, 'told again it is the same')
    t.equal(asked.length, 1)

    await cluster.write([{ kind: 'create', object: assigned('t2', 'n1', { spec: needs('s') }) }])
    await cluster.clock.advance(10)
    answer('second')
    await cluster.clock.advance(10)
    t.match(worker.heardOf('assignments').at(-1)?.set, [{ secret: { id: 's.t2', spec: { Data: 'c2Vjb25k' } } }])

    await cluster.write([{ kind: 'task-status', taskId: 't1', status: statusOf('ready', { timestamp: TIMESTAMP }) }])
    await cluster.clock.advance(10)
    t.same(worker.heardOf('assignments').at(-1)?.removed, [{ kind: 'secret', id: 's.t1' }])
    await cluster.stopLeading()
    cluster.lead()
    await cluster.clock.advance(10)
    const again = await cluster.session('n1', DRIVER_SECRET_FEATURE_LEVEL)
    t.equal(asked.length, 3, 'another leader knows nothing, and asks for those that wait')
    t.equal(asked[2]?.TaskID, 't2')
    answer('third')
    await cluster.clock.advance(10)
    t.match(again.heardOf('assignments').at(-1)?.set, [{ secret: { id: 's.t2', spec: { Data: 'dGhpcmQ=' } } }])
  },
)

t.test(
  'a task whose secret can’t be had is rejected with the reason; a driver that is away is asked for a while',
  async (t) => {
    const cluster = await Dispatched.start(node('n1'))
    let attempts = 0
    cluster.driver = async (_driver, { TaskID }) => {
      attempts++
      if (TaskID === 'denied') throw new CodedError('PLUGIN_ERROR', 'permission denied')
      if (TaskID === 'large') return Buffer.alloc(500 * 1024)
      if (TaskID === 'late' && attempts > 3) return Buffer.from('x')
      throw new CodedError('PLUGIN_UNREACHABLE', 'no way there', { retryable: true })
    }
    await cluster.write([
      { kind: 'create', object: driven('s') },
      { kind: 'create', object: aService('s1') },
    ])
    const worker = await cluster.session('n1', DRIVER_SECRET_FEATURE_LEVEL)
    const statusAfter = async (id: string, ms: number) => {
      attempts = 0
      await cluster.write([{ kind: 'create', object: assigned(id, 'n1', { spec: needs('s') }) }])
      await cluster.clock.advance(ms)
      return cluster.store.get('task', id)?.status
    }
    const because = (reason: string) => ({ state: 'rejected', error: `secret word: driver vault: ${reason}` })
    t.match(await statusAfter('denied', 20), because('permission denied'))
    t.equal(attempts, 1)
    t.match(
      await statusAfter('large', 20),
      because('secret data must be larger than 0 and less than 512000 bytes; the driver gave 512000'),
    )
    t.match(await statusAfter('late', 10_000), { state: 'assigned', error: '' })
    t.match(worker.heardOf('assignments').at(-1)?.set, [{ secret: { id: 's.late' } }])
    t.match(await statusAfter('never', 10_000), { state: 'assigned' })
    await cluster.clock.advance(15_000)
    t.match(cluster.store.get('task', 'never')?.status, because('no way there'))
    t.ok(attempts > 4 && attempts < 12, `${attempts} attempts`)

    attempts = 0
    await statusAfter('gone', 10)
    await cluster.write([{ kind: 'remove', objectKind: 'task', id: 'gone' }])
    const before = attempts
    await cluster.clock.advance(30_000)
    t.equal(attempts, before, 'for a task that is gone nobody is asked')
  },
)

t.test(
  'a worker older than secret drivers gets the secret as it was, and refuses the task in its own words',
  async (t) => {
    const cluster = await Dispatched.start(node('n1'))
    cluster.driver = () => Promise.reject(new Error('asked'))
    await cluster.write([
      { kind: 'create', object: driven('s') },
      { kind: 'create', object: aService('s1') },
      { kind: 'create', object: assigned('t1', 'n1', { spec: needs('s') }) },
    ])
    const worker = await cluster.session('n1', DRIVER_SECRET_FEATURE_LEVEL - 1)
    t.match(worker.heardOf('assignments')[0]?.set, [{ secret: { id: 's', spec: { Driver: { Name: 'vault' } } } }, {}])
    t.equal(cluster.store.get('task', 't1')?.status.state, 'assigned', 'nobody has asked')
  },
)

t.test('who is aborted the moment it is its turn lets the next one pass', async (t) => {
  const turnstile = new Turnstile(1)
  const second = new AbortController()
  const { signal } = new AbortController()
  let end: () => void = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const first = turnstile.pass('k', signal, () => ended)
  const aborted = turnstile.pass('k', second.signal, async () => {})
  const third = turnstile.pass('k', signal, async () => 'passed')
  end()
  // When it has been called and has not begun.
  void ended.then(() => second.abort(new Error('gone')))
  await first
  await t.rejects(aborted, { message: 'gone' })
  t.equal(await third, 'passed')
})

t.test('at most sixteen questions to a driver are under way; another one’s tasks do not wait for it', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const waiting: (() => void)[] = []
  cluster.driver = ({ Name }) =>
    Name === 'quick'
      ? Promise.resolve(Buffer.from('q'))
      : new Promise((resolve) => {
          waiting.push(() => resolve(Buffer.from('x')))
        })
  await cluster.write([
    { kind: 'create', object: driven('s') },
    { kind: 'create', object: aSecret('q', { spec: { Name: 'q', Driver: { Name: 'quick' } } }) },
    { kind: 'create', object: aService('s1') },
  ])
  const create = (id: string, secret: string) =>
    ({ kind: 'create', object: assigned(id, 'n1', { spec: needs(secret) }) }) as const
  await cluster.write(ids('t', 40).map((id) => create(id, 's')))
  const worker = await cluster.session('n1', DRIVER_SECRET_FEATURE_LEVEL)
  t.equal(waiting.length, 16)
  await cluster.write([create('z', 'q'), { kind: 'remove', objectKind: 'task', id: 't039' }])
  await cluster.clock.advance(10)
  t.match(worker.heardOf('assignments').at(-1)?.set[0], { kind: 'secret', secret: { id: 'q.z' } })
  for (let answered = 0; answered < 39; answered++) {
    waiting[answered]?.()
    await cluster.clock.advance(5)
  }
  t.equal(waiting.length, 39, 'for a task that is gone nobody was asked')
  const secrets = worker.heardOf('assignments').flatMap(({ set }) => set.filter(({ kind }) => kind === 'secret'))
  t.equal(secrets.length, 40)
})

t.test('workers are told whose API a service gets that binds the engine’s socket, and when that changes', async (t) => {
  const cluster = await Dispatched.start(node('n1'))
  const worker = await cluster.session('n1')
  const sockets = () => worker.heardOf('cluster').map(({ taskSocket }) => taskSocket)
  t.same(new Set(sockets()), new Set(['swarmd']))
  const before = sockets().length
  const set = async (Labels: Readonly<Record<string, string>>) => {
    const object = cluster.store.cluster()!
    const changed = { ...object, spec: { ...object.spec, Labels } }
    await cluster.write([{ kind: 'update', object: changed, expectedVersion: object.meta.version }])
    await cluster.clock.advance(10)
  }
  await set({ 'io.swarmctl.task-docker-socket': 'engine' })
  t.same(sockets().slice(before), ['engine'])
  await set({ 'io.swarmctl.task-docker-socket': 'engine', other: 'x' })
  t.equal(sockets().length, before + 1, 'what workers do not keep to is no news')
  await set({})
  t.same(sockets().slice(before), ['engine', 'swarmd'])
})
