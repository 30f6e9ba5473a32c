// `DELETE /swarmd/stacks/{name}/volumes`: a stack's volumes are each node's own; this removes them on all nodes that answer.

import type { Node } from '../../api/objects.ts'
import { STACK_LABEL } from '../../api/stack-plan.ts'
import { errorMessage } from '../../lib/errors.ts'
import { type Call, sendJson } from './call.ts'
import { Engine } from './engine.ts'
import { asList, asObject, asText, parseJson } from './engine-json.ts'
import type { ManagerState } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

const API = '/v1.41'

/** Of one volume of one node; `Error` where it is still there. */
interface RemovedVolume {
  readonly Node: string
  readonly Name: string
  readonly Error?: string
}

export function stackVolumeRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'manager',
      method: 'DELETE',
      path: '/swarmd/stacks/{id}/volumes',
      handle: (call, state) => removeAll(server, call, state),
    },
  ]
}

async function removeAll(server: ServerContext, call: Call, { view }: ManagerState): Promise<void> {
  const nodes = view.list('node').filter(({ status }) => status.state !== 'down')
  const removed = await Promise.all(nodes.map((node) => removeOn(server, node, call.id)))
  sendJson(call, 200, removed.flat())
}

async function removeOn(server: ServerContext, node: Node, stack: string): Promise<readonly RemovedVolume[]> {
  const Node = node.description.Hostname ?? node.id
  try {
    const engine = new Engine(
      { kind: 'dialed', name: `node ${Node}`, dial: () => server.cluster.dialNode(node.id) },
      server.clock,
    )
    const filters = encodeURIComponent(JSON.stringify({ label: [`${STACK_LABEL}=${stack}`] }))
    const listed = await engine.get(`${API}/volumes?filters=${filters}`)
    const names = asList(asObject(parseJson(listed.body)).Volumes).map((volume) => asText(asObject(volume).Name))
    const removed: RemovedVolume[] = []
    for (const Name of names) {
      const answer = await engine.get(`${API}/volumes/${encodeURIComponent(Name)}`, 'DELETE')
      const problem = answer.status < 300 ? '' : asText(asObject(parseJson(answer.body)).message)
      removed.push({ Node, Name, ...(problem === '' ? {} : { Error: problem }) })
    }
    return removed
  } catch (error) {
    return [{ Node, Name: '', Error: errorMessage(error) }]
  }
}
