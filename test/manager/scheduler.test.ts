// Where tasks go: swarm-behaviour.md, "Scheduling". Facts of each filter, and properties of every placement.

import fc from 'fast-check'
import t from 'tap'
import type { Node, Task } from '../../src/api/objects.ts'
import type { GenericResource, TaskSpec } from '../../src/api/spec.ts'
import { formatTime } from '../../src/lib/clock.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { nodeMeetsExpressions, parseConstraints } from '../../src/manager/scheduler/constraint.ts'
import { explain, filtersFor, passes } from '../../src/manager/scheduler/filters.ts'
import { FreeGenericResources } from '../../src/manager/scheduler/generic-resources.ts'
import { NodeInfo } from '../../src/manager/scheduler/node-info.ts'
import { Scheduler } from '../../src/manager/scheduler/scheduler.ts'
import { Store } from '../../src/manager/store/store.ts'
import type { Change } from '../../src/manager/store/types.ts'
import { aNode, aService, aTask, statusOf } from '../support/objects.ts'

const NOW_MS = Date.parse('2026-01-02T00:00:00Z')

t.test('constraints compare the properties of a node, whatever the case of the value', (t) => {
  const node = aNode('ID1', {
    role: 'manager',
    spec: { Labels: { Zone: 'East', empty: '' } },
    description: {
      Hostname: 'Host-1',
      Platform: { OS: 'linux', Architecture: 'x86_64' },
      Engine: { Labels: { storage: 'SSD' } },
    },
    status: { state: 'ready', message: '', address: '10.0.3.7' },
  })
  const cases: readonly (readonly [string, boolean])[] = [
    ['node.id==id1', true],
    ['node.id!=id1', false],
    ['node.hostname == host-1', true],
    ['node.role==manager', true],
    ['node.role!=worker', true],
    ['NODE.PLATFORM.OS==Linux', true],
    ['node.platform.arch==arm64', false],
    ['node.labels.Zone==east', true],
    ['node.labels.zone==east', false],
    ['node.labels.missing!=x', true],
    ['node.labels.missing==x', false],
    ['engine.labels.storage==ssd', true],
    ['node.ip==10.0.3.7', true],
    ['node.ip==10.0.0.0/16', true],
    ['node.ip!=10.0.0.0/16', false],
    ['node.ip!=192.168.0.0/24', true],
    ['node.ip==nonsense', false],
    ['node.ip!=10.0.0.0/99', false],
    ['node.unknown==x', false],
    ['node.unknown!=x', false],
  ]
  for (const [expression, met] of cases) t.equal(nodeMeetsExpressions(node, [expression]), met, expression)
  t.equal(nodeMeetsExpressions(node, ['node.role==manager', 'node.ip==1.1.1.1']), false, 'all must be met')
  t.equal(nodeMeetsExpressions(node, []), true)
  t.end()
})

t.test('a constraint that is none is refused with the words of Swarm', (t) => {
  t.throws(() => parseConstraints(['node.role']), { message: 'constraint expected one operator from ==, !=' })
  t.throws(() => parseConstraints(['1x==y']), { code: 'INVALID_CONSTRAINT', message: "key '1x' is invalid" })
  t.throws(() => parseConstraints(['node.role==a~b']), { message: "value 'a~b' is invalid" })
  t.end()
})

function infoOf(over: Partial<Node> = {}, tasks: readonly Task[] = []): NodeInfo {
  const info = new NodeInfo(aNode('n1', over))
  for (const task of tasks) info.put(task)
  return info
}

function taskOf(spec: TaskSpec, over: Partial<Task> = {}): Task {
  return aTask('t', 'svc', { spec, status: statusOf('pending'), ...over })
}

function onNode(id: string, over: Partial<Task> = {}): Task {
  return aTask(id, 'svc', { nodeId: 'n1', status: statusOf('running'), ...over })
}

t.test('each filter refuses what it should, in its own words', (t) => {
  const plain = aNode('n1').description
  const withResources = { ...plain, Resources: { NanoCPUs: 2e9, MemoryBytes: 1e9 } }
  const port = {
    spec: {},
    virtualIps: [],
    ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' as const }],
  }
  const gpu: readonly GenericResource[] = [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }]
  const wantsGpu = [{ DiscreteResourceSpec: { Kind: 'gpu', Value: 1 } }]
  const volume = { Type: 'volume' as const, VolumeOptions: { DriverConfig: { Name: 'nfs' } } }
  const dataPath = { port: 4789, mtu: 1500, encryptionKeys: [], encryptionProblem: '', routes: [], problems: [] }
  const attachedTo = (networkId: string) => taskOf({}, { attachments: [{ networkId, addresses: [], aliases: [] }] })
  const plugins = (...Plugins: readonly object[]) => ({ description: { ...plain, Engine: { Plugins } } })
  const cases: readonly (readonly [string, Task, NodeInfo, string])[] = [
    [
      'a node that is down',
      taskOf({}),
      infoOf({ status: { ...aNode('n1').status, state: 'down' } }),
      '1 node not available for new tasks',
    ],
    ['a paused node', taskOf({}), infoOf({ spec: { Availability: 'pause' } }), '1 node not available for new tasks'],
    ['an active node', taskOf({}), infoOf(), ''],
    [
      'a node without a data plane',
      attachedTo('front'),
      infoOf({
        dataPath: { ...dataPath, problems: [{ code: 'DATA_PLANE_UNAVAILABLE', message: 'no nft', subject: '' }] },
      }),
      'overlay networks not available on 1 node: no nft',
    ],
    [
      'a node that can’t encrypt',
      attachedTo('secret'),
      infoOf({ dataPath: { ...dataPath, encryptionProblem: 'no WireGuard' } }),
      'encrypted networks not available on 1 node: no WireGuard',
    ],
    [
      'a node that can, and has trouble with it just now',
      attachedTo('secret'),
      infoOf({ dataPath: { ...dataPath, encryptionKeys: ['k'], encryptionProblem: 'no answer' } }),
      '',
    ],
    ['… for a task in clear', attachedTo('front'), infoOf({ dataPath: { ...dataPath, encryptionProblem: 'no' } }), ''],
    ['a node that can', attachedTo('secret'), infoOf({ dataPath }), ''],
    ['a node that has said nothing yet', attachedTo('secret'), infoOf(), ''],
    [
      'more CPUs than are left',
      taskOf({ Resources: { Reservations: { NanoCPUs: 1.5e9 } } }),
      infoOf({ description: withResources }, [
        onNode('a', { spec: { Resources: { Reservations: { NanoCPUs: 1e9 } } } }),
      ]),
      'insufficient resources on 1 node',
    ],
    [
      'as much memory as is left',
      taskOf({ Resources: { Reservations: { MemoryBytes: 1e9 } } }),
      infoOf({ description: withResources }, [onNode('a')]),
      '',
    ],
    [
      'a generic resource that is taken',
      taskOf({ Resources: { Reservations: { GenericResources: wantsGpu } } }),
      infoOf({ description: { ...plain, Resources: { GenericResources: gpu } } }, [
        onNode('a', { genericResources: gpu }),
      ]),
      'insufficient resources on 1 node',
    ],
    [
      'a constraint',
      taskOf({ Placement: { Constraints: ['node.id==n2'] } }),
      infoOf(),
      'scheduling constraints not satisfied on 1 node',
    ],
    [
      'another platform',
      taskOf({ Placement: { Platforms: [{ Architecture: 'arm64', OS: 'linux' }] } }),
      infoOf(),
      'unsupported platform on 1 node',
    ],
    [
      'another name of the same platform',
      taskOf({ Placement: { Platforms: [{ Architecture: 'amd64', OS: 'linux' }] } }),
      infoOf(),
      '',
    ],
    [
      'a host port in use',
      taskOf({}, { endpoint: port }),
      infoOf({}, [onNode('a', { endpoint: port })]),
      'host-mode port already in use on 1 node',
    ],
    [
      'max replicas',
      taskOf({ Placement: { MaxReplicas: 1 } }),
      infoOf({}, [onNode('a')]),
      'max replicas per node limit exceed',
    ],
    [
      'max replicas, with one that is to stop',
      taskOf({ Placement: { MaxReplicas: 1 } }),
      infoOf({}, [onNode('a', { desiredState: 'shutdown' })]),
      '',
    ],
    [
      'a volume driver',
      taskOf({ ContainerSpec: { Mounts: [volume] } }),
      infoOf(plugins({ Type: 'Volume', Name: 'local' })),
      'missing plugin on 1 node',
    ],
    [
      'a log driver',
      taskOf({ LogDriver: { Name: 'gelf' } }),
      infoOf(plugins({ Type: 'Log', Name: 'json-file' })),
      'missing plugin on 1 node',
    ],
    ['a driver of which the node says nothing', taskOf({ LogDriver: { Name: 'gelf' } }), infoOf(plugins()), ''],
  ]
  for (const [name, task, info, text] of cases) {
    const filters = filtersFor(task, (networkId) => networkId === 'secret')
    t.equal(passes(filters, info), text === '', name)
    t.equal(explain(filters, [info]).text, text, name)
  }
  t.end()
})

t.test('an explanation counts nodes by the first filter that refuses them, the most frequent first', (t) => {
  const paused = (id: string) => new NodeInfo(aNode(id, { spec: { Availability: 'pause' } }))
  const filters = filtersFor(taskOf({ Placement: { Constraints: ['node.id==x1'] } }))
  const { text } = explain(filters, [new NodeInfo(aNode('a')), paused('b'), paused('c')])
  t.equal(text, '2 nodes not available for new tasks; scheduling constraints not satisfied on 1 node')
  t.equal(explain(filters, []).text, '')
  t.end()
})

t.test('generic resources: named ones are given by name, counted ones by number', (t) => {
  const named = (Kind: string, ...values: readonly string[]) =>
    values.map((Value) => ({ NamedResourceSpec: { Kind, Value } }))
  const counted = (Kind: string, Value: number) => ({ DiscreteResourceSpec: { Kind, Value } })
  const free = new FreeGenericResources([...named('gpu', 'b', 'a', 'c'), counted('ssd', 3)])
  free.take([...named('gpu', 'a'), counted('ssd', 1)])
  t.same(free.choose([counted('gpu', 2), counted('ssd', 2)]), [...named('gpu', 'b', 'c'), counted('ssd', 2)])
  t.equal(free.choose([counted('gpu', 3)]), undefined)
  t.equal(free.choose([counted('ssd', 3)]), undefined)
  t.equal(free.choose([counted('fpga', 1)]), undefined)
  t.end()
})

// ---- the scheduler on a real store ----

class Bench {
  readonly store = new Store()
  readonly scheduler = new Scheduler()
  readonly #random = new SeededRandom(1)
  #index = 0

  constructor(nodes: readonly Node[]) {
    this.store.subscribe((events) => {
      for (const event of events) [...this.scheduler.affected(event, this.store)]
    })
    this.apply(nodes.map((object) => ({ kind: 'create', object })))
  }

  apply(changes: readonly Change[]): void {
    const [result] = this.store.apply(++this.#index, NOW_MS, [changes])
    if (result?.kind !== 'applied') throw new Error(JSON.stringify(result))
  }

  /** Makes pending tasks of a service. */
  pend(serviceId: string, count: number, spec: TaskSpec = {}, over: Partial<Task> = {}): void {
    if (!this.store.get('service', serviceId)) this.apply([{ kind: 'create', object: aService(serviceId) }])
    const changes = Array.from({ length: count }, (_, at): Change => {
      const slot = at + 1
      const id = `${serviceId}-${String(slot).padStart(5, '0')}`
      const object = aTask(id, serviceId, { spec, slot, status: statusOf('pending'), ...over })
      return { kind: 'create', object }
    })
    this.apply(changes)
  }

  /** Schedules the service until nothing changes. @returns the longest slice in reconciles */
  schedule(serviceId: string): number {
    for (let rounds = 1; ; rounds++) {
      const context = { nowMs: NOW_MS, random: this.#random }
      const { transactions, requeueAtMs } = this.scheduler.reconcile(this.store, serviceId, context)
      for (const transaction of transactions) this.apply(transaction)
      this.scheduler.settled(serviceId, this.store)
      if (requeueAtMs === undefined) return rounds
    }
  }

  placed(serviceId: string): readonly Task[] {
    return this.store.tasksOfService(serviceId).filter((task) => task.nodeId !== '')
  }

  perNode(serviceId: string): Map<string, number> {
    const counts = new Map(this.store.list('node').map((node) => [node.id, 0]))
    for (const task of this.placed(serviceId)) counts.set(task.nodeId, counts.get(task.nodeId)! + 1)
    return counts
  }
}

function nodes(count: number, over: (at: number) => Partial<Node> = () => ({})): readonly Node[] {
  return Array.from({ length: count }, (_, at) => aNode(`n${String(at).padStart(3, '0')}`, over(at)))
}

t.test('a thousand tasks are spread over a hundred nodes, ten on each', (t) => {
  const bench = new Bench(nodes(100))
  bench.pend('web', 1000)
  bench.schedule('web')
  t.same(new Set(bench.perNode('web').values()), new Set([10]))
  t.equal(bench.placed('web')[0]?.status.message, 'scheduler assigned task to node')
  t.end()
})

t.test('a service is spread by its own tasks first, then by all', (t) => {
  const bench = new Bench(nodes(3))
  bench.pend('a', 4)
  bench.schedule('a')
  bench.pend('b', 2)
  bench.schedule('b')
  t.same([...bench.perNode('a').values()], [2, 1, 1])
  t.same([...bench.perNode('b').values()], [0, 1, 1], 'the two nodes with fewer tasks')
  t.end()
})

t.test('preferences are spread first: evenly over racks, then over the nodes of each', (t) => {
  const racks = ['a', 'a', 'a', 'b', 'c']
  const bench = new Bench(nodes(5, (at) => ({ spec: { Labels: { rack: racks[at]! } } })))
  const Preferences = [{ Spread: { SpreadDescriptor: 'node.labels.rack' } }]
  bench.pend('web', 12, { Placement: { Preferences } })
  bench.schedule('web')
  t.same(
    [...bench.perNode('web').values()].sort((a, b) => a - b),
    [1, 1, 2, 4, 4],
  )
  t.end()
})

t.test('a rack that is full leaves its share to the others', (t) => {
  const bench = new Bench(nodes(3, (at) => ({ spec: { Labels: { rack: at === 0 ? 'a' : 'b' } } })))
  const Preferences = [{ Spread: { SpreadDescriptor: 'node.labels.rack' } }]
  bench.pend('web', 8, { Placement: { Preferences, MaxReplicas: 3 } })
  bench.schedule('web')
  t.same([...bench.perNode('web').values()], [3, 3, 2])
  t.end()
})

t.test('a node where this version failed five times in five minutes comes last, for this version', (t) => {
  const bench = new Bench(nodes(2))
  bench.pend('other', 3)
  bench.apply([{ kind: 'create', object: aService('web') }])
  for (let n = 0; n < 5; n++) {
    const id = `dead-${n}`
    const object = aTask(id, 'web', { nodeId: 'n000', status: statusOf('running'), desiredState: 'shutdown' })
    bench.apply([{ kind: 'create', object }])
    const status = statusOf('failed', { timestamp: formatTime(NOW_MS - 1_000) })
    bench.apply([{ kind: 'task-status', taskId: id, status }])
  }
  bench.pend('web', 2)
  bench.schedule('web')
  t.same(
    [...bench.perNode('web').values()].map((count, at) => (at === 0 ? count - 5 : count)),
    [0, 2],
  )
  bench.schedule('other')
  t.same([...bench.perNode('other').values()], [2, 1])
  t.end()
})

t.test('an assignment under way counts before it is applied, and no longer when it was refused', (t) => {
  const Resources = { NanoCPUs: 1e9, MemoryBytes: 1e9 }
  const bench = new Bench(nodes(1, () => ({ description: { Resources } })))
  const spec = { Resources: { Reservations: { NanoCPUs: 1e9 } } }
  bench.pend('a', 1, spec)
  bench.pend('b', 1, spec)
  const context = { nowMs: NOW_MS, random: new SeededRandom(1) }
  t.equal(bench.scheduler.reconcile(bench.store, 'a', context).transactions.length, 1)
  bench.schedule('b')
  t.equal(bench.placed('b').length, 0)
  t.match(bench.store.tasksOfService('b')[0]?.status.error, /insufficient resources on 1 node/)
  bench.scheduler.settled('a', bench.store)
  bench.schedule('b')
  t.equal(bench.placed('b').length, 1, 'nothing of a was applied')
  t.end()
})

t.test('a new leader builds the same picture as the one that saw every event', (t) => {
  const bench = new Bench(nodes(4))
  bench.pend('a', 6)
  bench.schedule('a')
  bench.pend('b', 5)
  const context = { nowMs: NOW_MS, random: new SeededRandom(1) }
  const fresh = new Scheduler()
  t.same(
    [...fresh.start(bench.store)].filter((key) => key !== undefined),
    ['b'],
  )
  const decided = fresh.reconcile(bench.store, 'b', context)
  t.same(decided, bench.scheduler.reconcile(bench.store, 'b', context))
  t.end()
})

t.test(
  'any cluster: nothing is placed against a filter, the spread is even, and only what fits nowhere is left',
  (t) => {
    const nodeShape = fc.record({
      state: fc.constantFrom('ready', 'ready', 'ready', 'down', 'unknown'),
      availability: fc.constantFrom('active', 'active', 'active', 'pause', 'drain'),
      label: fc.constantFrom('x', 'y'),
      cpus: fc.integer({ min: 0, max: 6 }),
    })
    const serviceShape = fc.record({
      count: fc.integer({ min: 1, max: 30 }),
      cpus: fc.constantFrom(0, 0, 1, 2),
      constraint: fc.constantFrom('', '', 'node.labels.zone==x', 'node.labels.zone!=x'),
      maxReplicas: fc.constantFrom(0, 0, 1, 3),
      hostPort: fc.boolean(),
      preference: fc.boolean(),
    })
    const property = fc.property(
      fc.array(nodeShape, { maxLength: 12 }),
      fc.array(serviceShape, { minLength: 1, maxLength: 4 }),
      (nodeShapes, serviceShapes) => {
        const bench = new Bench(
          nodes(nodeShapes.length, (at) => {
            const { state, availability, label, cpus } = nodeShapes[at]!
            return {
              spec: { Availability: availability, Labels: { zone: label } } as Node['spec'],
              status: { state: state as Node['status']['state'], message: '', address: '' },
              description: { Resources: { NanoCPUs: cpus * 1e9, MemoryBytes: 0 } },
            }
          }),
        )
        for (const [at, shape] of serviceShapes.entries()) {
          const id = `s${at}`
          const Placement = {
            Constraints: shape.constraint ? [shape.constraint] : [],
            MaxReplicas: shape.maxReplicas,
            Preferences: shape.preference ? [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }] : [],
          }
          const spec = { Placement, Resources: { Reservations: { NanoCPUs: shape.cpus * 1e9 } } }
          const ports = shape.hostPort ? [{ PublishedPort: 1000 + at, PublishMode: 'host' as const }] : []
          bench.pend(id, shape.count, spec, { endpoint: { spec: {}, ports, virtualIps: [] } })
          bench.schedule(id)
          checkPlacement(bench, id, shape.count)
        }
      },
    )
    fc.assert(property, { numRuns: 300, seed: 7 })
    t.pass('300 clusters')
    t.end()
  },
)

/** Independent of the scheduler's own sums: everything is counted anew from the store. */
function checkPlacement(bench: Bench, serviceId: string, count: number): void {
  const { store } = bench
  const perNode = bench.perNode(serviceId)
  const open: Node[] = []
  for (const node of store.list('node')) {
    const tasks = store.tasksOfNode(node.id)
    const own = tasks.filter((task) => task.serviceId === serviceId)
    const [sample] = store.tasksOfService(serviceId)
    const used = tasks.reduce((sum, task) => sum + (task.spec.Resources?.Reservations?.NanoCPUs ?? 0), 0)
    const total = node.description.Resources?.NanoCPUs ?? 0
    const wanted = sample?.spec.Resources?.Reservations?.NanoCPUs ?? 0
    const limit = sample?.spec.Placement?.MaxReplicas || Number.POSITIVE_INFINITY
    const meets = nodeMeetsExpressions(node, sample?.spec.Placement?.Constraints)
    const available = node.status.state === 'ready' && node.spec.Availability === 'active'
    const onePerNode = (sample?.endpoint?.ports.length ?? 0) > 0
    if (used > total) throw new Error(`${node.id} is overbooked`)
    if (own.length > 0 && !(meets && available)) throw new Error(`${node.id} got what it must not`)
    if (own.length > limit || (onePerNode && own.length > 1)) throw new Error(`${node.id} got too many`)
    const room = wanted === 0 || used + wanted <= total
    if (meets && available && room && own.length < limit && !(onePerNode && own.length > 0)) open.push(node)
  }
  if (bench.placed(serviceId).length < count && open.length > 0) throw new Error('a task waits though there is room')
  const preference = store.tasksOfService(serviceId)[0]?.spec.Placement?.Preferences?.length
  if (preference) return
  const most = Math.max(0, ...perNode.values())
  for (const node of open) {
    if (most - perNode.get(node.id)! > 1)
      throw new Error(`${node.id} has room and got ${perNode.get(node.id)} of ${most}`)
  }
}
