// /_ping, /version, /info and /events: the engine's answers with this cluster's part in them.

import { TASK_SOCKET_LABEL, taskSocketOf } from '../../api/cluster-settings.ts'
import { encodeClusterInfo } from '../../manager/control/render.ts'
import { NEWEST_MINOR, OLDEST_MINOR, versionText } from './api-version.ts'
import { type Call, sendJson, sendJsonText, sendText } from './call.ts'
import type { ClusterState } from './cluster-access.ts'
import type { Engine } from './engine.ts'
import { asList, asObject, parseJson } from './engine-json.ts'
import { streamEvents } from './events-route.ts'
import { LOCKED, localNodeState, swarmHeader } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

export function systemRoutes(server: ServerContext): readonly Route[] {
  const { engine } = server
  const ping = async (call: Call) => {
    const { builderVersion } = await engine.limits()
    const { response } = call
    response.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate')
    response.setHeader('Pragma', 'no-cache')
    if (builderVersion !== '') response.setHeader('Builder-Version', builderVersion)
    response.setHeader('Swarm', swarmHeader(server.cluster.state()))
    sendText(call, 200, 'text/plain; charset=utf-8', call.method === 'HEAD' ? '' : 'OK')
  }
  return [
    { place: 'node', method: 'GET', path: '/_ping', handle: ping },
    { place: 'node', method: 'HEAD', path: '/_ping', handle: ping },
    { place: 'node', method: 'GET', path: '/version', handle: (call) => version(server, call) },
    { place: 'node', method: 'GET', path: '/info', handle: (call) => info(server, call) },
    {
      place: 'node',
      method: 'GET',
      path: '/events',
      handle: (call) => streamEvents(server, call),
    },
  ]
}

async function fromEngine(engine: Engine, call: Call, path: string) {
  const answer = await engine.get(await engine.versionedPath(call.version, path))
  const body = parseJson(answer.body)
  if (answer.status === 200 && body !== undefined) return asObject(body)
  sendText(call, answer.status, 'application/json', answer.body)
  return undefined
}

async function version(server: ServerContext, call: Call): Promise<void> {
  const own = await fromEngine(server.engine, call, '/version')
  if (own === undefined) return
  const { oldestMinor, newestMinor } = await server.engine.limits()
  const component = {
    Name: 'swarmd',
    Version: server.version,
    Details: { ApiVersion: versionText(NEWEST_MINOR), MinAPIVersion: versionText(OLDEST_MINOR) },
  }
  sendJson(call, 200, {
    ...own,
    Components: [...asList(own.Components), component],
    ApiVersion: versionText(Math.min(NEWEST_MINOR, newestMinor)),
    MinAPIVersion: versionText(Math.max(OLDEST_MINOR, oldestMinor)),
  })
}

async function info(server: ServerContext, call: Call): Promise<void> {
  const own = await fromEngine(server.engine, call, '/info')
  if (own === undefined) return
  const state = server.cluster.state()
  const { swarm, warnings, labels } = swarmInfo(state)
  const { Swarm: _engines, ...rest } = own
  const merged = JSON.stringify({
    ...rest,
    Labels: [...asList(own.Labels), ...labels],
    Warnings: warnings.length === 0 ? (own.Warnings ?? null) : [...asList(own.Warnings), ...warnings],
  })
  sendJsonText(call, 200, `${merged.slice(0, -1)},"Swarm":${swarm}}`)
}

const TWO_MANAGERS = `WARNING: Running Swarm in a two-manager configuration. This configuration provides
         no fault tolerance, and poses a high risk to lose control over the cluster.
         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the
         Swarm for fault-tolerance.`

function swarmInfo(state: ClusterState): {
  readonly swarm: string
  readonly warnings: readonly string[]
  readonly labels: readonly string[]
} {
  const LocalNodeState = localNodeState(state)
  const failure = state.kind === 'error' ? state.message : state.kind === 'locked' ? LOCKED : ''
  const nothing = {
    NodeID: '',
    NodeAddr: '',
    LocalNodeState,
    ControlAvailable: false,
    Error: failure,
    RemoteManagers: null,
  }
  const plain = (fields: object) => ({ swarm: JSON.stringify(fields), warnings: [], labels: [] })
  switch (state.kind) {
    case 'inactive':
    case 'locked':
    case 'error':
      return plain(nothing)
    case 'pending':
      return plain({ ...nothing, NodeID: state.nodeId })
    case 'worker':
      return plain({
        ...nothing,
        NodeID: state.nodeId,
        NodeAddr: state.nodeAddress,
        RemoteManagers: state.managers.map(({ nodeId, address }) => ({ NodeID: nodeId, Addr: address })),
      })
    case 'manager': {
      const managers = state.view
        .list('node')
        .flatMap((node) => (node.manager === undefined ? [] : [{ NodeID: node.id, Addr: node.manager.address }]))
      const warnings = managers.length === 2 ? [TWO_MANAGERS] : []
      const fields = JSON.stringify({
        NodeID: state.nodeId,
        NodeAddr: state.nodeAddress,
        LocalNodeState,
        ControlAvailable: true,
        Error: failure,
        RemoteManagers: managers,
        Nodes: state.view.count('node'),
        Managers: managers.length,
        ...(warnings.length === 0 ? {} : { Warnings: warnings }),
      })
      const cluster = state.view.cluster()
      return {
        swarm: cluster === undefined ? fields : `${fields.slice(0, -1)},"Cluster":${encodeClusterInfo(cluster)}}`,
        warnings,
        labels: cluster === undefined ? [] : [`${TASK_SOCKET_LABEL}=${taskSocketOf(cluster.spec)}`],
      }
    }
  }
}
