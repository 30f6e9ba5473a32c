// How a worker hands its managers' word on to the data plane, and how a task drains before its stop signal.

import t from 'tap'
import type { OverlayEndpoint } from '../../src/api/data-plane.ts'
import type { Assigned } from '../../src/api/dispatcher.ts'
import type { Task } from '../../src/api/objects.ts'
import { errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Agent, type AgentOptions } from '../../src/worker/agent.ts'
import { MemoryWorkerStorage } from '../../src/worker/memory-worker-storage.ts'
import { SimulatedDataPlane } from '../../src/worker/simulated-data-plane.ts'
import { type Behaviour, SimulatedEngine } from '../../src/worker/simulated-engine.ts'
import { SimulatedExecutor } from '../../src/worker/simulated-executor.ts'
import { SimulatedNetwork } from '../sim/network.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { FakeManager } from './fake-manager.ts'
import { makeTask, type TaskFacts } from './task-factory.ts'

const LIMIT_MS = 60_000

function world(options: { readonly behaviour?: (task: Task) => Behaviour } = {}) {
  const clock = new VirtualClock()
  const random = new SeededRandom(11)
  const network = new SimulatedNetwork({ clock, random: random.fork() })
  const engine = new SimulatedEngine({ clock, description: { Hostname: 'host1' }, ...options })
  const dataPlane = new SimulatedDataPlane({ clock })
  const storage = new MemoryWorkerStorage()
  const startAgent = (managers: readonly FakeManager[], over: Partial<AgentOptions> = {}) => {
    const agent = new Agent({
      nodeId: 'node1',
      dialer: network.dialer('worker1'),
      executor: new SimulatedExecutor({ engine, clock }),
      dataPlane,
      storage,
      clock,
      random: random.fork(),
      log: silentLog,
      managers: managers.map(({ address }) => address),
      address: '',
      dataPathAddress: '',
      featureLevel: 2,
      describe: (description) => description,
      onClusterChange: () => {},
      ...over,
    })
    const abort = new AbortController()
    const ended = agent.run({ signal: abort.signal })
    ended.catch(() => {})
    const stop = async () => {
      abort.abort()
      await clock.wait(ended, LIMIT_MS, 'the end of the agent')
    }
    return { agent, stop }
  }
  return {
    clock,
    network,
    engine,
    dataPlane,
    storage,
    startAgent,
    manager: (name: string) => new FakeManager(network, name),
    until: (condition: () => boolean, what: string) => clock.until(condition, LIMIT_MS, what),
  }
}

const peer = (nodeId: string, number: number): Assigned => ({
  kind: 'peer',
  peer: {
    nodeId,
    hostname: nodeId,
    number,
    address: `192.0.2.${number}`,
    port: 4789,
    mtu: 0,
    encryptionKeys: [],
    encryptionProblem: '',
  },
})

const endpoint = (taskId: string, over: Partial<OverlayEndpoint> = {}): Assigned => ({
  kind: 'end-point',
  endpoint: {
    taskId,
    networkId: 'net1',
    nodeNumber: 2,
    addresses: ['10.0.1.9'],
    serviceId: 's',
    serviceName: 's',
    slot: 1,
    name: '',
    hostname: '',
    aliases: [],
    serving: true,
    encrypted: false,
    ...over,
  },
})

const attached = (facts: TaskFacts, address = '10.0.1.3'): Assigned => ({
  kind: 'task',
  task: { ...makeTask(facts), attachments: [{ networkId: 'net1', addresses: [`${address}/24`], aliases: [] }] },
})

t.test('records go to the data plane, apart from tasks and never to the worker’s disk', async (t) => {
  const { manager, startAgent, until, dataPlane, storage } = world()
  const m1 = manager('m1')
  m1.assigned = [peer('node1', 1), peer('node2', 2), endpoint('far'), { kind: 'task', task: makeTask({ id: 'a' }) }]
  const { stop } = startAgent([m1])
  await until(() => m1.heardOf('programmed').length === 1, 'the word of the kernel')
  t.same(m1.heardOf('programmed'), [{ kind: 'programmed', sequence: 1 }])
  t.match(dataPlane.state.self, { nodeId: 'node1', number: 1, address: '192.0.2.1', dataPathPort: 4789 })
  t.same([...dataPlane.state.peers.keys()], ['node1', 'node2'])
  t.same([...dataPlane.state.endpoints.keys()], ['far/net1'])
  m1.assign([endpoint('far', { serving: false })])
  m1.assign([], [{ kind: 'peer', id: 'node2' }])
  await until(() => m1.heardOf('programmed').at(-1)?.sequence === 3, 'the word on both')
  t.equal(dataPlane.state.endpoints.get('far/net1')?.serving, false)
  t.same([...dataPlane.state.peers.keys()], ['node1'])
  t.ok(
    dataPlane.changes.slice(1).every(({ complete }) => !complete),
    'in increments',
  )
  await stop()
  t.same(
    (await storage.open()).assigned.map(({ kind }) => kind),
    ['task'],
  )
})

t.test('nothing is taken from the data plane while no manager speaks, nor by one that does not know it', async (t) => {
  const { manager, startAgent, until, dataPlane, clock, network } = world()
  const m1 = manager('m1')
  m1.assigned = [peer('node1', 1), endpoint('far')]
  const first = startAgent([m1])
  await until(() => dataPlane.state.endpoints.size === 1, 'the record')
  await first.stop()
  network.killProcess('m1')
  const second = startAgent([m1])
  await clock.advance(60_000)
  t.equal(dataPlane.state.endpoints.size, 1, 'a restart without managers')
  const again = manager('m1')
  again.assigned = [peer('node1', 1), endpoint('far')]
  const changes = dataPlane.changes.length
  await until(() => again.heardOf('programmed').length === 1, 'a manager that is back')
  t.equal(dataPlane.changes.length, changes + 1)
  t.ok(dataPlane.changes.at(-1)?.complete, 'the first change of a run is complete')
  again.complete()
  await until(() => again.heardOf('programmed').length === 2, 'the answer to the same once more')
  t.equal(dataPlane.changes.length, changes + 1, 'what is known is not sent again')
  network.killProcess('m1')
  const old = manager('m2')
  old.featureLevel = 1
  again.managers = old.managers
  await second.stop()
  const third = startAgent([old])
  await until(() => old.sessions > 0, 'a session with an older manager')
  await clock.advance(5_000)
  t.equal(dataPlane.state.endpoints.size, 1)
  t.same(old.heardOf('data-path'), [], 'and it hears of nothing that it does not know')
  await third.stop()
})

t.test('a data plane that was away gets everything that came meanwhile', async (t) => {
  const { manager, startAgent, until, dataPlane, clock } = world()
  const m1 = manager('m1')
  m1.assigned = [peer('node1', 1)]
  const { stop } = startAgent([m1])
  await until(() => m1.heardOf('programmed').length === 1, 'the first word')
  dataPlane.goDown()
  m1.assign([endpoint('x')])
  m1.assign([endpoint('y', { addresses: ['10.0.1.8'] })])
  await clock.advance(5_000)
  t.equal(m1.heardOf('programmed').length, 1, 'nothing is said to be in the kernel that is not')
  dataPlane.goUp()
  await until(() => m1.heardOf('programmed').at(-1)?.sequence === 3, 'the word on both')
  t.same([...dataPlane.state.endpoints.keys()].sort(), ['x/net1', 'y/net1'])
  dataPlane.say({ mtu: 1400 })
  await until(() => m1.heardOf('data-path').at(-1)?.report.mtu === 1400, 'a report')
  await stop()
})

t.test('an address that a superseded task still has here is known elsewhere only when it has ended', async (t) => {
  const { manager, startAgent, until, dataPlane, clock } = world({
    behaviour: () => ({ stop: { afterMs: 4_000, code: 0 } }),
  })
  const m1 = manager('m1')
  m1.assigned = [peer('node1', 1), attached({ id: 'old' })]
  const first = startAgent([m1])
  await until(() => m1.state('old') === 'running', 'the task')
  await first.stop()
  // Given up meanwhile; its address has gone to another task on another node.
  m1.assigned = [peer('node1', 1), endpoint('new', { addresses: ['10.0.1.3'] }), endpoint('other')]
  const second = startAgent([m1])
  await until(() => dataPlane.state.endpoints.has('other/net1'), 'the records')
  t.notOk(dataPlane.state.endpoints.has('new/net1'))
  await clock.advance(3_000)
  t.notOk(dataPlane.state.endpoints.has('new/net1'))
  await until(() => dataPlane.state.endpoints.has('new/net1'), 'the new end point')
  await second.stop()
})

const stopSignals = (engine: SimulatedEngine, clock: VirtualClock) => {
  const at = new Map<string, number>()
  engine.onStopSignal = (taskId) => at.set(taskId, clock.nowMs())
  return at
}

const label = (drain: string) => ({ 'io.swarmctl.drain': drain })

t.test('a task drains before its stop signal: until it is withdrawn, and its connections have ended', async (t) => {
  const { manager, startAgent, until, dataPlane, engine, clock } = world()
  const m1 = manager('m1')
  const signals = stopSignals(engine, clock)
  const tasks: readonly TaskFacts[] = [
    { id: 'idle' },
    { id: 'busy' },
    { id: 'stuck' },
    { id: 'patient', serviceLabels: label('10s') },
    { id: 'hasty', serviceLabels: label('0s') },
  ]
  const busy: Readonly<Record<string, number>> = { busy: 700, stuck: 100_000, patient: 7_000, hasty: 100_000 }
  dataPlane.busyMs = (taskId) => busy[taskId] ?? 0
  m1.assigned = [peer('node1', 1), ...tasks.map((task, at) => attached(task, `10.0.1.${at + 3}`))]
  const { stop } = startAgent([m1])
  await until(() => tasks.every(({ id }) => m1.state(id) === 'running'), 'all running')
  const startMs = clock.nowMs()
  m1.assign(tasks.map((task, at) => attached({ ...task, desiredState: 'shutdown' }, `10.0.1.${at + 3}`)))
  await clock.advance(300)
  t.same([...signals], [], 'not before it is withdrawn')
  t.match(m1.statuses.get('idle'), { state: 'running', message: 'draining' })
  m1.send({ kind: 'withdrawn', taskIds: tasks.map(({ id }) => id) })
  await until(() => tasks.every(({ id }) => m1.state(id) === 'shutdown'), 'all stopped')
  const took = (id: string) => Math.round(((signals.get(id) ?? 0) - startMs) / 100) * 100
  t.same(
    tasks.map(({ id }) => [id, took(id)]),
    [
      ['idle', 300],
      ['busy', 1_500],
      ['stuck', 2_300],
      ['patient', 7_800],
      ['hasty', 300],
    ],
  )
  await stop()
})

t.test('who does not answer is waited for one second', async (t) => {
  const { manager, startAgent, until, engine, clock } = world()
  const m1 = manager('m1')
  const signals = stopSignals(engine, clock)
  m1.assigned = [peer('node1', 1), attached({ id: 'a' })]
  const { stop } = startAgent([m1])
  await until(() => m1.state('a') === 'running', 'the task')
  const startMs = clock.nowMs()
  m1.assign([attached({ id: 'a', desiredState: 'shutdown' })])
  await until(() => m1.state('a') === 'shutdown', 'its end')
  const tookMs = (signals.get('a') ?? 0) - startMs
  t.ok(tookMs >= 1_000 && tookMs < 1_020, `${tookMs} ms`)
  await stop()
})

t.test('nothing waits for what needs no drain', async (t) => {
  const { manager, startAgent, until, engine, clock } = world({
    behaviour: () => ({ health: [{ afterMs: 100, verdict: 'healthy' }], stop: { afterMs: 100, code: 0 } }),
  })
  const m1 = manager('m1')
  const signals = stopSignals(engine, clock)
  m1.assigned = [
    peer('node1', 1),
    { kind: 'task', task: makeTask({ id: 'bare' }) },
    attached({ id: 'ended' }, '10.0.1.4'),
    attached({ id: 'sick' }, '10.0.1.5'),
    attached({ id: 'gone' }, '10.0.1.6'),
  ]
  const { stop } = startAgent([m1])
  await until(() => ['bare', 'ended', 'sick', 'gone'].every((id) => m1.state(id) === 'running'), 'all running')
  const startMs = clock.nowMs()
  m1.assign([
    { kind: 'task', task: makeTask({ id: 'bare', desiredState: 'shutdown' }) },
    attached({ id: 'ended', desiredState: 'shutdown' }, '10.0.1.4'),
  ])
  m1.assign([], [{ kind: 'task', id: 'gone' }])
  engine.setHealth('sick', 'unhealthy')
  await clock.advance(200)
  t.ok((signals.get('bare') ?? Infinity) - startMs < 50, 'no end point')
  t.ok((signals.get('gone') ?? Infinity) - startMs < 50, 'managers do not know it any more')
  t.ok((signals.get('sick') ?? Infinity) - startMs < 50, 'unhealthy')
  t.notOk(signals.has('ended'))
  engine.crash('ended', 1)
  await until(() => m1.state('ended') === 'shutdown', 'its end')
  t.ok(clock.nowMs() - startMs < 300, 'it ended by itself while it drained')
  t.notOk(signals.has('ended'))
  await until(() => m1.state('sick') === 'failed', 'the end of the sick one')
  t.ok(
    m1
      .heardOf('status')
      .some(({ updates }) =>
        updates.some(
          ({ taskId, status }) =>
            taskId === 'sick' && status.state === 'running' && status.error === 'dockerexec: unhealthy container',
        ),
      ),
    'managers heard of it before it was gone',
  )
  await stop()
})

t.test('places of plain containers are asked of the managers, and given back when nobody has them', async (t) => {
  const { manager, startAgent, until, clock, engine } = world()
  const m1 = manager('m1')
  const used = new Set<string>()
  const { agent, stop } = startAgent([m1], { attachmentsInUse: async () => used })
  const request = { network: 'front', containerName: 'probe', aliases: [], addresses: [] }
  t.equal(await agent.attach(request).catch(errorCode), 'NO_MANAGER')
  await until(() => m1.sessions === 1 && agent.connectedTo !== undefined, 'a session')
  const asked = agent.attach(request)
  await until(() => m1.heardOf('attach').length === 1, 'the question')
  t.same(m1.heardOf('attach')[0]?.request, request)
  const task = { ...makeTask({ id: 'place' }), spec: { NetworkAttachmentSpec: { ContainerID: 'probe' } } }
  m1.assign([{ kind: 'task', task }])
  const network = { kind: 'network', id: 'front', meta: task.meta, spec: {}, allocated: undefined } as const
  const answer = { kind: 'attached', attachmentId: 'place', network, addresses: ['10.0.1.2/24'] } as const
  m1.send({ kind: 'attachment', requestId: m1.heardOf('attach')[0]!.requestId, answer })
  t.match(await clock.wait(asked, 1_000), { attachmentId: 'place', addresses: ['10.0.1.2/24'] })
  await until(() => m1.state('place') === 'running', 'the report')
  t.same(engine.containers(), [], 'there is nothing to run')
  t.same(
    agent.attachments().map(({ id }) => id),
    ['place'],
  )
  used.add('place')
  await clock.advance(200_000)
  t.same(m1.heardOf('detach'), [])
  used.clear()
  await until(() => m1.heardOf('detach').length > 0, 'its return')
  t.equal(m1.heardOf('detach')[0]?.attachmentId, 'place')
  const refused = agent.attach(request)
  await until(() => m1.heardOf('attach').length === 2, 'another question')
  const no = { kind: 'refused', code: 'PERMISSION_DENIED', message: 'not attachable' } as const
  m1.send({ kind: 'attachment', requestId: m1.heardOf('attach')[1]!.requestId, answer: no })
  t.equal(await clock.wait(refused.catch(errorCode), 1_000), 'PERMISSION_DENIED')
  await stop()
})
