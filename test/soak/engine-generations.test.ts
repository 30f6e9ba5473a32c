// Hosts with engines of different generations in one cluster: what the driver and the worker say to each is different (networks at
// the making of a container or after it, an IPv4 subnet or none), and nobody who uses the networks may notice.
// ENGINES names the release of each host, the first one a manager: `machine` is what is installed, others are Debian's.

import t from 'tap'
import { callApi } from '../../lab/engine-api.ts'
import { Lab } from '../../lab/lab.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { apiRank } from '../../src/worker/docker/engine-features.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { addressesOf, fetchFrom, type Inside, insideOf, pings } from '../e2e/support/inside.ts'
import { ask, askByDatagram } from '../e2e/support/outside.ts'
import { reportSection, seconds } from './report.ts'

const WAIT_MS = 180_000
const PORT = 7480
const WITHOUT_IPV4_API = '1.48'
const releases = (process.env.ENGINES ?? 'machine,trixie,sid,sid').split(',')

const name = 'e2egen'
const dir = defaultLabDir(name)
const began = performance.now()
t.setTimeout(1_200_000)
t.teardown(() => Lab.down({ name, dir }))
const engines = Object.fromEntries(
  releases.flatMap((release, index) => (release === 'machine' ? [] : [[`n${index + 1}`, release] as const])),
)
const log = (line: string): void => t.comment(line)
const lab = await Lab.up({ name, dir, managers: 1, workers: releases.length - 1, engines, log })
const cluster = await Cluster.form(lab)
const n1 = cluster.manager()

interface EngineVersion {
  readonly Version: string
  readonly ApiVersion: string
}
const versionOf = async (host: LabHost) =>
  JSON.parse((await callApi(host.paths.engineSocket, { path: '/version' })).body) as EngineVersion
const versions = new Map<LabHost, EngineVersion>()
for (const host of lab.hosts) versions.set(host, await versionOf(host))
const shown = [...versions.values()].map(({ Version, ApiVersion }) => `${Version} (API ${ApiVersion})`)
const can = (host: LabHost): boolean => apiRank(versions.get(host)?.ApiVersion ?? '') >= apiRank(WITHOUT_IPV4_API)
const able = lab.hosts.filter(can)
const unable = lab.hosts.filter((host) => !can(host))

async function tasks(service: string, count: number): Promise<readonly Inside[]> {
  return cluster.waitFor(
    `${count} tasks of ${service} run`,
    async () => {
      const found = await insideOf(cluster, service)
      return found.length === count && found
    },
    WAIT_MS,
  )
}

const create = (service: string, ...flags: string[]): Promise<string> =>
  cluster.docker(n1, 'service', 'create', '-d', '--no-resolve-image', '--name', service, ...flags)

/** Its hosts' names, from as many requests as make each of `count` tasks answer once in turn. */
async function answering(from: Inside, target: string, count: number, family: 0 | 4 | 6 = 0): Promise<number> {
  const names = new Set<string>()
  for (let number = 0; number < count; number++) names.add((await fetchFrom(from, target, family)).hostname)
  return names.size
}

t.test('the hosts have engines of different generations', async (t) => {
  t.comment(shown.join(', '))
  t.ok(new Set(shown).size > 1, shown.join(', '))
})

t.test(
  'a task on each: two networks, one of them dual stack, names and virtual addresses of both families',
  async (t) => {
    await cluster.docker(n1, 'network', 'create', '-d', 'overlay', 'gen-plain')
    await cluster.docker(
      n1,
      ...['network', 'create', '-d', 'overlay', '--attachable', '--ipv6'],
      ...['--subnet', '10.46.0.0/24', '--subnet', 'fd00:46::/64', 'gen-dual'],
    )
    const ports = ['--publish', `${PORT}:8080`, '--publish', `${PORT}:8080/udp`]
    const networks = ['--network', 'gen-plain', '--network', 'gen-dual']
    await create('gen-web', '--mode', 'global', ...networks, ...ports, 'hello:1')
    const web = await tasks('gen-web', lab.hosts.length)
    for (const from of web) {
      const where = `from ${from.host.name}`
      for (const [network, family] of [
        ['gen-plain', 4],
        ['gen-dual', 4],
        ['gen-dual', 6],
      ] as const) {
        const target = `gen-web.${network}`
        const all = async () => (await answering(from, target, web.length, family)) === web.length
        t.ok(
          await cluster.waitFor(`${target} ${where} by IPv${family}`, all, WAIT_MS),
          `${target} by IPv${family} ${where}`,
        )
      }
      const own = await addressesOf(from)
      for (const prefix of ['10.46.0.', 'fd00:46::', '100.'])
        t.ok(
          own.some((one) => one.startsWith(prefix)),
          `${prefix} ${where}`,
        )
      const { stdout: routes } = await from.exec('ip', 'route')
      t.equal(routes.split('\n').filter((line) => line.startsWith('default')).length, 1, `one way out ${where}`)
      t.match((await from.exec('cat', '/etc/resolv.conf')).stdout, 'nameserver 169.254.77.53\n', where)
      t.ok(await pings(from, lab.clientAddress), `the outside ${where}`)
      for (const to of web) {
        for (const address of (await addressesOf(to)).filter((one) => /^(10\.|fd00:46:)/.test(one))) {
          t.ok(await pings(from, address), `${address} of ${to.host.name} ${where}`)
        }
      }
    }
  },
)

t.test('published ports on each, with the address of the client', async (t) => {
  for (const host of lab.hosts) {
    const names = new Set<string>()
    for (const _ of lab.hosts) {
      const answer = await ask(lab, host.address, PORT)
      t.equal(answer.client, lab.clientAddress, `TCP by ${host.name}`)
      names.add(answer.hostname)
    }
    t.equal(names.size, lab.hosts.length, `all tasks by ${host.name}`)
    t.equal((await askByDatagram(lab, host.address, PORT)).client, lab.clientAddress, `UDP by ${host.name}`)
  }
})

t.test('plain containers on an attachable network', async (t) => {
  for (const host of lab.hosts) {
    const run = ['run', '-d', '--name', `gen-box-${host.name}`, '--network', 'gen-dual', 'hello:1']
    const containerId = (await cluster.docker(host, ...run)).trim()
    const exec = (...argv: string[]) => host.docker(['exec', containerId, ...argv], { timeoutMs: 30_000 })
    const box: Inside = { taskId: '', host, containerId, exec }
    for (const family of [4, 6] as const) {
      const answer = await cluster.waitFor(`gen-web by IPv${family}`, () => fetchFrom(box, 'gen-web', family), WAIT_MS)
      t.match(answer.client, family === 4 ? /^10\.46\.0\./ : /^fd00:46::/, `${host.name} by IPv${family}`)
    }
  }
  for (const inside of await insideOf(cluster, 'gen-web')) {
    for (const { name: host } of lab.hosts) {
      t.ok(
        (await fetchFrom(inside, `gen-box-${host}`)).hostname,
        `gen-box-${host} by its name, from ${inside.host.name}`,
      )
    }
  }
  for (const host of lab.hosts) await cluster.docker(host, 'rm', '-f', `gen-box-${host.name}`)
})

t.test('a network without IPv4, where the engine can do it; elsewhere the task says why not', async (t) => {
  await cluster.swarmctl(
    n1,
    ...[
      'network',
      'create',
      '-d',
      'overlay',
      '--attachable',
      '--ipv4=false',
      '--ipv6',
      '--subnet',
      'fd00:47::/64',
      'gen-six',
    ],
  )
  if (able.length === 0) throw new Error(`no engine of API ${WITHOUT_IPV4_API} among ${shown.join(', ')}`)
  const elsewhere = unable.flatMap((host) => ['--constraint', `node.hostname!=${host.name}`])
  const ports = ['--publish', `${PORT + 1}:8080`]
  await create('gen-only6', '--mode', 'global', '--network', 'gen-six', ...ports, ...elsewhere, 'hello:1')
  const six = await tasks('gen-only6', able.length)
  for (const from of six) {
    const all = async () => (await answering(from, 'gen-only6', six.length)) === six.length
    t.ok(await cluster.waitFor('the virtual address leads to all', all, WAIT_MS), `by name from ${from.host.name}`)
    t.match((await fetchFrom(from, 'gen-only6')).client, /^fd00:47::/, `IPv6 from ${from.host.name}`)
    const own = await addressesOf(from)
    t.ok(own.some((one) => one.startsWith('fd00:47::')))
    t.notOk(
      own.some((one) => one.startsWith('10.')),
      'no IPv4 address but that of the way out',
    )
    for (const to of six) {
      const address = (await addressesOf(to)).find((one) => one.startsWith('fd00:47::')) ?? ''
      t.ok(await pings(from, address), `${to.host.name} from ${from.host.name}`)
    }
  }
  for (const host of lab.hosts) t.equal((await ask(lab, host.address, PORT + 1)).client, lab.clientAddress, host.name)
  for (const host of able) {
    const run = ['run', '--rm', '--network', 'gen-six', 'busybox', 'ping', '-6', '-c', '1', '-W', '2', 'gen-only6']
    t.match(await cluster.docker(host, ...run), ' 0% packet loss', `docker run on ${host.name}`)
  }
  for (const host of unable) {
    const failing = `gen-not-${host.name}`
    const there = ['--constraint', `node.hostname==${host.name}`]
    await create(failing, '--network', 'gen-six', '--restart-condition', 'none', ...there, 'hello:1')
    const reason = await cluster.waitFor(
      `${failing} says why`,
      async () => {
        const format = ['--no-trunc', '--format', '{{.Error}}']
        return /network gen-six has no IPv4.*/.exec(await cluster.docker(n1, 'service', 'ps', ...format, failing))?.[0]
      },
      WAIT_MS,
    )
    t.match(reason, `it needs a Docker Engine with API ${WITHOUT_IPV4_API} or later`, reason)
    await cluster.docker(n1, 'service', 'rm', failing)
  }
})

t.test('an engine that is restarted has its networks again', async (t) => {
  for (const host of able) await host.restartEngine()
  for (const [service, count] of [
    ['gen-web', lab.hosts.length],
    ['gen-only6', able.length],
  ] as const) {
    const all = async () => {
      const found = await insideOf(cluster, service)
      if (found.length !== count) return false
      for (const from of found) if ((await answering(from, service, count, 6)) !== count) return false
      return true
    }
    t.ok(await cluster.waitFor(`every task of ${service} reaches every other`, all, WAIT_MS), service)
  }
})

t.test('everything goes', async (t) => {
  await cluster.reset('gen-')
  for (const host of lab.hosts) {
    const left = async () => !/gen-/.test((await host.docker(['network', 'ls', '--format', '{{.Name}}'])).stdout)
    t.ok(await cluster.waitFor(`nothing is left on ${host.name}`, left, WAIT_MS), host.name)
    // a container process of the host's that ended the driver's patience says so
    const { stdout } = await host.exec(['ip', '-n', 'swarmctl', '-br', 'link'])
    t.notMatch(stdout, /^(fh|br40|vx40)/m, `no link of theirs on ${host.name}`)
  }
})

t.teardown(() => {
  if (!t.passing()) return
  reportSection(
    'Engines of different generations',
    `${shown.join(', ')} in one cluster, ${seconds(performance.now() - began)} in all: overlays of one and of both families, names, virtual
addresses, published ports with the client's address, \`docker run --network\`, and an overlay without IPv4 on those that can.`,
  )
})
