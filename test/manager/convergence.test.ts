// Random histories: people change services and nodes, nodes come and go, leaders die. Whatever happened, once it is quiet the
// cluster is what its specs say, and on the way nothing impossible was seen.

import t from 'tap'
import type { Task } from '../../src/api/objects.ts'
import { compareTaskStates } from '../../src/api/spec.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { imageOf, nanos, replicatedSpec, SmallCluster } from './support/small-cluster.ts'

const SEEDS = 20
const STEPS = 25

class History {
  readonly cluster: SmallCluster
  readonly random: SeededRandom
  readonly trace: string[] = []
  version = 1

  constructor(cluster: SmallCluster, seed: number) {
    this.cluster = cluster
    this.random = new SeededRandom(seed)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.random.below(items.length)]!
  }

  async step(): Promise<void> {
    const { cluster, random } = this
    const node = this.pick(['n1', 'n2', 'n3', 'n4'])
    const service = this.pick(['web', 'first', 'agent'])
    const actions: Readonly<Record<string, () => Promise<void>>> = {
      elect: async () => cluster.elect(),
      scale: () => cluster.scale(this.pick(['web', 'first']), random.below(9)),
      update: () => cluster.setImage(service, `ok:v=${++this.version}`),
      fail: () => cluster.setImage(service, `crash=200:v=${++this.version}`),
      drain: () => cluster.setAvailability(node, 'drain'),
      pause: () => cluster.setAvailability(node, 'pause'),
      activate: () => cluster.setAvailability(node, 'active'),
      down: () => cluster.takeDown(node),
      up: () => cluster.bringBack(node),
      wait: () => cluster.clock.advance(random.below(3_000)),
    }
    const name = this.pick(['elect', 'elect', 'wait', ...Object.keys(actions)])
    this.trace.push(`${name} ${node} ${service}`)
    await actions[name]!()
    await cluster.clock.advance(random.below(400))
  }

  /** Everything is healed, and every service gets a last spec that works. */
  async calm(): Promise<void> {
    const { cluster } = this
    for (const node of ['n1', 'n2', 'n3', 'n4']) {
      await cluster.setAvailability(node, 'active')
      await cluster.bringBack(node)
    }
    await cluster.scale('web', 6)
    await cluster.scale('first', 4)
    for (const service of ['web', 'first', 'agent']) await cluster.setImage(service, `ok:final=${++this.version}`)
  }
}

/** Watches every event for what may never happen. */
function watchForImpossible(cluster: SmallCluster, fail: (what: string) => void): void {
  cluster.store.subscribe((events) => {
    for (const { kind, old, new: next } of events) {
      if (next?.kind !== 'task') continue
      if (kind === 'create' && !['new', 'pending'].includes(next.status.state))
        fail(`${next.id} was born ${next.status.state}`)
      if (old?.kind !== 'task') continue
      if (compareTaskStates(next.status.state, old.status.state) < 0) fail(`${next.id}: observed state fell`)
      if (compareTaskStates(next.desiredState, old.desiredState) < 0) fail(`${next.id}: desired state fell`)
      if (old.nodeId && old.nodeId !== next.nodeId) fail(`${next.id} moved`)
    }
  })
}

function untidy(cluster: SmallCluster): string | undefined {
  for (const [service, slots] of [
    ['web', 6],
    ['first', 4],
  ] as const) {
    const live = cluster.tasks(service).filter((task) => task.desiredState !== 'shutdown')
    const taken = new Set(live.map((task) => task.slot))
    if (live.length !== slots || taken.size !== slots)
      return `${service} has ${live.length} tasks in ${taken.size} slots`
  }
  const agents = new Set(cluster.running('agent').map((task) => task.nodeId))
  if (agents.size !== 4 || cluster.running('agent').length !== 4) return `agent runs on ${[...agents].join(' ')}`
  const stray = (task: Task) => task.status.state !== 'running' || !imageOf(task).startsWith('ok:final=')
  const all = ['web', 'first', 'agent'].flatMap((id) =>
    cluster.tasks(id).filter((task) => task.desiredState !== 'shutdown'),
  )
  return all.some(stray) ? 'a task is not what it should be' : undefined
}

t.test(`${SEEDS} random histories end as the specs say`, async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const cluster = await SmallCluster.start({ nodes: 4, seed })
    const history = new History(cluster, seed)
    const broken: string[] = []
    watchForImpossible(cluster, (what) => broken.push(what))
    const UpdateConfig = { Parallelism: 2, Monitor: nanos(500), FailureAction: 'rollback' as const }
    const RollbackConfig = { Monitor: nanos(200) }
    await cluster.create('web', replicatedSpec(5, { UpdateConfig, RollbackConfig }))
    await cluster.create(
      'first',
      replicatedSpec(3, { UpdateConfig: { ...UpdateConfig, Order: 'start-first' }, RollbackConfig }),
    )
    await cluster.create('agent', {
      ...replicatedSpec(1, { UpdateConfig: { Monitor: nanos(100) } }),
      Mode: { Global: {} },
    })
    for (let n = 0; n < STEPS; n++) await history.step()
    await history.calm()
    const quiet = () => cluster.until(() => untidy(cluster) === undefined, 'order', 300_000)
    await quiet().catch(() => broken.push(untidy(cluster) ?? 'too late'))
    await cluster.clock.advance(30_000)
    const disorder = untidy(cluster)
    if (disorder) broken.push(`later: ${disorder}`)
    const problems = cluster.loops.flatMap((loop) => [...loop.problems().values()])
    t.same(broken, [], `seed ${seed}: ${broken.length > 0 ? history.trace.join(', ') : 'in order'}`)
    t.same(problems, [], `seed ${seed}: no key is stuck`)
    await cluster.stop()
  }
})
