// The data plane and the life of a host: engines that are killed or restarted while containers go on, other MTUs, a cold boot
// in either order, and two nodes in one network namespace.

import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startInHost } from '../../lab/host-process.ts'
import { Lab } from '../../lab/lab.ts'
import { swarmdProgram } from '../../lab/lab-host.ts'
import { defaultLabDir, switchNetns } from '../../lab/layout.ts'
import { must } from '../../lab/run.ts'
import { Cluster } from './support/cluster.ts'
import { addressesOf, fetchFrom, type Inside, insideOf, pings } from './support/inside.ts'
import { ask } from './support/outside.ts'
import { FILE_TIMEOUT_MS } from './support/shared-lab.ts'

const WAIT_MS = 120_000
const PORT = 8080
const name = 'e2elife'
const dir = defaultLabDir(name)
t.setTimeout(FILE_TIMEOUT_MS)
t.teardown(() => Lab.down({ name, dir }))
const log = (line: string): void => t.comment(line)
const lab = await Lab.up({ name, dir, managers: 1, workers: 1, liveRestore: true, log })
const cluster = await Cluster.form(lab)
const [n1, n2] = [lab.host('n1'), lab.host('n2')]
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const running = (service: string, count: number): Promise<readonly Inside[]> =>
  cluster.waitFor(
    `${count} tasks of ${service} run`,
    async () => {
      const found = await insideOf(cluster, service)
      return found.length === count && found
    },
    WAIT_MS,
  )

function on(list: readonly Inside[], host: { readonly name: string }): Inside {
  const found = list.find((inside) => inside.host.name === host.name)
  if (!found) throw new Error(`no task on ${host.name}`)
  return found
}

const overlayAddress = async (inside: Inside): Promise<string> =>
  (await addressesOf(inside)).find((address) => address.startsWith('10.')) ?? ''

await cluster.docker(n1, 'network', 'create', '-d', 'overlay', 'life')
await cluster.docker(
  n1,
  ...['service', 'create', '-d', '--no-resolve-image', '--name', 'life-web', '--network', 'life', '--mode', 'global'],
  ...['--publish', `${PORT}:8080`, 'hello:1'],
)
await running('life-web', 2)

for (const [how, act] of [
  ['a restart', () => n2.restartEngine()],
  [
    'a kill',
    async () => {
      await n2.killEngine()
      await pause(1_000)
      await n2.startEngine()
    },
  ],
] as const) {
  t.test(`with live-restore, ${how} of the engine breaks no connection, and new tasks start afterwards`, async (t) => {
    const web = await running('life-web', 2)
    const before = on(web, n2).containerId
    const inner = steady(await beside(on(web, n1)), await overlayAddress(on(web, n2)))
    const outer = steady(lab.clientArgv([]), n2.address)
    await cluster.waitFor('both connections answer', async () => inner.answers() > 1 && outer.answers() > 1, WAIT_MS)
    await act()
    const seen = { inner: inner.answers(), outer: outer.answers() }
    await cluster.waitFor(
      'both go on',
      async () => inner.answers() > seen.inner + 2 && outer.answers() > seen.outer + 2,
      WAIT_MS,
    )
    t.ok(inner.isOpen() && outer.isOpen(), 'between containers, and from outside')
    t.equal(on(await running('life-web', 2), n2).containerId, before, 'the container is the same')
    await cluster.docker(n1, 'service', 'update', '-d', '--force', '--no-resolve-image', 'life-web')
    await cluster.waitFor(
      'a new container answers on n2',
      async () => {
        const now = await insideOf(cluster, 'life-web')
        return (
          now.length === 2 && on(now, n2).containerId !== before && (await fetchFrom(on(now, n1), 'life-web')).client
        )
      },
      WAIT_MS,
    )
  })
}

/** A command line that begins so runs in the container's network, and not by its engine, with which it would end. */
async function beside({ host, containerId }: Inside): Promise<readonly string[]> {
  const pid = (await host.docker(['inspect', '-f', '{{.State.Pid}}', containerId])).stdout.trim()
  return host.execArgv(['nsenter', `--net=/proc/${pid}/ns/net`])
}

interface Steady {
  readonly answers: () => number
  readonly isOpen: () => boolean
}

/** One connection on which a request is sent four times a second; `prefix` begins the command line. */
function steady(prefix: readonly string[], address: string): Steady {
  const script = `
    const socket = require('net').connect(${PORT}, '${address}')
    socket.on('data', (data) => process.stdout.write(String(data).includes('200 OK') ? 'y' : ''))
    socket.on('error', () => process.exit(1)).on('close', () => process.exit(1))
    setInterval(() => socket.write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'), 250)
    process.stdin.on('end', () => process.exit(0)).resume()
  `
  const argv = [...prefix, process.execPath]
  const [command = '', ...args] = [...argv, '-e', script]
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.stdin.end())
  let count = 0
  child.stdout.on('data', (data: Buffer) => {
    count += data.length
  })
  return { answers: () => count, isOpen: () => child.exitCode === null && child.signalCode === null }
}

t.test('an overlay follows the MTU of the links below it', async (t) => {
  for (const mtu of [1400, 9001]) {
    for (const host of [n1, n2]) {
      await must(['ip', '-n', switchNetns(name), 'link', 'set', `p${host.plan.number}`, 'mtu', String(mtu)])
      await must([...host.execArgv(['ip', 'link', 'set', 'eth0', 'mtu', String(mtu)])])
    }
    await must(['ip', '-n', switchNetns(name), 'link', 'set', 'br0', 'mtu', String(mtu)])
    await cluster.waitFor(
      `the overlay has ${mtu - 50}`,
      async () => {
        const web = await insideOf(cluster, 'life-web')
        const shown = await Promise.all(web.map((inside) => inside.exec('ip', 'link', 'show')))
        return (
          web.length === 2 &&
          shown.every(({ stdout }) =>
            [...stdout.matchAll(/eth\d.* mtu (\d+)/g)].every((match) => match[1] === String(mtu - 50)),
          )
        )
      },
      WAIT_MS,
    )
    const web = await running('life-web', 2)
    const size = String(mtu - 50 - 28)
    const address = await overlayAddress(on(web, n2))
    const ping = await on(web, n1).exec('ping', '-c', '1', '-W', '2', '-s', size, address)
    t.equal(ping.code, 0, `${mtu}: an echo request of ${size} bytes passes`)
    const bulk = await on(web, n1).exec('node', '-e', TRANSFER, address)
    t.equal(bulk.stdout.trim(), '1048576', `${mtu}: a megabyte passes`)
  }
})

/** Posts a megabyte to a hello, which answers when it has begun to read; the connection ends when all was acknowledged. */
const TRANSFER = `
  const socket = require('net').connect(8080, process.argv[1], () => {
    const body = Buffer.alloc(1 << 20)
    socket.write('POST / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: ' + body.length + '\\r\\n\\r\\n')
    socket.write(body, () => console.log(body.length))
  })
  socket.resume().on('error', (e) => { console.error(e.code); process.exit(1) })
`

for (const [order, boot] of [
  [
    'swarmd first, then the engine',
    async () => {
      await n2.powerOn()
      await n2.startSwarmd()
      await pause(1_000)
      const began = performance.now()
      await n2.startEngine()
      return performance.now() - began
    },
  ],
  [
    'the engine first, swarmd a second later',
    async () => {
      await n2.powerOn()
      const began = performance.now()
      const engine = n2.startEngine()
      await pause(1_000)
      await Promise.all([engine, n2.startSwarmd()])
      return performance.now() - began
    },
  ],
] as const) {
  t.test(`a cold boot, ${order}: names, overlays and ports work again`, async (t) => {
    await n2.powerOff()
    t.comment(`the engine was ready after ${Math.round(await boot())} ms`)
    await cluster.waitFor(
      'n2 serves the port, and its task is reached over the overlay',
      async () => {
        await ask(lab, n2.address, PORT)
        const web = await insideOf(cluster, 'life-web')
        const [one, two] = [on(web, n1), on(web, n2)]
        await fetchFrom(two, 'life-web')
        return (await pings(one, await overlayAddress(two))) && (await pings(two, await overlayAddress(one)))
      },
      WAIT_MS,
    )
    t.pass()
  })
}

t.test('two nodes in one network namespace share an overlay, and each published port has one owner', async (t) => {
  const own = join(dir, 'second')
  mkdirSync(own, { recursive: true })
  const [engineSocket, swarmdSocket] = [join(own, 'docker.sock'), join(own, 'swarmd.sock')]
  const [init] = [n2.process('init')]
  if (!init) throw new Error('n2 is off')
  const common = {
    initPid: init.pid,
    env: { PATH: process.env.PATH ?? '', HOME: '/root' },
    readyMs: WAIT_MS,
    onExit: log,
  }
  await startInHost({
    ...common,
    title: 'a second engine',
    logFile: join(own, 'engine.log'),
    socketPath: engineSocket,
    argv: [
      ...['dockerd', `--data-root=${join(own, 'docker')}`, '--exec-root=/run/docker2', '--pidfile=/run/docker2.pid'],
      ...[`--host=unix://${engineSocket}`, '--bridge=none', '--iptables=false', '--storage-driver=overlay2'],
      ...['--config-file=/dev/null', '--exec-opt=native.cgroupdriver=cgroupfs'],
    ].filter((flag) => !flag.startsWith('--config-file')),
  })
  await startInHost({
    ...common,
    title: 'a second swarmd',
    logFile: join(own, 'swarmd.log'),
    socketPath: swarmdSocket,
    argv: [
      ...[process.execPath, swarmdProgram],
      ...[`--engine=unix://${engineSocket}`, `--host=unix://${swarmdSocket}`, `--data-root=${join(own, 'swarmd')}`],
      ...['--exec-root=/run/swarmd2', '--pidfile=/run/swarmd2.pid', `--swarm-default-advertise-addr=${n2.address}`],
    ],
  })
  const images = await must(['sh', '-c', `ls -t ${join(dir, '../.build/lab-images')}/base-*.tar | head -1`])
  await must(['docker', '-H', `unix://${engineSocket}`, 'load', '-q', '-i', images.trim()], { timeoutMs: WAIT_MS })
  const token = (await cluster.docker(n1, 'swarm', 'join-token', '-q', 'worker')).trim()
  const join2 = ['swarm', 'join', '--listen-addr', '0.0.0.0:2378', '--token', token, `${n1.address}:2377`]
  await must(['docker', '-H', `unix://${swarmdSocket}`, ...join2], { timeoutMs: WAIT_MS })
  const answers = await cluster.waitFor(
    'three nodes run the service, and the port answers on each host',
    async () => {
      const filters = encodeURIComponent(JSON.stringify({ service: ['life-web'], 'desired-state': ['running'] }))
      const tasks = await cluster.api<readonly { Status: { State: string } }[]>(n1, 'GET', `/tasks?filters=${filters}`)
      if (tasks.filter(({ Status }) => Status.State === 'running').length !== 3) return false
      const names = new Set<string>()
      for (let number = 0; number < 6; number++) names.add((await ask(lab, n2.address, PORT)).hostname)
      return names.size === 3 && names
    },
    WAIT_MS,
  )
  t.equal(answers.size, 3, 'the task of the second node answers through the first')
  const node = await cluster.waitFor(
    'the second node says who has the port',
    async () => {
      const nodes = await cluster.api<readonly { Status: { Message?: string } }[]>(n1, 'GET', '/nodes')
      return nodes.find(({ Status }) => /8080\/tcp/.test(Status.Message ?? ''))?.Status.Message
    },
    WAIT_MS,
  )
  t.match(node, /swarmd-net|node/)
})
