/** What a task sees: commands in its container, wherever it runs. */
import type { LabHost } from '../../../lab/lab-host.ts'
import type { RunResult } from '../../../lab/run.ts'
import type { Cluster } from './cluster.ts'
import { type Answer, parseAnswer } from './outside.ts'

export interface Inside {
  readonly taskId: string
  readonly host: LabHost
  readonly containerId: string
  exec(...argv: string[]): Promise<RunResult>
}

interface ShownTask {
  readonly ID: string
  readonly NodeID: string
  readonly Slot: number
  readonly Status: { readonly State: string; readonly ContainerStatus?: { readonly ContainerID?: string } }
}

/** The running tasks of a service, in the order of their slots. */
export async function insideOf(cluster: Cluster, service: string): Promise<readonly Inside[]> {
  const asked = cluster.manager()
  const filters = encodeURIComponent(JSON.stringify({ service: [service], 'desired-state': ['running'] }))
  const tasks = await cluster.api<readonly ShownTask[]>(asked, 'GET', `/tasks?filters=${filters}`)
  const nodes = new Map<string, LabHost>()
  for (const host of cluster.lab.hosts) nodes.set((await cluster.swarmState(host)).NodeID, host)
  return tasks
    .filter(({ Status }) => Status.State === 'running')
    .toSorted((a, b) => a.Slot - b.Slot)
    .map(({ ID, NodeID, Status }) => {
      const host = nodes.get(NodeID)
      const containerId = Status.ContainerStatus?.ContainerID
      if (!host || !containerId) throw new Error(`task ${ID} runs nowhere`)
      return {
        taskId: ID,
        host,
        containerId,
        exec: (...argv) => host.docker(['exec', containerId, ...argv], { timeoutMs: 30_000 }),
      }
    })
}

const FETCH = `
  require('http').get({ host: process.argv[1], port: 8080, agent: false, timeout: 3000, family: +process.argv[2] || undefined },
    (r) => r.pipe(process.stdout)).on('timeout', function () { this.destroy(new Error('timed out')) })
    .on('error', (e) => { console.error(e.code || e.message); process.exit(1) })
`

/** One request from a container that has node to port 8080 of a name or address. @throws with the error's code */
export async function fetchFrom(inside: Inside, name: string, family: 0 | 4 | 6 = 0): Promise<Answer> {
  const { code, stdout, stderr } = await inside.exec('node', '-e', FETCH, name, String(family))
  if (code !== 0) throw new Error(`${name} from ${inside.host.name}: ${stderr.trim()}`)
  return parseAnswer(stdout)
}

/** Whether one echo request is answered within a second. */
export async function pings(inside: Inside, address: string): Promise<boolean> {
  return (await inside.exec('ping', '-c', '1', '-W', '1', address)).code === 0
}

/** Addresses that the container itself has, without prefix, by device. */
export async function addressesOf(inside: Inside): Promise<readonly string[]> {
  const { stdout } = await inside.exec('ip', 'addr', 'show')
  return [...stdout.matchAll(/inet6? ([0-9a-f.:]+)\//g)].map((match) => match[1] ?? '')
}
