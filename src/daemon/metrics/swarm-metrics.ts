// Metrics that dockerd has for its Swarm mode, by the same names: boards and rules made for Docker Swarm go on working. Where Swarm
// measures something that there is not here (locks of a store, look-ups in it) the name is left out.

import type { NodeState, TaskState } from '../../api/spec.ts'
import type { ManagerMetrics } from '../../manager/manager.ts'
import type { StoreView } from '../../manager/store/types.ts'
import { each, type Metric, one, type Scrape } from './metric.ts'

const NODE_STATES: readonly NodeState[] = ['unknown', 'down', 'ready', 'disconnected']

const TASK_STATES: readonly TaskState[] = [
  'new',
  'pending',
  'assigned',
  'accepted',
  'preparing',
  'ready',
  'starting',
  'running',
  'complete',
  'shutdown',
  'failed',
  'rejected',
  'remove',
  'orphaned',
]

function viewOf({ state }: Scrape): StoreView | undefined {
  return state.kind === 'manager' ? state.view : undefined
}

function managerOf({ membership }: Scrape): ManagerMetrics | undefined {
  return membership?.manager?.metrics
}

/** Every state is shown, also those that nothing is in: a series that comes and goes can't be compared. */
function byState<T extends string>(states: readonly T[], found: Iterable<T>): Map<string, number> {
  const counts = new Map<string, number>(states.map((state) => [state, 0]))
  for (const state of found) counts.set(state, (counts.get(state) ?? 0) + 1)
  return counts
}

function* statesOf(view: StoreView, kind: 'node' | 'task'): Iterable<string> {
  for (const object of view.list(kind)) yield object.status.state
}

function total(kind: 'service' | 'network' | 'secret' | 'config'): Metric {
  return {
    kind: 'gauge',
    name: `swarm_manager_${kind}s_total`,
    help: `The number of ${kind}s in the cluster object store`,
    read: (scrape) => one(viewOf(scrape)?.count(kind)),
  }
}

export const SWARM_METRICS: readonly Metric[] = [
  {
    kind: 'gauge',
    name: 'swarm_node_info',
    help: 'Information related to the swarm',
    labels: ['swarm_id', 'node_id'],
    read: ({ membership }) =>
      membership ? [{ value: 1, labels: { swarm_id: membership.clusterId, node_id: membership.nodeId } }] : [],
  },
  {
    kind: 'gauge',
    name: 'swarm_node_manager',
    help: 'Whether this node is a manager or not',
    read: ({ state }) => one(state.kind === 'manager'),
  },
  {
    kind: 'gauge',
    name: 'swarm_manager_leader',
    help: 'Indicates if this manager node is a leader',
    read: ({ state }) => one(state.kind === 'manager' && state.isLeader),
  },
  {
    kind: 'gauge',
    name: 'swarm_manager_nodes',
    help: 'The number of nodes',
    labels: ['state'],
    read: (scrape) => {
      const view = viewOf(scrape)
      return view ? each('state', byState<string>(NODE_STATES, statesOf(view, 'node'))) : []
    },
  },
  {
    kind: 'gauge',
    name: 'swarm_manager_tasks_total',
    help: 'The number of tasks in the cluster object store',
    labels: ['state'],
    read: (scrape) => {
      const view = viewOf(scrape)
      return view ? each('state', byState<string>(TASK_STATES, statesOf(view, 'task'))) : []
    },
  },
  total('service'),
  total('network'),
  total('secret'),
  total('config'),
  {
    kind: 'histogram',
    name: 'swarm_dispatcher_scheduling_delay_seconds',
    help: 'Scheduling delay is the time a task takes to go from NEW to RUNNING state.',
    read: (scrape) => managerOf(scrape)?.schedulingDelay,
  },
  {
    kind: 'histogram',
    name: 'swarm_raft_transaction_latency_seconds',
    help: 'Raft transaction latency.',
    read: (scrape) => managerOf(scrape)?.proposer.entries,
  },
  {
    kind: 'histogram',
    name: 'swarm_raft_snapshot_latency_seconds',
    help: 'Raft snapshot create latency.',
    read: (scrape) => managerOf(scrape)?.raft.snapshot,
  },
  {
    kind: 'histogram',
    name: 'swarm_store_batch_latency_seconds',
    help: 'Raft store batch latency.',
    read: (scrape) => managerOf(scrape)?.proposer.batches,
  },
  {
    kind: 'histogram',
    name: 'swarm_store_read_tx_latency_seconds',
    help: 'Raft store read tx latency.',
    read: (scrape) => (managerOf(scrape) ? scrape.reads : undefined),
  },
  {
    kind: 'histogram',
    name: 'swarm_store_write_tx_latency_seconds',
    help: 'Raft store write tx latency.',
    read: (scrape) => managerOf(scrape)?.proposer.writes,
  },
]
