/** Services as the measures make and remove them. */
import { callApi } from '../lab/engine-api.ts'
import type { LabHost } from '../lab/lab-host.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import { load } from './load.ts'

const DELETE_CLIENTS = 16

export interface ServiceOptions {
  readonly replicas: number
  readonly more?: Readonly<Record<string, unknown>>
}

export function serviceSpec(name: string, { replicas, more }: ServiceOptions) {
  return {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: 'busybox:latest', StopGracePeriod: 1_000_000_000 }, ForceUpdate: 0 },
    Mode: { Replicated: { Replicas: replicas } },
    ...more,
  }
}

export type ServiceSpec = ReturnType<typeof serviceSpec>

export async function createService(cluster: BenchCluster, host: LabHost, spec: ServiceSpec): Promise<string> {
  return (await cluster.api<{ ID: string }>(host, 'POST', '/services/create', spec)).ID
}

export interface TaskObject {
  readonly ID: string
  readonly NodeID?: string
  readonly Status: { readonly State: string }
  readonly DesiredState: string
}

/** The service's tasks that run and are to run, as `host` tells. */
export async function tasksThatRun(
  cluster: BenchCluster,
  host: LabHost,
  serviceId: string,
): Promise<readonly TaskObject[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: [serviceId] }))
  const tasks = await cluster.api<readonly TaskObject[]>(host, 'GET', `/tasks?filters=${filters}`)
  return tasks.filter((task) => task.Status.State === 'running' && task.DesiredState === 'running')
}

export async function runningTasks(cluster: BenchCluster, host: LabHost, serviceId: string): Promise<number> {
  return (await tasksThatRun(cluster, host, serviceId)).length
}

export async function allRun(cluster: BenchCluster, host: LabHost, serviceId: string, replicas: number): Promise<void> {
  await until('all replicas run', async () => (await runningTasks(cluster, host, serviceId)) === replicas)
}

interface ServiceObject {
  readonly Version: { readonly Index: number }
  readonly UpdateStatus?: { readonly State: string }
}

/** Milliseconds from the request until the service's update is reported to be in `state`, or to have ended otherwise. */
export async function updated(
  cluster: BenchCluster,
  host: LabHost,
  serviceId: string,
  spec: unknown,
  state: 'completed' | 'rollback_completed',
): Promise<number> {
  const path = `/services/${serviceId}`
  const { Version } = await cluster.api<ServiceObject>(host, 'GET', path)
  const startedMs = performance.now()
  await cluster.api(host, 'POST', `${path}/update?version=${Version.Index}`, spec)
  const ended = await until(`the update is ${state}`, async () => {
    const { UpdateStatus } = await cluster.api<ServiceObject>(host, 'GET', path)
    return ENDED.has(UpdateStatus?.State ?? '') && UpdateStatus?.State
  })
  if (ended !== state) throw new Error(`${cluster.title}: an update that was to be ${state} is ${ended}`)
  return performance.now() - startedMs
}

const ENDED: ReadonlySet<string> = new Set(['completed', 'rollback_completed', 'paused', 'rollback_paused'])

/** How many containers run on the hosts' engines, or are there at all. */
export async function containers(cluster: BenchCluster, which: 'running' | 'all'): Promise<number> {
  const lists = await Promise.all(
    cluster.lab.hosts.map(async (host) => {
      const path = `/containers/json${which === 'all' ? '?all=1' : ''}`
      const { status, body } = await callApi(host.paths.engineSocket, { path })
      if (status !== 200) throw new Error(`${host.name}: ${status} ${body}`)
      return (JSON.parse(body) as unknown[]).length
    }),
  )
  return lists.reduce((sum, count) => sum + count, 0)
}

/** Removes every service, and waits until their containers are gone from the engines. @returns milliseconds */
export async function removeServices(cluster: BenchCluster): Promise<number> {
  const leader = await cluster.leader()
  const services = await cluster.api<{ ID: string }[]>(leader, 'GET', '/services')
  if (services.length === 0) return 0
  const startedMs = performance.now()
  const requests = services.map(({ ID }) => ({ method: 'DELETE', path: `/services/${ID}` }))
  const [first] = requests
  // one by itself needs no process that sends it
  if (first && requests.length === 1) await cluster.api(leader, first.method, first.path)
  else await load({ socketPath: cluster.socket(leader), clients: DELETE_CLIENTS, requests })
  await until('no container is left', async () => (await containers(cluster, 'all')) === 0)
  return performance.now() - startedMs
}
