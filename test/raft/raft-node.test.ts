import t, { type Test } from 'tap'
import type { CodedError } from '../../src/lib/errors.ts'
import { ApplyQueue } from '../../src/raft/apply-queue.ts'
import { encodeEnvelope } from '../../src/raft/proposal-envelope.ts'
import { MAX_PROPOSAL_BYTES } from '../../src/raft/raft-node-types.ts'
import { errorCodeOf, SimulatedCluster } from './simulated-cluster.ts'
import { chunks } from './storage-conformance.ts'

const texts = (count: number, prefix = '') => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

function proposeAll(node: { propose(data: Uint8Array): Promise<number> }, list: readonly string[]) {
  return Promise.all(list.map((text) => node.propose(Buffer.from(text))))
}

t.test('a cluster of one commits what it is given and answers with its state machine', async (t) => {
  const cluster = new SimulatedCluster(1)
  const { node, machine } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  t.equal(await cluster.wait(node.propose(Buffer.from('a'))), 1)
  t.equal(await cluster.wait(node.propose(Buffer.from('b'))), 2)
  t.same(machine.texts, ['a', 'b'])
})

t.test('three members apply the same entries, whoever proposes, and each proposer gets its own answer', async (t) => {
  const cluster = new SimulatedCluster(2)
  const nodes = await cluster.grow(3)
  const answers = await cluster.wait(Promise.all(nodes.map(({ node }, i) => proposeAll(node, texts(50, `${i}-`)))))
  await cluster.converged()
  const all = nodes[0]!.machine.texts
  t.equal(all.length, 150)
  for (const { machine } of nodes) t.same(machine.texts, all)
  for (const [i, places] of answers.entries())
    t.same(
      places.map((place) => all[place - 1]),
      texts(50, `${i}-`),
    )
})

t.test(
  'a client that writes one thing after the other costs four messages a write, and others know soon',
  async (t) => {
    const cluster = new SimulatedCluster(5)
    cluster.network.faults = { ...cluster.network.faults, latencyMs: [0.1, 0.3] }
    const nodes = await cluster.grow(3)
    await cluster.leader()
    const messages = () => nodes.reduce((sum, { node }) => sum + node.metrics.messagesSent, 0)
    const leader = nodes.find(({ node }) => node.status().role === 'leader')!
    const before = messages()
    for (const text of texts(200)) await cluster.wait(leader.node.propose(Buffer.from(text)))
    t.ok((messages() - before) / 200 < 4.5, `${(messages() - before) / 200} messages a write`)
    const sinceMs = cluster.clock.nowMs()
    await cluster.converged()
    t.ok(cluster.clock.nowMs() - sinceMs < 50, 'before the next heartbeat')
  },
)

t.test('proposals of one turn share a sync on each member', async (t) => {
  const cluster = new SimulatedCluster(3)
  const nodes = await cluster.grow(3)
  const before = ['n1', 'n2', 'n3'].map((id) => cluster.disk(id).syncs)
  await cluster.wait(proposeAll(nodes[0]!.node, texts(1_000)))
  await cluster.converged()
  for (const [i, id] of ['n1', 'n2', 'n3'].entries()) {
    const syncs = cluster.disk(id).syncs - before[i]!
    t.ok(syncs >= 1 && syncs <= 5, `${id} synced ${syncs} times`)
  }
  t.equal(nodes[0]!.node.metrics.proposals, 1_000)
  t.equal(nodes[0]!.node.pendingProposals, 0)
})

t.test('a leader that is killed is replaced within half a second, and no acknowledged write is lost', async (t) => {
  for (let seed = 10; seed < 22; seed++) {
    const cluster = new SimulatedCluster(seed)
    const nodes = await cluster.grow(3)
    await cluster.wait(proposeAll(nodes[1]!.node, texts(20)))
    const unanswered = nodes[1]!.node.propose(Buffer.from('last'))
    unanswered.catch(() => {})
    await cluster.clock.advance(cluster.random.below(5))
    const killedAtMs = cluster.clock.nowMs()
    cluster.kill('n1')
    const leader = await cluster.leader()
    const gapMs = cluster.clock.nowMs() - killedAtMs
    t.ok(gapMs < 500, `seed ${seed}: replaced after ${gapMs.toFixed(0)} ms`)
    await cluster.wait(leader.node.propose(Buffer.from('after')))
    t.same(leader.machine.texts.slice(0, 20), texts(20))
  }
})

t.test('a leader that is killed and started again at once is replaced as quickly', async (t) => {
  for (let seed = 23; seed < 28; seed++) {
    const cluster = new SimulatedCluster(seed)
    const [, n2] = await cluster.grow(3)
    const { term } = n2!.node.status()
    const killedAtMs = cluster.clock.nowMs()
    cluster.kill('n1')
    await cluster.start('n1')
    await cluster.clock.until(() => n2!.node.status().term > term && n2!.node.status().leader !== undefined, 5_000)
    const gapMs = cluster.clock.nowMs() - killedAtMs
    t.ok(gapMs < 500, `seed ${seed}: replaced after ${gapMs.toFixed(0)} ms`)
  }
})

t.test('a leader whose machine fails is replaced after a silence of one to two seconds', async (t) => {
  for (let seed = 30; seed < 36; seed++) {
    const cluster = new SimulatedCluster(seed)
    await cluster.grow(3)
    const failedAtMs = cluster.clock.nowMs()
    cluster.powerOff('n1')
    await cluster.leader()
    const gapMs = cluster.clock.nowMs() - failedAtMs
    t.ok(gapMs >= 800 && gapMs < 5_000, `seed ${seed}: replaced after ${gapMs.toFixed(0)} ms`)
  }
})

t.test('a cluster that is left alone holds no elections', async (t) => {
  const cluster = new SimulatedCluster(40)
  const nodes = await cluster.grow(5)
  const { term } = nodes[0]!.node.status()
  // Syncs that take 300 ms now and then, and messages that take 100: a busy machine.
  for (const disk of cluster.disks.values()) disk.faults = { ...disk.faults, stallRate: 0.1, stallMs: 300 }
  cluster.network.faults = { ...cluster.network.faults, latencyMs: [0, 100] }
  for (let i = 0; i < 20; i++) {
    const proposals = proposeAll(nodes[i % 5]!.node, texts(10))
    await cluster.clock.advance(3_000)
    await proposals
  }
  t.equal(nodes[0]!.node.status().term, term)
  t.equal(nodes[0]!.node.status().role, 'leader')
})

t.test('only the leader of the very term may propose as leader', async (t) => {
  const cluster = new SimulatedCluster(41)
  const [n1, n2] = await cluster.grow(3)
  const { term } = n1!.node.status()
  t.equal(await cluster.wait(n1!.node.proposeAsLeader(Buffer.from('a'), term)), 1)
  t.equal(await cluster.codeOf(n1!.node.proposeAsLeader(Buffer.from('b'), term - 1)), 'NOT_LEADER')
  t.equal(await cluster.codeOf(n2!.node.proposeAsLeader(Buffer.from('c'), term)), 'NOT_LEADER')
})

t.test('a leader that is cut off: its proposals come to the right end', async (t) => {
  const cluster = new SimulatedCluster(42)
  const [n1] = await cluster.grow(3)
  const { term } = n1!.node.status()
  cluster.network.cut('n1', 'n2')
  cluster.network.cut('n1', 'n3')
  const asLeader = errorCodeOf(n1!.node.proposeAsLeader(Buffer.from('as leader'), term))
  const plain = errorCodeOf(n1!.node.propose(Buffer.from('plain')))
  await cluster.clock.until(() => n1!.node.status().role !== 'leader', 10_000, 'the end of leadership')
  t.equal(await cluster.wait(asLeader), 'PROPOSAL_UNKNOWN', 'it waits no longer than the term')
  t.same(
    n1!.events.filter((event) => event.kind === 'leadership').map((event) => event.isLeader),
    [true, false],
  )
  t.equal(await cluster.codeOf(n1!.node.propose(Buffer.from('leaderless'))), 'NO_LEADER')
  t.equal(await cluster.codeOf(n1!.node.readIndex()), 'NO_LEADER')
  const successor = await cluster.leader()
  await cluster.wait(successor.node.propose(Buffer.from('of the others')))
  cluster.network.healAll()
  await cluster.converged()
  t.equal(await cluster.wait(plain), 'PROPOSAL_DROPPED', 'the entry in its place proves that it was not applied')
  t.same(n1!.machine.texts, ['of the others'])
})

t.test(
  'a forwarded proposal whose leader dies without an answer is of unknown fate, unless its entry comes',
  async (t) => {
    for (const reachesThird of [false, true]) {
      const cluster = new SimulatedCluster(63)
      const [n1, n2] = await cluster.grow(3)
      cluster.network.cutOneWay('n1', 'n2')
      if (!reachesThird) cluster.network.cutOneWay('n1', 'n3')
      const outcome = errorCodeOf(n2!.node.propose(Buffer.from('a')))
      await cluster.clock.advance(100)
      t.equal(n1!.machine.texts.length, reachesThird ? 1 : 0)
      cluster.kill('n1')
      cluster.network.healAll()
      t.equal(await cluster.wait(outcome), reachesThird ? undefined : 'PROPOSAL_UNKNOWN')
      t.same(n2!.machine.texts, reachesThird ? ['a'] : [])
    }
  },
)

t.test('a proposal without a quorum is given up at its deadline', async (t) => {
  const cluster = new SimulatedCluster(43, { requestTimeoutMs: 700 })
  const [n1] = await cluster.grow(3)
  cluster.network.cut('n1', 'n2')
  cluster.network.cut('n1', 'n3')
  const proposal = errorCodeOf(n1!.node.propose(Buffer.from('a')))
  t.equal(await cluster.wait(proposal, 900), 'PROPOSAL_UNKNOWN')
})

t.test('proposals beyond the bounds are refused', async (t) => {
  const cluster = new SimulatedCluster(44, { maxPendingProposals: 10 })
  const { node } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  t.equal(await cluster.codeOf(node.propose(new Uint8Array(MAX_PROPOSAL_BYTES + 1))), 'PROPOSAL_TOO_LARGE')
  const all = texts(15).map((text) => errorCodeOf(node.propose(Buffer.from(text))))
  const codes = await cluster.wait(Promise.all(all))
  t.equal(codes.filter((code) => code === undefined).length, 10)
  t.equal(codes.filter((code) => code === 'PROPOSAL_QUEUE_FULL').length, 5)
  t.equal(await cluster.wait(node.propose(new Uint8Array(MAX_PROPOSAL_BYTES))), 11)
})

t.test('a read on any member sees every write that was acknowledged before it', async (t) => {
  const cluster = new SimulatedCluster(45)
  const nodes = await cluster.grow(3)
  for (let i = 0; i < 10; i++) {
    await cluster.wait(nodes[i % 3]!.node.propose(Buffer.from(String(i))))
    const reader = nodes[(i + 1) % 3]!
    await cluster.wait(reader.node.readIndex())
    t.equal(reader.machine.texts.at(-1), String(i))
  }
})

t.test('a read that waits for a leader which dies is answered by the next one', async (t) => {
  const cluster = new SimulatedCluster(46)
  const nodes = await cluster.grow(3)
  await cluster.wait(nodes[0]!.node.propose(Buffer.from('a')))
  const read = nodes[1]!.node.readIndex()
  cluster.kill('n1')
  await cluster.wait(read, 3_000)
  t.same(nodes[1]!.machine.texts, ['a'])
})

t.test('a member that was away for long catches up by a snapshot in bounded chunks', async (t) => {
  const cluster = new SimulatedCluster(47, { snapshotInterval: 200, keepEntries: 20 })
  const nodes = await cluster.grow(3)
  cluster.kill('n3')
  for (let i = 0; i < 20; i++) {
    await cluster.wait(proposeAll(nodes[0]!.node, texts(100, `${i}-`)))
    await cluster.clock.advance(100)
  }
  t.ok(nodes[0]!.node.status().firstIndex > 1_700, 'the log is compacted')
  const n3 = await cluster.start('n3')
  // Writes go on meanwhile.
  await cluster.wait(proposeAll(nodes[1]!.node, texts(100, 'more-')))
  await cluster.converged()
  t.same(n3.machine.texts, nodes[0]!.machine.texts)
  t.ok(n3.node.metrics.snapshotsReceived >= 1)
  t.equal(n3.machine.texts.length, 2_100)
})

t.test('a snapshot whose stream breaks is sent again', async (t) => {
  const cluster = new SimulatedCluster(48, { snapshotInterval: 200, keepEntries: 20 })
  const nodes = await cluster.grow(3)
  cluster.kill('n3')
  for (let i = 0; i < 20; i++) {
    await cluster.wait(proposeAll(nodes[0]!.node, texts(100, `${i}-`)))
    await cluster.clock.advance(100)
  }
  const n3 = await cluster.start('n3')
  await cluster.clock.advance(7)
  t.equal(n3.node.metrics.snapshotsReceived, 0, 'it is under way')
  cluster.network.disconnect('n1', 'n3')
  await cluster.converged()
  t.same(n3.machine.texts, nodes[0]!.machine.texts)
})

t.test('a restart brings back snapshot, log and membership', async (t) => {
  const cluster = new SimulatedCluster(49, { snapshotInterval: 100, keepEntries: 10 })
  const nodes = await cluster.grow(3)
  await cluster.wait(proposeAll(nodes[0]!.node, texts(250)))
  await cluster.converged()
  for (const id of ['n1', 'n2', 'n3']) cluster.powerOff(id)
  for (const id of ['n1', 'n2', 'n3']) cluster.network.powerOn(id)
  for (const id of ['n1', 'n2', 'n3']) await cluster.start(id)
  const leader = await cluster.leader()
  t.same(leader.machine.texts, texts(250))
  t.equal(leader.machine.restores, 1)
  t.same(leader.node.status().conf.voters, ['n1', 'n2', 'n3'])
  await cluster.wait(leader.node.propose(Buffer.from('after')))
})

t.test('an entry of an unknown format stops the node with a message', async (t) => {
  const cluster = new SimulatedCluster(50)
  const { node } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  await cluster.wait(node.propose(Buffer.from('a')))
  const { lastIndex, term } = node.status()
  cluster.kill('n1')
  // What a newer build wrote before this one was put in its place again.
  const storage = cluster.storage('n1')
  await cluster.wait(storage.open())
  const data = encodeEnvelope({ session: 1, requestId: 1, data: Buffer.from('b') })
  data[0] = 2
  await cluster.wait(storage.write({ entries: [{ index: lastIndex + 1, term, kind: 'normal', data }] }))
  await cluster.wait(storage.close())
  const again = await cluster.start('n1')
  const error = (await cluster.wait(again.ended)) as CodedError
  t.equal(error.code, 'RAFT_FORMAT_UNKNOWN')
  t.match(error.message, /newer version of swarmd/)
  t.same(again.machine.texts, ['a'], 'and nothing is skipped')
})

t.test('a disk that fails stops the node, and what was not durable is not acknowledged', async (t) => {
  const cluster = new SimulatedCluster(51)
  const { node, ended } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  cluster.disk('n1').broken = true
  const proposal = errorCodeOf(node.propose(Buffer.from('a')))
  const error = (await cluster.wait(ended)) as CodedError
  t.equal(error.code, 'RAFT_STORAGE_FAILED')
  t.equal(await cluster.wait(proposal), 'PROPOSAL_UNKNOWN')
  t.equal(await cluster.codeOf(node.propose(Buffer.from('b'))), 'RAFT_NOT_RUNNING')
})

t.test('a state machine that throws stops the node', async (t) => {
  const cluster = new SimulatedCluster(52)
  const { node, machine, ended } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  machine.apply = () => {
    throw new Error('broken')
  }
  node.propose(Buffer.from('a')).catch(() => {})
  t.match(await cluster.wait(ended), { message: 'broken' })
})

t.test('a second cluster cannot be made on the disk of a first', async (t) => {
  const cluster = new SimulatedCluster(53)
  await cluster.start('n1', { bootstrap: true })
  cluster.kill('n1')
  await t.rejects(cluster.start('n1', { bootstrap: true }), { code: 'RAFT_STORAGE_NOT_EMPTY' })
})

t.test('leadership is handed over when asked, without a gap of an election timeout', async (t) => {
  const cluster = new SimulatedCluster(54)
  const [n1, n2, n3] = await cluster.grow(3)
  const startMs = cluster.clock.nowMs()
  await cluster.wait(n1!.node.transferLeadership('n3'))
  t.equal(await cluster.leader(), n3)
  t.ok(cluster.clock.nowMs() - startMs < 100)
  await cluster.wait(n3!.node.transferLeadership())
  t.not(await cluster.leader(), n3)
  t.equal(await cluster.codeOf(n3!.node.transferLeadership()), 'NOT_LEADER')
  await cluster.wait(n2!.node.propose(Buffer.from('a')))
  const alone = new SimulatedCluster(55)
  const { node } = await alone.start('n1', { bootstrap: true })
  await alone.leader()
  t.equal(await alone.codeOf(node.transferLeadership()), 'TRANSFER_IMPOSSIBLE')
})

t.test('a leader knows at any moment who is there, so a planned stop finds whom to hand over to', async (t) => {
  const cluster = new SimulatedCluster(61)
  const [n1] = await cluster.grow(3)
  const seen = async (durationMs: number) => {
    const list: string[] = []
    for (let atMs = 0; atMs < durationMs; atMs += 5) {
      await cluster.clock.advance(5)
      list.push(
        n1!.node
          .status()
          .peers.map(({ id, recentActive }) => `${id} ${recentActive}`)
          .join(', '),
      )
    }
    return [...new Set(list)]
  }
  t.strictSame(await seen(5_000), ['n2 true, n3 true'])
  cluster.kill('n3')
  t.equal((await seen(5_000)).at(-1), 'n2 true, n3 false')
})

t.test('a transfer to a member that does not answer fails and the leader leads on', async (t) => {
  const cluster = new SimulatedCluster(56)
  const [n1] = await cluster.grow(3)
  cluster.network.cut('n1', 'n3')
  const transfer = errorCodeOf(n1!.node.transferLeadership('n3'))
  t.equal(await cluster.wait(transfer, 5_000), 'TRANSFER_FAILED')
  await cluster.wait(n1!.node.propose(Buffer.from('a')))
})

t.test('membership changes in one step and in several', async (t) => {
  const cluster = new SimulatedCluster(57)
  const [n1, n2, n3] = await cluster.grow(3)
  await cluster.start('n4')
  await cluster.start('n5')
  await cluster.wait(
    n1!.node.changeMembership({
      steps: [
        { kind: 'add-voter', member: cluster.member('n4') },
        { kind: 'add-voter', member: cluster.member('n5') },
        { kind: 'remove', id: 'n3' },
      ],
    }),
  )
  t.same([...n1!.node.status().conf.voters].sort(), ['n1', 'n2', 'n4', 'n5'])
  t.same(n1!.node.status().conf.outgoing, [], 'the joint configuration is left')
  await cluster.clock.advance(3_000)
  t.ok(n3!.events.some(({ kind }) => kind === 'removed' || kind === 'forbidden'))
  t.equal(await cluster.codeOf(n2!.node.changeMembership({ steps: [{ kind: 'remove', id: 'n5' }] })), 'NOT_LEADER')
  t.equal(
    await cluster.codeOf(n1!.node.changeMembership({ steps: [{ kind: 'remove', id: 'nobody' }] })),
    'MEMBERSHIP_CHANGE_INVALID',
  )
  await cluster.wait(n1!.node.changeMembership({ steps: [{ kind: 'remove', id: 'n5' }] }))
  await cluster.wait(n1!.node.propose(Buffer.from('a')))
  await cluster.clock.until(() => cluster.get('n4').machine.texts[0] === 'a', 1_000)
})

t.test('a member that was removed while it was away learns it from those who refuse it', async (t) => {
  const cluster = new SimulatedCluster(58)
  const [n1] = await cluster.grow(3)
  cluster.kill('n3')
  await cluster.wait(n1!.node.changeMembership({ steps: [{ kind: 'remove', id: 'n3' }] }))
  const { term } = n1!.node.status()
  const n3 = await cluster.start('n3')
  await cluster.clock.until(() => n3.events.some(({ kind }) => kind === 'forbidden'), 10_000)
  await cluster.clock.advance(6_000)
  t.equal(n1!.node.status().term, term, 'and disturbs nobody')
})

t.test('a leader that removes itself makes room for another', async (t) => {
  const cluster = new SimulatedCluster(59)
  const [n1] = await cluster.grow(3)
  await cluster.wait(n1!.node.changeMembership({ steps: [{ kind: 'remove', id: 'n1' }] })).catch(() => {})
  t.ok(n1!.events.some(({ kind }) => kind === 'removed'))
  cluster.kill('n1')
  const leader = await cluster.leader()
  t.same([...leader.node.status().conf.voters].sort(), ['n2', 'n3'])
  await cluster.wait(leader.node.propose(Buffer.from('a')))
})

t.test('a member whose address changes is reached at the new one', async (t) => {
  const cluster = new SimulatedCluster(60)
  const [n1, , n3] = await cluster.grow(3)
  cluster.network.disconnect('n1', 'n3')
  cluster.network.killProcess('n3') // its old address refuses from now on
  cluster.network.listen('n3:9999', (connection, path) => n3!.transport.accept(connection, path))
  const member = { id: 'n3', address: 'n3:9999' }
  await cluster.wait(n1!.node.changeMembership({ steps: [{ kind: 'update', member }] }))
  await cluster.wait(n1!.node.propose(Buffer.from('a')))
  await cluster.converged()
  t.same(n3!.machine.texts, ['a'])
})

t.test('entries are applied in slices that leave the event loop to others', (t) => {
  let nowMs = 0
  const turns: (() => void)[] = []
  const clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    setTimer: (_delayMs: number, fire: () => void) => {
      turns.push(fire)
      return { cancel: () => {} }
    },
  }
  const applied: number[] = []
  const slices: number[] = []
  const cluster = new SimulatedCluster(62)
  const queue = new ApplyQueue<void>({
    stateMachine: {
      apply: ({ index }) => {
        nowMs += 3
        applied.push(index)
      },
      snapshot: () => chunks(),
      restore: () => Promise.resolve(),
    },
    storage: cluster.storage('n1'),
    clock,
    sliceMs: 10,
    session: 1,
    onEntry: () => {},
    onRestored: () => {},
    onApplied: (_index, durationMs) => slices.push(durationMs),
    onError: (error) => t.fail(String(error)),
  })
  const data = encodeEnvelope({ session: 1, requestId: 1, data: Buffer.from('a') })
  queue.pushEntries(Array.from({ length: 10 }, (_, i) => ({ index: i + 1, term: 1, kind: 'normal' as const, data })))
  t.equal(applied.length, 4, 'the first slice runs at once')
  queue.pushEntries([{ index: 11, term: 1, kind: 'normal', data }])
  while (turns.length > 0) turns.shift()!()
  t.same(applied, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  t.ok(slices.length === 3 && slices.every((slice) => slice <= 12))
  t.end()
})

t.test('of two snapshots that come before the first is loaded only the last one is', async (t) => {
  const cluster = new SimulatedCluster(63)
  const storage = cluster.storage('n1')
  await cluster.wait(storage.open())
  const restored: string[] = []
  const applied: number[] = []
  const queue = new ApplyQueue<void>({
    stateMachine: {
      apply: ({ index }) => void applied.push(index),
      snapshot: () => chunks(),
      restore: async (received) => {
        for await (const chunk of received) restored.push(Buffer.from(chunk).toString())
      },
    },
    storage,
    clock: cluster.clock,
    sliceMs: 10,
    session: 1,
    onEntry: () => {},
    onRestored: () => {},
    onApplied: (index) => applied.push(index),
    onError: (error) => t.fail(String(error)),
  })
  const conf = { voters: ['n1'], learners: [], outgoing: [], learnersNext: [], members: [cluster.member('n1')] }
  const data = encodeEnvelope({ session: 1, requestId: 1, data: Buffer.from('a') })
  const saved = []
  for (const index of [10, 20]) {
    saved.push(await cluster.wait(storage.saveSnapshot({ index, term: 1, conf }, chunks(`state ${index}`))))
  }
  for (const snapshot of saved) {
    queue.pushSnapshot(snapshot.meta, storage.write({ snapshot }))
    queue.pushEntries([{ index: snapshot.meta.index + 1, term: 1, kind: 'normal', data }])
  }
  await cluster.clock.until(() => queue.idle, 1_000, 'the queue to be empty')
  t.same(restored, ['state 20'])
  t.same(applied, [20, 21, 21], 'what came between the two is in the last one')
  await cluster.wait(storage.close())
})

t.test('a node that is stopped ends in order', async (t) => {
  const cluster = new SimulatedCluster(61)
  const { node, abort, ended, events } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  const proposal = errorCodeOf(node.propose(Buffer.from('a')))
  abort.abort()
  t.equal(await cluster.wait(ended), undefined)
  t.equal(await cluster.wait(proposal), 'PROPOSAL_UNKNOWN')
  t.match(events.at(-1), { kind: 'leadership', isLeader: false })
  await cluster.start('n1')
})

t.test('under faults of every kind no acknowledged write is lost or doubled, and one seed gives one run', async (t) => {
  for (const seed of [101, 102, 103, 104]) {
    const first = await runWithFaults(t, seed)
    t.equal(await runWithFaults(t, seed), first, `seed ${seed} twice`)
  }
})

/** Returns what happened, as text. */
async function runWithFaults(t: Test, seed: number): Promise<string> {
  const cluster = new SimulatedCluster(seed, { snapshotInterval: 60, keepEntries: 10, requestTimeoutMs: 3_000 })
  const { clock, network } = cluster
  const random = cluster.random.fork()
  await cluster.grow(3)
  const ids = ['n1', 'n2', 'n3']
  const acknowledged: string[] = []
  const dropped: string[] = []
  const trace: string[] = []
  let next = 0
  network.faults = { ...network.faults, latencyMs: [0, 20], breakRate: 0.005, dialTimeoutRate: 0.02 }
  for (const disk of cluster.disks.values()) disk.faults = { ...disk.faults, stallRate: 0.02, stallMs: 400 }
  for (let step = 0; step < 250; step++) {
    const id = ids[random.below(3)]!
    const other = ids[random.below(3)]!
    const running = cluster.running.get(id)
    const dice = random.below(100)
    if (dice < 70 && running) {
      const text = `t${next++}`
      running.node.propose(Buffer.from(text)).then(
        () => acknowledged.push(text),
        (error: CodedError) => {
          if (error.code === 'PROPOSAL_DROPPED' || error.code === 'NO_LEADER') dropped.push(text)
        },
      )
    } else if (dice < 74 && running && cluster.running.size > 2) cluster.kill(id)
    else if (dice < 77 && running && cluster.running.size > 2) cluster.powerOff(id)
    else if (dice < 82 && id !== other) network.cutOneWay(id, other)
    else if (dice < 90 && !running) {
      network.powerOn(id)
      await cluster.start(id)
    } else if (dice < 95) network.healAll()
    await clock.advance(random.below(120))
    trace.push(
      `${clock.nowMs()} ${dice} ${[...cluster.running].map(([name, { node }]) => `${name}:${node.status().role[0]}${node.status().applied}`).join(' ')}`,
    )
  }
  network.healAll()
  network.faults = { ...network.faults, breakRate: 0, dialTimeoutRate: 0 }
  for (const id of ids) {
    network.powerOn(id)
    if (!cluster.running.has(id)) await cluster.start(id)
  }
  await clock.advance(5_000) // leaders that were cut off step down
  const leader = await cluster.leader(30_000)
  await cluster.wait(leader.node.propose(Buffer.from('end')))
  await cluster.converged()
  await clock.advance(4_000)
  const final = leader.machine.texts
  for (const { machine } of cluster.running.values()) t.same(machine.texts, final, `seed ${seed}: same state`)
  const there = new Set(final)
  t.equal(there.size, final.length, `seed ${seed}: nothing twice`)
  t.same(
    acknowledged.filter((text) => !there.has(text)),
    [],
    `seed ${seed}: nothing acknowledged is lost`,
  )
  t.same(
    dropped.filter((text) => there.has(text)),
    [],
    `seed ${seed}: nothing that was said to be dropped is there`,
  )
  t.ok(acknowledged.length > 20, `seed ${seed}: ${acknowledged.length} of ${next} were acknowledged`)
  return [...trace, ...final].join('\n')
}
