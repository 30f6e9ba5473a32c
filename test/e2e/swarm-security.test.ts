// Keys of a cluster on real processes: autolock over restarts.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { settled, taskContainers } from './support/workload.ts'

const WAIT_MS = 120_000
const SERVICE = 'security-web'
const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'

const cluster = await freshCluster(t)
const { lab } = cluster
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]
t.teardown(async () => {
  for (const host of lab.hosts) await host.boot()
})

const fileOf = (host: LabHost, name: string): string => readFileSync(join(host.paths.swarmdData, 'swarm', name), 'utf8')
const isSealed = (host: LabHost): boolean =>
  !fileOf(host, 'identity.json').includes('PRIVATE KEY') && fileOf(host, 'raft.key').startsWith('{')
const sealed = (hosts: readonly LabHost[], wanted: boolean) =>
  cluster.waitFor('keys are sealed, or not', async () => hosts.every((host) => isSealed(host) === wanted), WAIT_MS, n1)
const stateOf = async (host: LabHost): Promise<string> => (await cluster.swarmState(host)).LocalNodeState
const unlock = (host: LabHost, key: string) => host.swarmctl(['swarm', 'unlock'], { input: `${key}\n` })
const reachable = (asked: LabHost) =>
  cluster.waitFor(
    'every manager takes part',
    async () => {
      const status = await cluster.docker(asked, 'node', 'ls', '--format', '{{.ManagerStatus}} {{.Status}}')
      return status
        .trim()
        .split('\n')
        .every((line) => /^(Leader|Reachable)? ?Ready$/.test(line.trim()))
    },
    WAIT_MS,
    asked,
  )

const create = ['service', 'create', '-d', '--no-resolve-image', '--name', SERVICE, '--mode', 'global', 'busybox']
await cluster.docker(n1, ...create)
await settled(cluster, n1, SERVICE, 3, WAIT_MS)

t.test('a restarted manager is locked until the key is given; its containers run on', async (t) => {
  const told = await cluster.docker(n1, 'swarm', 'update', '--autolock')
  const key = /SWMKEY-1-\S+/.exec(told)?.[0] ?? ''
  t.equal((await cluster.docker(n2, 'swarm', 'unlock-key', '-q')).trim(), key)
  await sealed(lab.hosts, true)
  const before = await taskContainers(n2)

  await n2.restartSwarmd()
  t.match(await cluster.swarmState(n2), { LocalNodeState: 'locked', NodeID: '', Error: LOCKED })
  t.match(await cluster.docker(n2, 'info'), /Swarm: locked/)
  t.match(await cluster.tryDocker(n2, ['node', 'ls']), { code: 1, stderr: LOCKED })
  t.match(await cluster.tryDocker(n2, ['swarm', 'leave']), { code: 1, stderr: /encrypted and locked/ })
  t.same(await taskContainers(n2), before)
  t.match(await unlock(n2, 'SWMKEY-1-nonsense'), {
    code: 1,
    stderr: /swarm could not be unlocked: invalid key provided/,
  })
  t.match(await unlock(n2, 'nonsense'), { code: 1, stderr: /invalid key string/ })
  t.equal(await stateOf(n2), 'locked')
  t.match(await unlock(n2, key), { code: 0, stdout: '', stderr: '' })
  t.equal(await stateOf(n2), 'active')
  t.match(await cluster.tryDocker(n2, ['swarm', 'unlock']), { code: 1, stderr: /swarm is not locked/ })
  await reachable(n2)
  t.same(await taskContainers(n2), before, 'the same containers')

  // Another key: who was locked meanwhile opens with the old one, and has the new one then.
  await n3.restartSwarmd()
  const rotated = (await cluster.docker(n1, 'swarm', 'unlock-key', '-q', '--rotate')).trim()
  t.match(rotated, /^SWMKEY-1-/)
  t.not(rotated, key)
  const texts = [n1, n2].map((host) => fileOf(host, 'identity.json'))
  t.match(await unlock(n3, rotated), { code: 1, stderr: /invalid key provided/ })
  t.match(await unlock(n3, key), { code: 0 })
  await reachable(n1)
  await cluster.waitFor(
    'the key has reached every manager',
    async () => {
      await n3.restartSwarmd()
      return (await unlock(n3, rotated)).code === 0
    },
    WAIT_MS,
    n1,
  )
  t.ok(texts.every((text) => text.includes('sealedKey')))

  // A worker has nothing of the cluster's on its disk.
  await cluster.docker(n1, 'node', 'demote', 'n3')
  await cluster.waitFor(
    'the key of a worker is in clear',
    async () => fileOf(n3, 'identity.json').includes('PRIVATE KEY'),
    WAIT_MS,
    n1,
  )
  await n3.restartSwarmd()
  t.equal(await stateOf(n3), 'active')
  await cluster.docker(n1, 'node', 'promote', 'n3')
  await cluster.waitFor(
    'the key of a manager is sealed',
    async () => fileOf(n3, 'raft.key').startsWith('{'),
    WAIT_MS,
    n1,
  )

  t.equal(await cluster.docker(n1, 'swarm', 'update', '--autolock=false'), 'Swarm updated.\n')
  await sealed(lab.hosts, false)
  await n2.restartSwarmd()
  t.equal(await stateOf(n2), 'active')
  await reachable(n1)
})
