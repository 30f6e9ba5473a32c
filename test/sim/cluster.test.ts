// The whole cluster in the simulator: fixed seeds, a few new ones that print themselves, and the same seed twice.

import t from 'tap'
import { SystemRandom } from '../../src/lib/random.ts'
import { Store } from '../../src/manager/store/store.ts'
import { aService, aTask, statusOf } from '../support/objects.ts'
import { ClusterCheckers } from './cluster-checkers.ts'
import type { ClusterProfile } from './cluster-profile.ts'
import { type ClusterSimulationResult, simulateCluster } from './cluster-simulation.ts'
import { ClusterViolation } from './cluster-violation.ts'

/** Shorter than what `make sim` runs, with all else as the seed draws it. */
const SHORT: Partial<ClusterProfile> = { managers: 3, workers: 3, calmMs: 8_000, stormMs: 20_000, maxServices: 4 }

const FIXED_SEEDS = [4, 119, 134]
const NEW_SEEDS = 2

function report(result: ClusterSimulationResult): string {
  const { failure, lastEvents } = result
  return failure ? [failure.message, ...lastEvents].join('\n') : 'converged'
}

t.test('clusters of fixed seeds keep their promises and converge', async (t) => {
  for (const seed of FIXED_SEEDS) {
    const result = await simulateCluster({ seed, profile: SHORT })
    t.equal(report(result), 'converged', `seed ${seed}, ${result.entries} entries`)
  }
})

t.test('clusters of new seeds keep their promises and converge', async (t) => {
  const random = new SystemRandom()
  for (let run = 0; run < NEW_SEEDS; run++) {
    const seed = random.below(1_000_000)
    const result = await simulateCluster({ seed, profile: SHORT })
    t.equal(report(result), 'converged', `seed ${seed} (SHORT in test/sim/cluster.test.ts)`)
  }
})

t.test('a seed gives the same run each time', async (t) => {
  const profile = { ...SHORT, stormMs: 10_000 }
  const first = await simulateCluster({ seed: 7, profile })
  const second = await simulateCluster({ seed: 7, profile })
  const other = await simulateCluster({ seed: 8, profile })
  t.equal(second.digest, first.digest)
  t.equal(second.virtualMs, first.virtualMs)
  t.not(other.digest, first.digest)
})

t.test('the checkers see what they are there for', async (t) => {
  const broken = (property: string, act: (checkers: ClusterCheckers, store: Store) => void) => {
    const checkers = new ClusterCheckers()
    const store = new Store()
    const watch = (name: string, watched: Store) =>
      watched.subscribe((events) => checkers.observe(name, watched, events, () => {}))
    watch('m1', store)
    try {
      act(checkers, store)
      t.fail(`nothing was seen: ${property}`)
    } catch (error) {
      t.ok(error instanceof ClusterViolation && error.property === property, property)
    }
  }
  const task = aTask('t1', 's1', { nodeId: 'n1', status: statusOf('running') })
  const create = (store: Store, index: number, ...objects: readonly Parameters<Store['restore']>[1][]) =>
    objects.forEach((some, at) => {
      store.restore(index + at, some)
    })
  broken('managers are equal at an equal index', (checkers, store) => {
    create(store, 1, [task])
    const other = new Store()
    other.subscribe((events) => checkers.observe('m2', other, events, () => {}))
    create(other, 1, [{ ...task, slot: 2 }])
  })
  const version = (meta: number) => ({ version: meta, createdAt: '', updatedAt: '' })
  broken('task states only rise', (_checkers, store) => {
    create(store, 1, [{ ...task, meta: version(1) }], [{ ...task, meta: version(2), status: statusOf('starting') }])
  })
  broken('no task moves', (_checkers, store) => {
    create(store, 1, [{ ...task, meta: version(1) }])
    create(store, 2, [{ ...task, meta: version(2), nodeId: 'n2' }])
  })
  broken('unique names, ports and numbers', (_checkers, store) => {
    create(store, 1, [aService('a', { spec: { Name: 'web' } }), aService('b', { spec: { Name: 'web' } })])
  })
  const move = (id: string, predecessorId: string, slot: number, nodeId: string) =>
    aTask(id, 's1', { slot, nodeId, origin: { kind: 'move', predecessorId, rebalanceId: 'r' } })
  const rebalanced = aService('s1', {
    rebalance: {
      id: 'r',
      state: 'running',
      cause: '',
      startedAt: '',
      steppedAt: '',
      endedAt: '',
      waitsSince: '',
      atOnce: 1,
      onto: [],
      volumes: false,
      planned: 2,
      begun: 2,
      message: '',
    },
  })
  const second = aTask('t2', 's1', { slot: 2, nodeId: 'n1', status: statusOf('running') })
  broken('rebalancing', (_checkers, store) => {
    create(store, 1, [rebalanced, task, move('m1', 't1', 1, 'n1')])
  })
  broken('rebalancing', (_checkers, store) => {
    create(store, 1, [rebalanced, task, second, move('m1', 't1', 1, 'n2'), move('m2', 't2', 2, 'n2')])
  })
  const dependent = aService('web', { spec: { Name: 'web', Labels: { 'io.swarmctl.depends-on': 'db:healthy' } } })
  const first = aTask('t1', 'web', { meta: version(1), slot: 1, status: statusOf('pending') })
  broken('depends_on', (_checkers, store) => {
    create(
      store,
      1,
      [dependent, aService('db', { spec: { Name: 'db' } }), first, aTask('t2', 'db', { status: statusOf('starting') })],
      [{ ...first, meta: version(2), nodeId: 'n1', status: statusOf('assigned') }],
    )
  })
  broken('no flapping', (_checkers, store) => {
    const failed = ['a', 'b', 'c'].map((id) =>
      aTask(id, 's1', { slot: 1, status: statusOf('failed'), desiredState: 'shutdown', origin: { kind: 'replica' } }),
    )
    create(store, 1, failed, [aTask('d', 's1', { slot: 1, status: statusOf('new'), origin: { kind: 'replica' } })])
  })
  broken('acknowledged writes are kept', (checkers, store) => {
    create(store, 1, [task])
    checkers.acknowledged(2, store)
  })
})
