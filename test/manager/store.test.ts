// The replicated store: what apply grants, refuses and promises to its readers.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import type { StoreObject } from '../../src/api/objects.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { encode } from '../../src/lib/codec.ts'
import { silentLog } from '../../src/lib/log.ts'
import { decodeEntry, encodeEntry, encodeTransaction } from '../../src/manager/store/entry.ts'
import { OBJECT_KINDS, Store } from '../../src/manager/store/store.ts'
import { CHECKPOINT_INTERVAL, StoreMachine } from '../../src/manager/store/store-machine.ts'
import { StoreProposer } from '../../src/manager/store/store-proposer.ts'
import type { Change, StoreEvent, Transaction, TransactionResult } from '../../src/manager/store/types.ts'
import { aCluster, aConfig, aNetwork, aNode, aSecret, aService, aTask, statusOf } from '../support/objects.ts'

const WALL_MS = Date.UTC(2026, 0, 1)

function applyOne(store: Store, transaction: Transaction): TransactionResult {
  return store.apply(store.index + 1, WALL_MS, [transaction])[0]!
}

function create(store: Store, ...objects: readonly StoreObject[]): void {
  const result = applyOne(
    store,
    objects.map((object) => ({ kind: 'create', object })),
  )
  if (result.kind === 'refused') throw new Error(result.message)
}

function refusal(result: TransactionResult): string {
  return result.kind === 'refused' ? result.code : result.kind
}

t.test('a created object gets its version, times and spec version from the entry', async (t) => {
  const store = new Store()
  store.apply(7, WALL_MS, [[{ kind: 'create', object: aService('web') }]])
  const service = store.get('service', 'web')
  t.match(service, { specVersion: 7, meta: { version: 7, createdAt: '2026-01-01T00:00:00.000000000Z' } })
  t.equal(store.byName('service', 'WEB')?.id, 'web', 'names are found whatever their case')
})

t.test('a stale version is refused and changes nothing', async (t) => {
  const store = new Store()
  create(store, aService('web'))
  const seen = store.get('service', 'web')!
  const change: Change = { kind: 'update', object: { ...seen, registryAuth: 'x' }, expectedVersion: seen.meta.version }
  t.equal(refusal(applyOne(store, [change])), 'applied')
  const hash = store.stateHash()
  t.equal(refusal(applyOne(store, [change])), 'OUT_OF_SEQUENCE')
  t.equal(store.stateHash(), hash)
})

t.test('a transaction is applied whole or not at all', async (t) => {
  const store = new Store()
  create(store, aService('web'))
  const events: StoreEvent[] = []
  store.subscribe((batch) => events.push(...batch))
  const hash = store.stateHash()
  const result = applyOne(store, [
    { kind: 'create', object: aNode('node1') },
    { kind: 'remove', objectKind: 'service', id: 'web' },
    { kind: 'create', object: aService('db') },
    { kind: 'create', object: aService('other', { spec: { Name: 'DB' } }) },
  ])
  t.equal(refusal(result), 'NAME_CONFLICT')
  t.equal(store.stateHash(), hash)
  t.equal(store.byName('service', 'web')?.id, 'web')
  t.same(events, [])
})

t.test('what only one may have is given once', async (t) => {
  const port = (published: number) => ({
    Ports: [{ Protocol: 'tcp' as const, PublishedPort: published, TargetPort: 80 }],
  })
  const attached = { attachments: [{ networkId: 'net', addresses: ['10.0.0.2/24'], aliases: [] }] }
  const cases: readonly (readonly [string, StoreObject, StoreObject, string])[] = [
    ['service name', aService('a', { spec: { Name: 'x' } }), aService('b', { spec: { Name: 'x' } }), 'NAME_CONFLICT'],
    ['secret name', aSecret('a', { spec: { Name: 'x' } }), aSecret('b', { spec: { Name: 'x' } }), 'NAME_CONFLICT'],
    [
      'published port',
      aService('a', { spec: { Name: 'a', EndpointSpec: port(80) } }),
      aService('b', { endpoint: { spec: {}, ports: port(80).Ports, virtualIps: [] } }),
      'PORT_CONFLICT',
    ],
    ['address', aTask('a', 's', attached), aTask('b', 's', attached), 'ADDRESS_CONFLICT'],
    ['node number', aNode('a', { number: 3 }), aNode('b', { number: 3 }), 'NODE_NUMBER_CONFLICT'],
    [
      'VNI',
      aNetwork('a', { allocated: { vni: 4097, subnets: [] } }),
      aNetwork('b', { allocated: { vni: 4097, subnets: [] } }),
      'VNI_CONFLICT',
    ],
    ['id', aNode('a'), aNode('a'), 'EXISTS'],
    ['the cluster', aCluster(), aCluster({ id: 'other' }), 'EXISTS'],
  ]
  for (const [what, first, second, code] of cases) {
    const store = new Store()
    create(store, first)
    t.equal(refusal(applyOne(store, [{ kind: 'create', object: second }])), code, what)
    applyOne(store, [{ kind: 'remove', objectKind: first.kind, id: first.id }])
    t.equal(refusal(applyOne(store, [{ kind: 'create', object: second }])), 'applied', `${what}, once it is free`)
  }
})

t.test('two assignments at once can not overbook a node or a host port', async (t) => {
  const store = new Store()
  const node = aNode('node1', { description: { Resources: { NanoCPUs: 1e9, MemoryBytes: 100 } } })
  const ports = [{ Protocol: 'tcp', PublishedPort: 80, TargetPort: 80, PublishMode: 'host' }] as const
  const wants = (memory: number, published: boolean) => ({
    nodeId: 'node1',
    spec: { Resources: { Reservations: { MemoryBytes: memory } } },
    endpoint: { spec: {}, ports: published ? ports : [], virtualIps: [] },
  })
  create(
    store,
    node,
    aTask('a', 's', wants(60, true)),
    aTask('b', 's', wants(60, false)),
    aTask('c', 's', wants(1, true)),
  )
  const assign = (taskId: string): Change => ({ kind: 'task-status', taskId, status: statusOf('assigned') })
  t.equal(refusal(applyOne(store, [assign('a')])), 'applied')
  t.equal(refusal(applyOne(store, [assign('b')])), 'RESOURCES_CONFLICT')
  t.equal(refusal(applyOne(store, [assign('c')])), 'PORT_CONFLICT')
  applyOne(store, [{ kind: 'task-status', taskId: 'a', status: statusOf('shutdown') }])
  t.equal(refusal(applyOne(store, [assign('b')])), 'applied')
  t.equal(refusal(applyOne(store, [assign('c')])), 'applied')
})

t.test('an observed state only rises, and the managers’ half does not touch it', async (t) => {
  const store = new Store()
  create(store, aTask('a', 's', { nodeId: 'n' }))
  const before = store.get('task', 'a')!
  applyOne(store, [{ kind: 'task-status', taskId: 'a', status: statusOf('running') }])
  applyOne(store, [{ kind: 'task-status', taskId: 'a', status: statusOf('preparing') }])
  t.match(store.get('task', 'a'), {
    status: { state: 'running' },
    meta: { version: before.meta.version },
    statusVersion: 2,
  })
  const desired: Change = { kind: 'update', object: { ...before, desiredState: 'shutdown' }, expectedVersion: 1 }
  t.equal(refusal(applyOne(store, [desired])), 'applied', 'a status in between does not make the managers’ half stale')
  t.match(store.get('task', 'a'), { status: { state: 'running' }, desiredState: 'shutdown' })
  t.equal(refusal(applyOne(store, [{ kind: 'task-status', taskId: 'gone', status: statusOf('running') }])), 'applied')
})

t.test('secrets, configs and networks in use can not be removed', async (t) => {
  const store = new Store()
  const service = aService('web', {
    spec: {
      Name: 'web',
      TaskTemplate: {
        ContainerSpec: { Secrets: [{ SecretID: 'sec' }], Configs: [{ ConfigID: 'con' }] },
        Networks: [{ Target: 'net' }],
      },
    },
  })
  create(store, aSecret('sec'), aConfig('con'), aNetwork('net'), service)
  for (const [objectKind, id] of [
    ['secret', 'sec'],
    ['config', 'con'],
    ['network', 'net'],
  ] as const) {
    t.equal(refusal(applyOne(store, [{ kind: 'remove', objectKind, id }])), 'IN_USE', objectKind)
  }
  t.same(
    store.servicesUsingSecret('sec').map((user) => user.id),
    ['web'],
  )
  applyOne(store, [{ kind: 'remove', objectKind: 'service', id: 'web' }])
  t.equal(refusal(applyOne(store, [{ kind: 'remove', objectKind: 'secret', id: 'sec' }])), 'applied')
})

t.test('a list that was handed out stays what it was', async (t) => {
  const store = new Store()
  create(store, aTask('b', 's'), aTask('a', 's'))
  const seen = store.list('task')
  const ofService = store.tasksOfService('s')
  applyOne(store, [{ kind: 'remove', objectKind: 'task', id: 'a' }])
  t.same(
    [seen, ofService].map((list) => list.map((task) => task.id)),
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
  )
  t.same(
    store.tasksOfSlot('s', 1).map((task) => task.id),
    ['b'],
  )
})

const arbitraryChange: fc.Arbitrary<Change> = fc
  .record({
    what: fc.constantFrom('create', 'update', 'remove', 'status'),
    kind: fc.constantFrom('service', 'task', 'node', 'secret'),
    id: fc.constantFrom('a', 'b', 'c', 'd'),
    name: fc.constantFrom('x', 'y', 'z'),
    state: fc.constantFrom('pending', 'assigned', 'running', 'failed'),
    version: fc.nat(12),
  })
  .map(({ what, kind, id, name, state, version }): Change => {
    const object: StoreObject =
      kind === 'service'
        ? aService(id, { spec: { Name: name, EndpointSpec: { Ports: [{ PublishedPort: 80 + version }] } } })
        : kind === 'task'
          ? aTask(id, name, { nodeId: version % 2 ? 'n' : '', slot: version % 3 })
          : kind === 'node'
            ? aNode(id, { number: version })
            : aSecret(id, { spec: { Name: name } })
    if (what === 'create') return { kind: 'create', object }
    if (what === 'update') return { kind: 'update', object, expectedVersion: version }
    if (what === 'remove') return { kind: 'remove', objectKind: object.kind, id }
    return { kind: 'task-status', taskId: id, status: statusOf(state as 'pending') }
  })

async function copyOf(store: Store): Promise<Store> {
  const copy = new Store()
  await new StoreMachine({ store: copy, log: silentLog }).restore(
    new StoreMachine({ store, log: silentLog }).snapshot(),
  )
  return copy
}

t.test('a state restored from a snapshot is the state: objects, hash, indexes and all later answers', async () => {
  const histories = fc.array(fc.array(arbitraryChange, { minLength: 1, maxLength: 4 }), { maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(histories, histories, async (before, after) => {
      const store = new Store()
      for (const transaction of before) applyOne(store, transaction)
      const copy = await copyOf(store)
      for (const transaction of after) {
        assert.deepStrictEqual(applyOne(copy, transaction), applyOne(store, transaction))
      }
      if (copy.stateHash() !== store.stateHash()) throw new Error('hashes differ')
      for (const kind of OBJECT_KINDS) {
        if (!Buffer.from(encode(copy.list(kind))).equals(encode(store.list(kind)))) throw new Error(`${kind}s differ`)
      }
      for (const task of store.list('task')) {
        if (!store.tasksOfService(task.serviceId).includes(task)) throw new Error('a task is missing in its group')
      }
    }),
    { numRuns: 60 },
  )
})

t.test('subscribers hear what a restored snapshot changed', async (t) => {
  const store = new Store()
  create(store, aNode('a'), aNode('b'))
  const target = new Store()
  create(target, aNode('c'))
  const heard: string[] = []
  target.subscribe((events) => heard.push(...events.map((event) => `${event.kind} ${event.id}`)))
  target.restore(store.index, [...store.list('node')])
  t.same(heard.sort(), ['create a', 'create b', 'remove c'])
})

t.test(
  'a large snapshot is loaded while others have their turns, who see the state of before until it is there',
  async (t) => {
    const source = new Store()
    source.restore(
      9,
      Array.from({ length: 3_000 }, (_, at) => aService(`s${at}`, { spec: { Name: `s${at}` } })),
    )
    const store = new Store()
    create(store, aNode('a'))
    const seen: number[] = []
    let isOver = false
    const look = () => {
      seen.push(store.count('service') * 10 + store.count('node'))
      if (!isOver) setImmediate(look)
    }
    look()
    const machine = new StoreMachine({ store, log: silentLog, clock: new SystemClock() })
    await machine.restore(new StoreMachine({ store: source, log: silentLog }).snapshot())
    isOver = true
    t.ok(seen.length >= 30, `${seen.length} turns: one for each hundred objects at least`)
    t.same([...new Set(seen)], [1], 'nobody saw a part of it')
    t.same([store.index, store.count('service'), store.count('node')], [9, 3_000, 0])
    t.equal(store.stateHash(), source.stateHash())
  },
)

t.test('entries keep secrets’ data, refuse nothing known and stop at what is unknown', async (t) => {
  const data = Buffer.from([0, 1, 254, 255]).toString('base64')
  const transaction: Transaction = [{ kind: 'create', object: aSecret('s', { spec: { Name: 's', Data: data } }) }]
  const entry = decodeEntry(encodeEntry(5, { index: 1000, hash: 'ab' }, [encodeTransaction(transaction)]))
  t.strictSame(entry, { wallMs: 5, checkpoint: { index: 1000, hash: 'ab' }, transactions: [transaction] })
  t.throws(() => decodeEntry(encode([2, 5, null, []])), { code: 'ENTRY_UNKNOWN' })
  const strange = encode([{ kind: 'teleport' }])
  t.throws(() => decodeEntry(encodeEntry(5, undefined, [strange])), { code: 'ENTRY_UNKNOWN' })
})

t.test('snapshots of large objects come in chunks that a member takes', async (t) => {
  const store = new Store()
  const Data = Buffer.alloc(700_000, 'x').toString('base64')
  const big = ['a', 'b', 'c'].map((id) => ({ ...aConfig(id), spec: { Name: id, Data } }))
  const small = Array.from({ length: 250 }, (_, at) => aService(`s${at}`))
  const half = ['d', 'e'].map((id) => ({ ...aConfig(id), spec: { Name: id, Data: Data.slice(0, 400_000) } }))
  store.restore(7, [...big, ...small, ...half])
  const chunks: Uint8Array[] = []
  for await (const chunk of new StoreMachine({ store, log: silentLog }).snapshot()) chunks.push(chunk)
  for (const chunk of chunks) t.ok(chunk.byteLength <= 1024 * 1024, `${chunk.byteLength} bytes`)
  const copy = new Store()
  await new StoreMachine({ store: copy, log: silentLog }).restore(Readable.from(chunks))
  t.equal(copy.stateHash(), store.stateHash())
  t.same([copy.index, copy.count('config'), copy.count('service')], [7, 5, 250])
})

t.test('hashes are computed entry by entry; after a snapshot nothing is compared before they are there', async (t) => {
  const store = new Store()
  const machine = new StoreMachine({ store, log: silentLog })
  const services = Array.from({ length: 1_000 }, (_, at) => aService(`s${at}`))
  store.restore(CHECKPOINT_INTERVAL - 2, services)
  const same = new Store()
  same.restore(CHECKPOINT_INTERVAL - 2, services)
  const hash = same.stateHash()
  const empty = encodeEntry(WALL_MS, undefined, [])
  machine.apply({ index: CHECKPOINT_INTERVAL - 1, data: empty })
  machine.apply({ index: CHECKPOINT_INTERVAL, data: empty })
  t.equal(machine.takeCheckpoint(), undefined, 'hundreds are missing')
  t.ok(store.unhashed > 0 && store.unhashed < services.length)
  for (let at = 1; at < 5; at++) machine.apply({ index: CHECKPOINT_INTERVAL + at, data: empty })
  t.equal(store.unhashed, 0)
  machine.apply({ index: 2 * CHECKPOINT_INTERVAL, data: empty })
  t.strictSame(machine.takeCheckpoint(), { index: 2 * CHECKPOINT_INTERVAL, hash })
})

t.test('a manager whose state went another way stops at the next checkpoint', async (t) => {
  const machines = [new Store(), new Store()].map((store) => ({
    store,
    machine: new StoreMachine({ store, log: silentLog }),
  }))
  const [leader, follower] = machines as [(typeof machines)[0], (typeof machines)[0]]
  create(follower.store, aNode('stray'))
  const entry = (checkpoint?: { index: number; hash: string }) => encodeEntry(WALL_MS, checkpoint, [])
  for (const { machine } of machines) machine.apply({ index: CHECKPOINT_INTERVAL, data: entry() })
  const announced = leader.machine.takeCheckpoint()
  t.match(announced, { index: CHECKPOINT_INTERVAL })
  const next = { index: CHECKPOINT_INTERVAL + 1, data: entry(announced) }
  t.doesNotThrow(() => leader.machine.apply(next))
  t.throws(() => follower.machine.apply(next), { code: 'STATE_DIVERGED' })
})

t.test('writes that wait share an entry, and each gets its own answer', async (t) => {
  const store = new Store()
  const machine = new StoreMachine({ store, log: silentLog })
  const entries: Uint8Array[] = []
  const proposer = new StoreProposer({
    propose: async (data) => {
      entries.push(data)
      return machine.apply({ index: store.index + 1, data })
    },
    takeCheckpoint: () => undefined,
    clock: { nowMs: () => 0, wallMs: () => WALL_MS, setTimer: () => ({ cancel: () => {} }) },
  })
  const names = ['a', 'b', 'a', 'c']
  const answers = await Promise.allSettled(
    names.map((name, at) =>
      proposer.propose([{ kind: 'create', object: aSecret(`s${at}`, { spec: { Name: name } }) }]),
    ),
  )
  t.equal(entries.length, 1)
  t.same(
    answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : answer.reason.code)),
    [1, 1, 'NAME_CONFLICT', 1],
  )
  const many = Array.from({ length: 201 }, (): Change => ({ kind: 'remove', objectKind: 'task', id: 'x' }))
  await t.rejects(proposer.propose(many), { code: 'TRANSACTION_TOO_LARGE' })
  const large = Buffer.alloc(1000 * 1024).toString('base64')
  await proposer.propose([{ kind: 'create', object: aConfig('big', { spec: { Name: 'big', Data: large } }) }])
  t.ok(entries.at(-1)!.byteLength <= 1024 * 1024, 'a config of 1000 KiB fits into one entry')
})
