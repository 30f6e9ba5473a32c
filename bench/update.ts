/** An update of 10 replicas, two at a time, each pair watched for a second, until it is reported complete. */
import { type BenchCluster, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { createService, removeServices, runningTasks, serviceSpec } from './services.ts'

const REPLICAS = 10
const TARGET = 0.5
const more = { UpdateConfig: { Parallelism: 2, Monitor: 1_000_000_000, FailureAction: 'pause' } }

async function updated(cluster: BenchCluster): Promise<number> {
  const leader = await cluster.leader()
  const spec = serviceSpec('updated', { replicas: REPLICAS, more })
  const id = await createService(cluster, leader, spec)
  await until('all replicas run', async () => (await runningTasks(cluster, leader, id)) === REPLICAS)
  const { Version } = await cluster.api<{ Version: { Index: number } }>(leader, 'GET', `/services/${id}`)
  const startedMs = performance.now()
  await cluster.api(leader, 'POST', `/services/${id}/update?version=${Version.Index}`, {
    ...spec,
    TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 },
  })
  await until('the update is complete', async () => {
    const service = await cluster.api<{ UpdateStatus?: { State: string } }>(leader, 'GET', `/services/${id}`)
    return service.UpdateStatus?.State === 'completed'
  })
  const tookMs = performance.now() - startedMs
  await removeServices(cluster)
  return tookMs
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const values = new Values()
  for (const round of rounds(bench, Math.min(bench.runs, 3))) {
    for (const cluster of sides(bench, round)) {
      const seconds = (await updated(cluster)) / 1000
      values.add(cluster.title, seconds)
      bench.say(`${cluster.title}, update of ${REPLICAS}: ${seconds.toFixed(2)} s`)
    }
  }
  return [
    values.figure(bench, {
      name: `update of ${REPLICAS}, parallelism 2, monitor 1 s`,
      unit: 's',
      better: 'lower',
      target: TARGET,
    }),
  ]
}

export const update: Measure = { name: 'update', minutes: 1.5, run }
