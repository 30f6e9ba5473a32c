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

/** How many of the service's tasks run, as `host` tells. */
export async function runningTasks(cluster: BenchCluster, host: LabHost, serviceId: string): Promise<number> {
  const filters = encodeURIComponent(JSON.stringify({ service: [serviceId] }))
  const tasks = await cluster.api<{ Status: { State: string }; DesiredState: string }[]>(
    host,
    'GET',
    `/tasks?filters=${filters}`,
  )
  return tasks.filter((task) => task.Status.State === 'running' && task.DesiredState === 'running').length
}

/** Removes every service, and waits until their containers are gone from the engines. */
export async function removeServices(cluster: BenchCluster): Promise<void> {
  const leader = await cluster.leader()
  const services = await cluster.api<{ ID: string }[]>(leader, 'GET', '/services')
  if (services.length === 0) return
  await load({
    socketPath: cluster.socket(leader),
    clients: DELETE_CLIENTS,
    requests: services.map(({ ID }) => ({ method: 'DELETE', path: `/services/${ID}` })),
  })
  await until('no container is left', async () => {
    const lists = await Promise.all(
      cluster.lab.hosts.map((host) => callApi(host.paths.engineSocket, { path: '/containers/json?all=1' })),
    )
    return lists.every(({ status, body }) => status === 200 && (JSON.parse(body) as unknown[]).length === 0)
  })
}
