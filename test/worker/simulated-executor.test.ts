import t from 'tap'
import type { Task } from '../../src/api/objects.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { type Behaviour, SimulatedEngine } from '../../src/worker/simulated-engine.ts'
import { SimulatedExecutor } from '../../src/worker/simulated-executor.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { executorConformance, type Fixture } from './executor-conformance.ts'
import { makeTask } from './task-factory.ts'

const BEHAVIOURS: Readonly<Record<Fixture, Behaviour>> = {
  steady: {},
  'exits-0': { exit: { afterMs: 30, code: 0 } },
  'exits-3': { exit: { afterMs: 30, code: 3 } },
  prints: { output: ['one', 'two'], exit: { afterMs: 500, code: 0 } },
  'no-image': { imageMissing: true },
  'start-fails': { startError: 'no such file' },
  'turns-healthy': { health: [{ afterMs: 300, verdict: 'healthy' }] },
  'turns-unhealthy': { health: [{ afterMs: 300, verdict: 'unhealthy' }], stop: { afterMs: 5, code: 143 } },
  stubborn: { stop: { afterMs: 60_000, code: 0 } },
  'slow-pull': { pullMs: 60_000 },
}

t.test('the simulated executor does what every executor does', async (t) => {
  const clock = new VirtualClock()
  const random = new SeededRandom(7)
  const engine = new SimulatedEngine({
    clock,
    description: { Hostname: 'host1' },
    behaviour: (task: Task) => BEHAVIOURS[(task.spec.ContainerSpec?.Image ?? 'steady') as Fixture],
  })
  await executorConformance(t, {
    executor: new SimulatedExecutor({ engine, clock }),
    clock,
    task: (fixture) => makeTask({ id: random.id(), spec: { ContainerSpec: { Image: fixture, StopGracePeriod: 1e9 } } }),
    until: (condition, what) => clock.until(condition, 120_000, what),
    wait: (promise, what) => clock.wait(promise, 120_000, what),
    elapse: (durationMs) => clock.advance(durationMs),
  })
})
