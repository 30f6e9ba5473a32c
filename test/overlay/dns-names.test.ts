// What the resolver answers, without sockets: the table of names as records come and go, and messages beside dns-packet's.

import assert from 'node:assert/strict'
import dnsPacket from 'dns-packet'
import fc from 'fast-check'
import t from 'tap'
import type { DataPlaneRecord, OverlayEndpoint, OverlayNetwork, OverlayService } from '../../src/api/data-plane.ts'
import { type DesiredChange, DesiredStore } from '../../src/overlay/desired-state.ts'
import { answerOf } from '../../src/overlay/dns/answer.ts'
import { nameServersOf } from '../../src/overlay/dns/host-name-servers.ts'
import {
  encodeFault,
  encodeRecord,
  encodeReply,
  parseMessage,
  type Query,
  readResponse,
  TYPE,
} from '../../src/overlay/dns/message.ts'
import { NameTable } from '../../src/overlay/dns/name-table.ts'

const network = (id: string, name: string, subnets: readonly string[]): DataPlaneRecord => ({
  kind: 'overlay-network',
  network: {
    id,
    name,
    vni: 4097,
    subnets: subnets.map((subnet) => ({ subnet, gateway: '' })),
    internal: false,
    encrypted: false,
    attachable: false,
    ingress: false,
    mtu: 0,
  } satisfies OverlayNetwork,
})

const service = (fields: Partial<OverlayService>): DataPlaneRecord => ({
  kind: 'overlay-service',
  service: {
    serviceId: 's1',
    networkId: 'front',
    name: 'web',
    aliases: [],
    virtualIps: [],
    ports: [],
    affinity: false,
    ...fields,
  },
})

const endpoint = (fields: Partial<OverlayEndpoint>): DataPlaneRecord => ({
  kind: 'end-point',
  endpoint: {
    taskId: 't1',
    networkId: 'front',
    nodeNumber: 1,
    addresses: ['10.0.1.11'],
    serviceId: 's1',
    serviceName: 'web',
    slot: 1,
    name: 'web.1.t1',
    hostname: '',
    aliases: [],
    serving: true,
    encrypted: false,
    ...fields,
  },
})

class World {
  readonly store = new DesiredStore()
  readonly table = new NameTable()

  constructor(...records: readonly DataPlaneRecord[]) {
    this.set(network('front', 'front', ['10.0.1.0/24', 'fd00:1::/64']), network('back', 'my.back', ['10.0.2.0/24']))
    this.set(...records)
  }

  #change(change: Pick<DesiredChange, 'set' | 'removed'>): void {
    this.table.update(this.store.state, this.store.apply({ self: undefined, revision: 1, complete: false, ...change }))
  }

  set(...records: readonly DataPlaneRecord[]): void {
    this.#change({ set: records, removed: [] })
  }

  remove(kind: DataPlaneRecord['kind'], id: string): void {
    this.#change({ set: [], removed: [{ kind, id }] })
  }

  /** Addresses, names, or what else is found. */
  ask(
    name: string,
    type: 'A' | 'AAAA' | 'PTR' | 'MX' = 'A',
    networks: readonly string[] = ['front'],
  ): readonly string[] | string {
    const number = { A: 1, AAAA: 28, PTR: 12, MX: 15 }[type]
    const packet = dnsPacket.encode({ type: 'query', id: 7, questions: [{ name, type, class: 'IN' }] })
    const parsed = parseMessage(packet)
    if (parsed.kind !== 'query') return parsed.kind
    const answer = answerOf(this.table, networks, parsed.query)
    if (!answer) return 'elsewhere'
    const reply = decodeReply(packet, parsed.query, answer)
    if (reply.rcode !== 'NOERROR') return reply.rcode
    return (reply.answers ?? []).map((each) => {
      if (each.type !== type) throw new Error(`${each.type} for ${type} ${number}`)
      return String((each as { data: unknown }).data)
    })
  }
}

function decodeReply(
  packet: Buffer,
  query: Query,
  answer: { rcode: number; records: readonly Buffer[] },
  limit = 65_535,
) {
  const reply = encodeReply(packet, query, { ...answer, first: 0, authoritative: true, recursion: true }, limit)
  return dnsPacket.decode(reply) as dnsPacket.DecodedPacket & { rcode: string }
}

const VIRTUAL = service({ aliases: ['www', 'Shop'], virtualIps: ['10.0.1.2', 'fd00:1::2'] })
const TASKS = [
  endpoint({ addresses: ['10.0.1.11', 'fd00:1::11'] }),
  endpoint({ taskId: 't2', slot: 2, name: 'web.2.t2', addresses: ['10.0.1.12', 'fd00:1::12'], hostname: 'web' }),
  endpoint({ taskId: 't3', slot: 3, name: 'web.3.t3', addresses: ['10.0.1.13'], serving: false, hostname: 'third' }),
]

t.test('every form of name of a service with a virtual address', async (t) => {
  const world = new World(VIRTUAL, ...TASKS)
  t.same(world.ask('web'), ['10.0.1.2'], 'also where a container has that for its host name')
  t.same(world.ask('web', 'AAAA'), ['fd00:1::2'])
  t.same(world.ask('WWW'), ['10.0.1.2'], 'case means nothing')
  t.same(world.ask('shop'), ['10.0.1.2'])
  t.same(world.ask('tasks.web'), ['10.0.1.11', '10.0.1.12'], 'only those that serve')
  t.same(world.ask('tasks.www', 'AAAA'), ['fd00:1::11', 'fd00:1::12'])
  t.same(world.ask('2.web'), ['10.0.1.12'])
  t.same(world.ask('2.shop'), ['10.0.1.12'])
  t.same(world.ask('web.1.t1'), ['10.0.1.11'])
  t.same(world.ask('web.front'), ['10.0.1.2'])
  t.same(world.ask('tasks.web.front'), ['10.0.1.11', '10.0.1.12'])
  t.same(world.ask('1.web.front'), ['10.0.1.11'])
})

t.test('what is ours is never asked elsewhere, and other names are', async (t) => {
  const world = new World(VIRTUAL, ...TASKS)
  t.same(world.ask('web', 'MX'), [], 'a name without such records')
  t.same(world.ask('3.web'), [], 'there, but it does not serve')
  t.same(world.ask('third'), [])
  t.same(world.ask('web.3.t3'), [])
  t.equal(world.ask('4.web'), 'NXDOMAIN')
  t.equal(world.ask('0.web'), 'elsewhere')
  t.equal(world.ask('web2'), 'elsewhere')
  t.equal(world.ask('web.example.com'), 'elsewhere')
  t.equal(world.ask('web.front2'), 'elsewhere')
  t.equal(world.ask('back'), 'elsewhere')
  t.same(new World(service({})).ask('web'), [], 'a service of which nothing serves')
  t.same(new World(service({ virtualIps: ['10.0.1.2'] })).ask('web', 'AAAA'), [], 'of the other family')
})

t.test('without a virtual address the name means the tasks that serve', async (t) => {
  const world = new World(service({ aliases: ['www'] }), ...TASKS)
  t.same(world.ask('web'), ['10.0.1.11', '10.0.1.12'])
  t.same(world.ask('www'), ['10.0.1.11', '10.0.1.12'])
  world.set(endpoint({ serving: false }))
  t.same(world.ask('web'), ['10.0.1.12'])
  world.remove('end-point', 't2/front')
  t.same(world.ask('web'), [])
  world.set(endpoint({}))
  t.same(world.ask('web'), ['10.0.1.11'])
})

t.test('one sees the names of its own networks', async (t) => {
  const other = service({ serviceId: 's2', networkId: 'back', name: 'db', virtualIps: ['10.0.2.2'] })
  const both = service({ networkId: 'back', virtualIps: ['10.0.2.9'] })
  const world = new World(VIRTUAL, other, both)
  t.equal(world.ask('db'), 'elsewhere')
  t.equal(world.ask('db.my.back'), 'elsewhere')
  t.same(world.ask('db', 'A', ['back']), ['10.0.2.2'])
  t.same(world.ask('db', 'A', ['front', 'back']), ['10.0.2.2'])
  t.same(world.ask('web', 'A', ['front', 'back']), ['10.0.1.2'], 'of the first network that knows it')
  t.same(world.ask('web', 'A', ['back', 'front']), ['10.0.2.9'])
  t.same(world.ask('web.my.back', 'A', ['front', 'back']), ['10.0.2.9'], 'a network with a dot in its name')
  t.equal(world.ask('2.2.0.10.in-addr.arpa', 'PTR'), 'elsewhere')
})

t.test('names of addresses', async (t) => {
  const world = new World(VIRTUAL, ...TASKS)
  t.same(world.ask('2.1.0.10.in-addr.arpa', 'PTR'), ['web.front'])
  t.same(world.ask('11.1.0.10.in-addr.arpa', 'PTR'), ['web.1.t1.front'])
  t.same(world.ask('13.1.0.10.in-addr.arpa', 'PTR'), ['web.3.t3.front'], 'also of who does not serve')
  t.equal(world.ask('99.1.0.10.in-addr.arpa', 'PTR'), 'NXDOMAIN')
  t.equal(world.ask('1.99.168.192.in-addr.arpa', 'PTR'), 'elsewhere')
  t.equal(world.ask('01.1.0.10.in-addr.arpa', 'PTR'), 'elsewhere')
  const nibbles = 'fd000001000000000000000000000011'.split('').reverse().join('.')
  t.same(world.ask(`${nibbles}.IP6.ARPA`, 'PTR'), ['web.1.t1.front'])
  t.same(world.ask('2.1.0.10.in-addr.arpa', 'A'), [])
  world.set(endpoint({ taskId: 't9', addresses: ['10.0.1.13'], name: 'web.3.t9' }))
  t.same(world.ask('13.1.0.10.in-addr.arpa', 'PTR'), ['web.3.t9.front'], 'who has it now comes before who stops')
})

t.test('services that share an alias, and plain containers', async (t) => {
  const world = new World(
    service({ aliases: ['app'], virtualIps: ['10.0.1.2'] }),
    service({ serviceId: 's2', name: 'green', aliases: ['app'], virtualIps: ['10.0.1.3'] }),
    service({ serviceId: 's3', name: 'blue', aliases: ['app'] }),
    endpoint({ taskId: 't5', serviceId: 's3', name: 'blue.1.t5', addresses: ['10.0.1.5'] }),
    endpoint({
      taskId: 'a1',
      serviceId: '',
      slot: 0,
      name: 'tool',
      aliases: ['kit'],
      hostname: 'box',
      addresses: ['10.0.1.6'],
    }),
  )
  t.same(world.ask('app'), ['10.0.1.2', '10.0.1.3', '10.0.1.5'])
  for (const name of ['tool', 'kit', 'box', 'box.front']) t.same(world.ask(name), ['10.0.1.6'], name)
  world.remove('overlay-service', 's2/front')
  t.same(world.ask('app'), ['10.0.1.2', '10.0.1.5'])
  t.equal(world.ask('green'), 'elsewhere')
  world.set(service({ aliases: ['other'], virtualIps: ['10.0.1.4'] }))
  t.same(world.ask('app'), ['10.0.1.5'])
  t.same(world.ask('other'), ['10.0.1.4'])
})

t.test('whatever the order of changes, the table is as if built anew', async () => {
  const ids = fc.constantFrom('1', '2', '3')
  const networks = fc.constantFrom('front', 'back')
  const record = fc.oneof(
    fc
      .record({
        id: ids,
        net: networks,
        name: fc.constantFrom('web', 'db'),
        alias: fc.constantFrom('x', 'web'),
        vip: fc.boolean(),
      })
      .map(({ id, net, name, alias, vip }) =>
        service({ serviceId: id, networkId: net, name, aliases: [alias], virtualIps: vip ? [`10.0.1.${id}`] : [] }),
      ),
    fc
      .record({
        id: ids,
        net: networks,
        owner: ids,
        slot: fc.nat(2),
        serving: fc.boolean(),
        host: fc.constantFrom('x', 'h'),
      })
      .map(({ id, net, owner, slot, serving, host }) =>
        endpoint({
          taskId: id,
          networkId: net,
          serviceId: owner,
          slot,
          serving,
          hostname: host,
          addresses: [`10.0.1.1${id}`],
        }),
      ),
  )
  const removal = fc.record({
    kind: fc.constantFrom('overlay-service', 'end-point', 'overlay-network'),
    id: ids,
    net: networks,
  })
  const names = ['web', 'db', 'x', 'h', 'tasks.web', 'tasks.x', '1.web', '2.db', 'web.1.t1', 'web.front', 'x.my.back']
  const reverse = ['1', '2', '3', '11', '12', '13'].map((last) => `${last}.1.0.10.in-addr.arpa`)
  fc.assert(
    fc.property(fc.array(fc.oneof(record, removal), { maxLength: 30 }), (steps) => {
      const world = new World()
      for (const step of steps) {
        if (!('net' in step)) world.set(step)
        else if (step.kind === 'overlay-network') world.remove(step.kind, step.net)
        else world.remove(step.kind, `${step.id}/${step.net}`)
      }
      const anew = new NameTable()
      anew.update(world.store.state, undefined)
      const sorted = (table: NameTable, nets: readonly string[], name: string) => {
        const found = table.find(nets, name)
        return found.kind === 'addresses' ? found.addresses.map(({ text }) => text).toSorted() : found.kind
      }
      for (const nets of [['front'], ['back', 'front']]) {
        for (const name of names) assert.deepEqual(sorted(world.table, nets, name), sorted(anew, nets, name))
        for (const name of reverse) {
          const found = (table: NameTable) => table.findNames(nets, name)?.toSorted()
          assert.deepEqual(found(world.table), found(anew))
        }
      }
      for (const key of ['overlay-service', 'end-point'] as const) {
        for (const id of ['1', '2', '3']) for (const net of ['front', 'back']) world.remove(key, `${id}/${net}`)
      }
      for (const name of names)
        assert.equal(world.table.find(['front', 'back'], name).kind, 'unknown', 'nothing is left')
    }),
    { numRuns: 60 },
  )
})

const label = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_'), minLength: 1, maxLength: 63 })
const domain = fc
  .array(label, { minLength: 1, maxLength: 5 })
  .map((labels) => labels.join('.'))
  .filter((name) => name.length < 250)

t.test('questions are read as dns-packet writes them, replies as it reads them', async () => {
  const options = fc.record({
    name: domain,
    id: fc.nat(65_535),
    flags: fc.constantFrom(0, dnsPacket.RECURSION_DESIRED, dnsPacket.RECURSION_DESIRED | dnsPacket.CHECKING_DISABLED),
    edns: fc.option(fc.record({ size: fc.integer({ min: 1, max: 65_535 }), dnssec: fc.boolean() })),
    addresses: fc.array(fc.ipV4(), { maxLength: 40 }),
  })
  fc.assert(
    fc.property(options, ({ name, id, flags, edns, addresses }) => {
      const packet = dnsPacket.encode({
        type: 'query',
        id,
        flags,
        questions: [{ name, type: 'A', class: 'IN' }],
        additionals: edns
          ? [
              {
                type: 'OPT',
                name: '.',
                udpPayloadSize: edns.size,
                flags: edns.dnssec ? dnsPacket.DNSSEC_OK : 0,
                options: [],
              } as never,
            ]
          : [],
      })
      const parsed = parseMessage(packet)
      if (parsed.kind !== 'query') throw new Error(parsed.kind)
      assert.equal(parsed.query.name, name.toLowerCase())
      assert.deepEqual(parsed.query.edns, edns ? { udpBytes: edns.size, version: 0, dnssecOk: edns.dnssec } : undefined)
      const records = addresses.map((each) => encodeRecord(TYPE.A, 1, Uint8Array.from(each.split('.').map(Number))))
      const whole = decodeReply(packet, parsed.query, { rcode: 0, records })
      assert.equal(whole.id, id)
      assert.equal(whole.questions?.[0]?.name, name, 'in the spelling of who asks')
      assert.deepEqual(
        whole.answers?.map((each) => (each as { data: string }).data),
        addresses,
      )
      assert.deepEqual(
        whole.answers?.every((each) => each.name === name),
        true,
      )
      assert.equal(whole.flag_aa && whole.flag_qr && whole.flag_ra && !whole.flag_tc, true)
      assert.equal(whole.flag_rd, (flags & dnsPacket.RECURSION_DESIRED) !== 0)
      assert.equal(
        whole.authorities?.[0]?.type,
        addresses.length === 0 ? 'SOA' : undefined,
        'a negative answer has its SOA',
      )
      assert.equal(whole.additionals?.length, edns ? 1 : 0)
      const limited = encodeReply(
        packet,
        parsed.query,
        { rcode: 0, records, first: 3, authoritative: true, recursion: true },
        512,
      )
      assert.ok(limited.length <= 512)
      const cut = dnsPacket.decode(limited)
      assert.equal(cut.flag_tc, (cut.answers?.length ?? 0) < addresses.length)
      assert.equal(
        (cut.answers?.[0] as { data: string } | undefined)?.data,
        addresses[3 % Math.max(1, addresses.length)],
      )
    }),
    { numRuns: 200 },
  )
})

t.test('no message, however broken, throws or makes one read beyond it', async () => {
  const good = dnsPacket.encode({
    type: 'query',
    id: 5,
    questions: [{ name: 'web.example', type: 'A', class: 'IN' }],
    additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] } as never],
  })
  const damage = fc.record({
    cut: fc.nat(good.length),
    edits: fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255))),
  })
  const messages = fc.oneof(
    fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
    damage.map(({ cut, edits }) => {
      const copy = Buffer.from(good)
      for (const [at, value] of edits) copy[at] = value
      return copy.subarray(0, cut)
    }),
  )
  const known = parseMessage(good)
  fc.assert(
    fc.property(messages, (message) => {
      const parsed = parseMessage(message)
      if (parsed.kind === 'query')
        encodeReply(
          message,
          parsed.query,
          { rcode: 0, records: [], first: 0, authoritative: true, recursion: true },
          512,
        )
      if (parsed.kind === 'fault') encodeFault(message, parsed.rcode, parsed.questionEnd)
      if (known.kind === 'query') readResponse(message, known.query, 5)
    }),
    { numRuns: 3000 },
  )
})

t.test('faulty questions are answered with the right code', async (t) => {
  const query = (edit: (packet: Buffer) => void) => {
    const packet = dnsPacket.encode({ type: 'query', id: 5, questions: [{ name: 'web', type: 'A', class: 'IN' }] })
    edit(packet)
    const parsed = parseMessage(packet)
    return parsed.kind === 'fault'
      ? (dnsPacket.decode(encodeFault(packet, parsed.rcode, parsed.questionEnd)) as unknown as { rcode: string }).rcode
      : parsed.kind
  }
  t.equal(
    query((packet) => packet.writeUInt16BE(0x2800, 2)),
    'NOTIMP',
    'a dynamic update',
  )
  t.equal(
    query((packet) => packet.writeUInt16BE(2, 4)),
    'FORMERR',
    'two questions',
  )
  t.equal(
    query((packet) => packet.writeUInt8(0xc0, 12)),
    'FORMERR',
    'a compressed question',
  )
  t.equal(
    query((packet) => packet.writeUInt16BE(1, 10)),
    'FORMERR',
    'an additional record that is not there',
  )
  t.equal(
    query((packet) => packet.writeUInt16BE(0x8000, 2)),
    'response',
    'an answer is not answered',
  )
})

t.test('what a name server says of how long it holds', async (t) => {
  const packet = dnsPacket.encode({ type: 'query', id: 9, questions: [{ name: 'a.example', type: 'A', class: 'IN' }] })
  const parsed = parseMessage(packet)
  if (parsed.kind !== 'query') throw new Error('not a query')
  const { query } = parsed
  const read = (fields: Partial<dnsPacket.Packet>) => {
    const message = dnsPacket.encode({
      type: 'response',
      id: 9,
      questions: [{ name: 'A.Example', type: 'A', class: 'IN' }],
      ...fields,
    })
    return readResponse(message, query, 9)
  }
  const a = (ttl: number): dnsPacket.Answer => ({ name: 'a.example', type: 'A', ttl, data: '192.0.2.1' })
  const soa: dnsPacket.Answer = {
    name: 'example',
    type: 'SOA',
    ttl: 300,
    data: { mname: 'ns.example', rname: 'x.example', serial: 1, refresh: 2, retry: 3, expire: 4, minimum: 20 },
  }
  t.equal(read({ answers: [a(30), a(10)] })?.ttlSeconds, 10)
  t.equal(read({ flags: 3, authorities: [soa] })?.ttlSeconds, 20)
  t.equal(read({ flags: 3 })?.ttlSeconds, 0, 'without an SOA a negative answer is not kept (RFC 2308)')
  t.equal(read({ flags: 2, authorities: [soa] })?.ttlSeconds, 0, 'SERVFAIL')
  t.equal(read({ answers: [a(30)], id: 8 }), undefined, 'another number')
  t.equal(read({ questions: [{ name: 'b.example', type: 'A' }] }), undefined, 'another question')
})

t.test('name servers of resolv.conf', async (t) => {
  const text =
    '# x\nnameserver 127.0.0.53\n nameserver\t2001:db8::1 \nnameserver nonsense\nnameserver fe80::1%eth0\nsearch a\nnameserver 9.9.9.9'
  t.same(nameServersOf(text), ['127.0.0.53', '2001:db8::1', 'fe80::1%eth0'], 'the first three')
})
