// Properties of the core's parts, over generated data and against simpler ways to compute the same.

import fc from 'fast-check'
import t from 'tap'
import { applyConfChange, EMPTY_CONF, isJoint, LEAVE_JOINT } from '../../src/raft/conf-change.ts'
import { decodeConfChange, encodeConfChange } from '../../src/raft/conf-change-codec.ts'
import { Inflights } from '../../src/raft/inflights.ts'
import { RaftLog } from '../../src/raft/log.ts'
import { hasQuorum, isVoter, quorumValue, type VoterSets, voteResult } from '../../src/raft/quorum.ts'
import { EMPTY_STATE } from '../../src/raft/stored-state.ts'
import type { ConfChangeStep, ConfState, Entry } from '../../src/raft/types.ts'
import { isLinearizable } from '../sim/linearizability.ts'

const IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
const idSets = fc.subarray(IDS)
const voterSets: fc.Arbitrary<VoterSets> = fc.record({ voters: idSets, outgoing: idSets })

/** Every set of members, as a predicate. */
function* allSubsets(): Iterable<ReadonlySet<string>> {
  for (let mask = 0; mask < 1 << IDS.length; mask++) yield new Set(IDS.filter((_, n) => mask & (1 << n)))
}

function majorityOf(voters: readonly string[], members: ReadonlySet<string>): boolean {
  return voters.length === 0 || voters.filter((id) => members.has(id)).length * 2 > voters.length
}

t.test('a quorum is a majority of both halves, and two quorums always meet (dissertation §4.3)', async () => {
  fc.assert(
    fc.property(voterSets, (sets) => {
      const quorums: ReadonlySet<string>[] = []
      for (const members of allSubsets()) {
        const expected = majorityOf(sets.voters, members) && majorityOf(sets.outgoing, members)
        if (hasQuorum(sets, (id) => members.has(id)) !== expected) return false
        if (expected) quorums.push(members)
      }
      if (sets.voters.length + sets.outgoing.length === 0) return true
      return quorums.every((a) => quorums.every((b) => IDS.some((id) => a.has(id) && b.has(id))))
    }),
    { numRuns: 60 },
  )
})

t.test('the value that a quorum reached is the highest that all of some quorum have', async () => {
  fc.assert(
    fc.property(voterSets, fc.array(fc.nat(9), { minLength: 7, maxLength: 7 }), (sets, values) => {
      if (sets.voters.length + sets.outgoing.length === 0) return true
      const reached = (id: string) => values[IDS.indexOf(id)]!
      let best = -1
      for (const members of allSubsets()) {
        if (!majorityOf(sets.voters, members) || !majorityOf(sets.outgoing, members)) continue
        const counted = [...members].filter((id) => isVoter(sets, id))
        best = Math.max(best, Math.min(...counted.map(reached)))
      }
      return quorumValue(sets, reached) === best
    }),
  )
})

t.test('an election is won or lost as soon as the missing votes cannot change it', async () => {
  fc.assert(
    fc.property(voterSets, fc.dictionary(fc.constantFrom(...IDS), fc.boolean()), (sets, given) => {
      const votes = new Map(Object.entries(given))
      let canWin = false
      let canLose = false
      for (const missing of allSubsets()) {
        const granted = new Set(IDS.filter((id) => votes.get(id) ?? missing.has(id)))
        if (majorityOf(sets.voters, granted) && majorityOf(sets.outgoing, granted)) canWin = true
        else canLose = true
      }
      return voteResult(sets, votes) === (canWin ? (canLose ? 'pending' : 'won') : 'lost')
    }),
  )
})

const memberOf = (id: string) => ({ id, address: `${id}:2377` })
const step: fc.Arbitrary<ConfChangeStep> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('add-voter' as const, 'add-learner' as const, 'update' as const),
    member: fc.constantFrom(...IDS).map(memberOf),
  }),
  fc.record({ kind: fc.constant('remove' as const), id: fc.constantFrom(...IDS) }),
)
const changes = fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { maxLength: 12 })

/** A single voter, then every change, leaving joint configurations at once; calls `see` with each two neighbours. */
function walk(
  list: readonly (readonly ConfChangeStep[])[],
  see: (before: ConfState, after: ConfState) => void,
): ConfState {
  let conf: ConfState = { ...EMPTY_CONF, voters: ['a'], members: [memberOf('a')] }
  const enter = (steps: readonly ConfChangeStep[]) => {
    const result = applyConfChange(conf, { steps })
    if (result.kind === 'invalid') return
    see(conf, result.conf)
    conf = result.conf
  }
  for (const steps of list) {
    enter(steps)
    if (isJoint(conf)) enter(LEAVE_JOINT.steps)
  }
  return conf
}

t.test('quorums before and after each change meet', async () => {
  fc.assert(
    fc.property(changes, (list) => {
      let meet = true
      walk(list, (before, after) => {
        for (const members of allSubsets()) {
          const others = new Set(IDS.filter((id) => !members.has(id)))
          if (hasQuorum(before, (id) => members.has(id)) && hasQuorum(after, (id) => others.has(id))) meet = false
        }
      })
      return meet
    }),
  )
})

t.test(
  'every configuration is whole: voters there, learners no voters, addresses for all and nobody else, sorted',
  async () => {
    fc.assert(
      fc.property(changes, (list) => {
        let whole = true
        const check = (ok: boolean) => {
          whole &&= ok
        }
        walk(list, (_before, { voters, learners, outgoing, learnersNext, members }) => {
          check(voters.length > 0)
          check(learners.every((id) => !voters.includes(id) && !outgoing.includes(id)))
          check(learnersNext.every((id) => outgoing.includes(id) && !voters.includes(id)))
          const everybody = [...new Set([...voters, ...learners, ...outgoing, ...learnersNext])].sort()
          check(JSON.stringify(members.map(({ id }) => id)) === JSON.stringify(everybody))
          for (const ids of [voters, learners, outgoing, learnersNext]) {
            check(ids.every((id, n) => n === 0 || ids[n - 1]! < id))
          }
        })
        return whole
      }),
    )
  },
)

t.test('a joint configuration ends where the same steps one by one would have led', async () => {
  fc.assert(
    fc.property(changes, fc.array(step, { minLength: 2, maxLength: 4 }), (list, steps) => {
      const start = walk(list, () => {})
      const together = walk([...list, steps], () => {})
      let conf = start
      for (const one of steps) {
        const result = applyConfChange(conf, { steps: [one] })
        if (result.kind === 'invalid') return true // one by one it may pass through what is not allowed
        conf = result.conf
      }
      return JSON.stringify(conf) === JSON.stringify(together)
    }),
  )
})

t.test('a change survives its encoding', async (t) => {
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      return JSON.stringify(decodeConfChange(encodeConfChange({ steps }))) === JSON.stringify({ steps })
    }),
  )
  t.throws(() => decodeConfChange(Buffer.from([0x92, 9, 0x90])), /newer release/)
  t.throws(() => decodeConfChange(Buffer.from([0x92, 1, 0xa1, 0x61])), { name: 'AssertionError' })
})

t.test('a follower that gets a leader’s appends in any order, some twice, ends with the leader’s log', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.nat(99), { maxLength: 30 }),
      (steps, picks) => {
        let term = 1
        const entries: Entry[] = steps.map((rise, n) => {
          term += rise === 3 ? 1 : 0
          return { index: n + 1, term, kind: 'normal', data: Buffer.from(`${n + 1}/${term}`) }
        })
        const log = new RaftLog(EMPTY_STATE)
        const appendFrom = (first: number, count: number) => {
          const previous = entries[first - 2]
          return log.appendAfter(first - 1, previous?.term ?? 0, entries.slice(first - 1, first - 1 + count))
        }
        for (const pick of picks) appendFrom(1 + (pick % entries.length), 1 + (pick % 3))
        appendFrom(1, entries.length)
        return JSON.stringify(log.slice(1, log.lastIndex, Infinity)) === JSON.stringify(entries)
      },
    ),
  )
})

t.test('the log counts its bytes, whatever is appended, cut, committed and compacted', async () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), size: fc.nat(50) }),
    fc.record({ kind: fc.constant('overwrite' as const), back: fc.nat(5), size: fc.nat(50) }),
    fc.record({ kind: fc.constant('commit' as const), share: fc.nat(100) }),
    fc.record({ kind: fc.constant('compact' as const), share: fc.nat(100) }),
  )
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const log = new RaftLog(EMPTY_STATE)
      let term = 1
      const between = (low: number, high: number, share: number) => low + Math.floor(((high - low) * share) / 100)
      for (const act of actions) {
        if (act.kind === 'append') log.append(term, 'normal', new Uint8Array(act.size))
        else if (act.kind === 'overwrite') {
          const previous = Math.max(log.lastIndex - act.back, log.commit)
          const entry: Entry = { index: previous + 1, term: ++term, kind: 'normal', data: new Uint8Array(act.size) }
          log.appendAfter(previous, log.termAt(previous)!, [entry])
        } else if (act.kind === 'commit') {
          log.takeUnwritten()
          log.written(log.lastIndex)
          log.commitTo(between(log.commit, log.lastIndex, act.share))
          log.takeCommitted(Infinity)
          log.appliedTo(log.commit)
        } else if (log.applied > 0) {
          const index = between(log.snapshot.index, log.applied, act.share)
          const meta = { index, term: log.termAt(index) ?? 0, conf: EMPTY_CONF }
          log.compact(meta, between(log.firstIndex, index + 1, act.share))
        }
      }
      const sizeOf = (from: number) => {
        let sizeBytes = 0
        for (let index = from; index <= log.lastIndex; index++) sizeBytes += log.entryAt(index).data.length + 32
        return sizeBytes
      }
      return log.sizeBytes === sizeOf(log.firstIndex) && log.uncommittedBytes === sizeOf(log.commit + 1)
    }),
  )
})

t.test('a window is full by number or by bytes, and empty when everything is answered', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(100), { maxLength: 300 }), fc.nat(300), (sizes, answered) => {
      const window = new Inflights(10, 500)
      for (const [n, size] of sizes.entries()) window.add(n + 1, size)
      window.freeTo(answered)
      const left = sizes.slice(answered)
      const full = left.length >= 10 || left.reduce((sum, size) => sum + size, 0) >= 500
      return window.count === left.length && window.full === full
    }),
  )
})

t.test('the checker of histories accepts what one register did, and no read from the past', async (t) => {
  const write = (value: string, called: number, returned: number) =>
    ({ operation: { kind: 'write', value }, called, returned, found: undefined }) as const
  const read = (found: string, called: number, returned: number) =>
    ({ operation: { kind: 'read' }, called, returned, found }) as const
  const swap = (expected: string, value: string, found: string | undefined, called: number, returned: number) =>
    ({ operation: { kind: 'swap', expected, value }, called, returned, found }) as const
  t.ok(isLinearizable([write('a', 0, 1), read('a', 2, 3)]))
  t.notOk(isLinearizable([write('a', 0, 1), read('', 2, 3)]), 'stale')
  t.ok(isLinearizable([write('a', 0, 3), read('', 1, 2)]), 'not there yet')
  t.notOk(isLinearizable([write('a', 0, 5), read('a', 1, 2), read('', 3, 4)]), 'seen, then not')
  t.ok(isLinearizable([write('a', 0, Infinity), read('', 1, 2), read('a', 3, 4)]), 'an unknown one may come late')
  t.notOk(isLinearizable([write('a', 0, Infinity), read('a', 1, 2), read('', 3, 4)]), 'but not go again')
  t.notOk(isLinearizable([read('a', 0, 1), write('a', 2, 3)]), 'from the future')
  t.ok(isLinearizable([write('a', 0, 1), swap('a', 'b', 'a', 2, 3), read('b', 4, 5)]))
  t.notOk(
    isLinearizable([write('a', 0, 1), swap('a', 'b', 'a', 2, 3), swap('a', 'c', 'a', 2, 4)]),
    'two swaps of one value',
  )
  t.ok(
    isLinearizable([write('a', 0, Infinity), swap('a', 'b', undefined, 1, Infinity), read('b', 2, 3)]),
    'seen through a swap',
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('read', 'write', 'swap'), fc.nat(6), fc.nat(6)), { maxLength: 40 }),
      (script) => {
        // One copy executes them in the order of `at`; calls and returns lie around it.
        let value = ''
        const history = script.map(([kind, before, after], n) => {
          const at = 10 * n
          const times = [at - before * 4, at + after * 4 + 1] as const
          const found = value
          if (kind === 'read') return read(found, ...times)
          if (kind === 'write') {
            value = `v${n}`
            return write(value, ...times)
          }
          const expected = n % 2 ? value : 'other'
          if (expected === value) value = `v${n}`
          return swap(expected, `v${n}`, found, ...times)
        })
        return isLinearizable(history)
      },
    ),
  )
})
