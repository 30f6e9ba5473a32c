// What nodes are told of the data plane: which records, when, and when the end points that are to stop are withdrawn.

import t from 'tap'
import { type DataPlaneKey, type DataPlaneRecord, dataPlaneKey } from '../../src/api/data-plane.ts'
import { DATA_PLANE_FEATURE_LEVEL } from '../../src/api/dispatcher.ts'
import type { Network, Node, Service, Task } from '../../src/api/objects.ts'
import type { PortConfig, TaskState } from '../../src/api/spec.ts'
import { decode, encode } from '../../src/lib/codec.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { networkDetails } from '../../src/manager/control/network-details.ts'
import { listTasks } from '../../src/manager/control/tasks.ts'
import { AssignmentSet } from '../../src/manager/dispatcher/assignment-set.ts'
import { encodeAssignments } from '../../src/manager/dispatcher/assignments-frame.ts'
import { Attachments } from '../../src/manager/dispatcher/attachments.ts'
import { deriveRecord } from '../../src/manager/dispatcher/data-plane-records.ts'
import type { Change } from '../../src/manager/store/types.ts'
import { DesiredStore } from '../../src/overlay/desired-state.ts'
import { aNetwork, aService, aTask, statusOf } from '../support/objects.ts'
import { Dispatched, type FakeWorker, node } from './support/dispatched.ts'
import { SmallCluster } from './support/small-cluster.ts'

const numbered = (number: number, over: Partial<Node> = {}): Node =>
  node(`n${number}`, {
    number,
    status: { state: 'unknown', message: '', address: `192.0.2.${number % 250}` },
    dataPathAddress: `198.51.100.${number % 250}`,
    ...over,
  })

const overlay = (id: string, subnet: string, over: Partial<Network['spec']> = {}, vni = 4096): Network =>
  aNetwork(id, {
    spec: { Name: `${id}-name`, ...over },
    allocated: { vni, subnets: [{ subnet, gateway: subnet.replace(/0\/.*$/, '1'), ipRange: '' }] },
  })

const attached = (
  id: string,
  nodeId: string,
  networks: Readonly<Record<string, readonly string[]>>,
  over: Partial<Task> = {},
) =>
  aTask(id, 's1', {
    nodeId,
    status: statusOf('running'),
    attachments: Object.entries(networks).map(([networkId, addresses]) => ({ networkId, addresses, aliases: [] })),
    ...over,
  })

const creation = (...objects: readonly (Network | Service | Task | Node)[]) =>
  objects.map((object): Change => ({ kind: 'create', object }))

const running = (taskId: string, state: TaskState = 'running', error = ''): Change => ({
  kind: 'task-status',
  taskId,
  status: statusOf(state, {
    timestamp: `2027-01-01T00:00:0${error === '' ? 0 : 1}.000000000Z`,
    error,
    container: { ContainerID: 'f'.repeat(64) },
  }),
})

/** What a worker would have handed to its data plane by now. */
function held(worker: FakeWorker): DesiredStore {
  const store = new DesiredStore()
  for (const message of worker.heardOf('assignments')) {
    const set = message.set.filter((one): one is DataPlaneRecord => isRecord(one.kind))
    const removed = message.removed.filter((key): key is DataPlaneKey => isRecord(key.kind))
    store.apply({ self: undefined, revision: message.sequence, complete: message.complete, set, removed })
  }
  return store
}

function isRecord(kind: string): boolean {
  return ['peer', 'overlay-network', 'end-point', 'overlay-service'].includes(kind)
}

function keys(worker: FakeWorker): readonly string[] {
  return held(worker)
    .records()
    .map((record) => `${record.kind} ${dataPlaneKey(record).id}`)
    .sort()
}

async function desire(cluster: Dispatched, taskId: string, desiredState: TaskState): Promise<void> {
  const task = cluster.store.get('task', taskId)!
  await cluster.write([{ kind: 'update', object: { ...task, desiredState }, expectedVersion: task.meta.version }])
}

t.test('a frame of encoded items reads as the whole that it is made of', async (t) => {
  for (const count of [0, 1, 15, 16, 300, 66_000]) {
    const set = Array.from({ length: count }, (_, at) => ({ kind: 'peer', at }))
    const removed = [{ kind: 'peer', id: 'x' }] as const
    const message = { complete: true, more: false, sequence: 1000, removed }
    const whole = [1, { kind: 'assignments', complete: true, more: false, sequence: 1000, set, removed }]
    t.strictSame(decode(encodeAssignments({ ...message, set: set.map(encode) })), whole, `${count} items`)
  }
})

t.test('a port that is for some addresses is told apart, so that an older node opens it nowhere', async (t) => {
  const cluster = await Dispatched.start(numbered(1))
  const serviceLabels = {
    'io.swarmctl.publish.8080/tcp': '127.0.0.1,10.1.0.0/16',
    'io.swarmctl.publish.53/udp': '127.0.0.1',
  }
  const ports: readonly PortConfig[] = [
    { TargetPort: 80, PublishedPort: 8080 },
    { TargetPort: 81, PublishedPort: 8081 },
    { TargetPort: 53, PublishedPort: 53, Protocol: 'udp', PublishMode: 'host' },
    { TargetPort: 54, PublishedPort: 54, Protocol: 'udp', PublishMode: 'host' },
  ]
  const endpoint = { spec: {}, ports, virtualIps: [{ networkId: 'ingress', address: '100.64.0.2/11' }] }
  const service = aService('s1', { spec: { Name: 'web', Labels: serviceLabels }, endpoint })
  const task = aTask('t1', 's1', { nodeId: 'n1', serviceLabels, endpoint, status: statusOf('assigned') })
  await cluster.write(creation(overlay('ingress', '100.64.0.0/11', { Ingress: true }), service, task))
  const told = deriveRecord(cluster.store, { kind: 'overlay-service', id: 's1/ingress' })
  t.match(told, {
    service: {
      ports: [{ published: 8081 }],
      portsAt: [{ published: 8080, target: 80, addresses: ['127.0.0.1', '10.1.0.0/16'] }],
    },
  })
  const given = (level: number) =>
    new AssignmentSet('n1', { get: () => undefined }, level)
      .complete(cluster.store)
      .set.flatMap((one) => (one.kind === 'task' ? (one.task.endpoint?.ports ?? []) : []))
      .map(({ PublishedPort }) => PublishedPort)
  t.same(
    [given(4), given(3)],
    [
      [8080, 8081, 53, 54],
      [8080, 8081, 54],
    ],
  )
})

t.test('a node is told of all peers, of the gateway network, and of the networks of its tasks alone', async (t) => {
  const cluster = await Dispatched.start(numbered(1), numbered(2), numbered(3))
  const six = { subnet: 'fd00:1::/64', gateway: 'fd00:1::1', ipRange: '' }
  const front = overlay('front', '10.0.1.0/24', {
    EnableIPv6: true,
    DriverConfiguration: { Options: { encrypted: '' } },
  })
  const dual = { ...front, allocated: { vni: 4097, subnets: [...front.allocated!.subnets, six] } }
  const labels = { 'io.swarmctl.affinity': 'client', 'io.swarmctl.prefer-local': '8080' }
  const ports = [
    { TargetPort: 80, PublishedPort: 8080 },
    { TargetPort: 53, PublishedPort: 5353, Protocol: 'udp' as const },
  ]
  const service = aService('s1', {
    spec: {
      Name: 'web',
      Labels: labels,
      TaskTemplate: { ContainerSpec: { Image: 'i' }, Networks: [{ Target: 'front', Aliases: ['www'] }] },
    },
    endpoint: {
      spec: {},
      ports,
      virtualIps: [
        { networkId: 'ingress', address: '100.64.0.2/11' },
        { networkId: 'front', address: '10.0.1.2/24' },
        { networkId: 'front', address: 'fd00:1::2/64' },
      ],
    },
  })
  await cluster.write(
    creation(
      overlay('ingress', '100.64.0.0/11', { Ingress: true }, 4100),
      dual,
      overlay('back', '10.0.2.0/24', {}, 4098),
      service,
      attached(
        't1',
        'n1',
        { ingress: ['100.64.2.2/11'], front: ['10.0.1.3/24', 'fd00:1::3/64'] },
        { serviceName: 'web' },
      ),
      attached('t2', 'n2', { back: ['10.0.2.3/24'] }, { serviceId: 's2', status: statusOf('assigned') }),
      attached('t3', 'n2', { back: ['10.0.2.4/24'] }, { serviceId: 's2', status: statusOf('failed') }),
      attached('t4', 'n2', { front: [] }, { serviceId: 's2', status: statusOf('pending') }),
    ),
  )
  const [one, two, three] = [
    await cluster.session('n1', DATA_PLANE_FEATURE_LEVEL),
    await cluster.session('n2', DATA_PLANE_FEATURE_LEVEL),
    await cluster.session('n3', DATA_PLANE_FEATURE_LEVEL),
  ] as const
  const everybody = [
    'end-point t1/ingress',
    'overlay-network ingress',
    'overlay-service s1/ingress',
    'peer n1',
    'peer n2',
    'peer n3',
  ]
  t.same(keys(one), [...everybody, 'end-point t1/front', 'overlay-network front', 'overlay-service s1/front'].sort())
  t.same(
    keys(two),
    [...everybody, 'end-point t2/back', 'overlay-network back'].sort(),
    'neither of ended tasks nor of waiting ones',
  )
  t.same(keys(three), everybody)

  const { state } = held(one)
  t.same(state.peers.get('n2'), {
    nodeId: 'n2',
    hostname: 'n2',
    number: 2,
    address: '10.0.0.7',
    port: 4789,
    mtu: 0,
    encryptionKeys: [],
    encryptionProblem: '',
  })
  t.match(state.networks.get('front'), {
    name: 'front-name',
    vni: 4097,
    encrypted: true,
    ingress: false,
    subnets: [{ subnet: '10.0.1.0/24' }, { subnet: 'fd00:1::/64', gateway: 'fd00:1::1' }],
  })
  t.match(state.endpoints.get('t1/front'), {
    addresses: ['10.0.1.3', 'fd00:1::3'],
    nodeNumber: 1,
    serviceName: 'web',
    name: 'web.1.t1',
    serving: true,
    encrypted: false,
  })
  t.match(
    state.endpoints.get('t1/ingress'),
    { addresses: ['100.64.2.2'], encrypted: true },
    'its service is on an encrypted network',
  )
  t.match(state.services.get('s1/front'), {
    name: 'web',
    aliases: ['www'],
    virtualIps: ['10.0.1.2', 'fd00:1::2'],
    ports: [],
    affinity: true,
  })
  t.same(state.services.get('s1/ingress')?.ports, [
    { protocol: 'tcp', published: 8080, target: 80, preferLocal: true },
    { protocol: 'udp', published: 5353, target: 53, preferLocal: false },
  ])

  const older = await cluster.session('n3', 1)
  t.same(keys(older), [], 'an older worker hears of nothing that it does not know')
})

t.test('a change reaches the nodes that it concerns, at once and alone', async (t) => {
  const cluster = await Dispatched.start(numbered(1), numbered(2), numbered(3))
  await cluster.write(
    creation(
      overlay('front', '10.0.1.0/24'),
      attached('t1', 'n1', { front: ['10.0.1.3/24'] }, { status: statusOf('starting') }),
      attached('t2', 'n2', { front: ['10.0.1.4/24'] }, { status: statusOf('starting') }),
    ),
  )
  const workers = [
    await cluster.session('n1', DATA_PLANE_FEATURE_LEVEL),
    await cluster.session('n2', DATA_PLANE_FEATURE_LEVEL),
    await cluster.session('n3', DATA_PLANE_FEATURE_LEVEL),
  ] as const
  const [one, two, three] = workers
  const counts = () => workers.map((worker) => worker.heardOf('assignments').length)
  const before = counts()
  await cluster.write([running('t1')])
  const committedMs = cluster.clock.nowMs()
  await cluster.clock.until(() => held(two).state.endpoints.get('t1/front')?.serving === true, 1_000, 'the news on n2')
  t.ok(cluster.clock.nowMs() - committedMs < 10, `${cluster.clock.nowMs() - committedMs} ms`)
  await cluster.clock.advance(100)
  t.same(
    counts().map((count, at) => count - before[at]!),
    [1, 1, 0],
  )
  t.same(
    two
      .heardOf('assignments')
      .at(-1)
      ?.set.map((one) => one.kind),
    ['end-point'],
  )
  t.match(held(two).state.endpoints.get('t1/front'), { hostname: 'f'.repeat(12) })

  await cluster.write([running('t1', 'running', 'dockerexec: unhealthy container')])
  await cluster.clock.advance(10)
  t.equal(held(two).state.endpoints.get('t1/front')?.serving, false, 'an unhealthy task gets nothing new')

  // n2 leaves the network with its last task, and hears of nothing more there.
  await cluster.write([running('t2', 'failed')])
  await cluster.clock.advance(10)
  t.same(keys(two), ['peer n1', 'peer n2', 'peer n3'])
  t.same(
    keys(one).filter((key) => key.startsWith('end-point')),
    ['end-point t1/front'],
  )
  const quiet = counts()
  await desire(cluster, 't1', 'shutdown')
  await cluster.clock.advance(10)
  t.same(
    counts().map((count, at) => count - quiet[at]!),
    [1, 0, 0],
  )

  // A task that comes brings the network with all that is there.
  await cluster.write(creation(attached('t5', 'n3', { front: ['10.0.1.5/24'] }, { status: statusOf('assigned') })))
  await cluster.clock.advance(10)
  t.same(keys(three), [
    'end-point t1/front',
    'end-point t5/front',
    'overlay-network front',
    'peer n1',
    'peer n2',
    'peer n3',
  ])
  for (const worker of workers) worker.say({ kind: 'resync' })
  const expected = workers.map(keys)
  await cluster.clock.advance(10)
  t.same(workers.map(keys), expected, 'a complete set says the same')

  const peer = cluster.store.get('node', 'n2')!
  const report = { port: 5000, mtu: 1400, encryptionKeys: ['k'], encryptionProblem: '', routes: [], problems: [] }
  two.say({ kind: 'data-path', report: { ...report, routes: ['192.168.0.0/16', 'nonsense'] } })
  await cluster.clock.advance(20)
  t.same(cluster.store.get('node', 'n2')?.dataPath?.routes, ['192.168.0.0/16'])
  t.match(held(three).state.peers.get('n2'), { port: 5000, mtu: 1400, encryptionKeys: ['k'] })
  const written = cluster.store.get('node', 'n2')?.meta.version
  t.not(written, peer.meta.version)
  two.say({ kind: 'data-path', report: { ...report, routes: ['192.168.0.0/16'] } })
  await cluster.clock.advance(20)
  t.equal(cluster.store.get('node', 'n2')?.meta.version, written, 'what is known is not written again')
  two.say({ kind: 'data-path', report: { ...report, routes: ['10.0.0.0/16'] } })
  await cluster.clock.advance(20)
  t.match(cluster.store.get('node', 'n2')?.dataPath?.problems, [
    { code: 'ROUTE_OVERLAP', message: /^the route 10.0.0.0\/16 of this host overlaps with network front-name: / },
  ])
  two.say({ kind: 'data-path', report })
  await cluster.clock.advance(20)
  t.same(cluster.store.get('node', 'n2')?.dataPath?.problems, [])
  const down = { code: 'DATA_PLANE_DOWN', message: 'swarmd-net does not answer', subject: '' }
  two.say({ kind: 'data-path', report: { ...report, port: 0, mtu: 0, encryptionKeys: [], problems: [down] } })
  await cluster.clock.advance(20)
  t.same(cluster.store.get('node', 'n2')?.dataPath?.problems, [down])
  t.match(held(three).state.peers.get('n2'), { port: 5000, encryptionKeys: ['k'] }, 'its kernel goes on')
})

t.test('a task that is to stop hears when every live node has its withdrawal in the kernel', async (t) => {
  const cluster = await Dispatched.start(numbered(1), numbered(2), numbered(3), numbered(4))
  await cluster.write(
    creation(
      overlay('front', '10.0.1.0/24'),
      overlay('back', '10.0.2.0/24', {}, 4097),
      attached('t1', 'n1', { front: ['10.0.1.3/24'], back: ['10.0.2.3/24'] }),
      attached('t2', 'n2', { front: ['10.0.1.4/24'] }),
      attached('t3', 'n3', { back: ['10.0.2.4/24'] }),
    ),
  )
  const sessions = [1, 2, 3, 4].map((number) => cluster.session(`n${number}`, DATA_PLANE_FEATURE_LEVEL))
  const workers: FakeWorker[] = []
  for (const session of sessions) workers.push(await session)
  const [one, two, three] = workers as [FakeWorker, FakeWorker, FakeWorker, FakeWorker]
  const programmed = async (worker: FakeWorker, back = 0): Promise<void> => {
    const sequence = (worker.heardOf('assignments').at(-1)?.sequence ?? 0) - back
    worker.say({ kind: 'programmed', sequence })
    await cluster.clock.advance(10)
  }
  await desire(cluster, 't1', 'shutdown')
  await cluster.clock.advance(10)
  t.equal(held(two).state.endpoints.get('t1/front')?.serving, false)
  await programmed(one)
  await programmed(two, 1)
  await programmed(three)
  t.same(one.heardOf('withdrawn'), [], 'n2 has not said so yet: what it said was of an earlier message')
  await programmed(two)
  t.same(one.heardOf('withdrawn'), [{ kind: 'withdrawn', taskIds: ['t1'] }])

  one.hangUp()
  await cluster.clock.advance(10)
  const again = await cluster.session('n1', DATA_PLANE_FEATURE_LEVEL)
  t.same(again.heardOf('withdrawn'), [{ kind: 'withdrawn', taskIds: ['t1'] }], 'its next session is told, too')

  await desire(cluster, 't3', 'shutdown')
  await cluster.clock.advance(10)
  await programmed(three)
  t.same(three.heardOf('withdrawn'), [], 'n1 is on that network')
  again.hangUp()
  await cluster.clock.advance(10)
  t.same(three.heardOf('withdrawn'), [{ kind: 'withdrawn', taskIds: ['t3'] }], 'who is gone is not waited for')
  t.same(two.heardOf('withdrawn'), [])
})

t.test('the control port of a manager is told, which is not always the same', async (t) => {
  const manager = numbered(1, { manager: { raftId: '1', address: '192.0.2.1:3377', featureLevel: 1 } })
  const cluster = await Dispatched.start(manager, numbered(2))
  const one = await cluster.session('n2', DATA_PLANE_FEATURE_LEVEL)
  const { peers } = held(one).state
  t.equal(peers.get('n1')?.controlPort, 3377)
  t.equal(peers.get('n2')?.controlPort, undefined)
})

t.test('nothing new is sent to a node that is down', async (t) => {
  const cluster = await Dispatched.start(numbered(1), numbered(2))
  await cluster.write(
    creation(
      overlay('front', '10.0.1.0/24'),
      attached('t1', 'n1', { front: ['10.0.1.3/24'] }),
      attached('t2', 'n2', { front: ['10.0.1.4/24'] }),
    ),
  )
  const one = await cluster.session('n1', DATA_PLANE_FEATURE_LEVEL)
  const two = await cluster.session('n2', DATA_PLANE_FEATURE_LEVEL)
  const serving = () => held(one).state.endpoints.get('t2/front')?.serving
  t.equal(serving(), true)
  two.silence()
  await cluster.clock.until(() => cluster.state('n2') === 'down', 20_000, 'n2 to be down')
  await cluster.clock.advance(10)
  t.equal(serving(), false, 'with the commit that says so')
  t.equal(held(one).state.endpoints.get('t2/front')?.lost, true, 'and what is connected to it is to be ended')
  await cluster.write([{ kind: 'remove', objectKind: 'node', id: 'n2' }])
  await cluster.clock.advance(10)
  t.same(keys(one), ['end-point t1/front', 'overlay-network front', 'peer n1'])
})

t.test('an older worker hears no word that it does not know', async (t) => {
  const cluster = await Dispatched.start(numbered(1), numbered(2))
  await cluster.write(
    creation(
      overlay('front', '10.0.1.0/24'),
      attached('t1', 'n1', { front: ['10.0.1.3/24'] }),
      attached('t2', 'n2', { front: ['10.0.1.4/24'] }),
    ),
  )
  const old = await cluster.session('n1')
  const two = await cluster.session('n2', DATA_PLANE_FEATURE_LEVEL)
  await desire(cluster, 't1', 'shutdown')
  await cluster.clock.advance(10)
  two.say({ kind: 'programmed', sequence: two.heardOf('assignments').at(-1)?.sequence ?? 0 })
  await cluster.clock.advance(10)
  t.same([...new Set(old.heard.map(({ kind }) => kind))].sort(), ['assignments', 'cluster', 'welcome'])
  old.hangUp()
  const again = await cluster.session('n1')
  t.same([...new Set(again.heard.map(({ kind }) => kind))].sort(), ['assignments', 'cluster', 'welcome'])
})

t.test('a new gateway network is told to all', async (t) => {
  const cluster = await Dispatched.start(numbered(1))
  const worker = await cluster.session('n1', DATA_PLANE_FEATURE_LEVEL)
  t.same(keys(worker), ['peer n1'])
  await cluster.write(creation(overlay('ingress', '100.64.0.0/11', { Ingress: true })))
  await cluster.clock.advance(10)
  t.same(keys(worker), ['overlay-network ingress', 'peer n1'])
  await cluster.write([{ kind: 'remove', objectKind: 'network', id: 'ingress' }])
  await cluster.clock.advance(10)
  t.same(keys(worker), ['peer n1'])
})

t.test('1,000 services × 10 tasks × 100 nodes: one change costs the nodes that it concerns', async (t) => {
  const cluster = await Dispatched.start(...Array.from({ length: 100 }, (_, at) => numbered(at + 1)))
  const write = async (changes: readonly Change[]): Promise<void> => {
    for (let at = 0; at < changes.length; at += 200) await cluster.write(changes.slice(at, at + 200))
  }
  await write(
    creation(
      ...Array.from({ length: 1_000 }, (_, at) =>
        overlay(`net${at}`, `10.${at >> 8}.${at & 255}.0/24`, {}, 5_000 + at),
      ),
    ),
  )
  await write(
    creation(
      ...Array.from({ length: 1_000 }, (_, at) =>
        aService(`s${at}`, {
          endpoint: {
            spec: {},
            ports: [],
            virtualIps: [{ networkId: `net${at}`, address: `10.${at >> 8}.${at & 255}.2/24` }],
          },
        }),
      ),
    ),
  )
  await write(
    creation(
      ...Array.from({ length: 10_000 }, (_, at) => {
        const [service, slot] = [Math.floor(at / 10), at % 10]
        const nodeId = `n${((service * 7 + slot * 11) % 100) + 1}`
        const address = `10.${service >> 8}.${service & 255}.${slot + 3}/24`
        return attached(
          `t${at}`,
          nodeId,
          { [`net${service}`]: [address] },
          { serviceId: `s${service}`, slot: slot + 1 },
        )
      }),
    ),
  )
  const startedMs = performance.now()
  const workers: FakeWorker[] = []
  for (let number = 1; number <= 100; number++)
    workers.push(await cluster.session(`n${number}`, DATA_PLANE_FEATURE_LEVEL))
  t.comment(`100 nodes were told all that concerns them in ${Math.round(performance.now() - startedMs)} ms`)
  t.equal(held(workers[0]!).state.endpoints.size, 1_000)
  t.equal(held(workers[0]!).state.services.size, 100)
  const before = workers.map((worker) => worker.heardOf('assignments').length)
  const changeMs = performance.now()
  await desire(cluster, 't4321', 'shutdown')
  await cluster.clock.advance(10)
  t.comment(`one change in ${(performance.now() - changeMs).toFixed(1)} ms`)
  const told = workers.filter((worker, at) => worker.heardOf('assignments').length > before[at]!)
  t.equal(told.length, 10)
  for (const worker of told)
    t.same(
      worker
        .heardOf('assignments')
        .at(-1)
        ?.set.filter(({ kind }) => kind !== 'task')
        .map(({ kind }) => kind),
      ['end-point'],
    )
})

t.test('a plain container gets a place on an attachable network, and gives it back', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.changeNode('n1', () => ({ number: 1 }))
  const open = { Attachable: true }
  const six = { subnet: 'fd00:1::/64', gateway: 'fd00:1::1', ipRange: '' }
  const front = overlay('front', '10.0.1.0/24', open)
  const dual = { ...front, allocated: { vni: 4096, subnets: [...front.allocated!.subnets, six] } }
  await cluster.write(
    creation(dual, overlay('tiny', '10.0.2.0/30', open, 4097), overlay('closed', '10.0.3.0/24', {}, 4098)),
  )
  const attachments = new Attachments({
    view: cluster.store,
    subscribe: (listener) => cluster.store.subscribe(listener),
    proposer: cluster.log,
    clock: cluster.clock,
    random: new SeededRandom(3),
  })
  const attach = (network: string, addresses: readonly string[] = []) =>
    cluster.clock.wait(
      attachments.attach('n1', { network, containerName: 'probe', aliases: ['tester'], addresses }),
      30_000,
      'an answer',
    )
  const given = await attach('front-name')
  t.match(given, { kind: 'attached', network: { id: 'front' }, addresses: ['10.0.1.2/24', 'fd00:1::2/64'] })
  const id = given.kind === 'attached' ? given.attachmentId : ''
  await cluster.until(() => cluster.store.get('task', id)?.status.state === 'running', 'its worker’s word')
  t.match(deriveRecord(cluster.store, { kind: 'end-point', id: `${id}/front` }), {
    endpoint: {
      name: 'probe',
      aliases: ['tester'],
      addresses: ['10.0.1.2', 'fd00:1::2'],
      serving: true,
      serviceId: '',
    },
  })
  t.same(listTasks(cluster.store, new Map()), [], 'it is no task of anybody’s')
  t.match(networkDetails(cluster.store, cluster.store.get('network', 'front')!, true), {
    Services: { '': { VIP: '<nil>', Tasks: [{ Name: 'probe', EndpointIP: '10.0.1.2' }] } },
  })

  t.match(await attach('front', ['10.0.1.77']), { kind: 'attached', addresses: ['10.0.1.77/24', 'fd00:1::3/64'] })
  t.match(await attach('front', ['10.0.1.77']), {
    kind: 'refused',
    message: 'Address already in use on network front-name: 10.0.1.77',
  })
  t.match(await attach('front', ['10.9.1.77']), {
    kind: 'refused',
    message: "Invalid address 10.9.1.77: It does not belong to any of this network's subnets",
  })
  t.match(await attach('closed'), {
    kind: 'refused',
    code: 'PERMISSION_DENIED',
    message: /network closed-name not manually attachable/,
  })
  t.match(await attach('nope'), { kind: 'refused', code: 'NO_SUCH_OBJECT', message: 'network nope not found' })
  t.match(await attach('tiny'), { kind: 'attached', addresses: ['10.0.2.2/30'] })
  t.match(await attach('tiny'), {
    kind: 'refused',
    message: /no available IPv4 or IPv6 addresses on network tiny-name/,
  })

  const left = () => cluster.store.list('task').length
  await cluster.until(() => left() === 3, 'the end of what was refused')
  t.match(await cluster.clock.wait(attachments.detach('n2', id), 1_000), { kind: 'detached' })
  t.equal(left(), 3, 'of another node’s places it is not asked')
  t.match(await cluster.clock.wait(attachments.detach('n1', id), 1_000), { kind: 'detached' })
  await cluster.until(() => left() === 2, 'the end of the first')
  await cluster.write([{ kind: 'remove', objectKind: 'node', id: 'n1' }])
  await cluster.until(() => left() === 0, 'the end with the node')
  await cluster.stop()
})
