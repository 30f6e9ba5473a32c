/**
 * swarmd-net on a host of its own, with a real engine and no swarmd: Docker's driver protocol, and what traffic notices when the
 * program's processes are killed or replaced (nothing).
 */
import { spawn } from 'node:child_process'
import { existsSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab } from '../../lab/lab.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import type { DataPlaneRecord } from '../../src/api/data-plane.ts'
import { callControl } from '../../src/overlay/control-client.ts'
import type { DesiredChange } from '../../src/overlay/desired-state.ts'
import { NETWORK_ID_KEY } from '../../src/overlay/driver-options.ts'
import { waitFor } from './support/wait-for.ts'

const name = 'e2enet'
const dir = defaultLabDir(name)
const WAIT_MS = 60_000
const program = fileURLToPath(new URL('../../src/overlay/main.js', import.meta.url))

t.setTimeout(300_000)
const lab = await Lab.up({ name, dir, managers: 1, workers: 0, swarmd: false })
t.teardown(() => Lab.down({ name, dir }))
const host = lab.host('n1')
const stateDir = join(host.paths.dir, 'net')
const runDir = join(host.paths.dir, 'net-run')
const control = join(runDir, 'control.sock')
const logFile = join(host.paths.dir, 'swarmd-net.log')
const flags = [`--state-dir=${stateDir}`, `--run-dir=${runDir}`]

function start(own: readonly string[] = flags): void {
  const log = openSync(logFile, 'a')
  const [file = '', ...args] = host.execArgv([process.execPath, program, 'start', ...own])
  spawn(file, args, { detached: true, stdio: ['ignore', log, log] }).unref()
}

const version = () => waitFor('swarmd-net answers', () => callControl(control, 'Version', {}), WAIT_MS)
const kill = (pid: number) => host.exec(['kill', '-9', String(pid)])

async function docker(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.docker(args, { timeoutMs: 60_000 })
  if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr}`)
  return stdout.trim()
}

const self = { nodeId: 'node1', number: 1, address: host.address, dataPathPort: 4789 }
const [INGRESS, OVERLAY] = ['ingress0', 'overlay0']
const port = (published: number) => ({ protocol: 'tcp', published, target: 8080, preferLocal: false }) as const
const web = { serviceId: 'web0', name: 'web', aliases: [], affinity: false }
const task = {
  taskId: 'task0',
  nodeNumber: 1,
  serviceId: 'web0',
  serviceName: 'web',
  slot: 1,
  name: 'web.1.task0',
  hostname: 'web1',
  aliases: [],
  serving: true,
  encrypted: false,
}
const network = { internal: false, encrypted: false, attachable: false, mtu: 0 }
const peer = {
  nodeId: 'node1',
  hostname: 'n1',
  number: 1,
  address: host.address,
  port: 4789,
  mtu: 1500,
  encryptionKeys: [],
  encryptionProblem: '',
}
const records = (published: readonly number[]): readonly DataPlaneRecord[] => [
  { kind: 'peer', peer },
  {
    kind: 'overlay-network',
    network: {
      ...network,
      id: INGRESS,
      name: 'ingress',
      vni: 4096,
      subnets: [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }],
      ingress: true,
    },
  },
  {
    kind: 'overlay-network',
    network: {
      ...network,
      id: OVERLAY,
      name: 'front',
      vni: 4097,
      subnets: [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1' }],
      ingress: false,
    },
  },
  { kind: 'end-point', endpoint: { ...task, networkId: OVERLAY, addresses: ['10.0.1.10'] } },
  { kind: 'end-point', endpoint: { ...task, networkId: INGRESS, addresses: ['100.64.2.10'] } },
  { kind: 'overlay-service', service: { ...web, networkId: OVERLAY, virtualIps: ['10.0.1.2'], ports: [] } },
  { kind: 'overlay-service', service: { ...web, networkId: INGRESS, virtualIps: [], ports: published.map(port) } },
]
let revision = 0
function complete(published: readonly number[]): DesiredChange {
  revision++
  return { self, revision, complete: true, set: records(published), removed: [] }
}

/** As the worker makes them: the engine's part of a cluster network. */
async function createNetwork(
  networkName: string,
  id: string,
  subnet: string,
  gateway: string,
  driver = 'swarmctl',
): Promise<void> {
  const option = `${NETWORK_ID_KEY}=${id}`
  const ipam = ['--ipam-driver', driver, '--ipam-opt', option, '--subnet', subnet, '--gateway', gateway]
  await docker('network', 'create', '-d', driver, ...ipam, '-o', option, networkName)
}

async function run(container: string, image: string, places: readonly string[][], ...command: string[]): Promise<void> {
  const [first = [], ...others] = places
  const resolv = `${join(host.paths.dir, 'resolv.conf')}:/etc/resolv.conf:ro`
  await docker('create', '--name', container, '-v', resolv, '--network', ...first, image, ...command)
  for (const place of others) await docker('network', 'connect', ...place.slice(1), place[0] ?? '', container)
  await docker('start', container)
}

start()
writeFileSync(join(host.paths.dir, 'resolv.conf'), 'nameserver 169.254.77.53\noptions ndots:0\n')

t.test('an increment is refused before everything was told; then the kernel has what Apply answers', async (t) => {
  const { facts, instance } = await version()
  t.match(facts, { driver: 'swarmctl', dnsAddress: '169.254.77.53' })
  t.equal(instance, 0)
  const increment = { ...complete([8080]), complete: false }
  await t.rejects(callControl(control, 'Apply', increment), { code: 'DATA_PLANE_RESYNC' })
  await callControl(control, 'Apply', complete([8080]))
  const { stdout } = await host.exec(['ip', '-n', 'swarmctl', '-br', 'link', 'show', 'type', 'bridge'])
  t.match(stdout, /^brg .*^br4097 /ms)
  const { report } = await callControl(control, 'Report', {})
  t.match(report, { port: 4789, mtu: 1500, problems: [] })
  t.match(report.routes, [/^10\.77\.\d+\.0\/24$/, '172.17.0.0/16'], 'none of its own')
})

t.test('a container has the addresses it was given, one default route, and names', async (t) => {
  await createNetwork('front', OVERLAY, '10.0.1.0/24', '10.0.1.1')
  await createNetwork('ingress', INGRESS, '100.64.2.0/23', '100.64.2.1')
  await createNetwork('swarmctl_egress', 'egress', '100.96.0.0/16', '100.96.0.1')
  await run('web', 'hello:1', [
    ['front', '--ip', '10.0.1.10'],
    ['ingress', '--ip', '100.64.2.10'],
  ])
  await run('client', 'hello:1', [['front', '--ip', '10.0.1.20'], ['swarmctl_egress']])
  for (const address of ['10.0.1.10/24', '100.64.2.10/23']) {
    t.match(await docker('exec', 'web', 'ip', '-4', 'addr'), address)
  }
  t.match(await docker('exec', 'web', 'ip', 'route'), /^default via 100\.64\.2\.1 /m)
  t.match(await docker('exec', 'client', 'ip', 'route'), /^default via 100\.96\.0\.1 /m, 'egress only')
  const inspected = JSON.parse(await docker('inspect', '-f', '{{json .NetworkSettings.Networks}}', 'client'))
  t.match(inspected, {
    front: { IPAddress: '10.0.1.20', MacAddress: '02:42:0a:00:01:14' },
    swarmctl_egress: { IPAddress: '100.96.0.2' },
  })
  t.match(await docker('exec', 'client', 'nslookup', 'web'), '10.0.1.2')
  t.match(
    await docker('exec', 'client', 'wget', '-q', '-O-', 'http://web:8080/').catch(() => fetchIn('client', 'web')),
    'client=10.0.1.20',
  )
})

const FETCH = `require('http').get({host:process.argv[1],port:8080,agent:false,timeout:3000},r=>r.pipe(process.stdout)).on('timeout',function(){this.destroy(new Error('timed out'))}).on('error',e=>{console.error(e.message);process.exit(1)})`
const fetchIn = (container: string, target: string) => docker('exec', container, 'node', '-e', FETCH, target)

t.test(
  'a network that is not the cluster’s, and one that the cluster has not told of, are refused in words',
  async (t) => {
    const plain = ['network', 'create', '-d', 'swarmctl', '--ipam-driver', 'swarmctl', '--subnet', '10.9.9.0/24', 'own']
    t.match((await host.docker(plain)).stderr, 'this driver is for the networks of the cluster')
    await createNetwork('ghost', 'unknown0', '10.0.9.0/24', '10.0.9.1')
    const ghost = await host.docker(['run', '--rm', '--network', 'ghost', '--ip', '10.0.9.5', 'busybox', 'true'])
    t.match(ghost.stderr, 'the cluster has not told this node of network unknown0 yet')
    await docker('network', 'rm', 'ghost')
  },
)

t.test(
  'an address is given again to a container after its first one is gone, also when the engine forgot to say so',
  async (t) => {
    for (const round of [1, 2]) {
      await run(`short${round}`, 'busybox', [['front', '--ip', '10.0.1.30']])
      t.equal((await host.docker(['exec', 'client', 'ping', '-c', '1', '-W', '2', '10.0.1.30'])).code, 0)
      await docker('rm', '-f', `short${round}`)
    }
    await run('lost', 'busybox', [['front', '--ip', '10.0.1.31']])
    await host.killEngine()
    await host.startEngine()
    await docker('rm', '-f', 'lost', 'web', 'client')
    await run('found', 'busybox', [['front', '--ip', '10.0.1.31']])
    await run('web', 'hello:1', [
      ['front', '--ip', '10.0.1.10'],
      ['ingress', '--ip', '100.64.2.10'],
    ])
    await run('client', 'hello:1', [['front', '--ip', '10.0.1.20'], ['swarmctl_egress']])
    await docker('exec', 'client', 'ping', '-c', '1', '-W', '2', '10.0.1.31')
  },
)

/** Looks names up and opens connections by them until it is told to stop; one connection lives through it all. */
const LOAD = `
const http = require('http'), { lookup } = require('dns'), { existsSync } = require('fs')
const seen = { requests: 0, lookups: 0, failures: [], slowestMs: 0, kept: 0 }
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
const sockets = new Set()
const note = (what) => (e) => seen.failures.push(what + ': ' + e.message)
const ask = (options, done) => {
  const began = Date.now()
  const request = http.get({ port: 8080, timeout: 8000, ...options }, (r) => { r.resume(); r.on('end', () => { seen.slowestMs = Math.max(seen.slowestMs, Date.now() - began); done() }) })
  request.on('socket', (s) => options.agent && sockets.add(s))
  request.on('timeout', () => request.destroy(new Error('timed out')))
  request.on('error', (e) => { note(options.host)(e); done() })
}
const each = (work) => { const next = () => existsSync('/tmp/stop') ? ended() : work(() => setTimeout(next, 5)); next() }
let running = 3
const ended = () => { if (--running === 0) { seen.kept = sockets.size; console.log(JSON.stringify(seen)); process.exit(0) } }
each((next) => ask({ host: 'web', agent: false }, () => { seen.requests++; next() }))
each((next) => ask({ host: '10.0.1.2', agent }, () => { seen.requests++; next() }))
each((next) => lookup('tasks.web', (e, address) => { if (e) note('lookup')(e); else if (address !== '10.0.1.10') note('lookup')(new Error(address)); seen.lookups++; next() }))
`

t.test('killing or replacing server and holder breaks no connection and loses no look-up', async (t) => {
  const load = host.docker(['exec', 'client', 'node', '-e', LOAD], { timeoutMs: 120_000 })
  const first = await version()
  await kill(first.pid)
  const second = await version()
  t.not(second.pid, first.pid)
  t.equal(second.holderPid, first.holderPid, 'the holder has started it again')

  await kill(second.holderPid)
  const third = await waitFor(
    'another holder',
    async () => {
      const now = await version()
      return now.holderPid !== second.holderPid && now
    },
    WAIT_MS,
  )
  t.equal(third.pid, second.pid, 'the server went on and has made a holder')

  await kill(third.pid)
  const fourth = await version()
  t.equal(fourth.holderPid, third.holderPid, 'which starts a server as the first one did')

  await callControl(control, 'Upgrade', { program })
  const fifth = await waitFor(
    'another server',
    async () => {
      const now = await version()
      return now.pid !== fourth.pid && now
    },
    WAIT_MS,
  )
  t.equal(fifth.holderPid, fourth.holderPid)
  await t.rejects(callControl(control, 'Upgrade', { program: '/nowhere.mjs' }), { code: 'NO_PROGRAM' })

  await docker('exec', 'client', 'touch', '/tmp/stop')
  const { stdout, stderr } = await load
  const seen = JSON.parse(stdout || 'null')
  t.same(seen?.failures, [], stderr)
  t.equal(seen.kept, 1, 'one connection for all requests that keep theirs')
  t.ok(seen.requests > 30 && seen.lookups > 30, stdout)
  t.comment(stdout)
})

t.test('a container starts while the server is being replaced', async (t) => {
  const { pid } = await version()
  await kill(pid)
  await run('meanwhile', 'busybox', [['front', '--ip', '10.0.1.40']])
  t.match(await docker('exec', 'client', 'ping', '-c', '1', '-W', '2', '10.0.1.40'), ' 0% packet loss')
})

t.test(
  'server and holder killed, one a moment after the other too: ports are served on, and another can start',
  async (t) => {
    for (const pause of ['0', '0.02']) {
      const { pid, holderPid } = await version()
      await host.exec(['sh', '-c', `kill -9 ${holderPid}; sleep ${pause}; kill -9 ${pid}`])
      t.match(await curl('127.0.0.1:8080'), 'hello version=1', 'the kernel goes on')
      // a holder that had been handed part of the sockets ends; one that had been handed all of them has started a server
      const settled = async () => (await processes()) === '' || (await callControl(control, 'Version', {})).pid !== pid
      await waitFor('nobody is left, or another server', settled, WAIT_MS)
      if ((await processes()) === '') start()
      t.not((await version()).pid, pid)
      t.same((await callControl(control, 'Report', {})).report.problems, [], 'no port was taken from it')
      t.match(await curl('127.0.0.1:8080'), 'hello version=1', `taken over after ${pause} s`)
    }
  },
)

t.test('a published port is held against others, and what others hold is not served but told', async (t) => {
  const listen = (at: number) =>
    `require('net').createServer().on('error',e=>{console.log(e.code);process.exit()}).listen(${at},'0.0.0.0',()=>{console.log('listens');process.exit()})`
  t.equal((await host.exec(['node', '-e', listen(8080)])).stdout, 'EADDRINUSE\n')
  t.match((await host.exec(['ss', '-Hltn', 'sport = :8080'])).stdout, 'LISTEN')
  t.match(await curl('127.0.0.1:8080'), 'hello version=1')
  t.match(await curl('localhost:8080'), 'hello version=1', 'also for clients that try [::1] first')

  const [file = '', ...args] = host.execArgv([
    'node',
    '-e',
    `require('net').createServer(s=>s.end('mine')).listen(9090)`,
  ])
  const owner = spawn(file, args, { stdio: 'ignore' })
  t.teardown(() => owner.kill('SIGKILL'))
  await waitFor('somebody listens', async () => (await host.exec(['ss', '-Hltn', 'sport = :9090'])).stdout, WAIT_MS)
  await callControl(control, 'Apply', complete([8080, 9090]))
  const { report } = await callControl(control, 'Report', {})
  t.match(report.problems, [
    { code: 'PORT_IN_USE', subject: '9090/tcp', message: /in use on this node by node \(process \d+\)/ },
  ])
  const ask = `require('net').connect(9090,'127.0.0.1').on('data',d=>console.log(''+d))`
  t.equal((await host.exec(['node', '-e', ask])).stdout, 'mine\n', 'its owner keeps it')

  await host.exec(['pkill', '-KILL', '-f', 'listen.9090.'])
  await waitFor('it is served after all', async () => (await curl('127.0.0.1:9090')).includes('hello'), WAIT_MS)
  t.same((await callControl(control, 'Report', {})).report.problems, [])

  await callControl(control, 'Apply', complete([]))
  t.equal((await host.exec(['node', '-e', listen(8080)])).stdout, 'listens\n', 'it is free again')
})

t.test('a network that the kernel refuses is told of, until it can be made', async (t) => {
  const foreign = ['type', 'vxlan', 'id', '4200', 'local', host.address, 'dstport', '4789']
  t.equal((await host.exec(['ip', 'link', 'add', 'foreign', ...foreign])).code, 0)
  const subnets = [{ subnet: '10.0.9.0/24', gateway: '10.0.9.1' }]
  const refused = { ...network, id: 'refused', name: 'taken', vni: 4200, subnets, ingress: false }
  const change = complete([])
  await callControl(control, 'Apply', {
    ...change,
    set: [...change.set, { kind: 'overlay-network', network: refused }],
  })
  const problems = async () => (await callControl(control, 'Report', {})).report.problems
  t.match(await problems(), [{ code: 'NETWORK_UNUSABLE', subject: 'refused', message: /^network taken can't be made/ }])
  await host.exec(['ip', 'link', 'delete', 'foreign'])
  await waitFor('it is made', async () => (await problems()).length === 0, WAIT_MS)
  await callControl(control, 'Apply', complete([]))
})

const curl = async (where: string) => (await host.exec(['curl', '-s', '-m', '3', `http://${where}/`])).stdout

t.test('it starts from its last state, without anybody to tell it', async (t) => {
  await callControl(control, 'Apply', complete([8080]))
  await callControl(control, 'Stop', {})
  await waitFor('it has ended', async () => (await processes()) === '', WAIT_MS)
  t.match(await fetchIn('client', '10.0.1.2'), 'hello', 'the kernel goes on')
  await host.exec(['ip', 'netns', 'exec', 'swarmctl', 'nft', 'flush', 'ruleset'])
  start()
  await version()
  t.match(await curl('127.0.0.1:8080'), 'hello version=1')
  t.match(await fetchIn('client', 'web'), 'hello')
})

const processes = async () => (await host.exec(['pgrep', '-f', 'overlay/main.js'])).stdout.trim()

t.test('a second one on the same state is refused', async (t) => {
  const second = await host.exec([process.execPath, program, 'start', ...flags])
  t.equal(second.code, 1)
  t.match(second.stderr, /another swarmd-net runs on .*\/net/)
})

/** Listening sockets that this process does not read from, as systemd's: their descriptors here. */
async function listenWithoutServing(paths: readonly string[]): Promise<readonly number[]> {
  const specs = paths.map((path) => ({ kind: 'unix', name: path, path }))
  const opener = spawn(process.execPath, [program, 'open', JSON.stringify(specs)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const held: { readonly fd: number }[] = []
  await new Promise<void>((resolve) => {
    opener.on('message', (_, handle) => {
      held.push(handle as unknown as { readonly fd: number })
      if (held.length === paths.length) opener.send('done', () => resolve())
    })
  })
  t.teardown(() => held.splice(0)) // held on to until then
  return held.map(({ fd }) => fd)
}

t.test('sockets that systemd keeps are served, calls that waited there too', async (t) => {
  const paths = ['plugin', 'control'].map((each) => join(host.paths.dir, `sd-${each}.sock`))
  const fds = await listenWithoutServing(paths)
  const sdFlags = ['plugin', 'run', 'state'].map((each) => `--${each}-dir=${join(host.paths.dir, 'sd', each)}`)
  const command = `LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=plugin:control exec "$0" "$@" start --supervised ${sdFlags.join(' ')}`
  const [file = '', ...args] = host.execArgv(['sh', '-c', command, process.execPath, program])
  const log = openSync(logFile, 'a')
  const child = spawn(file, args, { stdio: ['ignore', log, log, ...fds] })
  const answer = await callControl(paths[1] ?? '', 'Version', {})
  t.equal(answer.instance, 1, 'the second node on this machine')
  t.equal(answer.facts.driver, 'swarmctl1')
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await kill(answer.holderPid)
  await ended
  const gone = async () => (await host.exec(['kill', '-0', String(answer.pid)])).code !== 0
  await waitFor('the server leaves the field to systemd', gone, WAIT_MS)
})

t.test('two nodes share the host’s network namespace, one overlay and one published port', async (t) => {
  const root = join(host.paths.dir, 'second')
  const secondFlags = ['run', 'state'].map((each) => `--${each}-dir=${join(root, each)}`)
  start(secondFlags)
  const secondControl = join(root, 'run', 'control.sock')
  const { facts } = await waitFor('the second answers', () => callControl(secondControl, 'Version', {}), WAIT_MS)
  t.equal(facts.driver, 'swarmctl1')
  const { report } = await callControl(secondControl, 'Report', {})
  t.equal(report.port, 4799, 'tunnels of its own')

  const other = { ...task, taskId: 'task2', nodeNumber: 2, name: 'web.2.task2', slot: 2 }
  const more: readonly DataPlaneRecord[] = [
    { kind: 'peer', peer: { ...peer, nodeId: 'node2', number: 2, port: 4799 } },
    { kind: 'end-point', endpoint: { ...other, networkId: OVERLAY, addresses: ['10.0.1.50'] } },
    {
      kind: 'end-point',
      endpoint: { ...task, taskId: 'task3', serviceId: 'client0', networkId: OVERLAY, addresses: ['10.0.1.20'] },
    },
  ]
  const shared = complete([8080])
  const change = { ...shared, set: [...shared.set, ...more] }
  await callControl(control, 'Apply', change)
  await callControl(secondControl, 'Apply', { ...change, self: { ...self, nodeId: 'node2', number: 2 } })
  await createNetwork('front1', OVERLAY, '10.0.1.0/24', '10.0.1.1', 'swarmctl1')
  await run('other', 'hello:1', [['front1', '--ip', '10.0.1.50']])
  t.match(await fetchIn('client', '10.0.1.50'), 'client=10.0.1.20', 'from the first node’s container')
  t.match(await fetchIn('other', '10.0.1.10'), 'client=10.0.1.50', 'and to it')
  const answers = [await fetchIn('client', 'web'), await fetchIn('client', 'web')]
  t.equal(new Set(answers.map((text) => / hostname=(\S+)/.exec(text)?.[1])).size, 2, 'a service on both')

  t.match((await callControl(secondControl, 'Report', {})).report.problems, [
    { code: 'PORT_IN_USE', subject: '8080/tcp', message: /by .*swarmd-net|by node \(process \d+\)/ },
  ])
  t.match(await curl('127.0.0.1:8080'), 'hello version=1', 'the first one has it')

  await docker('rm', '-f', 'other')
  await docker('network', 'rm', 'front1')
  t.equal((await host.exec([process.execPath, program, 'remove', ...secondFlags])).code, 0)
  await callControl(control, 'Apply', complete([8080]))
  t.match(await fetchIn('client', 'web'), 'hello', 'one leaves the other alone')
})

t.test('in no cluster it takes everything down; remove leaves nothing of it', async (t) => {
  for (const container of ['web', 'client', 'meanwhile', 'found']) await docker('rm', '-f', container)
  for (const each of ['front', 'ingress', 'swarmctl_egress']) await docker('network', 'rm', each)
  const nothing = { self: undefined, revision: ++revision, complete: true, set: [], removed: [] }
  await callControl(control, 'Apply', nothing)
  t.equal((await host.exec(['ip', 'netns', 'list'])).stdout, '')
  t.match((await callControl(control, 'Report', {})).report.problems, [{ code: 'NOT_IN_CLUSTER' }])
  // As a server leaves it that is killed while it takes things down.
  await host.exec(['ip', 'netns', 'add', 'swarmctl'])
  await kill((await version()).pid)
  await version()
  t.equal((await host.exec(['ip', 'netns', 'list'])).stdout, '', 'the next one does what is left to do')
  await callControl(control, 'Apply', complete([8080]))
  const removed = await host.exec([process.execPath, program, 'remove', ...flags])
  t.equal(removed.code, 0, removed.stderr)
  t.equal(await processes(), '')
  t.equal((await host.exec(['ip', 'netns', 'list'])).stdout, '')
  t.notMatch((await host.exec(['ip', '-br', 'link'])).stdout, 'fab0')
  t.notMatch((await host.exec(['nft', 'list', 'tables'])).stdout, 'swarmctl')
  t.notMatch((await host.exec(['iptables-save'])).stdout, 'fab0')
  t.notOk(existsSync(stateDir))
  t.notOk(existsSync(runDir))
  t.equal((await host.exec([process.execPath, program, 'remove', ...flags])).code, 0, 'a second time is no error')
})
