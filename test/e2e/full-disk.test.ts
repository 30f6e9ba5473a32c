// Full disks, on small file systems that are really filled: of a store, of an engine that is cleaned up, and under managers and
// workers of a cluster.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { callApi } from '../../lab/engine-api.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { LevelRecordStore } from '../../src/raft/level-record-store.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import type { RecordOperation } from '../../src/raft/record-store.ts'
import { CleanUp } from '../../src/worker/docker/clean-up.ts'
import { EngineClient } from '../../src/worker/docker/engine-client.ts'
import { Cluster } from './support/cluster.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { tasksOf, wantedTasks } from './support/workload.ts'
import { startWriters, storedSecrets } from './support/writers.ts'

const WAIT_MS = 60_000
const MIB = 2 ** 20
/** Of each manager's data root. */
const DISK = '96m'
const FLAGS = ['--disk-reserve', '16m', '--disk-pressure', '40m']

// What these tests have is their own: they wait beside each other.
const beside = { buffered: true }
t.jobs = 5

const lab = await bareLab(t)
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]

/** Puts the data root of a host that is in no cluster on a disk of its own. */
async function shrink(host: LabHost): Promise<void> {
  const { swarmdData: root } = host.paths
  await host.stopSwarmd()
  const steps = `cp -a ${root} /run/kept && mount -t tmpfs -o size=${DISK} tmpfs ${root} && cp -a /run/kept/. ${root}/ && rm -r /run/kept`
  const { code, stderr } = await host.exec(['sh', '-c', steps])
  if (code !== 0) throw new Error(`${host.name} has no small disk: ${stderr}`)
  await host.startSwarmd({ args: FLAGS })
}

async function restore(host: LabHost): Promise<void> {
  await host.stopSwarmd()
  await host.exec(['umount', '-l', host.paths.swarmdData])
  await host.startSwarmd({})
}

/** Leaves so much on the host's disk. */
async function fill(host: LabHost, leftBytes: number): Promise<void> {
  const root = host.paths.swarmdData
  const script = `left=$(($(stat -f -c '%a * %S' ${root}) - ${leftBytes})); test $left -le 0 || head -c $left /dev/zero >>${root}/filler; true`
  await host.exec(['sh', '-c', script])
}

async function free(host: LabHost): Promise<void> {
  await host.exec(['rm', '-f', `${host.paths.swarmdData}/filler`])
}

await Promise.all(lab.hosts.map(shrink))
t.teardown(async () => {
  for (const host of lab.hosts) {
    await host.boot()
    await free(host)
    await callApi(host.paths.swarmdSocket, { method: 'POST', path: '/swarm/leave?force=1' }).catch(() => {})
    await restore(host)
  }
})
const cluster = await Cluster.form(lab)
const others = (host: LabHost) => lab.hosts.filter((other) => other !== host)

const reserved = async (host: LabHost) =>
  (await host.exec(['test', '-f', `${host.paths.swarmdData}/swarm/reserve`])).code === 0

interface NodeJson {
  readonly Description: { readonly Hostname: string; readonly DiskPressure?: readonly object[] }
  readonly Status: { readonly Message?: string }
}

async function messageOf(host: LabHost, asked: LabHost): Promise<string> {
  const nodes = await cluster.api<readonly NodeJson[]>(asked, 'GET', '/nodes')
  return nodes.find(({ Description }) => Description.Hostname === host.name)?.Status.Message ?? ''
}

/** Creates a config of so many bytes. */
const config = (asked: LabHost, name: string, bytes: number) =>
  callApi(asked.paths.swarmdSocket, {
    method: 'POST',
    path: '/configs/create',
    body: { Name: name, Data: Buffer.alloc(bytes, name).toString('base64') },
  })

// ---- a store ----

function smallDisk(size: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'swarmctl-full-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder])
  t.teardown(() => {
    execFileSync('umount', ['-l', folder])
    rmSync(folder, { recursive: true })
  })
  return folder
}

const put = (key: string, sizeBytes: number): readonly RecordOperation[] => [
  { kind: 'put', key, value: new Uint8Array(sizeBytes).fill(key.length) },
]

// LevelDB's log is up to 4 MiB; then a table is made of it: both ways of finding no room.
for (const [what, sizeBytes, fillerBytes] of [
  ['its log', 6 * MIB, 3.5 * MIB],
  ['a table', 14 * MIB, 7 * MIB],
] as const) {
  t.test(`a store that finds no room for ${what} waits, and keeps all that it acknowledged`, beside, async (t) => {
    const folder = smallDisk(String(sizeBytes))
    const filler = join(folder, 'filler')
    writeFileSync(filler, new Uint8Array(fillerBytes))
    let refusals = 0
    const policy = {
      clock: new SystemClock(),
      onFull: async () => {
        refusals++
        if (refusals === 3) rmSync(filler)
      },
    }
    const store = new LevelRecordStore(join(folder, 'store'), policy)
    await store.open()
    const acknowledged: string[] = []
    for (let number = 0; refusals < 3; number++) {
      const key = `e${String(number).padStart(8, '0')}`
      await store.write(put(key, 30_000), { sync: true })
      acknowledged.push(key)
    }
    // Behind what had failed.
    await store.write(put('small', 10), { sync: true })
    acknowledged.push('small')
    await store.close()

    const again = new LevelRecordStore(join(folder, 'store'))
    await again.open()
    t.same(
      acknowledged.filter((key) => again.get(key) === undefined),
      [],
      `${acknowledged.length} were acknowledged`,
    )
    await again.close()
  })
}

t.test('what may fail does not hold up what follows it', beside, async (t) => {
  const folder = smallDisk('3m')
  const reserve = join(folder, 'reserve')
  writeFileSync(reserve, new Uint8Array(MIB))
  const onFull = async () => rmSync(reserve, { force: true })
  const store = new LevelRecordStore(join(folder, 'store'), { clock: new SystemClock(), onFull })
  await store.open()
  const chunk = store.write(put('chunk', 4 * MIB), { sync: true, mayFail: true })
  const entry = store.write(put('entry', 100), { sync: true })
  await t.rejects(chunk, { code: 'RAFT_DISK_FULL' })
  await entry
  t.ok(store.get('entry'))
  await store.close()
})

t.test('a store that waits for room can be closed', beside, async (t) => {
  const folder = smallDisk('3m')
  const policy = { clock: new SystemClock(), onFull: async () => {} }
  const storage = new RaftStorage({
    records: new LevelRecordStore(join(folder, 'store'), policy),
    codec: new RecordCodec({ keys: { current: { id: 'k1', key: new Uint8Array(32) } }, random: new SystemRandom() }),
    clock: policy.clock,
  })
  await storage.open()
  const data = new Uint8Array(MIB)
  const entries = Array.from({ length: 8 }, (_, at) => ({ index: at + 1, term: 1, kind: 'normal' as const, data }))
  const written = t.rejects(storage.write({ entries }), { code: 'RAFT_STORAGE_FAILED' })
  await storage.close()
  await written
})

// ---- a cluster ----

t.test('a cluster whose disks are small', beside, async (t) => {
  t.test('each manager keeps a reserve', async () => {
    for (const host of lab.hosts) {
      await cluster.waitFor(`${host.name} has made its reserve`, () => reserved(host), WAIT_MS)
    }
  })

  t.test('a node that is short of disk keeps its tasks and gets no new ones', async (t) => {
    const create = (name: string, ...args: string[]) =>
      cluster.docker(n1, 'service', 'create', '-d', '--no-resolve-image', '--name', name, ...args, 'busybox')
    await create('disk-old', '--constraint', 'node.hostname==n3')
    const running = (name: string, count: number) =>
      cluster.waitFor(
        `${count} tasks of ${name} run`,
        async () => {
          const tasks = wantedTasks(await tasksOf(cluster, n1, name)).filter(({ Status }) => Status.State === 'running')
          return tasks.length === count && tasks
        },
        WAIT_MS,
      )
    const [old] = await running('disk-old', 1)

    await fill(n3, 24 * MIB)
    await cluster.waitFor('n3 says so', async () => /disk pressure: .* left on/.test(await messageOf(n3, n1)), WAIT_MS)
    await create('disk-new', '--replicas', '3')
    await create('disk-there', '--constraint', 'node.hostname==n3')
    const placed = await running('disk-new', 3)
    t.notOk(
      placed.some(({ NodeID }) => NodeID === old?.NodeID),
      'the others have them',
    )
    const [waiting] = await tasksOf(cluster, n1, 'disk-there')
    const { Status } = await cluster.api<{ Status: { State: string; Err?: string } }>(
      n1,
      'GET',
      `/tasks/${waiting?.ID}`,
    )
    t.match(Status, {
      State: 'pending',
      Err: 'no suitable node (scheduling constraints not satisfied on 2 nodes; disk pressure on 1 node)',
    })
    t.match(await cluster.swarmctl(n1, 'why', 'n3', '--type', 'node'), /disk pressure: .* it keeps its tasks/)
    t.match(await tasksOf(cluster, n1, 'disk-old'), [{ ID: old?.ID, Status: { State: 'running' } }])
    t.equal((await config(n3, 'disk-taken', 10)).status, 201, 'pressure alone stops no write')

    await free(n3)
    await running('disk-there', 1)
    t.equal(await messageOf(n3, n1), '')
  })

  t.test('a leader that runs out of disk hands over, and nothing acknowledged is lost', async (t) => {
    const full = await cluster.leader()
    const rest = others(full)
    const [asked = n1] = rest
    const stream = startWriters(lab.hosts, 'disk-stream')
    await stream.more(20, WAIT_MS)
    await fill(full, 12 * MIB)
    await cluster.waitFor('another leads', async () => (await cluster.leader(asked)) !== full, WAIT_MS, asked)
    await stream.more(20, WAIT_MS)
    t.same(
      stream.attempts.filter(({ status }) => status !== 201).map(({ message }) => message),
      [],
      'no client was refused anything',
    )
    t.match(await messageOf(full, asked), /disk pressure: .* left on/)

    // It becomes full to the last byte, and so it does again when it has given up its reserve.
    await fill(full, 0)
    for (let number = 0; number < 8; number++) {
      t.equal((await config(asked, `disk-large-${number}`, 900_000)).status, 201, 'the others go on')
      if (number >= 3) await fill(full, 0)
    }
    await cluster.waitFor('its reserve is used', async () => !(await reserved(full)), WAIT_MS, asked)
    await fill(full, 0)
    await stream.more(50, WAIT_MS)
    // In order, without room to write anything, and then without any warning.
    await full.restartSwarmd()
    await fill(full, 0)
    await full.killSwarmd()
    await full.startSwarmd()
    await fill(full, 0)
    const longestMs = await stream.stop()
    t.comment(`at most ${Math.round(longestMs)} ms between two acknowledged writes`)

    await free(full)
    await cluster.waitFor(
      `${full.name} has caught up`,
      async () => (await callApi(full.paths.swarmdSocket, { path: '/configs' })).status === 200,
      WAIT_MS,
      asked,
    )
    for (const host of lab.hosts) {
      const stored = await storedSecrets(cluster, host, 'disk-stream')
      const lost = [...stream.acknowledged].filter(([name, id]) => stored.get(name) !== id)
      t.strictSame(lost, [], `${host.name} has all of ${stream.acknowledged.size}`)
    }
    await cluster.waitFor('the reserve is made again', () => reserved(full), WAIT_MS)
  })

  t.test('with every manager short of disk what grows is refused, and what removes is not', async (t) => {
    await Promise.all(lab.hosts.map((host) => fill(host, 12 * MIB)))
    const refused = await cluster.waitFor(
      'a write is refused',
      async () => {
        const answer = await config(n1, `disk-refused-${performance.now()}`, 10)
        // while the leadership looks for room there may be no leader for a moment
        return answer.status !== 201 && answer.status !== 503 && answer
      },
      WAIT_MS,
    )
    t.equal(refused.status, 507)
    t.match(
      (JSON.parse(refused.body) as { message: string }).message,
      /rpc error: code = ResourceExhausted desc = manager n\d has only \S+ \S+ left on \S+, and no other manager that is up has more: nothing new is taken until 32 MiB are free there/,
    )
    const attempt = (...args: string[]) => cluster.tryDocker(n2, args)
    t.match(await attempt('service', 'update', '-d', '--force', 'disk-new'), { code: 1, stderr: /ResourceExhausted/ })
    t.match(await attempt('service', 'scale', '-d', 'disk-new=4'), { stderr: /ResourceExhausted/ })
    t.match(await attempt('service', 'ls', '--format', '{{.Name}} {{.Replicas}}'), { stdout: /disk-new 3\/3/ })
    const taken = [
      ['service', 'scale', '-d', 'disk-new=1'],
      ['node', 'update', '--label-add', 'a=b', 'n1'],
      ['config', 'rm', 'disk-large-0'],
      ['service', 'rm', 'disk-old'],
    ]
    for (const words of taken) {
      t.ok(await cluster.waitFor(words.join(' '), async () => (await attempt(...words)).code === 0, WAIT_MS))
    }

    // One that has no room at all gives its reserve back for what it has to remember of its demotion.
    const leader = await cluster.leader(n1)
    const [demoted = n3] = others(leader)
    const pid = async () => (await demoted.exec(['cat', '/run/swarmd.pid'])).stdout
    const before = await pid()
    await fill(demoted, 0)
    await cluster.docker(leader, 'node', 'demote', demoted.name)
    await cluster.waitFor(
      `${demoted.name} is a worker`,
      async () => !(await cluster.swarmState(demoted)).ControlAvailable,
      WAIT_MS,
      leader,
    )
    t.equal(await pid(), before, 'without being started again')

    await Promise.all(lab.hosts.map(free))
    await cluster.waitFor(
      'writes are taken again',
      async () => (await config(leader, `disk-again-${performance.now()}`, 10)).status === 201,
      WAIT_MS,
    )
  })
})

// ---- an engine ----

t.test('a clean-up removes what nothing uses, and nothing else', beside, async (t) => {
  const engine = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await n2.docker(args)
    if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${code} ${stderr}`)
    return stdout.trim()
  }
  for (const name of ['disk-unused:1', 'disk-task:1', 'disk-held:1']) {
    const made = await engine('create', 'busybox', name)
    await engine('commit', made, name)
    await engine('rm', made)
  }
  await engine('tag', 'disk-unused:1', 'disk-unused:2')
  await engine('create', '--name', 'disk-stopped', 'busybox')
  await engine('run', '-d', '--name', 'disk-runs', 'disk-held:1', 'sleep', '100')
  t.teardown(() => n2.docker(['rm', '-f', 'disk-runs', 'disk-stopped']))
  t.teardown(() => n2.docker(['rmi', '-f', 'disk-unused:1', 'disk-unused:2', 'disk-task:1', 'disk-held:1']))
  const others = await engine('images', '-q', '--no-trunc')

  let laterMs = 0
  let remembered: unknown
  const system = new SystemClock()
  const used = [...new Set(others.split('\n'))].filter((id) => id !== '')
  const names = await Promise.all(
    ['disk-unused:1', 'disk-held:1'].map((name) => engine('inspect', '-f', '{{.Id}}', name)),
  )
  const cleanUp = new CleanUp({
    engine: new EngineClient(`unix://${n2.paths.engineSocket}`),
    taskImages: () => ['disk-task:1', ...used.filter((id) => !names.includes(id))],
    underPressure: () => false,
    memory: {
      read: async () => remembered,
      write: async (value) => {
        remembered = value
      },
    },
    clock: {
      nowMs: () => system.nowMs(),
      setTimer: (delayMs, fire) => system.setTimer(delayMs, fire),
      wallMs: () => system.wallMs() + laterMs,
    },
    log: silentLog,
  })
  cleanUp.set({ afterMs: 3_600_000, onPressure: false })
  const { signal } = new AbortController()
  await cleanUp.pass(signal)
  t.same(cleanUp.removed, { containers: 0, images: 0 }, 'nothing is old yet')
  laterMs = 3_700_000
  await cleanUp.pass(signal)
  t.same(cleanUp.removed, { containers: 1, images: 1 })
  const left = await engine('images', '--format', '{{.Repository}}:{{.Tag}}')
  t.notMatch(left, 'disk-unused')
  t.match(left, 'disk-task:1', 'an image that a task names')
  t.match(left, 'disk-held:1', 'an image that a container is made from')
  t.equal(await engine('ps', '-aq', '--filter', 'name=disk-stopped'), '')
})
