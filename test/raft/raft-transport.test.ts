import fc from 'fast-check'
import t from 'tap'
import { encode } from '../../src/lib/codec.ts'
import type { CloseInfo, Connection } from '../../src/lib/connection.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { ConnectionRaftTransport, RAFT_PATH, RAFT_SNAPSHOT_PATH } from '../../src/raft/connection-raft-transport.ts'
import { messageBytes } from '../../src/raft/message-codec.ts'
import { splitMessage } from '../../src/raft/split-message.ts'
import { decodeFrame, encodeFrame, encodeMessages } from '../../src/raft/transport-frames.ts'
import type { Entry, Message } from '../../src/raft/types.ts'
import { SimulatedNetwork } from '../sim/network.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'

const BOTH = { from: 'a', to: 'b', term: 7 } as const

const append = (first: number, sizes: readonly number[]): Message => ({
  ...BOTH,
  kind: 'append',
  prevIndex: first - 1,
  prevTerm: 6,
  commit: first - 1,
  entries: sizes.map((size, i) => ({ index: first + i, term: 7, kind: 'normal', data: new Uint8Array(size).fill(i) })),
})

const ONE_OF_EACH: readonly Message[] = [
  append(5, [3, 0, 200]),
  { ...BOTH, kind: 'append-reply', index: 5, reject: true, hintIndex: 3, hintTerm: 2 },
  { ...BOTH, kind: 'heartbeat', commit: 4, readContext: 9 },
  { ...BOTH, kind: 'heartbeat-reply', readContext: 9 },
  { ...BOTH, kind: 'vote', pre: true, lastIndex: 8, lastTerm: 6, transfer: false },
  { ...BOTH, kind: 'vote-reply', pre: false, granted: true },
  { ...BOTH, kind: 'timeout-now' },
  {
    ...BOTH,
    kind: 'install-snapshot',
    meta: {
      index: 12,
      term: 6,
      conf: {
        voters: ['a'],
        learners: ['b'],
        outgoing: ['c'],
        learnersNext: [],
        members: [{ id: 'a', address: 'x:1' }],
      },
    },
  },
  { ...BOTH, kind: 'propose', session: 2 ** 50, requestIds: [1, 2], proposals: [Uint8Array.of(1), Uint8Array.of()] },
  { ...BOTH, kind: 'propose-reply', session: 5, requestIds: [1, 2], index: 40, code: '' },
  { ...BOTH, kind: 'read-index', session: 5, requestIds: [3] },
  { ...BOTH, kind: 'read-index-reply', session: 5, requestIds: [3], index: 0, code: 'RAFT_NO_LEADER' },
]

class World {
  readonly clock = new VirtualClock()
  readonly random = new SeededRandom(1)
  readonly network = new SimulatedNetwork({ clock: this.clock, random: this.random.fork() })
  readonly heard = new Map<string, string[]>()

  transport(id: string, limits: ConstructorParameters<typeof ConnectionRaftTransport>[0]['limits'] = {}) {
    const transport = new ConnectionRaftTransport({
      id,
      dialer: this.network.dialer(id),
      clock: this.clock,
      random: this.random.fork(),
      log: silentLog,
      limits,
    })
    const heard: string[] = []
    this.heard.set(id, heard)
    transport.start({
      onMessages: (from, messages) => heard.push(...messages.map(({ kind, term }) => `${from}:${kind}:${term}`)),
      onUnreachable: (peer) => heard.push(`unreachable ${peer}`),
      onConnectionLost: (peer, refused) => heard.push(`lost ${peer} ${refused ? 'refused' : ''}`),
      onForbidden: (by) => heard.push(`forbidden by ${by}`),
      onSnapshot: () => Promise.resolve(),
    })
    this.network.listen(`${id}:1`, (connection, path) => transport.accept(connection, path))
    return transport
  }

  /** A raw connection to b, as a faulty peer has it, and how it ended. */
  async raw(
    path = RAFT_PATH,
  ): Promise<{ connection: Connection; closed: () => CloseInfo | undefined; got: Uint8Array[] }> {
    const dial = this.network.dialer('evil').dial({ address: 'b:1', path, timeoutMs: 100 })
    const connection = await this.clock.wait(dial, 1_000)
    let info: CloseInfo | undefined
    const got: Uint8Array[] = []
    connection.listen({
      onMessage: (message) => got.push(message),
      onClose: (closed) => {
        info = closed
      },
    })
    return { connection, closed: () => info, got }
  }
}

const HELLO = encodeFrame({ kind: 'hello', from: 'a', to: 'b', address: 'a:1' })
const members = (...ids: string[]) => ids.map((id) => ({ id, address: `${id}:1` }))
const heartbeat = (term: number): Message => ({ ...BOTH, term, kind: 'heartbeat', commit: 0, readContext: 0 })

t.test('every kind of message arrives as it was sent', (t) => {
  const frame = decodeFrame(encodeMessages(ONE_OF_EACH), 'a', 'b')
  t.same(frame, { kind: 'messages', messages: ONE_OF_EACH })
  t.equal(new Set(ONE_OF_EACH.map(({ kind }) => kind)).size, 12, 'every kind is here')
  t.end()
})

t.test('whatever a peer sends is a message or is refused as malformed', (t) => {
  const corpus = encodeMessages(ONE_OF_EACH)
  const check = (bytes: Uint8Array) => {
    try {
      decodeFrame(bytes, 'a', 'b')
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : error
      if (code !== 'RAFT_MALFORMED' && code !== 'RAFT_FORMAT_UNKNOWN') throw error
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check), { seed: 1, numRuns: 2_000 })
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(corpus.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (changes) => {
        const bytes = Uint8Array.from(corpus)
        for (const [at, value] of changes) bytes[at] = value
        check(bytes)
      },
    ),
    { seed: 2, numRuns: 3_000 },
  )
  fc.assert(
    fc.property(fc.anything(), (value) => {
      let bytes: Uint8Array
      try {
        bytes = encode([1, 1, [value]])
      } catch {
        return
      }
      check(bytes)
    }),
    { seed: 3, numRuns: 1_000 },
  )
  t.end()
})

t.test('what a correct peer cannot say is malformed', (t) => {
  const bad: Record<string, unknown> = {
    'a negative term': [2, -1, 0, 0],
    'a fraction': [2, 1.5, 0, 0],
    'a huge number': [2, 2 ** 60, 0, 0],
    'an unknown kind': [99, 1],
    'falling terms in an append': [
      0,
      9,
      4,
      3,
      0,
      [
        [5, 0, Buffer.of()],
        [4, 0, Buffer.of()],
      ],
    ],
    'an entry of a later term than its leader': [0, 4, 4, 3, 0, [[5, 0, Buffer.of()]]],
    'an entry that is too large': [0, 4, 4, 3, 0, [[4, 0, Buffer.alloc(1024 * 1024 + 1)]]],
    'text for data': [0, 4, 4, 3, 0, [[4, 0, 'text']]],
    'more ids than proposals': [8, 4, 1, [1, 2], [Buffer.of()]],
    'a configuration without members': [6, 4, 1, 1, [['a'], [], [], []]],
  }
  for (const [what, message] of Object.entries(bad))
    t.throws(() => decodeFrame(encode([1, 1, [message]]), 'a', 'b'), { code: 'RAFT_MALFORMED' }, what)
  t.end()
})

t.test('an append above the limit travels in parts that say the same', (t) => {
  const message = append(100, [400, 400, 400, 3_000, 10, 10])
  const parts = splitMessage(message, 1_000)
  t.equal(parts.length, 4)
  let index = 99
  let term = 6
  const entries: Entry[] = []
  for (const part of parts) {
    if (part.kind !== 'append') throw new Error(part.kind)
    t.same([part.prevIndex, part.prevTerm, part.commit, part.term], [index, term, 99, 7])
    entries.push(...part.entries)
    index = part.entries.at(-1)!.index
    term = part.entries.at(-1)!.term
    t.ok(messageBytes(part) <= 1_000 || part.entries.length === 1)
  }
  t.same(entries, message.kind === 'append' ? message.entries : [])
  const forwarded: Message = {
    ...BOTH,
    kind: 'propose',
    session: 1,
    requestIds: [4, 5, 6],
    proposals: [1, 2, 3].map((fill) => new Uint8Array(600).fill(fill)),
  }
  t.same(
    splitMessage(forwarded, 1_000).map((part) => part.kind === 'propose' && part.requestIds),
    [[4], [5], [6]],
  )
  t.end()
})

t.test('messages arrive in order, over one connection for each direction, many in a frame', async (t) => {
  const world = new World()
  const [a, b] = [world.transport('a'), world.transport('b')]
  a.setMembers(members('a', 'b'))
  b.setMembers(members('a', 'b'))
  for (let term = 1; term <= 50; term++) a.send('b', [heartbeat(term), heartbeat(term)])
  b.send('a', [heartbeat(99)])
  await world.clock.advance(50)
  t.same(
    world.heard.get('b'),
    Array.from({ length: 100 }, (_, i) => `a:heartbeat:${Math.floor(i / 2) + 1}`),
  )
  t.same(world.heard.get('a'), ['b:heartbeat:99'])
})

t.test('a peer that does not know the sender answers to the address of its greeting', async (t) => {
  const world = new World()
  const [a, b] = [world.transport('a'), world.transport('b')]
  a.setMembers(members('a', 'b'))
  a.send('b', [heartbeat(1)])
  await world.clock.advance(10)
  b.send('a', [heartbeat(2)])
  await world.clock.advance(10)
  t.same(world.heard.get('a'), ['b:heartbeat:2'])
})

t.test('a connection that breaks is made again at once; a refusal shows that the peer has ended', async (t) => {
  const world = new World()
  const [a] = [world.transport('a'), world.transport('b')]
  a.setMembers(members('a', 'b'))
  a.send('b', [heartbeat(1)])
  await world.clock.advance(2_000)
  world.network.disconnect('a', 'b')
  await world.clock.advance(10)
  a.send('b', [heartbeat(2)])
  await world.clock.advance(2_000)
  t.same(world.heard.get('b'), ['a:heartbeat:1', 'a:heartbeat:2'])
  t.notOk(world.heard.get('a')?.some((line) => line.startsWith('lost')))
  world.network.killProcess('b')
  await world.clock.advance(10)
  t.equal(world.heard.get('a')?.at(-1), 'lost b refused')
  // The peer comes back: it is found by the next attempt, or earlier when it calls itself.
  world.transport('b').setMembers(members('a', 'b'))
  await world.clock.advance(2_000)
  a.send('b', [heartbeat(3)])
  await world.clock.advance(10)
  t.same(world.heard.get('b'), ['a:heartbeat:3'])
})

t.test('a peer that answers with garbage loses the connection', async (t) => {
  const world = new World()
  const a = world.transport('a')
  let closed: CloseInfo | undefined
  world.network.listen('b:1', (connection) => {
    connection.listen({
      onMessage: () => connection.send(Uint8Array.of(0xc1)),
      onClose: (info) => {
        closed = info
      },
    })
  })
  a.setMembers(members('a', 'b'))
  a.send('b', [heartbeat(1)])
  await world.clock.advance(10)
  t.equal(closed?.code, 4400)
})

t.test('a connection that is only cut is lost without a refusal', async (t) => {
  const world = new World()
  const [a] = [world.transport('a'), world.transport('b')]
  a.setMembers(members('a', 'b'))
  a.send('b', [heartbeat(1)])
  await world.clock.advance(2_000)
  world.network.cut('a', 'b')
  await world.clock.advance(20_000)
  t.ok(world.heard.get('a')?.includes('lost b '))
})

t.test(
  'a connection whose peer does not answer is given up long before TCP does, and works again once it is healed',
  async (t) => {
    const world = new World()
    world.network.faults = { ...world.network.faults, stallMs: [900_000, 900_000] }
    const [a] = [world.transport('a'), world.transport('b')]
    a.setMembers(members('a', 'b'))
    a.send('b', [heartbeat(1)])
    await world.clock.advance(60_000)
    t.same(world.heard.get('a'), [], 'one that answers stays')
    world.network.cut('a', 'b')
    await world.clock.advance(8_000)
    t.ok(world.heard.get('a')?.includes('lost b '))
    world.network.healAll()
    await world.clock.advance(4_000)
    a.send('b', [heartbeat(2)])
    await world.clock.advance(100)
    t.equal(world.heard.get('b')?.at(-1), 'a:heartbeat:2')
  },
)

t.test('what waits for a peer is bounded', async (t) => {
  const world = new World()
  const [a] = [world.transport('a', { maxQueueBytes: 10_000 }), world.transport('b')]
  a.setMembers(members('a', 'b', 'c'))
  // c never answers: what is sent while the dial runs is dropped beyond the bound.
  world.network.powerOff('c')
  for (let i = 0; i < 10; i++) a.send('c', [{ ...append(1, [3_000]), to: 'c' }])
  t.ok(world.heard.get('a')?.includes('unreachable c'))
  // b is slow to take what it is sent.
  a.send('b', [heartbeat(1)])
  await world.clock.advance(10)
  world.network.faults = { ...world.network.faults, bytesPerMs: 1 }
  for (let i = 0; i < 10; i++) a.send('b', [append(1, [3_000])])
  t.ok(world.heard.get('a')?.includes('unreachable b'))
})

t.test('a faulty peer loses its connection and nothing else happens', async (t) => {
  const cases: Record<
    string,
    { readonly frames: readonly Uint8Array[]; readonly path?: string; readonly code: number }
  > = {
    'no greeting': { frames: [encodeMessages([heartbeat(1)])], code: 4400 },
    'not MessagePack': { frames: [HELLO, Uint8Array.of(0xc1, 0xff)], code: 4400 },
    'a message that cannot be': { frames: [HELLO, encode([1, 1, [[2, -1]]])], code: 4400 },
    'a second greeting': { frames: [HELLO, HELLO], code: 4400 },
    'a snapshot without its stream': { frames: [HELLO, encodeMessages([ONE_OF_EACH[7]!])], code: 4400 },
    'a newer format': { frames: [HELLO, encode([2, 'something'])], code: 4426 },
    'another member meant': { frames: [encodeFrame({ kind: 'hello', from: 'a', to: 'x', address: '' })], code: 4404 },
    'a chunk before the announcement': {
      frames: [HELLO, encodeFrame({ kind: 'chunk', chunk: Uint8Array.of(1) })],
      path: RAFT_SNAPSHOT_PATH,
      code: 4400,
    },
    'more chunks than asked for': {
      frames: [
        HELLO,
        encodeMessages([ONE_OF_EACH[7]!]),
        ...Array.from({ length: 30 }, () => encodeFrame({ kind: 'chunk', chunk: Uint8Array.of(1) })),
      ],
      path: RAFT_SNAPSHOT_PATH,
      code: 4400,
    },
  }
  for (const [what, { frames, path, code }] of Object.entries(cases)) {
    const world = new World()
    const b = new ConnectionRaftTransport({
      id: 'b',
      dialer: world.network.dialer('b'),
      clock: world.clock,
      random: world.random,
      log: silentLog,
    })
    b.start({
      onMessages: () => {},
      onUnreachable: () => {},
      onConnectionLost: () => {},
      onForbidden: () => {},
      onSnapshot: () => new Promise(() => {}), // takes no chunk
    })
    world.network.listen('b:1', (connection, path) => b.accept(connection, path))
    const { connection, closed } = await world.raw(path)
    for (const frame of frames) connection.send(frame)
    await world.clock.advance(20)
    t.equal(closed()?.code, code, what)
  }
})

t.test('a member that left is refused and told so', async (t) => {
  const world = new World()
  const [a, b] = [world.transport('a'), world.transport('b')]
  a.setMembers(members('a', 'b'))
  b.setMembers(members('a', 'b'))
  a.send('b', [heartbeat(1)])
  await world.clock.advance(10)
  b.setMembers(members('b'))
  await world.clock.advance(10)
  a.send('b', [heartbeat(2)])
  await world.clock.advance(5_000)
  a.send('b', [heartbeat(3)])
  await world.clock.advance(10)
  t.same(world.heard.get('b'), ['a:heartbeat:1'])
  t.ok(world.heard.get('a')?.includes('forbidden by b'))
})

t.test('a greeting under another name than the certificate has is refused', async (t) => {
  const world = new World()
  const b = world.transport('b')
  world.network.listen('b:1', (connection, path) => b.accept(connection, path, 'somebody else'))
  const { connection, closed } = await world.raw()
  connection.send(HELLO)
  await world.clock.advance(10)
  t.equal(closed()?.code, 4404)
})
