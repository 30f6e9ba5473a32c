// /swarmd/network-check and /swarmd/network-keys/rotate: what Docker's API has no word for.

import t from 'tap'
import type { ProbeAnswer, ProbeRequest } from '../../src/api/network-check.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { ask } from '../support/api-client.ts'
import { NODE_ID } from '../support/api-cluster.ts'
import { aNode } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'

const { socket, cluster } = await serveApi(t)
const call = (method: string, path: string, body?: unknown) =>
  ask(socket, method, path, body === undefined ? {} : { body })

t.test('outside of a cluster there is nothing to check', async (t) => {
  const { status, message } = await call('GET', '/swarmd/network-check')
  t.equal(status, 503)
  t.match(message, /^This node is not a swarm manager/)
  t.equal((await call('POST', '/swarmd/network-keys/rotate')).status, 503)
  t.equal((await call('GET', '/swarmd/nothing')).status, 404, 'what is ours is never asked of the engine')
})

t.test('every node that is up is asked for the network that was named, and what it says is put together', async (t) => {
  t.equal((await call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })).status, 200)
  const { json } = await call('POST', '/networks/create', { Name: 'front', Driver: 'overlay' })
  const { Id: networkId } = json as { Id: string }
  cluster.apply([{ kind: 'create', object: aNode('far') }])
  const asked: [string, ProbeRequest][] = []
  cluster.probes = async (nodeId, request): Promise<ProbeAnswer> => {
    asked.push([nodeId, request])
    if (nodeId !== 'far') throw new CodedError('STREAM_TIMEOUT', 'node did not open the stream')
    const good = { state: 'refused', sent: 10, answered: 10, roundTripMs: 0.5, mtu: 1450, mtuPasses: true } as const
    return { results: [{ kind: 'network', networkId, to: NODE_ID, address: '10.0.1.3', ...good }] }
  }
  const answer = await call('GET', '/v1.41/swarmd/network-check?network=front')
  t.equal(answer.status, 200)
  t.same(asked.map(([nodeId]) => nodeId).toSorted(), ['far', NODE_ID])
  t.ok(asked.every(([, request]) => request.networkIds.join() === networkId))
  t.match(answer.json, {
    Probes: [{ Network: 'front', From: 'far', Address: '10.0.1.3', State: 'ok', RoundTripMs: 0.5, MTU: 1450 }],
    Problems: [/did not open the stream; does a firewall keep it from new connections/],
  })
  t.equal((await call('GET', '/swarmd/network-check?network=nope')).message, 'network nope not found')
})

t.test('new keys are asked of the node itself, and refused while the last change is under way', async (t) => {
  t.equal((await call('POST', '/swarmd/network-keys/rotate')).status, 204)
  t.equal(cluster.rotations, 1)
  cluster.rotateNetworkKeys = () =>
    Promise.reject(new CodedError('ROTATION_UNDER_WAY', 'the keys of encrypted networks are being changed already'))
  t.equal((await call('POST', '/swarmd/network-keys/rotate')).status, 409)
})
