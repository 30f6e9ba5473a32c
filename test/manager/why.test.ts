// `swarmctl why`, from the store alone: what the loops did in a cluster on virtual time is told again in words.

import t from 'tap'
import type { WhyJson } from '../../src/api/why.ts'
import { needsMap, why } from '../../src/manager/control/why.ts'
import { whySubject } from '../../src/manager/control/why-subject.ts'
import { ClusterMap } from '../../src/manager/scheduler/cluster-map.ts'
import { aTask, statusOf } from '../support/objects.ts'
import { nanos, replicatedSpec, SmallCluster, withImage } from './support/small-cluster.ts'

function ask(cluster: SmallCluster, of: string, limit = 8): WhyJson {
  const subject = whySubject(cluster.store, of)
  const map = new ClusterMap()
  for (const _ of map.build(cluster.store)) void _
  const needed = needsMap(cluster.store, subject) ? map : undefined
  return why(cluster.store, subject, needed, { nowMs: cluster.clock.wallMs(), limit })
}

const lines = ({ Because }: WhyJson): string => Because.join('\n')
const told = ({ History }: WhyJson): string => History.map(({ By, Task, What }) => `${By}: ${Task}: ${What}`).join('\n')

t.test('a task keeps what the scheduler chose from', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 4 })
  await cluster.setAvailability('n4', 'drain')
  await cluster.changeNode('n1', ({ spec }) => ({ spec: { ...spec, Labels: { disk: 'ssd' } } }))
  await cluster.changeNode('n2', ({ spec }) => ({ spec: { ...spec, Labels: { disk: 'ssd' } } }))
  const Placement = { Constraints: ['node.labels.disk==ssd'] }
  await cluster.create('web', replicatedSpec(2, { TaskTemplate: { ...withImage({}, 'ok'), Placement } }))
  await cluster.untilRunning('web', 2)
  const [task] = cluster.running('web')
  t.match(task!.placement, { nodes: 4, fit: 2, there: 0 })
  t.ok(JSON.stringify(task!.placement).length <= 200, 'small')
  const answer = ask(cluster, task!.id)
  t.match(answer, { Kind: 'task', Name: `web.${task!.slot}`, Now: /^running on node n[12] since 2026-/ })
  t.notOk(answer.Placement, 'it has a node')
  t.match(
    lines(answer),
    /placed on n[12]: 4 nodes considered, 2 refused \(.*constraints not satisfied on 1 node.*\); it had no task of the service/,
  )
  t.match(told(answer), /orchestrator: web\.\d: made because slot \d was empty\nscheduler: web\.\d: placed on n/)
  t.match(told(answer), /node n[12]: web\.\d: running$/)
  await cluster.stop()
})

t.test(
  'a task that fits nowhere names the filter that refuses each node, and what exactly is in the way',
  async (t) => {
    const cluster = await SmallCluster.start({ nodes: 3 })
    await cluster.setAvailability('n3', 'pause')
    await cluster.changeNode('n2', ({ spec }) => ({ spec: { ...spec, Labels: { disk: 'ssd' } } }))
    const TaskTemplate = {
      ...withImage({}, 'ok'),
      Placement: { Constraints: ['node.labels.disk==ssd'] },
      Resources: { Reservations: { NanoCPUs: 9e9 } },
    }
    await cluster.create('web', replicatedSpec(2, { TaskTemplate }))
    await cluster.until(() => cluster.tasks('web').some((task) => task.status.error !== ''), 'a refusal')
    const writes = cluster.store.index
    const answer = ask(cluster, 'web')
    t.match(answer, {
      Now: '0 running of 2',
      Placement: {
        Waiting: 2,
        Nodes: 3,
        Fit: 0,
        Candidates: [
          { Hostname: 'n1', Reason: 'insufficient resources', Detail: '9 CPUs wanted, 4 not reserved' },
          { Hostname: 'n2', Reason: 'insufficient resources' },
          { Hostname: 'n3', Reason: 'not available for new tasks', Detail: 'its availability is pause' },
        ],
      },
    })
    t.match(
      lines(answer),
      /2 of its tasks wait for a node; no node will do: 3 nodes considered; refused: 2 insufficient/,
    )
    t.match(ask(cluster, 'web.1'), { Kind: 'task', Name: 'web.1', Placement: { Waiting: 1, Fit: 0 } })
    t.match(lines(ask(cluster, 'n3')), /it was paused: it keeps its tasks and gets no new ones/)
    t.match(lines(ask(cluster, 'n2')), /not chosen for 2 waiting tasks of service web: insufficient resources \(9 CPUs/)
    const small = { ...TaskTemplate, Resources: {} }
    await cluster.create(
      'small',
      replicatedSpec(1, { TaskTemplate: { ...small, Placement: { Constraints: ['node.labels.disk==hdd'] } } }),
    )
    await cluster.until(() => cluster.tasks('small').some((task) => task.status.error !== ''), 'a refusal')
    t.match(ask(cluster, 'small').Placement?.Candidates, [
      { Reason: 'scheduling constraints not satisfied', Detail: 'node.labels.disk==hdd: the node has none' },
      { Detail: 'node.labels.disk==hdd: the node has ssd' },
      { Hostname: 'n3' },
    ])
    t.ok(writes > 0 && cluster.log.refused === 0)
    await cluster.stop()
  },
)

t.test('a restart says what triggered it and until when it waits; a policy that is used up says so', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const RestartPolicy = { Delay: nanos(20_000), MaxAttempts: 1 }
  await cluster.create('web', replicatedSpec(1, { TaskTemplate: { ...withImage({}, 'crash=500'), RestartPolicy } }))
  await cluster.until(() => cluster.tasks('web').length === 2, 'a restart')
  const waiting = ask(cluster, 'web')
  t.match(lines(waiting), /web\.1 is being restarted: task \w+ failed: task: non-zero exit \(1\)/)
  t.match(waiting.Waits, [{ For: 'the start of web.1 (restart delay)', Until: /^2026-/ }])
  const untilMs = Date.parse(waiting.Waits[0]!.Until.slice(0, 23)) - cluster.clock.wallMs()
  t.ok(untilMs > 18_000 && untilMs <= 20_000, `in ${untilMs} ms`)
  const first = cluster.tasks('web').find((task) => task.origin?.kind === 'replica')!
  t.match(lines(ask(cluster, first.id)), /task \w+ took over from it/)
  t.match(told(waiting), /restart supervisor: web\.1: made because task \w+ failed.*; to start after 2026-/)
  await cluster.until(() => cluster.tasks('web').every((task) => task.status.state === 'failed'), 'two failures')
  await cluster.clock.advance(1_000)
  const rests = ask(cluster, 'web')
  t.match(
    lines(rests),
    /web\.1 failed \(task: non-zero exit \(1\)\) and is not restarted: .* allows 1 restart, and they are used up/,
  )
  t.same(rests.Waits, [])
  t.match(lines(ask(cluster, 'web.1')), /nobody follows: the restart policy allows 1 restart/)
  await cluster.stop()
})

t.test('an update tells what it changed, what its next step waits for, and what paused it', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const UpdateConfig = { Parallelism: 1, Monitor: nanos(1_000), Delay: nanos(30_000) }
  await cluster.create('web', replicatedSpec(2, { UpdateConfig, image: 'ok:v=1' }))
  await cluster.untilRunning('web', 2)
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilRunning('web', 1, 'ok:v=2')
  await cluster.clock.advance(1_000)
  const delayed = ask(cluster, 'web', 20)
  t.match(delayed.Now, /^2 running of 2; update in progress$/)
  t.match(lines(delayed), /1 of 2 tasks are of another version; stop-first, 1 at a time/)
  t.match(delayed.Waits, [{ For: /^the update's next slot \(delay after web\.\d\)$/, Until: /^2026-/ }])
  t.match(told(delayed), /updater: web\.\d: made by the update for task \w+: Image ok:v=1 → ok:v=2/)
  t.match(told(delayed), /orchestrator: web\.\d: stopped: task \w+ takes over \(update\)/)
  t.match(told(delayed), /updater: : update begun: the spec was changed/)
  await cluster.setImage('web', 'broken:v=3')
  await cluster.untilUpdate('web', 'paused')
  const paused = ask(cluster, 'web')
  t.match(paused.Now, /update paused due to failure or early termination of task/)
  t.match(lines(paused), /web\.\d \(task \w+\) failed on node n\d: task: non-zero exit/)
  t.match(lines(paused), /goes on with the next update or rollback/)
  t.equal(paused.History.length, 8, 'no more than was asked for')
  await cluster.changeService('web', ({ spec }) => ({
    spec: { ...spec, Labels: { 'io.swarmctl.update.progress-deadline': '1m' } },
  }))
  await cluster.setImage('web', 'ok:v=4:start=3600000')
  await cluster.clock.advance(20_000)
  t.match(ask(cluster, 'web').Waits, [{ For: /^web\.\d to run \(progress deadline\)$/ }])
  await cluster.untilUpdate('web', 'paused')
  const late = ask(cluster, 'web')
  t.match(late.Now, /update paused as task \w+ did not run within 60s/)
  t.match(lines(late), /web\.\d \(task \w+\) starting on node/)
  await cluster.stop()
})

t.test('a node that is down or drained says so, and what it lost', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2))
  await cluster.untilRunning('web', 2)
  await cluster.takeDown('n1')
  await cluster.until(() => cluster.tasks('web').filter((task) => task.nodeId === 'n2').length === 2, 'a move')
  await cluster.clock.advance(1_000)
  const down = ask(cluster, 'n1', 20)
  t.match(down.Now, /^down, availability active/)
  t.match(lines(down), /no heartbeat came from it since 2026-.*: its tasks are replaced elsewhere/)
  t.match(told(down), /manager: : went down/)
  t.match(told(down), /told to stop: task \w+ takes over/)
  const moved = cluster.tasks('web').find((task) => task.origin?.kind === 'restart')!
  t.match(lines(ask(cluster, moved.id)), /made because node n1 is down/)
  await cluster.setAvailability('n2', 'drain')
  t.match(lines(ask(cluster, 'n2')), /it was drained: its tasks move elsewhere/)
  await cluster.stop()
})

t.test('tasks of a global service wait for their own nodes; a job tells what it has done', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  await cluster.changeNode('n3', ({ description }) => ({
    description: { ...description, Resources: { NanoCPUs: 9e9 } },
  }))
  const Resources = { Reservations: { NanoCPUs: 5e9 } }
  await cluster.create('agent', { TaskTemplate: { ...withImage({}, 'ok'), Resources }, Mode: { Global: {} } })
  await cluster.untilRunning('agent', 1)
  await cluster.clock.advance(1_000)
  const agent = ask(cluster, 'agent')
  t.match(agent.Placement, { Waiting: 2, Nodes: 2, Fit: 0, Candidates: [{ Hostname: 'n1' }, { Hostname: 'n2' }] })
  t.match(agent.Now, /^1 running of one on each node/)
  t.match(ask(cluster, 'agent.n1').Placement, { Waiting: 1, Nodes: 1 })
  const Mode = { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 3 } }
  const jobStatus = { iteration: 0, lastExecution: '' }
  await cluster.create('job', { TaskTemplate: withImage({}, 'exit=500'), Mode }, { jobStatus })
  await cluster.until(() => cluster.tasks('job').some((task) => task.slot === 2), 'the second run')
  t.match(ask(cluster, 'job').Now, /^1 completed of 3/)
  t.match(lines(ask(cluster, 'job.1')), /nobody follows: the job has done it\nmade for run 1 of the job/)
  await cluster.stop()
})

t.test('names: ids, their beginnings, slots, hosts; what is ambiguous or unknown is refused', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('n1', replicatedSpec(1))
  await cluster.create('agent', { TaskTemplate: withImage({}, 'ok'), Mode: { Global: {} } })
  await cluster.untilRunning('agent', 2)
  const { store } = cluster
  const [task] = cluster.running('agent')
  const of = (input: string, kind?: 'task' | 'service' | 'node') => whySubject(store, input, kind)
  t.equal(of(task!.id).id, task!.id)
  t.equal(of(task!.id.slice(0, 12)).id, task!.id)
  t.equal(of(`agent.${task!.nodeId}`).id, task!.id)
  t.equal(of('n1.1').kind, 'task')
  t.equal(of('n1').kind, 'service', 'an id of both kinds: the service, and --type for the node')
  t.equal(of('n1', 'node').kind, 'node')
  await cluster.write([
    { kind: 'create', object: aTask('zzz1', 'agent', { status: statusOf('shutdown'), desiredState: 'shutdown' }) },
    { kind: 'create', object: aTask('zzz2', 'agent', { status: statusOf('shutdown'), desiredState: 'shutdown' }) },
  ])
  t.throws(() => of('zzz'), { code: 'AMBIGUOUS', message: /ambiguous \(2 matches found: task zzz1, task zzz2\)/ })
  t.throws(() => of('nope'), { code: 'NO_SUCH_OBJECT', message: 'task, service or node nope not found' })
  t.throws(() => of('agent', 'node'), { code: 'NO_SUCH_OBJECT' })
  t.throws(() => of(''), { code: 'NO_SUCH_OBJECT' })
  await cluster.stop()
})
