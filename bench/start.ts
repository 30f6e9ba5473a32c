/**
 * What being on an overlay costs a task's start, beside Docker's own overlay and beside our tasks without one; and how soon a
 * task that runs is reached: by its service's virtual address, its name, and a published port of another node.
 */
import { parseTime } from '../src/lib/clock.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import { deployed } from './deploy.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf, sides, Values } from './measure.ts'
import { createService, removeServices, serviceSpec } from './services.ts'
import { firstAnswer, firstName, inContainer, type Place } from './traffic.ts'

const NETWORK = 'bench-start'
const PORT = 7008
const NAME_SERVER = '169.254.77.53'
const WITHIN_MS = 30_000
const ADDED_TARGET_MS = 80
const ALONE = 'without an overlay'
const PATHS = ['virtual address', 'name', 'published port of another node'] as const

async function makeNetwork(cluster: BenchCluster): Promise<void> {
  await cluster.api(await cluster.leader(), 'POST', '/networks/create', { Name: NETWORK, Driver: 'overlay' })
}

async function removeNetwork(cluster: BenchCluster): Promise<void> {
  const leader = await cluster.leader()
  await until(`${NETWORK} is removed`, async () => {
    await cluster.api(leader, 'DELETE', `/networks/${NETWORK}`)
    return true
  })
}

/** On Docker's side without a virtual address, which needs IPVS. */
function onOverlay(name: string, cluster: BenchCluster, replicas: number) {
  const spec = serviceSpec(name, { replicas })
  return {
    ...spec,
    TaskTemplate: { ...spec.TaskTemplate, Networks: [{ Target: NETWORK }] },
    EndpointSpec: { Mode: cluster.to === 'swarmd' ? 'vip' : 'dnsrr' },
  }
}

interface TaskJson {
  readonly Status: {
    readonly State: string
    readonly Timestamp: string
    readonly ContainerStatus?: { readonly ContainerID: string }
  }
}

async function runningTask(cluster: BenchCluster, serviceId: string): Promise<TaskJson> {
  const leader = await cluster.leader()
  const filters = encodeURIComponent(JSON.stringify({ service: [serviceId] }))
  return until('the task runs', async () => {
    const tasks = await cluster.api<readonly TaskJson[]>(leader, 'GET', `/tasks?filters=${filters}`)
    return tasks.find(({ Status }) => Status.State === 'running')
  })
}

/** From the moment at which the worker saw the task run, in milliseconds, in the order of PATHS. */
async function reached(cluster: BenchCluster, client: Place): Promise<readonly number[]> {
  const leader = await cluster.leader()
  const [entry, host] = cluster.lab.workers
  if (!entry || !host) throw new Error('a lab without two workers')
  const spec = onOverlay('bench-late', cluster, 1)
  const serviceId = await createService(cluster, leader, {
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: {
        ...spec.TaskTemplate.ContainerSpec,
        Command: ['sh', '-c', `while :; do nc -l -p ${PORT} -e cat; done`],
      },
      Placement: { Constraints: [`node.hostname==${host.name}`] },
    },
    EndpointSpec: {
      Mode: 'vip',
      Ports: [{ Protocol: 'tcp', TargetPort: PORT, PublishedPort: PORT, PublishMode: 'ingress' }],
    },
  } as never)
  const virtualIp = await until('it has a virtual address', async () => {
    const { Endpoint } = await cluster.api<{
      readonly Endpoint: { readonly VirtualIPs?: readonly { readonly Addr: string }[] }
    }>(leader, 'GET', `/services/${serviceId}`)
    return Endpoint.VirtualIPs?.map(({ Addr }) => Addr.split('/')[0] ?? '').find(
      (address) => !address.startsWith('100.'),
    )
  })
  const outside = cluster.lab.clientArgv([])
  const [task, ...answers] = await Promise.all([
    runningTask(cluster, serviceId),
    firstAnswer(client, virtualIp, PORT, WITHIN_MS),
    firstName(client, NAME_SERVER, 'tasks.bench-late', WITHIN_MS),
    firstAnswer(outside, entry.address, PORT, WITHIN_MS),
  ])
  await cluster.api(leader, 'DELETE', `/services/${serviceId}`)
  return answers.map((atMs) => atMs - parseTime(task.Status.Timestamp))
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const figures: Figure[] = []
  const { ours } = bench
  for (const cluster of sides(bench, 0)) await makeNetwork(cluster)
  for (const replicas of bench.quick ? [1] : [1, 10, 50]) {
    const values = new Values()
    for (const round of rounds(bench, replicas === 1 ? 2 * bench.runs : bench.runs)) {
      for (const cluster of sides(bench, round)) {
        const tookMs = await deployed(cluster, replicas, onOverlay('deployed', cluster, replicas))
        values.add(cluster.title, tookMs / 1000)
        bench.say(`${cluster.title}, ${replicas} replicas on an overlay: ${(tookMs / 1000).toFixed(2)} s`)
      }
      values.add(ALONE, (await deployed(ours, replicas)) / 1000)
    }
    const about = { name: `create → all Running on an overlay, ${replicas}`, unit: 's', better: 'lower' } as const
    figures.push(
      values.figure(bench, about),
      values.figure(bench, { ...about, name: `${about.name}: ${ALONE}` }, ALONE),
    )
    const [on, alone] = [values.sample(ours.title), values.sample(ALONE)]
    if (replicas === 1 && on && alone)
      figures.push({
        name: "what an overlay adds to a task's start",
        unit: 'ms',
        better: 'lower',
        ours: sampleOf([1000 * (on.median - alone.median)]),
        target: ADDED_TARGET_MS,
      })
  }
  const [clientHost] = ours.lab.workers
  if (!clientHost) throw new Error('a lab without workers')
  const took = PATHS.map((): number[] => [])
  for (const _ of rounds(bench)) {
    const leader = await ours.leader()
    const spec = onOverlay('bench-early', ours, 1)
    const placed = { ...spec.TaskTemplate, Placement: { Constraints: [`node.hostname==${clientHost.name}`] } }
    const client = await runningTask(
      ours,
      await createService(ours, leader, { ...spec, TaskTemplate: placed } as never),
    )
    const place = await inContainer(clientHost, client.Status.ContainerStatus?.ContainerID ?? '')
    const times = await reached(ours, place)
    for (const [at, ms] of times.entries()) took[at]?.push(ms)
    bench.say(`reached after ${times.map((ms, at) => `${ms} ms (${PATHS[at]})`).join(', ')}`)
    await removeServices(ours)
  }
  for (const cluster of sides(bench, 0)) await removeNetwork(cluster)
  const about = { unit: 'ms', better: 'lower' } as const
  return [
    ...figures,
    ...PATHS.map((path, at) => ({ ...about, name: `Running → first answer, ${path}`, ours: sampleOf(took[at] ?? []) })),
  ]
}

export const start: Measure = { name: 'start', minutes: 3, run }
