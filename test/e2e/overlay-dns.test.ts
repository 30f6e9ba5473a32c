// Every form of name, asked by real containers of the resolver that their resolv.conf names: of services, tasks, containers and
// addresses, on their own networks only; everything else from the node's name servers or the container's own.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { parseAddress } from '../../src/lib/cidr.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { addressesOf, type Inside, insideOf } from './support/inside.ts'

const WAIT_MS = 120_000
const PREFIX = 'dns-'
const HOST_ANSWER = '192.0.2.1'
const OWN_ANSWER = '192.0.2.2'

const cluster = await freshCluster(t)
const { lab } = cluster
const n1 = lab.host('n1')
const servers: ChildProcess[] = []
t.teardown(async () => {
  for (const server of servers) server.stdin?.end()
  await cluster.reset(PREFIX).catch(() => {})
})

const network = (name: string, ...flags: string[]): Promise<string> =>
  cluster.docker(n1, 'network', 'create', '-d', 'overlay', ...flags, PREFIX + name)

function running(name: string, count: number): Promise<readonly Inside[]> {
  return cluster.waitFor(
    `${count} tasks of ${name} run`,
    async () => {
      const found = await insideOf(cluster, PREFIX + name)
      return found.length === count && found
    },
    WAIT_MS,
  )
}

async function create(name: string, count: number, ...flags: string[]): Promise<readonly Inside[]> {
  await cluster.docker(n1, 'service', 'create', '-d', '--no-resolve-image', '--name', PREFIX + name, ...flags)
  return running(name, count)
}

type Question = readonly ['A' | 'AAAA' | 'PTR' | 'MX' | 'lookup' | 'tcp', string]

/** `lookup` is the C library's; the rest asks the server of resolv.conf itself. */
const ASK = `
  const dns = require('dns'), { promises } = dns
  const resolver = new promises.Resolver({ timeout: 3000, tries: 2 })
  function tcp(name) {
    const [server] = dns.getServers()
    const labels = name.split('.').map((l) => Buffer.concat([Buffer.of(l.length), Buffer.from(l)]))
    const q = Buffer.concat([Buffer.from('000101000001000000000000', 'hex'), ...labels, Buffer.from('0000010001', 'hex')])
    return new Promise((ok, no) => {
      const s = require('net').connect(53, server, () => s.write(Buffer.concat([Buffer.of(0, q.length), q])))
      s.on('error', no).once('data', (d) => { s.destroy(); ok([d.subarray(2).subarray(-4).join('.')]) })
    })
  }
  const ask = ([type, name]) => type === 'lookup' ? promises.lookup(name, { all: true }).then((l) => l.map((a) => a.address))
    : type === 'tcp' ? tcp(name) : resolver.resolve(name, type)
  Promise.all(JSON.parse(process.argv[1]).map((q) => ask(q).then((a) => a.sort(), (e) => e.code)))
    .then((all) => console.log(JSON.stringify(all)))
`

type Found = readonly string[] | string

async function ask(from: Inside, ...questions: readonly Question[]): Promise<readonly Found[]> {
  const { code, stdout, stderr } = await from.exec('node', '-e', ASK, JSON.stringify(questions))
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as readonly Found[]
}

async function askOne(from: Inside, ...question: Question): Promise<Found> {
  return (await ask(from, question))[0] ?? ''
}

const sorted = (list: readonly string[]): readonly string[] => list.toSorted((a, b) => (a < b ? -1 : 1))

/** Not `reverse`, which looks into /etc/hosts first. */
function reverse(address: string): Question {
  const { family, value } = parseAddress(address) ?? { family: 4, value: 0n }
  if (family === 4) return ['PTR', `${address.split('.').toReversed().join('.')}.in-addr.arpa`]
  return ['PTR', `${[...value.toString(16).padStart(32, '0')].toReversed().join('.')}.ip6.arpa`]
}

/** The task's address in a subnet, by the first numbers of both. */
async function addressIn(task: Inside, prefix: string): Promise<string> {
  return (await addressesOf(task)).find((address) => address.startsWith(prefix)) ?? ''
}

async function startNameServer(argv: readonly string[]): Promise<void> {
  const [command = '', ...args] = argv
  const server = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  servers.push(server)
  await once(server.stdout, 'data')
}

const nameServer = (...args: string[]) => [
  process.execPath,
  join(import.meta.dirname, 'support/name-server.js'),
  ...args,
]

async function setResolvConf(host: LabHost, text: string): Promise<void> {
  await host.exec(['sh', '-c', 'cat > /etc/resolv.conf'], { input: text })
}

await network('front', '--subnet', '10.201.1.0/24')
await network('back', '--subnet', '10.201.2.0/24', '--internal')
await network('dual', '--subnet', '10.201.3.0/24', '--ipv6', '--subnet', 'fd00:201:3::/64')
const web = await create(
  'web',
  3,
  '--network',
  'name=dns-front,alias=www,alias=Shop.Example',
  '--replicas',
  '3',
  '--hostname',
  '{{.Node.Hostname}}-{{.Task.Slot}}',
  'hello:1',
)
const rr = await create('rr', 2, '--network', 'dns-front', '--replicas', '2', '--endpoint-mode', 'dnsrr', 'hello:1')
const db = await create('db', 1, '--network', 'dns-back', '--hostname', 'database', 'hello:1')
const [asker] = web
const [inner] = db
if (!asker || !inner) throw new Error('no tasks')

t.test('a service by its names, its tasks by theirs', async (t) => {
  const inspected = await cluster.api<{ Endpoint: { VirtualIPs: { Addr: string }[] } }>(n1, 'GET', '/services/dns-web')
  const virtual = inspected.Endpoint.VirtualIPs[0]?.Addr.split('/')[0] ?? ''
  const tasks = await Promise.all(web.map((task) => addressIn(task, '10.201.1.')))
  const robin = await Promise.all(rr.map((task) => addressIn(task, '10.201.1.')))
  t.match(virtual, /^10\.201\.1\.\d+$/)
  const hostnames = await Promise.all(web.map(async (task) => (await task.exec('hostname')).stdout.trim()))
  for (const from of [asker, ...rr]) {
    const found = await ask(
      from,
      ['A', 'dns-web'],
      ['lookup', 'dns-web'],
      ['A', 'WWW'],
      ['A', 'shop.example'],
      ['A', 'dns-web.dns-front'],
      ['A', 'tasks.dns-web'],
      ['A', 'tasks.www'],
      ['A', '2.dns-web'],
      ['A', '2.www.dns-front'],
      ['A', `dns-web.3.${web[2]?.taskId}`],
      ['A', `dns-web.3.${web[2]?.taskId}.dns-front`],
      ['A', 'dns-rr'],
      ['A', 'tasks.dns-rr'],
      ['lookup', 'dns-rr'],
      ['A', web[1]?.containerId.slice(0, 12) ?? ''],
      ['A', hostnames[1] ?? ''],
      ['A', rr[1]?.containerId.slice(0, 12) ?? ''],
      ['tcp', 'dns-web'],
    )
    t.same(
      found.map((each, at) => (at === 14 ? '' : each)),
      [
        [virtual],
        [virtual],
        [virtual],
        [virtual],
        [virtual],
        sorted(tasks),
        sorted(tasks),
        [tasks[1]],
        [tasks[1]],
        [tasks[2]],
        [tasks[2]],
        sorted(robin),
        sorted(robin),
        sorted(robin),
        '', // has another host name
        [tasks[1]],
        [robin[1]],
        [virtual],
      ],
      from.host.name,
    )
  }
  t.same(
    await ask(asker, reverse(virtual), reverse(tasks[1] ?? ''), reverse(robin[0] ?? ''), reverse('10.201.1.250')),
    [
      ['dns-web.dns-front'],
      [`dns-web.2.${web[1]?.taskId}.dns-front`],
      [`dns-rr.1.${rr[0]?.taskId}.dns-front`],
      'ENOTFOUND',
    ],
  )
})

t.test('no such name, and no such record', async (t) => {
  t.same(await ask(asker, ['A', '7.dns-web'], ['AAAA', 'dns-web'], ['MX', 'dns-web'], ['lookup', '7.dns-web']), [
    'ENOTFOUND',
    'ENODATA',
    'ENODATA',
    'ENOTFOUND',
  ])
})

t.test('one sees its own networks, and an internal one has no way out', async (t) => {
  const [address] = await addressesOf(inner).then((all) => all.filter((one) => one.startsWith('10.201.2.')))
  t.match((await inner.exec('cat', '/etc/resolv.conf')).stdout, /^nameserver 10\.201\.2\.1$/m)
  t.same(
    await ask(
      inner,
      ['A', 'tasks.dns-db'],
      ['tcp', 'tasks.dns-db'],
      ['A', 'database'],
      ['A', 'dns-web'],
      ['A', 'www.host.test'],
    ),
    [[address], [address], [address], 'EREFUSED', 'EREFUSED'],
  )
  t.not(typeof (await askOne(asker, 'A', 'dns-db')), 'object')
})

t.test('both families', async (t) => {
  const [dual] = await create('dual', 1, '--network', 'dns-dual', '--replicas', '1', 'hello:1')
  if (!dual) throw new Error('no task')
  const own = await addressesOf(dual)
  const v6 = own.find((one) => one.startsWith('fd00:201:3:')) ?? ''
  const v4 = own.find((one) => one.startsWith('10.201.3.')) ?? ''
  const [four, six, name, all] = await ask(dual, ['A', 'tasks.dns-dual'], ['AAAA', 'tasks.dns-dual'], reverse(v6), [
    'AAAA',
    'dns-dual',
  ])
  t.same([four, six], [[v4], [v6]])
  t.same(name, [`dns-dual.1.${dual.taskId}.dns-dual`])
  t.match(all?.[0], /^fd00:201:3:/)
})

t.test('plain containers on an attachable network', async (t) => {
  await network('open', '--subnet', '10.201.4.0/24', '--attachable')
  const hosts = [n1, n1, lab.host('n2')]
  const names = ['dns-tool', 'dns-twin', 'dns-far']
  t.teardown(async () => {
    for (const [at, host] of hosts.entries()) await cluster.tryDocker(host, ['rm', '-f', names[at] ?? ''])
  })
  const containers: Inside[] = []
  for (const [at, host] of hosts.entries()) {
    const flags = ['--network', 'dns-open', '--network-alias', `kit${at}`]
    const id = await cluster.docker(host, 'run', '-d', '--name', names[at] ?? '', ...flags, 'hello:1')
    const containerId = id.trim()
    const exec = (...argv: string[]) => host.docker(['exec', containerId, ...argv], { timeoutMs: 30_000 })
    containers.push({ taskId: '', host, containerId, exec })
  }
  const addresses = await Promise.all(containers.map((each) => addressIn(each, '10.201.4.')))
  for (const from of containers) {
    const expected = addresses.flatMap((address) => [[address], [address], [address]])
    const questions = names.flatMap((name, at): Question[] => [
      ['A', name],
      ['lookup', `kit${at}.dns-open`],
      ['A', `kit${at}`],
    ])
    t.same(await ask(from, ...questions), expected)
  }
  const [tool] = containers
  if (!tool) throw new Error('no container')
  t.same(await ask(tool, reverse(addresses[2] ?? '')), [['dns-far.dns-open']])
  const foreign = `dns-web.1.${asker.taskId}`
  t.not(typeof (await askOne(tool, 'A', foreign)), 'object', 'of a task on the same node and another network')
})

t.test('a task that comes is found at once, one that goes is not', async (t) => {
  const WATCH = `
    const resolver = new (require('dns').promises.Resolver)()
    const end = Date.now() + 20000
    ;(async () => {
      while (Date.now() < end) {
        const found = await resolver.resolve4('tasks.dns-rr').catch(() => [])
        if (found.length === +process.argv[1]) return console.log(Date.now())
        await new Promise((ok) => setTimeout(ok, 2))
      }
      process.exit(1)
    })()
  `
  const watched = asker.exec('node', '-e', WATCH, '3')
  await cluster.docker(n1, 'service', 'scale', '-d', 'dns-rr=3')
  const { code, stdout } = await watched
  t.equal(code, 0, 'the third is seen')
  const filters = encodeURIComponent(JSON.stringify({ service: ['dns-rr'], 'desired-state': ['running'] }))
  const tasks = await cluster.api<{ Status: { Timestamp: string } }[]>(n1, 'GET', `/tasks?filters=${filters}`)
  const started = Math.max(...tasks.map(({ Status }) => Date.parse(Status.Timestamp)))
  t.comment(`found ${Number(stdout) - started} ms after its worker saw it run`)
  const gone = asker.exec('node', '-e', WATCH, '2')
  await cluster.docker(n1, 'service', 'scale', '-d', 'dns-rr=2')
  t.equal((await gone).code, 0, 'the third is seen no more')
})

t.test("other names come from the name servers of the node, or the container's own", async (t) => {
  const before = (await n1.exec(['cat', '/etc/resolv.conf'])).stdout
  t.teardown(() => setResolvConf(n1, before))
  await setResolvConf(n1, 'nameserver 127.0.0.53\nsearch host.test\n')
  await startNameServer(n1.execArgv(nameServer('127.0.0.53', HOST_ANSWER)))
  await startNameServer(lab.clientArgv(nameServer(lab.clientAddress, OWN_ANSWER)))
  const plain = ['--network', 'dns-front', '--constraint', `node.hostname==${n1.name}`]
  const [there] = await create('plain', 1, ...plain, 'hello:1')
  const [own] = await create(
    'own',
    1,
    ...plain,
    ...['--dns', lab.clientAddress, '--dns-search', 'own.test', '--dns-option', 'timeout:2'],
    'hello:1',
  )
  if (!there || !own) throw new Error('no tasks')
  await cluster.waitFor(
    'the new servers are read',
    async () => (await askOne(there, 'A', 'a.host.test')).length === 1,
    WAIT_MS,
  )
  t.same(await ask(there, ['A', 'www.test'], ['lookup', 'short'], ['A', 'www.example.org'], ['AAAA', 'www.test']), [
    [HOST_ANSWER],
    [HOST_ANSWER],
    'ENOTFOUND',
    'ENODATA',
  ])
  t.match((await own.exec('cat', '/etc/resolv.conf')).stdout, /^search own\.test\noptions timeout:2 ndots:0$/m)
  const [answered, searched, ours] = await ask(own, ['A', 'www.test'], ['lookup', 'short'], ['A', 'dns-rr'])
  t.same([answered, searched], [[OWN_ANSWER], [OWN_ANSWER]])
  t.equal(ours?.length, 2, 'names of the cluster come first')
})

t.test('the resolver answers nobody but containers of its node', async (t) => {
  const QUERY = '000101000001000000000000046e616d650474657374000001 0001'.replace(' ', '')
  const PROBE = `
    const s = require('dgram').createSocket('udp4'), { argv } = process
    s.on('message', (m) => { console.log(m[3] & 15); process.exit() }).on('error', (e) => { console.log(e.code); process.exit() })
    s.connect(53, argv[1], (e) => e ? s.emit('error', e) : s.send(Buffer.from('${QUERY}', 'hex')))
    setTimeout(() => { console.log('silent'); process.exit() }, 1000)
  `
  const probe = async (server: string) => (await n1.exec([process.execPath, '-e', PROBE, server])).stdout.trim()
  t.match(await probe('169.254.77.53'), /^(5|silent|E[A-Z]+)$/, 'refused, or not even reached')
  t.match(await probe(n1.address), /^(silent|E[A-Z]+)$/)
})
