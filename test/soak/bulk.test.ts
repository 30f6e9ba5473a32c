// A gigabyte out of a container of another node, and a gigabyte into it, through the cluster's view of a manager: nothing is lost, no
// node is missed, and what heartbeats and the API take meanwhile is printed beside what they take at rest. MIB says how much.

import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { callApi } from '../../lab/engine-api.ts'
import { Lab } from '../../lab/lab.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { reportSection } from './report.ts'

const WAIT_MS = 120_000
const COPY_MS = 1_200_000
const REST_MS = 15_000
const ASK_EACH_MS = 50
const METRICS = '127.0.0.1:9323'
const CLUSTER_SOCKET = 'unix:///run/swarmd/cluster.sock'
const mib = Number(process.env.MIB ?? 1024)
const name = 'e2ebulk'
const dir = defaultLabDir(name)

t.setTimeout(3_600_000)
t.teardown(() => Lab.down({ name, dir }))
const swarmd = { args: [`--metrics-addr=${METRICS}`] }
const lab = await Lab.up({ name, dir, managers: 1, workers: 2, swarmd, log: (line) => t.comment(line) })
const cluster = await Cluster.form(lab)
const [manager, owner, idle] = lab.hosts as [LabHost, LabHost, LabHost]
const folder = join(dir, 'bulk')
mkdirSync(folder, { recursive: true })
t.teardown(() => rmSync(folder, { recursive: true }))

/** Heartbeats of a host by how long they took, as its metrics count them: upper bounds in milliseconds and numbers below them. */
async function heartbeats(host: LabHost): Promise<ReadonlyMap<number, number>> {
  const { stdout } = await host.exec(['curl', '-s', '-m', '10', `http://${METRICS}/metrics`])
  const lines = [...stdout.matchAll(/^swarmctl_heartbeat_latency_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm)]
  return new Map(lines.map(([, bound, count]) => [bound === '+Inf' ? Infinity : Number(bound) * 1_000, Number(count)]))
}

/** The least bound below which all heartbeats between two looks were. */
function slowest(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): number {
  const since = [...after].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)] as const)
  const all = Math.max(...since.map(([, count]) => count))
  return Math.min(...since.filter(([, count]) => count === all).map(([bound]) => bound))
}

const ASKED = [
  { what: 'manager, `GET /nodes`', host: manager, path: '/nodes' },
  { what: 'node of the container, `GET /info`', host: owner, path: '/info' },
  { what: 'third node, `GET /info`', host: idle, path: '/info' },
] as const

interface Seen {
  readonly seconds: number
  readonly rows: readonly string[]
}

/** What the cluster's own traffic takes while `work` goes on. */
async function watched(t: Test, what: string, work: () => Promise<unknown>): Promise<Seen> {
  const before = await Promise.all(lab.hosts.map(heartbeats))
  let isOver = false
  const missed = new Set<string>()
  const probes = ASKED.map(async ({ host, path }) => {
    const took: number[] = []
    while (!isOver) {
      const start = performance.now()
      const { status, body } = await callApi(cluster.socket(host), { path })
      took.push(performance.now() - start)
      if (status !== 200) throw new Error(`${host.name} ${path}: ${status} ${body}`)
      if (path === '/nodes') {
        const nodes = JSON.parse(body) as { Description: { Hostname: string }; Status: { State: string } }[]
        for (const { Description, Status } of nodes) if (Status.State !== 'ready') missed.add(Description.Hostname)
      }
      await delay(ASK_EACH_MS)
    }
    return took.toSorted((a, b) => a - b)
  })
  const start = performance.now()
  try {
    await work()
  } finally {
    isOver = true
  }
  const seconds = (performance.now() - start) / 1_000
  const took = await Promise.all(probes)
  const after = await Promise.all(lab.hosts.map(heartbeats))
  const ms = (value = 0) => (value < 10 ? value.toFixed(1) : value.toFixed(0))
  const rows = [
    ...ASKED.map(({ what: asked }, i) => {
      const all = took[i] ?? []
      return `| ${what} | ${asked} | ${ms(all[Math.floor(all.length / 2)])} | ${ms(all[Math.floor(all.length * 0.99)])} | ${ms(all.at(-1))} |`
    }),
    ...lab.hosts.map((_, i) => {
      const bound = slowest(before[i] ?? new Map(), after[i] ?? new Map())
      return `| ${what} | heartbeats of ${['the manager', 'the node of the container', 'the third node'][i]} | | | all within ${bound} |`
    }),
  ]
  for (const row of rows) t.comment(row)
  t.same([...missed], [], `${what}: no node was missed`)
  return { seconds, rows }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

t.test('a gigabyte each way', async (t) => {
  const at = ['--constraint', `node.hostname==${owner.name}`]
  await cluster.docker(manager, 'service', 'create', '-d', '--name', 'bulk', ...at, 'busybox')
  await cluster.waitFor(
    'it runs',
    async () => (await cluster.docker(manager, 'service', 'ls', '--format', '{{.Replicas}}')).trim() === '1/1',
    WAIT_MS,
  )
  const container = (await owner.docker(['ps', '-q', '--filter', 'name=bulk'])).stdout.trim()
  const inside = async (script: string) => {
    const { code, stdout, stderr } = await owner.docker(['exec', container, 'sh', '-c', script], { timeoutMs: COPY_MS })
    if (code !== 0) throw new Error(stderr)
    return stdout
  }
  const copy = (to: string, host: LabHost) => async (from: string, target: string) => {
    const ran = await host.exec(['docker', '-H', to, 'cp', from, target], { timeoutMs: COPY_MS })
    if (ran.code !== 0) throw new Error(ran.stderr)
  }
  const hash = (await inside(`head -c ${mib * 2 ** 20} /dev/urandom > /data; sha256sum /data`)).split(' ')[0] ?? ''
  const [direct, ours] = [join(folder, 'direct'), join(folder, 'copied')]

  const rest = await watched(t, 'at rest', () => delay(REST_MS))
  const engine = await watched(t, 'out, by the engine itself', () =>
    copy(`unix://${owner.paths.engineSocket}`, owner)(`${container}:/data`, direct),
  )
  rmSync(direct)
  const out = await watched(t, 'out', () => copy(CLUSTER_SOCKET, manager)(`bulk.1:/data`, ours))
  t.equal(statSync(ours).size, mib * 2 ** 20)
  t.equal(await hashOf(ours), hash, 'what came is what was there')
  const into = await watched(t, 'into', () => copy(CLUSTER_SOCKET, manager)(ours, 'bulk.1:/back'))
  t.equal((await inside('sha256sum /back')).split(' ')[0], hash, 'and went back')
  t.equal((await cluster.leader()).name, manager.name)

  const rate = ({ seconds }: Seen) => `${(mib / seconds).toFixed(0)} MiB/s`
  const summary = `${mib} MiB of noise: ${rate(out)} out, ${rate(into)} into a container of another node; the engine by itself gave it out with ${rate(engine)}.`
  t.comment(summary)
  const table = ['| meanwhile | what | p50, ms | p99 | most |', '|---|---|---|---|---|']
  for (const { rows } of [rest, engine, out, into]) table.push(...rows)
  reportSection('A gigabyte through the cluster’s view', `${summary}\n\n${table.join('\n')}`)
})
