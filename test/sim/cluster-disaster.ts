// The end of a cluster's majority, and what its people do then: `swarm init --force-new-cluster` on one manager that is left, the
// records of lost nodes removed, machines joined anew. A manager that comes back from the old cluster finds that it is a worker.

import type { SeededRandom } from '../../src/lib/random.ts'
import { removeNode } from '../../src/manager/control/nodes.ts'
import type { SimMachine } from './cluster-machine.ts'
import type { OperatorContext } from './cluster-operator.ts'
import { ClusterViolation } from './cluster-violation.ts'

/** For so long at most the others are ahead of the one that is left. */
const AHEAD_MS = 6_000
const ALONE_MS = 10_000
const LIMIT_MS = 120_000

export interface DisasterOptions {
  readonly machines: readonly SimMachine[]
  readonly random: SeededRandom
  readonly advance: (durationMs: number) => Promise<void>
  readonly until: (condition: () => boolean, limitMs: number, what: string) => Promise<void>
  readonly trace: (host: string, what: string) => void
  readonly cut: (a: SimMachine, b: SimMachine) => void
  /** The storm is over. */
  readonly heal: () => void
  /** A cluster begins with the state of one manager; whatever bears one of these ids speaks of the one before. */
  readonly onBegin: (oldRaftIds: ReadonlySet<string>) => void
  readonly contextOf: (leader: SimMachine) => OperatorContext
  readonly join: (machine: SimMachine, role: 'manager' | 'worker') => Promise<void>
}

/** At the end of the storm, which it ends. */
export async function loseMajority(options: DisasterOptions): Promise<void> {
  const { machines, random, advance, until, trace, heal, onBegin } = options
  const members = machines.filter(isMember)
  const survivor = members[random.below(members.length)]
  if (!survivor) return heal()
  // What the others acknowledge from here on is lost.
  const managers = machines.filter(({ files }) => files?.role === 'manager')
  for (const other of managers) if (other !== survivor) options.cut(survivor, other)
  await advance(random.float() * AHEAD_MS)
  const lost = machines.filter((machine) => machine !== survivor && machine.files?.role === 'manager')
  if (!isMember(survivor) || lost.length === 0) return heal()
  const returning = lost.filter((machine) => isMember(machine) && votersOf(machine) > 1)
  const back = random.float() < 0.6 ? returning[random.below(returning.length)] : undefined
  const gone = lost.filter((machine) => machine !== back)
  const oldRaftIds = new Set([survivor, ...lost].map(({ files }) => files?.raftId ?? ''))

  trace('', `all managers but ${survivor.host} are lost${back ? `, ${back.host} for a while` : ''}`)
  for (const machine of lost) machine.powerOff()
  for (const machine of lost) machine.isLost = true
  for (const machine of gone) machine.replace()
  heal()
  await advance(ALONE_MS)
  await until(() => survivor.manager?.status() !== undefined, LIMIT_MS, 'the manager that is left runs')

  trace(survivor.host, 'a new cluster is made of this manager')
  onBegin(oldRaftIds)
  await settled(survivor.beginAnew(`${survivor.files?.nodeId}-${random.id().slice(0, 8)}`), until, 'a cluster of one')
  await until(() => survivor.manager?.isLeader === true, LIMIT_MS, 'the manager that is left leads')
  const { conf } = survivor.manager!.raft.status()
  if (conf.members.length !== 1)
    throw new ClusterViolation('convergence', `the new cluster has ${conf.members.length} members`)

  for (const machine of lost) machine.isLost = false
  back?.powerOn()
  // Who had not heard yet that this manager is one will not find it, and is made to leave.
  for (const machine of machines)
    if (machine.up && machine !== survivor && machine !== back && !machine.knows(survivor.address)) {
      trace(machine.host, 'leaves, since it knows lost managers only')
      machine.kill()
      machine.replace()
      gone.push(machine)
    }
  await removeLost(options, survivor)
  for (const [at, machine] of gone.entries()) {
    machine.powerOn()
    await options.join(machine, at === 0 ? 'manager' : 'worker')
  }
}

/** Also those that had left by a history that is lost. */
async function removeLost({ machines, until, contextOf }: DisasterOptions, survivor: SimMachine): Promise<void> {
  const store = survivor.manager!.store
  const nodes = store.list('node').filter(({ id }) => !machines.some(({ files }) => files?.nodeId === id))
  for (const { id, description } of nodes) {
    if (description.Hostname === undefined) continue
    await until(() => store.get('node', id)?.status.state === 'down', LIMIT_MS, `the lost node ${id} is down`)
    await settled(removeNode(contextOf(survivor), id, true), until, 'its removal')
  }
}

/** A running manager that has a vote, by what it knows itself. */
function isMember({ manager, files }: SimMachine): boolean {
  return manager?.store.cluster() !== undefined && manager.status()?.conf.voters.includes(files?.raftId ?? '') === true
}

function votersOf({ manager }: SimMachine): number {
  return manager?.status()?.conf.voters.length ?? 0
}

/** On virtual time nothing is awaited that needs it to go on. */
async function settled(work: Promise<unknown>, until: DisasterOptions['until'], what: string): Promise<void> {
  let isOver = false
  const over = () => {
    isOver = true
  }
  work.then(over, over)
  await until(() => isOver, LIMIT_MS, what)
  await work
}
