// Metrics that Docker Swarm does not have: what an operator of swarmd asks first. docs/observability.md says what each is good for.

import { VERSION } from '../../lib/version.ts'
import { REFUSALS } from '../../manager/loop/keyed-loop.ts'
import type { ManagerMetrics } from '../../manager/manager.ts'
import { nodeOfRaftId } from '../../manager/manager.ts'
import type { DataPlaneStatistics } from '../../overlay/client.ts'
import type { RaftNodeStatus } from '../../raft/raft-node-types.ts'
import { each, type Metric, one, type Reading, type Scrape } from './metric.ts'
import { readinessOf } from './readiness.ts'

function managerOf({ membership }: Scrape): ManagerMetrics | undefined {
  return membership?.manager?.metrics
}

function raftOf({ membership }: Scrape): RaftNodeStatus | undefined {
  return membership?.manager?.raft
}

function planeOf({ dataPlane }: Scrape): DataPlaneStatistics | undefined {
  return dataPlane.kind === 'up' ? dataPlane.value : undefined
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000
}

function loops(scrape: Scrape, value: (loop: ManagerMetrics['loops'][number]) => number): readonly Reading[] {
  return each(
    'loop',
    (managerOf(scrape)?.loops ?? []).map((loop) => [loop.name, value(loop)] as const),
  )
}

function conflicts({ proposer }: ManagerMetrics): number {
  return [...proposer.outcomes].reduce((sum, [outcome, count]) => (REFUSALS.has(outcome) ? sum + count : sum), 0)
}

function addresses(scrape: Scrape, which: 'used' | 'usable'): readonly Reading[] {
  const { state } = scrape
  return (managerOf(scrape)?.addresses ?? []).map((use) => {
    const name = state.kind === 'manager' ? state.view.get('network', use.networkId)?.spec.Name : undefined
    return { value: use[which], labels: { network: name ?? use.networkId, subnet: use.subnet } }
  })
}

const CLUSTER: readonly Metric[] = [
  {
    kind: 'gauge',
    name: 'swarmctl_session',
    help: 'Whether a manager has this node’s session',
    read: ({ membership }) => one(membership?.hasSession),
  },
  {
    kind: 'histogram',
    name: 'swarmctl_heartbeat_latency_seconds',
    help: 'From sending a heartbeat to the manager’s answer',
    read: ({ membership }) => membership?.heartbeats,
  },
  {
    kind: 'gauge',
    name: 'swarmctl_certificate_expiry_seconds',
    help: 'Seconds until this node’s certificate expires',
    read: ({ membership, wallMs }) => one(seconds(membership && membership.certificateExpiresMs - wallMs)),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_network_addresses_used',
    help: 'Addresses in use, per subnet; of the ingress network those of the fullest node’s block. On the leader',
    labels: ['network', 'subnet'],
    read: (scrape) => addresses(scrape, 'used'),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_network_addresses_usable',
    help: 'Addresses that can be in use at once, as swarmctl_network_addresses_used counts them',
    labels: ['network', 'subnet'],
    read: (scrape) => addresses(scrape, 'usable'),
  },
]

const RAFT: readonly Metric[] = [
  {
    kind: 'gauge',
    name: 'swarmctl_raft_has_leader',
    help: 'Whether this manager knows a leader',
    read: (scrape) => one(managerOf(scrape) && raftOf(scrape)?.leader !== undefined),
  },
  { kind: 'gauge', name: 'swarmctl_raft_term', help: 'Election epoch', read: (scrape) => one(raftOf(scrape)?.term) },
  {
    kind: 'gauge',
    name: 'swarmctl_raft_commit_index',
    help: 'Last entry that is known to be on a quorum',
    read: (scrape) => one(raftOf(scrape)?.commit),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_raft_applied_index',
    help: 'Last entry that this manager has executed',
    read: (scrape) => one(raftOf(scrape)?.applied),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_raft_members',
    help: 'Members of the consensus',
    labels: ['kind'],
    read: (scrape) => {
      const conf = raftOf(scrape)?.conf
      return conf
        ? each('kind', [
            ['voter', conf.voters.length],
            ['learner', conf.learners.length],
          ])
        : []
    },
  },
  {
    kind: 'gauge',
    name: 'swarmctl_raft_peer_reachable',
    help: 'Whether the leader hears of another manager. On the leader',
    labels: ['node_id'],
    read: (scrape) =>
      each(
        'node_id',
        (raftOf(scrape)?.peers ?? []).map(({ id, recentActive }) => [nodeOfRaftId(id), Number(recentActive)]),
      ),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_raft_peer_lag_entries',
    help: 'Entries that another manager does not have yet. On the leader',
    labels: ['node_id'],
    read: (scrape) => {
      const { peers = [], lastIndex = 0 } = raftOf(scrape) ?? {}
      return each(
        'node_id',
        peers.map(({ id, match }) => [nodeOfRaftId(id), lastIndex - match]),
      )
    },
  },
  {
    kind: 'counter',
    name: 'swarmctl_raft_leader_changes_total',
    help: 'Changes of the leader that this manager has seen',
    read: (scrape) => one(managerOf(scrape)?.raft.leaderChanges),
  },
  {
    kind: 'counter',
    name: 'swarmctl_raft_campaigns_total',
    help: 'Elections that this manager has started',
    read: (scrape) => one(managerOf(scrape)?.raft.campaigns),
  },
  {
    kind: 'counter',
    name: 'swarmctl_raft_snapshots_total',
    help: 'Snapshots taken, sent to and received from other managers',
    labels: ['kind'],
    read: (scrape) => {
      const raft = managerOf(scrape)?.raft
      if (!raft) return []
      return each('kind', [
        ['taken', raft.snapshotsTaken],
        ['sent', raft.snapshotsSent],
        ['received', raft.snapshotsReceived],
      ])
    },
  },
  {
    kind: 'histogram',
    name: 'swarmctl_raft_fsync_latency_seconds',
    help: 'What a durable write to the Raft log takes',
    read: (scrape) => managerOf(scrape)?.raft.sync,
  },
]

const WRITES: readonly Metric[] = [
  {
    kind: 'counter',
    name: 'swarmctl_proposals_total',
    help: 'Transactions proposed by this manager, by what came of them',
    labels: ['outcome'],
    read: (scrape) => each('outcome', managerOf(scrape)?.proposer.outcomes ?? []),
  },
  {
    kind: 'counter',
    name: 'swarmctl_proposal_conflicts_total',
    help: 'Transactions that were refused since the state had moved on; they are decided again',
    read: (scrape) => {
      const manager = managerOf(scrape)
      return one(manager && conflicts(manager))
    },
  },
  {
    kind: 'gauge',
    name: 'swarmctl_proposals_queued',
    help: 'Transactions that wait for their entry',
    read: (scrape) => one(managerOf(scrape)?.proposer.queuedNow),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_loop_queued',
    help: 'Keys that a loop of the leader has still to look at',
    labels: ['loop'],
    read: (scrape) => loops(scrape, ({ queued }) => queued),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_loop_in_flight',
    help: 'Keys whose proposals are under way',
    labels: ['loop'],
    read: (scrape) => loops(scrape, ({ inFlight }) => inFlight),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_loop_problems',
    help: 'Keys that can not go on; the log and the service say why',
    labels: ['loop'],
    read: (scrape) => loops(scrape, ({ problems }) => problems.size),
  },
]

const MACHINE: readonly Metric[] = [
  {
    kind: 'gauge',
    name: 'swarmctl_build_info',
    help: 'Version of swarmd',
    labels: ['version'],
    read: () => [{ value: 1, labels: { version: VERSION } }],
  },
  {
    kind: 'gauge',
    name: 'swarmctl_ready',
    help: 'What /readyz says',
    read: (scrape) => one(readinessOf(scrape).ready),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_engine_up',
    help: 'Whether the local engine answers',
    read: ({ engine }) => one(engine.kind === 'up'),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_data_plane_up',
    help: 'Whether swarmd-net answers',
    read: ({ dataPlane }) => one(dataPlane.kind === 'up'),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_data_plane_problems',
    help: 'What does not work on this node’s networks and ports; the node’s status message says what',
    read: (scrape) => one(planeOf(scrape)?.problems.length),
  },
  {
    kind: 'counter',
    name: 'swarmctl_data_plane_repairs_total',
    help: 'What the kernel had otherwise than planned, and was put right',
    read: (scrape) => one(planeOf(scrape)?.repairs),
  },
  {
    kind: 'counter',
    name: 'swarmctl_data_plane_masqueraded_connections_total',
    help: 'Connections whose container does not see the address of its client',
    read: (scrape) => one(planeOf(scrape)?.kernel?.masquerades),
  },
  {
    kind: 'counter',
    name: 'swarmctl_data_plane_dropped_packets_total',
    help: 'Packets from one network to another, with a foreign source address, or to a tunnel from what is no node',
    labels: ['reason'],
    read: (scrape) => {
      const kernel = planeOf(scrape)?.kernel
      if (!kernel) return []
      return each('reason', [
        ['isolated', kernel.isolatedPackets],
        ['spoofed', kernel.spoofedPackets],
        ['guarded', kernel.guardedPackets],
      ])
    },
  },
  {
    kind: 'gauge',
    name: 'swarmctl_data_root_free_bytes',
    help: 'Disk left where swarmd keeps its state',
    read: ({ diskBytes }) => one(diskBytes.free),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_data_root_size_bytes',
    help: 'Size of the disk where swarmd keeps its state',
    read: ({ diskBytes }) => one(diskBytes.size),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_disk_free_bytes',
    help: 'Disk left where the engine and swarmd keep their state',
    labels: ['path'],
    read: ({ disk }) =>
      each(
        'path',
        disk.spaces.map(({ path, freeBytes }) => [path, freeBytes]),
      ),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_disk_pressure',
    help: 'Whether so little disk is left that this node gets no new tasks',
    read: ({ disk }) => one(disk.pressure.length > 0),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_writes_refused',
    help: 'Whether this manager has so little disk left that it takes nothing that makes the store grow',
    read: ({ disk, membership }) => one(membership?.manager && disk.manager.kind === 'low'),
  },
  {
    kind: 'counter',
    name: 'swarmctl_cleaned_up_total',
    help: 'Unused images and stopped containers that the clean-up has removed',
    labels: ['kind'],
    read: ({ membership }) =>
      membership
        ? each('kind', [
            ['image', membership.cleanedUp.images],
            ['container', membership.cleanedUp.containers],
          ])
        : [],
  },
  {
    kind: 'gauge',
    name: 'swarmctl_event_loop_delay_p99_seconds',
    help: 'How late the event loop was, 99th percentile since the last scrape',
    read: ({ loopDelay }) => one(seconds(loopDelay?.p99Ms)),
  },
  {
    kind: 'gauge',
    name: 'swarmctl_event_loop_delay_max_seconds',
    help: 'How late the event loop was at most since the last scrape',
    read: ({ loopDelay }) => one(seconds(loopDelay?.maxMs)),
  },
  {
    kind: 'gauge',
    name: 'process_resident_memory_bytes',
    help: 'Resident memory size in bytes.',
    read: () => one(process.memoryUsage.rss()),
  },
  {
    kind: 'counter',
    name: 'process_cpu_seconds_total',
    help: 'Total user and system CPU time spent in seconds.',
    read: () => {
      const { user, system } = process.cpuUsage()
      return one((user + system) / 1e6)
    },
  },
  {
    kind: 'gauge',
    name: 'process_start_time_seconds',
    help: 'Start time of the process since unix epoch in seconds.',
    read: ({ wallMs }) => one(Math.round(wallMs / 1000 - process.uptime())),
  },
]

export const OWN_METRICS: readonly Metric[] = [...MACHINE, ...CLUSTER, ...RAFT, ...WRITES]
