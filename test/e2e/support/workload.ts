/** A service that runs while faults are made, and what is seen of it on the engines. */
import type { LabHost } from '../../../lab/lab-host.ts'
import type { Cluster } from './cluster.ts'
import { waitFor } from './wait-for.ts'

export interface TaskJson {
  readonly ID: string
  readonly NodeID: string
  readonly Slot: number
  readonly DesiredState: string
  readonly Status: {
    readonly State: string
    readonly Message?: string
    readonly Err?: string
    readonly ContainerStatus?: { readonly ContainerID?: string; readonly ExitCode?: number }
  }
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
 * Waits until a service's tasks are `replicas` and say that they run, none of them one of `earlier`. Asks little: for many tasks on
 * hosts that have enough to do, before `settled`.
 */
export function running(
  cluster: Cluster,
  asked: LabHost,
  service: string,
  replicas: number,
  deadlineMs: number,
  earlier: readonly TaskJson[] = [],
): Promise<readonly TaskJson[]> {
  const gone = new Set(earlier.map((task) => task.ID))
  return waitFor(
    `${replicas} tasks of ${service} run`,
    async () => {
      const list = wantedTasks(await tasksOf(cluster, asked, service))
      const found = list.filter(({ ID, Status }) => Status.State === 'running' && !gone.has(ID))
      return [list, found].every((each) => each.length === replicas) && list
    },
    deadlineMs,
  )
}

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

/** Ends one container on `host` by its engine's own command, past the cluster. @returns the one of `tasks` that had it */
export async function byHand(
  host: LabHost,
  command: 'kill' | 'stop' | 'rm -f',
  tasks: readonly TaskJson[],
): Promise<TaskJson> {
  const [line = ''] = await taskContainers(host)
  const id = line.split(' ')[0] ?? ''
  const task = tasks.find(({ Status }) => Status.ContainerStatus?.ContainerID === id)
  if (!task) throw new Error(`${host.name} runs no container of these tasks`)
  const { code, stderr } = await host.docker([...command.split(' '), id])
  if (code !== 0) throw new Error(`docker ${command} on ${host.name}: ${stderr}`)
  return task
}

/** SIGKILL to the processes of all tasks of a host, with one command. @returns how many there were */
export async function killAllAtOnce(host: LabHost): Promise<number> {
  const ids = (await taskContainers(host)).map((line) => line.split(' ')[0] ?? '')
  if (ids.length === 0) return 0
  const pids = (await host.docker(['inspect', '-f', '{{.State.Pid}}', ...ids])).stdout.trim().split('\n')
  const { code, stderr } = await host.exec(['kill', '-9', ...pids])
  if (code !== 0) throw new Error(`kill on ${host.name}: ${stderr}`)
  return pids.length
}
