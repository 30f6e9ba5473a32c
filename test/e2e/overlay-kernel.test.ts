// The kernel's part of the data plane on hosts that are namespaces: needs root, and no engine.

import { execFileSync, spawn } from 'node:child_process'
import t from 'tap'
import type { DataPlaneRecord } from '../../src/api/data-plane.ts'
import { DesiredStore } from '../../src/overlay/desired-state.ts'
import { Fabric } from '../../src/overlay/kernel/fabric.ts'
import { containerPort, fabricConfig, fabricPort, peerMark } from '../../src/overlay/kernel/fabric-config.ts'
import { BALANCED_TABLE } from '../../src/overlay/rules/balanced-replies.ts'
import { endpoint, INGRESS, localOf, network, peer } from '../overlay/support/records.ts'
import { inNamespace, ip, type KernelHost, KernelLab, pings } from './support/kernel-hosts.ts'
import { waitFor } from './support/wait-for.ts'

t.setTimeout(180_000)

const front = network('front', 4097, {
  subnets: [
    { subnet: '10.0.1.0/24', gateway: '10.0.1.1' },
    { subnet: 'fd00:1::/64', gateway: 'fd00:1::1' },
  ],
})
const FORWARDING = ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding']
const addresses = ({ number }: { readonly number: number }) => [`10.0.1.${number + 4}`, `fd00:1::${number + 4}`]

t.test('containers of two nodes reach each other on an overlay, by IPv4 and IPv6', async (t) => {
  const lab = new KernelLab('a', [1, 2])
  t.teardown(() => lab.down())
  const [one, two] = await lab.overlay(front, addresses)
  if (!one || !two) throw new Error('no hosts')
  const neighbour = localOf(endpoint('n', 'front', 1, ['10.0.1.77', 'fd00:1::77']))
  const { device, mtu } = await one.fabric.attach(neighbour)
  t.equal(mtu, 1450)
  t.same(await one.fabric.attach(neighbour), { device, mtu }, 'asked for again, it is the same')
  lab.container(one.host, device, neighbour, 24)
  t.ok(await pings(one.container, '10.0.1.6'), 'to the other node')
  t.ok(await pings(two.container, '10.0.1.5'), 'and back')
  t.ok(await pings(one.container, '10.0.1.77'), 'on one node')
  t.ok(await pings(one.container, '10.0.1.1'), 'the gateway')
  t.ok(await pings(one.container, 'fd00:1::6'), 'IPv6 to the other node')
  t.ok(await pings(one.container, 'fd00:1::77'), 'IPv6 on one node')
  t.ok(await pings(one.container, 'fd00:1::1'), 'IPv6 gateway')
  for (const { fabric } of [one, two]) t.same(await fabric.audit(), [], 'the kernel is as planned')
  await one.fabric.detach(neighbour.endpointId)
  await one.fabric.detach(neighbour.endpointId)
  const out = localOf({ networkId: 'egress', addresses: ['100.96.0.9'] })
  await one.fabric.attach(out)
  await one.fabric.detach(out.endpointId)
  await one.fabric.apply(one.store.state, undefined)
  t.same(await one.fabric.audit(), [], 'after end points have gone')
  t.match(
    ip('-n', one.host.config.namespace, 'link', 'show', 'brg'),
    'mtu 1450',
    'a bridge without ports keeps its MTU',
  )
})

t.test('a node whose links carry less makes packets smaller everywhere, in containers that run too', async (t) => {
  const lab = new KernelLab('m', [1, 2])
  t.teardown(() => lab.down())
  const running = await lab.overlay(front, addresses)
  const mtuOf = (namespace: string, device: string) =>
    /mtu (\d+)/.exec(ip('-n', namespace, 'link', 'show', device))?.[1]
  for (const [underlay, mtu] of [
    [1400, '1350'],
    [9001, '8951'],
    [1450, '1400'],
  ] as const) {
    lab.setUnderlayMtu(underlay)
    for (const { host, fabric, store, container } of running) {
      const set = lab.hosts.map(({ peer: one }) => ({ kind: 'peer' as const, peer: { ...one, mtu: underlay } }))
      const changed = store.apply({ self: host.self, revision: 2, complete: false, set, removed: [] })
      await fabric.apply(store.state, changed)
      t.equal(mtuOf(container, 'eth0'), mtu, `at ${underlay}`)
      t.same(await fabric.audit(), [])
    }
    // ICMP and IPv4 headers take 28 bytes: a packet that fills the MTU, and none may be cut on its way.
    const [one] = running
    const size = String(Number(mtu) - 28)
    const out = inNamespace(one?.container ?? '', 'busybox', 'ping', '-c', '1', '-W', '2', '-s', size, '10.0.1.6')
    t.match(out, ' 0% packet loss')
  }
})

t.test('what somebody breaks is mended without being asked', async (t) => {
  const lab = new KernelLab('d', [1, 2])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  const { namespace: fabric } = one.host.config
  const breaks: Readonly<Record<string, () => void>> = {
    'a tunnel is deleted': () => void ip('-n', fabric, 'link', 'del', 'vx4097'),
    'a bridge is deleted': () => void ip('-n', fabric, 'link', 'del', 'br4097'),
    'a bridge is down': () => void ip('-n', fabric, 'link', 'set', 'br4097', 'down'),
    'the rules are flushed': () => void inNamespace(fabric, 'nft', 'flush', 'ruleset'),
    'a chain is flushed': () => void inNamespace(fabric, 'nft', 'flush', 'chain', 'inet', 'swarmctl', 'forward'),
    'neighbours are flushed': () => void ip('-n', fabric, 'neigh', 'flush', 'dev', 'vx4097', 'nud', 'permanent'),
    'a tunnel entry is deleted': () =>
      void inNamespace(fabric, 'bridge', 'fdb', 'del', '02:42:0a:00:01:06', 'dev', 'vx4097', 'self'),
    'a route of replies is deleted': () => void ip('-n', fabric, 'route', 'flush', 'table', '10002'),
    "a container's link is deleted": () => void ip('-n', fabric, 'link', 'del', fabricPort(one.local.endpointId)),
    'the link to the host is deleted': () => void ip('-n', one.host.namespace, 'link', 'del', one.host.config.hostLink),
    "the host's rules are flushed": () => void inNamespace(one.host.namespace, 'nft', 'flush', 'ruleset'),
    "a chain of the host's is deleted": () => {
      const chain = `chain inet ${one.host.config.hostTable} forward`
      inNamespace(one.host.namespace, 'nft', `flush ${chain}; delete ${chain}`)
    },
    "a chain of the host's is flushed": () =>
      void inNamespace(one.host.namespace, 'nft', 'flush', 'chain', 'inet', one.host.config.hostTable, 'forward'),
    "a rule of the host's is deleted": () => {
      const chain = ['chain', 'inet', one.host.config.hostTable, 'input']
      const rule = / # handle (\d+)\n\t}/.exec(inNamespace(one.host.namespace, 'nft', '-a', 'list', ...chain))
      inNamespace(one.host.namespace, 'nft', 'delete', 'rule', ...chain.slice(1), 'handle', rule?.[1] ?? '')
    },
    "a set of the host's is flushed": () =>
      void inNamespace(one.host.namespace, 'nft', 'flush', 'set', 'inet', one.host.config.hostTable, 'nodes4'),
    "the host's table is flushed": () =>
      void inNamespace(one.host.namespace, 'nft', 'flush', 'table', 'inet', one.host.config.hostTable),
    'the table of balanced connections is flushed': () =>
      void inNamespace(fabric, 'nft', 'flush', 'table', 'bridge', BALANCED_TABLE),
    "the host's table is deleted": () =>
      void inNamespace(one.host.namespace, 'nft', 'delete', 'table', 'inet', one.host.config.hostTable),
    'the namespace has lost its name': () => void ip('netns', 'del', fabric),
  }
  for (const [what, breakIt] of Object.entries(breaks)) {
    one.drift.length = 0
    const { repairs } = one.fabric
    breakIt()
    if (what.startsWith('the namespace')) one.drift.push(...(await one.fabric.audit()))
    // without an audit, of which there is none here
    await waitFor(`noticed: ${what}`, () => Promise.resolve(one.drift.length > 0), 10_000)
    t.ok(one.fabric.repairs > repairs, 'counted')
    t.ok(await pings(one.container, '10.0.1.6'), `${what}: ${one.drift[0]?.what}`)
    t.same(await one.fabric.audit(), [], 'mended at once')
  }
  ip('netns', 'del', fabric)
  const more = localOf(endpoint('more', 'front', 1, ['10.0.1.40']))
  await t.rejects(one.fabric.attach(more), { code: 'KERNEL_REFUSED' }, 'what comes while nothing is there is refused')
  await waitFor('mended', async () => (await one.fabric.attach(more)).device, 10_000)
  await one.fabric.detach(more.endpointId)
  t.ok(await pings(one.container, '10.0.1.6'), 'and takes nothing along')
  t.same(await one.fabric.audit(), [])
})

t.test('who watches the rules may die, and what is done to them meanwhile and afterwards is mended', async (t) => {
  const lab = new KernelLab('w', [1])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  const { namespace: fabric } = one.host.config
  for (const pid of execFileSync('pgrep', ['-P', String(process.pid), '-x', 'nft'], { encoding: 'utf8' }).split('\n')) {
    if (pid !== '') process.kill(Number(pid), 'SIGKILL')
  }
  const flush = () => void inNamespace(fabric, 'nft', 'flush', 'chain', 'inet', 'swarmctl', 'forward')
  const isWhole = () => inNamespace(fabric, 'nft', 'list', 'chain', 'inet', 'swarmctl', 'forward').includes('overlays')
  for (const when of ['meanwhile', 'afterwards']) {
    one.drift.length = 0
    flush()
    await waitFor(`mended ${when}`, () => Promise.resolve(isWhole() && one.drift.length > 0), 10_000)
  }
  t.same(await one.fabric.audit(), [])
})

t.test('another start takes over what is there, and no packet is lost', async (t) => {
  const lab = new KernelLab('r', [1, 2])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  const lost = localOf(endpoint('lost', 'front', 1, ['10.0.1.99']))
  const { device } = await one.fabric.attach(lost)
  const back = network('back', 4098, { subnets: [{ subnet: '10.0.2.0/24', gateway: '10.0.2.1' }] })
  const change = { self: one.host.self, revision: 2, complete: false, removed: [] }
  const added = one.store.apply({ ...change, set: [{ kind: 'overlay-network', network: back }] })
  await one.fabric.apply(one.store.state, added)
  const ping = spawn('nsenter', [`--net=/run/netns/${one.container}`, ...['busybox', 'ping', '-i', '0.01', '10.0.1.6']])
  t.teardown(() => ping.kill('SIGKILL'))
  let output = ''
  ping.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const ended = new Promise((resolve) => ping.on('close', resolve))
  await waitFor('traffic', () => Promise.resolve(output.includes('seq=10')), 10_000)
  await one.fabric.close()
  one.store.apply({ ...change, set: [], removed: [{ kind: 'overlay-network', id: 'back' }] })
  const again = one.host.fabric()
  await again.open(one.store.state, [one.local])
  t.same(await again.audit(), [])
  const replies = output.length
  await waitFor('more traffic', () => Promise.resolve(output.length > replies + 500), 10_000)
  ping.kill('SIGINT')
  await ended
  const answered = [...output.matchAll(/ seq=(\d+) /g)].map((match) => Number(match[1]))
  t.strictSame(
    answered,
    answered.map((_, at) => at),
    'every request is answered, but for one that was under way at the end',
  )
  const links = ip('-n', one.host.config.namespace, '-br', 'link', 'show')
  t.notMatch(links, 'br4098', 'a network that went meanwhile is removed')
  t.throws(
    () => ip('-n', one.host.namespace, 'link', 'show', device),
    "a container's link that nobody knows is removed",
  )
})

t.test('a fabric that was taken away altogether comes back, with the links of containers that run', async (t) => {
  const lab = new KernelLab('g', [1, 2])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  const out = localOf({ networkId: 'egress', addresses: ['100.96.0.9'] })
  const egress = { ...out, sandbox: `/run/netns/${one.container}` }
  const { device } = await one.fabric.attach(egress)
  ip('-n', one.host.namespace, 'link', 'set', device, 'netns', one.container, 'name', 'eth1', 'address', out.mac)
  await one.fabric.close()
  await Fabric.remove(one.host.config, `/run/netns/${one.host.namespace}`)
  await Fabric.remove(one.host.config, `/run/netns/${one.host.namespace}`)
  t.notOk(await pings(one.container, '10.0.1.6'))
  t.notMatch(inNamespace(one.host.namespace, 'ip', '-br', 'link'), 'fab0', 'nothing is left in the host')
  t.equal(inNamespace(one.host.namespace, 'nft', 'list', 'tables').includes('swarmctl'), false)
  t.notMatch(inNamespace(one.host.namespace, 'iptables', '-S', 'FORWARD'), 'fab0')
  const again = one.host.fabric()
  await again.open(one.store.state, [one.local, egress, localOf(endpoint('dead', 'front', 1, ['10.0.1.50']))])
  t.ok(await pings(one.container, '10.0.1.6'))
  t.ok(await pings(one.container, 'fd00:1::6'))
  t.ok(await pings(one.container, one.host.address), 'and by the gateway to the host')
  t.same(await again.audit(), [])
})

t.test(
  'a host that forwarded nothing forwards nothing else; one that did goes on; a foreign link is left alone',
  async (t) => {
    const lab = new KernelLab('h', [1, 2, 3])
    t.teardown(() => lab.down())
    const [closed, open, taken] = lab.hosts
    if (!closed || !open || !taken) throw new Error('no hosts')
    const policy = (host: KernelHost, tool: string) => inNamespace(host.namespace, tool, '-S', 'FORWARD').split('\n')[0]
    const forwards = (host: KernelHost) =>
      inNamespace(host.namespace, 'sysctl', '-n', ...FORWARDING)
        .split('\n')
        .join(' ')
    for (const [host, value] of [
      [closed, 0],
      [open, 1],
    ] as const) {
      inNamespace(host.namespace, 'sysctl', '-qw', ...FORWARDING.map((name) => `${name}=${value}`))
      await host.fabric().open(new DesiredStore().state, [])
      for (const tool of ['iptables', 'ip6tables']) {
        t.equal(
          policy(host, tool),
          value === 0 ? '-P FORWARD DROP' : '-P FORWARD ACCEPT',
          `${tool} where it was ${value}`,
        )
      }
      t.equal(forwards(host).trim(), '1 1')
    }
    ip('-n', taken.namespace, 'link', 'add', 'fab0', 'type', 'bridge')
    await t.rejects(taken.fabric().open(new DesiredStore().state, []), { code: 'LINK_TAKEN' })
    t.match(ip('-n', taken.namespace, 'link', 'show', 'fab0'), 'fab0')
  },
)

t.test('a network that the kernel refuses is a problem of its own, and stands as soon as it can', async (t) => {
  const lab = new KernelLab('c', [1, 2])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  inNamespace(one.host.namespace, ...'ip link add foreign type vxlan id 4098 local 10.78.0.1 dstport 4789'.split(' '))
  ip('-n', one.host.namespace, 'link', 'set', 'foreign', 'up')
  const back = network('back', 4098, { subnets: [{ subnet: '10.0.2.0/24', gateway: '10.0.2.1' }] })
  const other = endpoint('x', 'back', 2, ['10.0.2.9'])
  const set: readonly DataPlaneRecord[] = [
    { kind: 'overlay-network', network: back },
    { kind: 'end-point', endpoint: other },
  ]
  const changed = one.store.apply({ self: one.host.self, revision: 2, complete: false, set, removed: [] })
  await one.fabric.apply(one.store.state, changed)
  t.ok(await pings(one.container, '10.0.1.6'), 'the others work')
  t.match(one.fabric.problems, [
    { networkId: 'back', message: /^network back can't be made on this node: .*already exists/ },
  ])
  const place = localOf(endpoint('y', 'back', 1, ['10.0.2.8']))
  await t.rejects(one.fabric.attach(place), { code: 'NETWORK_UNUSABLE' })
  t.same(await one.fabric.audit(), [], 'said once')
  ip('-n', one.host.namespace, 'link', 'del', 'foreign')
  t.match(await one.fabric.audit(), [{ what: /^link vx4098/, repaired: true }, {}, {}, {}, {}])
  t.same(one.fabric.problems, [])
  await one.fabric.attach(place)
})

t.test('of a container whose link the kernel refuses nothing stays', async (t) => {
  const lab = new KernelLab('l', [1])
  t.teardown(() => lab.down())
  const [one] = await lab.overlay(front, addresses)
  if (!one) throw new Error('no host')
  const { namespace, config } = one.host
  const ports = [{ protocol: 'tcp', published: 8080, target: 80 }] as const
  const local = { ...localOf(endpoint('x', 'ingress', 1, ['100.64.2.9'])), ports }
  const published = () => inNamespace(namespace, 'nft', 'list', 'set', 'inet', config.hostTable, 'ports')
  ip('-n', namespace, 'link', 'add', containerPort(local.endpointId), 'type', 'bridge')
  await t.rejects(one.fabric.attach(local), { code: 'KERNEL_REFUSED', message: /File exists/ })
  t.notMatch(published(), '8080', 'its port leads nowhere')
  ip('-n', namespace, 'link', 'del', containerPort(local.endpointId))
  await one.fabric.attach(local)
  t.match(published(), '8080')
  await one.fabric.detach(local.endpointId)
  t.notMatch(published(), '8080')
  t.same(await one.fabric.audit(), [])
})

t.test('1,000 nodes and 10,000 end points; node numbers around the routing tables of the kernel', async (t) => {
  const lab = new KernelLab('s', [300])
  t.teardown(() => lab.down())
  const [host] = lab.hosts
  if (!host) throw new Error('no host')
  const numbers = Array.from({ length: 1000 }, (_, at) => at + 1)
  const wide = network('wide', 4097, { subnets: [{ subnet: '10.0.0.0/16', gateway: '10.0.0.1' }] })
  const addressOf = (at: number) => `10.0.${16 + (at >> 8)}.${at & 255}`
  const set: readonly DataPlaneRecord[] = [
    ...numbers.map((number) => ({
      kind: 'peer' as const,
      peer: number === 300 ? host.peer : peer(number, `10.79.${number >> 8}.${number & 255}`),
    })),
    { kind: 'overlay-network', network: INGRESS },
    { kind: 'overlay-network', network: wide },
    ...Array.from({ length: 10_000 }, (_, at) => ({
      kind: 'end-point' as const,
      endpoint: endpoint(`t${at}`, 'wide', (at % 1000) + 1, [addressOf(at)]),
    })),
  ]
  const store = new DesiredStore()
  const fabric = host.fabric()
  await fabric.open(store.state, [])
  const changed = store.apply({ self: host.self, revision: 1, complete: true, set, removed: [] })
  const startMs = performance.now()
  await fabric.apply(store.state, changed)
  t.comment(`all: ${Math.round(performance.now() - startMs)} ms`)
  t.same(await fabric.audit(), [], 'the kernel has it')
  const times: number[] = []
  for (let round = 0; round < 10; round++) {
    const moved = endpoint('t1', 'wide', 153 + round, [addressOf(1)])
    const keys = store.apply({
      self: host.self,
      revision: 2 + round,
      complete: false,
      set: [{ kind: 'end-point', endpoint: moved }],
      removed: [],
    })
    const beganMs = performance.now()
    await fabric.apply(store.state, keys)
    times.push(performance.now() - beganMs)
  }
  times.sort((a, b) => a - b)
  t.comment(`one change: median ${times[5]?.toFixed(1)} ms, most ${times.at(-1)?.toFixed(1)} ms`)
  t.same(await fabric.audit(), [], 'and the changes')
  const { namespace } = host.config
  for (const number of [153, 154, 155, 1, 1000]) {
    const mark = `0x${peerMark(number).toString(16)}`
    const route = ip('-n', namespace, 'route', 'get', '198.51.100.9', 'mark', mark)
    t.match(
      route,
      `via 100.${64 + (number >> 7)}.${(number * 2) & 255}.1 dev vxg table ${10_000 + number}`,
      `node ${number}`,
    )
  }
  t.match(ip('-n', namespace, 'route', 'get', '198.51.100.9'), 'dev up0', 'what bears no mark goes out')
  const auditMs = performance.now()
  await fabric.apply(store.state, undefined)
  t.comment(`everything compared and loaded anew: ${Math.round(performance.now() - auditMs)} ms`)
})

t.test('two nodes in one host namespace share a network, each with a fabric and a port of its own', async (t) => {
  const lab = new KernelLab('t', [1])
  t.teardown(async () => {
    for (const { config } of nodes) ip('netns', 'del', config.namespace)
    await lab.down()
  })
  const [host] = lab.hosts
  if (!host) throw new Error('no host')
  const nodes = [0, 1].map((instance) => {
    const number = instance + 1
    const port = 4789 + 10 * instance
    const namespace = `${host.namespace}i${instance}`
    const config = fabricConfig({ instance, dataPathPort: port, namespace })
    const own = endpoint(`t${number}`, 'front', number, addresses({ number }))
    return { config, peer: peer(number, host.address, { port }), own, fabric: host.fabric({ config }) }
  })
  const set: readonly DataPlaneRecord[] = [
    ...nodes.map((node) => ({ kind: 'peer', peer: node.peer }) as const),
    { kind: 'overlay-network', network: INGRESS },
    { kind: 'overlay-network', network: front },
    ...nodes.map(({ own }) => ({ kind: 'end-point', endpoint: own }) as const),
  ]
  const containers: string[] = []
  for (const { own: placed, fabric, peer: self } of nodes) {
    const store = new DesiredStore()
    await fabric.open(store.state, [])
    const { number, nodeId } = self
    const own = { nodeId, number, address: host.address, dataPathPort: 4789 }
    const changed = store.apply({ self: own, revision: 1, complete: true, set, removed: [] })
    await fabric.apply(store.state, changed)
    const local = localOf(placed)
    const { device } = await fabric.attach(local)
    containers.push(lab.container(host, device, local, 24))
  }
  t.ok(await pings(containers[0] ?? '', '10.0.1.6'))
  t.ok(await pings(containers[1] ?? '', 'fd00:1::5'))
  for (const { fabric } of nodes) t.same(await fabric.audit(), [])
})
