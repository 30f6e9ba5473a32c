/** For files that change what the cluster itself is: they begin with a new one, and leave none behind. */
import { callApi } from '../../../lab/engine-api.ts'
import type { Lab } from '../../../lab/lab.ts'
import type { LabHost } from '../../../lab/lab-host.ts'
import { Cluster } from './cluster.ts'
import { sharedLab, type TestFile } from './shared-lab.ts'

/** The shared lab with no host in a cluster, at the end again. */
export async function bareLab(t: TestFile): Promise<Lab> {
  const lab = await sharedLab(t)
  await leaveAll(lab)
  t.teardown(() => leaveAll(lab))
  return lab
}

/** A cluster that has just been made on the shared lab; the named hosts are workers. */
export async function freshCluster(
  t: TestFile,
  options: { readonly workers?: readonly string[] } = {},
): Promise<Cluster> {
  const { workers = [] } = options
  return Cluster.form(await bareLab(t), 'swarmd', (host) => (workers.includes(host.name) ? 'worker' : host.role))
}

/** One after the other: each manager that goes asks those that remain. */
export async function leaveAll(lab: Lab): Promise<void> {
  for (const host of lab.hosts) await leave(host)
}

async function leave(host: LabHost): Promise<void> {
  await host.boot()
  const socket = host.paths.swarmdSocket
  const info = JSON.parse((await callApi(socket, { path: '/info' })).body) as { Swarm: { LocalNodeState: string } }
  if (info.Swarm.LocalNodeState === 'inactive') return
  const left = await callApi(socket, { method: 'POST', path: '/swarm/leave?force=1' })
  if (left.status >= 400) throw new Error(`${host.name} does not leave: ${left.status} ${left.body}`)
}
