// Two builds of swarmd in one cluster, the second with a higher feature level: machines are upgraded one after the other
// under running containers, and a build that cannot do what the cluster may ask of it stops with a message.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { projectRoot } from '../../lab/layout.ts'
import { must } from '../../lab/run.ts'
import { readState, type SwarmdOptions } from '../../lab/state.ts'
import { RecordKeyFile } from '../../src/daemon/record-key.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { encode } from '../../src/lib/codec.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import { ENTRY_FORMAT } from '../../src/manager/store/entry.ts'
import { LevelRecordStore } from '../../src/raft/level-record-store.ts'
import { encodeEnvelope } from '../../src/raft/proposal-envelope.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import { freshCluster, leaveAll } from './support/fresh-cluster.ts'

const WAIT_MS = 120_000
const NEWER_LEVEL = OWN_FEATURE_LEVEL + 1
const cluster = await freshCluster(t, { workers: ['n3'] })
const { lab } = cluster
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]
const old: SwarmdOptions = readState(lab.dir)?.hosts[0]?.swarmd ?? {}
const folder = mkdtempSync(join(tmpdir(), 'swarmctl-e2e-build-'))
const newer: SwarmdOptions = { ...old, program: join(folder, 'swarmd.mjs') }
await must([process.execPath, 'scripts/bundle.mjs', `--outdir=${folder}`, `--feature-level=${NEWER_LEVEL}`], {
  cwd: projectRoot,
})
t.teardown(async () => {
  await leaveAll(lab) // an older build would not start in a cluster of a higher level
  for (const host of lab.hosts) await host.restartSwarmd(old)
  rmSync(folder, { recursive: true, force: true })
})

await cluster.docker(
  n1,
  'service',
  'create',
  '-d',
  '--no-resolve-image',
  '--name',
  'versions-web',
  '--mode',
  'global',
  'busybox',
)
await cluster.waitFor(
  'a task runs everywhere',
  async () => (await containers()).every((lines) => lines !== ''),
  WAIT_MS,
)

/** What runs on each host, with its start. */
function containers(): Promise<readonly string[]> {
  return Promise.all(
    lab.hosts.map(async (host) => {
      const ids = (await host.docker(['ps', '-q', '--no-trunc', '--filter', 'name=versions-web'])).stdout.trim()
      return ids && (await host.docker(['inspect', '-f', '{{.Id}} {{.State.StartedAt}}', ...ids.split('\n')])).stdout
    }),
  )
}

/** The lines of a log that came after `from` characters. */
const logOf = (host: LabHost, from = 0): string => readFileSync(host.paths.swarmdLog, 'utf8').slice(from)
const logged = (from: readonly number[]) => lab.hosts.map((host, index) => logOf(host, from[index])).join('')

async function ready(): Promise<void> {
  const isReady = async () => {
    const states = await cluster.docker(n1, 'node', 'ls', '--format', '{{.Status}}')
    return states.trim() === 'Ready\nReady\nReady'
  }
  await cluster.waitFor('every node is ready', isReady, WAIT_MS)
}

t.test('machines are upgraded one by one, no container restarts, and the last manager raises the level', async (t) => {
  const before = await containers()
  const from = lab.hosts.map((host) => logOf(host).length)
  const leader = await cluster.leader()
  const follower = leader === n1 ? n2 : n1
  for (const host of [n3, follower, leader]) {
    t.notMatch(logged(from), 'feature level raised', `${host.name} is to be upgraded yet`)
    await host.restartSwarmd(newer)
    await ready()
    if (host === follower) {
      const known = async () => logged(from).includes(`"featureLevel":${NEWER_LEVEL},"msg":"manager is back"`)
      await cluster.waitFor('the cluster knows what the follower can do', known, WAIT_MS)
    }
    t.strictSame(await containers(), before, `after the upgrade of ${host.name}`)
  }
  const raised = async () => logged(from).includes(`"featureLevel":${NEWER_LEVEL},"msg":"feature level raised"`)
  await cluster.waitFor('the level is raised', raised, WAIT_MS)
  await cluster.docker(n1, 'config', 'create', 'versions-after', '/etc/hostname')
})

t.test('an older build is then no manager of this cluster: neither a new one nor one that was', async (t) => {
  const says = new RegExp(
    `this version of swarmd supports feature level ${OWN_FEATURE_LEVEL}, the cluster is at ${NEWER_LEVEL}: upgrade swarmd on this node`,
  )
  const token = (await cluster.docker(n1, 'swarm', 'join-token', '-q', 'manager')).trim()
  await cluster.docker(n3, 'swarm', 'leave')
  await n3.restartSwarmd(old)
  const joined = await cluster.tryDocker(n3, ['swarm', 'join', '--token', token, `${n1.address}:2377`])
  t.match(joined, { code: 1, stderr: says })
  t.match(await cluster.swarmState(n3), { LocalNodeState: 'inactive', NodeID: '' }, 'nothing is left of the attempt')
  t.notOk(existsSync(join(n3.paths.swarmdData, 'swarm')))

  await n2.stopSwarmd()
  const [before] = await containers()
  t.match(
    await n2.exec(['timeout', '60', ...n2.swarmdArgv(old)]),
    { code: 1, stderr: says },
    'an upgraded one goes back',
  )
  await n2.startSwarmd(newer)
  await cluster.waitFor(
    'n2 is a manager again',
    async () => (await cluster.docker(n2, 'node', 'ls', '-q')) !== '',
    WAIT_MS,
  )
  t.equal((await containers())[0], before)
})

t.test('an entry of a format that a build does not know stops it, with a message; containers run on', async (t) => {
  await cluster.docker(n3, 'swarm', 'init', '--advertise-addr', n3.address)
  await cluster.docker(n3, 'service', 'create', '-d', '--no-resolve-image', '--name', 'versions-web', 'busybox')
  const container = await cluster.waitFor('it runs', async () => (await containers())[2], WAIT_MS, n3)
  await n3.stopSwarmd()
  await appendNewerEntry(join(n3.paths.swarmdData, 'swarm'))
  t.match(await n3.exec(['timeout', '60', ...n3.swarmdArgv(old)]), {
    code: 1,
    stderr: `the cluster's log holds an entry of format ${ENTRY_FORMAT + 1} that this version of swarmd does not know: upgrade swarmd on this node`,
  })
  t.equal((await containers())[2], container)

  // The way out of it here: this cluster of one is given up.
  rmSync(join(n3.paths.swarmdData, 'swarm'), { recursive: true })
  await n3.docker(['rm', '-f', container.split(' ')[0] ?? ''])
  await n3.startSwarmd(old)
})

/** As a newer version would have written it: the log of this manager, committed. */
async function appendNewerEntry(directory: string): Promise<void> {
  const random = new SystemRandom()
  const { ring } = await new RecordKeyFile(directory, random).load(undefined)
  const storage = new RaftStorage({
    records: new LevelRecordStore(join(directory, 'raft')),
    codec: new RecordCodec({ keys: ring, random }),
    clock: new SystemClock(),
  })
  const { hardState, snapshot, entries } = await storage.open()
  const index = (entries.at(-1)?.index ?? snapshot.index) + 1
  const data = encodeEnvelope({ session: 1, requestId: 1, data: encode([ENTRY_FORMAT + 1, 0, null, []]) })
  await storage.write({
    entries: [{ term: hardState.term, index, kind: 'normal', data }],
    hardState: { ...hardState, commit: index },
  })
  await storage.close()
}
