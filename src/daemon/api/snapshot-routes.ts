// GET /swarmd/snapshots: the states of the cluster that this manager's disk has, and what is in one. It is this machine's own answer,
// and needs no leader: whoever looks for an earlier state may have none.

import { formatTime } from '../../lib/clock.ts'
import type { StoreView } from '../../manager/store/types.ts'
import type { StoredSnapshot } from '../../raft/raft-storage.ts'
import { sendJson } from './call.ts'
import { requireManager } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'
import { snapshotIndex } from './swarm-routes.ts'

export function snapshotRoutes({ cluster }: ServerContext): readonly Route[] {
  return [
    {
      place: 'node',
      method: 'GET',
      path: '/swarmd/snapshots',
      handle: async (call) => {
        requireManager(cluster.state())
        sendJson(call, 200, cluster.snapshots().map(shown))
      },
    },
    {
      place: 'node',
      method: 'GET',
      path: '/swarmd/snapshots/{id}',
      handle: async (call) => {
        requireManager(cluster.state())
        sendJson(call, 200, contents(await cluster.snapshotState(snapshotIndex(call.id))))
      },
    },
  ]
}

function shown({ index, term, sizeBytes, replacedMs }: StoredSnapshot): object {
  return {
    Index: index,
    Term: term,
    SizeBytes: sizeBytes,
    ...(replacedMs !== undefined && { ReplacedAt: formatTime(replacedMs) }),
  }
}

/** Services as they were; of all else the names, and of secrets nothing more. */
function contents(view: StoreView): object {
  const named = (kind: 'network' | 'secret' | 'config') => view.list(kind).map(({ spec }) => spec.Name ?? '')
  return {
    Nodes: view
      .list('node')
      .map(({ id, description, role }) => ({ ID: id, Hostname: description.Hostname ?? '', Role: role })),
    Services: view.list('service').map(({ id, meta, spec }) => ({ ID: id, UpdatedAt: meta.updatedAt, Spec: spec })),
    Networks: named('network'),
    Secrets: named('secret'),
    Configs: named('config'),
  }
}
