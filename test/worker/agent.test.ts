// The agent on virtual time: production's code on the simulated network and engine, with managers that answer as told.

import t from 'tap'
import { type Assigned, SESSION_CLOSE } from '../../src/api/dispatcher.ts'
import type { Task } from '../../src/api/objects.ts'
import { errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Agent, type ClusterMessage } from '../../src/worker/agent.ts'
import { MemoryWorkerStorage } from '../../src/worker/memory-worker-storage.ts'
import { type Behaviour, SimulatedEngine } from '../../src/worker/simulated-engine.ts'
import { SimulatedExecutor } from '../../src/worker/simulated-executor.ts'
import { SimulatedNetwork } from '../sim/network.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { FakeManager } from './fake-manager.ts'
import { makeSecret, makeTask } from './task-factory.ts'

const LIMIT_MS = 60_000

function world(options: { readonly seed?: number; readonly behaviour?: (task: Task) => Behaviour } = {}) {
  const clock = new VirtualClock()
  const random = new SeededRandom(options.seed ?? 11)
  const network = new SimulatedNetwork({ clock, random: random.fork() })
  const engine = new SimulatedEngine({
    clock,
    description: { Hostname: 'host1', Platform: { OS: 'linux', Architecture: 'x86_64' } },
    ...(options.behaviour && { behaviour: options.behaviour }),
  })
  const storage = new MemoryWorkerStorage()
  const clusterChanges: ClusterMessage[] = []
  const labels: Record<string, string> = {}

  const startAgent = (managers: readonly FakeManager[]) => {
    const executor = new SimulatedExecutor({ engine, clock })
    const agent = new Agent({
      nodeId: 'node1',
      dialer: network.dialer('worker1'),
      executor,
      storage,
      clock,
      random: random.fork(),
      log: silentLog,
      managers: managers.map(({ address }) => address),
      address: '',
      dataPathAddress: '',
      featureLevel: 1,
      describe: (description) => ({ ...description, Engine: { Labels: { ...labels } } }),
      onClusterChange: (message) => clusterChanges.push(message),
    })
    const abort = new AbortController()
    const ended = agent.run({ signal: abort.signal })
    ended.catch(() => {}) // each test looks for itself
    const stop = async () => {
      abort.abort()
      await clock.wait(ended, LIMIT_MS, 'the end of the agent')
    }
    return { agent, executor, stop, ended }
  }

  return {
    clock,
    network,
    engine,
    storage,
    clusterChanges,
    labels,
    startAgent,
    manager: (name: string) => new FakeManager(network, name),
    until: (condition: () => boolean, what: string) => clock.until(condition, LIMIT_MS, what),
  }
}

const assigned = (task: Task): Assigned => ({ kind: 'task', task })

t.test(
  'a worker registers, runs what it is assigned, reports each change once, and acknowledges what it has written',
  async (t) => {
    const { manager, startAgent, until, engine, clock } = world()
    const m1 = manager('m1')
    m1.assigned = [assigned(makeTask({ id: 'a' })), assigned(makeTask({ id: 'b' }))]
    const { stop, agent } = startAgent([m1])
    await until(() => m1.state('a') === 'running' && m1.state('b') === 'running', 'both tasks running')
    t.match(m1.heard[0], { kind: 'hello', description: { Hostname: 'host1' }, featureLevel: 1, previousSessionId: '' })
    t.match(m1.heardOf('applied'), [{ sequence: 1 }])
    t.match(agent.connectedTo, { nodeId: 'm1' })
    const batches = m1.heardOf('status').length
    await clock.advance(30_000)
    t.equal(m1.heardOf('status').length, batches, 'nothing is reported again')
    t.ok(m1.heardOf('heartbeat').length >= 29, 'a heartbeat each second')
    t.ok(agent.heartbeats.count >= 28, 'and how long each was on its way is counted')
    t.ok(agent.heartbeats.maxMs < 200, `${agent.heartbeats.maxMs} ms`)

    m1.assign([], [{ kind: 'task', id: 'a' }])
    await until(() => engine.containers().length === 1, 'the removed task to be gone')
    await until(() => m1.heardOf('applied').at(-1)?.sequence === 2, 'the acknowledgement')
    m1.assign([assigned(makeTask({ id: 'b', desiredState: 'shutdown' }))])
    await until(() => m1.state('b') === 'shutdown', 'a stopped task')
    await stop()
    await clock.advance(10)
    t.match(m1.heardOf('goodbye'), [{ graceMs: 60_000 }])
    t.match(m1.closes.at(-1), { clean: true })
  },
)

t.test('a hundred tasks come to run in few batches of statuses', async (t) => {
  const { manager, startAgent, until } = world()
  const m1 = manager('m1')
  const ids = Array.from({ length: 100 }, (_, at) => `t${String(at).padStart(3, '0')}`)
  m1.assigned = ids.map((id) => assigned(makeTask({ id })))
  const { stop } = startAgent([m1])
  await until(() => ids.every((id) => m1.state(id) === 'running'), 'all running')
  t.ok(m1.heardOf('status').length <= 8, `${m1.heardOf('status').length} batches`)
  await stop()
})

t.test('a state that another one follows at once is not reported, one that lasts is', async (t) => {
  const { manager, startAgent, until } = world({
    behaviour: ({ id }) =>
      id === 'slow' ? { pullMs: 2_000, createMs: 10, startMs: 10 } : { pullMs: 5, createMs: 5, startMs: 5 },
  })
  const m1 = manager('m1')
  const waiting = makeTask({ id: 'waiting', desiredState: 'ready' })
  m1.assigned = [makeTask({ id: 'fast' }), makeTask({ id: 'slow' }), waiting].map(assigned)
  const { stop } = startAgent([m1])
  await until(() => m1.state('fast') === 'running', 'the fast one running')
  await until(() => m1.state('waiting') === 'ready', 'the one that is to wait ready')
  await until(() => m1.state('slow') === 'running', 'the slow one running')
  const statesOf = (taskId: string) =>
    m1.heardOf('status').flatMap(({ updates }) => updates.filter((update) => update.taskId === taskId))
  const told = (taskId: string) => statesOf(taskId).map(({ status }) => status.state)
  t.same(told('fast'), ['running'])
  t.same(told('waiting'), ['ready'])
  t.same(told('slow'), ['preparing', 'running'])
  await stop()
})

t.test('a status that is not acknowledged is sent again', async (t) => {
  const { manager, startAgent, until, clock } = world()
  const m1 = manager('m1')
  m1.acknowledges = false
  m1.assigned = [assigned(makeTask({ id: 'a' }))]
  const { stop } = startAgent([m1])
  await clock.advance(12_000)
  const sent = m1.heardOf('status')
  t.ok(sent.length >= 2)
  t.ok(new Set(sent.map(({ sequence }) => sequence)).size === sent.length, 'each with a sequence of its own')
  m1.acknowledges = true
  await until(() => m1.state('a') === 'running', 'the newest status to arrive')
  await stop()
})

t.test('statuses that the old leader lost reach the new one', async (t) => {
  const { manager, startAgent, until, network } = world()
  const [m1, m2] = [manager('m1'), manager('m2')]
  m1.managers = m2.managers = [m1.address, m2.address]
  m1.acknowledges = false
  m1.assigned = m2.assigned = [assigned(makeTask({ id: 'a' }))]
  const { stop } = startAgent([m1])
  await until(() => m1.heardOf('status').length > 0, 'a report that is lost')
  network.killProcess('m1')
  await until(() => m2.state('a') === 'running', 'the status at the new leader')
  t.notOk(m1.state('a'))
  await stop()
})

t.test('a set that comes in parts is acted on when it is whole', async (t) => {
  const { manager, startAgent, until, engine } = world()
  const m1 = manager('m1')
  m1.assigned = ['a', 'b', 'c'].map((id) => assigned(makeTask({ id })))
  const first = startAgent([m1])
  await until(() => m1.state('c') === 'running', 'three tasks')
  await first.stop()
  const before = engine.containers()
  m1.parts = 3
  const second = startAgent([m1])
  await until(() => m1.sessions === 2 && m1.heardOf('applied').length === 2, 'the whole set')
  t.match(m1.heardOf('applied').at(-1), { sequence: 3 })
  t.strictSame(engine.containers(), before, 'no task was taken for removed in between')
  await second.stop()
})

t.test('a gap in the increments makes the worker ask for everything', async (t) => {
  const { manager, startAgent, until } = world()
  const m1 = manager('m1')
  const { stop } = startAgent([m1])
  await until(() => m1.sessions === 1, 'a session')
  m1.assign([assigned(makeTask({ id: 'a' }))], [], 1)
  await until(() => m1.heardOf('resync').length === 1, 'a resync')
  await until(() => m1.state('a') === 'running', 'the task of the COMPLETE set')
  m1.assign([assigned(makeTask({ id: 'b' }))])
  await until(() => m1.state('b') === 'running', 'an increment after it')
  t.equal(m1.heardOf('resync').length, 1)
  t.equal(m1.sessions, 1, 'in the same session')
  await stop()
})

t.test('a worker follows redirects to the leader and remembers all managers', async (t) => {
  const { manager, startAgent, until, storage, clock } = world()
  const [m1, m2, m3] = [manager('m1'), manager('m2'), manager('m3')]
  m1.managers = m2.managers = m3.managers = [m1.address, m2.address, m3.address]
  m1.mode = { kind: 'redirects', leader: m3.address }
  m2.mode = { kind: 'redirects', leader: undefined }
  const first = startAgent([m2, m1])
  await until(() => first.agent.connectedTo?.nodeId === 'm3', 'a session with the leader')
  t.ok(clock.nowMs() < 1_000, `found after ${clock.nowMs()} ms`)
  await first.stop()
  t.strictSame(
    (await storage.open()).managers.map(({ nodeId }) => nodeId),
    ['m1', 'm2', 'm3'],
  )
  const second = startAgent([])
  await until(() => m3.sessions === 2, 'a session again, from memory alone')
  t.match(m3.heardOf('hello').at(-1), { previousSessionId: 'm3-session-1' })
  await second.stop()
})

t.test('managers that point at each other are not asked without a pause', async (t) => {
  const { manager, startAgent, clock } = world()
  const [m1, m2] = [manager('m1'), manager('m2')]
  m1.managers = m2.managers = [m1.address, m2.address]
  m1.mode = { kind: 'redirects', leader: m2.address }
  m2.mode = { kind: 'redirects', leader: m1.address }
  const { stop } = startAgent([m1, m2])
  await clock.advance(60_000)
  const hellos = m1.heardOf('hello').length + m2.heardOf('hello').length
  t.ok(hellos > 15 && hellos < 60, `${hellos} hellos in a minute`)
  await stop()
})

t.test('a killed leader is replaced within half a second once another leads', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const { manager, startAgent, until, network, clock } = world({ seed })
    const [m1, m2, m3] = [manager('m1'), manager('m2'), manager('m3')]
    m1.managers = m2.managers = m3.managers = [m1.address, m2.address, m3.address]
    m2.mode = m3.mode = { kind: 'redirects', leader: m1.address }
    const { stop, agent } = startAgent([m1])
    await until(() => agent.connectedTo !== undefined, 'a session')
    network.killProcess('m1')
    m2.mode = m3.mode = { kind: 'redirects', leader: undefined }
    clock.setTimer(300, () => {
      m2.mode = { kind: 'leads' }
      m3.mode = { kind: 'redirects', leader: m2.address }
    })
    const killedMs = clock.nowMs()
    await until(() => m2.sessions === 1, 'a session with the new leader')
    t.ok(clock.nowMs() - killedMs < 900, `seed ${seed}: ${Math.round(clock.nowMs() - killedMs)} ms`)
    await stop()
  }
})

t.test('a manager that falls silent is left for another', async (t) => {
  const { manager, startAgent, until, network, clock } = world()
  const [m1, m2] = [manager('m1'), manager('m2')]
  m1.managers = m2.managers = [m1.address, m2.address]
  const { stop, agent } = startAgent([m1])
  await until(() => agent.connectedTo !== undefined, 'a session')
  const cutMs = clock.nowMs()
  network.faults = { ...network.faults, stallMs: [100_000, 100_000] }
  network.cut('worker1', 'm1')
  await until(() => m2.sessions === 1, 'a session with another')
  t.ok(clock.nowMs() - cutMs < 8_000)
  m2.answersHeartbeats = false
  network.healAll()
  await until(() => m1.sessions === 2, 'away from the one that does not answer')
  await stop()
})

t.test('a frame that is none, or of another version, ends the session and not the worker', async (t) => {
  const { manager, startAgent, until } = world()
  const m1 = manager('m1')
  m1.assigned = [assigned(makeTask({ id: 'a' }))]
  const { stop } = startAgent([m1])
  for (const [at, nonsense] of [[99, { kind: 'heartbeat-ack' }], 'nonsense', [1, { kind: 'unheard-of' }]].entries()) {
    await until(() => m1.sessions === at + 1, 'a session')
    m1.sendRaw(nonsense)
    await until(() => m1.closes.length === at + 1, 'its end')
    t.equal(m1.closes.at(-1)?.code, SESSION_CLOSE.malformed)
  }
  await until(() => m1.state('a') === 'running', 'work goes on')
  await stop()
})

t.test('a node that was removed ends its agent with NODE_REMOVED; containers are removed on request', async (t) => {
  const { manager, startAgent, until, engine, clock } = world()
  const m1 = manager('m1')
  m1.assigned = [assigned(makeTask({ id: 'a' }))]
  const { ended, agent } = startAgent([m1])
  await until(() => m1.state('a') === 'running', 'a running task')
  m1.close(SESSION_CLOSE.removed, 'the node was removed')
  const code = await clock.wait(
    ended.then(() => undefined, errorCode),
    LIMIT_MS,
  )
  t.equal(code, 'NODE_REMOVED')
  t.match(engine.containers(), [{ state: 'running' }])
  await clock.wait(agent.removeContainers({ signal: new AbortController().signal }), LIMIT_MS)
  t.strictSame(engine.containers(), [])
})

t.test('containers run on without managers, and through a restart of the worker', async (t) => {
  const { manager, startAgent, until, engine, network, clock } = world()
  const m1 = manager('m1')
  m1.assigned = [assigned(makeTask({ id: 'a' })), assigned(makeTask({ id: 'gone' }))]
  const first = startAgent([m1])
  await until(() => m1.state('a') === 'running' && m1.state('gone') === 'running', 'running tasks')
  const before = engine.containers()
  network.cut('worker1', 'm1')
  await clock.advance(120_000)
  t.strictSame(engine.containers(), before)
  await first.stop()
  t.strictSame(engine.containers(), before)

  const second = startAgent([m1])
  await clock.advance(60_000)
  t.strictSame(engine.containers(), before, 'restarted without any manager')
  m1.assigned = m1.assigned.slice(0, 1)
  engine.crash('a', 9)
  network.healAll()
  await until(() => m1.state('a') === 'failed', 'what happened meanwhile')
  t.match(m1.statuses.get('a'), { message: 'started', error: 'task: non-zero exit (9)' })
  await until(() => engine.containers().length === 1, 'the task that is assigned no more to be removed')
  await second.stop()
})

t.test(
  'a worker that lost its disk keeps healthy containers, and removes those that no assignment names',
  async (t) => {
    const { manager, startAgent, until, engine, clock, storage } = world()
    const m1 = manager('m1')
    m1.assigned = [assigned(makeTask({ id: 'a' })), assigned(makeTask({ id: 'b' }))]
    const first = startAgent([m1])
    await until(() => m1.state('a') === 'running' && m1.state('b') === 'running', 'running tasks')
    await first.stop()
    const [kept] = engine.containers()
    await storage.write(
      (await storage.open()).assigned.map((one) => ({
        kind: 'removed',
        key: { kind: 'task', id: one.kind === 'task' ? one.task.id : '' },
      })),
    )
    m1.assigned = [assigned({ ...makeTask({ id: 'a' }), status: m1.statuses.get('a')! })]
    const second = startAgent([m1])
    await until(() => engine.containers().length === 1, 'the container of no task to be removed')
    await clock.advance(5_000)
    t.strictSame(engine.containers(), [kept], 'the other runs on')
    t.equal(m1.state('a'), 'running')
    await second.stop()
  },
)

t.test('an engine that restarts fails its tasks; with live-restore they run on', async (t) => {
  const { manager, startAgent, until, engine, clock } = world()
  const m1 = manager('m1')
  m1.assigned = [assigned(makeTask({ id: 'a' }))]
  const { stop } = startAgent([m1])
  await until(() => m1.state('a') === 'running', 'a running task')
  const before = engine.containers()
  engine.goDown({ liveRestore: true })
  await clock.advance(5_000)
  engine.goUp()
  await clock.advance(5_000)
  t.strictSame(engine.containers(), before)
  t.equal(m1.state('a'), 'running')

  engine.goDown()
  m1.assign([assigned(makeTask({ id: 'b' }))])
  await clock.advance(5_000)
  t.equal(m1.state('b'), 'preparing', 'a task that comes meanwhile waits for the engine')
  engine.goUp()
  await until(() => m1.state('a') === 'failed', 'the killed task to be told')
  t.equal(m1.statuses.get('a')?.error, 'task: non-zero exit (255)')
  await until(() => m1.state('b') === 'running', 'the waiting one')
  await stop()
})

t.test('a task waits for its secrets, whose payload and credentials never come near the disk', async (t) => {
  const { manager, startAgent, until, storage, network, clock, engine } = world()
  const m1 = manager('m1')
  const spec = { ContainerSpec: { Image: 'box', Secrets: [{ SecretID: 's1', File: { Name: 'pw' } }] } }
  m1.assigned = [
    assigned(makeTask({ id: 'a', spec })),
    { kind: 'registry-auth', serviceId: 'service1', auth: 'CREDENTIALS' },
  ]
  const first = startAgent([m1])
  await clock.advance(5_000)
  t.equal(m1.state('a'), 'preparing')
  m1.assign([{ kind: 'secret', secret: makeSecret('s1', 'PAYLOAD') }])
  await until(() => m1.state('a') === 'running', 'the task with its secret')
  const bytes = Buffer.concat([...storage.records().values()])
  t.ok(bytes.includes('box'), 'the task is on disk')
  t.notOk(bytes.includes(Buffer.from('PAYLOAD').toString('base64')))
  t.notOk(bytes.includes('PAYLOAD'))
  t.notOk(bytes.includes('CREDENTIALS'))

  m1.assign([assigned(makeTask({ id: 'b', spec: { ...spec }, desiredState: 'ready' }))])
  await until(() => m1.state('b') === 'ready', 'a second one')
  await first.stop()
  network.cut('worker1', 'm1')
  const second = startAgent([m1])
  await clock.advance(2_000)
  engine.destroy('b')
  await clock.advance(2_000)
  t.equal(engine.containers().length, 1, 'what ran runs on without the payload')
  await second.stop()
})

t.test('a change of the description is reported, an unchanged one is not', async (t) => {
  const { manager, startAgent, until, labels, clock } = world()
  const m1 = manager('m1')
  const { stop, agent } = startAgent([m1])
  await until(() => m1.sessions === 1, 'a session')
  await clock.advance(130_000)
  t.equal(m1.heardOf('describe').length, 0)
  labels.disk = 'ssd'
  agent.refreshDescription()
  await until(() => m1.heardOf('describe').length === 1, 'a description')
  t.match(m1.heardOf('describe')[0], { description: { Engine: { Labels: { disk: 'ssd' } } } })
  await stop()
})

t.test('news of the cluster reach the daemon, and the managers the disk', async (t) => {
  const { manager, startAgent, until, clusterChanges, storage, clock } = world()
  const m1 = manager('m1')
  const { stop } = startAgent([m1])
  await until(() => m1.sessions === 1, 'a session')
  const managers = [m1.address, { nodeId: 'm9', address: 'm9:2377' }]
  m1.send({
    kind: 'cluster',
    managers,
    role: 'manager',
    availability: 'drain',
    nodeLabels: { a: 'b' },
    rootDigest: 'd',
  })
  await until(() => clusterChanges.length === 1, 'the news')
  t.match(clusterChanges[0], { role: 'manager', availability: 'drain' })
  await clock.advance(10)
  t.strictSame((await storage.open()).managers, managers)
  await stop()
})

t.test('logs are streamed against credit', async (t) => {
  const output = Array.from({ length: 100 }, (_, at) => `line ${at} ${'x'.repeat(100)}`)
  const { manager, startAgent, until, clock } = world({
    behaviour: () => ({ output, exit: { afterMs: 20_000, code: 0 } }),
  })
  const m1 = manager('m1')
  m1.assigned = [assigned(makeTask({ id: 'a' }))]
  const { stop } = startAgent([m1])
  await until(() => m1.state('a') === 'running', 'a running task')
  const options = { follow: true, tail: undefined, since: '', until: '', stdout: true, stderr: true }
  m1.send({ kind: 'open-stream', streamId: 'stream1', request: { kind: 'task-logs', taskId: 'a', options } })
  await until(() => m1.frames.length === 1, 'the stream to be opened')
  t.strictSame(m1.frames[0], { kind: 'open', streamId: 'stream1' })
  const receivedBytes = () => m1.frames.reduce((sum, frame) => sum + (frame.kind === 'data' ? frame.data.length : 0), 0)
  await clock.advance(1_000)
  t.equal(receivedBytes(), 0, 'nothing without credit')
  m1.frame({ kind: 'credit', bytes: 1_000 })
  await clock.advance(1_000)
  t.equal(receivedBytes(), 1_000)
  m1.frame({ kind: 'credit', bytes: 1_000_000 })
  await until(() => m1.frames.at(-1)?.kind === 'end', 'the end, with the container')
  t.ok(receivedBytes() > 100 * 100)

  m1.frames.length = 0
  const nowhere = { kind: 'task-logs', taskId: 'nobody', options } as const
  m1.send({ kind: 'open-stream', streamId: 'stream2', request: nowhere })
  await until(() => m1.frames.length === 2, 'the end of a stream of no task')
  t.strictSame(m1.frames[1], { kind: 'end' })
  await stop()
})

t.test('a stop announces a minute of grace, a leave none', async (t) => {
  for (const leaves of [false, true]) {
    const { manager, startAgent, until } = world()
    const m1 = manager('m1')
    const { agent, stop } = startAgent([m1])
    await until(() => m1.sessions === 1, 'a session')
    if (leaves) agent.announceLeave()
    await stop()
    await until(() => m1.heardOf('goodbye').length === 1, 'a goodbye')
    t.match(m1.heardOf('goodbye'), [{ graceMs: leaves ? 0 : 60_000 }])
  }
})
