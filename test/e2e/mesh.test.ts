// The ingress mesh: published ports on every node, the client's own address in the container, and updates, drains and
// faults of the node's programs that no client notices.

import { spawn } from 'node:child_process'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { insideOf } from './support/inside.ts'
import { type Answer, ask, askByDatagram, askOn, startLoad } from './support/outside.ts'
import { tasksOf, wantedTasks } from './support/workload.ts'

const WAIT_MS = 120_000
const RATE = 200
const PORT = 8080
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const cluster = await freshCluster(t)
const { lab } = cluster
t.teardown(async () => {
  for (const host of lab.hosts) await host.boot()
  // the flush took the engine's own rules as well
  await lab.host('n2').restartEngine()
})
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]

const create = (name: string, ...flags: string[]): Promise<string> =>
  cluster.docker(n1, 'service', 'create', '-d', '--no-resolve-image', '--name', name, ...flags)

async function running(service: string, count: number): Promise<void> {
  await cluster.waitFor(
    `${count} tasks of ${service} run`,
    async () =>
      wantedTasks(await tasksOf(cluster, n1, service)).filter((task) => task.Status.State === 'running').length ===
      count,
    WAIT_MS,
  )
}

/** Every host answers for the port. */
async function open(port: number): Promise<void> {
  await cluster.waitFor(
    `port ${port} is open on every node`,
    async () => (await Promise.all(lab.hosts.map((host) => ask(lab, host.address, port)))).length,
    WAIT_MS,
  )
}

async function remove(...services: string[]): Promise<void> {
  await cluster.docker(n1, 'service', 'rm', ...services)
}

t.test('every node listens for a published port, and the container sees the client', async (t) => {
  await create(
    'mesh-one',
    '--publish',
    `${PORT}:8080`,
    '--publish',
    `${PORT}:8080/udp`,
    '--constraint',
    'node.hostname==n2',
    'hello:1',
  )
  await running('mesh-one', 1)
  await open(PORT)
  const answers: Answer[] = []
  for (const host of lab.hosts) {
    const answer = await ask(lab, host.address, PORT)
    t.equal(answer.client, lab.clientAddress, `TCP by ${host.name}`)
    answers.push(answer)
    // a port of its own by each node: one that is in use towards this task is replaced
    for (const sourcePort of [0, 20_000 + answers.length]) {
      const datagram = await askByDatagram(lab, host.address, PORT, sourcePort)
      t.equal(datagram.client, lab.clientAddress, `UDP by ${host.name}`)
      if (sourcePort > 0) t.equal(datagram.port, sourcePort, `UDP by ${host.name} keeps the client's port`)
    }
  }
  t.equal(new Set(answers.map((answer) => answer.hostname)).size, 1, 'one task answers for all nodes')
  for (const host of lab.hosts) {
    for (const address of ['127.0.0.1', host.address]) {
      t.ok((await askOn(host, `http://${address}:${PORT}/`)).hostname, `${host.name} reaches it at ${address}`)
    }
  }
  const held = await n3.exec(['ss', '-Hltn', `sport = :${PORT}`])
  t.match(held.stdout, String(PORT), 'ss shows the port')
  const taken = await n3.exec([
    process.execPath,
    '-e',
    `require('net').createServer().on('error', (e) => console.log(e.code)).listen(${PORT}, '0.0.0.0')`,
  ])
  t.match(taken.stdout, 'EADDRINUSE', 'nobody else on the node gets it')
  await remove('mesh-one')
  await cluster.waitFor(
    'the port is given back',
    async () => (await n3.exec(['ss', '-Hltn', `sport = :${PORT}`])).stdout === '',
    WAIT_MS,
  )
})

t.test('one node spreads connections in turn over all tasks of the cluster', async (t) => {
  await create('mesh-four', '--publish', `${PORT}:8080`, '--replicas', '4', 'hello:1')
  await running('mesh-four', 4)
  await open(PORT)
  for (const host of lab.hosts) {
    await cluster.waitFor(
      `${host.name} knows all four`,
      async () => {
        const count = new Map<string, number>()
        for (let number = 0; number < 40; number++) {
          const { hostname } = await ask(lab, host.address, PORT)
          count.set(hostname, (count.get(hostname) ?? 0) + 1)
        }
        return count.size === 4 && [...count.values()].every((value) => value === 10)
      },
      WAIT_MS,
    )
    t.pass(`${host.name}: 10 of 40 each`)
  }
})

for (const [order, version] of [
  ['stop-first', '2'],
  ['start-first', '1'],
] as const) {
  t.test(
    `a rolling update (${order}) of 4 replicas under ${RATE} requests/s through all nodes loses none`,
    async (t) => {
      await cluster.docker(
        n1,
        ...['service', 'update', '-d', '--no-resolve-image', '--update-order', order, '--update-delay', '0s'],
        ...[
          '--health-cmd',
          'healthy',
          '--health-interval',
          '300ms',
          '--health-retries',
          '20',
          '--update-monitor',
          '1s',
        ],
        'mesh-four',
      )
      await cluster.waitFor(
        'the settings are in',
        async () => {
          const list = wantedTasks(await tasksOf(cluster, n1, 'mesh-four'))
          return list.length === 4 && list.every((task) => task.Status.State === 'running') && updated('mesh-four')
        },
        WAIT_MS,
      )
      const load = startLoad(
        lab,
        RATE,
        lab.hosts.map((host) => `http://${host.address}:${PORT}/`),
      )
      await pause(1_000)
      await cluster.docker(
        n1,
        'service',
        'update',
        '-d',
        '--no-resolve-image',
        '--image',
        `hello:${version}`,
        'mesh-four',
      )
      await cluster.waitFor('the update is complete', () => updated('mesh-four', `hello:${version}`), WAIT_MS)
      await pause(1_000)
      const result = await load.stop()
      t.comment(JSON.stringify(result))
      t.strictSame(result.failures, [], `none of ${result.sent} was lost`)
      t.ok(result.versions[version], 'the new version answered')
      t.equal(result.answered, result.sent)
    },
  )
}

/** The update is over, and all four run this image. */
async function updated(service: string, image?: string): Promise<boolean> {
  const shown = await cluster.api<{ UpdateStatus?: { State: string } }>(n1, 'GET', `/services/${service}`)
  const filters = encodeURIComponent(JSON.stringify({ service: [service], 'desired-state': ['running'] }))
  const tasks = await cluster.api<readonly { Status: { State: string }; Spec: { ContainerSpec: { Image: string } } }[]>(
    n1,
    'GET',
    `/tasks?filters=${filters}`,
  )
  const isDone = shown.UpdateStatus === undefined || shown.UpdateStatus.State === 'completed'
  const run = tasks.filter(
    ({ Status, Spec }) => Status.State === 'running' && (!image || Spec.ContainerSpec.Image === image),
  )
  return isDone && run.length === 4 && tasks.length === 4
}

const CALLS = `
  const { get } = require('http')
  const [name, rate, seconds] = process.argv.slice(1)
  const result = { sent: 0, answered: 0, versions: {}, failures: [] }
  const call = () => {
    result.sent++
    get({ host: name, port: 8080, agent: false, timeout: 5000 }, (response) => {
      response.setEncoding('utf8').on('data', (text) => {
        const version = /version=(\\S+)/.exec(text)[1]
        result.versions[version] = (result.versions[version] ?? 0) + 1
      }).on('end', () => result.answered++)
    }).on('timeout', function () { this.destroy(new Error('timed out')) })
      .on('error', (error) => result.failures.push(error.code || error.message))
  }
  const timer = setInterval(call, 1000 / rate)
  setTimeout(() => clearInterval(timer), seconds * 1000)
  process.on('exit', () => console.log(JSON.stringify(result)))
`

t.test('a rolling update of a service without a virtual address loses nobody who asks by its name', async (t) => {
  await cluster.docker(n1, 'network', 'create', '-d', 'overlay', 'mesh-names')
  const health = ['--health-cmd', 'healthy', '--health-interval', '300ms', '--health-retries', '20']
  const update = ['--update-delay', '0s', '--update-monitor', '1s', '--replicas', '4']
  const network = ['--network', 'mesh-names']
  await create('mesh-direct', '--endpoint-mode', 'dnsrr', ...network, ...health, ...update, 'hello:1')
  await create('mesh-caller', ...network, 'hello:1')
  await running('mesh-direct', 4)
  await running('mesh-caller', 1)
  const caller = (await insideOf(cluster, 'mesh-caller'))[0]
  if (!caller) throw new Error('mesh-caller runs')
  const results: { sent: number; answered: number; versions: Record<string, number>; failures: string[] }[] = []
  let isComplete = false
  const calling = (async () => {
    // once more after the update is complete
    for (let last = false; !last; ) {
      last = isComplete
      const { stdout } = await caller.exec('node', '-e', CALLS, 'mesh-direct', '50', '4')
      results.push(JSON.parse(stdout) as (typeof results)[number])
    }
  })()
  await cluster.docker(n1, 'service', 'update', '-d', '--no-resolve-image', '--image', 'hello:2', 'mesh-direct')
  await cluster.waitFor('the update is complete', () => updated('mesh-direct', 'hello:2'), WAIT_MS)
  isComplete = true
  await calling
  const sent = results.reduce((sum, each) => sum + each.sent, 0)
  t.strictSame(
    results.flatMap(({ failures }) => failures),
    [],
    `none of ${sent} was lost`,
  )
  t.equal(
    results.reduce((sum, each) => sum + each.answered, 0),
    sent,
  )
  t.same(Object.keys(results.at(-1)?.versions ?? {}), ['2'], 'nobody was sent to the old version afterwards')
  await remove('mesh-direct', 'mesh-caller')
})

t.test('draining a node loses no request', async (t) => {
  const load = startLoad(
    lab,
    RATE,
    lab.hosts.map((host) => `http://${host.address}:${PORT}/`),
  )
  await pause(1_000)
  await cluster.docker(n1, 'node', 'update', '--availability', 'drain', 'n3')
  const n3Id = (await cluster.swarmState(n3)).NodeID
  await cluster.waitFor(
    'n3 has no task, and all four run elsewhere',
    async () => {
      const list = await tasksOf(cluster, n1, 'mesh-four')
      const there = list.filter((task) => task.NodeID === n3Id && task.Status.State === 'running')
      const elsewhere = list.filter((task) => task.NodeID !== n3Id && task.Status.State === 'running')
      return there.length === 0 && elsewhere.length === 4
    },
    WAIT_MS,
  )
  await pause(1_000)
  const result = await load.stop()
  t.comment(JSON.stringify(result))
  t.strictSame(result.failures, [], `none of ${result.sent} was lost`)
  await cluster.docker(n1, 'node', 'update', '--availability', 'active', 'n3')
})

t.test('connections outlive swarmd and swarmd-net; after a flush of all rules traffic flows again', async (t) => {
  const connections = await Promise.all(lab.hosts.map((host) => steadyConnection(host)))
  const load = startLoad(
    lab,
    50,
    lab.hosts.map((host) => `http://${host.address}:${PORT}/`),
  )
  await n2.killSwarmd()
  await pause(3_000)
  await n2.startSwarmd()
  const killed = await n2.exec(['pkill', '-KILL', '-f', 'swarmd-net.mjs'])
  t.equal(killed.code, 0, 'swarmd-net was running')
  await pause(3_000)
  const result = await load.stop()
  t.strictSame(result.failures, [], `SIGKILL of swarmd and of swarmd-net: none of ${result.sent} was lost`)
  for (const connection of connections) {
    const answers = connection.answers()
    t.ok(answers > 4 && connection.isOpen(), `a connection through ${connection.host.name} goes on: ${answers} answers`)
  }
  await n2.exec(['nft', 'flush', 'ruleset'])
  const began = performance.now()
  await cluster.waitFor('n2 answers again', async () => (await ask(lab, n2.address, PORT)).hostname, WAIT_MS)
  t.comment(`nft flush ruleset: an answer after ${Math.round(performance.now() - began)} ms`)
})

interface SteadyConnection {
  readonly host: LabHost
  readonly answers: () => number
  readonly isOpen: () => boolean
}

/** One connection from the client through `host`, on which a request is sent twice a second. */
async function steadyConnection(host: LabHost): Promise<SteadyConnection> {
  const script = `
    const socket = require('net').connect(${PORT}, '${host.address}')
    socket.on('data', (data) => process.stdout.write(String(data).includes('200 OK') ? 'y' : ''))
    socket.on('error', () => process.exit(1)).on('close', () => process.exit(1))
    setInterval(() => socket.write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'), 500)
    process.stdin.on('end', () => process.exit(0)).resume()
  `
  const [command = '', ...args] = lab.clientArgv([process.execPath, '-e', script])
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.stdin.end())
  let answers = 0
  child.stdout.on('data', (data: Buffer) => {
    answers += data.length
  })
  await cluster.waitFor(`a connection through ${host.name} answers`, async () => answers > 0, WAIT_MS)
  return { host, answers: () => answers, isOpen: () => child.exitCode === null && child.signalCode === null }
}

t.test('a port that the host itself uses is not served there, and the node says who has it', async (t) => {
  const [command = '', ...args] = n2.execArgv([
    process.execPath,
    '-e',
    `require('http').createServer((q, r) => r.end('mine')).listen(8099, '0.0.0.0'); process.stdin.on('end', () => process.exit()).resume()`,
  ])
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'inherit'] })
  t.teardown(() => child.stdin.end())
  await cluster.waitFor(
    'the host has the port',
    async () => (await n2.exec(['ss', '-Hltn', 'sport = :8099'])).stdout !== '',
    WAIT_MS,
  )
  await create('mesh-taken', '--publish', '8099:8080', 'hello:1')
  await running('mesh-taken', 1)
  for (const host of [n1, n3]) {
    await cluster.waitFor(`${host.name} serves it`, async () => (await ask(lab, host.address, 8099)).hostname, WAIT_MS)
  }
  const mine = await lab.client(['curl', '-sS', '--max-time', '5', `http://${n2.address}:8099/`])
  t.equal(mine.stdout, 'mine', "the host's own program goes on")
  await cluster.waitFor(
    'the node says so',
    async () => {
      const node = await cluster.api<{ Status: { Message?: string } }>(n1, 'GET', '/nodes/n2')
      return /8099\/tcp/.test(node.Status.Message ?? '') && /node/.test(node.Status.Message ?? '')
    },
    WAIT_MS,
  )
  child.stdin.end()
  await cluster.waitFor('n2 serves it then', async () => (await ask(lab, n2.address, 8099)).hostname, WAIT_MS)
  await remove('mesh-taken')
})

t.test('prefer-local keeps traffic on the node that it entered; affinity sends a client to one task', async (t) => {
  await remove('mesh-four')
  await create(
    'mesh-local',
    '--mode',
    'global',
    '--publish',
    '8081:8080',
    '--label',
    'io.swarmctl.prefer-local=true',
    'hello:1',
  )
  await create(
    'mesh-sticky',
    '--replicas',
    '3',
    '--publish',
    '8082:8080',
    '--label',
    'io.swarmctl.affinity=client',
    'hello:1',
  )
  await running('mesh-local', 3)
  await running('mesh-sticky', 3)
  await open(8081)
  await open(8082)
  const namesBy = async (host: LabHost, port: number): Promise<readonly string[]> => {
    const names = new Set<string>()
    for (let number = 0; number < 9; number++) names.add((await ask(lab, host.address, port)).hostname)
    return [...names]
  }
  await cluster.waitFor(
    'each node answers by its own task',
    async () => {
      const all = await Promise.all(lab.hosts.map((host) => namesBy(host, 8081)))
      return all.every((names) => names.length === 1) && new Set(all.flat()).size === 3
    },
    WAIT_MS,
  )
  await cluster.waitFor('one task answers the client', async () => (await namesBy(n1, 8082)).length === 1, WAIT_MS)
  t.pass()
  await remove('mesh-local', 'mesh-sticky')
})
