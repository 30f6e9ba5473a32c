/**
 * Updates of 10 replicas, two at a time, each pair watched for a second, until they are reported complete: a plain one, one that
 * fails and is rolled back, and one to tasks with a health check, beside the least that its rules allow.
 */
import { bareReplaceMs } from './bare.ts'
import type { BenchCluster } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { allRun, createService, removeServices, serviceSpec, updated } from './services.ts'

const REPLICAS = 10
const PARALLELISM = 2
const SECOND_NS = 1_000_000_000
const TARGET = 0.5
const TARGET_FLOOR = 1.2
const FLOOR = 'the floor'
/** Docker probes first one interval after the start. */
const HEALTH = { Test: ['CMD', 'true'], Interval: SECOND_NS, Timeout: SECOND_NS, Retries: 3 }
const config = { Parallelism: PARALLELISM, Monitor: SECOND_NS }
const more = {
  UpdateConfig: { ...config, FailureAction: 'rollback' },
  RollbackConfig: { ...config, FailureAction: 'pause' },
}

const KINDS = ['plain', 'failing, until it is rolled back', 'health check'] as const
type Kind = (typeof KINDS)[number]

async function measureOnce(cluster: BenchCluster): Promise<Readonly<Record<Kind, number>>> {
  const leader = await cluster.leader()
  const spec = serviceSpec('updated', { replicas: REPLICAS, more })
  const id = await createService(cluster, leader, spec)
  await allRun(cluster, leader, id, REPLICAS)
  const to = (container: Readonly<Record<string, unknown>>) => ({
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: { ...spec.TaskTemplate.ContainerSpec, ...container },
      ForceUpdate: 1,
    },
  })
  const plain = await updated(cluster, leader, id, to({}), 'completed')
  const startedMs = performance.now()
  await updated(cluster, leader, id, to({ Command: ['false'] }), 'rollback_completed')
  await allRun(cluster, leader, id, REPLICAS)
  const failing = performance.now() - startedMs
  const health = await updated(cluster, leader, id, to({ Healthcheck: HEALTH }), 'completed')
  await removeServices(cluster)
  return { plain, 'failing, until it is rolled back': failing, 'health check': health }
}

/** Each pair waits for its first probe, and the last one is watched. */
async function floorSeconds(bench: Bench): Promise<number> {
  const replaceMs = await bareReplaceMs(bench.ours.lab, PARALLELISM, { Healthcheck: HEALTH })
  return (REPLICAS / PARALLELISM) * (1 + replaceMs / 1000) + 1
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const values = new Map(KINDS.map((kind) => [kind, new Values()]))
  const floor: number[] = []
  for (const round of rounds(bench)) {
    floor.push(await floorSeconds(bench))
    values.get('health check')?.add(FLOOR, floor.at(-1) ?? 0)
    for (const cluster of sides(bench, round)) {
      const took = await measureOnce(cluster)
      for (const kind of KINDS) values.get(kind)?.add(cluster.title, took[kind] / 1000)
      const text = KINDS.map((kind) => `${kind} ${(took[kind] / 1000).toFixed(2)} s`).join(', ')
      bench.say(`${cluster.title}, update of ${REPLICAS}: ${text} (floor ${(floor.at(-1) ?? 0).toFixed(2)} s)`)
    }
  }
  const name = `update of ${REPLICAS}, parallelism ${PARALLELISM}, monitor 1 s`
  const about = { unit: 's', better: 'lower' } as const
  return KINDS.flatMap((kind) => {
    const of = values.get(kind) ?? new Values()
    const figureName = kind === 'plain' ? name : `${name}: ${kind}`
    if (kind !== 'health check') return [of.figure(bench, { ...about, name: figureName, target: TARGET })]
    return [
      of.figure(bench, { ...about, name: figureName }),
      of.figure(bench, { ...about, name: `${figureName}: the floor`, target: TARGET_FLOOR }, FLOOR),
    ]
  })
}

export const update: Measure = { name: 'update', minutes: 3, run }
