// Progress: what becomes of readings of a service's tasks, on terminals of several sizes and in a pipe.

import t from 'tap'
import type { ServiceJson, TaskJson } from '../../src/cli/api-types.ts'
import type { Context } from '../../src/cli/command.ts'
import { ProgressDisplay } from '../../src/cli/output/progress-display.ts'
import { progressTracker } from '../../src/cli/service/progress.ts'
import { waitForService } from '../../src/cli/service/wait.ts'

const ESCAPE = '\x1b'

const task = (slot: number, state: string, more: Partial<TaskJson> = {}): TaskJson =>
  ({
    ID: `t${slot}${state}`,
    Slot: slot,
    NodeID: 'n1',
    DesiredState: 'running',
    Status: { State: state },
    ...more,
  }) as TaskJson
const service = (mode: object, more: object = {}): ServiceJson =>
  ({ ID: 's', Spec: { Mode: mode }, ...more }) as ServiceJson

function drawn(serviceJson: ServiceJson, readings: readonly (readonly TaskJson[])[], isTTY = false): string {
  let text = ''
  const display = new ProgressDisplay({ write: (chunk) => (text += chunk), isTTY, columns: 80 })
  const tracker = progressTracker(serviceJson)!
  for (const tasks of readings) {
    const step = tracker.next({ service: serviceJson, tasks, activeNodes: new Set(['n1']), rollback: false })
    for (const line of step.lines) display.update(line)
  }
  return text
}

t.test('in a pipe, progress is plain lines, each once', async (t) => {
  const text = drawn(service({ Replicated: { Replicas: 2 } }), [
    [task(1, 'preparing')],
    [task(1, 'running'), task(2, 'starting')],
    [task(1, 'running'), task(2, 'starting')],
    [task(1, 'running'), task(2, 'running')],
  ])
  t.equal(
    text,
    [
      'overall progress: 0 out of 2 tasks',
      '1/2:  ',
      '2/2:  ',
      'overall progress: 1 out of 2 tasks',
      'overall progress: 2 out of 2 tasks',
      '',
    ].join('\n'),
  )
})

t.test('a failed task shows its error on its line', async (t) => {
  const failed = task(1, 'failed', {
    DesiredState: 'shutdown',
    Status: { State: 'failed', Err: 'task: non-zero exit (1)' },
  })
  t.match(drawn(service({ Replicated: { Replicas: 1 } }), [[failed]]), /^1\/1: task: non-zero exit \(1\)$/m)
})

t.test('on a terminal, each task has a line that is rewritten in place', async (t) => {
  const text = drawn(service({ Replicated: { Replicas: 1 } }), [[task(1, 'running')]], true)
  t.equal(
    text,
    '\n\x1b[1A\x1b[2K\roverall progress: 0 out of 1 tasks \r\x1b[1B' +
      '\n\x1b[1A\x1b[2K\r1/1:   \r\x1b[1B' +
      '\x1b[1A\x1b[2K\r1/1: running   \r\x1b[1B' +
      '\x1b[2A\x1b[2K\roverall progress: 1 out of 1 tasks \r\x1b[2B',
  )
})

/** What a terminal of this size shows in the end, its lines without trailing blanks. */
function shown(width: number, height: number, draw: (display: ProgressDisplay, terminal: Screen) => void): string[] {
  const terminal = new Screen(width, height)
  draw(new ProgressDisplay(terminal), terminal)
  return terminal.lines()
}

const PART = new RegExp(`${ESCAPE}\\[(\\d+)([ABK])|[\\s\\S]`, 'g')

/** As much of a terminal as progress uses: lines that wrap and scroll, the cursor up and down, a line erased. */
class Screen {
  readonly isTTY = true
  columns: number
  readonly rows: number
  readonly #cells: string[][] = [[]]
  #top = 0
  #row = 0
  #column = 0

  constructor(columns: number, rows: number) {
    this.columns = columns
    this.rows = rows
  }

  lines(): string[] {
    return this.#cells.map((cells) => cells.join('').trimEnd())
  }

  write(text: string): void {
    for (const [part, count, what] of text.matchAll(PART)) {
      if (what === 'A') this.#row = Math.max(this.#top, this.#row - Number(count))
      else if (what === 'B') this.#row = Math.min(this.#top + this.rows - 1, this.#row + Number(count))
      else if (what === 'K') this.#line().splice(0)
      else if (part === '\r') this.#column = 0
      else if (part === '\n') this.#next()
      else {
        if (this.#column === this.columns) this.#next()
        const line = this.#line()
        while (line.length < this.#column) line.push(' ')
        line[this.#column++] = part
      }
    }
  }

  #line(): string[] {
    while (this.#cells.length <= this.#row) this.#cells.push([])
    return this.#cells[this.#row]!
  }

  #next(): void {
    this.#column = 0
    this.#row++
    this.#top = Math.max(this.#top, this.#row - this.rows + 1)
    this.#line()
  }
}

t.test('a line that would wrap is cut, so that the next one is drawn over it', async (t) => {
  const lines = shown(40, 24, (display) => {
    for (const seconds of [5, 4, 3]) {
      display.update({ id: '1/1', action: 'running'.padEnd(10), current: 9, total: 9, hideCounts: true })
      const action = `Waiting ${seconds} seconds to verify that tasks are stable...`
      display.update({ id: 'verify', action })
    }
    display.update({ id: 'shop_a-service-with-a-long-name', action: '2 out of 3 tasks - no suitable node' })
    display.message('done')
  })
  t.same(lines, [
    '1/1: running',
    'verify: Waiting 3 seconds to verify tha…',
    'shop_a-service-with…: 2 out of 3 tasks …',
    'done',
    '',
  ])
})

t.test('a line that has scrolled away is written anew, once for each change', async (t) => {
  const lines = shown(80, 4, (display) => {
    for (let i = 1; i <= 6; i++) display.update({ id: `s${i}`, action: '0/1' })
    for (let times = 0; times < 3; times++) {
      display.update({ id: 's1', action: '1/1' })
      display.update({ id: 's6', action: '1/1' })
    }
  })
  t.same(lines, ['s1: 0/1', 's2: 0/1', 's3: 0/1', 's4: 0/1', 's5: 0/1', 's6: 1/1', 's1: 1/1', ''])
})

t.test('what was drawn before the window became narrower is left as it is', async (t) => {
  const lines = shown(80, 24, (display, terminal) => {
    display.update({ id: 'a', action: '0/1' })
    terminal.columns = 40
    display.update({ id: 'a', action: '1/1' })
  })
  t.same(lines, ['a: 0/1', 'a: 1/1', ''])
})

t.test('tasks on nodes that are down do not count', async (t) => {
  const tracker = progressTracker(service({ Replicated: { Replicas: 1 } }))!
  const reading = { service: service({ Replicated: { Replicas: 1 } }), rollback: false }
  const lost = { ...task(1, 'running'), NodeID: 'n2' }
  t.notOk(tracker.next({ ...reading, tasks: [lost], activeNodes: new Set(['n1']) }).converged)
  t.ok(tracker.next({ ...reading, tasks: [lost], activeNodes: new Set(['n2']) }).converged)
})

t.test('a job is done when all of this iteration is complete', async (t) => {
  const job = service(
    { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } },
    { JobStatus: { JobIteration: { Index: 5 } } },
  )
  const tracker = progressTracker(job)!
  const step = (tasks: readonly TaskJson[]) =>
    tracker.next({ service: job, tasks, activeNodes: new Set(['n1']), rollback: false })
  const of = (slot: number, state: string, index: number) => task(slot, state, { JobIteration: { Index: index } })
  t.notOk(step([of(0, 'complete', 4), of(1, 'complete', 4)]).converged)
  const half = step([of(0, 'complete', 5), of(1, 'running', 5)])
  t.same(
    half.lines.slice(-2).map(({ action }) => action),
    ['1 out of 2 complete', '1 out of 1 tasks'],
  )
  t.ok(step([of(0, 'complete', 5), of(1, 'complete', 5)]).converged)
})

t.test('a global job waits for the nodes it began with', async (t) => {
  const job = service({ GlobalJob: {} }, { JobStatus: { JobIteration: { Index: 0 } } })
  const tracker = progressTracker(job)!
  const step = (tasks: readonly TaskJson[]) =>
    tracker.next({ service: job, tasks, activeNodes: new Set(['n1', 'n2']), rollback: false })
  const on = (node: string, state: string) => task(0, state, { NodeID: node, JobIteration: { Index: 0 } })
  t.same(step([]).lines, [{ id: 'job progress', action: 'waiting for tasks' }])
  t.notOk(step([on('n1', 'running')]).converged)
  t.ok(step([on('n1', 'complete'), on('n2', 'running')]).converged)
})

/** A wait that reads these in turn, and the last one from then on; time passes only while it pauses. */
function waiting(readings: readonly { readonly state: string; readonly tasks: readonly TaskJson[] }[]): Promise<void> {
  let at = 0
  let nowMs = 0
  const json = async (_method: string, path: string) => {
    const { state, tasks } = readings[Math.min(at, readings.length - 1)]!
    if (path === '/tasks') return tasks
    if (path === '/nodes') {
      at++
      return [{ ID: 'n1', Status: { State: 'ready' } }]
    }
    return service({ Replicated: { Replicas: 1 } }, { UpdateStatus: { State: state, Message: `it is ${state}` } })
  }
  const context = {
    stdout: { write: () => true },
    client: async () => ({ json }),
    interrupted: () => new AbortController().signal,
    clock: {
      nowMs: () => nowMs,
      setTimer: (delayMs: number, fire: () => void) => {
        nowMs += delayMs
        queueMicrotask(fire)
        return { cancel: () => {} }
      },
    },
  }
  return waitForService(context as unknown as Context, 's', { quiet: true })
}

t.test('an update that is rolled back is no success, also where the old tasks have run all the while', async (t) => {
  const running = [task(1, 'running')]
  const wanted = { message: 'service update rolled back: it is rollback_started' }
  await t.rejects(
    waiting([
      { state: 'updating', tasks: [task(1, 'starting')] },
      { state: 'rollback_started', tasks: running },
      { state: 'rollback_completed', tasks: running },
    ]),
    wanted,
  )
  await t.rejects(
    waiting([
      { state: 'updating', tasks: [task(1, 'starting')] },
      { state: 'rollback_started', tasks: [task(1, 'starting')] },
      { state: 'rollback_completed', tasks: running },
    ]),
    wanted,
  )
  await t.resolves(
    waiting([
      { state: 'updating', tasks: [task(1, 'starting')] },
      { state: 'completed', tasks: running },
    ]),
  )
})
