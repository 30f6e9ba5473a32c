// The rules in real kernels' tables: nodes, containers on overlays and a client outside, all in namespaces.
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { dataPlaneKey, endpointMac } from '../../src/api/data-plane.ts'
import { Commands } from '../../src/overlay/kernel/commands.ts'
import { inboundSockets } from '../../src/overlay/kernel/container-sockets.ts'
import { gatewayIpv6 } from '../../src/overlay/kernel/fabric-config.ts'
import { BALANCED_TABLE } from '../../src/overlay/rules/balanced-replies.ts'
import {
  connectionListing,
  DRAINING_QUERIES,
  drainingPackets,
  hasConnections,
} from '../../src/overlay/rules/draining.ts'
import { CONTROL_PORT, endpoint, ingress, type Place, service } from './support/plain-fabric.ts'
import {
  back,
  CLASHING_ADDRESS,
  endpointRecord,
  front,
  networkRecord,
  PlainWorld,
  placesOf,
  serviceRecord,
} from './support/plain-world.ts'

t.setTimeout(120_000)
const world = new PlainWorld(`swr${process.pid}`)
const { client, nodes } = world
const [one, two, three] = nodes

const web1 = world.container('web1', one, front, 11)
const web2 = world.container('web2', two, front, 12)
const web3 = world.container('web3', two, front, 13)
const asker = world.container('ask1', one, front, 21)
const other = world.container('oth1', one, back, 31)
const webs = [web1, web2, web3]

const ports = [
  { protocol: 'tcp', published: 8080, target: 80, preferLocal: false },
  { protocol: 'udp', published: 8080, target: 80, preferLocal: false },
  { protocol: 'tcp', published: 8099, target: 80, preferLocal: false },
] as const
const onFront = service({ serviceId: 'web', networkId: front.id, virtualIps: ['10.0.1.2', 'fd00:1::2'] })
const onIngress = service({ serviceId: 'web', networkId: ingress.id, ports })
const empty = service({ serviceId: 'none', networkId: front.id, virtualIps: ['10.0.1.3', 'fd00:1::3'] })
const emptyIngress = service({
  serviceId: 'none',
  networkId: ingress.id,
  ports: [{ protocol: 'tcp', published: 8090, target: 80, preferLocal: false }],
})
world.announce(front, [...onFront.virtualIps, ...empty.virtualIps])
world.start([
  ...[ingress, front, back].map(networkRecord),
  ...[onFront, onIngress, empty, emptyIngress].map(serviceRecord),
  ...webs.flatMap((web) => placesOf(web, 'web')),
  ...[asker, other].flatMap((made) => placesOf(made, '')),
])
await Promise.all([
  ...webs.map((web) => web.place.request({ op: 'serve', name: web.taskId, port: 80 })),
  other.place.request({ op: 'serve', name: 'other', port: 80 }),
  ...nodes.map((node) => node.host.request({ op: 'serve', name: `host${node.number}`, port: CONTROL_PORT })),
])

const nextTurn = () => sleep(20)
const count = (names: readonly string[]) =>
  Object.fromEntries([...new Set(names)].toSorted().map((name) => [name, names.filter((n) => n === name).length]))
const evenly = { web1: 4, web2: 4, web3: 4 }

t.test('connections to a virtual address go to the tasks in turn, on whatever node they are', async (t) => {
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12)), evenly)
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12, 'udp')), evenly)
  t.same(count(await asker.place.answerers('fd00:1::2', 80, 12)), evenly)
  t.match(await asker.place.ask('10.0.1.2', 80, { localPort: 4001 }), /^web\d 10\.0\.1\.21 4001$/, 'who see the caller')
})

t.test('a task reaches its own service, itself included', async (t) => {
  t.same(count(await web1.place.answerers('10.0.1.2', 80, 12)), evenly)
  t.same(count(await web2.place.answerers('fd00:1::2', 80, 12)), evenly)
})

t.test('a virtual address without tasks refuses at once', async (t) => {
  t.equal(await asker.place.ask('10.0.1.3', 80), 'ECONNREFUSED')
  t.equal(await asker.place.ask('fd00:1::3', 80), 'ECONNREFUSED')
  t.equal(await asker.place.ask('10.0.1.3', 80, { protocol: 'udp' }), 'ECONNREFUSED')
  t.equal(await client.ask('10.78.0.1', 8090), 'ECONNREFUSED')
})

t.test('a published port is reached through every node, and the client is seen', async (t) => {
  for (const node of nodes) {
    t.same(count(await client.answerers(node.address, 8080, 12)), evenly)
    t.same(count(await client.answerers(node.address, 8080, 12, 'udp')), evenly)
    t.same(count(await client.answerers(node.addressV6, 8080, 12)), evenly)
    for (let at = 0; at < 3; at++) {
      t.match(
        await client.ask(node.address, 8080, { localPort: 5001 + at }),
        new RegExp(`^web\\d 10.78.0.100 ${5001 + at}$`),
      )
      // A flow through another entry to the same task would still be known, and the port changed.
      const udpPort = 5000 + 10 * node.number + at
      t.match(
        await client.ask(node.address, 8080, { localPort: udpPort, protocol: 'udp' }),
        new RegExp(` 10.78.0.100 ${udpPort}$`),
      )
      t.match(await client.ask(node.addressV6, 8080, { localPort: 5001 + at }), / fd78::100 500\d$/)
    }
  }
})

t.test('a client hears from the task itself that nothing listens there', async (t) => {
  const closed = (['tcp', 'udp'] as const).map((protocol) => ({ ...ports[0], protocol, published: 8087, target: 81 }))
  world.change([serviceRecord({ ...onIngress, ports: [...ports, ...closed] })])
  for (const node of nodes) {
    for (let at = 0; at < 3; at++) {
      t.equal(await client.ask(node.address, 8087), 'ECONNREFUSED')
      t.equal(await client.ask(node.address, 8087, { protocol: 'udp' }), 'ECONNREFUSED')
      t.equal(await client.ask(node.addressV6, 8087, { protocol: 'udp' }), 'ECONNREFUSED')
    }
  }
  world.change([serviceRecord(onIngress)])
})

t.test('much passes as little does, through tunnels that carry less than the wire', async (t) => {
  for (const [host, port, from] of [
    [one.address, 8080, client],
    [two.addressV6, 8080, client],
    ['10.0.1.2', 80, asker.place],
    ['fd00:1::2', 80, asker.place],
  ] as const) {
    for (let at = 0; at < 3; at++) t.match(await from.ask(host, port, { bytes: 1_000_000 }), / 1000000$/)
  }
  const datagram = () => client.ask(three.address, 8080, { protocol: 'udp', bytes: 1472 })
  t.equal(await datagram(), 'EMSGSIZE', 'a datagram as long as the wire takes does not fit')
  for (let at = 0; at < 3; at++) t.match(await datagram(), / 1472$/, 'but its sender was told')
})

t.test("a published port answers on the node's own addresses, 127.0.0.1 among them", async (t) => {
  for (const node of nodes) {
    t.same(count(await node.host.answerers('127.0.0.1', 8080, 12)), evenly)
    t.same(count(await node.host.answerers('127.0.0.1', 8080, 12, 'udp')), evenly)
    t.same(count(await node.host.answerers(node.address, 8080, 12)), evenly)
    t.equal(await node.host.ask('::1', 8080), 'ECONNREFUSED', 'refused at once: clients try IPv4 next')
  }
  t.same(count(await two.host.answerers(one.address, 8080, 12)), evenly, 'from another node')
  t.match(await two.host.ask(one.address, 8080), / 10\.78\.0\.2 /)
})

t.test('a container reaches published ports through any node', async (t) => {
  for (const asking of [asker, other, web2]) {
    t.same(count(await asking.place.answerers(one.address, 8080, 12)), evenly)
    t.same(count(await asking.place.answerers(two.addressV6, 8080, 12)), evenly)
  }
})

const counted = (where: Place, name: string, table = 'inet swarmctl') =>
  Number(/packets (\d+)/.exec(where.exec('nft', 'list', 'counter', ...table.split(' '), name))?.[1])

t.test('a client whose address lies in a cluster network is served all the same, and counted', async (t) => {
  const masked = () => [one.host, two.host, three.host, one.fabric, two.fabric].map((at) => counted(at, 'masqueraded'))
  const expected = { 1: [6, 0, 0, 0, 0], 2: [0, 6, 0, 0, 0], 3: [0, 0, 0, 2, 4] }
  for (const node of nodes) {
    const before = masked()
    const names: string[] = []
    for (let at = 0; at < 6; at++) {
      const protocol = at % 2 === 0 ? 'tcp' : 'udp'
      const answer = await client.ask(node.address, 8080, { localAddress: CLASHING_ADDRESS, protocol })
      t.match(answer, /^web\d (169\.254\.77\.1|100\.64\.[24]\.1) /, 'masqueraded')
      names.push(answer.split(' ')[0] ?? '')
    }
    t.equal(new Set(names).size, 3, 'by local and remote tasks')
    const counts = masked().map((now, at) => now - (before[at] ?? 0))
    const text = 'at the entry, or with the task where the entry does not know the network'
    t.same(counts, expected[node.number as 1 | 2 | 3], text)
  }
})

t.test('one client port through two entries makes two connections to one task', async (t) => {
  world.change([
    serviceRecord(service({ serviceId: 'single', networkId: ingress.id, ports: [{ ...ports[0], published: 8085 }] })),
  ])
  world.change([
    endpointRecord(
      endpoint({
        taskId: 'web2',
        networkId: ingress.id,
        nodeNumber: 2,
        serviceId: 'single',
        addresses: [web2.gateway],
      }),
    ),
  ])
  const entries = [one, two, three]
  const holds = await Promise.all(
    entries.map((node) =>
      client.request({ op: 'hold', key: node.address, host: node.address, port: 8085, localPort: 6001 }),
    ),
  )
  for (const answer of holds) t.match(answer, /^web2 10\.78\.0\.100 /)
  for (const node of entries) t.match(await client.request({ op: 'again', key: node.address }), /^web2 /, 'both go on')
  world.change(placesOf(web2, 'web'), [{ kind: 'overlay-service', id: `single/${ingress.id}` }])
  t.equal(await client.ask(one.address, 8085), 'ECONNREFUSED', 'what is published no more is refused')
})

t.test('connections stay with their task, new ones avoid one that is about to stop', async (t) => {
  const keys = ['a', 'b', 'c']
  const held = await Promise.all(
    keys.map((key) => asker.place.request({ op: 'hold', key, host: '10.0.1.2', port: 80 })),
  )
  const outside = await Promise.all(
    keys.map((key) => client.request({ op: 'hold', key, host: one.address, port: 8080 })),
  )
  const name = (answer: string) => answer.split(' ')[0]
  t.same(new Set(held.map(name)).size, 3)
  world.change(placesOf(web2, 'web', false))
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12)), { web1: 6, web3: 6 })
  t.same(count(await client.answerers(one.address, 8080, 12)), { web1: 6, web3: 6 })
  for (const [at, key] of keys.entries()) {
    t.equal(name(await asker.place.request({ op: 'again', key })), name(held[at] ?? ''))
    t.equal(name(await client.request({ op: 'again', key })), name(outside[at] ?? ''))
  }
  one.load()
  t.equal(
    name(await asker.place.request({ op: 'again', key: 'a' })),
    name(held[0] ?? ''),
    'as do all tables loaded anew',
  )
  world.change(placesOf(web2, 'web'))
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12)), evenly)
})

t.test('connections to a task whose node died are reset once managers know, or give it up', async (t) => {
  const ways = [
    { who: asker.place, host: '10.0.1.2', port: 80 },
    { who: asker.place, host: 'fd00:1::2', port: 80 },
    { who: client, host: one.address, port: 8080 },
  ]
  const places = placesOf(web2, 'web')
  const lost = places.flatMap((record) =>
    record.kind === 'end-point' ? [endpointRecord({ ...record.endpoint, serving: false, lost: true })] : [],
  )
  for (const [when, end] of [
    ['known', () => world.change(lost)],
    ['given up', () => world.change([], places.map(dataPlaneKey))],
  ] as const) {
    const held = await Promise.all(
      ways.flatMap(({ who, ...way }, at) =>
        ['a', 'b', 'c'].map(async (turn) => {
          const key = `${when} ${at} ${turn}`
          const name = (await who.request({ op: 'hold', key, ...way })).split(' ')[0] ?? ''
          return { who, key, name }
        }),
      ),
    )
    world.change(placesOf(web2, 'web', false))
    web2.place.nft(
      'add table inet dead; add chain inet dead hears { type filter hook prerouting priority -400; policy drop; }',
    )
    end()
    for (const { who, key, name } of held) {
      const answer = await who.request({ op: 'again', key }).catch((error: unknown) => String(error))
      if (name === 'web2') t.match(answer, /ECONNRESET|EPIPE/, key)
      else t.equal(answer.split(' ')[0], name, `${key}: those to others stay`)
    }
    t.equal(held.filter(({ name }) => name === 'web2').length, 3)
    web2.place.nft('delete table inet dead')
    world.change(places)
  }
})

t.test('no connection fails while the rules change, and while all are loaded anew', async (t) => {
  const storms = [
    { from: asker.place, key: 'vip', host: '10.0.1.2', port: 80 },
    { from: asker.place, key: 'vip6', host: 'fd00:1::2', port: 80 },
    { from: client, key: 'local', host: one.address, port: 8080 },
    { from: client, key: 'remote', host: three.addressV6, port: 8080 },
  ]
  await Promise.all(storms.map(({ from, ...storm }) => from.request({ op: 'storm', ...storm })))
  for (let round = 0; round < 6; round++) {
    const web = webs[round % 3] ?? web1
    world.change(placesOf(web, 'web', false))
    await nextTurn()
    world.change(placesOf(web, 'web'))
    for (const node of nodes) node.load()
    await nextTurn()
  }
  for (const { from, key } of storms) {
    const told = await from.request({ op: 'calm', key })
    t.match(told, /^0 of \d{2,}$/, `${key}: ${told}`)
  }
})

t.test('datagrams of one client port go elsewhere once their task is about to stop', async (t) => {
  const ways = [
    { who: asker.place, host: '10.0.1.2', port: 80, localPort: 7001 },
    { who: asker.place, host: 'fd00:1::2', port: 80, localPort: 7001 },
    { who: client, host: one.address, port: 8080, localPort: 7001 },
  ]
  for (const { who, ...way } of ways) {
    const first = (await who.ask(way.host, way.port, { ...way, protocol: 'udp' })).split(' ')[0]
    t.equal((await who.ask(way.host, way.port, { ...way, protocol: 'udp' })).split(' ')[0], first, 'a flow stays')
    const web = webs.find(({ taskId }) => taskId === first) ?? web1
    world.change(placesOf(web, 'web', false))
    const next = (await who.ask(way.host, way.port, { ...way, protocol: 'udp' })).split(' ')[0]
    t.match(next, /^web/)
    t.not(next, first)
    world.change(placesOf(web, 'web'))
  }
})

t.test('datagrams to a port reach it once it is published, also those of who asked too early', async (t) => {
  const early = () => client.ask(one.address, 8053, { protocol: 'udp', localPort: 7053 })
  t.equal(await early(), 'ECONNREFUSED')
  const port = { protocol: 'udp', published: 8053, target: 80, preferLocal: false } as const
  world.change([serviceRecord({ ...onIngress, ports: [...ports, port] })])
  t.match(await early(), /^web\d 10\.78\.0\.100 7053$/)
  world.change([serviceRecord(onIngress)])
  t.equal(await early(), 'ECONNREFUSED', 'and no longer when it is not')
})

t.test('with affinity a client stays at one task, through whatever node', async (t) => {
  world.change([serviceRecord({ ...onFront, affinity: true }), serviceRecord({ ...onIngress, affinity: true })])
  t.equal(new Set(await asker.place.answerers('10.0.1.2', 80, 9)).size, 1)
  t.equal(new Set(await asker.place.answerers('fd00:1::2', 80, 9)).size, 1)
  const through = await Promise.all(nodes.map((node) => client.answerers(node.address, 8080, 6)))
  t.equal(new Set(through.flat()).size, 1)
  world.change([serviceRecord(onFront), serviceRecord(onIngress)])
})

t.test('a port may prefer the tasks of the node where one enters', async (t) => {
  const preferring = ports.map((port) => ({ ...port, preferLocal: true }))
  world.change([serviceRecord({ ...onIngress, ports: preferring })])
  t.same(count(await client.answerers(one.address, 8080, 4)), { web1: 4 })
  t.same(count(await client.answerers(two.address, 8080, 4)), { web2: 2, web3: 2 })
  t.same(count(await client.answerers(three.address, 8080, 6)), { web1: 2, web2: 2, web3: 2 })
  world.change(placesOf(web1, 'web', false))
  t.same(count(await client.answerers(one.address, 8080, 4)), { web2: 2, web3: 2 }, 'others where there are none')
  world.change([...placesOf(web1, 'web'), serviceRecord(onIngress)])
})

t.test('a port that this node does not serve is left to whoever has it here', async (t) => {
  await one.host.request({ op: 'serve', name: 'owner', port: 8099 })
  one.run(one.rules.setPortsHere(one.store.state, { taken: new Set(['8099/tcp']), at: new Map() }))
  t.match(await client.ask(one.address, 8099), /^owner /)
  for (const node of [two, three]) t.match(await client.ask(node.address, 8099), /^web/)
  one.run(one.rules.setPortsHere(one.store.state, { taken: new Set(), at: new Map() }))
  t.match(await client.ask(one.address, 8099), /^web/)
})

t.test('a port that is for one address is closed on the others, and 127.0.0.1 is the host’s own', async (t) => {
  const [second, port] = ['10.78.0.41', 8097]
  one.host.ip(`addr add ${second}/32 dev lo`)
  const published = { protocol: 'tcp', published: port, target: 80, preferLocal: false } as const
  world.change([serviceRecord({ ...onIngress, ports, portsAt: [{ ...published, addresses: ['x'] }] })])
  const openAt = (...addresses: string[]) =>
    one.run(one.rules.setPortsHere(one.store.state, { taken: new Set(), at: new Map([[`${port}/tcp`, addresses]]) }))
  const at = async (address: string) => [await client.ask(address, port), await one.host.ask(address, port)]
  const refused = ['ECONNREFUSED', 'ECONNREFUSED']
  t.same(await at(one.address), refused)
  openAt(second)
  t.match(await at(second), [/^web/, /^web/])
  t.same(await at(one.address), refused)
  openAt('127.0.0.1', 'fd78::1')
  t.match(await one.host.ask('127.0.0.1', port), /^web/)
  t.match(await client.ask('fd78::1', port), /^web/)
  t.same([await at(one.address), await at(second)], [refused, refused])
  world.change([serviceRecord(onIngress)])
  openAt()
})

t.test('containers go out, with the address of their node, unless their networks are internal', async (t) => {
  await client.request({ op: 'serve', name: 'world', port: 9000 })
  t.match(await asker.place.ask('10.78.0.100', 9000), /^world 10\.78\.0\.1 /)
  t.match(await web2.place.ask('10.78.0.100', 9000, { protocol: 'udp' }), /^world 10\.78\.0\.2 /)
  t.match(await web2.place.ask('fd78::100', 9000), /^world fd78::2 /)
  world.change([networkRecord({ ...back, internal: true })])
  t.equal(await other.place.ask('10.78.0.100', 9000), 'TIMEOUT')
  t.match(await asker.place.ask('10.78.0.100', 9000), /^world/)
  world.change([networkRecord(back)])
  t.match(await other.place.ask('10.78.0.100', 9000), /^world/)
})

t.test('networks do not reach each other, nor containers what is not theirs', async (t) => {
  t.match(await web1.place.ask(web3.addresses[0], 80), /^web3 10\.0\.1\.11 /, 'within a network')
  const own = [one.address, two.address, one.config.hostLinkAddress, one.addressV6, one.block.address]
  const attempts = [
    ...['10.0.1.11', '10.0.1.12', '10.0.1.2', 'fd00:1::11', 'fd00:1::2'].map((host) => ({
      from: other,
      host,
      port: 80,
    })),
    { from: asker, host: other.gateway, port: 80 },
    { from: asker, host: web2.gateway, port: 80 },
    { from: web1, host: gatewayIpv6(web2.gateway), port: 80 },
    ...own.map((host) => ({ from: asker, host, port: CONTROL_PORT })),
  ]
  const answers = await Promise.all(attempts.map(({ from, host, port }) => from.place.ask(host, port)))
  for (const [at, { from, host, port }] of attempts.entries()) {
    t.match(answers[at], /^(TIMEOUT|EHOSTUNREACH|ECONNREFUSED)$/, `${from.taskId} to port ${port} of ${host}`)
  }
  t.match(await client.ask(one.address, CONTROL_PORT), /^host1 /, 'which is there')
})

t.test(
  "tasks do not reach the containers of the engine's own networks, except by ports that those publish",
  async (t) => {
    const bridges = ['docker0', 'br-0123456789ab', 'br-lan']
    const neighbours = bridges.map((bridge, at) => {
      const made = world.place(`eng${at}`)
      one.host.ip(
        `link add ${bridge} type bridge`,
        `addr add 172.${17 + at}.0.1/16 dev ${bridge}`,
        `link set ${bridge} up`,
      )
      one.host.ip(
        `link add e${at} type veth peer name eth0 netns ${made.namespace}`,
        `link set e${at} master ${bridge} up`,
      )
      made.ip(`addr add 172.${17 + at}.0.2/16 dev eth0`, 'link set eth0 up', `route add default via 172.${17 + at}.0.1`)
      return made
    })
    await Promise.all(neighbours.map((made, at) => made.request({ op: 'serve', name: bridges[at] ?? '', port: 80 })))
    one.run(one.rules.setEngineBridges(one.store.state, ['br-0123456789ab']))
    const answers = await Promise.all(bridges.map((_, at) => asker.place.ask(`172.${17 + at}.0.2`, 80)))
    t.same(answers.slice(0, 2), ['TIMEOUT', 'TIMEOUT'])
    t.match(answers[2], /^br-lan 172\.19\.0\.1 /, "a bridge of the host's own is a way out like others")
    one.host.nft(`table ip engine {
    chain published { type nat hook prerouting priority dstnat; policy accept;
      fib daddr type local tcp dport 9080 dnat to 172.17.0.2:80
    }
  }`)
    t.match(await asker.place.ask(one.address, 9080), /^docker0 /)
  },
)

t.test('nobody sends with the address of another', async (t) => {
  const rogue = world.container('rog1', one, front, 66)
  for (const local of one.locals.slice(-2)) one.run(one.rules.attach(one.store.state, local))
  t.match(await rogue.place.ask(web1.addresses[0], 80), /^web1 10\.0\.1\.66 /)
  t.match(await rogue.place.ask('fd00:1::11', 80), /^web1 fd00:1::66 /)
  const rogueMac = endpointMac([rogue.addresses[0]])
  asker.place.ip('neigh flush dev eth0')
  rogue.place.ip('addr add 10.0.1.12/32 dev eth0', 'addr add fd00:1::12/128 dev eth0 nodad')
  const before = counted(one.fabric, 'spoofed', 'bridge swarmctl')
  const answers = await Promise.all([
    rogue.place.ask('10.0.1.21', 80, { localAddress: '10.0.1.12' }),
    rogue.place.ask('10.0.1.11', 80, { localAddress: '10.0.1.12' }),
    rogue.place.ask('fd00:1::2', 80, { localAddress: 'fd00:1::12' }),
  ])
  for (const answer of answers) t.match(answer, /^(TIMEOUT|EHOSTUNREACH)$/)
  t.notMatch(asker.place.exec('ip', 'neigh', 'show', '10.0.1.12'), rogueMac, 'nor does ARP spread it')
  t.ok(counted(one.fabric, 'spoofed', 'bridge swarmctl') > before)
  for (let at = 0; at < 3; at++) {
    asker.place.ip('neigh flush dev eth0')
    asker.place.exec('ip', '-6', 'neigh', 'flush', 'dev', 'eth0')
    t.match(await asker.place.ask('10.0.1.12', 80), /^web2/, 'what it claims to be is not believed')
    t.match(await asker.place.ask('fd00:1::12', 80), /^web2/)
  }
  rogue.place.ip('addr del 10.0.1.12/32 dev eth0', 'link set eth0 address 02:42:0a:00:01:0c')
  t.match(await rogue.place.ask(web1.addresses[0], 80), /^(TIMEOUT|EHOSTUNREACH)$/, 'nor its MAC')
})

t.test('tunnels take packets of nodes only', async (t) => {
  const before = counted(one.host, 'guarded')
  const attempts = [
    { from: client, to: one },
    { from: asker.place, to: one },
    { from: asker.place, to: two },
  ]
  await Promise.all(attempts.map(({ from, to }) => from.ask(to.address, 4789, { protocol: 'udp' })))
  t.equal(counted(one.host, 'guarded') - before, 3, 'not from outside, not from a container to its node or to another')
  two.host.ip('route add 100.97.0.0/16 via 10.78.0.1')
  await two.host.ask(one.address, one.config.encryptedPort, { protocol: 'udp' })
  t.equal(
    await two.host.ask('100.97.0.1', one.config.encryptedPort, { protocol: 'udp' }),
    'EPERM',
    'nor leaves otherwise',
  )
  t.equal(counted(one.host, 'guarded') - before, 4, 'and what is encrypted comes by WireGuard')
  t.match(await client.ask(one.address, 8080), /^web/)
})

t.test('what is to be encrypted does not leave in clear', async (t) => {
  const sealed = endpoint({
    taskId: 'web2',
    networkId: ingress.id,
    nodeNumber: 2,
    serviceId: 'sealed',
    addresses: [web2.gateway],
    encrypted: true,
  })
  world.change([
    serviceRecord(service({ serviceId: 'sealed', networkId: ingress.id, ports: [{ ...ports[0], published: 8086 }] })),
    endpointRecord(sealed),
  ])
  t.equal(await client.ask(one.address, 8086), 'TIMEOUT', 'its tunnel is not there')
  t.match(await client.ask(two.address, 8086), /^web2/, 'on its own node there is nothing to encrypt')
  world.change([endpointRecord({ ...sealed, encrypted: false })])
  t.match(await client.ask(one.address, 8086), /^web2/)
  world.change(placesOf(web2, 'web'), [{ kind: 'overlay-service', id: `sealed/${ingress.id}` }])
})

t.test('a task that is about to stop: are there connections to it, and do they move?', async (t) => {
  const { routed, bridged } = two.rules.addressesOf(two.store.state, 'web2')
  const commands = new Commands({ fabric: two.fabric.namespace, host: `/run/netns/${two.host.namespace}` })
  const inside = async () => await inboundSockets(commands, `/run/netns/${web2.place.namespace}`, bridged)
  const connected = async () => {
    const listings = routed.map((address) => two.fabric.attempt('conntrack', ...connectionListing(address)).output)
    return listings.filter(hasConnections).length + ((await inside())?.connections ?? 0)
  }
  const moved = async () => {
    const listings = DRAINING_QUERIES.map((query) => two.fabric.exec('nft', ...query)).join('')
    const counted = [...drainingPackets(listings).values()].reduce((sum, packets) => sum + packets, 0)
    return counted + ((await inside())?.segments ?? 0)
  }
  two.fabric.exec('conntrack', '-F')
  const atFirst = await connected()
  two.run(two.rules.drain(two.store.state, 'web2'))
  const movedAtFirst = await moved()
  await web2.place.request({ op: 'hold', key: 'out', host: web3.addresses[0], port: 80 })
  t.equal(await connected(), atFirst, 'those that it opened itself are not to be waited for')
  t.equal(await moved(), movedAtFirst)
  world.change(webs.filter((web) => web !== web2).flatMap((web) => placesOf(web, 'web', false)))
  for (const [at, { who, ...to }] of [
    { who: asker.place, host: web2.addresses[0], port: 80 },
    { who: asker.place, host: '10.0.1.2', port: 80 },
    { who: asker.place, host: 'fd00:1::2', port: 80 },
    { who: client, host: one.address, port: 8080 },
    { who: client, host: two.addressV6, port: 8080 },
  ].entries()) {
    const earlier = await moved()
    await who.request({ op: 'hold', key: `drain${at}`, ...to })
    t.equal(await connected(), atFirst + at + 1, to.host)
    const before = await moved()
    t.ok(before > earlier)
    t.equal(await moved(), before, 'at rest')
    await who.request({ op: 'again', key: `drain${at}` })
    t.ok((await moved()) > before)
  }
  world.change(webs.flatMap((web) => placesOf(web, 'web')))
  two.run(two.rules.undrain(two.store.state, 'web2'))
  t.equal(await inboundSockets(commands, '/run/netns/nobody', bridged), undefined, 'nothing can tell')
})

t.test('what containers say to each other is tracked only where it was balanced', async (t) => {
  for (const node of nodes) node.fabric.exec('conntrack', '-F')
  await asker.place.request({ op: 'hold', key: 'direct', host: web2.addresses[0], port: 80 })
  await asker.place.request({ op: 'hold', key: 'direct6', host: web1.addresses[1], port: 80 })
  t.match(await asker.place.ask(web2.addresses[0], 80, { protocol: 'udp', bytes: 9000 }), / 9000$/)
  const tracked = () => nodes.map((node) => node.fabric.exec('conntrack', '-L', '-p', 'tcp').trim()).join('')
  t.equal(tracked(), '')
  await asker.place.request({ op: 'hold', key: 'balanced', host: '10.0.1.2', port: 80 })
  t.match(tracked(), /dst=10\.0\.1\.2 /)
})

t.test(
  'from a port that asked by the virtual address a client may ask a task directly, and the other way round',
  async (t) => {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const [at, address] of onFront.virtualIps.entries()) {
        for (let localPort = 7101; localPort <= 7103; localPort++) {
          const way = { protocol, localPort }
          const name = (await asker.place.ask(address, 80, way)).split(' ')[0]
          const web = webs.find(({ taskId }) => taskId === name) ?? web1
          const direct = await asker.place.ask(web.addresses[at]!, 80, way)
          t.equal(direct.split(' ')[0], web.taskId, `${protocol} ${localPort} straight to ${web.addresses[at]}`)
          t.match(await asker.place.ask(address, 80, way), /^web/, `${protocol} ${localPort} by ${address} again`)
        }
      }
    }
  },
)

t.test('answers without ports come back through a virtual address', async (t) => {
  for (const address of onFront.virtualIps) {
    t.equal(await asker.place.ask(address, 81, { protocol: 'udp' }), 'ECONNREFUSED', 'nothing listens at the task')
    t.equal(await asker.place.ask(address, 81), 'ECONNREFUSED')
    t.match(await asker.place.ask(address, 80, { protocol: 'udp', bytes: 9000 }), / 9000$/, 'in parts')
    t.equal(asker.place.attempt('busybox', 'ping', '-c', '2', '-w', '4', address).status, 0)
  }
})

t.test('a connection through a virtual address outlives the rules, whoever speaks first afterwards', async (t) => {
  const losses = [
    () => one.load(),
    () => one.fabric.exec('nft', 'flush', 'ruleset'),
    () => one.fabric.exec('nft', 'delete', 'table', 'bridge', BALANCED_TABLE),
  ]
  for (const [at, lose] of losses.entries()) {
    for (const address of onFront.virtualIps) {
      const key = `${at} ${address}`
      const name = (await asker.place.request({ op: 'hold', key, host: address, port: 80 })).split(' ')[0] ?? '?'
      const answer = asker.place.request({ op: 'later', key })
      // the question is acknowledged: whoever speaks without rules is reset
      await sleep(150)
      lose()
      one.load()
      t.match(await answer, new RegExp(`^${name} `), key)
    }
  }
})

t.test('SCTP is led like the others', async (t) => {
  world.change([
    serviceRecord(
      service({
        serviceId: 'web',
        networkId: ingress.id,
        ports: [...ports, { protocol: 'sctp', published: 3868, target: 3868, preferLocal: false }],
      }),
    ),
  ])
  client.sendRaw(one.address, 132, sctpInit(5000, 3868))
  t.match(
    one.fabric.exec('conntrack', '-L', '-p', 'sctp'),
    /src=10\.78\.0\.100 dst=169\.254\.77\.2 .* src=100\.64\.\d+\.1\d dst=10\.78\.0\.100 sport=3868/,
  )
  world.change([serviceRecord(onIngress)])
})

/** An INIT chunk (RFC 9260) as a packet's payload. */
function sctpInit(source: number, destination: number): Buffer {
  const packet = Buffer.alloc(32)
  packet.writeUInt16BE(source, 0)
  packet.writeUInt16BE(destination, 2)
  packet.set([1, 0, 0, 20], 12)
  packet.writeUInt32BE(1, 16)
  packet.writeUInt32BE(65535, 20)
  packet.writeUInt16BE(1, 24)
  packet.writeUInt16BE(1, 26)
  packet.writeUInt32BE(1, 28)
  packet.writeUInt32LE(crc32c(packet), 8)
  return packet
}

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}

t.teardown(() => world.close())
