// A cluster with a plain and an encrypted network: what passes the wire, published ports of the encrypted service through every
// node, keys that change under traffic, and `network check` where all is well and where a firewall is in the way. First, what
// `swarm init` makes the ingress network of.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { inNetns } from '../../lab/network.ts'
import type { NetworkCheckJson } from '../../src/api/network-check.ts'
import { Cluster } from './support/cluster.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { fetchFrom, insideOf } from './support/inside.ts'
import { ask, startLoad } from './support/outside.ts'

const DEADLINE_MS = 60_000
const NETWORK_PORTS = [
  { network: 'check-plain', service: 'check-web', port: 8480 },
  { network: 'check-secret', service: 'check-hidden', port: 8481 },
] as const

const lab = await bareLab(t)
const [one, two] = lab.hosts
if (!one || !two) throw new Error('a lab of two hosts at least')

const LABEL = 'io.swarmctl.ingress-subnet'
/** The ingress network that `swarm init` makes on the second host, which leaves again; or what init says instead. */
async function ingressOf(...flags: readonly string[]): Promise<string> {
  const init = await two!.swarmctl(['swarm', 'init', '--advertise-addr', two!.address, ...flags])
  if (init.code !== 0) return init.stderr.trim()
  const format = '{{range .IPAM.Config}}{{.Subnet}}{{end}}'
  const { stdout } = await two!.swarmctl(['network', 'inspect', '-f', format, 'ingress'])
  const update = await two!.swarmctl(['swarm', 'update', '--label-add', `${LABEL}=10.3.0.0/16`])
  await two!.swarmctl(['swarm', 'leave', '--force'])
  return `${stdout.trim()}, then ${update.stderr.trim()}`
}
await two.exec(['ip', 'route', 'add', 'blackhole', '100.80.0.0/16'])
const chosen = await ingressOf()
const overRoute = await ingressOf('--label-add', `${LABEL}=100.64.0.0/11`)
const overOwn = await ingressOf('--label-add', `${LABEL}=100.96.0.0/16`)
const given = await ingressOf('--label-add', `${LABEL}=10.2.0.0/16`)
await two.exec(['ip', 'route', 'del', 'blackhole', '100.80.0.0/16'])

const cluster = await Cluster.form(lab, 'swarmd')
const directory = mkdtempSync(join(tmpdir(), 'network-check-'))
t.teardown(() => rmSync(directory, { recursive: true }))

await cluster.docker(
  one,
  'network',
  'create',
  '-d',
  'overlay',
  '--ipv6',
  '--subnet',
  '10.0.4.0/24',
  '--subnet',
  'fd00:c4ec::/64',
  'check-plain',
)
await cluster.docker(one, 'network', 'create', '-d', 'overlay', '--opt', 'encrypted', 'check-secret')
for (const { network, service, port } of NETWORK_PORTS) {
  const publish = ['--publish', `${port}:8080`]
  const where = ['--mode', 'global', '--network', network]
  await cluster.docker(one, 'service', 'create', '-d', '--name', service, ...where, ...publish, 'hello:1')
}
const everywhere = async (service: string) => (await insideOf(cluster, service)).length === cluster.lab.hosts.length
for (const { service } of NETWORK_PORTS)
  await cluster.waitFor(`${service} runs on every node`, () => everywhere(service), DEADLINE_MS)
t.teardown(() => cluster.reset('check-'))

t.test('the ingress network is where the first host has no route, or where it is told to be', async (t) => {
  t.match(chosen, /^100\.112\.0\.0\/12, then .*label io\.swarmctl\.ingress-subnet: it is taken by swarm init only/)
  t.match(overRoute, `label ${LABEL}: 100.64.0.0/11 overlaps with the route 100.80.0.0/16 of this host`)
  t.match(overOwn, /must be an IPv4 subnet .* outside of 100\.96\.0\.0\/15/)
  t.match(given, /^10\.2\.0\.0\/16, then/)
})

/** What passed the wire between the first two hosts, in encapsulation, while `work` ran. */
async function captured(work: () => Promise<unknown>): Promise<Buffer> {
  const file = join(directory, 'wire.pcap')
  const filter = ['host', two!.address, 'and', 'udp']
  const options = ['-i', 'eth0', '--immediate-mode', '-U', '-s', '0', '-Z', 'root', '-w', file, ...filter]
  const [command = '', ...args] = [...inNetns(one!.plan.netns), 'tcpdump', ...options]
  const dump = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  await once(dump.stderr, 'data') // "listening on"
  await work()
  await new Promise((resolve) => setTimeout(resolve, 300))
  dump.kill('SIGINT')
  await once(dump, 'exit')
  return readFileSync(file)
}

/** From a task of a service on the first host to one on the second, by its own address. */
async function across(service: string): Promise<void> {
  const tasks = await insideOf(cluster, service)
  const from = tasks.find(({ host }) => host === one)!
  const to = tasks.find(({ host }) => host === two)!
  const { stdout } = await to.exec('hostname', '-i')
  for (const address of stdout.trim().split(' ')) if (address.startsWith('10.')) await fetchFrom(from, address)
}

t.test('an encrypted network cannot be read on the wire, nor what enters for it at another node', async (t) => {
  t.ok((await captured(() => across('check-web'))).includes('hello version=1'), 'a plain one can')
  const wire = await captured(() => across('check-hidden'))
  t.ok(wire.length > 1000, 'something was captured')
  t.notOk(wire.includes('hello version=1'))
  const seen = new Set<string>()
  const entering = await captured(async () => {
    for (let at = 0; at < 3 * cluster.lab.hosts.length; at++) {
      const answer = await ask(cluster.lab, one!.address, 8481)
      t.match(answer.client, /\.200$/, "the client's own address")
      seen.add(answer.hostname)
    }
  })
  t.equal(seen.size, cluster.lab.hosts.length, 'tasks on all nodes answered')
  t.notOk(entering.includes('hello version=1'))
})

t.test('keys change under traffic, and no request is lost', async (t) => {
  const urls = cluster.lab.hosts.map(({ address }) => `http://${address}:8481/`)
  const load = startLoad(cluster.lab, 50, urls)
  const generations = () =>
    cluster.lab.hosts.map(({ paths }) => {
      const keys = readFileSync(join(paths.swarmdData, 'net/wireguard/keys.json'), 'utf8')
      return (JSON.parse(keys) as { generation: number }[]).map(({ generation }) => generation)
    })
  const before = generations()
  await cluster.swarmctl(one, 'network', 'rotate-keys')
  const again = await one.swarmctl(['network', 'rotate-keys'])
  t.match(again.stderr, /are being changed already/)
  const moved = async () => {
    const shown = cluster.lab.hosts.map((host) => host.exec(['ip', 'route', 'show', 'root', '100.97.0.0/16']))
    const used = (await Promise.all(shown)).map(({ stdout }) => [...new Set(stdout.match(/swc-wg0[ab]/g))])
    return used.every((devices) => devices.join() === 'swc-wg0b')
  }
  await cluster.waitFor('all nodes send by the new keys', moved, DEADLINE_MS)
  t.same(
    before,
    cluster.lab.hosts.map(() => [1]),
  )
  t.same(
    generations(),
    cluster.lab.hosts.map(() => [2, 1]),
  )
  const { failures, answered } = await load.stop()
  t.same(failures, [])
  t.ok(answered > 0)
})

async function checked(): Promise<NetworkCheckJson> {
  return cluster.api<NetworkCheckJson>(one!, 'GET', '/swarmd/network-check')
}

t.test('where all is well the check says so, of each pair of nodes on each network', async (t) => {
  const pairs = cluster.lab.hosts.length * (cluster.lab.hosts.length - 1)
  const { code, stdout, stderr } = await one!.swarmctl(['network', 'check'])
  t.equal(code, 0, stderr)
  t.equal(stdout.trim().split('\n').length, 1 + 4 * pairs, 'the plain network is tried in both families')
  t.match(stdout.split('\n')[0], /^NETWORK +FROM +TO +ADDRESS +STATE +LOSS +ROUND TRIP +MTU$/)
  t.match(stdout, /check-plain +n2 +n1 +10\.0\.4\.\d+ +ok +0% +[\d.]+ ms +1450\n/)
  t.match(stdout, /check-plain +n2 +n1 +fd00:c4ec::[\da-f]+ +ok +0% +[\d.]+ ms +1450\n/)
  t.match(stdout, /check-secret +n1 +n2 +[\d.]+ +ok +0% +[\d.]+ ms +1370\n/)
  t.match(stdout, /ingress +n2 +n1 +100\.64\.[\d.]+ +ok +0% +[\d.]+ ms +1450\n/)
  const states = await one!.swarmctl(['network', 'check', 'check-plain', '--format', '{{.Network}} {{.State}}'])
  t.equal(states.stdout, 'check-plain ok\n'.repeat(2 * pairs))
  t.equal((await one!.swarmctl(['network', 'check', 'nope'])).code, 1)
})

t.test('where a firewall is in the way the check says which port', async (t) => {
  const nft = async (...commands: string[]) => {
    for (const command of commands) {
      const { code, stderr } = await two!.exec(['nft', command])
      if (code !== 0) throw new Error(stderr)
    }
  }
  const rule = (match: string) =>
    nft(
      'add table inet firewall',
      'add chain inet firewall in { type filter hook prerouting priority -400; }',
      'flush chain inet firewall in',
      `add rule inet firewall in ${match} drop`,
    )
  t.teardown(() => nft('delete table inet firewall'))
  await rule('udp dport 4789')
  const plain = await checked()
  t.ok(plain.Problems.some((text) => /check-plain: from n1 to n2 .* is UDP 4789 let through both ways\?/.test(text)))
  t.ok(plain.Probes.filter(({ Network }) => Network === 'check-secret').every(({ State }) => State === 'ok'))
  await rule('udp dport 51833-51834')
  const secret = await checked()
  t.ok(secret.Problems.some((text) => /check-secret: from n1 to n2 .* UDP 51833 and 51834 \(WireGuard\)/.test(text)))
  await rule('udp dport 4789 meta length > 1400')
  const short = await checked()
  t.ok(short.Problems.some((text) => /check-plain: from n1 to n2 packets of 1450 bytes do not pass/.test(text)))
  t.ok(short.Problems.some((text) => /from n1 to n2 by IPv6 packets of 1450 bytes do not pass/.test(text)))
  await rule(`ip saddr ${one!.address} tcp dport 2377 tcp flags & (syn | ack) == syn`)
  const { code, stdout, stderr } = await one!.swarmctl(['network', 'check'])
  t.equal(code, 1)
  t.match(stderr.trim(), `n1 cannot reach manager n2 at ${two!.address}:2377/tcp: a firewall seems to drop it`)
  t.notMatch(stdout, /unreachable|below/, 'tunnels and sessions that stand are another matter')
})
