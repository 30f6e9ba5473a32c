// The resolver over real sockets on loopback: containers are source addresses 127.0.0.x, name servers are fakes on others.

import dgram from 'node:dgram'
import { once } from 'node:events'
import net from 'node:net'
import dnsPacket from 'dns-packet'
import t from 'tap'
import type { DataPlaneRecord } from '../../src/api/data-plane.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { DesiredStore, EGRESS_NETWORK_ID, type LocalAttachment } from '../../src/overlay/desired-state.ts'
import { DnsServer } from '../../src/overlay/dns/dns-server.ts'

interface Reply {
  readonly rcode: string
  readonly data: readonly string[]
  readonly packet: dnsPacket.DecodedPacket
}

const WEB = '127.0.0.11'
const INTERNAL = '127.0.0.12'
const OWN_SERVER = '127.0.0.13'
const INSIDE_SERVER = '127.0.0.14'
const STRANGER = '127.0.0.15'
const HOST_SERVERS = ['127.0.1.1', '127.0.1.2'] as const

const overlay = (id: string, subnet: string, fields: { internal?: boolean; ingress?: boolean }): DataPlaneRecord => ({
  kind: 'overlay-network',
  network: {
    id,
    name: id,
    vni: 4097,
    subnets: [{ subnet, gateway: '' }],
    internal: false,
    encrypted: false,
    attachable: false,
    ingress: false,
    mtu: 0,
    ...fields,
  },
})

const service = (id: string, networkId: string, virtualIps: readonly string[]): DataPlaneRecord => ({
  kind: 'overlay-service',
  service: { serviceId: id, networkId, name: id, aliases: [], virtualIps, ports: [], affinity: false },
})

const task = (slot: number, address: string, serving = true): DataPlaneRecord => ({
  kind: 'end-point',
  endpoint: {
    taskId: `t${slot}`,
    networkId: 'front',
    nodeNumber: 1,
    addresses: [address],
    serviceId: 'rr',
    serviceName: 'rr',
    slot,
    name: `rr.${slot}.t${slot}`,
    hostname: '',
    aliases: [],
    serving,
    encrypted: false,
  },
})

function attachment(
  networkId: string,
  sandbox: string,
  address: string,
  nameServers?: readonly string[],
): LocalAttachment {
  const base = { endpointId: `${networkId}${sandbox}`, engineNetworkId: networkId, mac: '' }
  return { ...base, networkId, addresses: [address], sandbox, ...(nameServers && { nameServers }) }
}

/** A name server that answers as it is told, over both transports; undefined: not at all. */
type Script = (question: dnsPacket.Question, transport: 'udp' | 'tcp') => Partial<dnsPacket.Packet> | undefined

class Fake {
  readonly asked: string[] = []
  script: Script = () => undefined
  readonly #udp = dgram.createSocket('udp4')
  readonly #tcp = net.createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      const reply = this.#reply(data.subarray(2), 'tcp')
      if (!reply) return
      const length = Buffer.alloc(2)
      length.writeUInt16BE(reply.length)
      socket.write(Buffer.concat([length, reply]))
    })
  })

  static async open(address: string, port: number): Promise<Fake> {
    const fake = new Fake()
    fake.#udp.bind(port, address)
    fake.#tcp.listen(port, address)
    await Promise.all([once(fake.#udp, 'listening'), once(fake.#tcp, 'listening')])
    fake.#udp.on('message', (message, from) => {
      const reply = fake.#reply(message, 'udp')
      if (reply) fake.#udp.send(reply, from.port, from.address)
    })
    return fake
  }

  #reply(message: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined {
    const query = dnsPacket.decode(message)
    const question = query.questions![0]!
    this.asked.push(`${transport} ${question.name} ${question.type}`)
    const reply = this.script(question, transport)
    return reply && dnsPacket.encode({ type: 'response', id: query.id!, questions: [question], ...reply })
  }

  close(): void {
    this.#udp.close()
    this.#tcp.close()
  }
}

class World {
  readonly store = new DesiredStore()
  readonly locals: LocalAttachment[] = [
    attachment('front', 'web', '10.0.1.200'),
    attachment(EGRESS_NETWORK_ID, 'web', WEB),
    attachment('closed', 'internal', INTERNAL),
    attachment('front', 'own', '10.0.1.201', ['127.0.1.3']),
    attachment('ingress', 'own', OWN_SERVER),
    attachment('closed', 'inside', INSIDE_SERVER, ['127.0.2.7']),
  ]
  hostServers: readonly string[] = HOST_SERVERS
  #server!: DnsServer
  #port = 0
  forwardPort = 0

  get stats() {
    return this.#server.stats
  }

  async open(): Promise<void> {
    this.change([
      overlay('front', '10.0.1.0/24', {}),
      overlay('closed', '127.0.2.0/24', { internal: true }),
      overlay('ingress', '100.64.0.0/11', { ingress: true }),
      service('vip', 'front', ['10.0.1.2']),
      service('rr', 'front', []),
      service('secret', 'closed', ['127.0.2.9']),
      service('gate', 'ingress', ['100.64.0.9']),
      ...[1, 2, 3].map((slot) => task(slot, `10.0.1.1${slot}`)),
    ])
    const tcp = net.createServer({ allowHalfOpen: true })
    tcp.listen(0, '0.0.0.0')
    await once(tcp, 'listening')
    this.#port = (tcp.address() as net.AddressInfo).port
    const udp = dgram.createSocket('udp4')
    udp.bind(this.#port, '0.0.0.0')
    await once(udp, 'listening')
    this.forwardPort = await freePort()
    this.#server = new DnsServer({
      udp: [udp],
      tcp: [tcp],
      state: () => this.store.state,
      locals: () => this.locals,
      hostNameServers: () => this.hostServers,
      clock: new SystemClock(),
      random: new SeededRandom(1),
      log: silentLog,
      forwardPort: this.forwardPort,
    })
  }

  change(set: readonly DataPlaneRecord[], removed: { kind: DataPlaneRecord['kind']; id: string }[] = []): void {
    const keys = this.store.apply({ self: undefined, revision: 1, complete: false, set, removed })
    this.#server?.changed(keys)
  }

  attached(): void {
    this.#server.attachmentsChanged()
  }

  close(): void {
    this.#server.close()
  }

  /** A packet as it is; the answer, or undefined if none comes soon. */
  async raw(packet: Buffer, from = WEB, waitMs = 6000): Promise<Buffer | undefined> {
    const socket = dgram.createSocket('udp4')
    socket.bind(0, from)
    await once(socket, 'listening')
    // Not connected: the server stands on all addresses and answers from the one that the route gives.
    socket.send(packet, this.#port, from)
    const reply = await Promise.race([
      once(socket, 'message').then(([message]) => message as Buffer),
      new Promise<undefined>((resolve) => setTimeout(resolve, waitMs, undefined).unref()),
    ])
    socket.close()
    return reply
  }

  /** The codes of what is answered within so long to that many questions of one container. */
  async flood(count: number, waitMs: number): Promise<readonly string[]> {
    const socket = dgram.createSocket('udp4')
    socket.bind(0, WEB)
    await once(socket, 'listening')
    const codes: string[] = []
    socket.on('message', (message) => codes.push(decode(message).rcode))
    for (let at = 0; at < count; at++) socket.send(query(`flood${at}.example.com`, {}), this.#port, WEB)
    await new Promise((resolve) => setTimeout(resolve, waitMs))
    socket.close()
    return codes
  }

  async ask(
    name: string,
    from = WEB,
    options: { type?: 'A' | 'AAAA' | 'TXT' | 'PTR'; edns?: number } = {},
  ): Promise<Reply> {
    const reply = await this.raw(query(name, options), from)
    if (!reply) throw new Error(`no answer for ${name}`)
    return decode(reply)
  }

  async askTcp(names: readonly string[], from = WEB, type: 'A' | 'TXT' = 'A'): Promise<readonly Reply[]> {
    const socket = net.connect({ port: this.#port, host: from, localAddress: from })
    // All at once, and nothing more: the answers still come.
    const packets = names.map((name, id) => query(name, { id, type }))
    socket.end(Buffer.concat(packets.flatMap((packet) => [Buffer.of(packet.length >> 8, packet.length & 255), packet])))
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    let rest = Buffer.concat(chunks)
    const replies: Reply[] = []
    while (rest.length > 0) {
      replies.push(decode(rest.subarray(2, 2 + rest.readUInt16BE(0))))
      rest = rest.subarray(2 + rest.readUInt16BE(0))
    }
    return replies.toSorted((a, b) => a.packet.id! - b.packet.id!)
  }
}

function query(
  name: string,
  { id = 1, type = 'A', edns }: { id?: number; type?: 'A' | 'AAAA' | 'TXT' | 'PTR'; edns?: number | undefined },
): Buffer {
  return dnsPacket.encode({
    type: 'query',
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type, class: 'IN' }],
    additionals: edns ? [{ type: 'OPT', name: '.', udpPayloadSize: edns, flags: 0, options: [] } as never] : [],
  })
}

function decode(reply: Buffer): Reply {
  const packet = dnsPacket.decode(reply)
  const data = (packet.answers ?? []).map((answer) => String((answer as { data: unknown }).data))
  return { rcode: (packet as unknown as { rcode: string }).rcode, data, packet }
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  return port
}

const a = (name: string, data: string, ttl = 60): dnsPacket.Answer => ({ name, type: 'A', ttl, data })
const NXDOMAIN = 3
const SERVFAIL = 2

t.test('the resolver on its sockets', async (t) => {
  const world = new World()
  await world.open()
  const [first, second, own, inside] = await Promise.all(
    [...HOST_SERVERS, '127.0.1.3', '127.0.2.7'].map((address) => Fake.open(address, world.forwardPort)),
  )
  if (!first || !second || !own || !inside) throw new Error('no fakes')
  t.teardown(() => {
    world.close()
    for (const fake of [first, second, own, inside]) fake.close()
  })

  await t.test('names of the cluster, over both transports', async (t) => {
    const reply = await world.ask('Vip')
    t.same(reply.data, ['10.0.1.2'])
    t.equal(reply.packet.questions?.[0]?.name, 'Vip')
    t.same(
      (await world.askTcp(['vip', 'rr.1.t1', '9.rr'])).map(({ rcode, data }) => [rcode, ...data]),
      [['NOERROR', '10.0.1.2'], ['NOERROR', '10.0.1.11'], ['NXDOMAIN']],
    )
    t.equal((await world.ask('vip', WEB, { type: 'AAAA' })).rcode, 'NOERROR')
    t.same((await world.ask('2.1.0.10.in-addr.arpa', WEB, { type: 'PTR' })).data, ['vip.front'])
    t.same(first.asked, [])
  })

  await t.test('tasks take turns at being first', async (t) => {
    const firsts: string[] = []
    for (let turn = 0; turn < 6; turn++) firsts.push((await world.ask('rr')).data[0] ?? '')
    t.same(firsts.slice(0, 3).toSorted(), ['10.0.1.11', '10.0.1.12', '10.0.1.13'])
    t.same(firsts.slice(3), firsts.slice(0, 3))
  })

  await t.test('the next answer knows of a change', async (t) => {
    world.change([task(2, '10.0.1.12', false)])
    t.same((await world.ask('rr')).data.toSorted(), ['10.0.1.11', '10.0.1.13'])
    world.change([], [{ kind: 'end-point', id: 't1/front' }])
    t.same((await world.ask('tasks.rr')).data, ['10.0.1.13'])
    world.change([task(1, '10.0.1.11'), task(2, '10.0.1.12')])
    t.equal((await world.ask('rr')).data.length, 3)
  })

  await t.test('who asks sees the names of its networks, and nothing is served to others', async (t) => {
    t.same((await world.ask('secret', INTERNAL)).data, ['127.0.2.9'])
    t.equal((await world.ask('vip', INTERNAL)).rcode, 'REFUSED', 'another network, and no way out')
    t.equal((await world.ask('vip', STRANGER)).rcode, 'REFUSED')
    t.same(await world.askTcp(['vip'], STRANGER).catch(() => []), [])
    t.equal(world.stats.strangers > 0, true)
    t.equal((await world.ask('gate', OWN_SERVER)).rcode, 'SERVFAIL', 'the gateway network has no names')
    t.same(own.asked, [], "a container's loopback is not the host's")
  })

  await t.test('attachments that come and go', async (t) => {
    world.locals.push(attachment('closed', 'web', '127.0.2.8'))
    world.attached()
    t.same((await world.ask('secret')).data, ['127.0.2.9'])
    world.locals.pop()
    world.attached()
    first.script = () => ({ flags: NXDOMAIN })
    t.equal((await world.ask('secret')).rcode, 'NXDOMAIN')
    t.same(first.asked.splice(0), ['udp secret A'])
  })

  await t.test('what does not fit is cut, and whole by TCP or with EDNS', async (t) => {
    world.change(Array.from({ length: 60 }, (_, at) => task(at + 10, `10.0.1.${at + 10}`)))
    const cut = await world.ask('rr')
    t.equal(cut.packet.flag_tc, true)
    t.equal(cut.data.length > 20, true, 'those that do not come again have enough')
    t.equal((await world.ask('rr', WEB, { edns: 4096 })).packet.flag_tc, false)
    t.equal((await world.askTcp(['rr']))[0]?.data.length, (await world.ask('rr', WEB, { edns: 1232 })).data.length)
    world.change(
      [],
      Array.from({ length: 60 }, (_, at) => ({ kind: 'end-point', id: `t${at + 10}/front` }) as const),
    )
    world.change([1, 2, 3].map((slot) => task(slot, `10.0.1.1${slot}`)))
  })

  await t.test("other names are asked of the host's name servers once, and kept as long as they say", async (t) => {
    first.script = ({ name }) => ({ answers: [a(name, '192.0.2.1', 60)] })
    const replies = await Promise.all([world.ask('www.example.com'), world.ask('WWW.example.com')])
    t.same(
      replies.map(({ data }) => data),
      [['192.0.2.1'], ['192.0.2.1']],
    )
    t.same(replies.map(({ packet }) => packet.questions?.[0]?.name ?? '').toSorted(), [
      'WWW.example.com',
      'www.example.com',
    ])
    t.same((await world.ask('www.example.com')).data, ['192.0.2.1'])
    t.equal(first.asked.splice(0).length, 1)
    first.script = ({ name }) => ({ answers: [a(name, '192.0.2.2', 0)] })
    await world.ask('brief.example.com')
    await world.ask('brief.example.com')
    t.equal(first.asked.splice(0).length, 2, 'what is not to be kept')
    first.script = () => ({
      flags: NXDOMAIN,
      authorities: [
        {
          name: 'example.com',
          type: 'SOA',
          ttl: 60,
          data: { mname: 'a', rname: 'b', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 60 },
        },
      ],
    })
    for (let time = 0; time < 2; time++) t.equal((await world.ask('none.example.com')).rcode, 'NXDOMAIN')
    t.equal(first.asked.splice(0).length, 1, 'that there is none is kept as well')
    t.same(second.asked, [])
  })

  await t.test('a long answer is fetched by TCP, and given as the asker takes it', async (t) => {
    const text = 'x'.repeat(200)
    first.script = ({ name }, transport) =>
      transport === 'udp'
        ? { flags: dnsPacket.TRUNCATED_RESPONSE }
        : {
            answers: Array.from({ length: 8 }, (_, at) => ({
              name,
              type: 'TXT' as const,
              ttl: 60,
              data: `${at}${text}`,
            })),
          }
    const cut = await world.ask('long.example.com', WEB, { type: 'TXT' })
    t.equal(cut.packet.flag_tc, true)
    t.equal(cut.data.length, 0)
    t.equal((await world.askTcp(['long.example.com'], WEB, 'TXT'))[0]?.data.length, 8)
    t.same(first.asked.splice(0), ['udp long.example.com TXT', 'tcp long.example.com TXT'])
  })

  await t.test('a name server that fails is passed over', async (t) => {
    first.script = () => ({ flags: SERVFAIL })
    second.script = ({ name }) => ({ answers: [a(name, '192.0.2.3')] })
    t.same((await world.ask('b.example.com')).data, ['192.0.2.3'])
    second.script = () => ({ flags: SERVFAIL })
    t.equal((await world.ask('c.example.com')).rcode, 'SERVFAIL')
    world.hostServers = ['127.0.1.99', HOST_SERVERS[1]]
    second.script = ({ name }) => ({ answers: [a(name, '192.0.2.4')] })
    t.same((await world.ask('d.example.com')).data, ['192.0.2.4'], 'nobody listens at the first')
    world.hostServers = HOST_SERVERS
  })

  await t.test('a silent name server costs its time once', async (t) => {
    first.asked.length = 0
    first.script = () => undefined
    second.script = ({ name }) => ({ answers: [a(name, '192.0.2.5')] })
    t.same((await world.ask('e.example.com')).data, ['192.0.2.5'])
    t.same((await world.ask('f.example.com')).data, ['192.0.2.5'])
    t.same(first.asked, ['udp e.example.com A'])
    t.equal(world.stats.silent, 1)
  })

  await t.test('when none answers in time that is said before the asker gives up', async (t) => {
    second.script = () => undefined
    const waiting = world.ask('g.example.com')
    const flood = await world.flood(250, 1000)
    t.equal(flood.length, 51, 'what is more than its share, one container is refused at once')
    t.same(new Set(flood), new Set(['SERVFAIL']))
    inside.script = ({ name }) => ({ answers: [a(name, '192.0.2.7')] })
    t.same((await world.ask('k.example.com', INSIDE_SERVER)).data, ['192.0.2.7'], 'others are not')
    inside.asked.length = 0
    t.equal((await waiting).rcode, 'SERVFAIL')
    world.hostServers = []
    t.equal((await world.ask('h.example.com')).rcode, 'SERVFAIL')
    world.hostServers = HOST_SERVERS
  })

  await t.test("a container's own name servers are asked in place of the host's", async (t) => {
    first.asked.length = 0
    inside.script = ({ name }) => ({ answers: [a(name, '192.0.2.7')] })
    t.same(
      (await world.ask('i.example.com', INSIDE_SERVER)).data,
      ['192.0.2.7'],
      'one in its network, without a way out',
    )
    t.same((await world.ask('secret', INSIDE_SERVER)).data, ['127.0.2.9'], 'names of the cluster come first')
    t.equal((await world.ask('j.example.com', INTERNAL)).rcode, 'REFUSED')
    t.same(inside.asked, ['udp i.example.com A'])
    t.same(first.asked, [])
  })

  await t.test('junk gets nowhere', async (t) => {
    t.equal(await world.raw(Buffer.from('hello'), WEB, 100), undefined)
    const response = query('vip', {})
    response[2] = 0x80
    t.equal(await world.raw(response, WEB, 100), undefined)
    t.equal(decode((await world.raw(query('vip', {}).subarray(0, 14)))!).rcode, 'FORMERR')
    const future = query('vip', { edns: 1232 })
    future[future.length - 5] = 1 // EDNS version
    const reply = decode((await world.raw(future))!)
    t.equal((reply.packet.additionals![0] as { extendedRcode?: number }).extendedRcode, 1, 'BADVERS')
    const socket = dgram.createSocket('udp4')
    for (let length = 0; length < 300; length++) socket.send(Buffer.alloc(length, length * 37), 9, '127.0.0.1')
    socket.close()
    t.same((await world.ask('vip')).data, ['10.0.1.2'])
  })
})
