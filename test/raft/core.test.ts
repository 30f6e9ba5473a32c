// Rules of the core that a transcript shows badly: bounds, windows, late and doubled messages, recovery. One test a rule.

import t from 'tap'
import { SeededRandom } from '../../src/lib/random.ts'
import { RaftCore } from '../../src/raft/core.ts'
import type { CoreLimits, Ready } from '../../src/raft/core-types.ts'
import { bootstrapState } from '../../src/raft/stored-state.ts'
import { type Entry, MAX_ENTRY_BYTES, type Message, type RaftId, type StoredState } from '../../src/raft/types.ts'

type Body<M> = M extends Message ? Omit<M, 'from' | 'to'> & { readonly from?: RaftId } : never

/** Member `a` of a, b and c alone: the test plays the others. */
class Member {
  readonly core: RaftCore
  readonly messages: Message[] = []
  readonly readies: Ready[] = []
  applied: readonly Entry[] = []

  constructor(
    options: { readonly limits?: Partial<CoreLimits>; readonly stored?: StoredState; readonly seed?: number } = {},
  ) {
    const { limits = {}, stored = bootstrapState(confOf('a', 'b', 'c')), seed = 1 } = options
    this.core = new RaftCore({ id: 'a', random: new SeededRandom(seed), stored, limits })
    this.pump()
  }

  pump(): void {
    for (let ready = this.core.ready(); ready; ready = this.core.ready()) {
      this.readies.push(ready)
      this.messages.push(...ready.messages, ...ready.messagesAfterPersist)
      this.applied = [...this.applied, ...ready.committed]
      if (ready.mustPersist) this.core.persisted(ready.seq)
      this.core.applied(ready.committed.at(-1)?.index ?? this.core.status().applied)
    }
  }

  step(message: Body<Message>): void {
    this.core.step({ from: 'b', ...message, to: 'a' } as Message)
    this.pump()
  }

  propose(...texts: string[]): void {
    for (const text of texts) this.core.propose(Buffer.from(text), this.#requestId++)
    this.pump()
  }

  tick(count: number): void {
    for (; count > 0; count--) this.core.tick()
    this.pump()
  }

  /** What was sent since the last call. */
  sent<K extends Message['kind']>(kind: K): Extract<Message, { readonly kind: K }>[] {
    return this.messages
      .splice(0)
      .filter((message): message is Extract<Message, { readonly kind: K }> => message.kind === kind)
  }

  lead(): this {
    this.core.campaignNow()
    this.pump()
    this.step({ kind: 'vote-reply', term: 2, pre: true, granted: true })
    this.step({ kind: 'vote-reply', term: 2, pre: false, granted: true })
    for (const from of ['b', 'c']) this.answer(2, from)
    this.messages.length = 0
    this.readies.length = 0
    return this
  }

  answer(index: number, from: RaftId = 'b'): void {
    this.step({ kind: 'append-reply', from, term: 2, index, reject: false, hintIndex: 0, hintTerm: 0 })
  }

  #requestId = 1
}

function confOf(...ids: string[]) {
  const members = ids.map((id) => ({ id, address: `${id}:2377` }))
  return { voters: ids, learners: [], outgoing: [], learnersNext: [], members }
}

function entriesOf(first: number, ...terms: number[]): Entry[] {
  return terms.map((term, n) => ({ index: first + n, term, kind: 'normal', data: Buffer.from(`${first + n}/${term}`) }))
}

t.test('election timeouts are random between one and two times the base (paper §5.2)', async (t) => {
  const ticks = Array.from({ length: 200 }, (_, seed) => {
    const { core } = new Member({ seed })
    let count = 0
    for (; core.status().role === 'follower'; count++) core.tick()
    return count
  })
  t.same(
    [...new Set(ticks)].sort((a, b) => a - b),
    [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
  )
})

t.test('a vote outlives a restart (paper figure 2, persistent state)', async (t) => {
  const member = new Member()
  member.step({ kind: 'vote', term: 2, pre: false, lastIndex: 1, lastTerm: 1, transfer: false })
  t.equal(member.sent('vote-reply')[0]?.granted, true)
  const hardState = member.readies.at(-1)?.hardState
  t.same(hardState, { term: 2, vote: 'b', commit: 1 })
  const again = new Member({ stored: { ...bootstrapState(confOf('a', 'b', 'c')), hardState: hardState! } })
  again.step({ kind: 'vote', from: 'c', term: 2, pre: false, lastIndex: 1, lastTerm: 1, transfer: false })
  t.equal(again.sent('vote-reply')[0]?.granted, false)
})

t.test('an append of an old term is refused with the present one (paper §5.1)', async (t) => {
  const member = new Member()
  member.step({ kind: 'heartbeat', term: 5, commit: 1, readContext: 0 })
  member.messages.length = 0
  member.step({ kind: 'append', from: 'c', term: 4, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 4), commit: 1 })
  t.match(member.sent('append-reply'), [{ to: 'c', term: 5, reject: true }])
  t.equal(member.core.status().lastIndex, 1)
})

t.test('a follower commits what the leader says, as far as its log is known to agree (paper figure 2)', async (t) => {
  const member = new Member()
  member.step({ kind: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 2, 2), commit: 9 })
  t.equal(member.core.status().commit, 3)
})

t.test('a late append with fewer entries takes nothing away', async (t) => {
  const member = new Member()
  member.step({ kind: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 2, 2, 2), commit: 1 })
  member.step({ kind: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 2), commit: 1 })
  t.equal(member.core.status().lastIndex, 4)
  t.same(
    member.sent('append-reply').map(({ index }) => index),
    [4, 2],
  )
})

t.test('a doubled append is acknowledged again and written once', async (t) => {
  const member = new Member()
  const append = { kind: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 2), commit: 1 } as const
  member.step(append)
  const writes = member.readies.filter(({ entries }) => entries.length > 0).length
  member.step(append)
  t.same(
    member.sent('append-reply').map(({ index }) => index),
    [2, 2],
  )
  t.equal(member.readies.filter(({ entries }) => entries.length > 0).length, writes)
})

t.test('an acknowledgement waits for writes of earlier batches', async (t) => {
  const core = new RaftCore({ id: 'a', random: new SeededRandom(1), stored: bootstrapState(confOf('a', 'b', 'c')) })
  core.ready()
  const append = {
    kind: 'append',
    from: 'b',
    to: 'a',
    term: 2,
    prevIndex: 1,
    prevTerm: 1,
    entries: entriesOf(2, 2),
    commit: 1,
  } as const
  core.step(append)
  const first = core.ready()
  t.equal(first?.entries.length, 1)
  core.step(append)
  const second = core.ready()
  t.same(second?.entries, [])
  t.equal(second?.mustPersist, true, 'although it writes nothing')
  t.equal(second?.messagesAfterPersist.length, 1)
})

t.test('what was overwritten in memory before its write was done does not count as durable', async (t) => {
  const core = new RaftCore({ id: 'a', random: new SeededRandom(1), stored: bootstrapState(confOf('a', 'b', 'c')) })
  core.ready()
  core.step({
    kind: 'append',
    from: 'b',
    to: 'a',
    term: 2,
    prevIndex: 1,
    prevTerm: 1,
    entries: entriesOf(2, 2, 2),
    commit: 1,
  })
  const first = core.ready()!
  core.step({
    kind: 'append',
    from: 'c',
    to: 'a',
    term: 3,
    prevIndex: 1,
    prevTerm: 1,
    entries: entriesOf(2, 3),
    commit: 2,
  })
  const second = core.ready()!
  core.persisted(first.seq)
  t.notOk(core.ready()?.committed.length, 'entry 2/3 is committed and not on disk')
  core.persisted(second.seq)
  t.match(core.ready()?.committed, [{ index: 2, term: 3 }])
})

t.test('the commit index goes to disk with every write, and alone never causes one', async (t) => {
  const member = new Member()
  member.step({ kind: 'append', term: 2, prevIndex: 1, prevTerm: 1, entries: entriesOf(2, 2), commit: 1 })
  member.readies.length = 0
  member.step({ kind: 'heartbeat', term: 2, commit: 2, readContext: 0 })
  t.equal(member.core.status().commit, 2)
  t.ok(member.readies.every(({ hardState }) => hardState === undefined))
  member.step({ kind: 'append', term: 2, prevIndex: 2, prevTerm: 2, entries: entriesOf(3, 2), commit: 2 })
  t.equal(member.readies.find(({ entries }) => entries.length > 0)?.hardState?.commit, 2)
})

t.test('appends are cut to the size of a message, and one entry always fits', async (t) => {
  const member = new Member({ limits: { maxMessageBytes: 100 } }).lead()
  for (const text of ['x'.repeat(30), 'y'.repeat(30), 'z'.repeat(500)]) member.core.propose(Buffer.from(text), 1)
  member.pump()
  const sizes = member
    .sent('append')
    .filter(({ to }) => to === 'b')
    .map(({ entries }) => entries.length)
  t.same(sizes, [1, 1, 1])
})

t.test('proposals of one turn travel in one append', async (t) => {
  const member = new Member().lead()
  member.propose('one', 'two', 'three')
  t.same(
    member.sent('append').map(({ to, entries }) => `${to} ${entries.length}`),
    ['b 3', 'c 3'],
  )
})

t.test(
  'where news of commits waits, it goes with the next append, a read or a heartbeat, and else when it is time',
  async (t) => {
    const member = new Member({ limits: { commitNewsWaits: true } }).lead()
    const news = () =>
      member.messages
        .splice(0)
        .flatMap((sent) =>
          sent.kind === 'append' || sent.kind === 'heartbeat' ? [`${sent.kind} ${sent.to} ${sent.commit}`] : [],
        )
    t.equal(member.core.owedCommit, 2, 'the entry that opens the term')
    member.propose('one')
    t.same(news(), ['append b 2', 'append c 2'])
    member.answer(3)
    t.same(news(), [], 'it is committed, and nobody is told')
    const owed = member.core.owedCommit
    member.propose('two')
    t.same(news(), ['append b 3', 'append c 3'])
    member.answer(4)
    member.core.tellCommit(owed)
    member.pump()
    t.same(news(), [], 'what was to be told then is known by now')
    member.core.tellCommit(member.core.owedCommit)
    member.pump()
    t.same(news(), ['append b 4', 'append c 4'])
    t.equal(member.core.owedCommit, 0)

    member.propose('three')
    member.answer(5)
    member.messages.length = 0
    member.step({ kind: 'read-index', from: 'c', term: 2, session: 1, requestIds: [1] })
    t.same(news(), ['heartbeat b 5', 'heartbeat c 2', 'append c 5'], 'c is not known to have all of it')
  },
)

t.test('a window bounds the appends under way, and answers open it (dissertation §10.2.2)', async (t) => {
  const member = new Member({ limits: { maxInflightMessages: 2 } }).lead()
  const toB = () =>
    member
      .sent('append')
      .filter(({ to }) => to === 'b')
      .map(({ entries }) => entries.map(({ index }) => index))
  for (const text of ['one', 'two', 'three', 'four']) member.propose(text)
  t.same(toB(), [[3], [4]])
  member.answer(3)
  t.same(toB(), [[5, 6]])
})

t.test('a window that is full of lost appends opens with the next heartbeat', async (t) => {
  const member = new Member({ limits: { maxInflightMessages: 1 } }).lead()
  member.propose('one')
  member.propose('two')
  member.messages.length = 0
  member.step({ kind: 'heartbeat-reply', term: 2, readContext: 0 })
  const [empty] = member.sent('append')
  t.match(empty, { to: 'b', prevIndex: 3, entries: [] })
  member.step({ kind: 'append-reply', term: 2, index: 3, reject: true, hintIndex: 2, hintTerm: 2 })
  t.match(member.sent('append')[0], { to: 'b', prevIndex: 2, entries: [{ index: 3 }, { index: 4 }] })
})

t.test('a follower that cannot be reached is probed and not flooded', async (t) => {
  const member = new Member().lead()
  member.propose('one')
  member.core.reportUnreachable('b')
  member.messages.length = 0
  for (const text of ['two', 'three', 'four']) member.propose(text)
  t.equal(member.sent('append').filter(({ to }) => to === 'b').length, 1)
})

t.test('a hint spares one round for each entry of a term that the follower has and the leader has not', async (t) => {
  // Leader: terms 1 1 1 5; follower: 1 1 then 2 2 2 … : the follower's hint skips all of term 2 at once.
  const stored = {
    ...bootstrapState(confOf('a', 'b', 'c')),
    entries: entriesOf(2, 1, 1, 5),
    hardState: { term: 5, vote: '' as const, commit: 1 },
  }
  const follower = new Member({
    stored: { ...stored, entries: entriesOf(2, 1, 2, 2, 2, 2), hardState: { term: 5, vote: '', commit: 1 } },
  })
  follower.step({ kind: 'append', term: 6, prevIndex: 4, prevTerm: 5, entries: [], commit: 1 })
  t.match(follower.sent('append-reply'), [{ reject: true, index: 4, hintIndex: 4, hintTerm: 2 }])
  follower.step({ kind: 'append', term: 6, prevIndex: 4, prevTerm: 1, entries: [], commit: 1 })
  t.match(follower.sent('append-reply'), [{ reject: true, hintIndex: 2, hintTerm: 1 }])
})

t.test('what is uncommitted is bounded, and the rest is refused with a code', async (t) => {
  const member = new Member({ limits: { maxUncommittedBytes: 300 } }).lead()
  member.propose('x'.repeat(200), 'y'.repeat(200))
  t.match(
    member.readies.flatMap(({ proposals }) => proposals),
    [{ kind: 'appended' }, { kind: 'refused', code: 'RAFT_BACKPRESSURE' }],
  )
  member.answer(3)
  member.readies.length = 0
  member.propose('z'.repeat(200))
  t.match(
    member.readies.flatMap(({ proposals }) => proposals),
    [{ kind: 'appended' }],
  )
})

t.test('an entry has at most 1 MiB', async (t) => {
  const member = new Member().lead()
  member.core.propose(new Uint8Array(MAX_ENTRY_BYTES + 1), 1)
  member.core.propose(new Uint8Array(MAX_ENTRY_BYTES), 2)
  member.pump()
  t.match(
    member.readies.flatMap(({ proposals }) => proposals),
    [
      { kind: 'refused', code: 'RAFT_ENTRY_TOO_LARGE' },
      { kind: 'appended', requestId: 2 },
    ],
  )
})

t.test('a batch to apply is bounded', async (t) => {
  const member = new Member({ limits: { maxReadyBytes: 100 } }).lead()
  member.propose('x'.repeat(60), 'y'.repeat(60), 'z'.repeat(60))
  member.readies.length = 0
  member.answer(5)
  t.same(
    member.readies.map(({ committed }) => committed.length).filter((count) => count > 0),
    [1, 1, 1],
  )
})

t.test('a forwarded proposal takes effect once, however often it is delivered', async (t) => {
  const member = new Member().lead()
  const propose = {
    kind: 'propose',
    term: 2,
    session: 7,
    requestIds: [1, 2],
    proposals: [Buffer.from('x'), Buffer.from('y')],
  } as const
  member.step(propose)
  member.step(propose)
  t.equal(member.core.status().lastIndex, 4)
  t.match(member.sent('propose-reply'), [{ requestIds: [1, 2], index: 3, code: '' }])
  member.step({ ...propose, session: 8 })
  t.equal(member.core.status().lastIndex, 6, 'another run of the proposer counts anew')
})

t.test('an answer to an earlier run of the same member is not taken for one to this', async (t) => {
  const member = new Member()
  member.step({ kind: 'heartbeat', term: 2, commit: 1, readContext: 0 })
  member.core.readIndex(1)
  member.pump()
  const [question] = member.sent('read-index')
  member.step({
    kind: 'read-index-reply',
    term: 2,
    session: question!.session + 1,
    requestIds: [1],
    index: 1,
    code: '',
  })
  t.same(
    member.readies.flatMap(({ reads }) => reads),
    [],
  )
  member.step({ kind: 'read-index-reply', term: 2, session: question!.session, requestIds: [1], index: 1, code: '' })
  t.same(
    member.readies.flatMap(({ reads }) => reads),
    [{ kind: 'confirmed', requestId: 1, index: 1 }],
  )
})

t.test('a forwarded request without an answer ends after two election timeouts', async (t) => {
  const member = new Member()
  member.step({ kind: 'heartbeat', term: 2, commit: 1, readContext: 0 })
  member.core.propose(Buffer.from('x'), 1)
  member.core.readIndex(2)
  for (let n = 0; n < 20; n++) {
    member.tick(1)
    member.step({ kind: 'heartbeat', term: 2, commit: 1, readContext: 0 })
  }
  t.same(
    member.readies.flatMap(({ proposals }) => proposals),
    [{ kind: 'refused', requestId: 1, code: 'RAFT_NO_ANSWER' }],
  )
  t.same(
    member.readies.flatMap(({ reads }) => reads),
    [{ kind: 'refused', requestId: 2, code: 'RAFT_NO_ANSWER' }],
  )
})

t.test('requests that wait are bounded', async (t) => {
  const member = new Member({ limits: { maxPendingRequests: 2 } })
  member.step({ kind: 'heartbeat', term: 2, commit: 1, readContext: 0 })
  for (let n = 1; n <= 3; n++) member.core.readIndex(n)
  for (let n = 1; n <= 3; n++) member.core.propose(Buffer.from('x'), n)
  member.pump()
  t.same(
    member.readies.flatMap(({ reads }) => reads),
    [{ kind: 'refused', requestId: 3, code: 'RAFT_BACKPRESSURE' }],
  )
  t.same(
    member.readies.flatMap(({ proposals }) => proposals),
    [{ kind: 'refused', requestId: 3, code: 'RAFT_BACKPRESSURE' }],
  )
})

t.test(
  'whoever hears of its leader grants no vote, unless the leader itself hands over (dissertation §4.2.3)',
  async (t) => {
    const member = new Member()
    const vote = { kind: 'vote', from: 'c', term: 3, pre: false, lastIndex: 1, lastTerm: 1 } as const
    member.step({ kind: 'heartbeat', term: 2, commit: 1, readContext: 0 })
    member.step({ ...vote, transfer: false })
    t.equal(member.core.status().term, 2)
    member.step({ ...vote, transfer: true })
    t.match(member.sent('vote-reply'), [{ granted: true, term: 3 }])
  },
)

t.test('a stored log may reach back before its snapshot, and goes on being compacted', async (t) => {
  const snapshot = { index: 4, term: 2, conf: confOf('a', 'b', 'c') }
  const stored = { hardState: { term: 2, vote: '' as const, commit: 5 }, snapshot, entries: entriesOf(3, 2, 2, 2, 2) }
  const member = new Member({ stored })
  t.match(member.core.status(), { firstIndex: 4, lastIndex: 6, commit: 5, applied: 5 })
  member.core.compact({ index: 5, term: 2, conf: snapshot.conf }, 6)
  t.match(member.core.status(), { firstIndex: 6, lastIndex: 6, logBytes: 35 })
})

t.test('a log with a gap, or one that lost committed entries, stops the member', async (t) => {
  const { snapshot } = bootstrapState(confOf('a'))
  const hardState = { term: 1, vote: '' as const, commit: 1 }
  t.throws(() => new Member({ stored: { snapshot, hardState, entries: entriesOf(3, 1) } }), { name: 'AssertionError' })
  t.throws(
    () => new Member({ stored: { snapshot, hardState: { ...hardState, commit: 3 }, entries: entriesOf(2, 1) } }),
    {
      name: 'AssertionError',
    },
  )
})
