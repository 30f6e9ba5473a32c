/** A service that runs while faults are made, and what is seen of it on the engines. */
import type { LabHost } from '../../../lab/lab-host.ts'
import type { Cluster } from './cluster.ts'

export interface TaskJson {
  readonly ID: string
  readonly NodeID: string
  readonly Slot: number
  readonly DesiredState: string
  readonly Status: { readonly State: string; readonly ContainerStatus?: { readonly ContainerID?: string } }
}

/** Every running container of a task on a host's engine, with when it was started. */
export async function taskContainers(host: LabHost): Promise<readonly string[]> {
  if (!host.process('engine')) return []
  const filter = ['--filter', 'label=com.docker.swarm.task.id', '--filter', 'status=running']
  const listed = await host.docker(['ps', '-q', '--no-trunc', ...filter])
  const ids = listed.stdout.split('\n').filter((id) => id !== '')
  if (ids.length === 0) return []
  const shown = await host.docker(['inspect', '-f', '{{.Id}} {{.State.StartedAt}}', ...ids])
  return shown.stdout.trim().split('\n').toSorted()
}

export function tasksOf(cluster: Cluster, asked: LabHost, service: string): Promise<readonly TaskJson[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: [service] }))
  return cluster.api<readonly TaskJson[]>(asked, 'GET', `/tasks?filters=${filters}`)
}

export const wantedTasks = (list: readonly TaskJson[]): readonly TaskJson[] =>
  list.filter((task) => task.DesiredState === 'running')

/**
 * Waits until the cluster's only service has exactly its `replicas` tasks, each running in a container that is there, and
 * no other container runs anywhere.
 */
export function settled(
  cluster: Cluster,
  asked: LabHost,
  service: string,
  replicas: number,
  deadlineMs: number,
): Promise<readonly TaskJson[]> {
  return cluster.waitFor(
    `${replicas} tasks of ${service} run, in containers that are there`,
    async () => {
      const list = wantedTasks(await tasksOf(cluster, asked, service))
      const there = (await Promise.all(cluster.lab.hosts.map(taskContainers))).flat()
      const found = list.filter(
        ({ Status }) =>
          Status.State === 'running' &&
          there.some((line) => line.startsWith(`${Status.ContainerStatus?.ContainerID} `)),
      )
      return [list, found, there].every((each) => each.length === replicas) && list
    },
    deadlineMs,
    asked,
  )
}
