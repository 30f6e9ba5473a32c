// Managers and nodes that are short of disk: what is refused, who leads, where tasks go, and what a clean-up may remove.

import t from 'tap'
import {
  CLEAN_UP_LABEL,
  CLEAN_UP_ON_PRESSURE_LABEL,
  cleanUpOf,
  clusterSettingProblem,
} from '../../src/api/cluster-settings.ts'
import type { DiskPressure } from '../../src/api/disk-pressure.ts'
import { httpStatus } from '../../src/api/error-status.ts'
import type { StoreObject } from '../../src/api/objects.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { errorCode, errorMessage } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { encodeNode } from '../../src/manager/control/render.ts'
import { whyNode } from '../../src/manager/control/why-node.ts'
import { DiskGuard, type ManagerDisk } from '../../src/manager/disk-guard.ts'
import { makesStoreGrow } from '../../src/manager/growth.ts'
import { nodeInfoOf } from '../../src/manager/scheduler/cluster-map.ts'
import { explain, filtersFor, refusalOf } from '../../src/manager/scheduler/filters.ts'
import { Store } from '../../src/manager/store/store.ts'
import type { Change } from '../../src/manager/store/types.ts'
import { type CleanUpState, PRESSURE_AGE_MS, planCleanUp } from '../../src/worker/docker/clean-up-plan.ts'
import { SimulatedCluster } from '../raft/simulated-cluster.ts'
import { aConfig, aNode, aService, aTask } from '../support/objects.ts'

const LOW: ManagerDisk = { kind: 'low', path: '/data', freeBytes: 12 * 2 ** 20, wantedBytes: 2 ** 27, isStalled: false }
const REFUSING: DiskPressure = { Path: '/data', FreeBytes: 1, SizeBytes: 100, RefusesWrites: true }

function storeWith(...objects: readonly StoreObject[]): Store {
  const store = new Store()
  store.restore(1, objects)
  return store
}

// ---- what makes the store grow ----

t.test('what makes objects or tasks grows the store; what removes, stops or settles does not', (t) => {
  const spec: ServiceSpec = {
    Name: 'web',
    Mode: { Replicated: { Replicas: 3 } },
    TaskTemplate: { ContainerSpec: { Image: 'nginx:1' } },
  }
  const service = aService('s1', { spec })
  const view = storeWith(service, aNode('n1'))
  const grows = (...transaction: readonly Change[]) => makesStoreGrow(view, transaction)
  const becomes = (over: Partial<ServiceSpec>, rest: object = {}): Change => ({
    kind: 'update',
    object: { ...service, spec: { ...spec, ...over }, ...rest },
    expectedVersion: 1,
  })
  t.equal(grows({ kind: 'create', object: aConfig('c1') }), true)
  t.equal(grows(becomes({ Mode: { Replicated: { Replicas: 4 } } })), true)
  t.equal(grows(becomes({ TaskTemplate: { ContainerSpec: { Image: 'nginx:2' } } })), true)
  t.equal(grows(becomes({ TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 } })), true)
  t.equal(grows(becomes({}, { jobStatus: { iteration: 2, lastExecution: '' } })), true, 'a job that runs again')

  t.equal(grows(becomes({ Mode: { Replicated: { Replicas: 1 } } })), false)
  t.equal(grows(becomes({ Labels: { a: 'b' } })), false)
  t.equal(grows({ kind: 'remove', objectKind: 'service', id: 's1' }), false)
  t.equal(
    grows({ kind: 'update', object: aNode('n1', { spec: { Availability: 'drain' } }), expectedVersion: 1 }),
    false,
  )
  t.end()
})

// ---- a manager without room ----

/** @param isTold the nodes' descriptions say so as well */
async function managers(seed: number, disks: Readonly<Record<string, ManagerDisk>>, isTold = true) {
  const cluster = new SimulatedCluster(seed)
  const running = await cluster.grow(3)
  const nodes = running.map(({ node }) =>
    aNode(node.id, isTold && disks[node.id]?.kind === 'low' ? { description: { DiskPressure: [REFUSING] } } : {}),
  )
  const view = storeWith(...nodes)
  const stop = new AbortController()
  const guards = running.map(({ node }) => {
    const nodeOf = (raftId: string) => raftId
    const guard = new DiskGuard({ nodeId: node.id, view, raft: node, nodeOf, clock: cluster.clock, log: silentLog })
    node.subscribe((event) => {
      if (event.kind === 'leadership' && event.isLeader) guard.leads()
    })
    void guard.run(stop.signal)
    guard.set(disks[node.id] ?? { kind: 'room' })
    return guard
  })
  return { cluster, running, guards, stop: () => stop.abort() }
}

t.test('a leader without room hands over to a manager that has some', async (t) => {
  for (let seed = 1; seed < 6; seed++) {
    const { cluster, running, stop } = await managers(seed, { n1: LOW, n2: LOW })
    await cluster.clock.until(() => running[2]!.node.status().role === 'leader', 5_000, 'n3 to lead')
    t.equal(running[2]!.node.status().role, 'leader', `seed ${seed}`)
    stop()
  }
})

t.test('where no manager has room the leader leads on, and refuses only what grows', async (t) => {
  const { cluster, running, guards, stop } = await managers(7, { n1: LOW, n2: LOW, n3: LOW })
  await cluster.clock.advance(10_000)
  t.equal(running[0]!.node.status().role, 'leader')
  const proposed: unknown[] = []
  const proposer = guards[0]!.guarded({
    propose: async (transaction) => {
      proposed.push(transaction)
      return 5
    },
  })
  const error: unknown = await proposer.propose([{ kind: 'create', object: aConfig('c1') }]).catch((one) => one)
  t.equal(httpStatus(error), 507)
  t.equal(
    errorMessage(error),
    'rpc error: code = ResourceExhausted desc = manager n1 has only 12 MiB left on /data, and no other manager that is up has more: ' +
      'nothing new is taken until 128 MiB are free there. What exists can be read, removed and scaled down; what runs goes on',
  )
  t.equal(proposed.length, 0)
  t.equal(await proposer.propose([{ kind: 'remove', objectKind: 'service', id: 's1' }]), 5)

  guards[0]!.set({ kind: 'room' })
  t.equal(await proposer.propose([{ kind: 'create', object: aConfig('c1') }]), 5, 'and takes it again by itself')
  stop()
})

t.test('leadership does not go round among managers of which nobody knows yet that none has room', async (t) => {
  for (const isStalled of [false, true]) {
    const disk = { ...LOW, isStalled }
    const { cluster, running, stop } = await managers(17, { n1: disk, n2: disk, n3: disk }, false)
    const term = () => Math.max(...running.map(({ node }) => node.status().term))
    const before = term()
    await cluster.clock.advance(60_000)
    t.ok(term() - before < 16, `${term() - before} leaders in a minute`)
    stop()
  }
})

t.test('while leadership is handed over a request is for the next leader, not refused', async (t) => {
  const { cluster, running, guards, stop } = await managers(8, { n1: LOW })
  const proposer = guards[0]!.guarded({ propose: async () => 5 })
  const create = () => proposer.propose([{ kind: 'create', object: aConfig('c1') }]).catch(errorCode)
  const role = () => running[0]!.node.status().role
  t.equal(role(), 'leader')
  t.equal(await create(), 'NOT_LEADER')
  await cluster.clock.until(() => role() !== 'leader', 5_000, 'n1 to hand over')
  t.equal(await create(), 5, 'it is not refused for the want of room here: the proposer knows who leads')
  stop()
})

t.test('a leader that can’t write at all prefers anybody', async (t) => {
  const { cluster, running, stop } = await managers(9, { n1: { ...LOW, isStalled: true }, n2: LOW, n3: LOW })
  await cluster.clock.until(() => running[0]!.node.status().role !== 'leader', 5_000, 'n1 to hand over')
  t.not(running[0]!.node.status().role, 'leader')
  stop()
})

t.test(
  'a manager without room leaves it to others to lead, whether the leader’s process or machine ends',
  async (t) => {
    for (const end of ['kill', 'powerOff'] as const) {
      for (let seed = 10; seed < 16; seed++) {
        const cluster = new SimulatedCluster(seed)
        const [, n2] = await cluster.grow(3)
        n2!.node.setReluctant(true)
        cluster[end]('n1')
        const leader = await cluster.leader(20_000)
        t.equal(leader.node.id, 'n3', `${end}, seed ${seed}`)
      }
    }
  },
)

t.test('where only managers without room are left, one of them leads', async (t) => {
  for (const end of ['kill', 'powerOff'] as const) {
    const cluster = new SimulatedCluster(20)
    const [, n2, n3] = await cluster.grow(3)
    for (const each of [n2, n3]) each!.node.setReluctant(true)
    cluster[end]('n1')
    const leader = await cluster.leader(30_000)
    t.ok(['n2', 'n3'].includes(leader.node.id), end)
  }
})

// ---- a node that is short of disk ----

t.test('the scheduler avoids a node that is short of disk, and everybody who asks is told why', (t) => {
  const DiskPressure = [{ Path: '/var/lib/docker', FreeBytes: 1.2 * 2 ** 30, SizeBytes: 40 * 2 ** 30 }]
  const short = aNode('n1', { description: { Hostname: 'one', DiskPressure } })
  const view = storeWith(short, aNode('n2'), aService('s1'))
  const task = aTask('t1', 's1')
  const filters = filtersFor(task)
  const [one, two] = ['n1', 'n2'].map((id) => nodeInfoOf(view.get('node', id)!, view))
  t.same(refusalOf(filters, one!), { reason: 'disk pressure', detail: '1.2 GiB (3 %) left on /var/lib/docker' })
  t.equal(refusalOf(filters, two!), undefined)
  t.equal(explain(filters, [one!]).text, 'disk pressure on 1 node')

  const text = 'disk pressure: 1.2 GiB (3 %) left on /var/lib/docker'
  const sight = { leaderId: undefined, reachability: () => 'unknown' as const }
  const shown = JSON.parse(encodeNode(short, sight)) as Record<string, unknown>
  t.match(shown, { Status: { State: 'ready', Message: text }, Description: { DiskPressure } })
  t.match(whyNode(view, short, { nowMs: 0, limit: 10 }).Because, [`${text}: it keeps its tasks and gets no new ones`])
  t.end()
})

// ---- clean-up ----

t.test('settings of the clean-up', (t) => {
  t.same(cleanUpOf(undefined), { afterMs: undefined, onPressure: false })
  const labels = { [CLEAN_UP_LABEL]: '24h', [CLEAN_UP_ON_PRESSURE_LABEL]: 'true' }
  t.equal(clusterSettingProblem(labels), undefined)
  t.same(cleanUpOf({ Labels: labels }), { afterMs: 86_400_000, onPressure: true })
  t.same(cleanUpOf({ Labels: { [CLEAN_UP_LABEL]: 'off' } }), { afterMs: undefined, onPressure: false })
  for (const wrong of ['', 'on', '5', '30s', '-1h']) {
    t.match(clusterSettingProblem({ [CLEAN_UP_LABEL]: wrong }), /must be off, or how long/, wrong)
  }
  t.match(clusterSettingProblem({ [CLEAN_UP_ON_PRESSURE_LABEL]: 'yes' }), /must be true or false/)
  t.end()
})

const HOUR = 3_600_000
const image = (id: string) => ({ id, references: [`${id}:1`] })
const state = (over: Partial<CleanUpState> = {}): CleanUpState => ({
  images: [],
  containers: [],
  taskImages: new Set(),
  unusedSince: new Map(),
  settings: { afterMs: HOUR, onPressure: false },
  underPressure: false,
  nowMs: 100 * HOUR,
  ...over,
})

t.test('an image is removed once it was seen unused for so long, the oldest first', (t) => {
  const images = ['new', 'old', 'older'].map(image)
  const unusedSince = new Map([
    ['old', 98 * HOUR],
    ['older', 97 * HOUR],
    ['gone', 1],
  ])
  const plan = planCleanUp(state({ images, unusedSince }))
  t.same(
    plan.images.map(({ id }) => id),
    ['older', 'old'],
  )
  t.same(
    [...plan.unusedSince],
    [
      ['new', 100 * HOUR],
      ['old', 98 * HOUR],
      ['older', 97 * HOUR],
    ],
    'what is seen for the first time is young; what is gone is forgotten',
  )
  const later = planCleanUp(state({ images, unusedSince: new Map([['new', 200 * HOUR]]) }))
  t.same(later.images, [], 'a clock that was set back makes nothing old')
  t.end()
})

t.test('an image of a container or of a task of this node is in use, however old', (t) => {
  const images = ['running', 'stopped', 'task'].map(image)
  const container = (imageId: string, stoppedAtMs?: number) => ({
    id: `c-${imageId}`,
    imageId,
    isTask: false,
    stoppedAtMs,
  })
  const plan = planCleanUp(
    state({
      images,
      containers: [container('running'), container('stopped', 99.5 * HOUR)],
      taskImages: new Set(['task']),
      unusedSince: new Map(images.map(({ id }) => [id, 0])),
    }),
  )
  t.same([plan.images, plan.containers, [...plan.unusedSince]], [[], [], []])
  t.end()
})

t.test('stopped containers go after the same time, but for those of tasks', (t) => {
  const stopped = { imageId: 'x', isTask: false, stoppedAtMs: 98 * HOUR }
  const containers = [
    { ...stopped, id: 'old' },
    { ...stopped, id: 'young', stoppedAtMs: 99.5 * HOUR },
    { ...stopped, id: 'task', isTask: true },
    { ...stopped, id: 'runs', stoppedAtMs: undefined },
  ]
  t.same(planCleanUp(state({ containers })).containers, ['old'])
  t.end()
})

t.test('under pressure it is earlier where that is wanted, and never at all where it is not', (t) => {
  const images = [image('x')]
  const unusedSince = new Map([['x', 100 * HOUR - PRESSURE_AGE_MS]])
  const removed = (over: Partial<CleanUpState>) => planCleanUp(state({ images, unusedSince, ...over })).images.length
  t.equal(removed({ underPressure: true }), 0)
  t.equal(removed({ underPressure: true, settings: { afterMs: HOUR, onPressure: true } }), 1)
  t.equal(removed({ underPressure: true, settings: { afterMs: undefined, onPressure: true } }), 1)
  t.equal(removed({ underPressure: false, settings: { afterMs: undefined, onPressure: true } }), 0)
  t.equal(removed({ underPressure: true, settings: { afterMs: 1, onPressure: false }, unusedSince: new Map() }), 0)
  t.end()
})
