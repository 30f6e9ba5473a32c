import t from 'tap'
import type { Peer } from '../../src/api/data-plane.ts'
import { formatAnnouncement, parseAnnouncement } from '../../src/overlay/wireguard/announcement.ts'
import { decodeDump, encodeConf } from '../../src/overlay/wireguard/kernel-driver.ts'
import { makeKey } from '../../src/overlay/wireguard/key-file.ts'
import { linkCommands, type ObservedLinks } from '../../src/overlay/wireguard/links.ts'
import {
  type DeviceChange,
  deviceChanges,
  type ObservedDevice,
  type OwnKey,
  planTunnels,
  type Tunnels,
} from '../../src/overlay/wireguard/plan.ts'
import { LINGER_MS, nextRotation, ROTATION_MAX_MS } from '../../src/overlay/wireguard/rotation.ts'
import { decodeDevice, encodeChanges } from '../../src/overlay/wireguard/uapi.ts'

const config = { instance: 0 }
const keys = (...generations: number[]): readonly OwnKey[] => generations.map(makeKey)

/** A node with its keys, as its peers hear of it. */
function peer(number: number, own: readonly OwnKey[], more: Partial<Peer> = {}): Peer {
  return {
    nodeId: `node${number}`,
    hostname: `n${number}`,
    number,
    address: `10.77.0.${number}`,
    port: 4789,
    mtu: 1500,
    encryptionKeys: own.map(({ generation, publicKey }) =>
      formatAnnouncement({ generation, publicKey, port: 51834 - (generation % 2) }),
    ),
    encryptionProblem: '',
    ...more,
  }
}

function plan(
  number: number,
  own: readonly OwnKey[],
  peers: readonly Peer[],
  ages: Record<string, number> = {},
): Tunnels {
  const self = { nodeId: `node${number}`, number }
  return planTunnels({ config, self, peers, keys: own, handshakeAges: new Map(Object.entries(ages)) })
}

t.test('an announcement is read as it was written, and nonsense is as if it were not there', async (t) => {
  const announcement = { generation: 7, port: 51833, publicKey: makeKey(7).publicKey }
  t.same(parseAnnouncement(formatAnnouncement(announcement)), announcement)
  for (const text of ['', 'x', `0:51833:${announcement.publicKey}`, `1:0:${announcement.publicKey}`, '1:51833:AAAA'])
    t.equal(parseAnnouncement(text), undefined, text)
})

t.test('each peer is reached by its own key at its own address, and its packets only from there', async (t) => {
  const [one, two, three] = [keys(1), keys(1), keys(1)]
  const peers = [
    peer(1, one),
    peer(2, two),
    peer(300, three, { address: 'fd00::3', mtu: 1400 }),
    peer(4, [], { encryptionProblem: 'the kernel has no WireGuard, and wireguard-go is not installed' }),
  ]
  const tunnels = plan(1, one, peers)
  t.equal(tunnels.address, '100.97.0.1')
  t.same(
    tunnels.devices.map(({ name, port, mtu, generation }) => ({ name, port, mtu, generation })),
    [{ name: 'swc-wg0a', port: 51833, mtu: 1320, generation: 1 }],
  )
  t.same(
    tunnels.devices[0]?.peers,
    new Map([
      [two[0]!.publicKey, { endpoint: '10.77.0.2:51833', allowedIp: '100.97.0.2/32', keepaliveSeconds: 0 }],
      [three[0]!.publicKey, { endpoint: '[fd00::3]:51833', allowedIp: '100.97.1.44/32', keepaliveSeconds: 0 }],
    ]),
  )
  t.same(
    tunnels.routes,
    new Map([
      ['100.97.0.2', 'swc-wg0a'],
      ['100.97.1.44', 'swc-wg0a'],
    ]),
  )
  t.ok(tunnels.settled)
})

t.test('of two nodes with a copied key the first keeps it', async (t) => {
  const [own, copied] = [keys(1), keys(1)]
  const tunnels = plan(1, own, [peer(3, copied), peer(2, copied), peer(4, own)])
  t.same(
    [...tunnels.devices[0]!.peers.values()].map(({ allowedIp }) => allowedIp),
    ['100.97.0.2/32'],
  )
})

t.test('traffic moves to a new key when that has shown that it works, and not before', async (t) => {
  const [own, theirs] = [keys(2, 1), keys(2, 1)]
  const [fresh, old] = theirs
  const peers = [peer(2, theirs)]
  const route = (ages: Record<string, number>) => plan(1, own, peers, ages).routes.get('100.97.0.2')
  t.equal(route({ [old!.publicKey]: 20 }), 'swc-wg0a')
  t.notOk(plan(1, own, peers, { [old!.publicKey]: 20 }).settled)
  t.equal(route({ [old!.publicKey]: 20, [fresh!.publicKey]: 1 }), 'swc-wg0b')
  t.equal(route({}), 'swc-wg0b', 'where nothing flows, there is nothing to lose')
  t.equal(route({ [old!.publicKey]: 500 }), 'swc-wg0b', 'a session that old carries nothing')
  t.equal(plan(1, own, [peer(2, keys(1))]).routes.get('100.97.0.2'), 'swc-wg0a', 'it has no newer one')
  t.notOk(plan(1, own, [peer(2, keys(1))]).settled)
  t.ok(plan(1, own, peers, { [fresh!.publicKey]: 1 }).settled)
  t.same(
    plan(1, own, peers).devices.map(({ name, port, peers: known }) => [name, port, [...known.keys()]]),
    [
      ['swc-wg0b', 51834, [fresh!.publicKey]],
      ['swc-wg0a', 51833, [old!.publicKey]],
    ],
    'on each device one key of each peer',
  )
  t.equal(plan(1, keys(3), peers).routes.size, 0, 'no key in common: no way')
})

t.test(
  'a node follows the highest generation it hears of, and keeps the key before as long as it needs it',
  async (t) => {
    const step = (generations: number[], announced: number[][], settledAtMs: number | undefined, nowMs: number) =>
      nextRotation({
        generations,
        peers: announced.map((one) => peer(2, keys(...one))),
        settledAtMs,
        newestAtMs: 0,
        nowMs,
      })
    t.same(step([1], [[1], [1]], 0, 1e6), { kind: 'none' })
    t.same(step([1], [[1], [2, 1]], 0, 1), { kind: 'make', generation: 2, keep: [1] })
    t.same(step([], [[4]], undefined, 1), { kind: 'make', generation: 4, keep: [] })
    t.same(
      step([1], [[3]], 0, 1),
      { kind: 'make', generation: 3, keep: [] },
      'the new key takes the device of the old one',
    )
    t.same(step([2, 1], [[2, 1]], undefined, LINGER_MS), { kind: 'none' })
    t.same(step([2, 1], [[2, 1]], 10, LINGER_MS), { kind: 'none' })
    t.same(step([2, 1], [[2, 1]], 10, LINGER_MS + 10), { kind: 'drop', generation: 1 })
    t.same(
      step([2, 1], [[1]], undefined, ROTATION_MAX_MS),
      { kind: 'drop', generation: 1 },
      'a peer that is away holds up nobody',
    )
  },
)

t.test('only what differs is changed, and an address is freed before another key takes it', async (t) => {
  const [own, two, three, renewed] = [keys(1), keys(1), keys(1), keys(1)]
  const before = plan(1, own, [peer(2, two), peer(3, three)]).devices[0]!
  const observed: ObservedDevice = {
    privateKey: own[0]!.privateKey,
    port: 51833,
    peers: new Map([...before.peers].map(([key, value]) => [key, { ...value, handshakeAt: 5 }])),
  }
  t.same(deviceChanges(before, observed, before.peers), [])
  const after = plan(1, own, [peer(2, renewed), peer(3, three)]).devices[0]!
  t.same(deviceChanges(after, observed, before.peers), [
    { kind: 'remove-peer', publicKey: two[0]!.publicKey },
    { kind: 'put-peer', publicKey: renewed[0]!.publicKey, peer: after.peers.get(renewed[0]!.publicKey) },
  ])
  const roamed = new Map(observed.peers)
  roamed.set(two[0]!.publicKey, { ...observed.peers.get(two[0]!.publicKey)!, endpoint: '10.99.0.9:51833' })
  t.same(deviceChanges(before, { ...observed, peers: roamed }, before.peers), [], 'a peer that WireGuard followed')
  t.same(
    deviceChanges(before, { privateKey: '', port: 0, peers: new Map() }, new Map()).map(({ kind }) => kind),
    ['identity', 'put-peer', 'put-peer'],
  )
})

t.test('what is written in the protocol of wireguard-go is what is read from it', async (t) => {
  const device = plan(1, keys(1), [peer(2, keys(1)), peer(3, keys(1), { address: 'fd00::3' })]).devices[0]!
  const changes = deviceChanges(device, { privateKey: '', port: 0, peers: new Map() }, new Map())
  const text = encodeChanges(changes)
  t.match(text, /^set=1\nprivate_key=[0-9a-f]{64}\nlisten_port=51833\npublic_key=/)
  t.match(text, /endpoint=\[fd00::3\]:51833\n/)
  const read = decodeDevice(`${text.replace('set=1\n', '').trimEnd()}\nlast_handshake_time_sec=12\nerrno=0\n\n`)
  t.equal(read.privateKey, device.privateKey)
  t.same([...read.peers.keys()], [...device.peers.keys()])
  t.equal([...read.peers.values()][1]?.handshakeAt, 12)
  t.same(deviceChanges(device, read, new Map()), [])
})

t.test('what wg shows of a device is compared with what it was told', async (t) => {
  const device = plan(1, keys(1), [peer(2, keys(1))]).devices[0]!
  const [[publicKey, two] = ['', undefined]] = device.peers
  const dump = [
    [device.privateKey, 'PUBLIC=', '51833', 'off'],
    [publicKey, '(none)', two?.endpoint, two?.allowedIp, '1700000000', '1', '2', 'off'],
  ]
  const read = decodeDump(`${dump.map((line) => line.join('\t')).join('\n')}\n`)
  t.same(deviceChanges(device, read, new Map()), [])
  t.equal(read.peers.get(publicKey)?.handshakeAt, 1_700_000_000)
  t.same(decodeDump('(none)\t(none)\t0\toff\n'), { privateKey: '', port: 0, peers: new Map() })
  const changes: DeviceChange[] = [{ kind: 'put-peer', publicKey, peer: two! }]
  t.equal(
    encodeConf(changes),
    `[Peer]\nPublicKey = ${publicKey}\nEndpoint = 10.77.0.2:51833\nAllowedIPs = 100.97.0.2/32\nPersistentKeepalive = off\n`,
  )
})

t.test('devices get their address and routes, and what others left there goes', async (t) => {
  const tunnels = plan(1, keys(1), [peer(2, keys(1))])
  const observed = (part: Partial<ObservedLinks>): ObservedLinks => ({
    hole: true,
    devices: new Map([['swc-wg0a', { mtu: 1420, up: true, addresses: ['100.97.0.1/32'] }]]),
    routes: new Map([['100.97.0.2', 'swc-wg0a']]),
    ...part,
  })
  t.same(linkCommands(tunnels, observed({})), [])
  t.same(linkCommands(tunnels, observed({ devices: new Map(), routes: new Map() })), [
    'link set swc-wg0a mtu 1420 up',
    'address replace 100.97.0.1/32 dev swc-wg0a',
    'route replace 100.97.0.2 dev swc-wg0a',
  ])
  t.same(
    linkCommands(
      tunnels,
      observed({
        routes: new Map([
          ['100.97.0.2', 'swc-wg0b'],
          ['100.97.0.9', 'swc-wg0a'],
        ]),
      }),
    ),
    ['route replace 100.97.0.2 dev swc-wg0a', 'route delete 100.97.0.9 dev swc-wg0a'],
  )
})
