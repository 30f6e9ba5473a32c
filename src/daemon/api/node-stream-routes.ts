// `POST /swarmd/nodes/{id}/stream`: a manager has the leader ask a node for a stream, which the node opens to that manager itself.

import { object, text } from '../../api/validation/decode.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { CodedError } from '../../lib/errors.ts'
import { decodeJson, sendEmpty } from './call.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

export interface NodeStreamRequest {
  readonly StreamId?: string
  /** The manager that waits. */
  readonly NodeId?: string
  /** host:port of its control port */
  readonly Address?: string
}

const decoder = object<NodeStreamRequest>({ StreamId: text, NodeId: text, Address: text })

export function nodeStreamRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'leader',
      method: 'POST',
      path: '/swarmd/nodes/{id}/stream',
      handle: async (call) => {
        if (!call.forwarded) throw new CodedError('FORBIDDEN', 'only managers ask for streams of nodes')
        const { StreamId, NodeId, Address } = decodeJson(call, decoder)
        if (!StreamId || !NodeId || !Address) throw refusal('StreamId, NodeId and Address are required')
        server.cluster.requestTunnel(call.id, StreamId, { nodeId: NodeId, address: Address })
        sendEmpty(call, 204)
      },
    },
  ]
}
