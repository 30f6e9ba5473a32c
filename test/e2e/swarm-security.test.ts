// Keys and certificates of a cluster on real processes: autolock over restarts, rotation of the root over elections,
// and a cluster whose majority is lost.

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

const reachableManagers = (asked: LabHost) =>
  cluster.waitFor(
    'the managers take part',
    async () => {
      const status = await cluster.docker(asked, 'node', 'ls', '--format', '{{.ManagerStatus}}')
      return status.includes('Leader') && status.includes('Reachable')
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

  // Whoever has lost the key takes the machine out.
  const lost = (await cluster.swarmState(n3)).NodeID
  await n3.restartSwarmd()
  t.equal(await stateOf(n3), 'locked')
  t.match(await cluster.tryDocker(n3, ['swarm', 'leave', '--force']), { code: 0, stdout: 'Node left the swarm.\n' })
  t.equal(await stateOf(n3), 'inactive')
  t.same(await taskContainers(n3), [], 'its containers go')
  await cluster.docker(n1, 'node', 'demote', lost)
  await cluster.waitFor(
    'the node that is gone is removed',
    async () => (await cluster.tryDocker(n1, ['node', 'rm', '--force', lost])).code === 0,
    WAIT_MS,
    n1,
  )
  const token = (await cluster.docker(n1, 'swarm', 'join-token', '-q', 'manager')).trim()
  await cluster.docker(n3, 'swarm', 'join', '--token', token, `${n1.address}:2377`)
  await sealed([n3], true)
  await settled(cluster, n1, SERVICE, 3, WAIT_MS)

  t.equal(await cluster.docker(n1, 'swarm', 'update', '--autolock=false'), 'Swarm updated.\n')
  await sealed(lab.hosts, false)
  await n2.restartSwarmd()
  t.equal(await stateOf(n2), 'active')
  await reachable(n1)
})

interface SwarmJson {
  readonly JoinTokens: { readonly Worker: string }
  readonly TLSInfo: { readonly TrustRoot: string }
  readonly RootRotationInProgress: boolean
}

t.test('the root is rotated under running tasks, whoever leads, and waits for a node that is down', async (t) => {
  await cluster.docker(n1, 'node', 'demote', 'n3')
  await reachable(n1)
  const swarm = (host = n1) => cluster.api<SwarmJson>(host, 'GET', '/swarm')
  const before = await swarm()
  const containers = await Promise.all(lab.hosts.map(taskContainers))
  t.equal((await cluster.docker(n1, 'swarm', 'ca')).trim(), before.TLSInfo.TrustRoot.trim())

  const printed = await n1.swarmctl(['swarm', 'ca', '--rotate'])
  const after = await swarm(n2)
  t.equal(printed.code, 0, printed.stderr)
  t.match(printed.stdout, /desired root digest: sha256:[0-9a-f]{64}/)
  t.ok(printed.stdout.includes(after.TLSInfo.TrustRoot.trim()))
  t.not(after.TLSInfo.TrustRoot, before.TLSInfo.TrustRoot)
  t.equal(after.RootRotationInProgress, false)
  t.not(after.JoinTokens.Worker, before.JoinTokens.Worker)
  t.equal(await cluster.docker(n2, 'node', 'ls', '--format', '{{.TLSStatus}}'), 'Ready\nReady\nReady\n')
  t.same(await Promise.all(lab.hosts.map(taskContainers)), containers)

  await n3.stopSwarmd()
  await cluster.docker(n1, 'swarm', 'ca', '--rotate', '-d', '-q')
  const leader = await cluster.leader()
  const other = leader === n1 ? n2 : n1
  const statuses = () => cluster.docker(other, 'node', 'ls', '--format', '{{.Hostname}} {{.TLSStatus}}')
  await cluster.waitFor(
    'those that are there have changed',
    async () => /n1 Ready\nn2 Ready\nn3 Needs Rotation/.test(await statuses()),
    WAIT_MS,
    other,
  )
  t.match(await swarm(other), { RootRotationInProgress: true, JoinTokens: { Worker: after.JoinTokens.Worker } })
  await leader.restartSwarmd()
  await reachableManagers(other)
  await n3.startSwarmd()
  await cluster.waitFor('it is over', async () => !(await swarm(other)).RootRotationInProgress, WAIT_MS, other)
  const last = await swarm(other)
  t.not(last.TLSInfo.TrustRoot, after.TLSInfo.TrustRoot)
  await cluster.waitFor(
    'every node trusts the new root alone',
    async () => {
      const nodes = await cluster.api<{ Description: { TLSInfo: { TrustRoot: string } } }[]>(other, 'GET', '/nodes')
      return nodes.every(({ Description }) => Description.TLSInfo.TrustRoot === last.TLSInfo.TrustRoot)
    },
    WAIT_MS,
    other,
  )
  t.equal(JSON.parse(fileOf(n3, 'identity.json')).rootsPem.length, 1)
  t.same(await Promise.all(lab.hosts.map(taskContainers)), containers, 'no container was touched')

  await n3.swarmctl(['swarm', 'leave'])
  const join = (token: string) => n3.swarmctl(['swarm', 'join', '--token', token, `${n1.address}:2377`])
  t.match(await join(after.JoinTokens.Worker), { code: 1, stderr: /remote CA does not match fingerprint/ })
  t.match(await join(last.JoinTokens.Worker), { code: 0 })
  await n3.swarmctl(['swarm', 'leave'])
  await cluster.waitFor(
    'it is down',
    async () => (await cluster.docker(n1, 'node', 'ls')).includes('Down'),
    WAIT_MS,
    n1,
  )
})

t.test('a manager whose majority is lost goes on alone; the others come back as workers', async (t) => {
  // n3 is out of the swarm since the rotation.
  await cluster.docker(n1, 'swarm', 'update', '--task-history-limit', '3')
  const { JoinTokens } = await cluster.api<{ JoinTokens: { Manager: string } }>(n1, 'GET', '/swarm')
  await cluster.docker(n3, 'swarm', 'join', '--token', JoinTokens.Manager, `${n1.address}:2377`)
  await cluster.docker(n1, 'config', 'create', 'security-kept', '/etc/hostname')
  const kept = await cluster.docker(n1, 'config', 'ls', '-q')
  const services = await cluster.docker(n1, 'service', 'ls', '-q')
  const [before] = await Promise.all([n1].map(taskContainers))
  await Promise.all([n2.killSwarmd(), n3.killSwarmd()])
  t.match(await cluster.tryDocker(n1, ['service', 'ls']), { code: 1, stderr: /The swarm does not have a leader/ })
  t.match(await cluster.tryDocker(n1, ['swarm', 'init']), { code: 1, stderr: /already part of a swarm/ })
  const anew = await n1.swarmctl(['swarm', 'init', '--force-new-cluster', '--task-history-limit', '7'])
  const id = (await cluster.swarmState(n1)).NodeID
  t.match(anew.stdout, `Swarm initialized: current node (${id}) is now a manager.`, anew.stderr)
  t.equal(await cluster.docker(n1, 'config', 'ls', '-q'), kept)
  t.equal(await cluster.docker(n1, 'service', 'ls', '-q'), services)
  t.match(await cluster.docker(n1, 'info'), /Managers: 1\n(.*\n)*.*Task History Retention Limit: 7/)
  const nodes = async () =>
    (await cluster.docker(n1, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}')).trim()
  t.match(await nodes(), /n1 Leader/)
  t.notMatch(await nodes(), /Reachable|Unreachable/)
  t.same(await taskContainers(n1), before, 'its containers run on')

  // One that comes back is told that it is a worker; it serves again.
  await n2.startSwarmd()
  await cluster.waitFor(
    'n2 is a worker',
    async () => {
      const state = await cluster.swarmState(n2)
      const ready = await cluster.docker(n1, 'node', 'ls', '--format', '{{.Hostname}} {{.Status}}')
      return state.LocalNodeState === 'active' && !state.ControlAvailable && ready.includes('n2 Ready')
    },
    WAIT_MS,
    n1,
  )
  await cluster.docker(n1, 'node', 'promote', 'n2')
  await reachableManagers(n1)
  await n1.restartSwarmd()
  await reachableManagers(n2)
  t.equal(await cluster.docker(n2, 'config', 'ls', '-q'), kept)
})

t.test('an earlier state that was kept can be looked at and gone back to', async (t) => {
  await cluster.docker(n1, 'swarm', 'update', '--max-snapshots', '3', '--snapshot-interval', '8')
  const write = async (count: number) => {
    for (let i = 0; i < count; i++) await cluster.docker(n1, 'swarm', 'update', '--task-history-limit', String(i + 1))
  }
  await cluster.docker(n1, 'config', 'create', 'security-removed', '/etc/hostname')
  await write(10)
  await cluster.docker(n1, 'config', 'rm', 'security-removed')
  await write(10)
  const indexes = (await cluster.swarmctl(n1, 'swarm', 'snapshots', '-q')).trim().split('\n')
  t.ok(indexes.length > 1 && indexes.length <= 4, indexes.join())
  const listed = await cluster.swarmctl(n1, 'swarm', 'snapshots', '--format', '{{.Index}} {{.Replaced}}')
  t.match(listed, /^\d+ \n\d+ .* ago\n/)
  const states = await Promise.all(indexes.map(async (index) => cluster.swarmctl(n1, 'swarm', 'snapshots', index)))
  const wanted = indexes[states.findIndex((state) => state.includes('"security-removed"'))] ?? ''
  t.match(await n1.swarmctl(['swarm', 'init', '--force-new-cluster', '--from-snapshot', '1']), {
    code: 1,
    stderr: /this manager has no snapshot at index 1: it has \d/,
  })
  const anew = await n1.swarmctl(['swarm', 'init', '--force-new-cluster', '--from-snapshot', wanted])
  t.equal(anew.code, 0, anew.stderr)
  t.match(await cluster.docker(n1, 'config', 'ls', '--format', '{{.Name}}'), /^security-removed$/m)
})
