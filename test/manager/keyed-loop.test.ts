// The generic loop: what it promises to every controller that it drives.

import t from 'tap'
import { CodedError } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import type { Controller, Decision, Problem } from '../../src/manager/loop/controller.ts'
import { KeyedLoop } from '../../src/manager/loop/keyed-loop.ts'
import { packChanges } from '../../src/manager/loop/pack-changes.ts'
import { TurnBudget } from '../../src/manager/loop/turn-budget.ts'
import { Store } from '../../src/manager/store/store.ts'
import type { Change, StoreEvent, Transaction } from '../../src/manager/store/types.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { aConfig, aTask } from '../support/objects.ts'

/** A transaction that names its key. */
function mark(key: string): Transaction {
  return [{ kind: 'remove', objectKind: 'config', id: key }]
}

interface Proposed {
  readonly key: string
  resolve(): void
  reject(error: unknown): void
}

/** A loop whose controller does what the test says and whose proposals wait for the test to answer them. */
class Rig {
  readonly clock = new VirtualClock()
  readonly store = new Store()
  readonly looks: string[] = []
  readonly reports: (readonly [string, Problem | undefined])[] = []
  readonly proposals: Proposed[] = []
  readonly controller: Controller
  readonly loop: KeyedLoop
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined
  #index = 0
  keys: readonly string[] = []
  follow: (event: StoreEvent) => readonly string[] = (event) => [event.id]
  decide: (key: string) => Decision = (key) => ({ transactions: [mark(key)] })

  constructor() {
    this.controller = {
      name: 'test',
      start: () => this.keys,
      affected: (event) => this.follow(event),
      reconcile: (_view, key) => {
        this.looks.push(key)
        return this.decide(key)
      },
      report: (_view, key, problem) => {
        this.reports.push([key, problem])
        return undefined
      },
    }
    const { clock, store, controller } = this
    this.loop = new KeyedLoop({
      controller,
      view: store,
      subscribe: (listener) => store.subscribe(listener),
      proposer: { propose: (transaction) => this.#propose(transaction) },
      clock,
      random: new SeededRandom(1),
      log: silentLog,
      budget: new TurnBudget(clock),
    })
  }

  #propose([change]: Transaction): Promise<number> {
    return new Promise((resolve, reject) => {
      const key = change?.kind === 'remove' ? change.id : ''
      this.proposals.push({ key, resolve: () => resolve(1), reject })
    })
  }

  async run(keys: readonly string[]): Promise<void> {
    this.keys = keys
    this.#running = this.loop.run({ signal: this.#stop.signal })
    await this.clock.advance(1)
  }

  /** An event about `key`. */
  async touch(key: string): Promise<void> {
    const exists = this.store.get('config', key)
    const change: Change = exists
      ? { kind: 'update', object: exists, expectedVersion: exists.meta.version }
      : { kind: 'create', object: aConfig(key) }
    this.store.apply(++this.#index, 0, [[change]])
    await this.clock.advance(1)
  }

  async answer(at: number, error?: unknown): Promise<void> {
    if (error === undefined) this.proposals[at]!.resolve()
    else this.proposals[at]!.reject(error)
    await this.clock.advance(1)
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    for (const { reject } of this.proposals) reject(new CodedError('NOT_LEADER', 'not the leader'))
    await this.clock.wait(this.#running!, 1_000, 'the loop')
  }
}

t.test('a new leader looks at every key once, in order', async (t) => {
  const rig = new Rig()
  rig.decide = () => ({ transactions: [] })
  await rig.run(['c', 'a', 'b', 'a'])
  t.same(rig.looks, ['a', 'b', 'c'])
  await rig.touch('b')
  t.same(rig.looks, ['a', 'b', 'c', 'b'])
  await rig.stop()
})

t.test('a key rests while its proposal is under way; others go on; what it missed it sees afterwards', async (t) => {
  const rig = new Rig()
  await rig.run(['a', 'b'])
  t.same(
    rig.proposals.map(({ key }) => key),
    ['a', 'b'],
    'both are under way',
  )
  await rig.touch('a')
  await rig.touch('a')
  t.same(rig.looks, ['a', 'b'])
  await rig.answer(0)
  t.same(rig.looks, ['a', 'b', 'a'])
  await rig.answer(1)
  t.same(rig.looks, ['a', 'b', 'a'], 'nobody touched b')
  await rig.stop()
})

t.test('a refusal means deciding again at once, then with growing pauses', async (t) => {
  const rig = new Rig()
  await rig.run(['a'])
  const refusal = new CodedError('OUT_OF_SEQUENCE', 'update out of sequence')
  await rig.answer(0, refusal)
  t.equal(rig.looks.length, 2)
  const pauses: number[] = []
  for (let at = 1; at < 8; at++) {
    const from = rig.clock.nowMs()
    await rig.answer(at, refusal)
    await rig.clock.until(() => rig.looks.length === at + 2, 10_000)
    pauses.push(rig.clock.nowMs() - from)
  }
  t.ok(pauses.at(-1)! > 10 * pauses[0]!, `pauses ${pauses.join(', ')}`)
  t.same(rig.reports, [], 'it is a race, not a problem')
  await rig.stop()
})

t.test(
  'an error that no retry heals is shown, and the key tried again when something changes or after a minute',
  async (t) => {
    const rig = new Rig()
    await rig.run(['a', 'b'])
    await rig.answer(0, new CodedError('TRANSACTION_TOO_LARGE', 'too large'))
    t.match(rig.loop.problems().get('a'), { code: 'TRANSACTION_TOO_LARGE', message: 'too large' })
    t.match(rig.reports, [['a', { code: 'TRANSACTION_TOO_LARGE' }]])
    await rig.answer(1)
    await rig.touch('b')
    t.equal(rig.looks.filter((key) => key === 'b').length, 2, 'others go on')
    await rig.clock.advance(59_000)
    t.equal(rig.looks.filter((key) => key === 'a').length, 1)
    await rig.clock.advance(1_500)
    t.equal(rig.looks.filter((key) => key === 'a').length, 2)
    await rig.answer(rig.proposals.length - 1)
    t.equal(rig.loop.problems().size, 0)
    t.match(rig.reports.at(-1), ['a', undefined])
    await rig.stop()
  },
)

t.test('a controller that throws loses that one key, visibly', async (t) => {
  const rig = new Rig()
  rig.decide = (key) => {
    if (key === 'b') throw new Error('broken invariant')
    return { transactions: [] }
  }
  await rig.run(['a', 'b', 'c'])
  t.same(rig.looks, ['a', 'b', 'c'])
  t.match(rig.loop.problems().get('b'), { code: 'INTERNAL', message: 'broken invariant' })
  rig.decide = () => ({ transactions: [] })
  await rig.touch('b')
  t.equal(rig.loop.problems().size, 0)
  await rig.stop()
})

t.test(
  'an event that a controller can not follow does not disturb the store: everything is looked at again',
  async (t) => {
    const rig = new Rig()
    rig.decide = () => ({ transactions: [] })
    await rig.run(['a', 'b'])
    rig.follow = () => {
      rig.follow = (event) => [event.id]
      throw new Error('broken invariant')
    }
    await rig.touch('c')
    t.same(rig.looks, ['a', 'b', 'a', 'b'])
    await rig.touch('c')
    t.same(rig.looks, ['a', 'b', 'a', 'b', 'c'])
    await rig.stop()
  },
)

t.test('a key is looked at again at the time that it asked for, by the wall clock', async (t) => {
  const rig = new Rig()
  const dueMs = rig.clock.wallMs() + 90_000
  rig.decide = () => ({ transactions: [], ...(rig.clock.wallMs() < dueMs ? { requeueAtMs: dueMs } : {}) })
  await rig.run(['a'])
  await rig.clock.advance(89_900)
  t.equal(rig.looks.length, 1)
  await rig.clock.advance(200)
  t.equal(rig.looks.length, 2)
  await rig.clock.advance(200_000)
  t.equal(rig.looks.length, 2)
  await rig.stop()
})

t.test('proposals under way are bounded', async (t) => {
  const rig = new Rig()
  await rig.run(Array.from({ length: 300 }, (_, at) => `k${at}`))
  t.equal(rig.proposals.length, 256)
  await rig.answer(0)
  t.equal(rig.proposals.length, 257)
  t.same(rig.loop.depth(), { queued: 43, inFlight: 256 })
  await rig.stop()
})

t.test(
  'when the leadership is lost the loop ends, after its proposals have been answered, and hears nothing more',
  async (t) => {
    const rig = new Rig()
    await rig.run(['a'])
    await rig.stop()
    await rig.touch('a')
    await rig.clock.advance(120_000)
    t.same(rig.looks, ['a'])
  },
)

t.test('loops that share a budget leave the event loop its turns, and none starves', async (t) => {
  const turns: string[][] = [[]]
  const clock = new VirtualClock()
  let workedMs = 0
  const budget = new TurnBudget({
    nowMs: () => workedMs,
    wallMs: () => workedMs,
    setTimer: (_delayMs, fire) =>
      clock.setTimer(0, () => {
        turns.push([])
        fire()
      }),
  })
  const loop = async (name: string) => {
    for (let left = 20; left > 0; ) {
      await budget.turn()
      for (; left > 0 && budget.hasTime(); left--) {
        turns.at(-1)!.push(name)
        workedMs += 3
      }
    }
  }
  await clock.wait(Promise.all([loop('a'), loop('b'), loop('c')]), 1_000)
  t.ok(
    turns.every((worked) => worked.length <= 3),
    'at most 9 ms of work between two turns of the event loop',
  )
  const firstHalf = turns.flat().slice(0, 30)
  for (const name of ['a', 'b', 'c']) t.ok(firstHalf.filter((one) => one === name).length >= 6, `${name} had its share`)
})

t.test('changes that belong together share a transaction, and no transaction is larger than an entry', (t) => {
  const unit = (n: number): readonly Change[] => [
    { kind: 'create', object: aTask(`t${n}`, 's') },
    { kind: 'remove', objectKind: 'task', id: `old${n}` },
    { kind: 'remove', objectKind: 'task', id: `older${n}` },
  ]
  const packed = packChanges(Array.from({ length: 100 }, (_, n) => unit(n)))
  t.same(
    packed.map((transaction) => transaction.length),
    [198, 102],
  )
  const spec = { ContainerSpec: { Env: ['x'.repeat(100_000)] } }
  const large = Array.from({ length: 20 }, (_, n): readonly Change[] => [
    { kind: 'create', object: aTask(`t${n}`, 's', { spec }) },
  ])
  t.same(
    packChanges(large).map((transaction) => transaction.length),
    [5, 5, 5, 5],
  )
  t.same(packChanges([]), [])
  t.end()
})
