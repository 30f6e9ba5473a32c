// An hour's faults in minutes: one after the other, chosen by a seed, on real processes under a stream of writes. After each
// the cluster has to be whole again with all that it had acknowledged. SEED and ROUNDS are environment variables.

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { freshCluster } from '../e2e/support/fresh-cluster.ts'
import { settled } from '../e2e/support/workload.ts'
import { startWriters, storedSecrets } from '../e2e/support/writers.ts'
import { reportSection } from './report.ts'

const WAIT_MS = 300_000
const SERVICE = 'soak'
const REPLICAS = 9
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const rounds = Number(process.env.ROUNDS ?? 20)
const random = new SeededRandom(seed)
const cluster = await freshCluster(t)
t.setTimeout(3_600_000)
const { lab } = cluster
t.comment(`SEED=${seed} ROUNDS=${rounds}`)

interface Fault {
  readonly name: string
  readonly begin: (host: LabHost) => Promise<void>
  readonly end: (host: LabHost) => Promise<void>
  /** at most so long between the two */
  readonly holdMs: number
}

async function oneWay(host: LabHost, cut: (other: LabHost) => Promise<void>): Promise<void> {
  for (const other of lab.hosts) if (other !== host) await cut(other)
}

/** Each leaves the quorum to the other two. */
const faults: readonly Fault[] = [
  { name: 'SIGKILL of swarmd', begin: (host) => host.killSwarmd(), end: (host) => host.startSwarmd(), holdMs: 4_000 },
  { name: 'SIGTERM of swarmd', begin: (host) => host.stopSwarmd(), end: (host) => host.startSwarmd(), holdMs: 4_000 },
  {
    name: 'SIGSTOP of swarmd',
    begin: async (host) => host.pause('swarmd'),
    end: async (host) => host.resume('swarmd'),
    holdMs: 12_000,
  },
  {
    name: 'SIGKILL of the engine',
    begin: (host) => host.killEngine(),
    end: (host) => host.startEngine(),
    holdMs: 4_000,
  },
  { name: 'a cut cable', begin: (host) => lab.cut(host.name), end: (host) => lab.heal(host.name), holdMs: 15_000 },
  {
    name: 'nothing that it sends arrives',
    begin: (host) => oneWay(host, (other) => lab.cut(host.name, other.name, { oneWay: true })),
    end: () => lab.heal(),
    holdMs: 15_000,
  },
  {
    name: 'nothing that it is sent arrives',
    begin: (host) => oneWay(host, (other) => lab.cut(other.name, host.name, { oneWay: true })),
    end: () => lab.heal(),
    holdMs: 15_000,
  },
  { name: 'a power loss', begin: (host) => host.powerOff(), end: (host) => host.boot(), holdMs: 12_000 },
]
const pick = <T>(list: readonly T[]): T => {
  const picked = list[random.below(list.length)]
  if (picked === undefined) throw new Error('nothing to pick from')
  return picked
}
const create = ['service', 'create', '-d', '--no-resolve-image', '--restart-delay', '100ms']
await cluster.docker(cluster.manager(), ...create, '--name', SERVICE, '--replicas', String(REPLICAS), 'busybox')
await settled(cluster, cluster.manager(), SERVICE, REPLICAS, WAIT_MS)

const lines: string[] = []
for (let round = 1; round <= rounds; round++) {
  const { name, begin, end, holdMs } = pick(faults)
  const host = pick(lab.hosts)
  const heldMs = random.below(holdMs)
  await t.test(`${round}: ${name} on ${host.name}`, async (t) => {
    const prefix = `soak-${round}`
    const wasLeader = (await cluster.leader()) === host
    const writers = startWriters(
      lab.hosts.filter((other) => other !== host),
      prefix,
    )
    await writers.more(20, WAIT_MS)
    await begin(host)
    await delay(heldMs)
    await end(host)
    await writers.more(20, WAIT_MS)
    const longestMs = await writers.stop()
    await settled(cluster, host, SERVICE, REPLICAS, WAIT_MS)
    for (const asked of lab.hosts) {
      const stored = await storedSecrets(cluster, asked, prefix)
      const lost = [...writers.acknowledged].filter(([secret, id]) => stored.get(secret) !== id)
      t.strictSame(lost, [], `all ${writers.acknowledged.size} writes are on ${asked.name}`)
    }
    const role = wasLeader ? 'leader' : 'follower'
    lines.push(`| ${round} | ${name} | ${role} | ${writers.acknowledged.size} | ${Math.round(longestMs)} |`)
    for (const id of writers.acknowledged.values()) await cluster.api(host, 'DELETE', `/secrets/${id}`)
  })
}

t.test('the result is written down', async () => {
  const head = `SEED=${seed} ROUNDS=${rounds}: faults on three managers under a stream of writes of three clients. No acknowledged write
was lost; after each fault every task ran once. The last column is the longest time between two acknowledged writes.

| round | fault | on a | writes | longest gap, ms |
|---|---|---|---|---|`
  if (t.passing()) reportSection('One fault after the other', [head, ...lines].join('\n'))
})
