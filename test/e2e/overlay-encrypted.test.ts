// Encrypted tunnels between two network namespaces that are two nodes, with real WireGuard (what of it this machine has): what is
// on the wire, what happens when it dies, and that a change of keys loses nothing.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { inNetns, netnsPath } from '../../lab/network.ts'
import { must, run } from '../../lab/run.ts'
import type { OverlayNetwork, Peer } from '../../src/api/data-plane.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { EMPTY_STATE } from '../../src/overlay/desired-state.ts'
import { Encryption } from '../../src/overlay/wireguard/encryption.ts'
import { waitFor } from './support/wait-for.ts'

const MARKER = 'SECRET-OF-THE-OVERLAY'
const VXLAN_PORT = 5789
const PLAIN_VXLAN_PORT = 4789
const directory = mkdtempSync(join(tmpdir(), 'wireguard-'))
const wireFile = join(directory, 'wire.pcap')

/** The machine's clock, that a test can put forward for what lasts long. */
class ShiftedClock extends SystemClock {
  shiftMs = 0
  override nowMs(): number {
    return super.nowMs() + this.shiftMs
  }
}

const NETWORK: OverlayNetwork = {
  id: 'network',
  name: 'secret',
  vni: 5000,
  subnets: [{ subnet: '10.50.0.0/24', gateway: '10.50.0.1' }],
  internal: false,
  encrypted: true,
  attachable: false,
  ingress: false,
  mtu: 0,
}

class Node {
  readonly number: number
  readonly netns: string
  readonly clock = new ShiftedClock()
  readonly stateDirectory: string
  encryption: Encryption
  onChange: () => void = () => {}

  constructor(number: number) {
    this.number = number
    this.netns = `wgtest-n${number}`
    this.stateDirectory = join(directory, `n${number}`)
    this.encryption = this.start()
  }

  /** As swarmd-net does each time that it starts. */
  start(): Encryption {
    this.encryption = new Encryption({
      config: { instance: 0 },
      stateDirectory: this.stateDirectory,
      hostNamespace: netnsPath(this.netns),
      changed: () => this.onChange(),
      log: silentLog,
      clock: this.clock,
    })
    return this.encryption
  }

  get address(): string {
    return `10.98.0.${this.number}`
  }

  peer(): Peer {
    return {
      nodeId: `node${this.number}`,
      hostname: this.netns,
      number: this.number,
      address: this.address,
      port: PLAIN_VXLAN_PORT,
      mtu: 1500,
      encryptionKeys: this.encryption.publicKeys(),
      encryptionProblem: this.encryption.problem(),
    }
  }

  in(...argv: string[]): Promise<string> {
    return must([...inNetns(this.netns), ...argv])
  }

  pid(slot: string): number {
    return Number(readFileSync(join(this.stateDirectory, 'wireguard', `swc-wg0${slot}.pid`), 'utf8'))
  }
}

const nodes = [new Node(1), new Node(2)] as const
const [one, two] = nodes

async function applyAll(): Promise<void> {
  const peers = new Map(nodes.map((node) => [`node${node.number}`, node.peer()]))
  await Promise.all(
    nodes.map(({ number, address, encryption }) =>
      encryption.apply({
        ...EMPTY_STATE,
        self: { nodeId: `node${number}`, number, address, dataPathPort: PLAIN_VXLAN_PORT },
        peers,
        networks: new Map([[NETWORK.id, NETWORK]]),
      }),
    ),
  )
}

/** What passed the wire between the nodes while `work` ran. */
async function captured(work: () => Promise<void>): Promise<Buffer> {
  const argv = [
    ...inNetns(one.netns),
    'tcpdump',
    '-i',
    'eth0',
    '--immediate-mode',
    '-U',
    '-s',
    '0',
    '-w',
    wireFile,
    '-Z',
    'root',
  ]
  const dump = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  await once(dump.stderr, 'data') // "listening on"
  await work()
  await new Promise((resolve) => setTimeout(resolve, 300))
  dump.kill('SIGINT')
  await once(dump, 'exit')
  return readFileSync(wireFile)
}

const eventually = (description: string, fact: () => Promise<boolean>) => waitFor(description, fact, 60_000)
const say = (to: string) => run([...inNetns(one.netns), 'bash', '-c', `echo ${MARKER} >/dev/udp/${to}/9`])
const pings = (to: string) => run([...inNetns(one.netns), ...`busybox ping -c 3 -i 0.05 -W 1 ${to}`.split(' ')])

t.before(async () => {
  for (const { netns } of nodes) await must(['ip', 'netns', 'add', netns])
  await must(['ip', '-n', one.netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', two.netns])
  for (const node of nodes) {
    const other = node === one ? two : one
    await node.in('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter')
    await node.in('ip', 'link', 'set', 'lo', 'up')
    await node.in('ip', 'address', 'add', `${node.address}/24`, 'dev', 'eth0')
    await node.in('ip', 'link', 'set', 'eth0', 'up')
    // A way for everything: what is not kept back would go out by it.
    await node.in('ip', 'route', 'add', 'default', 'via', other.address)
  }
  for (const node of nodes) await node.encryption.open()
  for (const node of nodes) node.onChange = () => void applyAll()
  await applyAll()
  for (const node of nodes) {
    const other = node === one ? two : one
    const tunnels = [
      {
        name: 'vxe',
        id: 5000,
        port: VXLAN_PORT,
        local: `100.97.0.${node.number}`,
        remote: `100.97.0.${other.number}`,
        subnet: '10.50.0',
      },
      { name: 'vxp', id: 5001, port: PLAIN_VXLAN_PORT, local: node.address, remote: other.address, subnet: '10.51.0' },
    ]
    for (const { name, id, port, local, remote, subnet } of tunnels) {
      await node.in(
        ...`ip link add ${name} mtu 1370 type vxlan id ${id} local ${local} remote ${remote} dstport ${port}`.split(
          ' ',
        ),
      )
      await node.in('ip', 'address', 'add', `${subnet}.${node.number}/24`, 'dev', name)
      await node.in('ip', 'link', 'set', name, 'up')
    }
  }
})

t.teardown(async () => {
  for (const { encryption, netns, stateDirectory, clock } of nodes) {
    await encryption.close()
    await Encryption.remove({
      config: { instance: 0 },
      stateDirectory,
      hostNamespace: netnsPath(netns),
      log: silentLog,
      clock,
    })
    await run(['ip', 'netns', 'delete', netns])
  }
  rmSync(directory, { recursive: true })
})

t.test('keys are made on the node, for its own eyes', async (t) => {
  for (const { encryption, stateDirectory } of nodes) {
    t.equal(encryption.problem(), '')
    t.match(encryption.publicKeys(), [/^1:51833:.{44}$/])
    t.equal(statSync(join(stateDirectory, 'wireguard', 'keys.json')).mode & 0o777, 0o600)
  }
})

t.test('what goes over an encrypted network cannot be read on the wire, what goes over a plain one can', async (t) => {
  const [encrypted, plain] = ['10.50.0.2', '10.51.0.2']
  t.match((await pings(encrypted)).stdout, / 0% packet loss/)
  const secret = await captured(async () => {
    await say(encrypted)
    await pings(encrypted)
  })
  t.ok(secret.length > 500, 'something was captured')
  t.notOk(secret.includes(MARKER))
  const clear = await captured(async () => {
    await say(plain)
  })
  t.ok(clear.includes(MARKER))
})

t.test('packets as large as an encrypted overlay has pass in one piece', async (t) => {
  const wire = await captured(async () => {
    t.match(
      (await run([...inNetns(one.netns), ...'busybox ping -c 1 -W 1 -s 1342 10.50.0.2'.split(' ')])).stdout,
      / 0% packet/,
    )
  })
  t.ok(wire.length > 2 * 1370)
  const parts = await must(['tcpdump', '-r', wireFile, '-n', 'ip[6:2] & 0x3fff != 0'])
  t.equal(parts, '')
})

t.test('a process that starts anew finds its tunnels as they are', async (t) => {
  const before = one.pid('a')
  await one.encryption.close()
  await one.start().open()
  await applyAll()
  t.equal(one.pid('a'), before)
  t.match((await pings('10.50.0.2')).stdout, / 0% packet loss/)
})

t.test('a tunnel that dies lets nothing out, and comes back', async (t) => {
  const pid = two.pid('a')
  await two.encryption.close() // nobody repairs yet
  await one.encryption.close()
  process.kill(one.pid('a'), 'SIGKILL')
  process.kill(pid, 'SIGKILL')
  const wire = await captured(async () => {
    await say('10.50.0.2')
    t.match((await pings('10.50.0.2')).stdout, /100% packet loss/)
  })
  t.notOk(wire.includes(MARKER))
  for (const node of nodes) await node.start().open()
  await applyAll()
  t.match((await pings('10.50.0.2')).stdout, / 0% packet loss/)
  t.not(two.pid('a'), pid)
  const again = two.pid('a')
  process.kill(again, 'SIGKILL')
  await eventually(
    'the process restarted by itself',
    async () => two.pid('a') !== again && (await pings('10.50.0.2')).code === 0,
  )
})

t.test('what others change is put right', async (t) => {
  t.same(await one.encryption.audit(), [])
  await one.in('ip', 'route', 'delete', '100.97.0.2')
  await one.in('ip', 'link', 'set', 'swc-wg0a', 'mtu', '1300')
  await one.in('ip', 'route', 'delete', 'blackhole', '100.97.0.0/16', 'metric', '50000')
  t.same(await one.encryption.audit(), [
    'route replace blackhole 100.97.0.0/16 metric 50000',
    'link set swc-wg0a mtu 1420 up',
    'route replace 100.97.0.2 dev swc-wg0a',
  ])
  t.same(await one.encryption.audit(), [])
  await one.in('ip', 'link', 'delete', 'swc-wg0a')
  await eventually('the device is back', async () => (await pings('10.50.0.2')).code === 0)
})

t.test('keys change without the loss of a packet', async (t) => {
  const old = nodes.map(({ encryption }) => encryption.publicKeys()[0])
  const argv = [...inNetns(one.netns), 'busybox', 'ping', '-i', '0.02', '-q', '10.50.0.2']
  const ping: ChildProcess = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] })
  let said = ''
  ping.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  for (const node of nodes) node.onChange = () => void applyAll()
  await two.encryption.rotate()
  const routes = () => Promise.all(nodes.map((node) => node.in('ip', 'route', 'show', 'root', '100.97.0.0/16')))
  await eventually('both send by the new key', async () =>
    (await routes()).every((text) => text.includes('dev swc-wg0b')),
  )
  for (const { encryption } of nodes) t.match(encryption.publicKeys(), [/^2:51834:/, /^1:51833:/])
  await Promise.all(nodes.map(({ encryption }) => encryption.audit()))
  for (const { clock } of nodes) clock.shiftMs += 60_000
  await eventually('the old keys are gone', async () => {
    await Promise.all(nodes.map(({ encryption }) => encryption.audit()))
    return nodes.every(({ encryption }) => encryption.publicKeys().length === 1)
  })
  await applyAll()
  await new Promise((resolve) => setTimeout(resolve, 500))
  ping.kill('SIGINT')
  await once(ping, 'exit')
  t.match(said, /[1-9]\d+ packets received, 0% packet loss/)
  t.notMatch(
    nodes.flatMap(({ encryption }) => encryption.publicKeys()),
    old,
  )
  for (const node of nodes) t.notMatch(await node.in('ip', '-br', 'link'), /swc-wg0a/)
})

t.test('devices go with the last encrypted network, and come with the next', async (t) => {
  const { number, address, encryption } = one
  const self = { nodeId: `node${number}`, number, address, dataPathPort: PLAIN_VXLAN_PORT }
  await encryption.apply({ ...EMPTY_STATE, self, peers: new Map([['node2', two.peer()]]) })
  t.notMatch(await one.in('ip', '-br', 'link'), /swc-wg/)
  await applyAll()
  t.match((await pings('10.50.0.2')).stdout, / 0% packet loss/)
})

t.test('a node with neither kind of WireGuard says so, and announces no key', async (t) => {
  const tools = join(directory, 'tools')
  mkdirSync(tools)
  for (const tool of ['nsenter', 'ip', 'sh']) symlinkSync((await must(['which', tool])).trim(), join(tools, tool))
  const before = process.env.PATH
  process.env.PATH = tools
  t.teardown(() => {
    process.env.PATH = before
  })
  const without = new Encryption({
    config: { instance: 7 },
    stateDirectory: join(directory, 'without'),
    hostNamespace: netnsPath(one.netns),
    changed: () => {},
    log: silentLog,
    clock: one.clock,
  })
  await without.open()
  t.match(without.problem(), /wireguard-go is( not)? installed|neither wg/)
  t.same(without.publicKeys(), [])
  await without.close()
})

t.test('throughput is printed', async (t) => {
  const argv = [...inNetns(two.netns), 'iperf3', '-s', '-1', '--forceflush']
  const server = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] })
  await once(server.stdout, 'data')
  const result = await run([...inNetns(one.netns), 'iperf3', '-c', '10.50.0.2', '-t', '2', '-J'])
  const { end } = JSON.parse(result.stdout) as { end: { sum_received: { bits_per_second: number } } }
  t.comment(`encrypted: ${Math.round(end.sum_received.bits_per_second / 1e6)} Mbit/s`)
  t.ok(end.sum_received.bits_per_second > 0)
})
